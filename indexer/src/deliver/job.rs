//! One batch on its way: what is still to be sent, what failed for good. Pure.

use super::Waits;
use crate::batch::{Batch, Origin};
use crate::settle::Cause;
use service::backoff::Backoff;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// A record that can never be indexed, before it is judged whether too many are.
#[derive(Debug)]
pub(super) struct Dying {
    /// The record.
    pub(super) origin: Origin,
    /// Its document; none if it never became one.
    pub(super) item: Option<u32>,
    /// Why.
    pub(super) cause: Cause,
    /// Requests made for its batch.
    pub(super) attempts: u32,
}

/// A batch and how far it got. Goes in passes: in each, all that is left is sent once.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) batch: Batch,
    /// What is still to be sent in this pass, last first.
    pub(super) work: Vec<Vec<u32>>,
    /// What is to be sent in the next one.
    pub(super) again: Vec<u32>,
    /// What the node refused for now in this pass, and why.
    refused: Vec<(u32, &'static str)>,
    /// Since when documents have been refused for now.
    since: BTreeMap<u32, Instant>,
    /// What failed for good.
    pub(super) dead: Vec<Dying>,
    /// Requests made.
    pub(super) attempts: u32,
    pub(super) retry: Backoff,
    pub(super) alarm: Backoff,
    /// A request of this pass has waited already.
    pub(super) rested: bool,
    /// Documents that became safe in this pass.
    safe: usize,
}

impl Job {
    pub(super) fn new(mut batch: Batch, waits: Waits) -> Self {
        let doom = |(origin, cause)| Dying { origin, item: None, cause, attempts: 0 };
        let dead = std::mem::take(&mut batch.dead).into_iter().map(doom).collect();
        let all: Vec<u32> = (0..batch.items.len() as u32).collect();
        Self {
            work: if all.is_empty() { vec![] } else { vec![all] },
            batch,
            again: vec![],
            refused: vec![],
            since: BTreeMap::new(),
            dead,
            attempts: 0,
            retry: Backoff::new(waits.retry.0, waits.retry.1),
            alarm: Backoff::new(waits.alarm.0, waits.alarm.1),
            rested: false,
            safe: 0,
        }
    }

    /// True if every document has its end.
    pub(super) fn is_done(&self) -> bool {
        self.work.is_empty() && self.again.is_empty() && self.refused.is_empty() && self.dead.is_empty()
    }

    /// Documents whose end is known since the last pass; those that are held count again.
    pub(super) fn decided(&self) -> usize {
        self.safe + self.dead.len()
    }

    /// Sends `chosen`, two documents at least, in halves.
    pub(super) fn halve(&mut self, chosen: &[u32]) {
        let (first, second) = chosen.split_at(chosen.len() / 2);
        self.work.push(second.to_vec());
        self.work.push(first.to_vec());
    }

    /// The document at `at` is refused for now.
    pub(super) fn refuse(&mut self, at: u32, reason: &'static str) {
        self.since.entry(at).or_insert_with(Instant::now);
        self.refused.push((at, reason));
    }

    /// True if documents wait to be sent again.
    pub(super) fn is_refused(&self) -> bool {
        !self.again.is_empty() || !self.refused.is_empty()
    }

    /// True if a document was refused in this pass, and has been for `time`.
    pub(super) fn is_stuck(&self, time: Duration) -> bool {
        self.refused.iter().any(|(at, _)| self.since[at].elapsed() >= time)
    }

    /// Takes out what was refused in this pass and has been for `time`, if others were taken meanwhile: the last `at` progress.
    pub(super) fn take_stuck(&mut self, time: Duration, progress: Instant) -> Vec<(u32, &'static str)> {
        let since = &self.since;
        let is_stuck = |at: &u32| since[at].elapsed() >= time && since[at] <= progress;
        self.refused.extract_if(.., |(at, _)| is_stuck(at)).collect()
    }

    /// The document at `at` failed for good.
    pub(super) fn doom(&mut self, at: u32, cause: Cause) {
        let origin = self.batch.items[at as usize].origin;
        self.dead.push(Dying { origin, item: Some(at), cause, attempts: self.attempts });
    }

    /// The records of `safe` are in the index.
    pub(super) fn settled(&mut self, safe: impl ExactSizeIterator<Item = Origin>) {
        if safe.len() > 0 {
            self.retry.reset();
            self.alarm.reset();
        }
        self.safe += safe.len();
        self.batch.done(safe);
    }

    /// Makes ready what is to be sent again, with the documents that are `held`. Returns how long to wait before that.
    pub(super) fn next_pass(&mut self, held: bool) -> Duration {
        self.safe = 0;
        let mut next = std::mem::take(&mut self.again);
        next.extend(self.refused.drain(..).map(|(at, _)| at));
        if held {
            next.extend(self.dead.iter().filter_map(|dying| dying.item));
            self.dead.retain(|dying| dying.item.is_none()); // Nothing of the cluster can make documents of them.
        }
        let rested = std::mem::take(&mut self.rested);
        let wait = match (held, next.is_empty() || rested) {
            (true, _) => self.alarm.next(),
            (false, true) => Duration::ZERO,
            (false, false) => self.retry.next(),
        };
        if !next.is_empty() {
            next.sort_unstable();
            self.work.push(next);
        }
        wait
    }
}
