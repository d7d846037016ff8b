//! A [`Tree`] in, what an automaton is compiled from out; or the reason why only backtracking can match it.
//!
//! Atomic groups and possessive repeats are dropped where they change nothing, look-around of a bounded length becomes a
//! question about a place. What is left needs backtracking.

use super::looks::{Around, First, Looks};
use super::parse::Parsed;
use super::tree::{Taste, Tree, Written, are_disjoint, one};
use regex_syntax::hir::{self, Class, Hir};

/// Why a pattern has no automaton.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    /// What needs backtracking.
    pub(super) what: String,
    /// What may be written instead, where there is something.
    pub(super) instead: Option<String>,
}

/// The pattern for an automaton. Group n of the tree becomes capture n + 1.
pub(super) fn lower(parsed: &Parsed, looks: &mut Looks) -> Result<Hir, Reason> {
    let asks_next = has_kept(&parsed.tree);
    Lower { parsed, looks, asks_next }.tree(&parsed.tree, &First::end())
}

struct Lower<'p> {
    parsed: &'p Parsed,
    looks: &'p mut Looks,
    /// True if there are parts whose meaning depends on what follows.
    asks_next: bool,
}

/// True if there is an atomic group or a possessive repeat.
fn has_kept(tree: &Tree) -> bool {
    match tree {
        Tree::Atomic(_) | Tree::Repeat { taste: Taste::Possessive, .. } => true,
        Tree::Concat(trees) | Tree::Either(trees) => trees.iter().any(has_kept),
        Tree::Repeat { what, .. } | Tree::Around { what, .. } => has_kept(what),
        Tree::Group(_, tree) | Tree::Named(_, tree) => has_kept(tree),
        Tree::Empty | Tree::Char(_) | Tree::Set(_) | Tree::Place(_) | Tree::Back(_) => false,
    }
}

impl Lower<'_> {
    /// `next`: what may follow.
    fn tree(&mut self, tree: &Tree, next: &First) -> Result<Hir, Reason> {
        match tree {
            Tree::Empty => Ok(Hir::empty()),
            Tree::Char(c) => Ok(Hir::literal(c.to_string().into_bytes())),
            Tree::Set(set) => Ok(Hir::class(Class::Unicode(set.clone()))),
            Tree::Place(place) => Ok(Hir::look(place.in_hir())),
            Tree::Concat(trees) => self.concat(trees, next),
            Tree::Either(trees) => {
                Ok(Hir::alternation(trees.iter().map(|tree| self.tree(tree, next)).collect::<Result<_, _>>()?))
            }
            Tree::Repeat { min, max, taste, what } => {
                if *taste == Taste::Possessive && !stays_the_same(tree, next) {
                    return self.run(tree).ok_or_else(|| self.possessive(tree));
                }
                let again = match max {
                    _ if !self.asks_next => next.clone(),
                    Some(0 | 1) => next.clone(),
                    _ => {
                        let again = Tree::Repeat { min: 0, max: None, taste: Taste::Greedy, what: what.clone() };
                        next.before(&again)
                    }
                };
                let sub = Box::new(self.tree(what, &again)?);
                Ok(Hir::repetition(hir::Repetition { min: *min, max: *max, greedy: *taste != Taste::Lazy, sub }))
            }
            Tree::Group(nth, tree) => {
                let sub = Box::new(self.tree(tree, next)?);
                Ok(Hir::capture(hir::Capture { index: *nth as u32 + 1, name: None, sub }))
            }
            Tree::Named(_, tree) => self.tree(tree, next),
            Tree::Atomic(inner) => {
                if !next.can_end() && !is_rigid(inner) && !stays_the_same(inner, next) {
                    if let Some(run) = self.run(inner) {
                        return Ok(run);
                    }
                    let what = format!("the atomic group {}", self.written(tree));
                    let instead =
                        Some(format!("{} without (?>…), if a shorter match may be tried", self.written(inner)));
                    return Err(Reason { what, instead });
                }
                self.tree(inner, next)
            }
            Tree::Around { ahead, negated, what } => {
                let around = Around::bounded(*ahead, *negated, what);
                match around.map(|around| self.looks.stand_in(around)) {
                    Some(Some(look)) => Ok(Hir::look(look)),
                    Some(None) => Err(Reason { what: "the eleventh different look-around".to_owned(), instead: None }),
                    None => Err(self.unbounded(*ahead, tree)),
                }
            }
            Tree::Back(_) => Err(Reason { what: format!("the back-reference {}", self.written(tree)), instead: None }),
        }
    }

    fn concat(&mut self, trees: &[Tree], next: &First) -> Result<Hir, Reason> {
        let is_plain =
            |tree: &Tree| matches!(tree, Tree::Char(_) | Tree::Set(_) | Tree::Place(_) | Tree::Around { .. });
        let mut parts = Vec::new();
        let (mut next, mut after) = (next.clone(), trees.len());
        for at in (0..trees.len()).rev() {
            if self.asks_next && !is_plain(&trees[at]) {
                // What follows is worked out only for those that may ask for it.
                next = trees.get(at + 1..after).unwrap_or(&[]).iter().rev().fold(next, |next, tree| next.before(tree));
                after = at + 1;
            }
            parts.push(self.tree(&trees[at], &next)?);
        }
        parts.reverse();
        Ok(Hir::concat(parts))
    }

    /// A run over a set that never stops early: the run, and no more of the set after it. `None`: it is none.
    fn run(&mut self, tree: &Tree) -> Option<Hir> {
        let Tree::Repeat { min, max, what, .. } = tree else { return None };
        let set = match unwrapped(what) {
            Tree::Set(_) | Tree::Char(_) => unwrapped(what),
            _ => return None,
        };
        let stop = Hir::look(self.looks.stand_in(Around::bounded(true, true, set)?)?);
        let greedy = Tree::Repeat { min: *min, max: *max, taste: Taste::Greedy, what: what.clone() };
        let run = self.tree(&greedy, &First::end()).ok()?;
        match max {
            None => Some(Hir::concat(vec![run, stop])),
            // One, or none because there is none.
            Some(1) if *min == 0 => Some(Hir::alternation(vec![self.tree(what, &First::end()).ok()?, stop])),
            Some(_) => None,
        }
    }

    fn possessive(&self, tree: &Tree) -> Reason {
        let written = self.written(tree);
        let greedy = written.strip_suffix('+').unwrap_or(&written).to_owned();
        let instead = Some(format!("{greedy}, if fewer may be tried"));
        Reason { what: format!("the possessive repeat {written}"), instead }
    }

    fn unbounded(&self, ahead: bool, tree: &Tree) -> Reason {
        let kind = if ahead { "look-ahead" } else { "look-behind" };
        let instead = "bound its length, or match the text itself and not the place beside it".to_owned();
        Reason {
            what: format!("the {kind} {}, whose length has no small bound", self.written(tree)),
            instead: Some(instead),
        }
    }

    fn written(&self, tree: &Tree) -> String {
        Written { tree, labels: &self.parsed.labels, groups: &self.parsed.groups }.to_string()
    }
}

