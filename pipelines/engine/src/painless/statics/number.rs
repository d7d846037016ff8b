//! Statics of `Integer`, `Long`, `Double`, `Float`, `Boolean`, `Character` and `Math`.

use super::printed;
use crate::painless::ast::Type;
use crate::painless::class::Class;
use crate::painless::machine::Eval;
use crate::painless::methods::{int_of, text_of};
use crate::painless::ops::{self, Num};
use crate::painless::thrown::{Thrown, throw};
use crate::painless::value::Val;
use crate::processors::convert::{java_double, java_float, no_float, no_number};
use event::Value;

pub(super) const METHODS: &[(Class, &str, usize)] = &[
    (Class::Boolean, "parseBoolean", 1),
    (Class::Boolean, "toString", 1),
    (Class::Boolean, "valueOf", 1),
    (Class::Character, "getNumericValue", 1),
    (Class::Character, "isDigit", 1),
    (Class::Character, "isLetter", 1),
    (Class::Character, "isLetterOrDigit", 1),
    (Class::Character, "isLowerCase", 1),
    (Class::Character, "isUpperCase", 1),
    (Class::Character, "isWhitespace", 1),
    (Class::Character, "toLowerCase", 1),
    (Class::Character, "toString", 1),
    (Class::Character, "toUpperCase", 1),
    (Class::Character, "valueOf", 1),
    (Class::Double, "compare", 2),
    (Class::Double, "isInfinite", 1),
    (Class::Double, "isNaN", 1),
    (Class::Double, "max", 2),
    (Class::Double, "min", 2),
    (Class::Double, "parseDouble", 1),
    (Class::Double, "toString", 1),
    (Class::Double, "valueOf", 1),
    (Class::Float, "isNaN", 1),
    (Class::Float, "parseFloat", 1),
    (Class::Float, "toString", 1),
    (Class::Float, "valueOf", 1),
    (Class::Integer, "bitCount", 1),
    (Class::Integer, "compare", 2),
    (Class::Integer, "max", 2),
    (Class::Integer, "min", 2),
    (Class::Integer, "parseInt", 1),
    (Class::Integer, "parseInt", 2),
    (Class::Integer, "signum", 1),
    (Class::Integer, "toBinaryString", 1),
    (Class::Integer, "toHexString", 1),
    (Class::Integer, "toOctalString", 1),
    (Class::Integer, "toString", 1),
    (Class::Integer, "valueOf", 1),
    (Class::Long, "bitCount", 1),
    (Class::Long, "compare", 2),
    (Class::Long, "max", 2),
    (Class::Long, "min", 2),
    (Class::Long, "parseLong", 1),
    (Class::Long, "parseLong", 2),
    (Class::Long, "signum", 1),
    (Class::Long, "toBinaryString", 1),
    (Class::Long, "toHexString", 1),
    (Class::Long, "toOctalString", 1),
    (Class::Long, "toString", 1),
    (Class::Long, "valueOf", 1),
    (Class::Math, "abs", 1),
    (Class::Math, "cbrt", 1),
    (Class::Math, "ceil", 1),
    (Class::Math, "exp", 1),
    (Class::Math, "floor", 1),
    (Class::Math, "hypot", 2),
    (Class::Math, "log", 1),
    (Class::Math, "log10", 1),
    (Class::Math, "max", 2),
    (Class::Math, "min", 2),
    (Class::Math, "pow", 2),
    (Class::Math, "rint", 1),
    (Class::Math, "round", 1),
    (Class::Math, "signum", 1),
    (Class::Math, "sqrt", 1),
    (Class::Math, "toDegrees", 1),
    (Class::Math, "toRadians", 1),
];

pub(super) fn field<'e>(class: Class, name: &str) -> Eval<'e> {
    Ok(match (class, name) {
        (Class::Boolean, "TRUE") => Val::Bool(true),
        (Class::Boolean, "FALSE") => Val::Bool(false),
        (Class::Integer, "MAX_VALUE") => Val::Int(i32::MAX),
        (Class::Integer, "MIN_VALUE") => Val::Int(i32::MIN),
        (Class::Long, "MAX_VALUE") => Val::Long(i64::MAX),
        (Class::Long, "MIN_VALUE") => Val::Long(i64::MIN),
        (Class::Double, "MAX_VALUE") => Val::Double(f64::MAX),
        (Class::Double, "MIN_VALUE") => Val::Double(f64::from_bits(1)),
        (Class::Double, "NaN") => Val::Double(f64::NAN),
        (Class::Double, "POSITIVE_INFINITY") => Val::Double(f64::INFINITY),
        (Class::Double, "NEGATIVE_INFINITY") => Val::Double(f64::NEG_INFINITY),
        (Class::Float, "MAX_VALUE") => Val::Float(f32::MAX),
        (Class::Math, "PI") => Val::Double(std::f64::consts::PI),
        (Class::Math, "E") => Val::Double(std::f64::consts::E),
        _ => {
            let class = class.full_name();
            return throw(Class::IllegalArgumentException, format!("static field [{class}, {name}] is not supported"));
        }
    })
}

