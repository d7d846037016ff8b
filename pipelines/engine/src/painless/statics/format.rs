//! `String.format`: `%s %d %x %o %c %b %f %e %n %%` with flags, width and precision, as in Java's root locale.

use crate::painless::class::Class;
use crate::painless::ops::Num;
use crate::painless::thrown::{Thrown, throw};
use crate::painless::value::Val;
use std::iter::Peekable;
use std::str::Chars;

/// Widest field, in characters.
const WIDTH_MAX: usize = 10_000;
/// Most digits behind the point.
const PRECISION_MAX: usize = 1_000;

#[derive(Debug, Default)]
struct Spec {
    argument: Option<usize>,
    left: bool,
    zeros: bool,
    plus: bool,
    space: bool,
    groups: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
    letter: char,
}

/// Fills `args` into `format`.
pub(super) fn format(format: &str, args: &[Val<'_>]) -> Result<String, Box<Thrown>> {
    let mut out = String::with_capacity(format.len());
    let mut chars = format.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let spec = read(&mut chars)?;
        match spec.letter {
            '%' => out.push_str(&padded("%".to_owned(), &spec)),
            'n' => out.push('\n'),
            _ => {
                let at = spec.argument.unwrap_or_else(|| {
                    next += 1;
                    next - 1
                });
                let Some(value) = args.get(at) else {
                    let message = format!("Format specifier '%{}'", spec.letter);
                    return Err(Thrown::named("java.util.MissingFormatArgumentException", message));
                };
                let text = one(value, &spec)?;
                out.push_str(&padded(text, &spec));
            }
        }
    }
    Ok(out)
}

fn number(chars: &mut Peekable<Chars<'_>>) -> Option<usize> {
    let mut value = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        value = Some(value.unwrap_or(0_usize).saturating_mul(10).saturating_add(digit as usize));
        chars.next();
    }
    value
}

fn read(chars: &mut Peekable<Chars<'_>>) -> Result<Spec, Box<Thrown>> {
    let mut spec = Spec::default();
    loop {
        match chars.peek() {
            Some('-') => spec.left = true,
            Some('0') => spec.zeros = true,
            Some('+') => spec.plus = true,
            Some(' ') => spec.space = true,
            Some(',') => spec.groups = true,
            Some('#') => spec.alternate = true,
            _ => break,
        }
        chars.next();
    }
    let first = number(chars);
    if chars.peek() == Some(&'$') {
        chars.next();
        spec.argument = first.and_then(|nth| nth.checked_sub(1));
        while let Some(flag) = chars.next_if(|c| "-0+ ,#".contains(*c)) {
            match flag {
                '-' => spec.left = true,
                '0' => spec.zeros = true,
                '+' => spec.plus = true,
                ' ' => spec.space = true,
                ',' => spec.groups = true,
                _ => spec.alternate = true,
            }
        }
        spec.width = number(chars).unwrap_or(0);
    } else {
        spec.width = first.unwrap_or(0);
    }
    if chars.next_if_eq(&'.').is_some() {
        spec.precision = number(chars);
    }
    spec.letter = match chars.next() {
        Some(letter) if "sSdxXocCbBfeEn%".contains(letter) => letter,
        Some(letter) => {
            let message = format!("Conversion = '{letter}'");
            return Err(Thrown::named("java.util.UnknownFormatConversionException", message));
        }
        None => return Err(Thrown::named("java.util.UnknownFormatConversionException", "Conversion = '%'")),
    };
    if spec.width > WIDTH_MAX || spec.precision.is_some_and(|precision| precision > PRECISION_MAX) {
        return throw(Class::IllegalArgumentException, "a format wider than is supported");
    }
    Ok(spec)
}

fn padded(text: String, spec: &Spec) -> String {
    let missing = spec.width.saturating_sub(text.chars().count());
    match (missing, spec.left) {
        (0, _) => text,
        (_, true) => text + &" ".repeat(missing),
        (_, false) => " ".repeat(missing) + &text,
    }
}

fn wrong<T>(value: &Val<'_>, letter: char) -> Result<T, Box<Thrown>> {
    Err(Thrown::named("java.util.IllegalFormatConversionException", format!("{letter} != {}", value.class_name())))
}

fn one(value: &Val<'_>, spec: &Spec) -> Result<String, Box<Thrown>> {
    let cut = |text: String| match spec.precision {
        Some(most) => text.chars().take(most).collect(),
        None => text,
    };
    Ok(match (spec.letter, value) {
        ('s', value) => cut(value.to_text().into()),
        ('S', value) => cut(value.to_text().to_uppercase().into()),
        ('b' | 'B', value) => {
            let flag = match value {
                Val::Null => false,
                Val::Bool(flag) => *flag,
                _ => true,
            };
            cut(if spec.letter == 'b' { flag.to_string() } else { flag.to_string().to_uppercase() })
        }
        (_, Val::Null) => cut("null".to_owned()),
        ('c', Val::Char(_)) => value.to_text().into(),
        ('C', Val::Char(_)) => value.to_text().to_uppercase().into(),
        ('c' | 'C', Val::Int(code)) => {
            u32::try_from(*code).ok().and_then(char::from_u32).map_or_else(String::new, |c| c.to_string())
        }
        ('d' | 'x' | 'X' | 'o', value) => match (value, Num::of(value)) {
            (Val::Char(_), _) => return wrong(value, spec.letter),
            (_, Some(Num::Int(number))) => whole(i64::from(number), u64::from(number as u32), spec),
            (_, Some(Num::Long(number))) => whole(number, number as u64, spec),
            _ => return wrong(value, spec.letter),
        },
        ('f' | 'e' | 'E', Val::Float(_) | Val::Double(_)) => {
            let number = Num::of(value).map_or(0.0, Num::as_f64);
            fraction(number, spec)
        }
        _ => return wrong(value, spec.letter),
    })
}

