//! One pattern → a table that is walked once over a text from its start, capturing on the way.
//!
//! Only for patterns where at each byte there is but one way on (`regex_automata` calls them one-pass, and has the same
//! automaton). This one looks at four times as many bytes in the same time: bytes that change nothing, such as all but the
//! last of `[^"]*`, are skipped without following the table, and most steps have nothing to record.

use super::looks::Looks;
use super::run::Run;
use super::{ONE_PASS_BYTES_MAX, STACK_SLOTS};
use regex_automata::nfa::thompson::{NFA, State as NfaState, Transition};
use regex_automata::util::alphabet::ByteClasses;
use regex_automata::util::look::LookSet;
use regex_automata::util::primitives::{NonMaxUsize, StateID};
use std::sync::Arc;

/// The state from which no match is reached.
const DEAD: u32 = 0;
/// The action of most steps: none.
const NOTHING: u32 = 0;

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct OnePass {
    classes: ByteClasses,
    looks: Arc<Looks>,
    /// For each state, a step for each class of bytes.
    table: Vec<Step>,
    stride: usize,
    states: Vec<State>,
    actions: Vec<Action>,
    start: u32,
    slots: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Step {
    next: u32,
    action: u32,
}

#[derive(Debug, Default)]
struct State {
    /// What is done if the text may end here.
    end: Option<u32>,
    /// Bytes that lead back here and do nothing.
    run: Option<Run>,
}

/// What stands between two bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Action {
    /// Slots that get the place, one bit for each.
    slots: u64,
    /// What must hold at the place.
    looks: LookSet,
    /// True if a match that ends at the place is preferred to going on.
    yields: bool,
}

impl OnePass {
    /// The table of a compiled pattern; `None` if it is not one-pass, or its table would be too large.
    pub(super) fn new(nfa: &NFA, looks: Arc<Looks>) -> Option<Self> {
        let slots = nfa.group_info().slot_len();
        if slots > STACK_SLOTS || nfa.pattern_len() != 1 || nfa.look_set_any().available().is_err() {
            return None;
        }
        let mut build = Build::new(nfa);
        let start = build.state_of(nfa.start_anchored());
        while let Some(id) = build.open.pop() {
            build.compile(id)?;
        }
        let Build { classes, stride, table, mut states, actions, .. } = build;
        for (nth, state) in states.iter_mut().enumerate() {
            let (back, end) = (Step { next: nth as u32, action: NOTHING }, state.end.map(|end| actions[end as usize]));
            let step = |byte: u8| table[nth * stride + usize::from(classes.get(byte))];
            // Of all the ends on a run the last counts, but one that depends on its place has to be looked at.
            if end.is_none_or(|end| end.looks.is_empty()) {
                state.run = Run::new(|byte| step(byte) == back);
            }
        }
        Some(Self { classes, looks, table, stride, states, actions, start, slots })
    }

    /// Matches `text` from its start on. Fills in the slots of groups, as `regex_automata` numbers them.
    pub(super) fn match_start(&self, all: &str, slots: &mut [Option<NonMaxUsize>]) -> bool {
        let text = all.as_bytes();
        let (mut live, mut state, mut at, mut matched) = ([None; STACK_SLOTS], self.start, 0, false);
        loop {
            let here = &self.states[state as usize];
            if let Some(run) = &here.run {
                at += run.len(&text[at..]);
            }
            let mut ends = false;
            if let Some(end) = here.end {
                let end = &self.actions[end as usize];
                ends = self.holds(end, all, at);
                if ends {
                    slots[..self.slots].copy_from_slice(&live[..self.slots]);
                    record(end.slots, at, slots);
                    matched = true;
                }
            }
            let Some(byte) = text.get(at) else { return matched };
            let step = self.table[state as usize * self.stride + usize::from(self.classes.get(*byte))];
            if step.action != NOTHING {
                let action = &self.actions[step.action as usize];
                if ends && action.yields || !self.holds(action, all, at) {
                    return matched;
                }
                record(action.slots, at, &mut live);
            }
            if step.next == DEAD {
                return matched;
            }
            (state, at) = (step.next, at + 1);
        }
    }

    /// True if `at` is a place for `action`.
    fn holds(&self, action: &Action, text: &str, at: usize) -> bool {
        action.looks.is_empty() || self.looks.holding(action.looks, false, text, at) == action.looks
    }
}

/// Writes `at` into the slots whose bits are set.
fn record(mut marked: u64, at: usize, slots: &mut [Option<NonMaxUsize>]) {
    while marked != 0 {
        slots[marked.trailing_zeros() as usize] = NonMaxUsize::new(at);
        marked &= marked - 1;
    }
}

struct Build<'n> {
    nfa: &'n NFA,
    classes: ByteClasses,
    stride: usize,
    table: Vec<Step>,
    states: Vec<State>,
    actions: Vec<Action>,
    /// The state of each of the NFA's; [`DEAD`]: none yet.
    made: Vec<u32>,
    /// Those whose steps are still to be compiled.
    open: Vec<StateID>,
}

impl<'n> Build<'n> {
    fn new(nfa: &'n NFA) -> Self {
        let classes = *nfa.byte_classes();
        let stride = classes.alphabet_len() - 1; // Without the end of input, which is no step here.
        Self {
            nfa,
            classes,
            stride,
            table: vec![Step::default(); stride],
            states: vec![State::default()],
            actions: vec![Action::default()],
            made: vec![DEAD; nfa.states().len()],
            open: Vec::new(),
        }
    }

