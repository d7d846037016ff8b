//! How many batches are under way at once, and what happens when all of them are stuck.
//!
//! A batch is stuck when documents of it are refused for now and no other document is taken. If such batches kept all slots, nobody
//! would see whether others would be taken; so they make way, at first to as many spare slots, then one after the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The slots of all batches.
#[derive(Debug)]
pub(super) struct Slots {
    ordinary: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    /// A batch waits, or would have to if one came.
    is_awaited: AtomicBool,
    /// When a batch was last made to leave.
    left: Mutex<Option<Instant>>,
}

/// The right to be one of the batches under way.
#[derive(Debug)]
pub(super) struct Slot {
    held: OwnedSemaphorePermit,
    is_spare: bool,
    all: Arc<Slots>,
}

impl Slots {
    /// So many, and as many spare ones.
    pub(super) fn new(batches_max: usize) -> Self {
        let slots = || Arc::new(Semaphore::new(batches_max));
        Self { ordinary: slots(), spare: slots(), is_awaited: AtomicBool::new(false), left: Mutex::default() }
    }

    /// Waits for a slot.
    pub(super) async fn slot(self: &Arc<Self>) -> Slot {
        self.is_awaited.store(true, Ordering::Release);
        let held = self.ordinary.clone().acquire_owned().await.expect("the semaphore is never closed");
        self.is_awaited.store(false, Ordering::Release);
        Slot { held, is_spare: false, all: self.clone() }
    }
}

impl Slot {
    /// What has it is stuck. Takes a spare slot instead, if there is one. Returns true if there is none, another batch waits, and
    /// nobody had to leave within `time`: then what is stuck has to go elsewhere, so that one more batch is tried.
    pub(super) fn must_leave(&mut self, time: Duration, now: Instant) -> bool {
        if !self.is_spare
            && let Ok(spare) = self.all.spare.clone().try_acquire_owned()
        {
            (self.held, self.is_spare) = (spare, true); // The ordinary one is free now.
            return false;
        }
        if !self.all.is_awaited.load(Ordering::Acquire) || self.all.spare.available_permits() > 0 {
            return false;
        }
        let mut left = self.all.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.is_some_and(|left| now.duration_since(left) < time) {
            return false;
        }
        *left = Some(now);
        true
    }
}