/// `None` if the class is none of these.
pub(super) fn call<'e>(class: Class, name: &str, values: &[Val<'e>]) -> Result<Option<Val<'e>>, Box<Thrown>> {
    Ok(Some(match class {
        Class::Integer | Class::Long => integer(class, name, values)?,
        Class::Double | Class::Float => floating(class, name, values)?,
        Class::Boolean => match (name, values) {
            ("parseBoolean", [Val::Null]) => Val::Bool(false),
            ("valueOf", [Val::Bool(flag)]) => Val::Bool(*flag),
            ("parseBoolean", [text]) => Val::Bool(text_of(text)?.eq_ignore_ascii_case("true")),
            ("toString", [flag]) => Val::text(ops::truth(flag)?.to_string()),
            (_, [value]) => Val::Bool(ops::truth(value)?),
            _ => return Ok(None),
        },
        Class::Character => character(name, values)?,
        Class::Math => math(name, values)?,
        _ => return Ok(None),
    }))
}

/// The argument as a long, implicitly: an int, a short, a char too.
fn long(value: &Val<'_>) -> Result<i64, Box<Thrown>> {
    match ops::cast(value.clone(), Type::Long, false)? {
        Val::Long(number) => Ok(number),
        _ => Ok(0),
    }
}

fn double(value: &Val<'_>) -> Result<f64, Box<Thrown>> {
    match ops::cast(value.clone(), Type::Double, false)? {
        Val::Double(number) => Ok(number),
        _ => Ok(0.0),
    }
}

fn number_format<T>(problem: String) -> Result<T, Box<Thrown>> {
    throw(Class::NumberFormatException, problem)
}

fn parse(text: &Val<'_>, radix: u32, is_int: bool) -> Result<i64, Box<Thrown>> {
    if matches!(text, Val::Null) {
        return number_format("Cannot parse null string".to_owned());
    }
    let text = text_of(text)?;
    let parsed = i64::from_str_radix(text, radix).ok();
    match parsed.filter(|number| !is_int || i32::try_from(*number).is_ok()) {
        Some(number) => Ok(number),
        None if is_int && radix != 10 => number_format(format!("{} under radix {radix}", no_number(text))),
        None => number_format(no_number(text)),
    }
}

fn integer<'e>(class: Class, name: &str, values: &[Val<'e>]) -> Eval<'e> {
    let is_int = class == Class::Integer;
    let made = |number: i64| if is_int { Val::Int(number as i32) } else { Val::Long(number) };
    let one = |value: &Val<'e>| if is_int { int_of(value).map(i64::from) } else { long(value) };
    Ok(match (name, values) {
        ("parseInt" | "parseLong", [text]) => made(parse(text, 10, is_int)?),
        ("parseInt" | "parseLong", [text, radix]) => match u32::try_from(int_of(radix)?) {
            Ok(radix @ 2..=36) => made(parse(text, radix, is_int)?),
            _ => return number_format(format!("radix {} is out of range", radix.to_text())),
        },
        ("valueOf", [text @ Val::Text(_)]) => made(parse(text, 10, is_int)?),
        ("valueOf", [value]) => made(one(value)?),
        ("toString", [value]) => Val::text(one(value)?.to_string()),
        ("toHexString", [value]) if is_int => Val::text(format!("{:x}", one(value)? as i32)),
        ("toHexString", [value]) => Val::text(format!("{:x}", one(value)?)),
        ("toBinaryString", [value]) if is_int => Val::text(format!("{:b}", one(value)? as i32)),
        ("toBinaryString", [value]) => Val::text(format!("{:b}", one(value)?)),
        ("toOctalString", [value]) if is_int => Val::text(format!("{:o}", one(value)? as i32)),
        ("toOctalString", [value]) => Val::text(format!("{:o}", one(value)?)),
        ("bitCount", [value]) if is_int => Val::Int((one(value)? as i32).count_ones() as i32),
        ("bitCount", [value]) => Val::Int(one(value)?.count_ones() as i32),
        ("signum", [value]) => Val::Int(one(value)?.signum() as i32),
        ("compare", [a, b]) => Val::Int(one(a)?.cmp(&one(b)?) as i32),
        ("max", [a, b]) => made(one(a)?.max(one(b)?)),
        ("min", [a, b]) => made(one(a)?.min(one(b)?)),
        _ => return throw(Class::IllegalArgumentException, format!("[{name}] takes other arguments")),
    })
}

