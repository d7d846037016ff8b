//! `Matcher.replaceAll` and `String.split`.

use super::Finds;
use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;

/// A replacement text with its references: `$1`, `${name}`, and `\` before what stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replacement {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
}

impl Replacement {
    /// Parses `text` for `regex`. Errors are those of Java, which come up when the first match is replaced.
    pub(crate) fn parse(text: &str, regex: &Regex) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' => plain.push(chars.next().ok_or("character to be escaped is missing")?),
                '$' => {
                    let group = match chars.peek().copied() {
                        Some('{') => {
                            chars.next();
                            let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                            let index = regex.group_info().to_index(regex_automata::PatternID::ZERO, &name);
                            index.ok_or_else(|| format!("No group with name {{{name}}}"))?
                        }
                        Some(digit) if digit.is_ascii_digit() => number(&mut chars, regex)?,
                        Some(_) => return Err("Illegal group reference".to_owned()),
                        None => return Err("Illegal group reference: group index is missing".to_owned()),
                    };
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Group(group));
                }
                c => plain.push(c),
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// A text that stands for itself.
    pub(crate) fn literal(text: &str) -> Self {
        Self { parts: vec![Part::Text(text.to_owned())] }
    }

    /// Appends what stands for the match in `captures`.
    pub(crate) fn expand(&self, text: &str, captures: &Captures, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(plain) => out.push_str(plain),
                Part::Group(group) => {
                    if let Some(span) = captures.get_group(*group) {
                        out.push_str(text.get(span.range()).unwrap_or_default());
                    }
                }
            }
        }
    }

    /// Every match in `text` replaced, or the first `most`. `None` if there is no match.
    pub(crate) fn apply(&self, regex: &Regex, text: &str, most: usize) -> Option<String> {
        let mut finds = Finds::new(regex, text);
        let mut captures = regex.create_captures();
        let mut out: Option<String> = None;
        let mut done = 0;
        for _ in 0..most {
            let Some(span) = finds.next(&mut captures) else { break };
            let out = out.get_or_insert_with(|| String::with_capacity(text.len()));
            out.push_str(text.get(done..span.start).unwrap_or_default());
            self.expand(text, &captures, out);
            done = span.end;
        }
        out.map(|mut out| {
            out.push_str(text.get(done..).unwrap_or_default());
            out
        })
    }
}

/// The longest number that is a group's.
fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, regex: &Regex) -> Result<usize, String> {
    let groups = regex.group_info().group_len(regex_automata::PatternID::ZERO);
    let digit = |c: Option<&char>| c.and_then(|c| c.to_digit(10)).map(|digit| digit as usize);
    let mut group = digit(chars.peek()).unwrap_or(0);
    chars.next();
    if group >= groups {
        return Err(format!("No group {group}"));
    }
    while let Some(next) = digit(chars.peek()) {
        if group * 10 + next >= groups {
            break;
        }
        group = group * 10 + next;
        chars.next();
    }
    Ok(group)
}

/// `String.split(regex, limit)`: the parts between matches; without a limit (0) empty ones at the end are left out, with
/// a negative one they stay. An empty match at the start makes no part.
pub(crate) fn split<'t>(regex: &Regex, text: &'t str, limit: i32) -> Vec<&'t str> {
    let mut finds = Finds::new(regex, text);
    let mut captures = regex.create_captures();
    let (mut parts, mut done) = (Vec::new(), 0);
    let most = usize::try_from(limit).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
    while parts.len() + 1 < most
        && let Some(span) = finds.next(&mut captures)
    {
        if span.end == 0 {
            continue;
        }
        parts.push(text.get(done..span.start).unwrap_or_default());
        done = span.end;
    }
    if done == 0 && parts.is_empty() {
        return vec![text];
    }
    parts.push(text.get(done..).unwrap_or_default());
    if limit == 0 {
        let kept = parts.iter().rposition(|part| !part.is_empty()).map_or(0, |last| last + 1);
        parts.truncate(kept);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, compile};
    use super::*;

    #[track_caller]
    fn replaced(pattern: &str, replacement: &str, text: &str, expected: &str) {
        let regex = compile(pattern, Flags::default()).expect("a pattern");
        let replacement = Replacement::parse(replacement, &regex).expect("a replacement");
        assert_eq!(replacement.apply(&regex, text, usize::MAX).as_deref().unwrap_or(text), expected);
    }

    #[test]
    fn references_are_filled_in_as_in_java() {
        replaced("a*", "X", "baaac", "XbXXcX");
        replaced(r"(\d+)-(\d+)", "$2-$1", "1-22 3-4", "22-1 4-3");
        replaced("(?<n>b)", "<${n}>", "abc", "a<b>c");
        replaced("b", r"\$1\\", "abc", r"a$1\c");
        replaced("(b)", "$12", "abc", "ab2c");
        replaced("(x)?b", "[$1]", "ab", "a[]");
        let regex = compile("b", Flags::default()).expect("a pattern");
        assert_eq!(Replacement::parse("$1", &regex), Err("No group 1".to_owned()));
        assert_eq!(Replacement::parse("$x", &regex), Err("Illegal group reference".to_owned()));
    }

    #[test]
    fn texts_are_split_as_in_java() {
        let parts = |pattern: &str, text: &'static str, limit| {
            split(&compile(pattern, Flags::default()).expect("a pattern"), text, limit)
        };
        assert_eq!(parts(",", "a,b,,", 0), ["a", "b"]);
        assert_eq!(parts(",", "a,b,,", -1), ["a", "b", "", ""]);
        assert_eq!(parts(",", "a,b,c", 2), ["a", "b,c"]);
        assert_eq!(parts("", "abc", 0), ["a", "b", "c"]);
        assert_eq!(parts(",", "", 0), [""]);
        assert_eq!(parts(",", ",", 0), Vec::<&str>::new());
        assert_eq!(parts(",", ",a", 0), ["", "a"]);
        assert_eq!(parts("x", "abc", 0), ["abc"]);
    }
}
