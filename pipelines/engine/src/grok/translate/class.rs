//! Character classes: `[a-z[:alnum:]&&[^x]]`, nested and intersected as Oniguruma has them.

use super::{Translator, backtracks, push_literal};

/// Deepest nesting of classes.
const NESTING_MAX: usize = 50;

/// What stands in brackets for a POSIX name; Unicode-aware, as in Oniguruma under UTF-8.
pub(super) fn posix(name: &str) -> Option<&'static str> {
    Some(match name {
        "alnum" => r"\p{L}\p{M}\p{Nd}",
        "alpha" => r"\p{L}\p{M}",
        "ascii" => r"\x00-\x7f",
        "blank" => r"\p{Zs}\t",
        "cntrl" => r"\p{Cc}",
        "digit" => r"\p{Nd}",
        "graph" => r"[^\s\p{Cc}\p{Cn}\p{Cs}]",
        "lower" => r"\p{Ll}",
        "print" => r"[^\p{Cc}\p{Cn}\p{Cs}]",
        "punct" => r"\p{P}$+<=>^`|~",
        "space" => r"\s",
        "upper" => r"\p{Lu}",
        "word" => r"\w",
        "xdigit" => "0-9A-Fa-f",
        _ => return None,
    })
}

/// What stands in brackets for `\\d` and its like, or for their negation.
pub(super) fn shorthand(c: char) -> &'static str {
    match c.to_ascii_lowercase() {
        'd' => "0-9",
        's' => r"\t-\r ",
        'h' => "0-9A-Fa-f",
        _ => "0-9A-Za-z_",
    }
}

impl Translator<'_> {
    /// A class whose opening bracket has been read, and the repeats after it.
    pub(super) fn class(&mut self) -> Result<(), String> {
        self.class_at(0)?;
        self.repeat()
    }

    fn class_at(&mut self, depth: usize) -> Result<(), String> {
        if depth == NESTING_MAX {
            return Err(format!("classes nested deeper than {NESTING_MAX}"));
        }
        self.out.push('[');
        if self.next_is('^') {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let c = self.rest.next().ok_or("a class without its closing bracket")?;
            match c {
                ']' if !first => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' if self.rest.peek() == Some(&':') && self.posix_bracket()? => {}
                '[' => self.class_at(depth + 1)?,
                '&' if self.next_is('&') => self.out.push_str("&&"),
                '-' => self.dash(first),
                '\\' => self.class_escape()?,
                _ => push_literal(&mut self.out, c),
            }
            first = false;
        }
    }

    /// A dash is a range between two characters and itself at either end.
    fn dash(&mut self, first: bool) {
        let last = self.rest.peek() == Some(&']');
        let after_set = self.out.ends_with([']', '}']) && !self.out.ends_with("\\]") && !self.out.ends_with("\\}");
        let before_set = self.rest.peek() == Some(&'[');
        self.out.push_str(if first || last || after_set || before_set || self.after_range() { "\\-" } else { "-" });
    }

    /// True if a range such as `a-z` has just ended: a dash after it is itself.
    fn after_range(&self) -> bool {
        let mut tail = self.out.chars().rev();
        let last = tail.next();
        let dash = match tail.next() {
            Some('\\') => tail.next(), // The range's end is escaped.
            other => other,
        };
        last.is_some() && dash == Some('-') && tail.next() != Some('\\')
    }

    /// `[:name:]` or `[:^name:]`; false, and nothing read, if it is neither.
    fn posix_bracket(&mut self) -> Result<bool, String> {
        let mut ahead = self.rest.clone();
        ahead.next();
        let inside: String = ahead.by_ref().take_while(|c| *c != ']').take(20).collect();
        let Some(name) = inside.strip_suffix(':') else { return Ok(false) };
        let (negated, name) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
        let class = posix(name).ok_or_else(|| format!("unknown class [:{name}:]"))?;
        for _ in 0..inside.chars().count() + 2 {
            self.rest.next();
        }
        self.out.push_str(if negated { "[^" } else { "[" });
        self.out.push_str(class);
        self.out.push(']');
        Ok(true)
    }

    fn class_escape(&mut self) -> Result<(), String> {
        let c = self.rest.next().ok_or("a backslash at the end")?;
        match c {
            'd' | 'D' | 'w' | 'W' | 's' | 'S' | 'h' | 'H' => {
                self.out.push_str(if c.is_ascii_uppercase() { "[^" } else { "[" });
                self.out.push_str(shorthand(c));
                self.out.push(']');
            }
            'p' | 'P' => {
                let property = self.property(c)?;
                self.out.push_str(&property);
            }
            'R' | 'X' | 'K' | 'G' | 'k' | 'g' => return Err(backtracks(&format!("\\{c} in a class"))),
            'b' => push_literal(&mut self.out, '\u{8}'),
            '1'..='7' => {
                let mut digits = c.to_string();
                digits.push_str(&self.digits(8, 2));
                let character = u32::from_str_radix(&digits, 8).ok().and_then(char::from_u32);
                push_literal(&mut self.out, character.ok_or_else(|| format!("\\{digits} is no character"))?);
            }
            _ => {
                let character = self.character(c)?;
                push_literal(&mut self.out, character);
            }
        }
        Ok(())
    }
}
