//! One batch on its way: what is still to be sent, what failed for good. Pure.

use super::Waits;
use crate::batch::{Batch, Origin};
use crate::settle::Cause;
use service::backoff::Backoff;
use std::time::Duration;

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
        self.work.is_empty() && self.again.is_empty() && self.dead.is_empty()
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
