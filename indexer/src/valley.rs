//! How fast overflow topics are read: at full speed in the valleys of the main topics, a share of it in their peaks. Pure.

use std::time::{Duration, Instant};

/// While the main topics lag, so many records a second of the overflow topics are always read: also by an indexer that has no
/// main partition, or whose main partitions stand still.
const FLOOR_PER_S: f64 = 100.0;
/// The share of so many records is read in one go: whenever a partition is paused, what was fetched ahead is thrown away.
const GRANT_RECORDS: f64 = 2_000.0;
/// A smaller one after this time.
const GRANT_EVERY: Duration = Duration::from_secs(1);
/// Most records that were taken in advance, and most that are owed.
const CREDIT: (f64, f64) = (-100_000.0, 10_000.0);

/// Decides whether overflow topics are read now.
#[derive(Debug)]
pub struct Valley {
    max_lag: u64,
    /// Overflow records for each main one.
    ratio: f64,
    is_open: bool,
    is_flowing: bool,
    credit: f64,
    looked: Instant,
    stopped: Instant,
}

impl Valley {
    /// Full speed while the main topics' lag is at most `max_lag`, `min_share` percent of the records always. Closed until the lag
    /// is known.
    pub fn new(max_lag: u64, min_share: u8, now: Instant) -> Self {
        let share = f64::from(min_share.min(100));
        // Of a share of 100 nothing is ever held back.
        let ratio = if share < 100.0 { share / (100.0 - share) } else { f64::INFINITY };
        Self { max_lag, ratio, is_open: false, is_flowing: false, credit: 0.0, looked: now, stopped: now }
    }

    /// True while the main topics lag so little that overflow topics are read at full speed.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// True if overflow topics are to be read now. `lag`: of the group on the main topics, if it is known; `main` and `overflow`:
    /// records taken since the last call.
    pub fn flows(&mut self, lag: Option<u64>, main: u64, overflow: u64, now: Instant) -> bool {
        self.is_open = match lag {
            // Closes above the limit, opens at half of it: else it would flutter.
            Some(lag) if self.is_open => lag <= self.max_lag,
            Some(lag) => lag <= self.max_lag / 2,
            None => false,
        };
        let elapsed = now.saturating_duration_since(self.looked).as_secs_f64();
        self.looked = now;
        if self.is_open || self.ratio.is_infinite() {
            self.credit = 0.0;
            self.is_flowing = true;
            return true;
        }
        let credit = self.credit + main as f64 * self.ratio + elapsed * FLOOR_PER_S - overflow as f64;
        self.credit = credit.clamp(CREDIT.0, CREDIT.1);
        let is_due = now.saturating_duration_since(self.stopped) >= GRANT_EVERY;
        let flows = if self.is_flowing {
            self.credit > 0.0
        } else {
            self.credit >= GRANT_RECORDS || (self.credit >= 1.0 && is_due)
        };
        if self.is_flowing && !flows {
            self.stopped = now;
        }
        self.is_flowing = flows;
        flows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        service::clock::monotonic()
    }

    #[test]
    fn it_opens_at_half_the_limit_and_closes_above_it() {
        let begin = now();
        let mut valley = Valley::new(1000, 5, begin);
        let mut check = |lag, open| {
            valley.flows(lag, 0, 0, begin);
            assert_eq!(valley.is_open(), open, "{lag:?}");
        };
        check(None, false);
        check(Some(501), false);
        check(Some(500), true);
        check(Some(1000), true);
        check(Some(1001), false);
        check(Some(900), false);
        check(Some(0), true);
        check(None, false); // What is not known may be large.
    }

    /// Of `main` records a tick of 10 ms, and as many overflow records as it lets through, up to `offered` a tick: what percent of
    /// all that is taken is overflow.
    #[track_caller]
    fn share(min_share: u8, main: u64, offered: u64) -> f64 {
        let (begin, tick) = (now(), Duration::from_millis(10));
        let mut valley = Valley::new(1000, min_share, begin);
        let (mut all, mut of_overflow, mut taken) = (0, 0, 0);
        for round in 1..=60_000 {
            let flows = valley.flows(Some(1_000_000), main, taken, begin + tick * round);
            taken = if flows { offered } else { 0 };
            all += main + taken;
            of_overflow += taken;
        }
        of_overflow as f64 * 100.0 / all as f64
    }

    #[test]
    fn in_a_peak_the_share_is_kept_however_much_is_offered() {
        for min_share in [1, 5, 30] {
            for offered in [10_000, 50_000] {
                // 500,000 records a second: the floor is a fiftieth of a percent.
                let share = share(min_share, 5_000, offered);
                assert!((share - f64::from(min_share)).abs() < 0.3, "{share} of {min_share}, {offered} offered");
            }
        }
        assert!(share(100, 5_000, 10_000) > 66.0, "never held back");
    }

    #[test]
    fn also_where_the_main_topics_stand_still_overflow_goes_on() {
        let (begin, mut taken, mut all) = (now(), 0, 0);
        let mut valley = Valley::new(1000, 5, begin);
        for second in 1..=100 {
            let flows = valley.flows(Some(1_000_000), 0, taken, begin + Duration::from_secs(second));
            taken = if flows { 150 } else { 0 };
            all += taken;
        }
        assert!((9_000..=10_200).contains(&all), "100 a second, {all} in 100 s");
    }

    #[test]
    fn what_was_taken_in_a_valley_is_not_held_against_it() {
        let begin = now();
        let mut valley = Valley::new(1000, 5, begin);
        assert!(valley.flows(Some(0), 0, 0, begin));
        assert!(valley.flows(Some(0), 0, 1_000_000, begin));
        assert!(!valley.flows(Some(5000), 0, 0, begin));
        assert!(valley.flows(Some(5000), 40_000, 0, begin), "2000 are its share of 40,000");
    }
}