/// An integer: with its sign in decimal, as its bits in the other bases.
fn whole(number: i64, bits: u64, spec: &Spec) -> String {
    match spec.letter {
        'd' => signed(number < 0, grouped(&number.unsigned_abs().to_string(), spec), spec),
        'x' => zeros(format!("{}{bits:x}", if spec.alternate { "0x" } else { "" }), spec),
        'X' => zeros(format!("{}{bits:X}", if spec.alternate { "0X" } else { "" }), spec),
        _ => zeros(format!("{}{bits:o}", if spec.alternate { "0" } else { "" }), spec),
    }
}

fn grouped(digits: &str, spec: &Spec) -> String {
    if !spec.groups {
        return digits.to_owned();
    }
    let count = digits.len();
    let comma = |at: usize| at > 0 && (count - at).is_multiple_of(3);
    digits.chars().enumerate().flat_map(|(at, c)| comma(at).then_some(',').into_iter().chain([c])).collect()
}

fn signed(negative: bool, digits: String, spec: &Spec) -> String {
    let sign = match negative {
        true => "-",
        false if spec.plus => "+",
        false if spec.space => " ",
        false => "",
    };
    let missing = spec.width.saturating_sub(sign.len() + digits.chars().count());
    let zeros = if spec.zeros && !spec.left { "0".repeat(missing) } else { String::new() };
    format!("{sign}{zeros}{digits}")
}

fn zeros(text: String, spec: &Spec) -> String {
    let missing = spec.width.saturating_sub(text.len());
    if spec.zeros && !spec.left { "0".repeat(missing) + &text } else { text }
}

fn fraction(number: f64, spec: &Spec) -> String {
    if !number.is_finite() {
        let name = if number.is_nan() { "NaN" } else { "Infinity" };
        return signed(
            number < 0.0,
            name.to_owned(),
            &Spec { width: 0, ..Spec { plus: spec.plus, ..Spec::default() } },
        );
    }
    let precision = spec.precision.unwrap_or(6);
    let size = number.abs();
    if spec.letter == 'f' {
        let text = half_up(size, precision);
        let (whole, rest) = text.split_once('.').map_or((text.as_str(), String::new()), |(a, b)| (a, format!(".{b}")));
        return signed(number.is_sign_negative(), grouped(whole, spec) + &rest, spec);
    }
    let text = format!("{size:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |rest| ("-", rest));
    let letter = if spec.letter == 'e' { 'e' } else { 'E' };
    signed(number.is_sign_negative(), format!("{mantissa}{letter}{sign}{exponent:0>2}"), spec)
}

/// Java rounds the shortest decimal text half up, where Rust rounds the exact binary value.
fn half_up(size: f64, precision: usize) -> String {
    let shortest = format!("{size}");
    let (whole, rest) = shortest.split_once('.').unwrap_or((&shortest, ""));
    if rest.len() <= precision {
        return if precision == 0 { whole.to_owned() } else { format!("{whole}.{rest:0<precision$}") };
    }
    let mut digits: Vec<u8> = whole.bytes().chain(rest.bytes().take(precision)).collect();
    if rest.as_bytes().get(precision).is_some_and(|digit| *digit >= b'5') {
        let mut at = digits.len();
        loop {
            if at == 0 {
                digits.insert(0, b'1');
                break;
            }
            at -= 1;
            if digits[at] == b'9' {
                digits[at] = b'0';
            } else {
                digits[at] += 1;
                break;
            }
        }
    }
    let text: String = digits.into_iter().map(char::from).collect();
    let (whole, rest) = text.split_at(text.len() - precision);
    if precision == 0 { whole.to_owned() } else { format!("{whole}.{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_java_writes_them() {
        let check = |format: &str, value: Val<'_>, expected: &str| {
            assert_eq!(super::format(format, &[value]).as_deref(), Ok(expected), "{format}");
        };
        check("%s|%%", Val::text("a"), "a|%");
        check("%05d", Val::Int(-42), "-0042");
        check("%-5d|", Val::Int(42), "42   |");
        check("%,d", Val::Long(1_234_567), "1,234,567");
        check("%x", Val::Int(-1), "ffffffff");
        check("%02X", Val::Int(10), "0A");
        check("%.2f", Val::Double(1.005), "1.01");
        check("%.0f", Val::Double(0.5), "1");
        check("%f", Val::Double(-1.5), "-1.500000");
        check("%8.3f", Val::Double(9.9996), "  10.000");
        check("%.3e", Val::Double(12_345.678), "1.235e+04");
        check("%1$s%1$s", Val::text("a"), "aa");
        check("%5s", Val::Null, " null");
        check("%b", Val::Null, "false");
        assert!(super::format("%d", &[Val::text("x")]).is_err());
        assert!(super::format("%s %s", &[Val::Null]).is_err());
        assert!(super::format("%q", &[Val::Null]).is_err());
    }
}