/// True if a greedy repeat of a set matches the same whether or not it may be tried with fewer.
fn stays_the_same(tree: &Tree, next: &First) -> bool {
    match tree {
        Tree::Repeat { taste: Taste::Lazy, .. } => false,
        Tree::Repeat { what, .. } => match unwrapped(what) {
            Tree::Set(set) => next.is_never_in(set),
            Tree::Char(c) => next.is_never_in(&one(*c)),
            _ => next.can_end(),
        },
        _ => false,
    }
}

/// Without the names and groups around it.
fn unwrapped(mut tree: &Tree) -> &Tree {
    while let Tree::Named(_, inner) | Tree::Group(_, inner) = tree {
        tree = inner;
    }
    tree
}

/// True if there is at most one way to match at any place.
fn is_rigid(tree: &Tree) -> bool {
    match tree {
        Tree::Empty | Tree::Char(_) | Tree::Set(_) | Tree::Place(_) | Tree::Around { .. } => true,
        Tree::Concat(trees) => trees.iter().all(is_rigid),
        Tree::Either(trees) => {
            let firsts: Option<Vec<_>> = trees.iter().map(first_set).collect();
            trees.iter().all(is_rigid)
                && firsts.is_some_and(|firsts| {
                    firsts
                        .iter()
                        .enumerate()
                        .all(|(nth, one)| firsts.iter().skip(nth + 1).all(|other| are_disjoint(one, other)))
                })
        }
        Tree::Repeat { min, max, what, .. } => *max == Some(*min) && is_rigid(what),
        Tree::Group(_, tree) | Tree::Named(_, tree) => is_rigid(tree),
        Tree::Atomic(_) | Tree::Back(_) => true,
    }
}

fn first_set(tree: &Tree) -> Option<regex_syntax::hir::ClassUnicode> {
    match tree {
        Tree::Char(c) => Some(one(*c)),
        Tree::Set(set) => Some(set.clone()),
        Tree::Concat(trees) => trees.first().and_then(first_set),
        Tree::Repeat { min: 1.., what, .. } => first_set(what),
        Tree::Group(_, tree) | Tree::Named(_, tree) | Tree::Atomic(tree) => first_set(tree),
        _ => None,
    }
}
