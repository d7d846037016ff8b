//! Oniguruma's syntax (as Elasticsearch's grok uses it: Ruby's, UTF-8) in, the `regex` crates' syntax out.
//!
//! In Ruby's syntax \d, \w and \s mean ASCII, while \b, POSIX classes and \p know Unicode (seen on a real node).
//! What needs backtracking (look-around, back-references, atomic groups, possessive repeats) has no linear-time form in
//! general: it is refused with the reason. As in Oniguruma, unnamed groups do not capture beside named ones.

mod class;

use std::iter::Peekable;
use std::str::Chars;

/// Deepest nesting of groups.
const NESTING_MAX: usize = 250;

/// A pattern in the new syntax.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) regex: String,
    /// Names of the capture groups, in order of their opening; a name may stand more than once.
    pub(super) groups: Vec<String>,
    /// True if it starts with `^`, outside of any alternative.
    pub(super) line_anchored: bool,
}

pub(super) struct Translator<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
    groups: Vec<String>,
    /// For each open group, how many closing parentheses its end needs (flags set in its middle open one more).
    open: Vec<usize>,
    alternatives_on_top: bool,
}

pub(super) fn translate(pattern: &str) -> Result<Translated, String> {
    let mut translator = Translator {
        rest: pattern.chars().peekable(),
        out: String::new(),
        groups: Vec::new(),
        open: vec![0],
        alternatives_on_top: false,
    };
    let starts_anchored = pattern.starts_with('^') || pattern.starts_with("\\A");
    translator.run()?;
    if translator.open.len() > 1 {
        return Err("a group without its closing parenthesis".to_owned());
    }
    translator.close();
    let line_anchored = starts_anchored && !translator.alternatives_on_top;
    Ok(Translated { regex: translator.out, groups: translator.groups, line_anchored })
}

fn backtracks(what: &str) -> String {
    format!("{what} would need a backtracking matcher, which this version does not have; rewrite it without")
}

