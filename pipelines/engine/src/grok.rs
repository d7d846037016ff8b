//! Grok patterns in, a linear-time matcher out: `%{NAME:field:type}` is filled in, Oniguruma's syntax is translated, and
//! all patterns of a processor become one automaton.
//!
//! Semantics are those of Elasticsearch's grok: several patterns are alternatives of one search, so the match that
//! starts first wins, and of those the pattern that stands first. `.` does not match a newline, `^` and `$` are line
//! anchors. Matching takes time linear in the text, whatever the pattern.

mod bank;
mod translate;

pub use bank::{Bank, Ecs};

use event::FieldPath;
use regex_automata::meta::Regex;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use translate::Translated;

/// Largest compiled automaton of one processor, in bytes.
const NFA_BYTES_MAX: usize = 16 << 20;
/// Slots that fit on the stack: two for each pattern and each capture.
const STACK_SLOTS: usize = 64;

/// What a captured text becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Itself.
    Text,
    /// `:int`
    Int,
    /// `:long`
    Long,
    /// `:float`
    Float,
    /// `:double`
    Double,
    /// `:boolean`
    Boolean,
}

/// A field that a pattern captures.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Where it goes.
    pub field: FieldPath,
    /// As what.
    pub kind: Kind,
    /// Slots of its groups' starts, in order: the first group that took part gives the text.
    slots: Vec<usize>,
}

/// Compiled patterns. Cheap to share between threads.
pub struct Grok {
    regex: Regex,
    /// Captures of each pattern.
    captures: Vec<Vec<Capture>>,
    slots: usize,
    /// True if every pattern starts with `^`: then only line starts need to be tried.
    line_anchored: bool,
}

impl Grok {
    /// Compiles `patterns`, whose names are looked up in `bank`.
    ///
    /// Errors: an unknown name, a reference to itself, a syntax error, or a construct that no linear-time matcher has.
    pub fn new<P: AsRef<str>>(bank: &Bank, patterns: &[P]) -> Result<Self, String> {
        let mut translated = Vec::new();
        for pattern in patterns {
            let expanded = bank.expand(pattern.as_ref())?;
            translated.push(
                translate::translate(&expanded).map_err(|wrong| format!("pattern [{}]: {wrong}", pattern.as_ref()))?,
            );
        }
        let texts: Vec<_> = translated.iter().map(|translated| translated.regex.as_str()).collect();
        let regex = Regex::builder()
            .syntax(syntax::Config::new().multi_line(true).nest_limit(500))
            .configure(Regex::config().nfa_size_limit(Some(NFA_BYTES_MAX)).onepass_size_limit(Some(4 << 20)))
            .build_many(&texts)
            .map_err(|error| refused(&error, patterns))?;
        let mut captures = Vec::new();
        for (nth, translated) in translated.iter().enumerate() {
            captures.push(fields_of(translated, &regex, nth)?);
        }
        let slots = regex.group_info().slot_len();
        let line_anchored = translated.iter().all(|translated| translated.line_anchored);
        Ok(Self { regex, captures, slots, line_anchored })
    }

    /// The fields of all patterns.
    pub fn captures(&self) -> impl Iterator<Item = &Capture> {
        self.captures.iter().flatten()
    }

    /// Searches `text` and hands each captured part to `found`. Returns which pattern matched, counted from 0.
    pub fn match_text(&self, text: &str, found: impl FnMut(&Capture, &str)) -> Option<usize> {
        if self.slots <= STACK_SLOTS {
            let mut slots = [None; STACK_SLOTS];
            self.match_with(text, &mut slots[..self.slots], found)
        } else {
            self.match_with(text, &mut vec![None; self.slots], found)
        }
    }

    fn match_with(
        &self,
        text: &str,
        slots: &mut [Option<NonMaxUsize>],
        mut found: impl FnMut(&Capture, &str),
    ) -> Option<usize> {
        let pattern = if self.line_anchored {
            // A search with an anchor is much cheaper, and a text of one line has no second place to try.
            let first = self.regex.search_slots(&Input::new(text).anchored(Anchored::Yes), slots);
            match first {
                None if memchr::memchr(b'\n', text.as_bytes()).is_none() => return None,
                None => self.regex.search_slots(&Input::new(text), slots)?,
                Some(pattern) => pattern,
            }
        } else {
            self.regex.search_slots(&Input::new(text), slots)?
        };
        let nth = pattern.as_usize();
        for capture in &self.captures[nth] {
            let part = capture.slots.iter().find_map(|slot| {
                let (start, end) = (slots.get(*slot)?.as_ref()?.get(), slots.get(slot + 1)?.as_ref()?.get());
                text.get(start..end)
            });
            if let Some(part) = part {
                found(capture, part);
            }
        }
        Some(nth)
    }
}

impl std::fmt::Debug for Grok {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grok").field("captures", &self.captures).finish_non_exhaustive()
    }
}

fn refused<P: AsRef<str>>(error: &regex_automata::meta::BuildError, patterns: &[P]) -> String {
    let pattern = error.pattern().and_then(|nth| patterns.get(nth.as_usize())).map_or("", |pattern| pattern.as_ref());
    match (error.size_limit(), error.syntax_error()) {
        (Some(bytes), _) => {
            format!("pattern [{pattern}] needs a matcher of more than {bytes} bytes; make its repeats smaller")
        }
        (_, Some(syntax)) => format!("pattern [{pattern}] is no regular expression: {syntax}"),
        _ => format!("pattern [{pattern}]: {error}"),
    }
}

fn fields_of(translated: &Translated, regex: &Regex, nth: usize) -> Result<Vec<Capture>, String> {
    let mut captures: Vec<(&str, Capture)> = Vec::new();
    let pattern = regex_automata::PatternID::new(nth).map_err(|error| error.to_string())?;
    for (group, name) in translated.groups.iter().enumerate() {
        let (slot, _) = regex.group_info().slots(pattern, group + 1).ok_or("a group got lost")?;
        match captures.iter_mut().find(|(known, _)| known == name) {
            Some((_, capture)) => capture.slots.push(slot),
            None => {
                let (field, kind) = field_and_kind(name)?;
                captures.push((name, Capture { field, kind, slots: vec![slot] }));
            }
        }
    }
    Ok(captures.into_iter().map(|(_, capture)| capture).collect())
}

/// `a.b:int`, `[a][b]` → the field and what it becomes. A type that is none means text, as in the original.
fn field_and_kind(name: &str) -> Result<(FieldPath, Kind), String> {
    let (field, kind) = name.split_once(':').unwrap_or((name, ""));
    let kind = match kind {
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "boolean" => Kind::Boolean,
        _ => Kind::Text,
    };
    let brackets = field.strip_prefix('[').and_then(|field| field.strip_suffix(']'));
    let field = brackets.map_or_else(|| field.to_owned(), |inner| inner.replace("][", "."));
    let field = FieldPath::new(&field).map_err(|error| format!("capture [{name}]: {error}"))?;
    Ok((field, kind))
}

#[cfg(test)]
mod tests;
