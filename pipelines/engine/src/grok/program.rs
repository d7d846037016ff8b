//! A [`Tree`] in, a program for a matcher that goes through characters out: for the backtracking matcher, and for the one
//! that explains why a line did not match.

use super::looks::Around;
use super::tree::{Place, Taste, Tree, one};
use regex_syntax::hir::ClassUnicode;

/// Longest program.
const STEPS_MAX: usize = 1 << 16;
/// Most lengths that one look-behind may have.
const BEHIND_LENGTHS_MAX: usize = 64;

/// One instruction. Numbers of instructions are where to go on.
#[derive(Debug, Clone)]
pub(super) enum Do {
    /// One character of the set.
    Set(usize),
    /// As many characters of the set as there are, one less at a time if that fails; at least, at most.
    Run {
        set: usize,
        min: u32,
        max: Option<u32>,
    },
    Place(Place),
    /// Look-around of a bounded length.
    Look(Box<Around>),
    /// The first; if that fails, the second.
    Split(usize, usize),
    Jump(usize),
    /// The place goes into the slot.
    Save(usize),
    /// If nothing was read since the slot was saved, the loop ends at the instruction.
    IfStuck {
        slot: usize,
        exit: usize,
    },
    /// The text of the last of these groups that took part.
    Back(Vec<usize>),
    /// Begins what is kept as a whole.
    Enter,
    /// Begins what must not match; the instruction is where it goes on if it does not.
    EnterNot(usize),
    /// What was matched since `Enter` is not tried in another way.
    LeaveKept,
    /// The same, and back to the place of `Enter`.
    LeaveLook,
    /// It matched and must not.
    LeaveNot,
    /// So many characters back.
    Rewind(usize),
    /// Only at the place of `Enter`.
    AtEntry,
    /// A part on top was matched. For the explanation.
    Mark,
    Match,
}

/// A program.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) all: Vec<Do>,
    pub(super) sets: Vec<ClassUnicode>,
    /// Two for each group, and one for each loop that may read nothing.
    pub(super) slots: usize,
}

impl Program {
    /// For the backtracking matcher. Errors: it is too long, or a look-behind has no bound.
    pub(super) fn new(tree: &Tree, groups: usize) -> Result<Self, String> {
        let mut build = Build { all: Vec::new(), sets: Vec::new(), slots: groups * 2, explains: false };
        build.tree(tree)?;
        build.push(Do::Match)?;
        Ok(build.finish())
    }

    /// For the explanation: captures nothing, a mark after each part, and what can't be decided character by character is
    /// taken to hold.
    pub(super) fn explaining(parts: &[&Tree]) -> Result<Self, String> {
        let mut build = Build { all: Vec::new(), sets: Vec::new(), slots: 0, explains: true };
        for part in parts {
            build.tree(part)?;
            build.push(Do::Mark)?;
        }
        build.push(Do::Match)?;
        Ok(build.finish())
    }
}

struct Build {
    all: Vec<Do>,
    sets: Vec<ClassUnicode>,
    slots: usize,
    explains: bool,
}

impl Build {
    fn finish(self) -> Program {
        Program { all: self.all, sets: self.sets, slots: self.slots }
    }

    fn push(&mut self, instruction: Do) -> Result<usize, String> {
        if self.all.len() >= STEPS_MAX {
            return Err(format!("needs a program of more than {STEPS_MAX} steps; make its repeats smaller"));
        }
        self.all.push(instruction);
        Ok(self.all.len() - 1)
    }

    fn next(&self) -> usize {
        self.all.len()
    }

    fn set(&mut self, set: &ClassUnicode) -> usize {
        self.sets.iter().position(|known| known == set).unwrap_or_else(|| {
            self.sets.push(set.clone());
            self.sets.len() - 1
        })
    }

