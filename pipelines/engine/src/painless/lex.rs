//! The text of a script in, its tokens with their places out.
//!
//! Specified by Painless's `PainlessLexer.g4`: texts know no escapes but `\\` and their own quote, a slash starts a regular
//! expression unless it can divide, and after a dot every word and every number is a name.

use compact_str::CompactString;

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A name, or a word of the language.
    Word(CompactString),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Text(CompactString),
    /// A regular expression and its flags.
    Regex(CompactString, CompactString),
    /// An operator or a bracket.
    Sign(&'static str),
    /// Behind the last token.
    End,
}

/// A token and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Byte offset in the script.
    pub(super) at: usize,
}

/// Longest script, in bytes. Elasticsearch's limit is 65,535 characters.
const SCRIPT_BYTES_MAX: usize = 65_535;

/// Longest first, so that the first that fits is the right one.
const SIGNS: &[&str] = &[
    ">>>=", "===", "!==", "==~", "<<=", ">>=", ">>>", "?.", "?:", "::", "->", "=~", "==", "!=", "<=", ">=", "&&", "||",
    "++", "--", "+=", "-=", "*=", "/=", "%=", "&=", "^=", "|=", "<<", ">>", "{", "}", "[", "]", "(", ")", ".", ",",
    ";", "!", "~", "*", "/", "%", "+", "-", "<", ">", "&", "^", "|", "?", ":", "=",
];

/// Splits `script` into tokens. Errors: what is wrong and where.
pub(super) fn lex(script: &str) -> Result<Vec<Token>, (usize, String)> {
    if script.len() > SCRIPT_BYTES_MAX {
        return Err((0, format!("the script has {} bytes, at most {SCRIPT_BYTES_MAX} are read", script.len())));
    }
    let mut lexer = Lexer { text: script, at: 0, tokens: Vec::new() };
    while lexer.skip_blank()? {
        let at = lexer.at;
        let kind = lexer.token()?;
        lexer.tokens.push(Token { kind, at });
    }
    lexer.tokens.push(Token { kind: Kind::End, at: script.len() });
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    text: &'s str,
    at: usize,
    tokens: Vec<Token>,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn wrong<T>(&self, problem: impl Into<String>) -> Result<T, (usize, String)> {
        Err((self.at, problem.into()))
    }

    /// Moves over white space and comments. False at the end.
    fn skip_blank(&mut self) -> Result<bool, (usize, String)> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if trimmed.starts_with("/*") {
                match trimmed.find("*/") {
                    Some(end) => self.at += end + 2,
                    None => return self.wrong("a comment without its end */"),
                }
            } else {
                return Ok(!trimmed.is_empty());
            }
        }
    }

    fn token(&mut self) -> Result<Kind, (usize, String)> {
        let rest = self.rest();
        let first = rest.chars().next().unwrap_or('\0');
        let after_dot = matches!(self.tokens.last(), Some(Token { kind: Kind::Sign("." | "?."), .. }));
        match first {
            'a'..='z' | 'A'..='Z' | '_' => Ok(Kind::Word(self.word())),
            '0'..='9' if after_dot => Ok(Kind::Word(self.word())),
            '0'..='9' => self.number(),
            '.' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) && !self.ends_value() => self.number(),
            '"' | '\'' => self.quoted(first),
            '/' if !self.ends_value() => self.regex(),
            _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => {
                    self.at += sign.len();
                    Ok(Kind::Sign(sign))
                }
                None => self.wrong(format!("unexpected character [{first}]")),
            },
        }
    }

    fn word(&mut self) -> CompactString {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        CompactString::new(rest.get(..end).unwrap_or_default())
    }

    /// True if the token before can be the end of a value, so that a slash divides it.
    fn ends_value(&self) -> bool {
        match self.tokens.last().map(|token| &token.kind) {
            Some(Kind::Word(word)) => !matches!(word.as_str(), "return" | "in" | "else" | "throw" | "instanceof"),
            Some(Kind::Sign(sign)) => matches!(*sign, ")" | "]" | "}" | "++" | "--"),
            Some(Kind::End) | None => false,
            Some(_) => true,
        }
    }

    fn number(&mut self) -> Result<Kind, (usize, String)> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
            return self.integer(2 + end, hex.get(..end).unwrap_or_default(), 16);
        }
        let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        let mut end = digits(0);
        let whole = end;
        // A dot belongs to the number if digits follow: `1.size()` is a call on 1.
        if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
            end += 1 + digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let count = digits(end + 1 + sign);
            if count > 0 {
                end += 1 + sign + count;
            }
        }
        let text = rest.get(..end).unwrap_or_default();
        let suffix = bytes.get(end).map(u8::to_ascii_lowercase);
        match suffix {
            Some(b'f') => {
                self.at += end + 1;
                text.parse().map(Kind::Float).or_else(|_| self.wrong(format!("{text} is no number")))
            }
            Some(b'd') => {
                self.at += end + 1;
                text.parse().map(Kind::Double).or_else(|_| self.wrong(format!("{text} is no number")))
            }
            _ if end > whole => {
                self.at += end;
                text.parse().map(Kind::Double).or_else(|_| self.wrong(format!("{text} is no number")))
            }
            _ => match text.strip_prefix('0').filter(|octal| !octal.is_empty()) {
                Some(octal) => self.integer(end, octal, 8),
                None => self.integer(end, text, 10),
            },
        }
    }

    /// An integer whose digits end `end` bytes on.
    fn integer(&mut self, end: usize, digits: &str, radix: u32) -> Result<Kind, (usize, String)> {
        let long = matches!(self.rest().as_bytes().get(end), Some(b'l' | b'L'));
        let negative = self.is_negated();
        let signed = if negative { format!("-{digits}") } else { digits.to_owned() };
        let kind = if long {
            i64::from_str_radix(&signed, radix).ok().map(|number| Kind::Long(number.wrapping_neg_if(negative)))
        } else {
            i32::from_str_radix(&signed, radix).ok().map(|number| Kind::Int(number.wrapping_neg_if(negative)))
        };
        let Some(kind) = kind else {
            let (kind, hint) = if long { ("long", "") } else { ("int", ", did you mean to append [L] for a long?") };
            return self.wrong(format!("invalid {kind} constant [{digits}]{hint}"));
        };
        self.at += end + usize::from(long);
        Ok(kind)
    }

    /// True behind a minus that negates: the least integer has no positive counterpart.
    fn is_negated(&self) -> bool {
        let mut before = self.tokens.iter().rev().map(|token| &token.kind);
        if before.next() != Some(&Kind::Sign("-")) {
            return false;
        }
        match before.next() {
            None => true,
            Some(Kind::Sign(sign)) => !matches!(*sign, ")" | "]" | "}"),
            Some(Kind::Word(word)) => word == "return",
            Some(_) => false,
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Kind, (usize, String)> {
        let mut text = CompactString::default();
        let rest = self.rest();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.at += at + 1;
                    return Ok(Kind::Text(text));
                }
                '\\' => match chars.next() {
                    Some((_, next)) if next == quote || next == '\\' => text.push(next),
                    Some((_, next)) => {
                        self.at += at;
                        return self.wrong(format!(
                            "unexpected character [\\{next}]. The only valid escape sequences in strings starting with \
                             [{quote}] are [\\\\] and [\\{quote}]."
                        ));
                    }
                    None => break,
                },
                _ => text.push(c),
            }
        }
        self.wrong(format!("a text without its closing {quote}"))
    }

    fn regex(&mut self) -> Result<Kind, (usize, String)> {
        let rest = self.rest();
        let mut chars = rest.char_indices().skip(1);
        let end = loop {
            match chars.next() {
                Some((_, '\\')) => {
                    chars.next();
                }
                Some((at, '/')) if at > 1 => break at,
                Some((_, '\n')) | None => return self.wrong("a regular expression without its closing /"),
                Some(_) => {}
            }
        };
        let pattern = CompactString::new(rest.get(1..end).unwrap_or_default());
        self.at += end + 1;
        let rest = self.rest();
        let flags = rest.find(|c: char| !"cCilmsUux".contains(c)).unwrap_or(rest.len());
        self.at += flags;
        Ok(Kind::Regex(pattern, CompactString::new(rest.get(..flags).unwrap_or_default())))
    }
}

