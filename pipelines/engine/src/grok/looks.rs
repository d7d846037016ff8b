//! What must hold at a place between characters, as an automaton asks it: line ends, word boundaries, and look-around of
//! a bounded number of characters, such as `(?<![0-9])`.
//!
//! Bounded look-around keeps a match linear in the text: to answer costs no more than its own length. An automaton of
//! `regex_automata` has places for the kinds of look-around that its crate knows; those that no pattern of ours uses
//! stand for ours, [`OWN`] in number.

use super::tree::{Place, Tree, are_disjoint, one};
use regex_automata::util::look::{Look, LookMatcher, LookSet};
use regex_syntax::hir::{self, ClassUnicode};

/// Most alternatives of one bounded look-around.
const WAYS_MAX: usize = 64;
/// Most characters of one way.
const UNITS_MAX: usize = 64;

/// Places of the automaton that stand for our own look-around, and their names in a pattern.
const OWN: [(Look, hir::Look); 10] = [
    (Look::StartCRLF, hir::Look::StartCRLF),
    (Look::EndCRLF, hir::Look::EndCRLF),
    (Look::WordStartAscii, hir::Look::WordStartAscii),
    (Look::WordEndAscii, hir::Look::WordEndAscii),
    (Look::WordStartUnicode, hir::Look::WordStartUnicode),
    (Look::WordEndUnicode, hir::Look::WordEndUnicode),
    (Look::WordStartHalfAscii, hir::Look::WordStartHalfAscii),
    (Look::WordEndHalfAscii, hir::Look::WordEndHalfAscii),
    (Look::WordStartHalfUnicode, hir::Look::WordStartHalfUnicode),
    (Look::WordEndHalfUnicode, hir::Look::WordEndHalfUnicode),
];

/// One step of a way.
#[derive(Debug, Clone, PartialEq)]
enum Unit {
    Set(ClassUnicode),
    Place(Place),
}

/// Look-around of a bounded number of characters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Around {
    ahead: bool,
    negated: bool,
    ways: Vec<Vec<Unit>>,
    /// Of a way that is one character: the ASCII ones of the set, one bit each.
    ascii: Option<u128>,
}

/// The look-around of an automaton's patterns.
#[derive(Debug, Default)]
pub(super) struct Looks {
    own: Vec<Around>,
    matcher: LookMatcher,
}

impl Looks {
    /// The place in the automaton that stands for `around`. `None`: there are no more.
    pub(super) fn stand_in(&mut self, around: Around) -> Option<hir::Look> {
        let nth = self.own.iter().position(|known| *known == around).unwrap_or_else(|| {
            self.own.push(around);
            self.own.len() - 1
        });
        OWN.get(nth).map(|(_, look)| *look)
    }

    /// Those of `asked` that hold at `at`. `reversed`: the automaton reads the text backwards.
    pub(super) fn holding(&self, asked: LookSet, reversed: bool, text: &str, at: usize) -> LookSet {
        let mut holding = LookSet::empty();
        for look in asked.iter() {
            if self.holds(if reversed { look.reversed() } else { look }, text, at) {
                holding.set_insert(look);
            }
        }
        holding
    }

