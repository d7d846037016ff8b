//! Methods of `String` and `StringBuilder`. Places are counted in UTF-16 units, as in Java.

use super::{int_of, text_of};
use crate::painless::class::Class;
use crate::painless::machine::{Given, Machine};
use crate::painless::ops::compare_texts;
use crate::painless::regex;
use crate::painless::thrown::{Thrown, throw};
use crate::painless::value::{Obj, Text, Val};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::cell::RefCell;

pub(super) const METHODS: &[(&str, usize)] = &[
    ("charAt", 1),
    ("codePointAt", 1),
    ("compareToIgnoreCase", 1),
    ("concat", 1),
    ("contains", 1),
    ("contentEquals", 1),
    ("decodeBase64", 0),
    ("encodeBase64", 0),
    ("endsWith", 1),
    ("equalsIgnoreCase", 1),
    ("indexOf", 1),
    ("indexOf", 2),
    ("isEmpty", 0),
    ("lastIndexOf", 1),
    ("lastIndexOf", 2),
    ("length", 0),
    ("replace", 2),
    ("replaceAll", 2),
    ("replaceFirst", 2),
    ("splitOnToken", 1),
    ("splitOnToken", 2),
    ("startsWith", 1),
    ("startsWith", 2),
    ("subSequence", 2),
    ("substring", 1),
    ("substring", 2),
    ("toCharArray", 0),
    ("toLowerCase", 0),
    ("toLowerCase", 1),
    ("toUpperCase", 0),
    ("toUpperCase", 1),
    ("trim", 0),
];

pub(super) const BUILDER: &[(&str, usize)] = &[
    ("append", 1),
    ("charAt", 1),
    ("delete", 2),
    ("deleteCharAt", 1),
    ("indexOf", 1),
    ("insert", 2),
    ("length", 0),
    ("replace", 3),
    ("reverse", 0),
    ("setLength", 1),
    ("substring", 1),
    ("substring", 2),
];

type Found<'e> = Result<Option<Val<'e>>, Box<Thrown>>;

/// Length in UTF-16 units.
pub(super) fn units(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.encode_utf16().count() }
}

/// `compareTo`: the difference of the first units that differ, else of the lengths.
pub(super) fn difference(a: &str, b: &str) -> i32 {
    let differs = a.encode_utf16().zip(b.encode_utf16()).find(|(a, b)| a != b);
    differs.map_or(units(a) as i32 - units(b) as i32, |(a, b)| i32::from(a) - i32::from(b))
}

/// The part from unit `start` to `end`.
pub(super) fn part(text: &str, start: i32, end: i32) -> Result<String, Box<Thrown>> {
    let length = units(text);
    let fits = |at: i32| usize::try_from(at).ok().filter(|at| *at <= length);
    match (fits(start), fits(end)) {
        (Some(from), Some(to)) if from <= to => Ok(slice(text, from, to)),
        _ => Err(Thrown::named(
            "java.lang.StringIndexOutOfBoundsException",
            format!("begin {start}, end {end}, length {length}"),
        )),
    }
}

fn slice(text: &str, from: usize, to: usize) -> String {
    if text.is_ascii() {
        return text.get(from..to).unwrap_or_default().to_owned();
    }
    let units: Vec<_> = text.encode_utf16().skip(from).take(to - from).collect();
    String::from_utf16_lossy(&units)
}

fn unit_at(text: &str, at: i32) -> Result<u16, Box<Thrown>> {
    let found = usize::try_from(at).ok().and_then(|at| match text.is_ascii() {
        true => text.as_bytes().get(at).map(|byte| u16::from(*byte)),
        false => text.encode_utf16().nth(at),
    });
    found.ok_or_else(|| {
        Thrown::named("java.lang.StringIndexOutOfBoundsException", format!("String index out of range: {at}"))
    })
}

/// Byte offset of unit `at`, held inside of the text.
fn byte_of(text: &str, at: i32) -> usize {
    let at = usize::try_from(at).unwrap_or(0);
    if text.is_ascii() {
        return at.min(text.len());
    }
    let mut left = at;
    for (byte, c) in text.char_indices() {
        if left < c.len_utf16() {
            return byte;
        }
        left -= c.len_utf16();
    }
    text.len()
}

fn index_of(text: &str, part: &str, from: i32) -> i32 {
    let start = byte_of(text, from);
    let found = text.get(start..).and_then(|rest| rest.find(part));
    found.map_or(-1, |at| units(text.get(..start + at).unwrap_or_default()) as i32)
}

