//! The single tokens: words, numbers, strings, and what is none of them.

use super::{PARSE, Read, Reader, shown};

/// Characters of a token that are shown.
const TOKEN_MAX: usize = 256;
pub(super) const TOKENS: &str = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')";

/// `Character.isJavaIdentifierPart`, but for marks that stand on letters.
fn is_identifier(c: char) -> bool {
    c.is_alphanumeric()
        || matches!(c, '_' | '$' | '\u{a2}'..='\u{a5}' | '\u{20a0}'..='\u{20c0}')
        || matches!(c, '\0'..='\u{8}' | '\u{e}'..='\u{1b}' | '\u{7f}'..='\u{9f}' | '\u{ad}')
}

impl Reader<'_> {
    pub(super) fn no_value<T>(&mut self, first: u8) -> Read<T> {
        match first {
            b',' | b'}' => return self.unexpected(first.into(), "expected a value"),
            b']' if self.kind() == "Array" => return self.unexpected(first.into(), "expected a value"),
            b'N' | b'I' => {
                let name = if first == b'N' { "NaN" } else { "Infinity" };
                self.rest_of_word(name, 1)?;
                return self.not_standard(name);
            }
            b'+' => {
                return match self.next() {
                    Some(next) => self.no_number(next, false),
                    None => self.ends(" in a Number value"),
                };
            }
            _ => {}
        }
        // As the original, which takes the first byte for a character.
        let c = char::from(first);
        match c.is_alphabetic() || matches!(c, '_' | '$' | '\u{a2}'..='\u{a5}') {
            true => self.no_token(&c.to_string()),
            false => self.unexpected(first.into(), &format!("expected a valid value {TOKENS}")),
        }
    }

    fn not_standard<T>(&self, name: &str) -> Read<T> {
        let feature = "enable `JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS` to allow";
        self.refuse(PARSE, &format!("Non-standard token '{name}': {feature}"), 0)
    }

    /// Behind a sign: `first` is no digit.
    pub(super) fn no_number<T>(&mut self, first: u8, negative: bool) -> Read<T> {
        let sign = if negative { '-' } else { '+' };
        let mut first = first;
        if first == b'I' {
            first = self.needed()?;
            let name = match first {
                b'N' => Some(format!("{sign}INF")),
                b'n' => Some(format!("{sign}Infinity")),
                _ => None,
            };
            if let Some(name) = name {
                self.rest_of_word(&name, 3)?;
                return self.not_standard(&name);
            }
        }
        match negative {
            true => {
                self.unexpected_in_number(first, "expected digit (0-9) to follow minus sign, for valid numeric value")
            }
            false => self.unexpected_in_number(
                b'+',
                "JSON spec does not allow numbers to have plus signs: enable \
                 `JsonReadFeature.ALLOW_LEADING_PLUS_SIGN_FOR_NUMBERS` to allow",
            ),
        }
    }

    pub(super) fn word(&mut self, word: &str, token: &'static str) -> Read<()> {
        self.rest_of_word(word, 1)?;
        self.token = token;
        Ok(())
    }

    /// The rest of `word`, of which `read` bytes were read, with nothing behind it that would make it longer.
    fn rest_of_word(&mut self, word: &str, read: usize) -> Read<()> {
        for (at, byte) in word.bytes().enumerate().skip(read) {
            if self.peek() != Some(byte) {
                return self.no_token(word.get(..at).unwrap_or_default());
            }
            self.at += 1;
        }
        let next = self.text.get(self.at..).and_then(|rest| rest.chars().next());
        match next.is_some_and(|c| c >= '0' && is_identifier(c)) {
            true => self.no_token(word),
            false => Ok(()),
        }
    }

    /// `begun`, and what follows it of a name, is no token.
    fn no_token<T>(&mut self, begun: &str) -> Read<T> {
        let mut token = begun.to_owned();
        while self.at < self.bytes.len() {
            let c = self.character()?;
            if !is_identifier(c) {
                break;
            }
            token.push(c);
            if token.encode_utf16().count() >= TOKEN_MAX {
                token.push_str("...");
                break;
            }
        }
        self.refuse(PARSE, &format!("Unrecognized token '{token}': was expecting {TOKENS}"), 0)
    }

    /// The next character. Errors: the first byte of one was read as if it were one.
    pub(super) fn character(&mut self) -> Read<char> {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) => {
                self.at += c.len_utf8();
                Ok(c)
            }
            None => {
                let byte = self.next().unwrap_or_default();
                self.refuse(PARSE, &format!("Invalid UTF-8 start byte 0x{byte:x}"), 0)
            }
        }
    }

    /// Behind the first digit.
    pub(super) fn number(&mut self, first: u8) -> Read<()> {
        if first == b'0' && self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.refuse(PARSE, "Invalid numeric value: Leading zeroes not allowed", 0);
        }
        let mut token = "VALUE_NUMBER_INT";
        let (mut last, _) = self.digits();
        if last == Some(b'.') {
            token = "VALUE_NUMBER_FLOAT";
            let (behind, digits) = self.digits();
            if digits == 0 {
                return self.unexpected_in_number(behind.unwrap_or(b'.'), "Decimal point not followed by a digit");
            }
            last = behind;
        }
        if let Some(b'e' | b'E') = last {
            token = "VALUE_NUMBER_FLOAT";
            let mut first = self.needed()?;
            if let b'+' | b'-' = first {
                first = self.needed()?;
            }
            if !first.is_ascii_digit() {
                return self.unexpected_in_number(first, "Exponent indicator not followed by a digit");
            }
            (last, _) = self.digits();
        }
        self.token = token;
        let Some(last) = last else { return Ok(()) };
        if self.scopes.is_empty() && !matches!(last, b' ' | b'\t' | b'\r' | b'\n') {
            return self.unexpected(last.into(), "Expected space separating root-level values");
        }
        self.at -= 1;
        Ok(())
    }

    /// Reads digits and the byte behind them, which is `None` at the end. How many digits there were.
    fn digits(&mut self) -> (Option<u8>, usize) {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        let count = self.at - start;
        (self.next(), count)
    }

    /// Behind the opening quote. `what` is read in it: its own words for the end of the text.
    pub(super) fn string(&mut self, what: &str) -> Read<()> {
        let is_name = what == "name";
        if is_name && self.peek().is_none() {
            return self.ends(": was expecting closing '\"' for name");
        }
        loop {
            match self.next() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape()?,
                Some(control @ 0..=0x1f) => {
                    let how = "has to be escaped using backslash to be included in";
                    let message = format!("Illegal unquoted character ({}): {how} {what}", shown(control.into()));
                    return self.refuse(PARSE, &message, 1);
                }
                Some(_) => {}
                None if is_name => return self.ends(" in field name"),
                None => return self.ends(" in VALUE_STRING"),
            }
        }
    }

    /// Behind a `\`.
    fn escape(&mut self) -> Read<()> {
        const END: &str = " in character escape sequence";
        let Some(first) = self.peek() else { return self.ends(END) };
        if !matches!(first, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'u') {
            let c = self.character()?;
            return self.refuse(PARSE, &format!("Unrecognized character escape {}", shown(c.into())), 1);
        }
        self.at += 1;
        if first != b'u' {
            return Ok(());
        }
        for _ in 0..4 {
            match self.next() {
                None => return self.ends(END),
                Some(digit) if digit.is_ascii_hexdigit() => {}
                Some(other) => {
                    return self.unexpected(other.into(), "expected a hex-digit for character escape sequence");
                }
            }
        }
        Ok(())
    }
}
