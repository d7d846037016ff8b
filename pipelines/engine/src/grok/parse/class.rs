//! Character classes: `[a-z[:alnum:]&&[^x]]`, nested and intersected as Oniguruma has them.

use super::escape::{by_number, character, range, single};
use super::text::Text;
use super::{Flags, NESTING_MAX, Parser, folded};
use crate::grok::tree::Tree;
use regex_syntax::hir::{Class, ClassUnicode, HirKind};

/// A set in regex syntax; `None` if it is not one.
fn written(class: &str) -> Option<ClassUnicode> {
    match regex_syntax::parse(class).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(set)) => Some(set),
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok()?.chars().next().map(single),
        _ => None,
    }
}

/// `.`
pub(in crate::grok) fn any(newline: bool) -> ClassUnicode {
    if newline {
        return ClassUnicode::new([range(('\0', char::MAX))]);
    }
    ClassUnicode::new([('\0', '\t'), ('\u{b}', char::MAX)].map(range))
}

/// The set of a POSIX name; Unicode-aware, as in Oniguruma under UTF-8.
fn posix(name: &str) -> Option<ClassUnicode> {
    written(match name {
        "alnum" => r"[\p{L}\p{M}\p{Nd}]",
        "alpha" => r"[\p{L}\p{M}]",
        "ascii" => r"[\x00-\x7f]",
        "blank" => r"[\p{Zs}\t]",
        "cntrl" => r"[\p{Cc}]",
        "digit" => r"[\p{Nd}]",
        "graph" => r"[^\s\p{Cc}\p{Cn}\p{Cs}]",
        "lower" => r"[\p{Ll}]",
        "print" => r"[^\p{Cc}\p{Cn}\p{Cs}]",
        "punct" => r"[\p{P}$+<=>^`|~]",
        "space" => r"[\s]",
        "upper" => r"[\p{Lu}]",
        "word" => r"[\w]",
        "xdigit" => "[0-9A-Fa-f]",
        "any" => r"[\s\S]",
        _ => return None,
    })
}

/// The set of `\\d` and its like.
pub(super) fn shorthand(c: char) -> ClassUnicode {
    let mut set = match c.to_ascii_lowercase() {
        'd' => ClassUnicode::new([range(('0', '9'))]),
        's' => ClassUnicode::new([('\t', '\r'), (' ', ' ')].map(range)),
        'h' => ClassUnicode::new([('0', '9'), ('A', 'F'), ('a', 'f')].map(range)),
        _ => ClassUnicode::new([('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')].map(range)),
    };
    if c.is_ascii_uppercase() {
        set.negate();
    }
    set
}

/// `\p{Name}`, `\p{^Name}`, `\P{Name}` after its letter.
pub(super) fn property(letter: char, text: &mut Text<'_>) -> Result<ClassUnicode, String> {
    if !text.next_is('{') {
        return Err(text.wrong(&format!("\\{letter} without a name in braces")));
    }
    let inverted = text.next_is('^');
    let name = text.until('}').ok_or_else(|| text.wrong("a property without its closing brace"))?;
    let is_name = name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ' | '-'));
    let set = posix(&name.to_lowercase()).or_else(|| written(&format!("\\p{{{name}}}")).filter(|_| is_name));
    let mut set = set.ok_or_else(|| text.wrong(&format!("there is no property [{name}]")))?;
    if inverted != (letter == 'P') {
        set.negate();
    }
    Ok(set)
}

/// What stands next in a class.
enum Member {
    Char(char),
    Set(ClassUnicode),
}

