//! How much may pass, and when there is room again. Pure: the time is told, as the time since some start.
//!
//! A meter has room as long as it owes nothing, and then takes a group of any size: what is more than it has is owed, and until
//! that is paid there is no room. So a group is never split, a group larger than the burst passes, and the average is exact.

use super::config::{Rate, Window};
use governor::clock::FakeRelativeClock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

/// A cell of a bucket takes at least so long to come back: the period of a cell is a whole number of nanoseconds, and what that
/// rounds off is one ten-thousandth at most.
const CELL_NS_MIN: u128 = 10_000;
/// Least burst: less would cost a timer a group and bring nothing.
const BURST_MIN: Duration = Duration::from_millis(20);
/// A sliding window is kept in so many slots: what passed is counted until its whole slot has left the window.
const SLOTS: u32 = 100;

/// One measure, bytes or events, under one limit.
#[derive(Debug)]
pub(crate) enum Meter {
    Bucket(Bucket),
    Fixed(Fixed),
    Sliding(Sliding),
}

impl Meter {
    /// A meter with nothing used, as of `now`. `burst` is for a bucket: so long it lets all pass after a pause.
    pub(crate) fn new(rate: Rate, window: Window, burst: Duration, now: Duration) -> Self {
        match window {
            Window::Bucket => Self::Bucket(Bucket::new(rate, burst, now)),
            Window::Fixed(length) => Self::Fixed(Fixed { room: rate.within(length), length, start: now, used: 0 }),
            Window::Sliding(length) => Self::Sliding(Sliding::new(rate.within(length), length)),
        }
    }

    /// When there is room: `now`, or later if nothing more passes until then.
    pub(crate) fn opens(&mut self, now: Duration) -> Duration {
        match self {
            Self::Bucket(bucket) => bucket.settle(now),
            Self::Fixed(fixed) => fixed.opens(now),
            Self::Sliding(sliding) => sliding.opens(now),
        }
    }

    /// Lets `amount` pass, whether there is room or not.
    pub(crate) fn charge(&mut self, amount: u64, now: Duration) {
        match self {
            Self::Bucket(bucket) => bucket.charge(signed(amount), now),
            Self::Fixed(fixed) => fixed.charge(amount, now),
            Self::Sliding(sliding) => sliding.charge(amount, now),
        }
    }

    /// What was charged did not pass after all.
    pub(crate) fn refund(&mut self, amount: u64, now: Duration) {
        match self {
            Self::Bucket(bucket) => bucket.charge(-signed(amount), now),
            Self::Fixed(fixed) => fixed.used = fixed.used.saturating_sub(amount),
            Self::Sliding(sliding) => sliding.refund(amount),
        }
    }

    /// What may still pass at once, negative if something is owed, and what it is at most.
    pub(crate) fn room(&mut self, now: Duration) -> (i64, u64) {
        self.opens(now);
        match self {
            Self::Bucket(bucket) => bucket.room(),
            Self::Fixed(Fixed { room, used, .. }) => (signed(*room) - signed(*used), *room),
            Self::Sliding(Sliding { room, used, .. }) => (signed(*room) - signed(*used), *room),
        }
    }
}

/// GCRA: a bucket that fills at the rate.
pub(crate) struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, FakeRelativeClock, StateInformationMiddleware>,
    /// The limiter's own: it stands where the bucket was looked at last.
    clock: FakeRelativeClock,
    now: Duration,
    /// Bytes or events of one cell.
    cell: i64,
    /// How long a cell takes to come back.
    cell_period: Duration,
    cells: u32,
    /// What passed and is not yet paid in whole cells; negative: paid in advance.
    owed: i64,
    /// Cells that were free when something was paid last, and when that was.
    free: (u32, Duration),
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket").field("owed", &self.owed).field("cells", &self.cells).finish_non_exhaustive()
    }
}

