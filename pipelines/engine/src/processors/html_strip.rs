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

/// Bytes that may be looked through in vain for the ends of tags, for each byte of the text: what may be a tag behind that
/// is text. Otherwise a row of tags without an end would take time by the square of its length.
const LOOKS_PER_BYTE: usize = 8;

/// Specified by Lucene's `HTMLStripCharFilter`, in outline: what looks like no tag stays.
fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut looked) = (text, 0);
    while let Some(at) = rest.find(['<', '&'])
        && looked <= LOOKS_PER_BYTE * text.len()
    {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        match tag(special, &mut looked).or_else(|| entity(special)) {
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

/// What a tag or comment leaves behind, and what follows it. Adds the bytes that were looked through in vain to `looked`.
fn tag<'t>(text: &'t str, looked: &mut usize) -> Option<(String, &'t str)> {
    let mut in_vain = |looked_at: &str| {
        event::steps::count(looked_at.len());
        *looked += looked_at.len();
    };
    if let Some(comment) = text.strip_prefix("<!--") {
        let Some((_, after)) = comment.split_once("-->") else {
            in_vain(comment);
            return None;
        };
        return Some((String::new(), after));
    }
    let (name_at, closing) = match text.strip_prefix("</") {
        Some(rest) => (rest, true),
        None => (text.strip_prefix('<')?, false),
    };
    if name_at.starts_with(['!', '?']) {
        let Some((_, after)) = name_at.split_once('>') else {
            in_vain(name_at);
            return None;
        };
        return Some(("\n".to_owned(), after));
    }
    let end = name_at.find(|c: char| !c.is_alphanumeric() && c != ':' && c != '-').unwrap_or(name_at.len());
    let name = name_at.get(..end)?.to_ascii_lowercase();
    if !name.starts_with(|c: char| c.is_alphabetic()) {
        return None;
    }
    let attributes = name_at.get(end..)?;
    let after = match behind_attributes(attributes) {
        Ok(after) => after,
        Err(seen) => {
            in_vain(attributes.get(..seen).unwrap_or(attributes));
            return None;
        }
    };
    if !closing && matches!(name.as_str(), "script" | "style") {
        let is_end = |at: usize| {
            let found = after.as_bytes().get(at + 2..at + 2 + name.len());
            found.is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
        };
        let close = after.match_indices("</").map(|(at, _)| at).find(|at| is_end(*at));
        let Some((_, after)) = close.and_then(|close| after.get(close..)?.split_once('>')) else {
            in_vain(after);
            return None;
        };
        return Some(("\n".to_owned(), after));
    }
    let inline = INLINE.contains(&name.as_str());
    Some((if inline { String::new() } else { "\n".to_owned() }, after))
}

/// Behind the `>` that ends a tag, quotes being followed. Without one: how many bytes were looked through.
fn behind_attributes(text: &str) -> Result<&str, usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return Ok(text.get(at + 1..).unwrap_or_default()),
            (None, '<') => return Err(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    Err(text.len())
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
        assert_eq!(strip("a<script>if (a </b>) {}</SCRIPT >b<style>c"), "a\nb<style>c");
    }

    #[test]
    fn tags_without_an_end_are_looked_through_a_few_times() {
        for piece in ["<!--", "<!a ", "<script>", "<a '", "<script><!--", "<style></style>"] {
            let text = format!("{}<b>x</b>", piece.repeat(200_000));
            let before = event::steps::taken();
            assert!(strip(&text).contains('x'), "{piece}");
            let steps = event::steps::taken().zip(before).map(|(after, before)| after - before);
            assert!(steps <= Some(10 * text.len() as u64), "{piece}: {steps:?}");
        }
        assert_eq!(strip(&format!("{}<b>x</b>", "a < b ".repeat(10_000))), format!("{}x", "a < b ".repeat(10_000)));
    }
}
