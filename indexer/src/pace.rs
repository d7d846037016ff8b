//! How many bulk requests are under way at once: as many as the cluster takes. Additive increase, multiplicative decrease.
//!
//! More only while all of them are used and the answers come as fast as before; fewer as soon as the node says that it is
//! busy, or answers later and later. A mean follows answers that slow down little by little, because there are more and more of
//! them at once; so they are compared with the fastest, too, and what that is is measured anew now and then with fewer at once.
//! Decisions are pure and get the time handed in; waiting for a place is the thin shell.
//!
//! Source: V. Jacobson, "Congestion Avoidance and Control", 1988; the smoothing as in Vector's adaptive concurrency; the fastest
//! answer as in TCP Vegas, and measured anew as in BBR.

use crate::metrics::Metrics;
use prometheus::IntGauge;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Part of the limit that is left after the node said that it is busy.
const BUSY_RATIO: f64 = 0.5;
/// Part of the limit that is left after answers took longer than before.
const LATE_RATIO: f64 = 0.9;
/// Weight of the newest latency in the mean.
const WEIGHT: f64 = 0.4;
/// So many deviations above the mean are late.
const DEVIATIONS: f64 = 2.5;
/// A latency must be longer than the mean by this part of it, too: a steady node's deviation is next to nothing.
const LATE_SHARE: f64 = 0.25;
/// Answers that take longer than the fastest by this factor are late, however slowly it came to that.
const FASTEST_RATIO: f64 = 2.5;
/// After so long it is measured anew what the fastest is, with so many times fewer requests at once: then a node whose answers take
/// longer just because there are more of them shows no slower fastest than before.
const FASTEST_FOR: Duration = Duration::from_secs(60);
/// Requests smaller than the largest by this factor say nothing about latency.
const SMALL: usize = 4;
/// The shortest time between two decisions.
const WINDOW_MIN: Duration = Duration::from_millis(100);

/// How a request went, as far as the pace goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// The node took it.
    Taken,
    /// The node, or one of its indices, has too much to do; or it gave no answer.
    Busy,
    /// It was refused for a reason that has nothing to do with load.
    Neither,
}

/// Gives out the places of requests.
#[derive(Debug)]
pub struct Pace {
    control: Mutex<Control>,
    freed: Notify,
    gauge: IntGauge,
}

impl Pace {
    /// Starts with `min`, or two if that is less and `max` allows it.
    pub fn new(min: usize, max: usize, metrics: &Metrics) -> Self {
        let control = Control::new(min, max, Instant::now());
        let gauge = metrics.concurrency.clone();
        gauge.set(control.limit() as i64);
        Self { control: Mutex::new(control), freed: Notify::new(), gauge }
    }

    /// Waits for a place.
    pub async fn place(&self) -> PlaceTaken<'_> {
        loop {
            let freed = self.freed.notified();
            if self.control().take() {
                return PlaceTaken { pace: self, sign: None };
            }
            freed.await;
        }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the requests under way; given back when dropped.
#[derive(Debug)]
pub struct PlaceTaken<'p> {
    pace: &'p Pace,
    sign: Option<(Sign, usize, Duration)>,
}

impl PlaceTaken<'_> {
    /// Gives the place back, with how it went: a body of so many `bytes`, answered after `latency`.
    pub fn ended(mut self, sign: Sign, bytes: usize, latency: Duration) {
        self.sign = Some((sign, bytes, latency));
    }
}

impl Drop for PlaceTaken<'_> {
    fn drop(&mut self) {
        let mut control = self.pace.control();
        control.give();
        if let Some((sign, bytes, latency)) = self.sign {
            control.ended(sign, bytes, latency, Instant::now());
        }
        self.pace.gauge.set(control.limit() as i64);
        drop(control);
        self.pace.freed.notify_waiters();
    }
}

/// The decisions.
#[derive(Debug)]
struct Control {
    min: f64,
    max: f64,
    limit: f64,
    under_way: usize,
    /// Seconds: mean of earlier windows, and how far they were from it.
    mean: Option<f64>,
    deviation: f64,
    /// Seconds: of the fastest window since it was last measured anew.
    fastest: Option<f64>,
    measure_due: Instant,
    measuring: Measuring,
    bytes_max: usize,
    window: Window,
}

/// Whether it is being measured what the fastest answers are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Measuring {
    No,
    /// There are fewer places, and requests of before are still under way. Then there will be so many again.
    Emptying(f64),
    /// This window counts.
    Now(f64),
}

/// What was seen since the last decision.
#[derive(Debug)]
struct Window {
    end: Instant,
    seconds: f64,
    count: u32,
    busy: bool,
    full: bool,
}

impl Window {
    fn new(end: Instant) -> Self {
        Self { end, seconds: 0.0, count: 0, busy: false, full: false }
    }
}

