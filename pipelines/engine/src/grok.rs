//! Grok patterns in, a matcher out: `%{NAME:field:type}` is filled in, Oniguruma's syntax is read, and all patterns of a
//! processor become one automaton that takes time linear in the text. A pattern that truly needs backtracking gets a
//! matcher of its own, with a budget of steps.
//!
//! Semantics are those of Elasticsearch's grok: several patterns are alternatives of one search, so the match that
//! starts first wins, and of those the pattern that stands first. `.` does not match a newline, `^` and `$` are line
//! anchors.

mod bank;
mod parse;
mod tree;

mod looks;
mod lower;

mod linear;
mod machine;
mod one_pass;
mod run;
mod scan;

mod backtrack;
mod program;

mod explain;

pub use backtrack::Exhausted;
pub use bank::{Bank, Ecs};
pub use explain::Explanation;

use backtrack::Search;
use event::FieldPath;
use explain::Explainer;
use linear::{Linear, Spans};
use looks::Looks;
use lower::Reason;
use parse::Parsed;
use program::Program;
use std::sync::{Arc, OnceLock};

/// Largest table of a pattern that can be matched in one pass, in bytes.
const ONE_PASS_BYTES_MAX: usize = 4 << 20;
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
    /// Its groups, in order: the first that took part gives the text.
    groups: Vec<usize>,
}

/// How long a pattern may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// At the start of a text: one look at each byte, and one thing to do.
    OnePass,
    /// A few looks at each byte.
    Linear,
    /// Up to the budget of steps: it has to try one way after another.
    Backtracking {
        /// Because of what.
        reason: String,
        /// What may be written instead, where there is something.
        instead: Option<String>,
    },
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OnePass => f.write_str("linear, in one pass"),
            Self::Linear => f.write_str("linear"),
            Self::Backtracking { reason, instead } => {
                write!(f, "needs backtracking, under a budget of steps, because of {reason}")?;
                instead.as_ref().map_or(Ok(()), |instead| write!(f, "; cheaper: {instead}"))
            }
        }
    }
}

/// A pattern that needs backtracking.
struct Kept {
    /// Its number among all patterns.
    nth: usize,
    program: Program,
    is_line_anchored: bool,
    reason: Reason,
}

/// Compiled patterns. Cheap to share between threads.
pub struct Grok {
    /// Captures of each pattern.
    captures: Vec<Vec<Capture>>,
    /// Those without backtracking, and their numbers among all.
    linear: Option<Linear>,
    numbers: Vec<usize>,
    kept: Vec<Kept>,
    /// What the patterns were made of, for the explanation of the first text that does not match.
    bank: Bank,
    patterns: Vec<String>,
    explainer: OnceLock<Explainer>,
}