fn last_index_of(text: &str, part: &str, from: Option<i32>) -> i32 {
    if from.is_some_and(|from| from < 0) {
        return -1;
    }
    let end = from.map_or(text.len(), |from| (byte_of(text, from) + part.len()).min(text.len()));
    let end = (0..=end).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let found = text.get(..end).and_then(|head| head.rfind(part));
    found.map_or(-1, |at| units(text.get(..at).unwrap_or_default()) as i32)
}

/// `splitOnToken`: as many parts as there are, or `limit` at most, the last holding the rest.
fn split_on<'e>(text: &Text<'e>, token: &str, limit: i32) -> Vec<Val<'e>> {
    let own = |part: &str| Val::text(part);
    if token.is_empty() {
        return vec![Val::Text(text.clone())];
    }
    match usize::try_from(limit) {
        Ok(limit) if limit > 0 => text.as_str().splitn(limit, token).map(own).collect(),
        _ => text.as_str().split(token).map(own).collect(),
    }
}

pub(super) fn call<'e>(machine: &mut Machine<'e>, text: &Text<'e>, name: &str, args: &[Given<'e>]) -> Found<'e> {
    let this = text.as_str();
    let result = match args {
        [] => match name {
            "length" => Val::Int(units(this) as i32),
            "isEmpty" => Val::Bool(this.is_empty()),
            "trim" => Val::text(this.trim_matches(|c: char| c <= ' ')),
            "toLowerCase" => Val::text(this.to_lowercase()),
            "toUpperCase" => Val::text(this.to_uppercase()),
            "toCharArray" => {
                let chars: Vec<_> = this.encode_utf16().map(Val::Char).collect();
                machine.charge_elements(chars.len())?;
                Val::object(Obj::Array(RefCell::new(chars)))
            }
            "encodeBase64" => Val::text(STANDARD.encode(this)),
            "decodeBase64" => {
                let bytes = STANDARD.decode(this).map_err(|error| {
                    Thrown::new(Class::IllegalArgumentException, format!("Illegal base64: {error}"))
                })?;
                Val::text(String::from_utf8_lossy(&bytes).into_owned())
            }
            _ => return Ok(None),
        },
        [Given::Value(arg)] => match name {
            "contains" => Val::Bool(this.contains(sequence(arg)?.as_str())),
            "startsWith" => Val::Bool(this.starts_with(text_of(arg)?)),
            "endsWith" => Val::Bool(this.ends_with(text_of(arg)?)),
            "equalsIgnoreCase" => match arg {
                Val::Null => Val::Bool(false),
                other => Val::Bool(same_ignoring_case(this, text_of(other)?)),
            },
            "contentEquals" => Val::Bool(this == sequence(arg)?.as_str()),
            "compareToIgnoreCase" => {
                Val::Int(compare_texts(&this.to_lowercase(), &text_of(arg)?.to_lowercase()) as i32)
            }
            "concat" => Val::text([this, text_of(arg)?].concat()),
            "indexOf" => Val::Int(index_of(this, text_of(arg)?, 0)),
            "lastIndexOf" => Val::Int(last_index_of(this, text_of(arg)?, None)),
            "charAt" => Val::Char(unit_at(this, int_of(arg)?)?),
            "codePointAt" => {
                let at = int_of(arg)?;
                unit_at(this, at)?;
                let code = this.get(byte_of(this, at)..).and_then(|rest| rest.chars().next());
                Val::Int(code.map_or(0, |c| u32::from(c) as i32))
            }
            "substring" => Val::text(part(this, int_of(arg)?, units(this) as i32)?),
            "splitOnToken" => {
                let parts = split_on(text, text_of(arg)?, 0);
                machine.charge_elements(parts.len())?;
                Val::object(Obj::Array(RefCell::new(parts)))
            }
            "toLowerCase" => Val::text(this.to_lowercase()),
            "toUpperCase" => Val::text(this.to_uppercase()),
            _ => return Ok(None),
        },
        [Given::Value(first), Given::Value(second)] => match name {
            "substring" | "subSequence" => Val::text(part(this, int_of(first)?, int_of(second)?)?),
            "replace" => {
                let (from, to) = (sequence(first)?, sequence(second)?);
                // Counted before it is made.
                let times = if from.is_empty() { this.len() + 1 } else { this.matches(from.as_str()).count() };
                machine.charge(times.saturating_mul(to.len()))?;
                Val::text(this.replace(from.as_str(), &to))
            }
            "indexOf" => Val::Int(index_of(this, text_of(first)?, int_of(second)?)),
            "lastIndexOf" => Val::Int(last_index_of(this, text_of(first)?, Some(int_of(second)?))),
            "startsWith" => {
                let (prefix, at) = (text_of(first)?, int_of(second)?);
                let fits = usize::try_from(at).is_ok_and(|at| at <= units(this));
                let rest = this.get(byte_of(this, at)..).unwrap_or_default();
                Val::Bool(fits && rest.starts_with(prefix))
            }
            "splitOnToken" => {
                let parts = split_on(text, text_of(first)?, int_of(second)?);
                machine.charge_elements(parts.len())?;
                Val::object(Obj::Array(RefCell::new(parts)))
            }
            _ => return Ok(None),
        },
        [Given::Value(pattern), Given::Lambda(lambda)] if matches!(name, "replaceAll" | "replaceFirst") => {
            let most = if name == "replaceAll" { usize::MAX } else { 1 };
            regex::replace_with(machine, text, pattern, lambda, most)?
        }
        _ => return Ok(None),
    };
    if let Val::Text(Text::Own(made)) = &result {
        machine.charge(made.len())?;
    }
    Ok(Some(result))
}