/// A literal behind a minus is read with it, so that the least integer fits, and turned round again: the minus still
/// stands in front of it.
trait NegateIf {
    fn wrapping_neg_if(self, negative: bool) -> Self;
}

impl NegateIf for i32 {
    fn wrapping_neg_if(self, negative: bool) -> Self {
        if negative { self.wrapping_neg() } else { self }
    }
}

impl NegateIf for i64 {
    fn wrapping_neg_if(self, negative: bool) -> Self {
        if negative { self.wrapping_neg() } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(script: &str) -> Vec<Kind> {
        lex(script).expect("tokens").into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn a_slash_divides_behind_a_value_only() {
        assert_eq!(kinds("a / b / c").len(), 6);
        assert_eq!(
            kinds("x =~ /a\\/b/i"),
            [Kind::Word("x".into()), Kind::Sign("=~"), Kind::Regex("a\\/b".into(), "i".into()), Kind::End]
        );
    }

    #[test]
    fn numbers_have_the_types_of_their_suffixes() {
        let numbers = [
            ("1", Kind::Int(1)),
            ("0x1F", Kind::Int(31)),
            ("017", Kind::Int(15)),
            ("2L", Kind::Long(2)),
            ("1.5", Kind::Double(1.5)),
            ("1f", Kind::Float(1.0)),
            ("1e3", Kind::Double(1000.0)),
            ("0", Kind::Int(0)),
        ];
        for (text, kind) in numbers {
            assert_eq!(kinds(text), [kind, Kind::End], "{text}");
        }
        assert_eq!(kinds("-2147483648"), [Kind::Sign("-"), Kind::Int(i32::MIN), Kind::End]);
        assert!(lex("2147483648").is_err());
        assert_eq!(kinds("a.0.b")[2], Kind::Word("0".into()));
    }

    #[test]
    fn texts_know_two_escapes() {
        assert_eq!(kinds(r"'a\'b\\'"), [Kind::Text(r"a'b\".into()), Kind::End]);
        assert!(lex(r"'a\n'").is_err_and(|(at, problem)| at == 2 && problem.contains("escape")));
        assert!(lex("'a").is_err());
    }
}
