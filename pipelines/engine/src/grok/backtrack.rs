//! A matcher that tries one way after the other, for patterns that need it: it takes a number of steps that may be
//! exponential in the text, so it has a budget.

use super::looks::contains;
use super::program::{Do, Program};

/// Steps that every text may take.
const STEPS_MIN: u64 = 100_000;
/// Steps more for each byte of it.
const STEPS_PER_BYTE: u64 = 8;
/// Most ways that may be open at a time: this bounds memory.
const OPEN_MAX: usize = 1 << 18;
/// In a slot: no place.
const NOWHERE: usize = usize::MAX;

/// The budget ran out before it was known whether the text matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// Steps that were taken.
    pub steps: u64,
}

/// A way that was not taken yet.
#[derive(Debug, Clone, Copy)]
struct Open {
    next: usize,
    at: usize,
    /// Of a run of characters: how far back it may still give some up.
    low: usize,
    entries: usize,
    changes: usize,
}

/// One search.
pub(super) struct Search<'p> {
    program: &'p Program,
    text: &'p str,
    slots: Vec<usize>,
    open: Vec<Open>,
    /// For each `Enter` that was not left: how many ways were open, and where it was.
    entries: Vec<(usize, usize)>,
    /// Slots that were changed, and what they held.
    changes: Vec<(usize, usize)>,
    steps: u64,
    steps_max: u64,
}

impl<'p> Search<'p> {
    pub(super) fn new(program: &'p Program, text: &'p str) -> Self {
        Self {
            program,
            text,
            slots: Vec::new(),
            open: Vec::new(),
            entries: Vec::new(),
            changes: Vec::new(),
            steps: 0,
            steps_max: STEPS_MIN + STEPS_PER_BYTE * text.len() as u64,
        }
    }

    /// Where the first match starts, if that is at `most` or before.
    pub(super) fn find(&mut self, most: usize, is_line_anchored: bool) -> Result<Option<usize>, Exhausted> {
        self.find_from(0, most, is_line_anchored)
    }

    /// Like [`Search::find`], for a match that starts at `from` or after it.
    pub(super) fn find_from(
        &mut self,
        from: usize,
        most: usize,
        is_line_anchored: bool,
    ) -> Result<Option<usize>, Exhausted> {
        let starts = (from..=most.min(self.text.len())).filter(|at| self.text.is_char_boundary(*at));
        for start in starts {
            let is_line_start = start == 0 || self.text.as_bytes().get(start - 1) == Some(&b'\n');
            if (is_line_start || !is_line_anchored) && self.match_at(start)? {
                return Ok(Some(start));
            }
        }
        Ok(None)
    }

    /// Steps that were taken so far.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// What the match captured in a group.
    pub(super) fn span(&self, group: usize) -> Option<(usize, usize)> {
        let (start, end) = (*self.slots.get(group * 2)?, *self.slots.get(group * 2 + 1)?);
        (start != NOWHERE && end != NOWHERE).then_some((start, end))
    }

    fn match_at(&mut self, start: usize) -> Result<bool, Exhausted> {
        self.slots.clear();
        self.slots.resize(self.program.slots, NOWHERE);
        self.open.clear();
        self.entries.clear();
        self.changes.clear();
        let (mut next, mut at) = (0, start);
        loop {
            self.steps += 1;
            if self.steps > self.steps_max || self.open.len() > OPEN_MAX || self.changes.len() > OPEN_MAX {
                return Err(Exhausted { steps: self.steps });
            }
            if matches!(self.program.all.get(next), Some(Do::Match)) {
                return Ok(true);
            }
            match self.step(next, at).or_else(|| self.go_back()) {
                Some(place) => (next, at) = place,
                None => return Ok(false),
            }
        }
    }