/// A `CharSequence`: a text, or what a builder holds.
fn sequence(value: &Val<'_>) -> Result<String, Box<Thrown>> {
    match value {
        Val::Object(object) if matches!(**object, Obj::Builder(_)) => Ok(value.to_text().to_string()),
        other => text_of(other).map(str::to_owned),
    }
}

fn same_ignoring_case(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(b);
    }
    a.to_uppercase() == b.to_uppercase() || a.to_lowercase() == b.to_lowercase()
}

pub(super) fn builder<'e>(
    machine: &mut Machine<'e>,
    of: &Val<'e>,
    text: &RefCell<String>,
    name: &str,
    args: &[Given<'e>],
) -> Found<'e> {
    // Before the text is held: the value may be the builder itself.
    let added = match (name, args) {
        ("append", [Given::Value(value)]) | ("insert", [_, Given::Value(value)]) => value.to_text(),
        _ => Default::default(),
    };
    let mut this = text.try_borrow_mut().map_err(|_| Thrown::concurrent())?;
    let length = units(&this) as i32;
    match (name, args) {
        ("length", []) => return Ok(Some(Val::Int(length))),
        ("reverse", []) => *this = this.chars().rev().collect(),
        ("append", [Given::Value(_)]) => {
            machine.charge(added.len())?;
            this.push_str(&added);
        }
        ("insert", [Given::Value(at), Given::Value(_)]) => {
            let head = part(&this, 0, int_of(at)?)?;
            machine.charge(added.len() + this.len())?;
            this.insert_str(head.len(), &added);
        }
        ("charAt", [Given::Value(at)]) => return unit_at(&this, int_of(at)?).map(|unit| Some(Val::Char(unit))),
        ("indexOf", [Given::Value(what)]) => return Ok(Some(Val::Int(index_of(&this, text_of(what)?, 0)))),
        ("substring", [Given::Value(from)]) => return part(&this, int_of(from)?, length).map(|p| Some(Val::text(p))),
        ("substring", [Given::Value(from), Given::Value(to)]) => {
            return part(&this, int_of(from)?, int_of(to)?).map(|part| Some(Val::text(part)));
        }
        ("setLength", [Given::Value(to)]) => {
            let to = int_of(to)?;
            if to > length {
                return throw(Class::IllegalArgumentException, "setLength beyond the end is not supported");
            }
            *this = part(&this, 0, to)?;
        }
        ("deleteCharAt", [Given::Value(at)]) => {
            let at = int_of(at)?;
            unit_at(&this, at)?;
            *this = [part(&this, 0, at)?, part(&this, at + 1, length)?].concat();
        }
        ("delete", [Given::Value(from), Given::Value(to)]) => {
            let (from, to) = (int_of(from)?, int_of(to)?.min(length));
            *this = [part(&this, 0, from)?, part(&this, to.max(from), length)?].concat();
        }
        ("replace", [Given::Value(from), Given::Value(to), Given::Value(with)]) => {
            let (from, to) = (int_of(from)?, int_of(to)?.min(length));
            machine.charge(this.len())?;
            *this = [&*part(&this, 0, from)?, text_of(with)?, &*part(&this, to.max(from), length)?].concat();
        }
        _ => return Ok(None),
    }
    drop(this);
    Ok(Some(of.clone()))
}
