//! `remove_by_pattern`: members of the root out of the document by patterns with `*`, or all that fit none.

use super::remove::remove_members;
use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use compact_str::CompactString;
use event::Event;

pub(crate) const OPTIONS: &[&str] = &["exclude_field_pattern", "field_pattern"];

/// What index names, after which the original's check is made, cannot have.
const FORBIDDEN: &[char] = &['\\', '/', '"', '<', '>', '|', ' ', ',', '?'];

#[derive(Debug)]
struct RemoveByPattern {
    patterns: Vec<CompactString>,
    /// True if what fits stays and the rest goes.
    keeps: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let (name, keeps) = match (options.has("field_pattern"), options.has("exclude_field_pattern")) {
        (true, false) => ("field_pattern", false),
        (false, true) => ("exclude_field_pattern", true),
        _ => return Err("[field_pattern] either field_pattern or exclude_field_pattern must be set".to_owned()),
    };
    let patterns = options.one_or_more(name)?;
    for pattern in &patterns {
        for c in ['#', ':'] {
            if pattern.contains(c) {
                return Err(format!("[{name}] {name} [{pattern}] must not contain a '{c}'"));
            }
        }
        if pattern.starts_with('_') {
            return Err(format!("[{name}] {name} [{pattern}] must not start with '_'"));
        }
        if pattern.contains(FORBIDDEN) {
            return Err(format!("[{name}] {name} [{pattern}] must not contain the following characters {FORBIDDEN:?}"));
        }
    }
    Ok(Box::new(RemoveByPattern { patterns, keeps }))
}

impl Step for RemoveByPattern {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        remove_members(event, |key| self.patterns.iter().any(|pattern| fits(pattern, key)) != self.keeps)?;
        Ok(Flow::Continue)
    }
}

/// True if `text` is what `pattern` says, whose `*` stand for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("a*", "abc", true),
            ("a*", "a", true),
            ("*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "ac", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*", "", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