    fn state_of(&mut self, id: StateID) -> u32 {
        let known = self.made[id.as_usize()];
        if known != DEAD {
            return known;
        }
        let state = self.states.len() as u32;
        self.made[id.as_usize()] = state;
        self.states.push(State::default());
        self.table.resize(self.table.len() + self.stride, Step::default());
        self.open.push(id);
        state
    }

    fn action(&mut self, action: Action) -> u32 {
        let known = self.actions.iter().position(|known| *known == action);
        known.unwrap_or_else(|| {
            self.actions.push(action);
            self.actions.len() - 1
        }) as u32
    }

    /// Follows what reads no byte from `id` on, preferred ways first. `None`: two ways lead on at one byte.
    fn compile(&mut self, id: StateID) -> Option<()> {
        let (nfa, state) = (self.nfa, self.made[id.as_usize()]);
        let (mut seen, mut ways) = (vec![false; nfa.states().len()], vec![(id, Action::default())]);
        while let Some((id, action)) = ways.pop() {
            if std::mem::replace(&mut seen[id.as_usize()], true) {
                return None;
            }
            let yields = self.states[state as usize].end.is_some();
            let action = Action { yields, ..action };
            match nfa.state(id) {
                NfaState::ByteRange { trans } => self.step(state, trans, action)?,
                NfaState::Sparse(sparse) => {
                    sparse.transitions.iter().try_for_each(|trans| self.step(state, trans, action))?;
                }
                NfaState::Dense(dense) => {
                    for (byte, next) in dense.transitions.iter().enumerate().filter(|(_, next)| **next != StateID::ZERO)
                    {
                        self.step(state, &Transition { start: byte as u8, end: byte as u8, next: *next }, action)?;
                    }
                }
                NfaState::Look { look, next } => {
                    ways.push((*next, Action { looks: action.looks.insert(*look), ..action }));
                }
                NfaState::Union { alternates } => ways.extend(alternates.iter().rev().map(|id| (*id, action))),
                NfaState::BinaryUnion { alt1, alt2 } => ways.extend([(*alt2, action), (*alt1, action)]),
                NfaState::Capture { next, slot, .. } => {
                    // The first two slots are those of the whole match, which nobody asks for.
                    let slot = if slot.as_usize() < 2 { 0 } else { 1 << slot.as_usize() };
                    ways.push((*next, Action { slots: action.slots | slot, ..action }));
                }
                NfaState::Fail => {}
                NfaState::Match { .. } if yields => return None,
                NfaState::Match { .. } => {
                    let end = self.action(Action { yields: false, ..action });
                    self.states[state as usize].end = Some(end);
                }
            }
        }
        Some(())
    }

    fn step(&mut self, state: u32, trans: &Transition, action: Action) -> Option<()> {
        let step = Step { next: self.state_of(trans.next), action: self.action(action) };
        for byte in trans.start..=trans.end {
            let place = &mut self.table[state as usize * self.stride + usize::from(self.classes.get(byte))];
            if place.next != DEAD && *place != step {
                return None;
            }
            *place = step;
        }
        (self.table.len() * size_of::<Step>() <= ONE_PASS_BYTES_MAX).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex_automata::nfa::thompson::pikevm::PikeVM;
    use regex_automata::util::syntax;
    use regex_automata::{Anchored, Input};

    const PATTERNS: &[&str] = &[
        r"(a*)(b)?(c+|$)",
        r#"^(-|[^ -][^ ]*) \[([0-9:]+)\] "([^"]*)""#,
        r"(ab|c)*d?",
        r"(?:(a)|(b)|(c))*",
        r"([a-c]+?)(-)",
        r"\b(ab+)\b(?:-(c*))?",
        r"(é|a)+(\w)?",
        r"(a)(?:b(c)?)??$",
        r"^(?m:^)([^\n]*)$",
        r"",
        r"(a|b)*$|(c)",
    ];

    fn nfa(pattern: &str) -> NFA {
        let syntax = syntax::Config::new().multi_line(true);
        NFA::compiler().syntax(syntax).build(pattern).expect("a pattern")
    }

    proptest! {
        #[test]
        fn captures_are_those_of_the_slow_matcher(text in "[abc\\-\" éx0:\\[\\]\n]{0,12}", nth in 0..PATTERNS.len()) {
            let nfa = nfa(PATTERNS[nth]);
            if let Some(one_pass) = OnePass::new(&nfa, Arc::default()) {
                let slow = PikeVM::new_from_nfa(nfa.clone()).expect("a matcher");
                let (mut cache, mut expected) = (slow.create_cache(), slow.create_captures());
                slow.captures(&mut cache, Input::new(&text).anchored(Anchored::Yes), &mut expected);
                let mut slots = [None; STACK_SLOTS];
                prop_assert_eq!(one_pass.match_start(&text, &mut slots), expected.is_match());
                if expected.is_match() {
                    prop_assert_eq!(&slots[2..one_pass.slots], &expected.slots()[2..]);
                }
            }
        }
    }

    #[test]
    fn only_patterns_with_one_way_on_are_taken() {
        let taken = |pattern: &str| OnePass::new(&nfa(pattern), Arc::default()).is_some();
        assert!(PATTERNS.iter().filter(|pattern| taken(pattern)).count() >= 8, "the property test has its cases");
        assert!(taken(r"(a+)b") && taken(r"([^ ]+) (x)"));
        assert!(!taken(r"(a*)(a*)") && !taken(r"(?:(a)|(ab))") && !taken(r"(.*)b"));
        assert!(!taken(&"(a)".repeat(STACK_SLOTS / 2)), "more slots than there is room for");
    }
}
