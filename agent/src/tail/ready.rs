//! The files that wait for a turn. They have it in the order in which they came; while there is a backlog, every other turn is
//! for the one whose unread bytes will be deleted first. So nobody starves: each has its turn after those before it in the line
//! and as many urgent ones.

use event::StreamId;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// The waiting files.
#[derive(Debug, Default)]
pub(super) struct Ready {
    line: VecDeque<StreamId>,
    /// Those in `line`. One that had an urgent turn keeps its place in it, for when it waits again.
    places: HashMap<StreamId, Place>,
    /// Those that wait and have a deadline.
    urgent: BTreeSet<(i64, StreamId)>,
    waiting: usize,
    is_backlogged: bool,
    had_urgent: bool,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    is_waiting: bool,
    loses_at_ms: Option<i64>,
}

impl Ready {
    /// Lets a file wait. `loses_at_ms`: when its unread bytes will be deleted, as far as that can be told.
    pub(super) fn push(&mut self, stream: StreamId, loses_at_ms: Option<i64>) {
        let place = Place { is_waiting: true, loses_at_ms };
        match self.places.insert(stream, place) {
            None => self.line.push_back(stream),
            Some(before) => self.leave(stream, before),
        }
        self.waiting += 1;
        self.urgent.extend(loses_at_ms.map(|at| (at, stream)));
    }

    /// Who has the next turn.
    pub(super) fn next(&mut self) -> Option<StreamId> {
        let next = self.urgent_one().or_else(|| self.first());
        if self.waiting == 0 {
            *self = Self::default(); // Nothing waits: no backlog, and the memory is free.
        }
        next
    }

    /// Files cannot be read as fast as they could: from now on until nobody waits, deadlines count.
    pub(super) fn is_backlogged(&mut self) {
        self.is_backlogged = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Lines up anew those that wait, the least `key` first.
    pub(super) fn sort_by_key<K: Ord>(&mut self, key: impl FnMut(&StreamId) -> K) {
        self.line.make_contiguous().sort_by_key(key);
    }

    fn urgent_one(&mut self) -> Option<StreamId> {
        self.had_urgent = self.is_backlogged && !self.had_urgent;
        let (_, stream) = self.had_urgent.then(|| self.urgent.pop_first())??;
        if let Some(place) = self.places.get_mut(&stream) {
            place.is_waiting = false;
            self.waiting -= 1;
        }
        Some(stream)
    }

    fn first(&mut self) -> Option<StreamId> {
        while let Some(stream) = self.line.pop_front() {
            let Some(place) = self.places.remove(&stream) else { continue };
            self.leave(stream, place);
            if place.is_waiting {
                return Some(stream);
            }
        }
        None
    }

    fn leave(&mut self, stream: StreamId, place: Place) {
        if place.is_waiting {
            self.waiting -= 1;
            self.urgent.remove(&(place.loses_at_ms.unwrap_or(0), stream));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has the next turns; each waits again at once.
    fn turns(ready: &mut Ready, deadlines: &[Option<i64>], count: usize) -> Vec<u64> {
        let mut turns = Vec::new();
        for _ in 0..count {
            let stream = ready.next().expect("all wait");
            turns.push(stream.0);
            ready.push(stream, deadlines[usize::try_from(stream.0).expect("a few files")]);
        }
        turns
    }

    fn ready(deadlines: &[Option<i64>]) -> Ready {
        let mut ready = Ready::default();
        (0..).zip(deadlines).for_each(|(stream, at)| ready.push(StreamId(stream), *at));
        ready
    }

    #[test]
    fn without_a_backlog_each_has_its_turn_in_order() {
        let deadlines = [None, Some(9), None, Some(3)];
        assert_eq!(turns(&mut ready(&deadlines), &deadlines, 8), [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn in_a_backlog_every_other_turn_is_for_the_nearest_deadline_and_nobody_starves() {
        let deadlines = [None, Some(9), None, Some(3), None];
        let mut ready = ready(&deadlines);
        ready.is_backlogged();
        assert_eq!(turns(&mut ready, &deadlines, 10), [3, 0, 3, 1, 3, 2, 3, 3, 3, 4]);
    }

    #[test]
    fn an_urgent_file_keeps_one_place_in_the_line() {
        let deadlines = [None, Some(1)];
        let mut ready = ready(&deadlines);
        ready.is_backlogged();
        turns(&mut ready, &deadlines, 1_000);
        assert_eq!((ready.line.len(), ready.places.len(), ready.urgent.len(), ready.waiting), (2, 2, 1, 2));
        assert!(ready.next().is_some() && ready.next().is_some() && ready.next().is_none() && ready.is_empty());
        assert!(!ready.is_backlogged, "nobody waits");
    }
}