impl Bucket {
    fn new(rate: Rate, burst: Duration, now: Duration) -> Self {
        let (amount, period_ns) = (u128::from(rate.amount.max(1)), rate.period.as_nanos());
        let mut cell: u128 = 1;
        while period_ns * cell / amount < CELL_NS_MIN {
            cell *= 2;
        }
        let cell_ns = u64::try_from((period_ns * cell + amount / 2) / amount).unwrap_or(u64::MAX / 4).max(1);
        let cells = burst.max(BURST_MIN).as_nanos() / u128::from(cell_ns);
        let cells = u32::try_from(cells).unwrap_or(u32::MAX).clamp(1, u32::MAX / 4);
        let cell_period = Duration::from_nanos(cell_ns);
        let quota = Quota::with_period(cell_period).expect("at least a nanosecond").allow_burst(at_least_one(cells));
        let clock = FakeRelativeClock::default();
        let limiter = RateLimiter::direct_with_clock(quota, clock.clone()).with_middleware();
        let cell = i64::try_from(cell).unwrap_or(i64::MAX);
        Self { limiter, clock, now, cell, cell_period, cells, owed: 0, free: (cells, now) }
    }

    fn charge(&mut self, amount: i64, now: Duration) {
        self.settle(now);
        self.owed = self.owed.saturating_add(amount);
        self.settle(now);
    }

    /// Pays what is owed, each cell at the time at which it came back, and returns when nothing will be owed any more.
    fn settle(&mut self, now: Duration) -> Duration {
        loop {
            let cells = u32::try_from((self.owed / self.cell).max(0)).unwrap_or(u32::MAX);
            if cells == 0 {
                self.advance(now);
                return now;
            }
            // In halves of the bucket: it must not be full, and lose what comes, while something is owed.
            let piece = cells.min(self.cells.div_ceil(2));
            match self.limiter.check_n(at_least_one(piece)) {
                Ok(Ok(snapshot)) => {
                    self.owed -= i64::from(piece) * self.cell;
                    self.free = (snapshot.remaining_burst_capacity(), self.now);
                }
                Ok(Err(not_yet)) => {
                    let paid = self.now + not_yet.wait_time_from(governor::clock::Clock::now(&self.clock));
                    if paid > now {
                        self.advance(now);
                        return paid + self.cell_period.saturating_mul(cells - piece);
                    }
                    self.advance(paid);
                }
                Err(_) => unreachable!("a piece is never more than the bucket"),
            }
        }
    }

    fn advance(&mut self, to: Duration) {
        self.clock.advance(to.saturating_sub(self.now));
        self.now = self.now.max(to);
    }

    fn room(&self) -> (i64, u64) {
        let (free, since) = self.free;
        let back = self.now.saturating_sub(since).as_nanos() / self.cell_period.as_nanos().max(1);
        let free = u32::try_from(back).unwrap_or(u32::MAX).saturating_add(free).min(self.cells);
        let cell = self.cell.unsigned_abs();
        (signed(u64::from(free) * cell) - self.owed, u64::from(self.cells) * cell)
    }
}

/// So much in each window. What passed beyond it is taken from the next ones.
#[derive(Debug)]
pub(crate) struct Fixed {
    room: u64,
    length: Duration,
    start: Duration,
    used: u64,
}

impl Fixed {
    fn opens(&mut self, now: Duration) -> Duration {
        let windows = now.saturating_sub(self.start).as_nanos() / self.length.as_nanos();
        if windows > 0 {
            let windows = u32::try_from(windows).unwrap_or(u32::MAX);
            self.used = self.used.saturating_sub(self.room.saturating_mul(windows.into()));
            self.start += self.length.saturating_mul(windows);
        }
        match u32::try_from(self.used / self.room) {
            Ok(0) => now,
            Ok(windows) => self.start + self.length.saturating_mul(windows),
            Err(_) => self.start + self.length.saturating_mul(u32::MAX),
        }
    }

    fn charge(&mut self, amount: u64, now: Duration) {
        self.opens(now);
        self.used = self.used.saturating_add(amount);
    }
}

/// So much in any window, wherever it begins.
#[derive(Debug)]
pub(crate) struct Sliding {
    room: u64,
    length: Duration,
    /// The end of each slot, in order, and what passed in it.
    slots: VecDeque<(Duration, u64)>,
    used: u64,
}

impl Sliding {
    fn new(room: u64, length: Duration) -> Self {
        Self { room, length, slots: VecDeque::new(), used: 0 }
    }

