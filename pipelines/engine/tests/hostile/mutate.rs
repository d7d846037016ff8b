//! Texts and options in, others like them out: pieces are taken away, repeated, moved, put into brackets, replaced by
//! words that mean something to the reader, or by anything at all.

use fastrand::Rng;
use serde_json::{Map, Value};

/// Most characters of a text that a mutation makes longer.
const CHARS_MAX: usize = 2_000;
/// The same, of one text in a thousand.
const CHARS_LONG: usize = 60_000;
/// Deepest nesting that a mutation adds.
const NESTING: usize = 300;

const BRACKETS: &[(&str, &str)] =
    &[("(", ")"), ("[", "]"), ("{", "}"), ("\"", "\""), ("'", "'"), ("%{", "}"), ("(?:", ")")];

const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "00",
    "127",
    "256",
    "999",
    "1000",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "99999999999999999999999999999999999999999",
    "1e308",
    "1e309",
    "-1e-400",
    "0.1",
    "1.",
    ".5",
    "NaN",
    "Infinity",
];

const ODD: &[&str] = &[
    "",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\0",
    "\u{1b}[0m",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "é",
    "ß",
    "İ",
    "ı",
    "ſ",
    "K",
    "²",
    "٣",
    "€",
    "😀",
    "e\u{301}",
    "\u{200b}",
    "\u{202e}",
    "\u{2028}",
    "\u{feff}",
    "\u{fffd}",
    "\u{10ffff}",
    "\\",
    "\\\\",
    "\"",
    "'",
    "%",
    "%{",
    "}",
    "{{",
    "}}",
    "$",
    "^",
    "|",
    "#",
    "&",
    "=",
    ".",
    "..",
    ",",
    ";",
    ":",
    "->",
    "*",
    "+",
    "?",
    "<",
    ">",
    "(",
    ")",
    "[",
    "]",
];

/// A text like `base`.
pub(crate) fn text(rng: &mut Rng, base: &str, words: &[&str], others: &[String]) -> String {
    let most = if rng.u16(0..1_000) == 0 { CHARS_LONG } else { CHARS_MAX };
    let mut chars: Vec<char> = match rng.u8(0..20) {
        0 => (0..rng.usize(0..40)).map(|_| any_char(rng)).collect(),
        1 | 2 => (0..rng.usize(0..12)).flat_map(|_| pick(rng, words).chars()).collect(),
        _ => base.chars().collect(),
    };
    for _ in 0..[0, 1, 1, 1, 2, 2, 3, 5, 9][rng.usize(0..9)] {
        mutate(rng, &mut chars, words, others, most);
    }
    chars.into_iter().collect()
}

fn mutate(rng: &mut Rng, chars: &mut Vec<char>, words: &[&str], others: &[String], most: usize) {
    let (from, to) = piece(rng, chars.len());
    match rng.u8(0..12) {
        0 => drop(chars.drain(from..to)),
        1 => {
            let piece = chars.get(from..to).unwrap_or_default();
            let room = most.saturating_sub(chars.len()) / piece.len().max(1);
            let room = room.min([1, 2, 10, 500, most][rng.usize(0..5)]);
            let more = piece.repeat(rng.usize(0..=room));
            chars.splice(to..to, more);
        }
        2 | 3 => insert(rng, chars, words),
        4 => insert(rng, chars, ODD),
        5 => {
            if let Some(c) = chars.get_mut(from) {
                *c = any_char(rng);
            }
        }
        6 => chars.truncate(from),
        7 => {
            let moved: Vec<_> = chars.drain(from..to).collect();
            let at = rng.usize(0..=chars.len());
            chars.splice(at..at, moved);
        }
        8 => {
            let number: Vec<_> = pick(rng, NUMBERS).chars().collect();
            match chars.iter().position(char::is_ascii_digit) {
                Some(_) if rng.bool() => drop(chars.splice(from..to, number)),
                Some(first) => drop(chars.splice(first..=first, number)),
                None => insert(rng, chars, NUMBERS),
            }
        }
        9 => {
            let (open, close) = BRACKETS[rng.usize(0..BRACKETS.len())];
            let deep = [1, 1, 2, 20, NESTING][rng.usize(0..5)];
            chars.splice(to..to, close.repeat(deep).chars());
            chars.splice(from..from, open.repeat(deep).chars());
        }
        10 => {
            let other: Vec<_> =
                others.get(rng.usize(0..others.len().max(1))).map(|other| other.chars().collect()).unwrap_or_default();
            let (first, last) = piece(rng, other.len());
            chars.splice(from..to, other.get(first..last).unwrap_or_default().iter().copied());
        }
        _ => chars.rotate_left(from),
    }
}

/// Start and end of a piece, mostly short.
fn piece(rng: &mut Rng, length: usize) -> (usize, usize) {
    let from = rng.usize(0..=length);
    let most = if rng.bool() { 4 } else { length };
    (from, rng.usize(from..=length.min(from + most)))
}

fn insert(rng: &mut Rng, chars: &mut Vec<char>, words: &[&str]) {
    let word = pick(rng, words);
    let at = rng.usize(0..=chars.len());
    chars.splice(at..at, word.chars());
}

fn pick<'w>(rng: &mut Rng, words: &[&'w str]) -> &'w str {
    rng.choice(words).copied().unwrap_or_default()
}

fn any_char(rng: &mut Rng) -> char {
    match rng.u8(0..4) {
        0 => rng.char('\0'..='\u{7f}'),
        1 => rng.char('\0'..='\u{10ffff}'),
        _ => rng.char(' '..='~'),
    }
}

/// Options like `base`: those in `kept` stay as they are most of the time.
pub(crate) fn options(
    rng: &mut Rng,
    base: &Map<String, Value>,
    kept: &[&str],
    words: &[&str],
    others: &[String],
) -> Map<String, Value> {
    let mut options = Map::new();
    for (key, value) in base {
        let value = match kept.contains(&key.as_str()) && rng.u8(0..20) > 0 {
            true => value.clone(),
            false => self::value(rng, value, words, others),
        };
        if rng.u8(0..40) > 0 {
            options.insert(key.clone(), value);
        }
    }
    options
}

/// A value like `base`.
pub(crate) fn value(rng: &mut Rng, base: &Value, words: &[&str], others: &[String]) -> Value {
    match base {
        Value::String(base) if rng.u8(0..3) > 0 => Value::String(text(rng, base, words, others)),
        Value::Array(values) => values.iter().map(|base| value(rng, base, words, others)).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(key, base)| (key.clone(), value(rng, base, words, others))).collect())
        }
        Value::Bool(flag) => Value::Bool(flag ^ (rng.u8(0..3) == 0)),
        other if rng.u8(0..20) > 0 => other.clone(),
        _ => match rng.u8(0..5) {
            0 => Value::Null,
            1 => Value::from(rng.i64(..)),
            2 => Value::from(f64::from_bits(rng.u64(..))),
            3 => Value::Array(vec![base.clone(); rng.usize(0..3)]),
            _ => Value::String(text(rng, "", words, others)),
        },
    }
}
