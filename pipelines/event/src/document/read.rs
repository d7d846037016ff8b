//! JSON text in, a [`Value`] out. Strict JSON, in one pass, with bounded nesting.
//!
//! Lenient in two places where refusing would lose a log line: of a key that stands twice the last value wins (unless
//! asked otherwise), and half of a surrogate pair becomes U+FFFD.

use super::plain::plain_bytes;
use super::{Object, Value};
use compact_str::CompactString;

/// Deepest nesting of objects and arrays: bounds the stack.
pub const NESTING_MAX: usize = 128;
/// Most members of one object: look-up is linear, so this bounds the time.
pub const KEYS_MAX: usize = 1_000;
/// Numbers with more characters than this are kept as text.
pub const NUMBER_CHARS_MAX: usize = 1_000;

/// Room made for the members of the outermost object.
const EVENT_MEMBERS: usize = 16;

/// What happens to a key that stands twice in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// The last value wins, in the place of the first.
    LastWins,
    /// The text is refused, as Elasticsearch refuses such a document.
    Refuse,
}

/// Why a text is no JSON value for us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSON at byte {at}: {problem}")]
pub struct JsonError {
    /// Where, in bytes from the start.
    pub at: usize,
    /// What is wrong there.
    pub problem: String,
}

impl Value {
    /// Reads one JSON value. White space may stand around it, nothing else.
    ///
    /// Errors: not JSON, not UTF-8, deeper than [`NESTING_MAX`], an object with more than [`KEYS_MAX`] keys.
    pub fn from_json(text: &[u8]) -> Result<Self, JsonError> {
        Self::from_json_with(text, Duplicates::LastWins)
    }

    /// Like [`Value::from_json`]; `duplicates` says what happens to a key that stands twice.
    pub fn from_json_with(text: &[u8], duplicates: Duplicates) -> Result<Self, JsonError> {
        let (value, end) = Self::first_json(text, duplicates)?;
        let reader = Reader { text: "", bytes: text, at: end, depth: 0, duplicates };
        match reader.after_space() {
            at if at == text.len() => Ok(value),
            at => Err(JsonError { at, problem: "more text after the end of the value".to_owned() }),
        }
    }

    /// Reads the JSON value that `text` starts with, and tells where it ends.
    pub fn first_json(text: &[u8], duplicates: Duplicates) -> Result<(Self, usize), JsonError> {
        let checked = std::str::from_utf8(text)
            .map_err(|error| JsonError { at: error.valid_up_to(), problem: "not valid UTF-8".to_owned() })?;
        let mut reader = Reader { text: checked, bytes: text, at: 0, depth: 0, duplicates };
        crate::steps::count(text.len());
        let value = reader.value()?;
        Ok((value, reader.at))
    }
}

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    depth: usize,
    duplicates: Duplicates,
}

