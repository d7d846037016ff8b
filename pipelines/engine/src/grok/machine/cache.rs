//! The states of a machine that were made so far, and the registers of the match at hand.

use regex_automata::util::look::LookSet;
use std::collections::HashMap;
use std::sync::Arc;

/// Largest cache, in bytes: one for each thread that uses a processor at the same time.
pub(super) const CACHE_BYTES_MAX: usize = 8 << 20;

/// The state from which no match is reached.
pub(super) const DEAD: u32 = 0;
/// A step that was not made yet.
pub(super) const UNKNOWN: u32 = u32::MAX;
/// Bit of a step's target that has to be looked at: it is raw, ends a match, has a run or is dead.
pub(super) const SPECIAL: u32 = 1 << 31;
/// The operations of most steps: none.
pub(super) const NOTHING: u32 = 0;
/// As the source of an operation: the place at hand.
pub(super) const HERE: u32 = u32::MAX;
/// In a register: no place.
const NOWHERE: usize = usize::MAX;

/// Where a byte leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) next: u32,
    /// Number of its operations.
    pub(super) ops: u32,
}

/// A register gets the value of another, or the place at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) to: u32,
    pub(super) from: u32,
}

/// Operations that are done at once: each reads what stood there before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    pub(super) ops: Box<[Op]>,
    /// None reads a register that one before it has written, so that they can be done one after the other.
    is_ordered: bool,
}

impl Moves {
    /// Of `ops`, in an order in which they can be done one after the other if there is one.
    pub(super) fn new(mut ops: Vec<Op>) -> Self {
        let mut done = 0;
        // Next comes one whose register nobody behind it reads.
        while let Some(next) = (done..ops.len())
            .find(|nth| (done..ops.len()).all(|other| other == *nth || ops[other].from != ops[*nth].to))
        {
            ops.swap(done, next);
            done += 1;
        }
        Self { is_ordered: done == ops.len(), ops: ops.into() }
    }
}

/// Bytes that lead back to the state they come from, with operations that only the last of them needs.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) bytes: Box<[bool; 256]>,
    pub(super) ops: u32,
}

/// A match that ends here.
#[derive(Debug)]
pub(super) struct End {
    pub(super) pattern: usize,
    /// Tags and the registers that hold them.
    pub(super) registers: Box<[(u32, u32)]>,
}

#[derive(Debug)]
pub(super) struct State {
    /// For each way its NFA state, how many tags it has set, and for each of them the tag and its register.
    pub(super) threads: Arc<[u32]>,
    /// What stands between bytes has not been followed yet, as it depends on the place.
    pub(super) is_raw: bool,
    /// What has to be known of the place.
    pub(super) asked: LookSet,
    /// Where a raw state leads, by what holds at the place.
    pub(super) variants: Vec<(LookSet, Step)>,
    pub(super) end: Option<End>,
    pub(super) run: Option<Run>,
}

/// What one thread needs to use a machine.
#[derive(Debug)]
pub(in crate::grok) struct Cache {
    pub(super) states: Vec<State>,
    pub(super) table: Vec<Step>,
    pub(super) known: HashMap<Box<[u32]>, u32>,
    pub(super) ops: Vec<Moves>,
    /// The state before the first byte.
    pub(super) start: Option<u32>,
    pub(super) bytes: usize,
    pub(super) scratch: super::build::Scratch,
    registers: Vec<usize>,
    /// The tags of the last match.
    result: Vec<usize>,
    copied: Vec<usize>,
    /// Bytes looked at and parts of patterns followed, ever.
    pub(in crate::grok) steps: u64,
    /// How often it was emptied because it was full.
    #[cfg(test)]
    pub(in crate::grok) emptied: u64,
}

impl Cache {
    pub(in crate::grok) fn new() -> Self {
        let mut cache = Self {
            states: Vec::new(),
            table: Vec::new(),
            known: HashMap::new(),
            ops: Vec::new(),
            start: None,
            bytes: 0,
            scratch: Default::default(),
            registers: Vec::new(),
            result: Vec::new(),
            copied: Vec::new(),
            steps: 0,
            #[cfg(test)]
            emptied: 0,
        };
        cache.clear();
        cache
    }

    /// Forgets all states. Registers stay, so a match can go on.
    pub(super) fn clear(&mut self) {
        self.states.clear();
        self.table.clear();
        self.known.clear();
        self.ops.clear();
        self.ops.push(Moves::default());
        self.start = None;
        self.bytes = 0;
    }

    /// Makes sure that there are registers up to this one.
    pub(super) fn reserve(&mut self, register: u32) {
        if self.registers.len() <= register as usize {
            self.registers.resize(register as usize + 1, NOWHERE);
        }
    }

    pub(super) fn apply(&mut self, ops: u32, at: usize) {
        let Moves { ops, is_ordered } = &self.ops[ops as usize];
        if *is_ordered {
            let registers = self.registers.as_mut_slice();
            for op in ops {
                registers[op.to as usize] = value(registers, *op, at);
            }
            return;
        }
        // All are read before any is written.
        self.copied.clear();
        self.copied.extend(ops.iter().map(|op| value(&self.registers, *op, at)));
        for (op, value) in ops.iter().zip(&self.copied) {
            self.registers[op.to as usize] = *value;
        }
    }

    /// True if the step leads to a state at which a match ends, too.
    pub(super) fn leads_to_end(&self, step: Step) -> bool {
        self.states.get((step.next & !SPECIAL) as usize).is_some_and(|state| state.end.is_some())
    }

    /// Keeps the captures of the match that ends at a state; returns which pattern it is.
    pub(super) fn keep(&mut self, state: u32) -> usize {
        self.result.fill(NOWHERE);
        let Some(end) = &self.states[state as usize].end else { return 0 };
        for (tag, register) in &end.registers {
            if self.result.len() <= *tag as usize {
                self.result.resize(*tag as usize + 1, NOWHERE);
            }
            self.result[*tag as usize] = self.registers[*register as usize];
        }
        end.pattern
    }

    pub(super) fn kept(&self, tag: u32) -> Option<usize> {
        self.result.get(tag as usize).copied().filter(|at| *at != NOWHERE)
    }
}

#[inline]
fn value(registers: &[usize], op: Op, at: usize) -> usize {
    if op.from == HERE { at } else { registers[op.from as usize] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ops: &[(u32, u32)], is_ordered: bool) {
        let ops: Vec<_> = ops.iter().map(|(to, from)| Op { to: *to, from: *from }).collect();
        let mut cache = Cache::new();
        cache.registers = (0..8).map(|register| register * 10).collect();
        let mut expected = cache.registers.clone();
        for op in &ops {
            expected[op.to as usize] = value(&cache.registers, *op, 7);
        }
        cache.ops.push(Moves::new(ops));
        assert_eq!(cache.ops[1].is_ordered, is_ordered);
        cache.apply(1, 7);
        assert_eq!(cache.registers, expected);
    }

    #[test]
    fn operations_read_what_stood_there_before() {
        check(&[], true);
        check(&[(1, HERE), (2, HERE)], true);
        check(&[(1, 0), (2, 1), (3, 2)], true);
        check(&[(1, 2), (2, 1)], false);
        check(&[(4, 1), (1, 2), (2, 3), (3, 1), (5, HERE)], false);
        check(&[(1, 1), (2, 1)], true);
    }
}
