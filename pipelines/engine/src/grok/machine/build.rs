//! Making the states of a machine: what a byte leads to, and what stands between bytes.

use super::cache::{CACHE_BYTES_MAX, DEAD, End, HERE, Moves, NOTHING, Op, Run, SPECIAL, State, Step, UNKNOWN};
use super::{Cache, Machine, NO_TAG};
use regex_automata::nfa::thompson::State as NfaState;
use regex_automata::util::look::LookSet;
use regex_automata::util::primitives::StateID;
use std::rc::Rc;

/// A tag and the register that it is in, [`HERE`] if it was just set; in order of tags.
type Tags = Rc<Vec<(u32, u32)>>;

/// One way in which a match may go on.
#[derive(Debug, Clone)]
struct Thread {
    at: StateID,
    tags: Tags,
}

/// Space that is used again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// For each NFA state the round in which it was last seen.
    seen: Vec<u32>,
    round: u32,
    /// For each tag the registers it was found in, in order.
    versions: Vec<Vec<u32>>,
}

impl Scratch {
    fn begin(&mut self, states: usize) {
        if self.seen.len() < states || self.round == u32::MAX {
            self.seen = vec![0; states];
            self.round = 0;
        }
        self.round += 1;
    }

    /// True if the state was not seen in this round.
    fn see(&mut self, state: StateID) -> bool {
        std::mem::replace(&mut self.seen[state.as_usize()], self.round) != self.round
    }
}

/// What follows a place, as far as it can be told.
struct Followed {
    threads: Vec<Thread>,
    /// What it depends on that is not known.
    asked: LookSet,
}

impl Machine {
    /// The state before the first byte.
    pub(super) fn start(&self, cache: &mut Cache) -> u32 {
        if let Some(start) = cache.start {
            return start;
        }
        if cache.states.is_empty() {
            self.add(cache, dead()); // Number 0.
        }
        let first = Thread { at: self.start, tags: Rc::new(Vec::new()) };
        // Raw whether or not it asks for anything: what it captures first is set at the place.
        let asked = self.follow(cache, std::slice::from_ref(&first), None).asked;
        let start = self.intern(cache, &[first], true, asked).next & !SPECIAL;
        cache.start = Some(start);
        start
    }

    /// Where `byte` leads from a state that is not raw. May empty the cache, and with it `state`.
    pub(super) fn build(&self, cache: &mut Cache, state: u32, byte: u8) -> Step {
        let threads = decode(&cache.states[state as usize].threads);
        let moved: Vec<_> = threads.into_iter().filter_map(|thread| self.moved(thread, byte)).collect();
        let followed = self.follow(cache, &moved, None);
        let is_emptied = self.make_room(cache);
        let step = match followed.asked.is_empty() {
            true => self.intern(cache, &followed.threads, false, LookSet::empty()),
            false => self.intern(cache, &moved, true, followed.asked),
        };
        if !is_emptied {
            let place = ((state as usize) << self.shift) + usize::from(self.classes[usize::from(byte)]);
            cache.table[place] = step;
            if step.next & !SPECIAL == state {
                self.extend_run(cache, state, byte, step.ops);
            }
        }
        step
    }

    /// Where a raw state leads at a place where just `holding` holds. May empty the cache.
    pub(super) fn build_variant(&self, cache: &mut Cache, state: u32, holding: LookSet) -> Step {
        let threads = decode(&cache.states[state as usize].threads);
        let followed = self.follow(cache, &threads, Some(holding));
        let is_emptied = self.make_room(cache);
        let step = self.intern(cache, &followed.threads, false, LookSet::empty());
        if !is_emptied {
            cache.states[state as usize].variants.push((holding, step));
        }
        step
    }

    /// Empties the cache if it is full; true if so.
    fn make_room(&self, cache: &mut Cache) -> bool {
        let is_full = cache.bytes > CACHE_BYTES_MAX;
        if is_full {
            cache.clear();
            self.add(cache, dead());
            #[cfg(test)]
            {
                cache.emptied += 1;
            }
        }
        is_full
    }

