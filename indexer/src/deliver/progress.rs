//! When documents were last taken, and the news that they are again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Shared by all deliveries of an output.
#[derive(Debug, Default)]
pub struct Progress {
    last: Mutex<Option<Instant>>,
    again: Notify,
}

impl Progress {
    /// When documents were last taken; `None`: never.
    pub(super) fn last(&self) -> Option<Instant> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Documents were taken at `now`. If none had been for `away`, those that rest are woken.
    pub(crate) fn taken(&self, now: Instant, away: Duration) {
        let before = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if before.is_none_or(|before| now.saturating_duration_since(before) >= away) {
            self.again.notify_waiters();
        }
    }

    /// Rests for `wait`, or until documents are taken again after none had been. Returns true if that ended it.
    ///
    /// While others are taken, one that is refused keeps its growing waits; but when all were refused, the wait of each has grown to
    /// seconds, and the first that is taken is the news for all.
    pub(super) async fn rest(&self, wait: Duration) -> bool {
        if wait.is_zero() {
            return false;
        }
        tokio::time::timeout(wait, self.again.notified()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: Duration = Duration::from_secs(1);
    const WAIT: Duration = Duration::from_secs(10);

    /// Seconds that a rest of [`WAIT`] takes while documents are taken at `taken`, seconds after its start; the last ones before it
    /// were taken `before` seconds earlier.
    async fn rests(before: Option<u64>, taken: &'static [u64]) -> u64 {
        let progress = Progress::default();
        if let Some(before) = before {
            progress.taken(Instant::now(), AWAY);
            tokio::time::advance(Duration::from_secs(before)).await;
        }
        let start = Instant::now();
        let others = async {
            for at in taken {
                tokio::time::sleep_until(start + Duration::from_secs(*at)).await;
                progress.taken(Instant::now(), AWAY);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            woken = progress.rest(WAIT) => assert_eq!(woken, start.elapsed() < WAIT),
            () = others => {}
        }
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_document_that_is_taken_after_an_outage_ends_the_waits_of_the_others() {
        assert_eq!(rests(Some(5), &[3]).await, 3);
        assert_eq!(rests(None, &[3]).await, 3, "none was ever taken");
        assert_eq!(rests(Some(5), &[]).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn while_others_are_taken_all_the_time_a_wait_is_not_cut_short() {
        let progress = Progress::default();
        progress.taken(Instant::now(), AWAY);
        let start = Instant::now();
        let others = async {
            loop {
                tokio::time::sleep(AWAY / 2).await;
                progress.taken(Instant::now(), AWAY);
            }
        };
        tokio::select! {
            woken = progress.rest(WAIT) => assert!(!woken),
            () = others => {}
        }
        assert_eq!(start.elapsed(), WAIT);
    }
}
