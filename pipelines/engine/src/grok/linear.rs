//! All patterns that need no backtracking as one search, in time linear in the text: leftmost match first, of those the
//! pattern that stands first.
//!
//! In this order: the start of the text, where most lines match, in one pass if the patterns allow it; literals that a match
//! must hold; places where a match may start, judged by its first bytes; and once that has cost more than a few looks
//! at each byte, a search from the end of the text, which tells the first start for certain.

use super::backtrack::Exhausted;
use super::looks::Looks;
use super::machine::{Cache, Machine};
use super::one_pass::OnePass;
use super::scan::Scan;
use super::{ONE_PASS_BYTES_MAX, STACK_SLOTS};
use event::steps;
use memchr::memmem::Finder;
use regex_automata::nfa::thompson::NFA;
use regex_automata::util::pool::Pool;
use regex_syntax::hir::{Hir, HirKind};
use std::sync::Arc;

/// Steps that may be spent on places where a match may start, for each byte of the text.
const TRIES_PER_BYTE: u64 = 2;
/// And for each text.
const TRIES_MIN: u64 = 1024;

/// Steps that a search for all matches may take, and those for each byte of the text.
const ALL_STEPS_MIN: u64 = 1 << 20;
const ALL_STEPS_PER_BYTE: u64 = 8;

/// Where a group's text starts and ends.
pub(super) type Spans<'s> = &'s dyn Fn(usize) -> Option<(usize, usize)>;

/// Compiled patterns.
pub(super) struct Linear {
    /// The first of the patterns, as far as each can be matched in one pass.
    first: Vec<OnePass>,
    /// Number of patterns.
    count: usize,
    forward: Machine,
    backward: Machine,
    scan: Option<Scan>,
    /// For each pattern a literal that its matches hold; empty if one has none.
    literals: Vec<Finder<'static>>,
    /// All start at the start of a line.
    is_line_anchored: bool,
    caches: Pool<Caches, fn() -> Caches>,
}

struct Caches {
    forward: Cache,
    backward: Cache,
}

fn caches() -> Caches {
    Caches { forward: Cache::new(), backward: Cache::new() }
}

impl Linear {
    /// `groups`: how many groups each pattern has. Errors: the automaton would be too large.
    pub(super) fn new(
        patterns: &[Hir],
        groups: &[usize],
        looks: &Arc<Looks>,
        is_line_anchored: bool,
    ) -> Result<Self, String> {
        let forward = Machine::forward(patterns, groups, looks.clone())?;
        let backward = Machine::backward(patterns, looks.clone())?;
        let first = patterns.iter().map_while(|pattern| one_pass(pattern, looks)).collect();
        let literals: Option<Vec<_>> = patterns.iter().map(literal).collect();
        let literals = literals.unwrap_or_default().iter().map(|literal| Finder::new(literal).into_owned()).collect();
        Ok(Self {
            first,
            count: patterns.len(),
            scan: Scan::new(forward.nfa()),
            forward,
            backward,
            literals,
            is_line_anchored,
            caches: Pool::new(caches),
        })
    }

    /// How many of the patterns, from the first on, are matched in one pass at the start of a text.
    pub(super) fn one_pass_len(&self) -> usize {
        self.first.len()
    }

