//! Grok patterns in, a linear-time matcher out: `%{NAME:field:type}` is filled in, Oniguruma's syntax is translated, and
//! all patterns of a processor become one automaton.
//!
//! Semantics are those of Elasticsearch's grok: several patterns are alternatives of one search, so the match that
//! starts first wins, and of those the pattern that stands first. `.` does not match a newline, `^` and `$` are line
//! anchors. Matching takes time linear in the text, whatever the pattern.

mod bank;
mod one_pass;
mod translate;

pub use bank::{Bank, Ecs};

use event::FieldPath;
use one_pass::OnePass;
use regex_automata::meta::{BuildError, Regex};
use regex_automata::nfa::thompson::NFA;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, PatternID};
use translate::Translated;

/// Largest compiled automaton of one processor, in bytes.
const NFA_BYTES_MAX: usize = 16 << 20;
/// Largest table of a pattern that can be matched in one pass, in bytes.
const ONE_PASS_BYTES_MAX: usize = 4 << 20;
/// Deepest nesting in a translated pattern.
const NESTING_MAX: u32 = 500;
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
    /// Each pattern by itself, if all start with `^`: on a text of one line they are tried in turn at its start, where
    /// a pattern alone can often be matched in one pass.
    anchored: Vec<Alone>,
}

/// A pattern by itself.
enum Alone {
    OnePass(Box<OnePass>),
    Any(Regex),
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
        let regex = compile(&texts).map_err(|error| refused(&error, patterns))?;
        let mut anchored = Vec::new();
        if translated.iter().all(|translated| translated.line_anchored) {
            for text in &texts {
                anchored.push(Alone::new(text).map_err(|error| refused(&error, patterns))?);
            }
        }
        let mut captures = Vec::new();
        for (nth, translated) in translated.iter().enumerate() {
            captures.push(fields_of(translated, &regex, nth)?);
        }
        let slots = regex.group_info().slot_len();
        Ok(Self { regex, captures, slots, anchored })
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
        found: impl FnMut(&Capture, &str),
    ) -> Option<usize> {
        if !self.anchored.is_empty() && memchr::memchr(b'\n', text.as_bytes()).is_none() {
            let nth = self.anchored.iter().position(|pattern| pattern.match_start(text, slots))?;
            // Slots of one pattern start with its own two; in the list each pattern has two before all groups.
            let first = self.regex.group_info().slots(PatternID::must(nth), 1).map_or(2, |(slot, _)| slot);
            self.report(nth, text, |slot| slots.get(slot + 2 - first).copied().flatten(), found);
            return Some(nth);
        }
        let nth = self.regex.search_slots(&Input::new(text), slots)?.as_usize();
        self.report(nth, text, |slot| slots.get(slot).copied().flatten(), found);
        Some(nth)
    }

    fn report(
        &self,
        nth: usize,
        text: &str,
        slot: impl Fn(usize) -> Option<NonMaxUsize>,
        mut found: impl FnMut(&Capture, &str),
    ) {
        for capture in &self.captures[nth] {
            let part = capture.slots.iter().find_map(|start| text.get(slot(*start)?.get()..slot(start + 1)?.get()));
            if let Some(part) = part {
                found(capture, part);
            }
        }
    }
}

impl Alone {
    fn new(pattern: &str) -> Result<Self, Box<BuildError>> {
        let compiled = NFA::compiler()
            .syntax(syntax())
            .configure(NFA::config().nfa_size_limit(Some(NFA_BYTES_MAX)))
            .build(pattern)
            .ok();
        match compiled.and_then(|nfa| OnePass::new(&nfa)) {
            Some(one_pass) => Ok(Self::OnePass(Box::new(one_pass))),
            None => compile(&[pattern]).map(Self::Any),
        }
    }

    fn match_start(&self, text: &str, slots: &mut [Option<NonMaxUsize>]) -> bool {
        match self {
            Self::OnePass(pattern) => pattern.match_start(text.as_bytes(), slots),
            Self::Any(pattern) => pattern.search_slots(&Input::new(text).anchored(Anchored::Yes), slots).is_some(),
        }
    }
}

impl std::fmt::Debug for Grok {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grok").field("captures", &self.captures).finish_non_exhaustive()
    }
}

fn compile(patterns: &[&str]) -> Result<Regex, Box<BuildError>> {
    let config = Regex::config().nfa_size_limit(Some(NFA_BYTES_MAX)).onepass_size_limit(Some(ONE_PASS_BYTES_MAX));
    Regex::builder().syntax(syntax()).configure(config).build_many(patterns).map_err(Box::new)
}

fn syntax() -> syntax::Config {
    syntax::Config::new().multi_line(true).nest_limit(NESTING_MAX)
}

fn refused<P: AsRef<str>>(error: &BuildError, patterns: &[P]) -> String {
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
    let pattern = PatternID::new(nth).map_err(|error| error.to_string())?;
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
