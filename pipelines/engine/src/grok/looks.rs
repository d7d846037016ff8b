//! What must hold at a place between characters, as an automaton asks it: line ends, word boundaries, and look-around of
//! a bounded number of characters, such as `(?<![0-9])`.
//!
//! Bounded look-around keeps a match linear in the text: to answer costs no more than its own length. An automaton of
//! `regex_automata` has places for the kinds of look-around that its crate knows; those that no pattern of ours uses
//! stand for ours, [`OWN`] in number.

use super::tree::{Place, Tree, are_disjoint, one};
use regex_automata::util::look::{Look, LookMatcher, LookSet};
use regex_syntax::hir::{self, ClassUnicode};
use std::array;
use std::sync::OnceLock;

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
    /// Made at the first question, when all of our own are known.
    between_ascii: OnceLock<BetweenAscii>,
}

/// Number of the byte beside the start or the end of a text, which has none there.
const NO_BYTE: usize = 0x80;

/// What is told by the two bytes beside a place, if both are ASCII.
#[derive(Debug)]
struct BetweenAscii {
    beside: [Beside; NO_BYTE + 1],
    /// All that can be told so.
    known: LookSet,
}

/// What one byte tells.
#[derive(Debug, Clone, Copy)]
struct Beside {
    /// What holds behind it, whatever follows.
    behind: LookSet,
    /// What holds before it, whatever came.
    before: LookSet,
    is_word: bool,
}

impl Looks {
    /// The place in the automaton that stands for `around`. `None`: there are no more.
    pub(super) fn stand_in(&mut self, around: Around) -> Option<hir::Look> {
        debug_assert!(self.between_ascii.get().is_none(), "nobody has asked yet");
        let nth = self.own.iter().position(|known| *known == around).unwrap_or_else(|| {
            self.own.push(around);
            self.own.len() - 1
        });
        OWN.get(nth).map(|(_, look)| *look)
    }

    /// Those of `asked` that hold at `at`. `reversed`: the automaton reads the text backwards.
    pub(super) fn holding(&self, asked: LookSet, reversed: bool, text: &str, at: usize) -> LookSet {
        let (mut holding, mut rest) = (LookSet::empty(), asked);
        if !reversed {
            let between = self.between_ascii.get_or_init(|| BetweenAscii::new(self));
            let bytes = text.as_bytes();
            let behind = at.checked_sub(1).map_or(NO_BYTE, |at| usize::from(bytes[at]));
            let before = bytes.get(at).map_or(NO_BYTE, |byte| usize::from(*byte));
            if let (Some(behind), Some(before)) = (between.beside.get(behind), between.beside.get(before)) {
                holding = BetweenAscii::holding(behind, before).intersect(asked);
                rest = asked.subtract(between.known);
            }
        }
        for look in rest.iter() {
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

impl BetweenAscii {
    fn new(looks: &Looks) -> Self {
        let own = OWN.iter().zip(&looks.own).filter(|(_, around)| around.ascii.is_some());
        let own = own.map(|((look, _), around)| (*look, around.ahead));
        let all: Vec<_> = own.chain(LINES_AND_TEXTS).collect();
        let beside = |byte: usize| {
            // A text of this byte alone, or none.
            let text: String = (byte < NO_BYTE).then(|| char::from(byte as u8)).into_iter().collect();
            let at = |at: usize, is_before: bool| {
                let holding = all.iter().filter(|(look, before)| *before == is_before && looks.holds(*look, &text, at));
                holding.fold(LookSet::empty(), |set, (look, _)| set.insert(*look))
            };
            let is_word = text.bytes().all(is_word) && byte < NO_BYTE;
            Beside { behind: at(text.len(), false), before: at(0, true), is_word }
        };
        let known = all.iter().fold(WORD.union(NOT_WORD), |set, (look, _)| set.insert(*look));
        Self { beside: array::from_fn(beside), known }
    }

    fn holding(behind: &Beside, before: &Beside) -> LookSet {
        let words = if behind.is_word == before.is_word { NOT_WORD } else { WORD };
        behind.behind.union(before.before).union(words)
    }
}

/// Places that one byte beside them tells, and whether that is the one that follows.
const LINES_AND_TEXTS: [(Look, bool); 4] =
    [(Look::Start, false), (Look::StartLF, false), (Look::End, true), (Look::EndLF, true)];
const WORD: LookSet = LookSet { bits: Look::WordUnicode.as_repr() };
const NOT_WORD: LookSet = LookSet { bits: Look::WordUnicodeNegate.as_repr() };

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_ascii_bytes_tell_is_what_a_look_at_the_text_tells() {
        let mut looks = Looks::default();
        let set = |text: &str| Tree::Either(text.chars().map(Tree::Char).collect());
        for (ahead, negated, what) in [
            (true, false, Tree::Char('a')),
            (true, true, Tree::Char('-')),
            (false, false, Tree::Char('\n')),
            (false, true, Tree::Char('a')),
            (true, false, set("a-é")),
            (false, true, Tree::Concat(vec![Tree::Char('a'), Tree::Char('-')])),
        ] {
            let around = Around::bounded(ahead, negated, &what).expect("it has a bound");
            looks.stand_in(around).expect("there is room");
        }
        let asked = OWN.iter().take(looks.own.len()).map(|(look, _)| *look);
        let asked: Vec<_> = asked
            .chain(LINES_AND_TEXTS.map(|(look, _)| look))
            .chain([Look::WordUnicode, Look::WordUnicodeNegate])
            .collect();
        let parts = ["", "a", "_", "-", "\n", "\r", "é", "a-"];
        for text in parts.iter().flat_map(|left| parts.map(|right| format!("{left}{right}"))) {
            for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
                let expected = asked.iter().filter(|look| looks.holds(**look, &text, at));
                let expected = expected.fold(LookSet::empty(), |set, look| set.insert(*look));
                let all = asked.iter().fold(LookSet::empty(), |set, look| set.insert(*look));
                assert_eq!(looks.holding(all, false, &text, at), expected, "{text:?} at {at}, one by one");
                let simple = asked.iter().filter(|look| **look != OWN[looks.own.len() - 1].0);
                let simple = simple.fold(LookSet::empty(), |set, look| set.insert(*look));
                assert_eq!(looks.holding(simple, false, &text, at), expected.intersect(simple), "{text:?} at {at}");
            }
        }
    }
}
