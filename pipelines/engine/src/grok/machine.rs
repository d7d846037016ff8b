//! An automaton that is built while it is used: patterns → matches and their captures, in time linear in the text.
//!
//! A state stands for all the ways in which a match may go on, in the order in which Oniguruma would try them, and for the
//! registers that hold what each way has captured (Laurikari's tagged automaton, made lazily). So one look at a byte moves
//! all ways of all patterns at once, whatever their number. States are kept in a [`Cache`] of a bounded size, which is
//! emptied when it is full.
//!
//! Nothing here depends on how many ways there are but the time to make a state; [`Cache::steps`] counts both.

mod build;
mod cache;

pub(super) use cache::Cache;

use super::looks::Looks;
use cache::{DEAD, NOTHING, SPECIAL, State, Step, UNKNOWN};
use regex_automata::PatternID;
use regex_automata::nfa::thompson::{NFA, WhichCaptures};
use regex_automata::util::look::LookSet;
use regex_automata::util::primitives::StateID;
use regex_syntax::hir::Hir;
use std::sync::Arc;

/// Largest automaton of one processor before states are made, in bytes.
const NFA_BYTES_MAX: usize = 16 << 20;

/// No tag: nobody reads the slot.
const NO_TAG: u32 = u32::MAX;

/// Compiled patterns.
#[derive(Debug)]
pub(super) struct Machine {
    nfa: NFA,
    looks: Arc<Looks>,
    /// It reads a text from its end, and tells where matches start.
    is_backward: bool,
    /// The tag of each slot of the NFA.
    tags: Vec<u32>,
    tag_count: u32,
    /// The first tag of each pattern: two for each group.
    bases: Vec<u32>,
    classes: Box<[u8; 256]>,
    /// A state's row in the table starts at its number shifted by this.
    shift: u32,
    start: StateID,
}

impl Machine {
    /// A machine that matches from a place on, and captures. `groups`: how many each pattern has.
    pub(super) fn forward(patterns: &[Hir], groups: &[usize], looks: Arc<Looks>) -> Result<Self, String> {
        let nfa = compile(patterns, NFA::config().nfa_size_limit(Some(NFA_BYTES_MAX)))?;
        let mut tags = vec![NO_TAG; nfa.group_info().slot_len()];
        let (mut bases, mut next) = (Vec::new(), 0);
        for (nth, count) in groups.iter().enumerate() {
            bases.push(next);
            for group in 0..*count {
                let slots = PatternID::new(nth).ok().and_then(|pattern| nfa.group_info().slots(pattern, group + 1));
                let Some((start, end)) = slots else { continue };
                (tags[start], tags[end]) = (next + 2 * group as u32, next + 2 * group as u32 + 1);
            }
            next += 2 * *count as u32;
        }
        let start = nfa.start_anchored();
        Ok(Self::new(nfa, looks, false, start, tags, next, bases))
    }

    /// A machine that finds where the first match starts.
    pub(super) fn backward(patterns: &[Hir], looks: Arc<Looks>) -> Result<Self, String> {
        let config = NFA::config().nfa_size_limit(Some(NFA_BYTES_MAX));
        let nfa = compile(patterns, config.reverse(true).which_captures(WhichCaptures::None))?;
        let (start, tags) = (nfa.start_unanchored(), vec![NO_TAG; nfa.group_info().slot_len()]);
        Ok(Self::new(nfa, looks, true, start, tags, 0, Vec::new()))
    }

    fn new(
        nfa: NFA,
        looks: Arc<Looks>,
        is_backward: bool,
        start: StateID,
        tags: Vec<u32>,
        tag_count: u32,
        bases: Vec<u32>,
    ) -> Self {
        let classes = Box::new(std::array::from_fn(|byte| nfa.byte_classes().get(byte as u8)));
        let shift = nfa.byte_classes().stride2() as u32;
        Self { nfa, looks, is_backward, tags, tag_count, bases, classes, shift, start }
    }

    /// The automaton of its parts, for those that look at the patterns.
    pub(super) fn nfa(&self) -> &NFA {
        &self.nfa
    }

