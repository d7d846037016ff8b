//! A pattern as Oniguruma reads it, names filled in. What can be made of it: an automaton (`lower`), a program for the
//! backtracking matcher (`program`), and its text again, for messages.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};
use std::fmt::{self, Write as _};

/// Part of a pattern.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    /// Matches the empty text.
    Empty,
    /// One character.
    Char(char),
    /// One character of a set.
    Set(ClassUnicode),
    /// A place between characters.
    Place(Place),
    /// One after the other.
    Concat(Vec<Tree>),
    /// One of them, the first that leads to a match.
    Either(Vec<Tree>),
    /// Several times.
    Repeat {
        /// At least.
        min: u32,
        /// At most.
        max: Option<u32>,
        /// In which order numbers are tried.
        taste: Taste,
        /// What.
        what: Box<Tree>,
    },
    /// A capture group; the number counts groups from 0, in order of their opening.
    Group(usize, Box<Tree>),
    /// What a `%{NAME}` stands for; the number is that of its label.
    Named(usize, Box<Tree>),
    /// `(?=…)`, `(?!…)`, `(?<=…)`, `(?<!…)`.
    Around {
        /// What follows the place, or what stands before it.
        ahead: bool,
        /// It must not match.
        negated: bool,
        /// What is looked for.
        what: Box<Tree>,
    },
    /// `(?>…)`: what it matched first is kept.
    Atomic(Box<Tree>),
    /// The text of the last of these groups that took part.
    Back(Vec<usize>),
}

/// A place between characters that is told by its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `^`
    LineStart,
    /// `$`
    LineEnd,
    /// `\A`
    TextStart,
    /// `\z`
    TextEnd,
    /// `\b`
    Word,
    /// `\B`
    NotWord,
}

/// In which order a repeat tries its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taste {
    /// Most first.
    Greedy,
    /// Fewest first.
    Lazy,
    /// Most, and never fewer.
    Possessive,
}

impl Tree {
    /// `trees` in a row.
    pub(super) fn concat(mut trees: Vec<Tree>) -> Tree {
        trees.retain(|tree| *tree != Tree::Empty);
        match trees.len() {
            0 => Tree::Empty,
            1 => trees.swap_remove(0),
            _ => Tree::Concat(trees),
        }
    }

    /// True if the pattern matches at the start of a line only: outside of any alternative it begins with `^` or `\A`.
    pub(super) fn is_line_anchored(&self) -> bool {
        match self {
            Tree::Place(place) => matches!(place, Place::LineStart | Place::TextStart),
            Tree::Concat(trees) => trees.first().is_some_and(Tree::is_line_anchored),
            Tree::Group(_, tree) | Tree::Named(_, tree) | Tree::Atomic(tree) => tree.is_line_anchored(),
            Tree::Either(trees) => trees.iter().all(Tree::is_line_anchored),
            Tree::Repeat { min: 1.., what, .. } => what.is_line_anchored(),
            _ => false,
        }
    }

    /// Fewest and most characters that a match has; `None`: any number.
    pub(super) fn length(&self) -> (usize, Option<usize>) {
        match self {
            Tree::Empty | Tree::Place(_) | Tree::Around { .. } => (0, Some(0)),
            Tree::Char(_) | Tree::Set(_) => (1, Some(1)),
            Tree::Concat(trees) => trees.iter().map(Tree::length).fold((0, Some(0)), |(low, high), (min, max)| {
                (low.saturating_add(min), high.zip(max).map(|(high, max)| high.saturating_add(max)))
            }),
            Tree::Either(trees) => {
                let lengths = || trees.iter().map(Tree::length);
                let most = lengths().map(|(_, most)| most).try_fold(0, |high, most| most.map(|most| high.max(most)));
                (lengths().map(|(fewest, _)| fewest).min().unwrap_or(0), most)
            }
            Tree::Repeat { min, max, what, .. } => {
                let (low, high) = what.length();
                let most = high.zip(max.map(|max| max as usize)).map(|(high, max)| high.saturating_mul(max));
                (low.saturating_mul(*min as usize), if high == Some(0) { Some(0) } else { most })
            }
            Tree::Group(_, tree) | Tree::Named(_, tree) | Tree::Atomic(tree) => tree.length(),
            Tree::Back(_) => (0, None),
        }
    }
}

/// The set of one character.
pub(super) fn one(c: char) -> ClassUnicode {
    ClassUnicode::new([ClassUnicodeRange::new(c, c)])
}

/// True if no character is in both sets.
pub(super) fn are_disjoint(one: &ClassUnicode, other: &ClassUnicode) -> bool {
    let mut both = one.clone();
    both.intersect(other);
    both.ranges().is_empty()
}