impl Grok {
    /// Compiles `patterns`, whose names are looked up in `bank`.
    ///
    /// Errors: an unknown name, a reference to itself, a syntax error, or a pattern that is too large.
    pub fn new<P: AsRef<str>>(bank: &Bank, patterns: &[P]) -> Result<Self, String> {
        let (mut captures, mut numbers, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        let (mut looks, mut hirs, mut groups, mut are_line_anchored) = (Looks::default(), Vec::new(), Vec::new(), true);
        for (nth, pattern) in patterns.iter().map(AsRef::as_ref).enumerate() {
            let wrong = |wrong: String| format!("pattern [{pattern}]: {wrong}");
            let parsed = parse::parse(bank, pattern).map_err(wrong)?;
            captures.push(fields_of(&parsed).map_err(wrong)?);
            let is_line_anchored = parsed.tree.is_line_anchored();
            match lower::lower(&parsed, &mut looks) {
                Ok(hir) => {
                    numbers.push(nth);
                    hirs.push(hir);
                    groups.push(parsed.groups.len());
                    are_line_anchored &= is_line_anchored;
                }
                Err(reason) => {
                    let program = Program::new(&parsed.tree, parsed.groups.len()).map_err(wrong)?;
                    kept.push(Kept { nth, program, is_line_anchored, reason });
                }
            }
        }
        let looks = Arc::new(looks);
        let linear = match hirs.is_empty() {
            true => None,
            false => Some(Linear::new(&hirs, &groups, &looks, are_line_anchored).map_err(|wrong| {
                let list: Vec<_> = patterns.iter().map(|pattern| format!("[{}]", pattern.as_ref())).collect();
                format!("pattern {} {wrong}", list.join(", "))
            })?),
        };
        let patterns = patterns.iter().map(|pattern| pattern.as_ref().to_owned()).collect();
        let (bank, explainer) = (bank.clone(), OnceLock::new());
        Ok(Self { captures, linear, numbers, kept, bank, patterns, explainer })
    }

    /// The fields of all patterns.
    pub fn captures(&self) -> impl Iterator<Item = &Capture> {
        self.captures.iter().flatten()
    }

    /// The patterns as they were written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// How far the patterns came on a text that they do not match. Slower than a match by far.
    pub fn explain(&self, text: &str) -> Option<Explanation> {
        self.explainer.get_or_init(|| Explainer::new(&self.bank, &self.patterns)).explain(text)
    }

    /// How long each of the patterns may take.
    pub fn classes(&self) -> Vec<Class> {
        let mut classes = vec![Class::Linear; self.captures.len()];
        let one_pass = self.linear.as_ref().map_or(0, Linear::one_pass_len);
        for nth in self.numbers.iter().take(one_pass) {
            classes[*nth] = Class::OnePass;
        }
        for kept in &self.kept {
            let Reason { what, instead } = kept.reason.clone();
            classes[kept.nth] = Class::Backtracking { reason: what, instead };
        }
        classes
    }

    /// Searches `text` and hands each captured part to `found`. Returns which pattern matched, counted from 0.
    ///
    /// Errors: a pattern that needs backtracking used up its budget.
    pub fn match_text(&self, text: &str, found: impl FnMut(&Capture, &str)) -> Result<Option<usize>, Exhausted> {
        if !self.kept.is_empty() {
            return self.match_mixed(text, found);
        }
        let Some(linear) = &self.linear else { return Ok(None) };
        Ok(linear.search(text, |_, nth, spans| {
            self.report(nth, text, spans, found);
            nth
        }))
    }

    /// With patterns that need backtracking: the match that starts first, wherever it comes from.
    fn match_mixed(&self, text: &str, found: impl FnMut(&Capture, &str)) -> Result<Option<usize>, Exhausted> {
        let linear = self.linear.as_ref().and_then(|linear| linear.search(text, |start, nth, _| (start, nth)));
        let mut best = linear.map(|(start, nth)| (start, self.numbers[nth]));
        let mut search = None;
        for kept in &self.kept {
            let most = match best {
                None => text.len(),
                Some((start, nth)) if kept.nth < nth => start,
                Some((0, _)) => continue,
                Some((start, _)) => start - 1,
            };
            let mut kept_search = Search::new(&kept.program, text);
            let found_at = kept_search.find(most, kept.is_line_anchored);
            event::steps::count(kept_search.steps() as usize);
            if let Some(start) = found_at? {
                best = Some((start, kept.nth));
                search = Some(kept_search);
            }
        }
        let Some((_, nth)) = best else { return Ok(None) };
        match (&search, &self.linear) {
            (Some(search), _) if !self.numbers.contains(&nth) => {
                self.report(nth, text, &|group| search.span(group), found);
            }
            (_, Some(linear)) => {
                linear.search(text, |_, _, spans| self.report(nth, text, spans, found));
            }
            _ => {}
        }
        Ok(Some(nth))
    }

    /// Every match of the one pattern in `text`, one after the other, empty ones too: where its first capture stands.
    ///
    /// Errors: it took more steps than the text may take.
    pub(crate) fn find_all(&self, text: &str) -> Result<Vec<(usize, usize)>, Exhausted> {
        let mut found = Vec::new();
        let groups =
            self.captures.first().and_then(|captures| captures.first()).map(|capture| capture.groups.as_slice());
        let mut next = |spans: Spans<'_>| {
            let (start, end) = groups?.iter().find_map(|group| spans(*group))?;
            found.push((start, end));
            // As in the original, nothing is looked for at the end.
            Some(if end > start { end } else { start + 1 }).filter(|next| *next < text.len())
        };
        if let Some(linear) = &self.linear {
            linear.all(text, &mut next)?;
        }
        if let Some(kept) = self.kept.first() {
            let mut search = Search::new(&kept.program, text);
            let mut from = Some(0);
            while let Some(at) = from
                && search.find_from(at, text.len(), kept.is_line_anchored)?.is_some()
            {
                from = next(&|group| search.span(group));
            }
        }
        Ok(found)
    }

    fn report(&self, nth: usize, text: &str, spans: Spans<'_>, mut found: impl FnMut(&Capture, &str)) {
        for capture in &self.captures[nth] {
            let part = capture.groups.iter().find_map(|group| {
                let (start, end) = spans(*group)?;
                text.get(start..end)
            });
            if let Some(part) = part {
                found(capture, part);
            }
        }
    }
}

impl std::fmt::Debug for Grok {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grok").field("captures", &self.captures).finish_non_exhaustive()
    }
}

fn fields_of(parsed: &Parsed) -> Result<Vec<Capture>, String> {
    let mut captures: Vec<(&str, Capture)> = Vec::new();
    for (group, name) in parsed.groups.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        match captures.iter_mut().find(|(known, _)| known == name) {
            Some((_, capture)) => capture.groups.push(group),
            None => {
                let (field, kind) = field_and_kind(name)?;
                captures.push((name, Capture { field, kind, groups: vec![group] }));
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