    /// Searches `text`. `found` gets where the match starts, which pattern it is, and its groups.
    pub(super) fn search<R>(&self, text: &str, found: impl FnOnce(usize, usize, Spans<'_>) -> R) -> Option<R> {
        if !self.first.is_empty() {
            let mut slots = [None; STACK_SLOTS];
            steps::count(text.len() * self.first.len());
            if let Some(nth) = self.first.iter().position(|pattern| pattern.match_start(text, &mut slots)) {
                let place = |slot: usize| slots.get(slot).copied().flatten().map(|at| at.get());
                return Some(found(0, nth, &|group| place(group * 2 + 2).zip(place(group * 2 + 3))));
            }
            if self.first.len() == self.count && self.is_line_anchored && !text.contains('\n') {
                return None;
            }
        }
        let mut caches = self.caches.get();
        let before = caches.forward.steps + caches.backward.steps;
        let found_at = self.find(&mut caches, text);
        steps::count((caches.forward.steps + caches.backward.steps - before) as usize);
        steps::count(text.len() * (self.literals.len() + 1));
        let (start, nth) = found_at?;
        Some(found(start, nth, &|group| self.forward.span(&caches.forward, nth, group)))
    }

    fn find(&self, caches: &mut Caches, text: &str) -> Option<(usize, usize)> {
        let Caches { forward, backward } = caches;
        if self.first.len() < self.count
            && let Some(nth) = self.forward.match_at(forward, text, 0)
        {
            return Some((0, nth));
        }
        let bytes = text.as_bytes();
        if !self.literals.is_empty() && self.literals.iter().all(|literal| literal.find(bytes).is_none()) {
            return None;
        }
        let until = forward.steps + TRIES_MIN + TRIES_PER_BYTE * bytes.len() as u64;
        let mut from = 1;
        while let Some(next) = self.next_start(bytes, from) {
            if next? > bytes.len() || forward.steps > until {
                break;
            }
            let start = next?;
            if text.is_char_boundary(start)
                && let Some(nth) = self.forward.match_at(forward, text, start)
            {
                return Some((start, nth));
            }
            from = start + 1;
        }
        let start = self.backward.leftmost(backward, text, from.min(bytes.len()))?;
        self.forward.match_at(forward, text, start).map(|nth| (start, nth))
    }

    /// Every match of the one pattern. `found` gets its groups and says where the next may start; none if it is the last.
    ///
    /// Where matches start is known after one look at each byte. How far each goes is not: a match may look ahead further
    /// than it goes, over and over, which is what the budget is for.
    pub(super) fn all(&self, text: &str, mut found: impl FnMut(Spans<'_>) -> Option<usize>) -> Result<(), Exhausted> {
        let bytes = text.as_bytes();
        if !self.literals.is_empty() && self.literals.iter().all(|literal| literal.find(bytes).is_none()) {
            return Ok(());
        }
        let mut caches = self.caches.get();
        let Caches { forward, backward } = &mut *caches;
        let mut starts = Vec::new();
        self.backward.starts(backward, text, 0, |at| starts.push(at));
        let before = forward.steps;
        let steps_max = ALL_STEPS_MIN + ALL_STEPS_PER_BYTE * bytes.len() as u64;
        let mut from = 0;
        for start in starts.into_iter().rev() {
            if start < from || self.forward.match_at(forward, text, start).is_none() {
                continue;
            }
            let steps = forward.steps - before;
            if steps > steps_max {
                return Err(Exhausted { steps });
            }
            match found(&|group| self.forward.span(forward, 0, group)) {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(())
    }

    /// The next place where a match may start: `Some(None)` if there is none, `None` if that can't be told.
    fn next_start(&self, text: &[u8], from: usize) -> Option<Option<usize>> {
        if self.is_line_anchored {
            let line = memchr::memchr(b'\n', text.get(from - 1..).unwrap_or(&[]));
            return Some(line.map(|at| from + at));
        }
        Some(self.scan.as_ref()?.next(text, from))
    }

    /// Steps taken by the machines of one thread so far.
    #[cfg(test)]
    pub(super) fn steps(&self) -> u64 {
        let caches = self.caches.get();
        caches.forward.steps + caches.backward.steps
    }

    /// How often a cache was emptied.
    #[cfg(test)]
    pub(super) fn emptied(&self) -> u64 {
        let caches = self.caches.get();
        caches.forward.emptied + caches.backward.emptied
    }
}

fn one_pass(pattern: &Hir, looks: &Arc<Looks>) -> Option<OnePass> {
    let config = NFA::config().nfa_size_limit(Some(ONE_PASS_BYTES_MAX));
    let nfa = NFA::compiler().configure(config).build_from_hir(pattern).ok()?;
    OnePass::new(&nfa, looks.clone())
}

/// The longest literal that every match holds.
fn literal(pattern: &Hir) -> Option<Vec<u8>> {
    match pattern.kind() {
        HirKind::Literal(literal) => Some(literal.0.to_vec()),
        HirKind::Capture(capture) => literal(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => literal(&repetition.sub),
        HirKind::Concat(parts) => parts.iter().filter_map(literal).max_by_key(Vec::len),
        _ => None,
    }
}