fn floating<'e>(class: Class, name: &str, values: &[Val<'e>]) -> Eval<'e> {
    let is_float = class == Class::Float;
    let made = |number: f64| if is_float { Val::Float(number as f32) } else { Val::Double(number) };
    let parse = |text: &Val<'e>| match text {
        Val::Null if is_float => Err(Thrown::silent(Class::NullPointerException)),
        Val::Null => Err(Thrown::silent(Class::NullPointerException)),
        text => {
            let text = text_of(text)?;
            let parsed = if is_float { java_float(text).map(Val::Float) } else { java_double(text).map(Val::Double) };
            parsed.map_or_else(|| number_format(no_float(text)), Ok)
        }
    };
    Ok(match (name, values) {
        ("parseDouble" | "parseFloat", [text]) | ("valueOf", [text @ Val::Text(_)]) => parse(text)?,
        ("valueOf", [value]) => made(double(value)?),
        ("toString", [value]) if is_float => Val::text(printed(Value::Float(double(value)? as f32))),
        ("toString", [value]) => Val::text(printed(Value::Double(double(value)?))),
        ("isNaN", [value]) => Val::Bool(double(value)?.is_nan()),
        ("isInfinite", [value]) => Val::Bool(double(value)?.is_infinite()),
        ("compare", [a, b]) => Val::Int(double(a)?.total_cmp(&double(b)?) as i32),
        ("max", [a, b]) => made(larger(double(a)?, double(b)?)),
        ("min", [a, b]) => made(-larger(-double(a)?, -double(b)?)),
        _ => return throw(Class::IllegalArgumentException, format!("[{name}] takes other arguments")),
    })
}

/// Java's `max`: NaN if one of them is.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn character<'e>(name: &str, values: &[Val<'e>]) -> Eval<'e> {
    let [value] = values else {
        return throw(Class::IllegalArgumentException, format!("[{name}] takes other arguments"));
    };
    let code = match (value, Num::of(value)) {
        (Val::Text(text), _) if text.as_str().chars().count() == 1 => text.as_str().chars().next().map(u32::from),
        (_, Some(Num::Int(code))) => u32::try_from(code).ok(),
        _ => None,
    };
    let Some(code) = code else {
        return throw(Class::ClassCastException, format!("Cannot cast {} to java.lang.Character", value.class_name()));
    };
    let c = char::from_u32(code).unwrap_or('\u{fffd}');
    let unit = |c: char| Val::Char(u16::try_from(u32::from(c)).unwrap_or(0xfffd));
    Ok(match name {
        "isDigit" => Val::Bool(is_decimal(c)),
        "isLetter" => Val::Bool(c.is_alphabetic()),
        "isLetterOrDigit" => Val::Bool(c.is_alphabetic() || c.is_ascii_digit() || is_decimal(c)),
        "isLowerCase" => Val::Bool(c.is_lowercase()),
        "isUpperCase" => Val::Bool(c.is_uppercase()),
        "isWhitespace" => {
            let no_break = matches!(c, '\u{a0}' | '\u{2007}' | '\u{202f}' | '\u{85}');
            Val::Bool(c.is_whitespace() && !no_break || matches!(c, '\u{1c}'..='\u{1f}'))
        }
        "toLowerCase" => unit(c.to_lowercase().next().unwrap_or(c)),
        "toUpperCase" => unit(c.to_uppercase().next().unwrap_or(c)),
        "getNumericValue" => Val::Int(c.to_digit(36).map_or(-1, |digit| digit as i32)),
        "toString" => Val::text(c.to_string()),
        _ => unit(c),
    })
}

/// Decimal digits beyond ASCII that are common in logs: the blocks of Arabic, Devanagari and full width.
fn is_decimal(c: char) -> bool {
    matches!(c, '0'..='9' | '\u{660}'..='\u{669}' | '\u{6f0}'..='\u{6f9}' | '\u{966}'..='\u{96f}' | '\u{ff10}'..='\u{ff19}')
}

/// All of them take doubles and give a double, but for `round`.
fn math<'e>(name: &str, values: &[Val<'e>]) -> Eval<'e> {
    let numbers: Result<Vec<_>, _> = values.iter().map(double).collect();
    Ok(Val::Double(match (name, numbers?.as_slice()) {
        ("abs", [a]) => a.abs(),
        ("cbrt", [a]) => a.cbrt(),
        ("ceil", [a]) => a.ceil(),
        ("exp", [a]) => a.exp(),
        ("floor", [a]) => a.floor(),
        ("hypot", [a, b]) => a.hypot(*b),
        ("log", [a]) => a.ln(),
        ("log10", [a]) => a.log10(),
        ("max", [a, b]) => larger(*a, *b),
        ("min", [a, b]) => -larger(-*a, -*b),
        ("pow", [a, b]) => {
            if b.is_nan() || a.abs() == 1.0 && b.is_infinite() {
                f64::NAN
            } else {
                a.powf(*b)
            }
        }
        ("rint", [a]) => a.round_ties_even(),
        ("round", [a]) => return Ok(Val::Long((a + 0.5).floor() as i64)),
        ("signum", [a]) => {
            if *a == 0.0 || a.is_nan() {
                *a
            } else {
                a.signum()
            }
        }
        ("sqrt", [a]) => a.sqrt(),
        ("toDegrees", [a]) => a.to_degrees(),
        ("toRadians", [a]) => a.to_radians(),
        _ => return throw(Class::IllegalArgumentException, format!("[{name}] takes other arguments")),
    }))
}
