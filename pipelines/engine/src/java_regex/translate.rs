//! Java's syntax in, the `regex` crates' out.

use super::Flags;
use std::iter::Peekable;
use std::str::Chars;

/// White space that stays on its line, as `\h` means it.
const HORIZONTAL: &str = r" \t\x{A0}\x{1680}\x{180E}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}";
/// Line ends, as `\v` means them.
const VERTICAL: &str = r"\n\x0B\f\r\x{85}\x{2028}\x{2029}";

/// POSIX classes, ASCII only, and what stands between brackets for them.
const POSIX: &[(&str, &str)] = &[
    ("Lower", "a-z"),
    ("Upper", "A-Z"),
    ("ASCII", r"\x00-\x7F"),
    ("Alpha", "A-Za-z"),
    ("Digit", "0-9"),
    ("Alnum", "A-Za-z0-9"),
    ("Punct", r"!-/:-@\[-`{-~"),
    ("Graph", "!-~"),
    ("Print", r"\x20-~"),
    ("Blank", r" \t"),
    ("Cntrl", r"\x00-\x1F\x7F"),
    ("XDigit", "0-9A-Fa-f"),
    ("Space", r" \t\n\x0B\f\r"),
];

pub(super) fn translate(pattern: &str, flags: Flags) -> Result<String, String> {
    let mut translator =
        Translator { rest: pattern.chars().peekable(), out: String::with_capacity(pattern.len() + 16), flags };
    if flags.literal {
        pattern.chars().for_each(|c| translator.literal(c));
        return Ok(translator.out);
    }
    translator.run()?;
    Ok(translator.out)
}

fn backtracks(what: &str) -> String {
    format!("{what} would need a backtracking matcher, which this version does not have; rewrite it without")
}

struct Translator<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
    flags: Flags,
}

