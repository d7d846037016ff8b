//! JSON as Jackson's `UTF8StreamJsonParser` reads it, the library of both search nodes: what it takes beside JSON
//! (comments), and its words for what is wrong, with line and column. Slower than [`Value::from_json`]: for texts that
//! this refuses.
//!
//! Lines and columns start at 1, columns count bytes. As in the original they mostly name the place behind what was read
//! last, and the place of a character that is wrong.

mod token;

use event::Value;
use event::document::{Duplicates, KEYS_MAX, NESTING_MAX};

/// Why a text is no JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Jackson's exception.
    pub(crate) class: &'static str,
    pub(crate) message: String,
}

const PARSE: &str = "com.fasterxml.jackson.core.JsonParseException";
const EOF: &str = "com.fasterxml.jackson.core.io.JsonEOFException";

/// Reads the value that `text` starts with, null if there is nothing but space, and tells where it ends.
pub(crate) fn first(text: &str, duplicates: Duplicates) -> Result<(Value, usize), Refusal> {
    let mut reader = Reader {
        text,
        bytes: text.as_bytes(),
        at: 0,
        row: 1,
        row_start: 0,
        token: "null",
        scopes: Vec::new(),
        duplicates,
    };
    event::steps::count(text.len());
    let value = match reader.after_space_or_end()? {
        Some(end @ (b']' | b'}')) => reader.wrong_end(end)?,
        Some(first) => reader.value(first)?,
        None => Value::Null,
    };
    Ok((value, reader.at))
}

/// An array or object that is being read.
struct Scope {
    kind: &'static str,
    row: usize,
    column: usize,
    /// Whether it has an entry, so that a comma is next.
    begun: bool,
}

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    row: usize,
    row_start: usize,
    /// Jackson's name of the token that was read last.
    token: &'static str,
    scopes: Vec<Scope>,
    duplicates: Duplicates,
}

type Read<T> = Result<T, Refusal>;

fn place(row: usize, column: usize) -> String {
    let column = if column > 0 { format!(", column: {column}") } else { String::new() };
    format!("[Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {row}{column}]")
}

/// A character as the errors show it.
fn shown(c: u32) -> String {
    match char::from_u32(c) {
        Some(control) if control.is_control() => format!("(CTRL-CHAR, code {c})"),
        Some(other) if c > 255 => format!("'{other}' (code {c} / 0x{c:x})"),
        other => format!("'{}' (code {c})", other.unwrap_or('\u{fffd}')),
    }
}

