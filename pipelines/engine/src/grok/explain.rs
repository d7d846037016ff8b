//! Why a text did not match: which pattern came furthest, up to which of its parts, and what stood there instead.
//!
//! The parts of a pattern are what stands in a row in it, names followed into their definitions. All ways through them are
//! followed at once, from every place of the text; what a look-around or back-reference of no bounded length asks is
//! taken to hold.

use super::bank::Bank;
use super::looks::contains;
use super::parse::{Parsed, parse};
use super::program::{Do, Program};
use super::tree::{Tree, Written};
use std::fmt;

/// How much of a text is looked at, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// How much of the rest of a text, and of a part, is shown, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// How far a pattern came on a text that it did not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The pattern that came furthest, counted from 0.
    pub pattern: usize,
    /// How many patterns there are.
    pub patterns: usize,
    /// The last part that fits, if one does.
    pub fits: Option<String>,
    /// The part that does not, and the names it stands in, innermost first. `None`: all fit but what was not decided.
    pub wanted: Option<(String, Vec<String>)>,
    /// Where that is, in bytes from the start.
    pub at: usize,
    /// The same, in characters and counted from 1.
    pub column: usize,
    /// What stands there.
    pub rest: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.patterns {
            1 => f.write_str("the pattern")?,
            count => write!(f, "pattern {} of {count} came furthest: it", self.pattern + 1)?,
        }
        match &self.fits {
            Some(fits) => write!(f, " fits up to [{fits}]")?,
            None => f.write_str(" does not fit from its start")?,
        }
        match &self.wanted {
            Some((part, names)) => {
                write!(f, "; at column {} it wants [{part}]", self.column)?;
                for name in names {
                    write!(f, " in {name}")?;
                }
            }
            None => write!(f, ", but a look-around or back-reference does not hold")?,
        }
        match self.rest.is_empty() {
            true => f.write_str(", and the text ends there"),
            false => write!(f, ", and there is [{}]", self.rest),
        }
    }
}

/// What is needed to explain.
#[derive(Debug)]
pub(super) struct Explainer {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    program: Program,
    /// For each instruction, in which part it is.
    parts_of: Vec<usize>,
    /// Each part's text, and the names it stands in, innermost first.
    parts: Vec<(String, Vec<String>)>,
}

/// How far a pattern came.
#[derive(Debug, Clone, Copy, Default)]
struct Reach {
    /// How many parts fit.
    parts: usize,
    /// The first place where the next part could start.
    since: usize,
    /// The last place that it reached.
    until: usize,
}

impl Explainer {
    /// For patterns that compile. One that is too long to be explained is left out.
    pub(super) fn new(bank: &Bank, patterns: &[String]) -> Self {
        let patterns = patterns.iter().map(|pattern| parse(bank, pattern).and_then(|parsed| Pattern::new(&parsed)));
        Self { patterns: patterns.map(|pattern| pattern.unwrap_or_else(|_| Pattern::empty())).collect() }
    }

    pub(super) fn explain(&self, text: &str) -> Option<Explanation> {
        let cut = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at))?;
        let looked_at = text.get(..cut)?;
        let reaches = self.patterns.iter().map(|pattern| pattern.reach(looked_at)).enumerate();
        // Of several that came equally far the first is told of.
        let (nth, reach) = reaches.rev().max_by_key(|(_, reach)| (reach.since, reach.parts))?;
        let pattern = &self.patterns[nth];
        let fits = reach.parts.checked_sub(1).and_then(|last| pattern.parts.get(last));
        let at = match reach.parts {
            0 => 0,
            // What reaches to the end of any text says little: better from where the part could have started.
            _ if reach.until == text.len() => reach.since,
            _ => reach.until,
        };
        let before = text.get(..at)?;
        Some(Explanation {
            pattern: nth,
            patterns: self.patterns.len(),
            fits: fits.map(|(part, _)| part.clone()),
            wanted: pattern.parts.get(reach.parts).cloned(),
            at,
            column: before.chars().count() + 1,
            rest: shown(text.get(at..)?),
        })
    }
}

/// Control characters escaped, and no more than a few characters.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(escaped).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn escaped(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

