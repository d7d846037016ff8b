//! The groups of one Kafka transaction: how many are on their way, those that wait for its end, and whether it can succeed.

use event::{Ack, Source};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// One transaction. Its groups are settled together, or given back together.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Groups that have not ended.
    open: AtomicUsize,
    is_failed: AtomicBool,
    kept: Mutex<Vec<Kept>>,
    changed: Arc<Notify>,
}

/// A group that has ended, and is owed until the transaction has.
pub(crate) type Kept = (Arc<Source>, Ack);

impl Attempt {
    /// `changed` is notified when the last group has ended, and when one has failed.
    pub(crate) fn new(changed: Arc<Notify>) -> Self {
        Self { open: AtomicUsize::new(0), is_failed: AtomicBool::new(false), kept: Mutex::default(), changed }
    }

    /// A group is part of it.
    pub(crate) fn begins(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    /// All parts of a group are delivered, or will never be.
    pub(crate) fn ends(&self, source: Arc<Source>, ack: Ack) {
        self.keep(source, ack);
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.changed.notify_one();
        }
    }

    /// The debt of a group that has ended.
    pub(crate) fn keep(&self, source: Arc<Source>, ack: Ack) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push((source, ack));
    }

    /// A part of a group is not delivered: all of it is to be read again.
    pub(crate) fn fail(&self) {
        if !self.is_failed.swap(true, Ordering::AcqRel) {
            self.changed.notify_one();
        }
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.is_failed.load(Ordering::Acquire)
    }

    /// True if no group is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// The groups that have ended.
    pub(crate) fn take(&self) -> Vec<Kept> {
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