    /// Matches `text` from `at` on. Returns which pattern matched; [`Machine::span`] has its captures.
    pub(super) fn match_at(&self, cache: &mut Cache, text: &str, from: usize) -> Option<usize> {
        let bytes = text.as_bytes();
        let (mut state, mut at, mut found) = (self.start(cache), from, None);
        let found = loop {
            let here = &cache.states[state as usize];
            if here.is_raw {
                let step = self.resolve(cache, state, text, at);
                cache.apply(step.ops, at);
                state = step.next & !SPECIAL;
                if state == DEAD {
                    break found;
                }
                continue;
            }
            if let Some(run) = &here.run {
                let rest = bytes.get(at..).unwrap_or(&[]);
                let stop = rest.iter().position(|byte| !run.bytes[usize::from(*byte)]).unwrap_or(rest.len());
                if stop > 0 {
                    at += stop;
                    let ops = run.ops;
                    cache.apply(ops, at);
                }
            }
            let ends = cache.states[state as usize].end.is_some();
            let Some(byte) = bytes.get(at) else {
                break if ends { Some(cache.keep(state)) } else { found };
            };
            let mut step =
                cache.table[((state as usize) << self.shift) + usize::from(self.classes[usize::from(*byte)])];
            if ends && (step.next == UNKNOWN || !cache.leads_to_end(step)) {
                found = Some(cache.keep(state));
            }
            if step.next == UNKNOWN {
                step = self.build(cache, state, *byte);
            }
            loop {
                at += 1;
                if step.ops != NOTHING {
                    cache.apply(step.ops, at);
                }
                if step.next & SPECIAL != 0 {
                    break;
                }
                // A state with nothing to note: on to the next byte.
                state = step.next;
                let Some(byte) = bytes.get(at) else { break };
                let row = (state as usize) << self.shift;
                step = cache.table[row + usize::from(self.classes[usize::from(*byte)])];
                if step.next == UNKNOWN {
                    step = self.build(cache, state, *byte);
                }
            }
            if step.next & SPECIAL != 0 {
                state = step.next & !SPECIAL;
            }
            if state == DEAD {
                break found;
            }
        };
        cache.steps += (at - from) as u64 + 1;
        found
    }

    /// What the last match of [`Machine::match_at`] captured in a group of a pattern: its start and end.
    pub(super) fn span(&self, cache: &Cache, pattern: usize, group: usize) -> Option<(usize, usize)> {
        let tag = self.bases.get(pattern)? + 2 * group as u32;
        cache.kept(tag).zip(cache.kept(tag + 1))
    }

    /// Where the first match starts, if there is one at `from` or after it. For a machine that was made backward.
    pub(super) fn leftmost(&self, cache: &mut Cache, text: &str, from: usize) -> Option<usize> {
        let mut leftmost = None;
        self.starts(cache, text, from, |at| leftmost = Some(at));
        leftmost
    }

    /// Tells of each place at `from` or after it where a match starts, the last one first. For a machine that was made
    /// backward.
    pub(super) fn starts(&self, cache: &mut Cache, text: &str, from: usize, mut found: impl FnMut(usize)) {
        let bytes = text.as_bytes();
        let (mut state, mut at) = (self.start(cache), bytes.len());
        while at >= from {
            let here = &cache.states[state as usize];
            if here.is_raw {
                state = self.resolve(cache, state, text, at).next & !SPECIAL;
                continue;
            }
            if let Some(run) = &here.run
                && here.end.is_none()
            {
                let before = bytes.get(from..at).unwrap_or(&[]);
                at =
                    before.iter().rposition(|byte| !run.bytes[usize::from(*byte)]).map_or(from, |stop| from + stop + 1);
            }
            if here.end.is_some() && text.is_char_boundary(at) {
                found(at);
            }
            if at == from {
                break;
            }
            let byte = bytes[at - 1];
            let mut step = cache.table[((state as usize) << self.shift) + usize::from(self.classes[usize::from(byte)])];
            if step.next == UNKNOWN {
                step = self.build(cache, state, byte);
            }
            state = step.next & !SPECIAL;
            at -= 1;
        }
        cache.steps += (bytes.len() - from) as u64 + 1;
    }

    fn resolve(&self, cache: &mut Cache, state: u32, text: &str, at: usize) -> Step {
        let here = &cache.states[state as usize];
        let holding = match here.asked.is_empty() {
            true => LookSet::empty(),
            false => self.looks.holding(here.asked, self.is_backward, text, at),
        };
        match here.variants.iter().find(|(known, _)| *known == holding) {
            Some((_, step)) => *step,
            None => self.build_variant(cache, state, holding),
        }
    }
}

impl State {
    /// True if the loop has to stop at it.
    fn is_special(&self) -> bool {
        self.is_raw || self.end.is_some() || self.run.is_some() || self.threads.is_empty()
    }
}

fn compile(patterns: &[Hir], config: regex_automata::nfa::thompson::Config) -> Result<NFA, String> {
    NFA::compiler().configure(config).build_many_from_hir(patterns).map_err(|error| match error.size_limit() {
        Some(bytes) => format!("needs a matcher of more than {bytes} bytes; make its repeats smaller"),
        None => format!("no automaton: {error}"),
    })
}
