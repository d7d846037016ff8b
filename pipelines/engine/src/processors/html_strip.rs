//! `html_strip`: a text without its HTML tags; entities become what they stand for.

use super::strings;
use crate::options::{Options, Wrong};
use crate::pipeline::Step;
use event::Value;

pub(crate) const OPTIONS: &[&str] = strings::OPTIONS;

/// Elements that stand within a line: their tags leave nothing, those of all others a newline.
const INLINE: &[&str] = &[
    "a", "abbr", "acronym", "b", "basefont", "bdo", "big", "cite", "code", "dfn", "em", "font", "i", "img", "input",
    "kbd", "label", "q", "s", "samp", "select", "small", "span", "strike", "strong", "sub", "sup", "textarea", "tt",
    "u", "var",
];

/// Entities that logs carry.
const ENTITIES: &[(&str, char)] = &[
    ("AMP", '&'),
    ("GT", '>'),
    ("LT", '<'),
    ("QUOT", '"'),
    ("amp", '&'),
    ("apos", '\''),
    ("copy", '\u{a9}'),
    ("euro", '\u{20ac}'),
    ("gt", '>'),
    ("hellip", '\u{2026}'),
    ("laquo", '\u{ab}'),
    ("lt", '<'),
    ("mdash", '\u{2014}'),
    ("nbsp", ' '),
    ("ndash", '\u{2013}'),
    ("quot", '"'),
    ("raquo", '\u{bb}'),
    ("reg", '\u{ae}'),
    ("trade", '\u{2122}'),
];

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    strings::build(
        options,
        Box::new(|text| {
            // The original leaves what can hold no tag as it is, entities and all.
            let has_tag = text.contains('<') && text.contains('>');
            Ok(if has_tag { Value::from(strip(text)) } else { Value::Text(text.clone()) })
        }),
    )
}

/// Specified by Lucene's `HTMLStripCharFilter`, in outline: what looks like no tag stays.
fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['<', '&']) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        match tag(special).or_else(|| entity(special)) {
            Some((with, after)) => {
                out.push_str(&with);
                rest = after;
            }
            None => {
                let mut chars = special.chars();
                out.extend(chars.next());
                rest = chars.as_str();
            }
        }
    }
    out.push_str(rest);
    out
}

/// What a tag or comment leaves behind, and what follows it.
fn tag(text: &str) -> Option<(String, &str)> {
    if let Some(comment) = text.strip_prefix("<!--") {
        let (_, after) = comment.split_once("-->")?;
        return Some((String::new(), after));
    }
    let (name_at, closing) = match text.strip_prefix("</") {
        Some(rest) => (rest, true),
        None => (text.strip_prefix('<')?, false),
    };
    if name_at.starts_with(['!', '?']) {
        let (_, after) = name_at.split_once('>')?;
        return Some(("\n".to_owned(), after));
    }
    let end = name_at.find(|c: char| !c.is_alphanumeric() && c != ':' && c != '-').unwrap_or(name_at.len());
    let name = name_at.get(..end)?.to_ascii_lowercase();
    if !name.starts_with(|c: char| c.is_alphabetic()) {
        return None;
    }
    let after = behind_attributes(name_at.get(end..)?)?;
    if !closing && matches!(name.as_str(), "script" | "style") {
        let ending = format!("</{name}");
        let lower = after.to_ascii_lowercase();
        let close = lower.find(&ending)?;
        let (_, after) = after.get(close..)?.split_once('>')?;
        return Some(("\n".to_owned(), after));
    }
    let inline = INLINE.contains(&name.as_str());
    Some((if inline { String::new() } else { "\n".to_owned() }, after))
}

/// Behind the `>` that ends a tag, quotes being followed.
fn behind_attributes(text: &str) -> Option<&str> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return text.get(at + 1..),
            (None, '<') => return None,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

fn entity(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('&')?;
    if let Some(number) = body.strip_prefix('#') {
        let (digits, radix) = match number.strip_prefix(['x', 'X']) {
            Some(hex) => (hex, 16),
            None => (number, 10),
        };
        let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        let code = u32::from_str_radix(digits.get(..end)?, radix).ok()?;
        let after = digits.get(end..)?;
        return Some((char::from_u32(code)?.to_string(), after.strip_prefix(';').unwrap_or(after)));
    }
    let (name, c) =
        ENTITIES.iter().find(|(name, _)| body.strip_prefix(name).is_some_and(|after| after.starts_with(';')))?;
    Some((c.to_string(), body.get(name.len() + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_go_and_entities_are_read() {
        assert_eq!(strip("<b>a</b> &lt;c&gt; &#65;&#x42;"), "a <c> AB");
        assert_eq!(strip("x<br/>y<p class=\"a>b\">z</p>"), "x\ny\nz\n");
        assert_eq!(strip("1 < 2 & 3 &unknown;"), "1 < 2 & 3 &unknown;");
        assert_eq!(strip("a<!-- c -->b"), "ab");
    }
}