impl Parser<'_> {
    /// A class whose opening bracket has been read.
    pub(super) fn class(&mut self, text: &mut Text<'_>, flags: Flags) -> Result<Tree, String> {
        Ok(Tree::Set(self.set(text, flags)?))
    }

    fn set(&mut self, text: &mut Text<'_>, flags: Flags) -> Result<ClassUnicode, String> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(text.wrong(&format!("classes nested deeper than {NESTING_MAX}")));
        }
        let negated = text.next_is('^');
        let (mut set, mut both, mut first) = (ClassUnicode::empty(), None, true);
        loop {
            if !first && text.next_is(']') {
                break;
            }
            first = false;
            if text.rest().starts_with("&&") {
                text.take(2);
                both = Some(intersected(both, std::mem::replace(&mut set, ClassUnicode::empty())));
                continue;
            }
            match self.member(text, flags)? {
                Member::Set(members) => set.union(&members),
                Member::Char(low) => {
                    let high = range_end(text)?.unwrap_or(low);
                    if high < low {
                        return Err(text.wrong(&format!("the range [{low}-{high}] is empty")));
                    }
                    set.push(range((low, high)));
                    if high != low && text.peek() == Some('-') && !text.rest().starts_with("-]") {
                        text.next(); // After a range a dash is itself.
                        set.push(range(('-', '-')));
                    }
                }
            }
        }
        self.depth -= 1;
        let mut set = folded(intersected(both, set), flags);
        if negated {
            set.negate();
        }
        Ok(set)
    }

    fn member(&mut self, text: &mut Text<'_>, flags: Flags) -> Result<Member, String> {
        let c = text.next().ok_or_else(|| text.wrong("a class without its closing bracket"))?;
        match c {
            '[' => match posix_bracket(text)? {
                Some(set) => Ok(Member::Set(set)),
                None => self.set(text, flags).map(Member::Set),
            },
            '\\' => escaped(text),
            _ => Ok(Member::Char(c)),
        }
    }
}

fn intersected(both: Option<ClassUnicode>, mut set: ClassUnicode) -> ClassUnicode {
    if let Some(both) = both {
        set.intersect(&both);
    }
    set
}

/// The other end of a range, if a dash and a character follow; they are then read.
fn range_end(text: &mut Text<'_>) -> Result<Option<char>, String> {
    let mut ahead = *text;
    if !ahead.next_is('-') {
        return Ok(None);
    }
    let end = match ahead.next() {
        None | Some(']' | '[') => return Ok(None),
        Some('&') if ahead.peek() == Some('&') => return Ok(None),
        Some('\\') => match escaped(&mut ahead)? {
            Member::Char(c) => c,
            Member::Set(_) => return Ok(None),
        },
        Some(c) => c,
    };
    *text = ahead;
    Ok(Some(end))
}

/// `:name:]` or `:^name:]` after a bracket; `None`, and nothing read, if it is neither.
fn posix_bracket(text: &mut Text<'_>) -> Result<Option<ClassUnicode>, String> {
    let Some((name, _)) = text.rest().strip_prefix(':').and_then(|rest| rest.split_once(":]")) else {
        return Ok(None);
    };
    if name.len() > 20 || name.contains([']', '[']) {
        return Ok(None);
    }
    let (negated, plain) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
    let mut set = posix(plain).ok_or_else(|| text.wrong(&format!("unknown class [:{plain}:]")))?;
    if negated {
        set.negate();
    }
    text.take(name.len() + 3);
    Ok(Some(set))
}

fn escaped(text: &mut Text<'_>) -> Result<Member, String> {
    let c = text.next().ok_or_else(|| text.wrong("a backslash at the end"))?;
    Ok(match c {
        'd' | 'D' | 'w' | 'W' | 's' | 'S' | 'h' | 'H' => Member::Set(shorthand(c)),
        'p' | 'P' => Member::Set(property(c, text)?),
        'R' | 'X' => return Err(text.wrong(&format!("\\{c} in a class"))),
        'b' => Member::Char('\u{8}'),
        '1'..='7' => {
            let digits = format!("{c}{}", text.digits(8, 2));
            Member::Char(by_number(&digits, 8, text)?)
        }
        _ => Member::Char(character(c, text)?),
    })
}