impl Translator<'_> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(c) = self.rest.next() {
            match c {
                '\\' => self.escape(false)?,
                '[' => self.class(1)?,
                '(' => self.group()?,
                '*' | '+' | '?' => {
                    self.out.push(c);
                    self.after_repeat()?;
                }
                '{' => {
                    self.out.push(c);
                    for inner in self.rest.by_ref() {
                        self.out.push(inner);
                        if inner == '}' {
                            break;
                        }
                    }
                    self.after_repeat()?;
                }
                '}' | ']' => self.literal(c),
                _ => self.out.push(c),
            }
        }
        Ok(())
    }

    /// Behind a repeat: `?` makes it lazy, `+` possessive.
    fn after_repeat(&mut self) -> Result<(), String> {
        match self.rest.peek() {
            Some('+') => Err(backtracks("a possessive repeat")),
            Some('?') => {
                self.rest.next();
                self.out.push('?');
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn literal(&mut self, c: char) {
        if c.is_ascii_punctuation() || c == ' ' {
            self.out.push_str(&format!("\\x{{{:X}}}", u32::from(c)));
        } else {
            self.out.push(c);
        }
    }

    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        if self.rest.peek() != Some(&'?') {
            return Ok(());
        }
        self.rest.next();
        self.out.push('?');
        match self.rest.peek().copied() {
            Some('=' | '!') => return Err(backtracks("a look-ahead")),
            Some('>') => return Err(backtracks("an atomic group")),
            Some('<') => {
                self.rest.next();
                if matches!(self.rest.peek(), Some('=' | '!')) {
                    return Err(backtracks("a look-behind"));
                }
                self.out.push('<');
            }
            // Flags: `d` (Unix lines) and `u` (Unicode case) change nothing here; `U` is told of what follows.
            Some('a'..='z' | 'A'..='Z' | '-') => {
                let mut off = false;
                while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphabetic() || *c == '-') {
                    match c {
                        '-' => {
                            off = true;
                            self.out.push('-');
                        }
                        'i' | 'm' | 's' | 'x' => self.out.push(c),
                        'd' | 'u' => {}
                        'U' => self.flags.unicode_class = !off,
                        _ => return Err(format!("unknown inline flag {c}")),
                    }
                }
                if self.out.ends_with('-') {
                    self.out.pop();
                }
                if self.out.ends_with("(?") && self.rest.peek() == Some(&')') {
                    self.rest.next();
                    self.out.truncate(self.out.len() - 2);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Behind a backslash.
    fn escape(&mut self, in_class: bool) -> Result<(), String> {
        let c = self.rest.next().ok_or("a backslash at the end")?;
        let unicode = self.flags.unicode_class;
        let set = |inner: &str, negated: bool| format!("[{}{inner}]", if negated { "^" } else { "" });
        let text = match c {
            'd' | 'D' | 'w' | 'W' | 's' | 'S' if unicode => format!("\\{c}"),
            'd' | 'D' => set("0-9", c == 'D'),
            'w' | 'W' => set("A-Za-z0-9_", c == 'W'),
            's' | 'S' => set(r" \t\n\x0B\f\r", c == 'S'),
            'h' | 'H' => set(HORIZONTAL, c == 'H'),
            'v' | 'V' => set(VERTICAL, c == 'V'),
            'R' if !in_class => format!("(?:\\r\\n|[{VERTICAL}])"),
            'b' | 'B' | 'A' | 'z' if !in_class => format!("\\{c}"),
            'Z' if !in_class => "\\z".to_owned(),
            'G' => return Err(backtracks("\\G")),
            'k' | '1'..='9' => return Err(backtracks("a back-reference")),
            't' => "\\t".to_owned(),
            'n' => "\\n".to_owned(),
            'r' => "\\r".to_owned(),
            'f' => "\\f".to_owned(),
            'a' => "\\x07".to_owned(),
            'e' => "\\x1B".to_owned(),
            '0' => self.code(8, 3)?,
            'x' if self.rest.peek() == Some(&'{') => {
                self.rest.next();
                let code = self.code(16, 6)?;
                if self.rest.next() != Some('}') {
                    return Err("\\x{…} without its closing brace".to_owned());
                }
                code
            }
            'x' => self.code(16, 2)?,
            'u' => self.code(16, 4)?,
            'c' => {
                let letter = self.rest.next().ok_or("\\c at the end")?;
                format!("\\x{{{:X}}}", u32::from(letter) ^ 64)
            }
            'p' | 'P' => self.property(c == 'P')?,
            'Q' => return self.quoted(),
            'E' => return Ok(()),
            c if c.is_ascii_alphabetic() => return Err(format!("\\{c} is unknown")),
            c => {
                self.literal(c);
                return Ok(());
            }
        };
        self.out.push_str(&text);
        Ok(())
    }

    fn code(&mut self, radix: u32, most: usize) -> Result<String, String> {
        let mut code = 0;
        let mut count = 0;
        while count < most
            && let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(radix))
        {
            code = code * radix + digit;
            count += 1;
            self.rest.next();
        }
        match (count, char::from_u32(code)) {
            (0, _) => Err("a character's number is missing".to_owned()),
            (_, None) => Err(format!("{code:X} is no character")),
            _ => Ok(format!("\\x{{{code:X}}}")),
        }
    }

    fn quoted(&mut self) -> Result<(), String> {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.peek() == Some(&'E') {
                self.rest.next();
                return Ok(());
            }
            self.literal(c);
        }
        Ok(())
    }

    fn property(&mut self, negated: bool) -> Result<String, String> {
        let mut name = String::new();
        match self.rest.next() {
            Some('{') => loop {
                match self.rest.next() {
                    Some('}') => break,
                    Some(c) => name.push(c),
                    None => return Err("\\p{…} without its closing brace".to_owned()),
                }
            },
            Some(c) => name.push(c),
            None => return Err("\\p at the end".to_owned()),
        }
        if let Some((_, inner)) = POSIX.iter().find(|(posix, _)| *posix == name) {
            return Ok(format!("[{}{inner}]", if negated { "^" } else { "" }));
        }
        let known = match name.as_str() {
            "javaLowerCase" => "Lowercase",
            "javaUpperCase" => "Uppercase",
            "javaWhitespace" | "IsWhite_Space" | "IsWhiteSpace" => "White_Space",
            "L1" => return Ok(format!("[{}\\x00-\\xFF]", if negated { "^" } else { "" })),
            other if other.starts_with("In") || other.starts_with("block=") || other.starts_with("java") => {
                return Err(format!("the property {other} is not supported"));
            }
            other => other.strip_prefix("Is").unwrap_or(other),
        };
        Ok(format!("\\{}{{{known}}}", if negated { 'P' } else { 'p' }))
    }

    /// Behind `[`.
    fn class(&mut self, depth: u32) -> Result<(), String> {
        if depth > 20 {
            return Err("character classes nested too deeply".to_owned());
        }
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        // True if the last thing was one character, with which a range may start.
        let (mut single, mut first) = (false, true);
        loop {
            let c = self.rest.next().ok_or("a character class without its closing bracket")?;
            match c {
                ']' if !first => break,
                '[' => {
                    self.class(depth + 1)?;
                    single = false;
                }
                '&' if self.rest.peek() == Some(&'&') => {
                    self.rest.next();
                    self.out.push_str("&&");
                    single = false;
                }
                '-' if single && !matches!(self.rest.peek(), Some(']' | '[') | None) => {
                    self.out.push('-');
                    match self.rest.next() {
                        Some('\\') => self.escape(true)?,
                        Some(end) => self.literal(end),
                        None => {}
                    }
                    single = false;
                }
                '\\' => {
                    let set = matches!(
                        self.rest.peek(),
                        Some('d' | 'D' | 'w' | 'W' | 's' | 'S' | 'h' | 'H' | 'v' | 'V' | 'p' | 'P' | 'Q' | 'E')
                    );
                    self.escape(true)?;
                    single = !set;
                }
                ' ' if self.flags.comments => {}
                c => {
                    self.literal(c);
                    single = true;
                }
            }
            first = false;
        }
        self.out.push(']');
        Ok(())
    }
}