impl Reader<'_> {
    fn error<T>(&self, problem: impl Into<String>) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, problem: problem.into() })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn after_space(&self) -> usize {
        let space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at + self.bytes[self.at..].iter().take_while(space).count()
    }

    fn found(&self) -> String {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(found) => format!("found {found:?}"),
            None => "the text ends here".to_owned(),
        }
    }

    fn value(&mut self) -> Result<Value, JsonError> {
        self.at = self.after_space();
        match self.peek() {
            Some(b'"') => self.string().map(Value::Text),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => self.error(format!("expected a value, {}", self.found())),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, JsonError>) -> Result<Value, JsonError> {
        if self.depth == NESTING_MAX {
            return self.error(format!("nested deeper than {NESTING_MAX}"));
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return self.error(format!("expected {word}"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn object(&mut self) -> Result<Value, JsonError> {
        // An event has a dozen members, and pipelines add some; the objects in it have one or two.
        let mut object = if self.depth == 1 { Object::with_capacity(EVENT_MEMBERS) } else { Object::new() };
        self.at = self.after_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(object));
        }
        loop {
            self.at = self.after_space();
            let key_at = self.at;
            if self.peek() != Some(b'"') {
                return self.error(format!("expected a key in quotes, {}", self.found()));
            }
            let key = self.string()?;
            self.at = self.after_space();
            if self.peek() != Some(b':') {
                return self.error(format!("expected ':' after key {key:?}, {}", self.found()));
            }
            self.at += 1;
            let value = self.value()?;
            let full = object.len() == KEYS_MAX;
            match object.get_mut(&key) {
                None if full => return self.error(format!("more than {KEYS_MAX} keys")),
                None => object.push_new(key, value),
                Some(first) if self.duplicates == Duplicates::LastWins => *first = value,
                Some(_) => return Err(JsonError { at: key_at, problem: format!("Duplicate field '{key}'") }),
            }
            if self.next_or_end(b'}')? {
                return Ok(Value::Object(object));
            }
        }
    }

    fn array(&mut self) -> Result<Value, JsonError> {
        let mut array = Vec::new();
        self.at = self.after_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(array));
        }
        loop {
            array.push(self.value()?);
            if self.next_or_end(b']')? {
                return Ok(Value::Array(array));
            }
        }
    }

    /// Steps over a comma (false) or `end` (true).
    fn next_or_end(&mut self, end: u8) -> Result<bool, JsonError> {
        self.at = self.after_space();
        match self.peek() {
            Some(b',') => self.at += 1,
            Some(byte) if byte == end => {
                self.at += 1;
                return Ok(true);
            }
            _ => return self.error(format!("expected ',' or '{}', {}", char::from(end), self.found())),
        }
        Ok(false)
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += usize::from(self.peek() == Some(b'-'));
        let leading = self.peek();
        let whole = digits(&self.bytes[self.at..]);
        if whole == 0 {
            return self.error(format!("expected a digit, {}", self.found()));
        }
        if leading == Some(b'0') && whole > 1 {
            return self.error("a number must not start with 0");
        }
        self.at += whole;
        let mut integer = true;
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            let fraction = digits(&self.bytes[self.at..]);
            if fraction == 0 {
                return self.error(format!("expected a digit after the point, {}", self.found()));
            }
            self.at += fraction;
        }
        if let Some(b'e' | b'E') = self.peek() {
            integer = false;
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            let exponent = digits(&self.bytes[self.at..]);
            if exponent == 0 {
                return self.error(format!("expected a digit in the exponent, {}", self.found()));
            }
            self.at += exponent;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        Ok(number_value(text, integer))
    }

    fn string(&mut self) -> Result<CompactString, JsonError> {
        self.at += 1;
        let start = self.at;
        self.at += plain_bytes(&self.bytes[start..]);
        let plain = self.text.get(start..self.at).unwrap_or_default();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(CompactString::new(plain));
        }
        let mut text = String::with_capacity(plain.len() + 32);
        text.push_str(plain);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(CompactString::from(text));
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escaped = self.escape()?;
                    text.push(escaped);
                }
                Some(_) => return self.error("a control character in a string must be escaped"),
                None => return self.error("a string without its closing quote"),
            }
            let start = self.at;
            self.at += plain_bytes(&self.bytes[start..]);
            text.push_str(self.text.get(start..self.at).unwrap_or_default());
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let byte = self.peek();
        let plain = match byte {
            Some(b'"' | b'\\' | b'/') => byte.map(char::from),
            Some(b'b') => Some('\u{8}'),
            Some(b'f') => Some('\u{c}'),
            Some(b'n') => Some('\n'),
            Some(b'r') => Some('\r'),
            Some(b't') => Some('\t'),
            Some(b'u') => None,
            _ => return self.error(format!("unknown escape, {}", self.found())),
        };
        self.at += 1;
        if let Some(plain) = plain {
            return Ok(plain);
        }
        let high = self.hex4(self.at)?;
        self.at += 4;
        if (0xd800..0xdc00).contains(&high) && self.bytes[self.at..].starts_with(b"\\u") {
            let low = self.hex4(self.at + 2)?;
            if (0xdc00..0xe000).contains(&low) {
                self.at += 6;
                return Ok(char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).unwrap_or('\u{fffd}'));
            }
        }
        Ok(char::from_u32(high).unwrap_or('\u{fffd}'))
    }

    fn hex4(&self, at: usize) -> Result<u32, JsonError> {
        let digits = self.bytes.get(at..at + 4).unwrap_or_default();
        let mut number = 0;
        for digit in digits {
            match char::from(*digit).to_digit(16) {
                Some(digit) => number = number * 16 + digit,
                None => return Err(JsonError { at, problem: "expected four hex digits after \\u".to_owned() }),
            }
        }
        if digits.len() < 4 {
            return Err(JsonError { at, problem: "expected four hex digits after \\u".to_owned() });
        }
        Ok(number)
    }
}

