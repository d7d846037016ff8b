//! How large a request the cluster takes, learned from those that it refused as too large (413). Pure; time is handed in.

use std::time::Duration;
use tokio::time::Instant;

/// A refusal is forgotten after so long: the limit may have been raised. One request then shows it.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// What is known of the largest request.
#[derive(Debug, Default)]
pub struct Ceiling {
    /// Bytes of the smallest request that was refused, and when.
    refused: Option<(usize, Instant)>,
    /// Bytes of the largest request below it that was taken.
    passed: usize,
}

impl Ceiling {
    /// A request of `bytes` was refused as too large.
    pub fn refused(&mut self, bytes: usize, now: Instant) {
        let smallest = self.bytes_max(now).map_or(bytes, |_| self.refused.map_or(bytes, |(known, _)| known.min(bytes)));
        self.refused = Some((smallest, now));
        if self.passed >= smallest {
            self.passed = 0; // The limit has been lowered.
        }
    }

    /// A request of `bytes` was taken.
    pub fn passed(&mut self, bytes: usize) {
        if self.refused.is_some_and(|(refused, _)| bytes < refused) {
            self.passed = self.passed.max(bytes);
        }
    }

    /// The largest request to send; `None`: nothing is known.
    pub fn bytes_max(&mut self, now: Instant) -> Option<usize> {
        let (refused, since) = self.refused?;
        if now.duration_since(since) >= FORGET_AFTER {
            *self = Self::default();
            return None;
        }
        Some(self.passed.max(refused / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_halves_it_and_what_passes_below_raises_it() {
        let (mut ceiling, now) = (Ceiling::default(), Instant::now());
        ceiling.passed(1000);
        assert_eq!(ceiling.bytes_max(now), None);
        ceiling.refused(800, now);
        assert_eq!(ceiling.bytes_max(now), Some(400));
        ceiling.passed(600);
        assert_eq!(ceiling.bytes_max(now), Some(600));
        ceiling.refused(900, now); // No news.
        assert_eq!(ceiling.bytes_max(now), Some(600));
        ceiling.refused(500, now); // Lowered since.
        assert_eq!(ceiling.bytes_max(now), Some(250));
    }

    #[test]
    fn it_is_forgotten_after_a_while() {
        let (mut ceiling, now) = (Ceiling::default(), Instant::now());
        ceiling.refused(800, now);
        assert_eq!(ceiling.bytes_max(now + FORGET_AFTER - Duration::from_millis(1)), Some(400));
        assert_eq!(ceiling.bytes_max(now + FORGET_AFTER), None);
        ceiling.refused(2000, now + FORGET_AFTER);
        assert_eq!(ceiling.bytes_max(now + FORGET_AFTER), Some(1000));
    }
}