impl Control {
    fn new(min: usize, max: usize, now: Instant) -> Self {
        let (min, max) = (min.max(1) as f64, max.max(min).max(1) as f64);
        let window = Window::new(now + WINDOW_MIN);
        let (limit, measuring) = (min.max(2.0).min(max), Measuring::No);
        let (fastest, measure_due) = (None, now + FASTEST_FOR);
        let (mean, deviation, under_way, bytes_max) = (None, 0.0, 0, 0);
        Self { min, max, limit, under_way, mean, deviation, fastest, measure_due, measuring, bytes_max, window }
    }

    fn limit(&self) -> usize {
        self.limit as usize
    }

    fn take(&mut self) -> bool {
        let free = self.under_way < self.limit();
        if free {
            self.under_way += 1;
        }
        self.window.full |= self.under_way >= self.limit();
        free
    }

    fn give(&mut self) {
        self.under_way -= 1;
    }

    fn ended(&mut self, sign: Sign, bytes: usize, latency: Duration, now: Instant) {
        self.window.busy |= sign == Sign::Busy;
        self.bytes_max = self.bytes_max.max(bytes);
        if sign == Sign::Taken && bytes >= self.bytes_max / SMALL {
            self.window.seconds += latency.as_secs_f64();
            self.window.count += 1;
        }
        if now >= self.window.end && (self.window.busy || self.window.count > 0) {
            self.decide(now);
        }
    }

    fn decide(&mut self, now: Instant) {
        let seconds = (self.window.count > 0).then(|| self.window.seconds / f64::from(self.window.count));
        match self.measuring {
            Measuring::No => self.adapt(seconds),
            Measuring::Emptying(before) => self.measuring = Measuring::Now(before),
            Measuring::Now(before) => {
                self.fastest = seconds.or(self.fastest);
                (self.limit, self.measuring) = (if self.window.busy { self.limit } else { before }, Measuring::No);
                self.measure_due = now + FASTEST_FOR;
            }
        }
        if self.window.busy && self.measuring != Measuring::No {
            (self.measure_due, self.measuring) = (now + FASTEST_FOR, Measuring::No); // There are few enough now.
        } else if self.measuring == Measuring::No && now >= self.measure_due {
            self.measuring = Measuring::Emptying(self.limit);
            self.limit = (self.limit / FASTEST_RATIO).max(self.min);
        }
        let length = self.mean.map_or(WINDOW_MIN, Duration::from_secs_f64).max(WINDOW_MIN);
        self.window = Window::new(now + length);
        self.window.full = self.under_way >= self.limit();
    }