impl Reader<'_> {
    /// `message` with the place behind what was read, less `back` bytes.
    fn refuse<T>(&self, class: &'static str, message: &str, back: usize) -> Read<T> {
        let column = (self.at + 1).saturating_sub(self.row_start + back);
        Err(Refusal { class, message: format!("{message}\n at {}", place(self.row, column)) })
    }

    fn unexpected<T>(&self, c: u32, comment: &str) -> Read<T> {
        self.refuse(PARSE, &format!("Unexpected character ({}): {comment}", shown(c)), 1)
    }

    fn unexpected_in_number<T>(&self, c: u8, comment: &str) -> Read<T> {
        self.refuse(PARSE, &format!("Unexpected character ({}) in numeric value: {comment}", shown(c.into())), 1)
    }

    fn ends<T>(&self, what: &str) -> Read<T> {
        self.refuse(EOF, &format!("Unexpected end-of-input{what}"), 0)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// The next byte, which the token that is being read needs.
    fn needed(&mut self) -> Read<u8> {
        match self.next() {
            Some(byte) => Ok(byte),
            None => self.ends(&format!(" in {}", self.token)),
        }
    }

    fn kind(&self) -> &'static str {
        self.scopes.last().map_or("root", |scope| scope.kind)
    }

    fn new_row(&mut self) {
        self.row += 1;
        self.row_start = self.at;
    }

    /// The first byte behind space and comments. `None` at the end.
    fn after_space(&mut self) -> Read<Option<u8>> {
        while let Some(byte) = self.next() {
            match byte {
                b' ' | b'\t' => {}
                b'\n' => self.new_row(),
                b'\r' => {
                    self.at += usize::from(self.peek() == Some(b'\n'));
                    self.new_row();
                }
                b'/' => self.comment()?,
                0..=0x1f => {
                    let shown = shown(byte.into());
                    let space = "only regular white space (\\r, \\n, \\t) is allowed between tokens";
                    return self.refuse(PARSE, &format!("Illegal character ({shown}): {space}"), 0);
                }
                _ => return Ok(Some(byte)),
            }
        }
        Ok(None)
    }

    /// Like [`Reader::after_space`]; only the outermost value may be followed by nothing.
    fn after_space_or_end(&mut self) -> Read<Option<u8>> {
        let next = self.after_space()?;
        match (next, self.scopes.last()) {
            (None, Some(scope)) => {
                let (kind, start) = (scope.kind, place(scope.row, scope.column));
                self.ends(&format!(": expected close marker for {kind} (start marker at {start})"))
            }
            _ => Ok(next),
        }
    }

    /// Behind a `/`.
    fn comment(&mut self) -> Read<()> {
        match self.next() {
            None => self.ends(" in a comment"),
            Some(b'/') => {
                while self.peek().is_some_and(|byte| !matches!(byte, b'\n' | b'\r')) {
                    self.at += 1;
                }
                Ok(())
            }
            Some(b'*') => loop {
                match self.next() {
                    None => return self.ends(" in a comment"),
                    Some(b'*') if self.peek() == Some(b'/') => {
                        self.at += 1;
                        return Ok(());
                    }
                    Some(b'\n') => self.new_row(),
                    Some(_) => {}
                }
            },
            Some(other) => self.unexpected(other.into(), "was expecting either '*' or '/' for a comment"),
        }
    }

    /// The value that starts with `first`, which was read.
    fn value(&mut self, first: u8) -> Read<Value> {
        let start = self.at - 1;
        match first {
            b'"' => {
                self.token = "VALUE_STRING";
                self.string("string value")?;
            }
            b'{' | b'[' => return self.nested(first == b'{'),
            b'0'..=b'9' => self.number(first)?,
            b'-' => {
                let digit = self.needed()?;
                if !digit.is_ascii_digit() {
                    return self.no_number(digit, true);
                }
                self.number(digit)?;
            }
            b't' => self.word("true", "VALUE_TRUE")?,
            b'f' => self.word("false", "VALUE_FALSE")?,
            b'n' => self.word("null", "VALUE_NULL")?,
            other => return self.no_value(other),
        }
        // What came through is JSON, but for the space behind a number.
        let read = self.bytes.get(start..self.at).unwrap_or_default().trim_ascii_end();
        Ok(Value::from_json(read).unwrap_or_default())
    }

    /// Behind the opening bracket.
    fn nested(&mut self, is_object: bool) -> Read<Value> {
        if self.scopes.len() == NESTING_MAX {
            return self.refuse(PARSE, &format!("nested deeper than {NESTING_MAX}"), 0);
        }
        let (kind, token) = if is_object { ("Object", "START_OBJECT") } else { ("Array", "START_ARRAY") };
        let column = self.at - self.row_start;
        self.scopes.push(Scope { kind, row: self.row, column, begun: false });
        self.token = token;
        let value = if is_object { self.object()? } else { self.array()? };
        self.scopes.pop();
        Ok(value)
    }

    /// The first byte of the next entry, behind its comma. `None` if there is none: the closing bracket was read.
    fn entry(&mut self) -> Read<Option<u8>> {
        let Some(first) = self.after_space_or_end()? else { return Ok(None) };
        let (kind, closing) = (self.kind(), if self.kind() == "Object" { b'}' } else { b']' });
        match first {
            b']' | b'}' if first == closing => return Ok(None),
            b']' | b'}' => return self.wrong_end(first),
            _ => {}
        }
        let begun = self.scopes.last_mut().is_some_and(|scope| std::mem::replace(&mut scope.begun, true));
        if !begun {
            return Ok(Some(first));
        }
        if first != b',' {
            return self.unexpected(first.into(), &format!("was expecting comma to separate {kind} entries"));
        }
        match self.after_space()? {
            None => self.refuse(PARSE, &format!("Unexpected end-of-input within/between {kind} entries"), 0),
            next => Ok(next),
        }
    }

    /// A closing bracket of the other kind.
    fn wrong_end<T>(&self, found: u8) -> Read<T> {
        let start = self.scopes.last().map_or_else(|| place(1, 0), |scope| place(scope.row, scope.column));
        let (kind, wanted) = (self.kind(), if found == b']' { '}' } else { ']' });
        let found = char::from(found);
        let message =
            format!("Unexpected close marker '{found}': expected '{wanted}' (for {kind} starting at {start})");
        self.refuse(PARSE, &message, 1)
    }

    fn array(&mut self) -> Read<Value> {
        let mut values = Vec::new();
        while let Some(first) = self.entry()? {
            values.push(self.value(first)?);
        }
        self.token = "END_ARRAY";
        Ok(Value::Array(values))
    }

    fn object(&mut self) -> Read<Value> {
        let mut object = event::Object::new();
        while let Some(first) = self.entry()? {
            let start = self.at - 1;
            if first != b'"' {
                self.at = start;
                let c = self.character()?;
                return self.unexpected(c.into(), "was expecting double-quote to start field name");
            }
            self.string("name")?;
            let name = Value::from_json(self.bytes.get(start..self.at).unwrap_or_default()).unwrap_or_default();
            let name = name.as_text().unwrap_or_default().to_owned();
            if self.duplicates == Duplicates::Refuse && object.contains(&name) {
                return self.refuse(PARSE, &format!("Duplicate field '{name}'"), 0);
            }
            self.token = "FIELD_NAME";
            match self.after_space()? {
                Some(b':') => {}
                Some(other) => {
                    return self.unexpected(other.into(), "was expecting a colon to separate field name and value");
                }
                None => return self.ends(" within/between Object entries"),
            }
            let Some(first) = self.after_space()? else { return self.ends(" within/between Object entries") };
            let value = self.value(first)?;
            if object.len() == KEYS_MAX && !object.contains(&name) {
                return self.refuse(PARSE, &format!("more than {KEYS_MAX} keys"), 0);
            }
            object.insert(name, value);
        }
        self.token = "END_OBJECT";
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a node says of `text`, without the words that are always the same.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let refusal = first(text, Duplicates::Refuse).expect_err("a refusal");
        let message = refusal
            .message
            .replace("[Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); ", "[");
        let class = refusal.class.rsplit('.').next().unwrap_or_default();
        assert_eq!(format!("{class}: {}", message.replace('\n', "")), expected);
    }

    #[test]
    fn what_is_no_json_is_told_in_the_words_of_the_original() {
        let tokens = format!("was expecting {}", token::TOKENS);
        check("x y", &format!("JsonParseException: Unrecognized token 'x': {tokens} at [line: 1, column: 3]"));
        check(
            "{\n \"a\": b}",
            &format!("JsonParseException: Unrecognized token 'b': {tokens} at [line: 2, column: 9]"),
        );
        check(
            "{\"a\":1",
            "JsonEOFException: Unexpected end-of-input: expected close marker for Object (start marker at [line: 1, \
             column: 1]) at [line: 1, column: 7]",
        );
        check(
            "10.0.0.1",
            "JsonParseException: Unexpected character ('.' (code 46)): Expected space separating root-level values \
             at [line: 1, column: 5]",
        );
        check("01", "JsonParseException: Invalid numeric value: Leading zeroes not allowed at [line: 1, column: 2]");
        check("[1,-", "JsonEOFException: Unexpected end-of-input in VALUE_NUMBER_INT at [line: 1, column: 5]");
        check("é", "JsonParseException: Invalid UTF-8 start byte 0xa9 at [line: 1, column: 3]");
        check("{\"a\":1,\"a\":2}", "JsonParseException: Duplicate field 'a' at [line: 1, column: 11]");
    }

    #[test]
    fn comments_are_read_over_and_what_follows_is_not_looked_at() {
        for (text, value, end) in [("/* x\n*/ 1", "1", 9), ("// x\n[true]]", "[true]", 11), ("\"a\", b", "\"a\"", 3)] {
            let value = Value::from_json(value.as_bytes()).expect("JSON");
            assert_eq!(first(text, Duplicates::Refuse), Ok((value, end)), "{text}");
        }
        assert_eq!(first(" \n", Duplicates::Refuse), Ok((Value::Null, 2)));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = format!("/**/{}", "[".repeat(100_000));
        let refusal = first(&nested, Duplicates::Refuse).expect_err("a refusal");
        assert!(refusal.message.starts_with("nested deeper than 128"), "{}", refusal.message);
    }
}