impl Pattern {
    fn new(parsed: &Parsed) -> Result<Self, String> {
        let mut rows = Vec::new();
        split(&parsed.tree, parsed, &mut Vec::new(), &mut rows);
        let trees: Vec<_> =
            rows.iter().map(|(trees, _)| Tree::concat(trees.iter().map(|tree| (*tree).clone()).collect())).collect();
        let program = Program::explaining(&trees.iter().collect::<Vec<_>>())?;
        let mut part = 0;
        let parts_of = program.all.iter().map(|instruction| {
            let here = part;
            part += usize::from(matches!(instruction, Do::Mark));
            here
        });
        let parts_of = parts_of.collect();
        let parts = trees.iter().zip(rows).map(|(tree, (_, names))| {
            let written = Written { tree, labels: &parsed.labels, groups: &parsed.groups }.to_string();
            (shown(&written), names)
        });
        Ok(Self { parts: parts.collect(), program, parts_of })
    }

    /// Stands for one that is not explained.
    fn empty() -> Self {
        let program = Program { all: Vec::new(), sets: Vec::new(), slots: 0 };
        Self { program, parts_of: Vec::new(), parts: Vec::new() }
    }

    /// Follows all ways through the parts at once.
    fn reach(&self, text: &str) -> Reach {
        let mut best = Reach::default();
        let mut live = Vec::new();
        let mut seen = vec![usize::MAX; self.program.all.len()];
        let places = text.char_indices().map(|(at, c)| (at, Some(c))).chain([(text.len(), None)]);
        for (at, c) in places {
            let mut next = Vec::new();
            live.push(0); // A match may start anywhere.
            for from in live {
                self.follow(from, text, at, &mut seen, &mut best, |set, then| {
                    if c.is_some_and(|c| contains(&self.program.sets[set], c)) {
                        next.push(then);
                    }
                });
            }
            live = next;
        }
        best
    }

    /// Follows what reads no character. `reads` gets each set that is read next, and what comes then.
    fn follow(
        &self,
        from: usize,
        text: &str,
        at: usize,
        seen: &mut [usize],
        best: &mut Reach,
        mut reads: impl FnMut(usize, usize),
    ) {
        let mut open = vec![from];
        while let Some(number) = open.pop() {
            let Some(instruction) = self.program.all.get(number) else { continue };
            if std::mem::replace(&mut seen[number], at) == at {
                continue;
            }
            let parts = self.parts_of[number];
            if parts > best.parts {
                *best = Reach { parts, since: at, until: at };
            } else if parts == best.parts {
                best.until = at;
            }
            match instruction {
                Do::Set(set) => reads(*set, number + 1),
                Do::Split(first, second) => open.extend([*second, *first]),
                Do::Jump(next) => open.push(*next),
                Do::Place(place) if !place.holds(text, at) => {}
                Do::Look(around) if !around.holds(text, at) => {}
                Do::Match => *best = Reach { parts: self.parts.len(), since: at, until: at },
                _ => open.push(number + 1),
            }
        }
    }
}

/// What stands in a row, and the names around it, innermost first.
type Row<'t> = (Vec<&'t Tree>, Vec<String>);

/// Splits a tree into what stands in a row in it.
fn split<'t>(tree: &'t Tree, parsed: &'t Parsed, names: &mut Vec<String>, rows: &mut Vec<Row<'t>>) {
    match tree {
        Tree::Concat(trees) => {
            let mut was_literal = false;
            for tree in trees {
                let is_literal = matches!(tree, Tree::Char(_));
                match rows.last_mut() {
                    Some((row, _)) if is_literal && was_literal => row.push(tree),
                    _ => split(tree, parsed, names, rows),
                }
                was_literal = is_literal;
            }
        }
        Tree::Named(label, inner) if is_row(inner) => {
            names.insert(0, parsed.labels.get(*label).cloned().unwrap_or_default());
            split(inner, parsed, names, rows);
            names.remove(0);
        }
        Tree::Group(_, inner) if is_row(inner) => split(inner, parsed, names, rows),
        Tree::Empty => {}
        _ => rows.push((vec![tree], names.clone())),
    }
}

/// True if names stand in a row in it: only then it is split.
fn is_row(tree: &Tree) -> bool {
    match tree {
        Tree::Concat(trees) => trees.iter().any(|tree| matches!(tree, Tree::Named(..) | Tree::Group(..))),
        Tree::Group(_, inner) | Tree::Named(_, inner) => is_row(inner),
        _ => false,
    }
}