    fn holds(&self, look: Look, text: &str, at: usize) -> bool {
        let bytes = text.as_bytes();
        if let Some(nth) = OWN.iter().position(|(own, _)| *own == look) {
            return self.own.get(nth).is_some_and(|around| around.holds(text, at));
        }
        if matches!(look, Look::WordUnicode | Look::WordUnicodeNegate) {
            let before = at.checked_sub(1).map(|at| bytes[at]);
            let (before, after) = (before.unwrap_or(0), bytes.get(at).copied().unwrap_or(0));
            if before.is_ascii() && after.is_ascii() {
                return (is_word(before) != is_word(after)) == (look == Look::WordUnicode);
            }
        }
        self.matcher.matches(look, bytes, at)
    }
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl Place {
    /// True if `at` is such a place.
    pub(super) fn holds(self, text: &str, at: usize) -> bool {
        let (matcher, bytes) = (LookMatcher::new(), text.as_bytes());
        matcher.matches(self.look(), bytes, at)
    }

    fn look(self) -> Look {
        match self {
            Self::LineStart => Look::StartLF,
            Self::LineEnd => Look::EndLF,
            Self::TextStart => Look::Start,
            Self::TextEnd => Look::End,
            Self::Word => Look::WordUnicode,
            Self::NotWord => Look::WordUnicodeNegate,
        }
    }

    /// Its name in a pattern for the automaton.
    pub(super) fn in_hir(self) -> hir::Look {
        match self {
            Self::LineStart => hir::Look::StartLF,
            Self::LineEnd => hir::Look::EndLF,
            Self::TextStart => hir::Look::Start,
            Self::TextEnd => hir::Look::End,
            Self::Word => hir::Look::WordUnicode,
            Self::NotWord => hir::Look::WordUnicodeNegate,
        }
    }
}

impl Around {
    /// The look-around of `what`; `None` if it has no bound, captures, or too many ways.
    pub(super) fn bounded(ahead: bool, negated: bool, what: &Tree) -> Option<Self> {
        let ways = ways(what)?;
        let ascii = match ways.as_slice() {
            [way] => match way.as_slice() {
                [Unit::Set(set)] => Some(ascii_of(set)),
                _ => None,
            },
            _ => None,
        };
        Some(Self { ahead, negated, ways, ascii })
    }

    /// True if it holds at `at`.
    pub(super) fn holds(&self, text: &str, at: usize) -> bool {
        if let Some(ascii) = self.ascii {
            let beside = if self.ahead { Some(at) } else { at.checked_sub(1) };
            match beside.and_then(|at| text.as_bytes().get(at)) {
                None => return self.negated,
                Some(byte) if byte.is_ascii() => return (ascii >> byte & 1 == 1) != self.negated,
                Some(_) => {}
            }
        }
        let found = self.ways.iter().any(|way| match self.ahead {
            true => walk(way.iter(), text, at, forwards),
            false => walk(way.iter().rev(), text, at, backwards),
        });
        found != self.negated
    }
}

fn forwards(text: &str, at: usize) -> Option<(char, usize)> {
    let c = text.get(at..)?.chars().next()?;
    Some((c, at + c.len_utf8()))
}

fn backwards(text: &str, at: usize) -> Option<(char, usize)> {
    let c = text.get(..at)?.chars().next_back()?;
    Some((c, at - c.len_utf8()))
}

fn walk<'u>(
    way: impl Iterator<Item = &'u Unit>,
    text: &str,
    mut at: usize,
    next: impl Fn(&str, usize) -> Option<(char, usize)>,
) -> bool {
    for unit in way {
        match unit {
            Unit::Place(place) if place.holds(text, at) => {}
            Unit::Place(_) => return false,
            Unit::Set(set) => match next(text, at) {
                Some((c, beside)) if contains(set, c) => at = beside,
                _ => return false,
            },
        }
    }
    true
}

/// True if `c` is in the set.
pub(super) fn contains(set: &ClassUnicode, c: char) -> bool {
    let at = set.ranges().partition_point(|range| range.end() < c);
    set.ranges().get(at).is_some_and(|range| range.start() <= c)
}

fn ascii_of(set: &ClassUnicode) -> u128 {
    (0..128_u8).filter(|byte| contains(set, char::from(*byte))).fold(0, |bits, byte| bits | 1 << byte)
}