    /// Does one instruction; `None`: this way leads nowhere.
    fn step(&mut self, number: usize, at: usize) -> Option<(usize, usize)> {
        let program = self.program;
        match program.all.get(number)? {
            Do::Set(set) => {
                let c = self.text.get(at..)?.chars().next()?;
                contains(&program.sets[*set], c).then_some((number + 1, at + c.len_utf8()))
            }
            Do::Run { set, min, max } => self.run(*set, *min, *max, number, at),
            Do::Place(place) => place.holds(self.text, at).then_some((number + 1, at)),
            Do::Look(around) => around.holds(self.text, at).then_some((number + 1, at)),
            Do::Split(first, second) => {
                self.later(*second, at, NOWHERE);
                Some((*first, at))
            }
            Do::Jump(next) => Some((*next, at)),
            Do::Save(slot) => {
                self.changes.push((*slot, self.slots[*slot]));
                self.slots[*slot] = at;
                Some((number + 1, at))
            }
            Do::IfStuck { slot, exit } => Some((if self.slots[*slot] == at { *exit } else { number + 1 }, at)),
            Do::Back(groups) => {
                let (start, end) = groups.iter().rev().find_map(|group| self.span(*group))?;
                let known = self.text.get(start..end)?;
                self.steps += known.len() as u64;
                self.text.get(at..)?.starts_with(known).then_some((number + 1, at + known.len()))
            }
            Do::Enter => {
                self.entries.push((self.open.len(), at));
                Some((number + 1, at))
            }
            Do::EnterNot(otherwise) => {
                self.later(*otherwise, at, NOWHERE);
                self.entries.push((self.open.len(), at));
                Some((number + 1, at))
            }
            Do::LeaveKept => {
                let (open, _) = self.entries.pop()?;
                self.open.truncate(open);
                Some((number + 1, at))
            }
            Do::LeaveLook => {
                let (open, entry) = self.entries.pop()?;
                self.open.truncate(open);
                Some((number + 1, entry))
            }
            Do::LeaveNot => {
                let (open, _) = self.entries.pop()?;
                self.open.truncate(open.saturating_sub(1)); // Nor is the way on taken.
                None
            }
            Do::Rewind(count) => {
                let mut before = self.text.get(..at)?.char_indices().rev();
                let to = if *count == 0 { at } else { before.nth(count - 1)?.0 };
                Some((number + 1, to))
            }
            Do::AtEntry => self.entries.last().is_some_and(|(_, entry)| *entry == at).then_some((number + 1, at)),
            Do::Mark => Some((number + 1, at)),
            Do::Match => None,
        }
    }

    fn run(&mut self, set: usize, min: u32, max: Option<u32>, number: usize, at: usize) -> Option<(usize, usize)> {
        let set = &self.program.sets[set];
        let (mut end, mut count, mut low) = (at, 0, NOWHERE);
        for c in self.text.get(at..)?.chars() {
            if count == min {
                low = end;
            }
            if max == Some(count) || !contains(set, c) {
                break;
            }
            end += c.len_utf8();
            count += 1;
        }
        self.steps += u64::from(count);
        if count < min {
            return None;
        }
        if low != NOWHERE && low < end {
            self.later(number + 1, end, low);
        }
        Some((number + 1, end))
    }

    fn later(&mut self, next: usize, at: usize, low: usize) {
        self.open.push(Open { next, at, low, entries: self.entries.len(), changes: self.changes.len() });
    }

    /// Back to the last way that is still open.
    fn go_back(&mut self) -> Option<(usize, usize)> {
        let mut last = self.open.pop()?;
        while self.changes.len() > last.changes {
            let (slot, held) = self.changes.pop()?;
            self.slots[slot] = held;
        }
        self.entries.truncate(last.entries);
        if last.low != NOWHERE {
            // One character less of the run.
            last.at = self.text.get(..last.at)?.char_indices().next_back()?.0;
            if last.at > last.low {
                self.open.push(last);
            }
        }
        Some((last.next, last.at))
    }
}
