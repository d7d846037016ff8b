//! What stands after a backslash, outside of classes.

use super::class::{property, shorthand};
use super::text::Text;
use super::{Flags, Parser, folded, literal};
use crate::grok::tree::{Place, Tree, one};
use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

impl Parser<'_> {
    pub(super) fn escape(&self, text: &mut Text<'_>, flags: Flags) -> Result<Tree, String> {
        let c = text.next().ok_or_else(|| text.wrong("a backslash at the end"))?;
        Ok(match c {
            'd' | 'D' | 'w' | 'W' | 's' | 'S' | 'h' | 'H' => Tree::Set(folded(shorthand(c), flags)),
            'R' => {
                let end = ClassUnicode::new([('\n', '\r'), ('\u{85}', '\u{85}'), ('\u{2028}', '\u{2029}')].map(range));
                Tree::Either(vec![Tree::Concat(vec![Tree::Char('\r'), Tree::Char('\n')]), Tree::Set(end)])
            }
            'b' => Tree::Place(Place::Word),
            'B' => Tree::Place(Place::NotWord),
            // A search starts at the start of the text.
            'A' | 'G' => Tree::Place(Place::TextStart),
            'z' => Tree::Place(Place::TextEnd),
            'Z' => {
                let ends = vec![Tree::Empty, Tree::Char('\n')];
                let what = Box::new(Tree::Concat(vec![Tree::Either(ends), Tree::Place(Place::TextEnd)]));
                Tree::Around { ahead: true, negated: false, what }
            }
            // It moves the start of the match, which nobody asks for.
            'K' => Tree::Empty,
            'p' | 'P' => Tree::Set(folded(property(c, text)?, flags)),
            'k' => Tree::Back(self.named_groups(text)?),
            'g' => return Err(text.wrong("the call \\g of a group is not supported: write the group again")),
            'X' => return Err(text.wrong("\\X is not supported: write (?m:.)")),
            '1'..='9' => {
                let more = text.digits(10, 2);
                let number: usize = format!("{c}{more}").parse().unwrap_or(0);
                Tree::Back(vec![number - 1])
            }
            _ => literal(character(c, text)?, flags),
        })
    }

    /// The groups that `\k<name>` or `\k'name'` means.
    fn named_groups(&self, text: &mut Text<'_>) -> Result<Vec<usize>, String> {
        let end = match text.next() {
            Some('<') => '>',
            Some('\'') => '\'',
            _ => return Err(text.wrong("\\k without a name in <…>")),
        };
        let name = text.until(end).ok_or_else(|| text.wrong("\\k without the end of its name"))?;
        let groups: Vec<_> = (0..self.groups.len()).filter(|nth| self.groups[*nth] == name).collect();
        if groups.is_empty() {
            return Err(text.wrong(&format!("\\k<{name}> stands before a group of that name")));
        }
        Ok(groups)
    }
}

/// The character that an escape stands for, in a class or outside; `c` follows the backslash.
pub(super) fn character(c: char, text: &mut Text<'_>) -> Result<char, String> {
    Ok(match c {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'f' => '\u{c}',
        'v' => '\u{b}',
        'a' => '\u{7}',
        'e' => '\u{1b}',
        'x' if text.next_is('{') => {
            let digits = text.until('}').unwrap_or("");
            by_number(digits.trim(), 16, text)?
        }
        'x' => by_number(&text.digits(16, 2), 16, text)?,
        'u' => by_number(&text.digits(16, 4), 16, text)?,
        '0' => {
            let digits = text.digits(8, 2);
            if digits.is_empty() { '\0' } else { by_number(&digits, 8, text)? }
        }
        'c' => match text.next() {
            Some('?') => '\u{7f}',
            Some(letter) if letter.is_ascii() && letter != '\\' => char::from(letter as u8 & 0x1f),
            _ => return Err(text.wrong("\\c without a letter")),
        },
        'C' | 'M' => return Err(text.wrong(&format!("the control escape \\{c} is not supported: write \\x…"))),
        _ => c,
    })
}

pub(super) fn by_number(digits: &str, radix: u32, text: &Text<'_>) -> Result<char, String> {
    let number = u32::from_str_radix(digits, radix).ok();
    number.and_then(char::from_u32).ok_or_else(|| text.wrong(&format!("no character has the number [{digits}]")))
}

pub(super) fn range((low, high): (char, char)) -> ClassUnicodeRange {
    ClassUnicodeRange::new(low, high)
}

/// The set of one character, with its other case if case is ignored.
pub(super) fn single(c: char) -> ClassUnicode {
    one(c)
}