/// Writes a tree as a pattern again, `%{NAME}` where a name was filled in; without labels and names in full, and only as
/// a regular expression.
pub(super) struct Written<'t> {
    /// What is written.
    pub(super) tree: &'t Tree,
    /// Texts of the `%{NAME}`.
    pub(super) labels: &'t [String],
    /// Names of the groups.
    pub(super) groups: &'t [String],
}

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = |tree| Written { tree, ..*self };
        match self.tree {
            Tree::Empty => Ok(()),
            Tree::Char(c) => write_char(*c, f),
            Tree::Set(set) if self.labels.is_empty() => write_set(set, usize::MAX, f),
            Tree::Set(set) => write_set(set, RANGES_WRITTEN_MAX, f),
            Tree::Place(place) => f.write_str(match place {
                Place::LineStart => "^",
                Place::LineEnd => "$",
                Place::TextStart => "\\A",
                Place::TextEnd => "\\z",
                Place::Word => "\\b",
                Place::NotWord => "\\B",
            }),
            Tree::Concat(trees) => trees.iter().try_for_each(|tree| match tree {
                Tree::Either(_) => write!(f, "(?:{})", inner(tree)),
                _ => inner(tree).fmt(f),
            }),
            Tree::Either(trees) => trees.iter().enumerate().try_for_each(|(nth, tree)| {
                f.write_str(if nth > 0 { "|" } else { "" })?;
                inner(tree).fmt(f)
            }),
            Tree::Repeat { min, max, taste, what } => {
                match **what {
                    Tree::Concat(_) | Tree::Either(_) | Tree::Repeat { .. } => write!(f, "(?:{})", inner(what))?,
                    _ => inner(what).fmt(f)?,
                }
                match (min, max) {
                    (0, None) => f.write_char('*')?,
                    (1, None) => f.write_char('+')?,
                    (0, Some(1)) => f.write_char('?')?,
                    (min, None) => write!(f, "{{{min},}}")?,
                    (min, Some(max)) if min == max => write!(f, "{{{min}}}")?,
                    (min, Some(max)) => write!(f, "{{{min},{max}}}")?,
                }
                f.write_str(match taste {
                    Taste::Greedy => "",
                    Taste::Lazy => "?",
                    Taste::Possessive => "+",
                })
            }
            Tree::Group(nth, tree) => match self.groups.get(*nth).filter(|name| !name.is_empty()) {
                Some(name) => write!(f, "(?<{name}>{})", inner(tree)),
                None => write!(f, "({})", inner(tree)),
            },
            Tree::Named(label, tree) => match self.labels.get(*label) {
                Some(label) => f.write_str(label),
                None => write!(f, "(?:{})", inner(tree)),
            },
            Tree::Around { ahead, negated, what } => {
                let sign = if *negated { '!' } else { '=' };
                write!(f, "(?{}{sign}{})", if *ahead { "" } else { "<" }, inner(what))
            }
            Tree::Atomic(tree) => write!(f, "(?>{})", inner(tree)),
            Tree::Back(groups) => {
                let group = groups.first().copied().unwrap_or(0);
                match self.groups.get(group).filter(|name| !name.is_empty()) {
                    Some(name) => write!(f, "\\k<{name}>"),
                    None => write!(f, "\\{}", group + 1),
                }
            }
        }
    }
}

fn write_char(c: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match c {
        '\n' => f.write_str("\\n"),
        '\t' => f.write_str("\\t"),
        '\r' => f.write_str("\\r"),
        '\0'..='\u{1f}' | '\u{7f}' => write!(f, "\\x{:02x}", u32::from(c)),
        '\\' | '.' | '[' | ']' | '(' | ')' | '{' | '}' | '*' | '+' | '?' | '|' | '^' | '$' => write!(f, "\\{c}"),
        _ => f.write_char(c),
    }
}

/// Ranges of a set that are written; the rest is `…`.
const RANGES_WRITTEN_MAX: usize = 12;

fn write_set(set: &ClassUnicode, ranges_max: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut inverted = set.clone();
    inverted.negate();
    match inverted.ranges() {
        [range] if range.start() == '\n' && range.end() == '\n' => return f.write_char('.'),
        [] => return f.write_str("(?m:.)"),
        _ => {}
    }
    let is_inverted = inverted.ranges().len() < set.ranges().len() || inverted.ranges().len() == 1;
    let shown = if is_inverted { &inverted } else { set };
    f.write_str(if is_inverted { "[^" } else { "[" })?;
    for range in shown.ranges().iter().take(ranges_max) {
        write_member(range.start(), f)?;
        if range.start() != range.end() {
            if u32::from(range.end()) > u32::from(range.start()) + 1 {
                f.write_char('-')?;
            }
            write_member(range.end(), f)?;
        }
    }
    f.write_str(if shown.ranges().len() > ranges_max { "…]" } else { "]" })
}

fn write_member(c: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match c {
        ']' | '[' | '\\' | '^' | '-' | '&' => write!(f, "\\{c}"),
        '.' | '(' | ')' | '{' | '}' | '*' | '+' | '?' | '|' | '$' => f.write_char(c),
        _ => write_char(c, f),
    }
}