    fn adapt(&mut self, seconds: Option<f64>) {
        let fastest = [seconds, self.fastest].into_iter().flatten().reduce(f64::min);
        let late = match (seconds, self.mean) {
            (Some(seconds), Some(mean)) => {
                seconds > mean + (self.deviation * DEVIATIONS).max(mean * LATE_SHARE)
                    || fastest.is_some_and(|fastest| seconds > fastest * FASTEST_RATIO)
            }
            _ => false,
        };
        self.fastest = fastest;
        if self.window.busy {
            self.limit *= BUSY_RATIO;
        } else if late {
            self.limit *= LATE_RATIO;
        } else if self.window.full {
            self.limit += 1.0;
        }
        self.limit = self.limit.clamp(self.min, self.max);
        if let Some(seconds) = seconds {
            let mean = self.mean.unwrap_or(seconds);
            self.deviation += WEIGHT * ((seconds - mean).abs() - self.deviation);
            self.mean = Some(mean + WEIGHT * (seconds - mean));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service::metrics::Registry;

    const BODY: usize = 1 << 20;

    /// A node that answers `at_once` requests in 100 ms each, and takes so much longer for each one more; above `refuse`
    /// it says that it is busy. Returns the limit after each of `rounds` in which all places are used.
    fn drive(control: &mut Control, now: &mut Instant, rounds: usize, at_once: usize, refuse: usize) -> Vec<usize> {
        let round = |_| {
            let mut sent = 0;
            while control.take() {
                sent += 1;
            }
            let latency = Duration::from_millis(100) * (sent.max(at_once) / at_once) as u32;
            *now += latency;
            for _ in 0..sent {
                control.give();
                let sign = if sent > refuse { Sign::Busy } else { Sign::Taken };
                control.ended(sign, BODY, latency, *now);
            }
            control.limit()
        };
        (0..rounds).map(round).collect()
    }

    #[test]
    fn it_grows_by_one_while_the_node_keeps_up_and_no_further_than_allowed() {
        let mut now = Instant::now();
        let mut control = Control::new(1, 6, now);
        assert_eq!(drive(&mut control, &mut now, 8, 100, 100), [3, 4, 5, 6, 6, 6, 6, 6]);
    }

    #[test]
    fn a_busy_node_halves_it_and_it_stays_near_what_the_node_takes() {
        let mut now = Instant::now();
        let mut control = Control::new(1, 64, now);
        let limits = drive(&mut control, &mut now, 200, 100, 12);
        assert!(limits.iter().all(|limit| *limit <= 13), "{limits:?}");
        let late = &limits[100..];
        let mean = late.iter().sum::<usize>() as f64 / late.len() as f64;
        assert!((7.0..=12.0).contains(&mean), "{mean} {late:?}");
    }

    #[test]
    fn answers_that_take_longer_than_before_lower_it() {
        let mut now = Instant::now();
        let mut control = Control::new(1, 64, now);
        let before = drive(&mut control, &mut now, 20, 100, 100);
        assert_eq!(before.last(), Some(&22));
        let after = drive(&mut control, &mut now, 2, 10, 100); // Twenty-two at once take twice as long.
        assert_eq!(after, [23, 20]); // The first window still has answers from before.
    }

    /// A node that answers `at_once` requests in 100 ms, and more of them as much later as there are more: each answer is only
    /// little later than the one before. Returns the limit after each round of an hour.
    fn creep(at_once: f64) -> Vec<usize> {
        let begun = Instant::now();
        let (mut now, mut control, mut limits) = (begun, Control::new(1, 64, begun), Vec::new());
        while now < begun + Duration::from_secs(3600) {
            let mut sent = 0;
            while control.take() {
                sent += 1;
            }
            let latency = Duration::from_millis(100).mul_f64((f64::from(sent) / at_once).max(1.0));
            now += latency;
            for _ in 0..sent {
                control.give();
                control.ended(Sign::Taken, BODY, latency, now);
            }
            limits.push(control.limit());
        }
        limits
    }

    #[test]
    fn answers_that_slow_down_little_by_little_do_not_let_it_creep() {
        for at_once in [1_u8, 2, 4, 10] {
            let limits = creep(f64::from(at_once));
            let most = limits.iter().max().copied().unwrap_or(0);
            assert!(most <= usize::from(at_once) * 3 + 3, "{at_once} at once: {most}");
            let few = limits.iter().skip(100).filter(|limit| **limit < usize::from(at_once)).count();
            assert!(few < limits.len() / 20, "{at_once} at once: fewer in {few} of {} rounds", limits.len());
        }
    }

    #[test]
    fn a_node_that_has_become_slower_for_good_is_used_as_before_after_a_while() {
        let mut now = Instant::now();
        let mut control = Control::new(1, 64, now);
        assert_eq!(drive(&mut control, &mut now, 20, 100, 100).last(), Some(&22));
        let slow = |control: &mut Control, now: &mut Instant| {
            let mut sent = 0;
            while control.take() {
                sent += 1;
            }
            *now += Duration::from_secs(1); // Ten times as long, however few.
            for _ in 0..sent {
                control.give();
                control.ended(Sign::Taken, BODY, Duration::from_secs(1), *now);
            }
            control.limit()
        };
        let limits: Vec<usize> = (0..180).map(|_| slow(&mut control, &mut now)).collect();
        assert!(limits[..50].iter().min() < Some(&5), "{limits:?}");
        assert!(limits.last() > Some(&22), "{limits:?}");
    }

    #[test]
    fn idle_places_and_small_requests_change_nothing() {
        let mut now = Instant::now();
        let mut control = Control::new(1, 64, now);
        let mut one = |bytes, latency_ms| {
            assert!(control.take());
            now += Duration::from_millis(200);
            control.give();
            control.ended(Sign::Taken, bytes, Duration::from_millis(latency_ms), now);
            control.limit()
        };
        assert_eq!((0..20).map(|_| one(BODY, 100)).max(), Some(2)); // Never more than one of two places is used.
        assert_eq!(one(BODY / 8, 5_000), 2);
        assert_eq!(one(BODY, 5_000), 1);
    }

    #[test]
    fn a_fixed_number_stays() {
        let mut now = Instant::now();
        let mut control = Control::new(3, 3, now);
        assert_eq!(drive(&mut control, &mut now, 4, 1, 1), [3, 3, 3, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_waited_for_and_given_back_also_when_a_request_is_given_up() {
        let metrics = Metrics::new(&Registry::default());
        let pace = Pace::new(1, 1, &metrics);
        let first = pace.place().await;
        assert!(tokio::time::timeout(Duration::from_secs(1), pace.place()).await.is_err());
        drop(first); // Given up, without an end.
        let second = pace.place().await;
        second.ended(Sign::Taken, BODY, Duration::from_millis(1));
        tokio::time::timeout(Duration::from_secs(1), pace.place()).await.expect("the place is free again");
        assert_eq!(metrics.concurrency.get(), 1);
    }
}
