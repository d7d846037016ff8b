//! `mask`: what a pattern matches in a text made unreadable, all but its last characters. Ours; no search node has it.

use super::strings;
use crate::java_regex::{Finds, Flags, compile};
use crate::options::{Options, Wrong};
use crate::pipeline::Step;
use event::Value;
use regex_automata::meta::Regex;

pub(crate) const OPTIONS: &[&str] = &["character", "field", "ignore_missing", "keep_last", "pattern", "target_field"];

/// Most characters that may be kept.
const KEEP_MAX: i64 = 64;

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let regex = match options.regex("pattern")? {
        Some((_, regex)) => regex,
        None => compile("(?s).+", Flags::default())?,
    };
    let character = options.character("character", '*', "[character] is one character, such as [*]")?;
    let keep = options.take("keep_last");
    let keep = match keep.as_ref().map_or(Some(0), Value::as_i64) {
        Some(keep @ 0..=KEEP_MAX) => keep as usize,
        _ => return Err(format!("[keep_last] is a number of characters from 0 to {KEEP_MAX}")),
    };
    strings::build(options, Box::new(move |text| Ok(Value::from(masked(text, &regex, character, keep)))))
}

fn masked(text: &str, regex: &Regex, character: char, keep: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut finds, mut captures, mut done) = (Finds::new(regex, text), regex.create_captures(), 0);
    while let Some(span) = finds.next(&mut captures) {
        out.push_str(text.get(done..span.start).unwrap_or_default());
        let found = text.get(span.range()).unwrap_or_default();
        let count = found.chars().count();
        // What is no longer than what is kept would be shown whole.
        let hidden = if count > keep { count - keep } else { count };
        out.extend(std::iter::repeat_n(character, hidden));
        out.extend(found.chars().skip(hidden));
        done = span.end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_characters_are_left() {
        let check = |pattern: &str, keep, text: &str, expected: &str| {
            let regex = compile(pattern, Flags::default()).expect("a pattern");
            assert_eq!(masked(text, &regex, '*', keep), expected);
        };
        check(r"\d{12,19}", 4, "card 4111111111111111 ok", "card ************1111 ok");
        check("(?s).+", 0, "gehe\nim", "*******");
        check(r"\S+", 4, "äbc abcdef", "*** **cdef");
        check("x", 0, "abc", "abc");
    }
}
