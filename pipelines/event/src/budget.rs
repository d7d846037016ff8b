//! One number that bounds the bytes in flight.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Largest budget: what a semaphore permit can count, in bytes.
const BYTES_MAX: usize = u32::MAX as usize;

/// Bytes that may be between an input and its acknowledgement at once. Cheap to clone; clones share the bytes.
#[derive(Debug, Clone)]
pub struct Budget {
    free: Arc<Semaphore>,
    total: usize,
}

/// A share of a [`Budget`]; goes back when dropped.
#[derive(Debug)]
pub struct Permit {
    _share: Option<OwnedSemaphorePermit>,
}

impl Permit {
    /// A permit of nothing, for debts that hold no memory.
    pub fn none() -> Self {
        Self { _share: None }
    }
}

impl Budget {
    /// A budget of `bytes` (at least one, at most 4 GiB).
    pub fn new(bytes: usize) -> Self {
        let total = bytes.clamp(1, BYTES_MAX);
        Self { free: Arc::new(Semaphore::new(total)), total }
    }

    /// Takes `bytes`, or everything if there is less in all, so that no single group can wait for ever.
    /// Waits until they are free.
    pub async fn take(&self, bytes: usize) -> Permit {
        let share = self.free.clone().acquire_many_owned(self.capped(bytes)).await;
        Permit { _share: share.ok() } // Never closed, so never an error.
    }

    /// Takes `bytes` if they are free now.
    pub fn try_take(&self, bytes: usize) -> Option<Permit> {
        let share = self.free.clone().try_acquire_many_owned(self.capped(bytes)).ok()?;
        Some(Permit { _share: Some(share) })
    }

    /// Bytes in all.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Bytes taken now.
    pub fn in_use(&self) -> usize {
        self.total - self.free.available_permits()
    }

    fn capped(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.total)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_larger_than_the_budget_takes_all_of_it() {
        let budget = Budget::new(10);
        let all = budget.try_take(1_000);
        assert!(all.is_some());
        assert_eq!(budget.in_use(), 10);
        assert!(budget.try_take(1).is_none());
        drop(all);
        assert_eq!(budget.in_use(), 0);
    }
}
