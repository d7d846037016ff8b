//! How long to wait before trying again: full jitter under a doubling cap.
//!
//! Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: of the shapes compared there, full jitter needs
//! the fewest calls to get everyone through after an outage.

use std::time::Duration;

/// Waits that grow while a peer stays down, and start small again after `reset`.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    cap: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    /// Waits under `min` at first, under `max` in the end. A `max` below `min` counts as `min`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), cap: min, random: fastrand::Rng::new() }
    }

    /// The next wait: evenly distributed from zero to the cap, which then doubles.
    #[expect(clippy::should_implement_trait, reason = "an endless iterator would hand out Options")]
    pub fn next(&mut self) -> Duration {
        let wait = self.cap.mul_f64(self.random.f64());
        self.cap = self.cap.saturating_mul(2).min(self.max);
        wait
    }

    /// Forgets the failures: the peer answered.
    pub fn reset(&mut self) {
        self.cap = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_millis(1500);

    /// The longest of the n-th waits over many runs: close to the cap, as the waits are evenly distributed.
    fn longest_ms(n: usize) -> u128 {
        let nth = |seed| {
            let mut backoff = Backoff::new(MIN, MAX);
            backoff.random.seed(seed);
            (0..n).map(|_| backoff.next()).last().unwrap_or_default().as_millis()
        };
        (0..2_000).map(nth).max().unwrap_or_default()
    }

    #[track_caller]
    fn check(n: usize, cap_ms: u128) {
        let longest = longest_ms(n);
        assert!(longest <= cap_ms && longest > cap_ms * 95 / 100, "wait {n}: longest {longest}, cap {cap_ms}");
    }

    #[test]
    fn the_cap_doubles_up_to_the_maximum() {
        check(1, 100);
        check(2, 200);
        check(4, 800);
        check(5, 1500);
        check(90, 1500);
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let mut backoff = Backoff::new(MAX, MAX);
        backoff.random.seed(7);
        let short = (0..1000).filter(|_| backoff.next() < MAX / 4).count();
        assert!((200..300).contains(&short), "{short} of 1000 waits in the first quarter");
    }

    #[test]
    fn a_reset_starts_small_again() {
        let mut backoff = Backoff::new(MIN, MAX);
        for _ in 0..10 {
            backoff.next();
        }
        backoff.reset();
        assert!(backoff.next() <= MIN);
    }

    #[test]
    fn a_maximum_below_the_minimum_counts_as_the_minimum() {
        let mut backoff = Backoff::new(MAX, MIN);
        assert!((0..100).map(|_| backoff.next()).all(|wait| wait <= MAX));
    }
}
