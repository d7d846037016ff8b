//! Which files are open, so that only so many are: the one whose last turn is longest ago is closed first.

use event::StreamId;
use std::collections::{BTreeMap, HashMap};

/// Descriptors that are left to everything else: sockets, the checkpoint, the watcher, the program's own log.
const RESERVED: u64 = 64;
/// More open files than this bring nothing: a turn takes longer than opening a file.
const OPEN_MAX: u64 = 4_096;

/// The open files, in the order of their last turns.
#[derive(Debug)]
pub(super) struct Handles {
    limit: usize,
    /// Limit of each input, where it has one.
    limits: Vec<Option<usize>>,
    counts: Vec<usize>,
    turns: u64,
    order: BTreeMap<u64, (StreamId, usize)>,
    last_turn: HashMap<StreamId, u64>,
}

impl Handles {
    /// `limits`: of each input. The process's own limit bounds them all, and is shared by its `agents`.
    pub(super) fn new(limits: Vec<Option<usize>>, agents: usize) -> Self {
        let counts = vec![0; limits.len()];
        let limit = (process_limit() / agents.max(1)).max(1);
        Self { limit, limits, counts, turns: 0, order: BTreeMap::new(), last_turn: HashMap::new() }
    }

    /// Notes the turn of an open file.
    pub(super) fn used(&mut self, stream: StreamId, input: usize) {
        self.turns += 1;
        match self.last_turn.insert(stream, self.turns) {
            Some(before) => drop(self.order.remove(&before)),
            None => self.counts[input] += 1,
        }
        self.order.insert(self.turns, (stream, input));
    }

    /// Notes that a file is closed, or followed no longer.
    pub(super) fn closed(&mut self, stream: StreamId) {
        if let Some((_, input)) = self.last_turn.remove(&stream).and_then(|turn| self.order.remove(&turn)) {
            self.counts[input] -= 1;
        }
    }

    /// Files to close so that one more of `input` may be opened, best first; none if there is room.
    pub(super) fn surplus(&self, input: usize) -> Vec<StreamId> {
        let is_input_full = self.limits[input].is_some_and(|limit| self.counts[input] >= limit);
        if !is_input_full && self.last_turn.len() < self.limit {
            return Vec::new();
        }
        let counts = |of: usize| !is_input_full || of == input;
        self.order.values().filter(|(_, of)| counts(*of)).map(|(stream, _)| *stream).collect()
    }
}

/// What `ulimit -n` leaves for log files.
fn process_limit() -> usize {
    open_files_max("self")
}

/// How many log files the agent that is `process` has open at once, at most.
pub fn open_files_max(process: &str) -> usize {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap_or_default();
    let soft = soft_limit(&limits).unwrap_or(OPEN_MAX);
    usize::try_from(soft.saturating_sub(RESERVED).clamp(8, OPEN_MAX)).unwrap_or(usize::MAX)
}

/// The line `Max open files  1024  4096  files`: its first number.
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [StreamId; 3] = [StreamId(1), StreamId(2), StreamId(3)];

    #[test]
    fn the_file_with_the_oldest_turn_is_closed_first() {
        let mut handles = Handles { limit: 3, ..Handles::new(vec![None], 1) };
        FILES.iter().for_each(|stream| handles.used(*stream, 0));
        handles.used(FILES[0], 0);
        assert_eq!(handles.surplus(0), [FILES[1], FILES[2], FILES[0]]);
        handles.closed(FILES[1]);
        assert!(handles.surplus(0).is_empty());
    }

    #[test]
    fn the_kernel_tells_the_limit() {
        assert_eq!(
            soft_limit("Max processes  9  9  x\nMax open files            1024                 4096    files\n"),
            Some(1024)
        );
        assert_eq!(soft_limit("Max open files            unlimited            unlimited            files\n"), None);
        assert!(process_limit() >= 8);
    }

    #[test]
    fn an_inputs_own_limit_closes_only_its_files() {
        let mut handles = Handles { limit: 9, ..Handles::new(vec![Some(1), None], 1) };
        handles.used(FILES[0], 1);
        handles.used(FILES[1], 0);
        assert_eq!(handles.surplus(0), [FILES[1]]);
        assert!(handles.surplus(1).is_empty());
    }
}