fn number_value(text: &str, integer: bool) -> Value {
    if text.len() > NUMBER_CHARS_MAX {
        return Value::from(text);
    }
    if integer {
        return text.parse().map_or_else(|_| Value::Big(CompactString::new(text)), Value::integer);
    }
    text.parse().map_or_else(|_| Value::from(text), Value::Double)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, problem: &str) {
        let error = Value::from_json(text.as_bytes()).expect_err("a refusal");
        assert!(error.to_string().contains(problem), "{error}");
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        refused("", "at byte 0: expected a value, the text ends here");
        refused("{\"a\":1,}", "at byte 7: expected a key in quotes, found '}'");
        refused("[1 2]", "at byte 3: expected ',' or ']', found '2'");
        refused("{\"a\" 1}", "expected ':' after key \"a\"");
        refused("01", "must not start with 0");
        refused("1.", "digit after the point");
        refused("1e", "digit in the exponent");
        refused("-", "expected a digit");
        refused("nul", "expected null");
        refused("\"a\nb\"", "control character");
        refused("\"a", "without its closing quote");
        refused("\"\\x\"", "unknown escape");
        refused("\"\\u12\"", "four hex digits");
        refused("1 2", "at byte 2: more text after the end");
        assert_eq!(Value::from_json(b"\"\xff\"").map_err(|error| error.at), Err(1));
    }

    #[test]
    fn numbers_take_the_width_that_java_would_give_them() {
        let read = |text: &str| Value::from_json(text.as_bytes()).expect("a number");
        assert_eq!(read("2147483647"), Value::Int(i32::MAX));
        assert_eq!(read("2147483648"), Value::Long(2_147_483_648));
        assert_eq!(read("9223372036854775808"), Value::Big("9223372036854775808".into()));
        assert_eq!(read("1.0"), Value::Double(1.0));
        assert_eq!(read("1e3"), Value::Double(1_000.0));
    }

    #[test]
    fn each_cap_holds_one_below_and_one_above() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Value::from_json(nested(NESTING_MAX).as_bytes()).is_ok());
        refused(&nested(NESTING_MAX + 1), "nested deeper than 128");
        let keys = |count: usize| {
            let members: Vec<_> = (0..count).map(|key| format!("\"k{key}\":1")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(Value::from_json(keys(KEYS_MAX).as_bytes()).is_ok());
        refused(&keys(KEYS_MAX + 1), "more than 1000 keys");
        let digits = |count: usize| Value::from_json("7".repeat(count).as_bytes());
        assert!(matches!(digits(NUMBER_CHARS_MAX), Ok(Value::Big(_))));
        assert!(matches!(digits(NUMBER_CHARS_MAX + 1), Ok(Value::Text(_))));
    }

    #[test]
    fn of_a_key_that_stands_twice_the_last_wins_unless_refused() {
        let text = br#"{"a":1,"b":2,"a":3}"#;
        let value = Value::from_json(text).expect("JSON");
        assert!(value.same_json(&Value::from_json(br#"{"a":3,"b":2}"#).expect("JSON")));
        let error = Value::from_json_with(text, Duplicates::Refuse).expect_err("a refusal");
        assert_eq!(error.problem, "Duplicate field 'a'");
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        assert_eq!(Value::from_json(br#""\ud83d\ude00 \ud83dx""#), Ok("😀 \u{fffd}x".into()));
    }
}