    fn moved(&self, thread: Thread, byte: u8) -> Option<Thread> {
        let next = match self.nfa.state(thread.at) {
            NfaState::ByteRange { trans } => trans.matches_byte(byte).then_some(trans.next),
            NfaState::Sparse(sparse) => sparse.matches_byte(byte),
            NfaState::Dense(dense) => dense.matches_byte(byte),
            _ => None, // A match that ended here.
        };
        next.map(|at| Thread { at, ..thread })
    }

    /// Follows what reads no byte, preferred ways first. Without `holding`, what depends on the place is asked for.
    fn follow(&self, cache: &mut Cache, threads: &[Thread], holding: Option<LookSet>) -> Followed {
        let scratch = &mut cache.scratch;
        scratch.begin(self.nfa.states().len());
        let (mut followed, mut asked, mut stack) = (Vec::new(), LookSet::empty(), Vec::new());
        'threads: for thread in threads {
            stack.push(thread.clone());
            while let Some(Thread { at, tags }) = stack.pop() {
                if !scratch.see(at) {
                    continue;
                }
                cache.steps += 1;
                match self.nfa.state(at) {
                    NfaState::ByteRange { .. } | NfaState::Sparse(_) | NfaState::Dense(_) => {
                        followed.push(Thread { at, tags });
                    }
                    NfaState::Match { .. } => {
                        followed.push(Thread { at, tags });
                        // Nothing after it is preferred to it. Which places start a match has no order.
                        if !self.is_backward && asked.is_empty() {
                            stack.clear();
                            break 'threads;
                        }
                    }
                    NfaState::Look { look, next } => match holding {
                        Some(holding) if !holding.contains(*look) => {}
                        _ => {
                            if holding.is_none() {
                                asked.set_insert(*look);
                            }
                            stack.push(Thread { at: *next, tags });
                        }
                    },
                    NfaState::Union { alternates } => {
                        stack.extend(alternates.iter().rev().map(|at| Thread { at: *at, tags: tags.clone() }));
                    }
                    NfaState::BinaryUnion { alt1, alt2 } => {
                        stack.push(Thread { at: *alt2, tags: tags.clone() });
                        stack.push(Thread { at: *alt1, tags });
                    }
                    NfaState::Capture { next, slot, .. } => {
                        let tags = match self.tags.get(slot.as_usize()) {
                            None | Some(&NO_TAG) => tags,
                            Some(tag) => set_here(tags, *tag),
                        };
                        stack.push(Thread { at: *next, tags });
                    }
                    NfaState::Fail => {}
                }
            }
        }
        Followed { threads: followed, asked }
    }

    /// The number of the state with these threads, and the operations that bring registers into the state's order.
    fn intern(&self, cache: &mut Cache, threads: &[Thread], is_raw: bool, asked: LookSet) -> Step {
        let (mut encoded, mut ops) = (vec![u32::from(is_raw)], Vec::new());
        cache.scratch.versions.resize(self.tag_count as usize, Vec::new());
        cache.scratch.begin(self.nfa.states().len());
        let mut touched = Vec::new();
        let mut end = None;
        for thread in threads {
            if !cache.scratch.see(thread.at) {
                continue; // A way before it goes on from the same state.
            }
            let from = encoded.len();
            encoded.extend([thread.at.as_u32(), thread.tags.len() as u32]);
            for (tag, source) in thread.tags.iter() {
                let versions = &mut cache.scratch.versions[*tag as usize];
                let known = versions.iter().position(|known| known == source);
                let version = known.unwrap_or_else(|| {
                    touched.push(*tag);
                    versions.push(*source);
                    versions.len() - 1
                });
                let register = version as u32 * self.tag_count + tag;
                if known.is_none() && *source != register {
                    ops.push(Op { to: register, from: *source });
                }
                encoded.extend([*tag, register]);
            }
            if let NfaState::Match { pattern_id } = self.nfa.state(thread.at) {
                let tags = encoded.get(from + 2..).unwrap_or(&[]);
                let registers = tags.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
                end = end.or(Some(End { pattern: pattern_id.as_usize(), registers }));
            }
        }
        for tag in touched {
            cache.scratch.versions[tag as usize].clear();
        }
        let ops = self.add_ops(cache, ops);
        if threads.is_empty() {
            return Step { next: DEAD | SPECIAL, ops };
        }
        let next = match cache.known.get(encoded.as_slice()) {
            Some(known) => *known,
            None => {
                let end = end.filter(|_| !is_raw);
                let threads = encoded.get(1..).unwrap_or(&[]).into();
                let state = State { threads, is_raw, asked, variants: Vec::new(), end, run: None };
                let number = self.add(cache, state);
                cache.bytes += encoded.len() * 8 + 64;
                cache.known.insert(encoded.into(), number);
                number
            }
        };
        Step { next: if cache.states[next as usize].is_special() { next | SPECIAL } else { next }, ops }
    }

    fn add(&self, cache: &mut Cache, state: State) -> u32 {
        cache.states.push(state);
        cache.table.resize(cache.states.len() << self.shift, Step { next: UNKNOWN, ops: NOTHING });
        cache.bytes += size_of::<State>() + (size_of::<Step>() << self.shift);
        (cache.states.len() - 1) as u32
    }

    fn add_ops(&self, cache: &mut Cache, ops: Vec<Op>) -> u32 {
        if ops.is_empty() {
            return NOTHING;
        }
        for op in &ops {
            cache.reserve(op.to);
        }
        cache.bytes += ops.len() * size_of::<Op>() + 32;
        cache.ops.push(Moves::new(ops));
        (cache.ops.len() - 1) as u32
    }

    /// Notes that `byte` leads from `state` back to it. Operations that set registers to the place at hand need to be done
    /// for the last byte of a run only.
    fn extend_run(&self, cache: &mut Cache, state: u32, byte: u8, ops: u32) {
        let Cache { states, ops: all, table, .. } = cache;
        let run = &mut states[state as usize].run;
        let fits = match run {
            Some(run) => all[run.ops as usize] == all[ops as usize],
            None => all[ops as usize].ops.iter().all(|op| op.from == HERE),
        };
        if !fits {
            return;
        }
        if run.is_none() {
            // Steps that were made before the state had a run have to stop at it from now on.
            for step in table.iter_mut().filter(|step| step.next == state) {
                step.next |= SPECIAL;
            }
        }
        let run = run.get_or_insert_with(|| Run { bytes: Box::new([false; 256]), ops });
        for other in 0..=u8::MAX {
            run.bytes[usize::from(other)] |= self.classes[usize::from(other)] == self.classes[usize::from(byte)];
        }
        for variant in states.iter_mut().flat_map(|state| &mut state.variants) {
            if variant.1.next == state {
                variant.1.next |= SPECIAL;
            }
        }
    }
}

fn dead() -> State {
    let asked = LookSet::empty();
    State { threads: [].into(), is_raw: false, asked, variants: Vec::new(), end: None, run: None }
}

/// With `tag` set to the place at hand.
fn set_here(mut tags: Tags, tag: u32) -> Tags {
    let all = Rc::make_mut(&mut tags);
    match all.binary_search_by_key(&tag, |(tag, _)| *tag) {
        Ok(at) => all[at].1 = HERE,
        Err(at) => all.insert(at, (tag, HERE)),
    }
    tags
}

fn decode(mut encoded: &[u32]) -> Vec<Thread> {
    let mut threads = Vec::new();
    while let [at, count, rest @ ..] = encoded {
        let (tags, rest) = rest.split_at((*count as usize * 2).min(rest.len()));
        let tags = Rc::new(tags.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
        threads.push(Thread { at: StateID::new_unchecked(*at as usize), tags });
        encoded = rest;
    }
    threads
}