/// All that `tree` matches, as sequences; `None` if they are too many, too long, or not to be told so.
fn ways(tree: &Tree) -> Option<Vec<Vec<Unit>>> {
    match tree {
        Tree::Empty => Some(vec![Vec::new()]),
        Tree::Char(c) => Some(vec![vec![Unit::Set(one(*c))]]),
        Tree::Set(set) => Some(vec![vec![Unit::Set(set.clone())]]),
        Tree::Place(place) => Some(vec![vec![Unit::Place(*place)]]),
        Tree::Concat(trees) => {
            let mut all = vec![Vec::new()];
            for tree in trees {
                all = product(&all, &ways(tree)?)?;
            }
            Some(all)
        }
        Tree::Either(trees) => {
            let mut all = Vec::new();
            for tree in trees {
                all.extend(ways(tree)?);
                if all.len() > WAYS_MAX {
                    return None;
                }
            }
            Some(all)
        }
        Tree::Repeat { min, max, taste: super::tree::Taste::Greedy | super::tree::Taste::Lazy, what } => {
            let (what, max) = (ways(what)?, (*max)?);
            let (mut times, mut all) = (vec![Vec::new()], Vec::new());
            for nth in 0..=max {
                if nth >= *min {
                    all.extend(times.clone());
                }
                if nth < max {
                    times = product(&times, &what)?;
                }
                if all.len() > WAYS_MAX {
                    return None;
                }
            }
            Some(all)
        }
        Tree::Named(_, tree) => ways(tree),
        Tree::Repeat { .. } | Tree::Group(..) | Tree::Around { .. } | Tree::Atomic(_) | Tree::Back(_) => None,
    }
}

fn product(left: &[Vec<Unit>], right: &[Vec<Unit>]) -> Option<Vec<Vec<Unit>>> {
    if left.len() * right.len() > WAYS_MAX {
        return None;
    }
    let mut all = Vec::new();
    for before in left {
        for after in right {
            let way: Vec<_> = before.iter().chain(after).cloned().collect();
            if way.len() > UNITS_MAX {
                return None;
            }
            all.push(way);
        }
    }
    Some(all)
}

/// What can stand first in a match of the rest of a pattern.
#[derive(Debug, Clone)]
pub(super) struct First {
    set: ClassUnicode,
    /// The rest may be empty, and then the match is complete whatever follows.
    can_end: bool,
}

impl First {
    /// At the end of the pattern.
    pub(super) fn end() -> Self {
        Self { set: ClassUnicode::empty(), can_end: true }
    }

    /// Nothing is known.
    fn unknown() -> Self {
        Self { set: super::parse::any(true), can_end: false }
    }

    /// True if a run over `set` that stops early never leads to a match: to stop late comes to the same.
    pub(super) fn is_never_in(&self, set: &ClassUnicode) -> bool {
        self.can_end || are_disjoint(&self.set, set)
    }

    /// True if whatever matched before is a match.
    pub(super) fn can_end(&self) -> bool {
        self.can_end
    }

    /// What stands first if `tree` comes before.
    pub(super) fn before(&self, tree: &Tree) -> Self {
        match tree {
            Tree::Empty => self.clone(),
            Tree::Char(c) => Self { set: one(*c), can_end: false },
            Tree::Set(set) => Self { set: set.clone(), can_end: false },
            // Only a newline or the end stands there; that it is the end helps no run that stops early.
            Tree::Place(Place::LineEnd | Place::TextEnd) => Self { set: one('\n'), can_end: false },
            Tree::Concat(trees) => trees.iter().rev().fold(self.clone(), |first, tree| first.before(tree)),
            Tree::Either(trees) => {
                let mut either = Self { set: ClassUnicode::empty(), can_end: false };
                for first in trees.iter().map(|tree| self.before(tree)) {
                    either.set.union(&first.set);
                    either.can_end |= first.can_end;
                }
                either
            }
            Tree::Repeat { min, max, what, .. } if *max != Some(0) => {
                let mut first = Self { set: ClassUnicode::empty(), can_end: true }.before(what);
                if *min == 0 || first.can_end {
                    first.set.union(&self.set);
                    first.can_end = self.can_end;
                }
                first
            }
            Tree::Repeat { .. } => self.clone(),
            Tree::Group(_, tree) | Tree::Named(_, tree) | Tree::Atomic(tree) => self.before(tree),
            Tree::Place(_) | Tree::Around { .. } | Tree::Back(_) => Self::unknown(),
        }
    }
}