impl Translator<'_> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(c) = self.rest.next() {
            match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                ')' if self.open.len() > 1 => {
                    self.close();
                    self.repeat()?;
                }
                ')' => return Err("a closing parenthesis without its group".to_owned()),
                '|' => {
                    self.alternatives_on_top |= self.open.len() == 1;
                    self.out.push('|');
                }
                '^' | '$' => self.out.push(c),
                '.' => self.atom(".")?,
                '*' | '+' | '?' => return Err(format!("{c} has nothing to repeat")),
                '{' | '}' => self.atom(if c == '{' { "\\{" } else { "\\}" })?,
                _ => {
                    self.literal(c);
                    self.repeat()?;
                }
            }
        }
        Ok(())
    }

    fn atom(&mut self, atom: &str) -> Result<(), String> {
        self.out.push_str(atom);
        self.repeat()
    }

    /// `c` as itself, whatever it means in either syntax.
    fn literal(&mut self, c: char) {
        push_literal(&mut self.out, c);
    }

    fn close(&mut self) {
        for _ in 0..self.open.pop().unwrap_or(0) {
            self.out.push(')');
        }
    }

    fn next_is(&mut self, c: char) -> bool {
        self.rest.next_if_eq(&c).is_some()
    }

    /// The repeats after an atom: `*`, `+?`, `{2,}`, …, one on another as Oniguruma allows.
    fn repeat(&mut self) -> Result<(), String> {
        let mut repeats = 0;
        loop {
            let (text, counted) = match self.rest.peek() {
                Some('*' | '+' | '?') => (self.rest.next().into_iter().collect::<String>(), false),
                Some('{') => match self.interval() {
                    Some(interval) => (interval, true),
                    None => return Ok(()), // A brace for itself.
                },
                _ => return Ok(()),
            };
            repeats += 1;
            if repeats > 8 {
                return Err("too many repeats on one another".to_owned());
            }
            self.out.push_str(&text);
            if !counted && self.rest.peek() == Some(&'+') {
                return Err(backtracks(&format!("the possessive repeat {text}+")));
            }
            if self.next_is('?') {
                self.out.push('?');
            }
            // A repeat of a repeat is a repeat of the whole.
            if matches!(self.rest.peek(), Some('*' | '+' | '?' | '{')) {
                self.out.push_str("{1}");
            }
        }
    }

    /// `{n}`, `{n,}`, `{,m}` or `{n,m}`, if the braces hold one.
    fn interval(&mut self) -> Option<String> {
        let mut ahead = self.rest.clone();
        ahead.next();
        let inside: String = ahead.by_ref().take_while(|c| *c != '}').take(16).collect();
        let (low, high) = inside.split_once(',').unwrap_or((&inside, &inside));
        let number = |text: &str| text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
        if !number(low) || !number(high) || (low.is_empty() && high.is_empty()) {
            return None;
        }
        let text = match inside.split_once(',') {
            None => format!("{{{low}}}"),
            Some((low, high)) => format!("{{{},{high}}}", if low.is_empty() { "0" } else { low }),
        };
        for _ in 0..inside.chars().count() + 2 {
            self.rest.next();
        }
        Some(text)
    }

    fn group(&mut self) -> Result<(), String> {
        if self.open.len() > NESTING_MAX {
            return Err(format!("groups nested deeper than {NESTING_MAX}"));
        }
        if !self.next_is('?') {
            self.open_group("(?:");
            return Ok(());
        }
        match self.rest.next() {
            Some(':') => self.open_group("(?:"),
            Some('#') => while self.rest.next().ok_or("a comment without its end")? != ')' {},
            Some('>') => return Err(backtracks("the atomic group (?>…)")),
            Some('=') => return Err(backtracks("the look-ahead (?=…)")),
            Some('!') => return Err(backtracks("the look-ahead (?!…)")),
            Some('~') => return Err(backtracks("the absence operator (?~…)")),
            Some('(') => return Err(backtracks("the conditional (?(…)…)")),
            Some('<') if matches!(self.rest.peek(), Some('=' | '!')) => {
                return Err(backtracks("the look-behind (?<…)"));
            }
            Some('<') => self.named('>')?,
            Some('\'') => self.named('\'')?,
            Some(flag) => self.flags(flag)?,
            None => return Err("a group without its closing parenthesis".to_owned()),
        }
        Ok(())
    }

    fn open_group(&mut self, text: &str) {
        self.out.push_str(text);
        self.open.push(1);
    }

    fn named(&mut self, end: char) -> Result<(), String> {
        let mut name = String::new();
        loop {
            match self.rest.next() {
                Some(c) if c == end => break,
                Some(c) => name.push(c),
                None => return Err("a group's name without its end".to_owned()),
            }
        }
        if name.is_empty() {
            return Err("a group with an empty name".to_owned());
        }
        self.groups.push(name);
        self.open_group("(");
        Ok(())
    }

    /// `(?im-x:…)` or `(?i)`, which holds up to the end of the group around it.
    fn flags(&mut self, first: char) -> Result<(), String> {
        let mut flags = String::new();
        let mut next = Some(first);
        loop {
            match next {
                // Ruby's m lets `.` match a newline.
                Some('m') => flags.push('s'),
                // u is not Oniguruma's: the stock definitions use (?-u:\b), which looks at ASCII only.
                Some(c @ ('i' | 'x' | 'u' | '-')) => flags.push(c),
                Some(end @ (':' | ')')) => {
                    let flags = if flags == "-" { "" } else { flags.as_str() };
                    let text = format!("(?{flags}:");
                    if end == ':' {
                        self.open_group(&text);
                    } else {
                        self.out.push_str(&text);
                        if let Some(closing) = self.open.last_mut() {
                            *closing += 1;
                        }
                    }
                    return Ok(());
                }
                Some(c) => return Err(format!("unknown group (?{c}")),
                None => return Err("a group without its closing parenthesis".to_owned()),
            }
            next = self.rest.next();
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        let c = self.rest.next().ok_or("a backslash at the end")?;
        match c {
            'd' | 'D' | 'w' | 'W' | 's' | 'S' | 'h' | 'H' => {
                let negated = if c.is_ascii_uppercase() { "^" } else { "" };
                self.atom(&format!("[{negated}{}]", class::shorthand(c)))
            }
            'R' => self.atom("(?:\\r\\n|[\\n-\\r\\x{85}\\x{2028}\\x{2029}])"),
            'b' | 'B' | 'A' | 'z' => {
                self.out.push('\\');
                self.out.push(c);
                Ok(())
            }
            'Z' => {
                self.out.push_str("\\n?\\z");
                Ok(())
            }
            'p' | 'P' => {
                let property = self.property(c)?;
                self.atom(&property)
            }
            'k' | 'g' => Err(backtracks(&format!("the reference \\{c}"))),
            'K' | 'G' | 'X' => Err(backtracks(&format!("\\{c}"))),
            '1'..='9' => Err(backtracks(&format!("the back-reference \\{c}"))),
            _ => {
                let literal = self.character(c)?;
                self.literal(literal);
                self.repeat()
            }
        }
    }

    /// The character that an escape stands for, in a class or outside; `c` follows the backslash.
    fn character(&mut self, c: char) -> Result<char, String> {
        Ok(match c {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'f' => '\u{c}',
            'v' => '\u{b}',
            'a' => '\u{7}',
            'e' => '\u{1b}',
            'x' if self.next_is('{') => {
                let digits: String = self.rest.by_ref().take_while(|c| *c != '}').take(9).collect();
                hex(&digits)?
            }
            'x' => {
                let digits = self.digits(16, 2);
                hex(&digits)?
            }
            'u' => {
                let digits = self.digits(16, 4);
                hex(&digits)?
            }
            '0' => {
                let digits = self.digits(8, 2);
                u32::from_str_radix(&digits, 8).ok().and_then(char::from_u32).unwrap_or('\0')
            }
            _ if c.is_ascii_alphanumeric() && !matches!(c, 'c' | 'C' | 'M') => c,
            _ if c.is_ascii_alphanumeric() => return Err(format!("the control escape \\{c} is not supported")),
            _ => c,
        })
    }

    fn digits(&mut self, radix: u32, most: usize) -> String {
        let mut digits = String::new();
        while digits.len() < most
            && let Some(digit) = self.rest.next_if(|c| c.is_digit(radix))
        {
            digits.push(digit);
        }
        digits
    }

    /// `\p{Name}`, `\p{^Name}`, `\P{Name}` after its letter.
    fn property(&mut self, letter: char) -> Result<String, String> {
        if !self.next_is('{') {
            return Err(format!("\\{letter} without a name in braces"));
        }
        let inverted = self.next_is('^');
        let name: String = self.rest.by_ref().take_while(|c| *c != '}').take(64).collect();
        let negated = inverted != (letter == 'P');
        if let Some(class) = class::posix(&name.to_lowercase()) {
            return Ok(format!("[{}{class}]", if negated { "^" } else { "" }));
        }
        Ok(format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' }))
    }
}

fn hex(digits: &str) -> Result<char, String> {
    u32::from_str_radix(digits, 16).ok().and_then(char::from_u32).ok_or_else(|| format!("\\x{digits} is no character"))
}

pub(super) fn push_literal(out: &mut String, c: char) {
    if c.is_ascii_punctuation() && !matches!(c, '<' | '>' | '_') {
        out.push('\\');
    }
    match c {
        // White space and # would vanish under the flag x only if they were to vanish before, too.
        '\n' => out.push_str("\\n"),
        '\0'..='\u{1f}' | '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
        _ => out.push(c),
    }
}
