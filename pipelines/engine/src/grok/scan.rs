//! Where a match may start: a look at the first bytes of all patterns, so that most places are passed over in a few
//! instructions each.

use regex_automata::nfa::thompson::{NFA, State};
use regex_automata::util::primitives::StateID;

/// Bytes from the start of a match that are looked at.
const DEPTH: usize = 8;
/// Most states of the automaton that are followed for one byte of depth.
const STATES_MAX: usize = 1 << 14;

/// Which bytes can stand at each of the first places of a match.
#[derive(Debug)]
pub(super) struct Scan {
    /// Bit d of a byte's mask: it can be byte d of a match.
    masks: Box<[u8; 256]>,
    /// The bit that says that the first bytes of a match may have been seen.
    last: u8,
    depth: usize,
}

impl Scan {
    /// `None` if a look at the first bytes says too little.
    pub(super) fn new(nfa: &NFA) -> Option<Self> {
        let mut masks = Box::new([0_u8; 256]);
        let mut states = vec![nfa.start_anchored()];
        let mut depth = 0;
        while depth < DEPTH {
            let reached = follow(nfa, &states)?;
            if reached.can_end {
                break;
            }
            states.clear();
            for (from, to, next) in reached.moves {
                for byte in from..=to {
                    masks[usize::from(byte)] |= 1 << depth;
                }
                states.push(next);
            }
            states.sort_unstable();
            states.dedup();
            depth += 1;
        }
        let allowed: u32 = (0x20..0x7f_usize).map(|byte| masks[byte].count_ones()).sum();
        // Where nearly every byte may stand nearly everywhere, nothing is passed over.
        (depth > 0 && allowed < 95 * depth as u32 * 3 / 4).then(|| Self { masks, last: 1 << (depth - 1), depth })
    }

    /// The first place at or after `from` where a match may start.
    pub(super) fn next(&self, text: &[u8], from: usize) -> Option<usize> {
        let (mut seen, mut at) = (0_u8, from);
        for byte in text.get(from..)? {
            seen = (seen << 1 | 1) & self.masks[usize::from(*byte)];
            at += 1;
            if seen & self.last != 0 {
                return Some(at - self.depth);
            }
        }
        None
    }
}

/// What follows some states.
struct Reached {
    /// Bytes from, to, and the state they lead to.
    moves: Vec<(u8, u8, StateID)>,
    can_end: bool,
}

/// Follows what reads no byte from `states`, whatever it asks of the place. `None`: there is too much to follow.
fn follow(nfa: &NFA, states: &[StateID]) -> Option<Reached> {
    let mut reached = Reached { moves: Vec::new(), can_end: false };
    let (mut seen, mut stack) = (vec![false; nfa.states().len()], states.to_vec());
    let mut followed = 0;
    while let Some(id) = stack.pop() {
        if std::mem::replace(&mut seen[id.as_usize()], true) {
            continue;
        }
        followed += 1;
        if followed > STATES_MAX {
            return None;
        }
        match nfa.state(id) {
            State::ByteRange { trans } => reached.moves.push((trans.start, trans.end, trans.next)),
            State::Sparse(sparse) => {
                reached.moves.extend(sparse.transitions.iter().map(|trans| (trans.start, trans.end, trans.next)));
            }
            State::Dense(dense) => {
                let moves = dense.transitions.iter().enumerate().filter(|(_, next)| **next != StateID::ZERO);
                reached.moves.extend(moves.map(|(byte, next)| (byte as u8, byte as u8, *next)));
            }
            State::Look { next, .. } | State::Capture { next, .. } => stack.push(*next),
            State::Union { alternates } => stack.extend(alternates.iter()),
            State::BinaryUnion { alt1, alt2 } => stack.extend([*alt1, *alt2]),
            State::Fail => {}
            State::Match { .. } => reached.can_end = true,
        }
    }
    Some(reached)
}