    fn opens(&mut self, now: Duration) -> Duration {
        while let Some((_, amount)) = self.slots.pop_front_if(|(end, _)| *end + self.length <= now) {
            self.used -= amount;
        }
        let mut used = self.used;
        for (end, amount) in &self.slots {
            if used < self.room {
                break;
            }
            used -= amount;
            if used < self.room {
                return *end + self.length;
            }
        }
        now
    }

    fn charge(&mut self, mut amount: u64, now: Duration) {
        self.opens(now);
        let slot = (self.length / SLOTS).as_nanos().max(1);
        let end = (now.as_nanos() / slot + 1) * slot;
        let mut end = Duration::from_nanos(u64::try_from(end).unwrap_or(u64::MAX));
        // What is more than a whole window stays for as many windows.
        while amount > 0 {
            let part = amount.min(self.room);
            match self.slots.back_mut() {
                Some((last, before)) if *last >= end => *before += part,
                _ => self.slots.push_back((end, part)),
            }
            self.used += part;
            amount -= part;
            end += self.length;
        }
    }

    fn refund(&mut self, amount: u64) {
        let mut left = amount;
        for (_, passed) in self.slots.iter_mut().rev() {
            let back = left.min(*passed);
            *passed -= back;
            self.used -= back;
            left -= back;
        }
    }
}