    fn tree(&mut self, tree: &Tree) -> Result<(), String> {
        match tree {
            Tree::Empty => {}
            Tree::Char(c) => {
                let set = self.set(&one(*c));
                self.push(Do::Set(set))?;
            }
            Tree::Set(set) => {
                let set = self.set(set);
                self.push(Do::Set(set))?;
            }
            Tree::Place(place) => {
                self.push(Do::Place(*place))?;
            }
            Tree::Concat(trees) => trees.iter().try_for_each(|tree| self.tree(tree))?,
            Tree::Either(trees) => self.either(trees.len(), |build, nth| build.tree(&trees[nth]))?,
            Tree::Repeat { min, max, taste: Taste::Possessive, what } if !self.explains => {
                self.push(Do::Enter)?;
                self.repeat(*min, *max, Taste::Greedy, what)?;
                self.push(Do::LeaveKept)?;
            }
            Tree::Repeat { min, max, taste, what } => self.repeat(*min, *max, *taste, what)?,
            Tree::Group(_, tree) if self.explains => self.tree(tree)?,
            Tree::Group(nth, tree) => {
                self.push(Do::Save(nth * 2))?;
                self.tree(tree)?;
                self.push(Do::Save(nth * 2 + 1))?;
            }
            Tree::Named(_, tree) => self.tree(tree)?,
            Tree::Around { ahead, negated, what } => self.around(*ahead, *negated, what)?,
            Tree::Atomic(tree) if self.explains => self.tree(tree)?,
            Tree::Atomic(tree) => {
                self.push(Do::Enter)?;
                self.tree(tree)?;
                self.push(Do::LeaveKept)?;
            }
            Tree::Back(_) if self.explains => {
                self.repeat(0, None, Taste::Greedy, &Tree::Set(super::parse::any(true)))?;
            }
            Tree::Back(groups) => {
                self.push(Do::Back(groups.clone()))?;
            }
        }
        Ok(())
    }

    /// `count` alternatives, each made by `one`.
    fn either(
        &mut self,
        count: usize,
        mut one: impl FnMut(&mut Self, usize) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut ends = Vec::new();
        for nth in 0..count {
            let is_last = nth + 1 == count;
            let split = self.next();
            if !is_last {
                self.push(Do::Split(split + 1, 0))?;
            }
            one(self, nth)?;
            if !is_last {
                ends.push(self.push(Do::Jump(0))?);
                self.all[split] = Do::Split(split + 1, self.next());
            }
        }
        let end = self.next();
        for jump in ends {
            self.all[jump] = Do::Jump(end);
        }
        Ok(())
    }

    fn repeat(&mut self, min: u32, max: Option<u32>, taste: Taste, what: &Tree) -> Result<(), String> {
        let run = match what {
            Tree::Set(set) => Some(self.set(set)),
            Tree::Char(c) => Some(self.set(&one(*c))),
            _ => None,
        };
        if let (Some(set), Taste::Greedy | Taste::Possessive, false) = (run, taste, self.explains) {
            self.push(Do::Run { set, min, max })?;
            return Ok(());
        }
        for _ in 0..min {
            self.tree(what)?;
        }
        let Some(max) = max else { return self.again(taste, what) };
        let mut splits = Vec::new();
        for _ in min..max {
            splits.push(self.push(Do::Split(0, 0))?);
            self.tree(what)?;
        }
        let exit = self.next();
        for split in splits {
            self.all[split] = choice(taste, split + 1, exit);
        }
        Ok(())
    }

    /// Any number of times.
    fn again(&mut self, taste: Taste, what: &Tree) -> Result<(), String> {
        let split = self.push(Do::Split(0, 0))?;
        let can_be_stuck = what.length().0 == 0 && !self.explains;
        let slot = self.slots;
        if can_be_stuck {
            self.slots += 1;
            self.push(Do::Save(slot))?;
        }
        self.tree(what)?;
        let check = self.next();
        if can_be_stuck {
            self.push(Do::IfStuck { slot, exit: 0 })?;
        }
        self.push(Do::Jump(split))?;
        let exit = self.next();
        if can_be_stuck {
            self.all[check] = Do::IfStuck { slot, exit };
        }
        self.all[split] = choice(taste, split + 1, exit);
        Ok(())
    }

    fn around(&mut self, ahead: bool, negated: bool, what: &Tree) -> Result<(), String> {
        if let Some(around) = Around::bounded(ahead, negated, what) {
            self.push(Do::Look(Box::new(around)))?;
            return Ok(());
        }
        if self.explains {
            return Ok(());
        }
        let enter = self.push(Do::Enter)?;
        if ahead {
            self.tree(what)?;
        } else {
            let (fewest, most) = what.length();
            let most = most.filter(|most| most - fewest < BEHIND_LENGTHS_MAX);
            let most = most.ok_or("has a look-behind without a bound; bound its repeats")?;
            self.either(most - fewest + 1, |build, nth| {
                build.push(Do::Rewind(fewest + nth))?;
                build.tree(what)?;
                build.push(Do::AtEntry).map(|_| ())
            })?;
        }
        self.push(if negated { Do::LeaveNot } else { Do::LeaveLook })?;
        if negated {
            self.all[enter] = Do::EnterNot(self.next());
        }
        Ok(())
    }
}

fn choice(taste: Taste, again: usize, exit: usize) -> Do {
    if taste == Taste::Lazy { Do::Split(exit, again) } else { Do::Split(again, exit) }
}