fn at_least_one(cells: u32) -> NonZeroU32 {
    NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN)
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Duration = Duration::from_secs(1_000);

    fn rate(text: &str) -> Rate {
        if text.contains('B') { Rate::bytes(text).expect("a rate") } else { Rate::events(text).expect("a rate") }
    }

    /// Lets groups of `group` pass as soon as there is room, for `time`; returns how much passed after each second.
    fn flooded(meter: &mut Meter, group: u64, time: Duration) -> Vec<u64> {
        let (mut now, mut passed, mut seconds) = (START, 0, Vec::new());
        while now < START + time {
            now = meter.opens(now);
            while START + Duration::from_secs(seconds.len() as u64 + 1) <= now {
                seconds.push(passed);
            }
            meter.charge(group, now);
            passed += group;
        }
        seconds
    }

    /// Average over 10 s once the burst is spent, as a part of the rate.
    #[track_caller]
    fn average(text: &str, burst: Duration, group: u64) -> f64 {
        let rate = rate(text);
        let mut meter = Meter::new(rate, Window::Bucket, burst, START);
        let seconds = flooded(&mut meter, group, Duration::from_secs(30));
        (seconds[22] - seconds[12]) as f64 / (rate.within(Duration::from_secs(10))) as f64
    }

    #[test]
    fn the_average_of_a_bucket_is_its_rate_in_bytes_and_events() {
        for (text, group) in [
            ("20MiB/s", 128 * 1024),
            ("999KiB/s", 4_097),
            ("3GiB/s", 131_071),
            ("1GB/s", 777),
            ("50000/s", 655),
            ("7/s", 1),
            ("100000/m", 3),
        ] {
            let average = average(text, Duration::from_secs(2), group);
            assert!((0.98..=1.02).contains(&average), "{text}: {average}");
        }
    }

    #[test]
    fn a_burst_is_honoured_and_then_spent() {
        let mut meter = Meter::new(rate("1MiB/s"), Window::Bucket, Duration::from_secs(2), START);
        let (mut passed, group) = (0, 64 * 1024);
        while meter.opens(START) == START {
            meter.charge(group, START);
            passed += group;
        }
        assert!((2 << 20..=(2 << 20) + 2 * group).contains(&passed), "{passed}");
        let all = START + Duration::from_secs(60);
        let (room, most) = meter.room(all);
        assert_eq!(room, i64::try_from(most).expect("small"), "after a pause it is full again");
        assert!(most.abs_diff(2 << 20) < (2 << 20) / 1_000, "{most}");
    }

    #[test]
    fn a_group_larger_than_the_burst_passes_and_is_paid_for() {
        let mut meter = Meter::new(rate("1000/s"), Window::Bucket, Duration::from_millis(100), START);
        meter.charge(5_000, START);
        let opens = meter.opens(START);
        let waits = (opens - START).as_secs_f64();
        assert!((4.8..=5.0).contains(&waits), "5,000 less the burst of 100 take 4.9 s: {waits}");
        // The debt is paid while nobody looks, and no faster.
        assert_eq!(meter.opens(START + Duration::from_secs(4)), opens);
        assert_eq!(meter.opens(opens), opens);
        assert_eq!(meter.opens(START + Duration::from_secs(60)), START + Duration::from_secs(60));
    }

    #[test]
    fn what_is_given_back_can_pass_later() {
        for window in [Window::Bucket, Window::Fixed(Duration::from_secs(1)), Window::Sliding(Duration::from_secs(1))] {
            let mut meter = Meter::new(rate("1000/s"), window, Duration::from_secs(1), START);
            meter.charge(3_000, START);
            assert!(meter.opens(START) > START);
            meter.refund(3_000, START);
            assert_eq!(meter.opens(START), START, "{window:?}");
            assert_eq!(meter.room(START).0, 1_000, "{window:?}");
        }
    }

    #[test]
    fn a_fixed_window_lets_its_amount_pass_and_takes_what_was_more_from_the_next() {
        let mut meter = Meter::new(rate("10/s"), Window::Fixed(Duration::from_secs(60)), Duration::ZERO, START);
        meter.charge(599, START + Duration::from_secs(59));
        assert_eq!(meter.opens(START + Duration::from_secs(59)), START + Duration::from_secs(59));
        meter.charge(2, START + Duration::from_secs(59));
        assert_eq!(meter.opens(START + Duration::from_secs(59)), START + Duration::from_secs(60));
        assert_eq!(meter.room(START + Duration::from_secs(60)), (599, 600), "one was taken in advance");
        meter.charge(599 + 1_200, START + Duration::from_secs(60));
        assert_eq!(meter.opens(START + Duration::from_secs(61)), START + Duration::from_secs(240));
    }

    #[test]
    fn a_sliding_window_never_holds_more_than_its_amount_and_a_group() {
        let (rate, window) = (rate("10/s"), Duration::from_secs(60));
        let mut meter = Meter::new(rate, Window::Sliding(window), Duration::ZERO, START);
        meter.charge(400, START);
        meter.charge(200, START + Duration::from_secs(30));
        let opens = meter.opens(START + Duration::from_secs(30));
        assert!(opens >= START + window && opens <= START + window + window / 50, "{opens:?}");
        assert_eq!(meter.room(opens).0, 400);
        let mut meter = Meter::new(rate, Window::Sliding(window), Duration::ZERO, START);
        let seconds = flooded(&mut meter, 7, Duration::from_secs(6_100));
        for end in 60..seconds.len() {
            let within = seconds[end] - seconds[end - 60];
            assert!(within <= 600 + 7, "{within} in the window that ends at {end}");
        }
        let average = (seconds[6_060] - seconds[60]) as f64 / 60_000.0;
        assert!((0.98..=1.02).contains(&average), "{average}");
    }

    proptest! {
        /// Whatever the groups and pauses: never more than rate × time + burst + one group.
        #[test]
        fn a_bucket_never_lets_more_pass_than_rate_and_burst(
            groups in prop::collection::vec((1_u64..50_000, 0_u64..400), 1..200),
            burst_ms in 20_u64..3_000,
        ) {
            let mut meter = Meter::new(rate("100000/s"), Window::Bucket, Duration::from_millis(burst_ms), START);
            let (mut now, mut passed) = (START, 0);
            for (group, pause_ms) in groups {
                now = meter.opens(now + Duration::from_millis(pause_ms));
                let most = 100 * u64::try_from((now - START).as_millis()).expect("small") + 100 * (burst_ms + 1);
                prop_assert!(passed <= most, "{passed} of {most}");
                meter.charge(group, now);
                passed += group;
            }
        }

        /// Who looks how often changes nothing.
        #[test]
        fn looking_changes_nothing(groups in prop::collection::vec(1_u64..50_000, 1..50), step_ms in 1_u64..700) {
            let new = || Meter::new(rate("30000/s"), Window::Bucket, Duration::from_secs(1), START);
            let (mut watched, mut alone, mut now) = (new(), new(), START);
            for group in groups {
                watched.charge(group, now);
                alone.charge(group, now);
                let opens = alone.opens(now);
                let mut look = now;
                while look < opens {
                    prop_assert_eq!(watched.opens(look), opens);
                    look += Duration::from_millis(step_ms);
                }
                now = opens;
            }
        }
    }
}
