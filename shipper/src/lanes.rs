//! When a group is handed to librdkafka.
//!
//! For a partition of an idempotent producer librdkafka has one request in flight (its window of five counts records, not
//! requests). While records that are older than its `linger.ms` wait behind it, its broker thread asks again and again
//! instead of sleeping: a third of the agent's processor time on a near broker, a whole core on a far one. So groups wait
//! here, in a lane for each partition, until they fill a request or have waited for `linger`, and until the one before has
//! its reports.

use event::Source;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// librdkafka's own `linger.ms`, at most: what is handed over in one go is sent in one request.
pub(crate) const HAND_OVER: Duration = Duration::from_millis(1);

/// Groups that wait to be handed over; those of one lane keep their order.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    lanes: Vec<Lane<T>>,
    batch_bytes: usize,
    linger: Duration,
}

#[derive(Debug)]
struct Lane<T> {
    gate: Arc<Gate>,
    waiting: VecDeque<Parcel<T>>,
    /// Size of what waits.
    bytes: usize,
}

/// An encoded group.
#[derive(Debug)]
pub(crate) struct Parcel<T> {
    pub(crate) source: Arc<Source>,
    pub(crate) epoch: u32,
    /// What it takes of a request.
    pub(crate) bytes: usize,
    pub(crate) since: Instant,
    /// It goes in a request of its own.
    pub(crate) is_alone: bool,
    pub(crate) rest: T,
}

impl<T> Lanes<T> {
    /// `partitions`: of the topic. `batch_bytes`: what goes into one request. `linger`: longest wait for it to fill.
    pub(crate) fn new(partitions: usize, batch_bytes: usize, linger: Duration) -> Self {
        let mut lanes = Self { lanes: Vec::new(), batch_bytes, linger: linger.saturating_sub(HAND_OVER) };
        lanes.set_partitions(partitions);
        lanes
    }

    /// One lane for each partition, one at least.
    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// The topic has this many partitions now. What waits for one that is no more is given back.
    pub(crate) fn set_partitions(&mut self, partitions: usize) {
        let lane = || Lane { gate: Arc::default(), waiting: VecDeque::new(), bytes: 0 };
        let partitions = partitions.max(1);
        for parcel in self.lanes.drain(partitions.min(self.lanes.len())..).flat_map(|lane| lane.waiting) {
            parcel.source.break_off(parcel.epoch); // What follows must not overtake it.
        }
        self.lanes.resize_with(partitions, lane);
    }

    /// False if two requests' worth waits for that partition: it answers too slowly, or not at all.
    pub(crate) fn is_open(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.bytes < 2 * self.batch_bytes)
    }

    /// True if nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.waiting.is_empty())
    }

    /// What waits is given back.
    pub(crate) fn clear(&mut self) {
        for lane in &mut self.lanes {
            lane.bytes = 0;
            for parcel in lane.waiting.drain(..) {
                parcel.source.break_off(parcel.epoch);
            }
        }
    }

    pub(crate) fn push(&mut self, lane: usize, parcel: Parcel<T>) {
        let lane = &mut self.lanes[lane];
        lane.bytes += parcel.bytes;
        lane.waiting.push_back(parcel);
    }

    /// What goes before everything that waits.
    pub(crate) fn push_front(&mut self, lane: usize, parcel: Parcel<T>) {
        let lane = &mut self.lanes[lane];
        lane.bytes += parcel.bytes;
        lane.waiting.push_front(parcel);
    }

    /// What goes into one request.
    pub(crate) fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    pub(crate) fn set_batch_bytes(&mut self, batch_bytes: usize) {
        self.batch_bytes = batch_bytes;
    }

    /// When the first lane is to be looked at again, if no report comes before.
    pub(crate) fn due(&self) -> Option<Instant> {
        let is_free = |lane: &&Lane<T>| lane.gate.open_bytes.load(Ordering::SeqCst) == 0;
        self.lanes
            .iter()
            .filter(is_free)
            .filter_map(|lane| lane.waiting.front())
            .map(|next| next.since + self.linger)
            .min()
    }

    /// Takes out of `lane` what can be handed over now, and drops what was broken off: its `Ack` gives it back, as
    /// something before it was and it must not overtake.
    pub(crate) fn release(&mut self, lane: usize, now: Instant, mut hand_over: impl FnMut(Parcel<T>, &Arc<Gate>)) {
        let lane = &mut self.lanes[lane];
        let (mut handed, mut is_last_alone) = (0, false);
        while let Some(next) = lane.waiting.front() {
            let is_current = next.source.is_current(next.epoch);
            let begins = handed == 0 || next.is_alone || is_last_alone || handed + next.bytes > self.batch_bytes;
            if is_current && begins {
                handed = 0;
                let is_due = || lane.bytes >= self.batch_bytes || now >= next.since + self.linger;
                if !lane.gate.is_free() || !is_due() {
                    return;
                }
            }
            let Some(parcel) = lane.waiting.pop_front() else { return };
            lane.bytes -= parcel.bytes;
            if is_current {
                handed += parcel.bytes;
                is_last_alone = parcel.is_alone;
                lane.gate.open_bytes.fetch_add(parcel.bytes, Ordering::SeqCst);
                hand_over(parcel, &lane.gate);
            }
        }
    }
}

/// What of a lane is in librdkafka's hands.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open_bytes: AtomicUsize,
    is_awaited: AtomicBool,
}

impl Gate {
    fn is_free(&self) -> bool {
        let is_free = || self.open_bytes.load(Ordering::SeqCst) == 0;
        if is_free() {
            return true;
        }
        self.is_awaited.store(true, Ordering::SeqCst);
        is_free() // The last report may have come in between, and found nobody waiting.
    }

    /// All reports of a group of `bytes` have come. True if others wait for that.
    pub(crate) fn reported(&self, bytes: usize) -> bool {
        self.open_bytes.fetch_sub(bytes, Ordering::SeqCst) == bytes && self.is_awaited.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::{Incarnation, Input, StreamId};

    const LINGER: Duration = Duration::from_millis(5);

    struct Bench {
        lanes: Lanes<u32>,
        source: Arc<Source>,
        gates: Vec<Arc<Gate>>,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let input = Arc::new(Input::default());
            let source = Arc::new(Source::new(StreamId(1), input, "/a".into(), Incarnation(1), 0));
            Self { lanes: Lanes::new(2, 100, LINGER), source, gates: Vec::new(), start: service::clock::monotonic() }
        }

        fn parcel(&self, name: u32, bytes: usize, is_alone: bool) -> Parcel<u32> {
            let (source, since) = (self.source.clone(), self.start);
            Parcel { source, epoch: 0, bytes, since, is_alone, rest: name }
        }

        fn push(&mut self, lane: usize, name: u32, bytes: usize) {
            self.lanes.push(lane, self.parcel(name, bytes, false));
        }

        fn released(&mut self, lane: usize, after: Duration) -> Vec<u32> {
            let mut names = Vec::new();
            self.lanes.release(lane, self.start + after, |parcel, gate| {
                names.push(parcel.rest);
                self.gates.push(gate.clone());
            });
            names
        }
    }

    #[test]
    fn one_request_is_filled_and_the_rest_waits_for_its_reports() {
        let mut bench = Bench::new();
        for name in 0..5 {
            bench.push(0, name, 40);
        }
        assert_eq!(bench.released(0, Duration::ZERO), [0, 1], "a third one does not fit");
        assert_eq!(bench.lanes.due(), None, "a report is waited for");
        assert!(!bench.gates[0].reported(40), "half of it is still in flight");
        assert!(bench.released(0, LINGER).is_empty());
        assert!(bench.gates[0].reported(40), "somebody waits");
        assert_eq!(bench.released(0, Duration::ZERO), [2, 3]);
    }

    #[test]
    fn the_last_report_tells_that_something_waits() {
        let mut bench = Bench::new();
        bench.push(0, 0, 100);
        bench.push(0, 1, 100);
        assert_eq!(bench.released(0, Duration::ZERO), [0]);
        assert!(bench.gates[0].reported(100));
    }

    #[test]
    fn what_does_not_fill_a_request_waits_for_linger() {
        let mut bench = Bench::new();
        bench.push(0, 0, 40);
        assert!(bench.released(0, Duration::ZERO).is_empty());
        assert_eq!(bench.lanes.due(), Some(bench.start + LINGER - HAND_OVER));
        assert_eq!(bench.released(0, LINGER), [0]);
        assert!(!bench.gates[0].reported(40), "nobody waits");
    }

    #[test]
    fn a_group_larger_than_a_request_goes_alone() {
        let mut bench = Bench::new();
        bench.push(0, 0, 1_000);
        bench.push(0, 1, 1);
        assert_eq!(bench.released(0, LINGER), [0]);
    }

    #[test]
    fn what_goes_alone_has_a_request_of_its_own() {
        let mut bench = Bench::new();
        bench.push(0, 0, 10);
        let alone = bench.parcel(1, 10, true);
        bench.lanes.push(0, alone);
        bench.push(0, 2, 10);
        bench.push(0, 3, 10);
        assert_eq!(bench.released(0, LINGER), [0]);
        assert!(bench.gates[0].reported(10));
        assert_eq!(bench.released(0, LINGER), [1]);
        let before = bench.parcel(4, 10, true);
        bench.lanes.push_front(0, before);
        assert!(bench.gates[0].reported(10));
        assert_eq!(bench.released(0, LINGER), [4], "what was put in front goes first");
        assert!(bench.gates[0].reported(10));
        assert_eq!(bench.released(0, LINGER), [2, 3]);
    }

    #[test]
    fn lanes_do_not_wait_for_each_other() {
        let mut bench = Bench::new();
        bench.push(0, 0, 100);
        bench.push(0, 1, 100);
        bench.push(1, 2, 100);
        assert_eq!(bench.released(0, LINGER), [0]);
        assert_eq!(bench.released(1, LINGER), [2]);
        assert!(!bench.lanes.is_empty());
        assert!(!bench.gates[1].reported(100), "nobody waits there");
    }

    #[test]
    fn partitions_may_become_more_or_fewer() {
        let mut bench = Bench::new();
        bench.push(1, 0, 199);
        assert!(bench.lanes.is_open(0) && bench.lanes.is_open(1) && !bench.lanes.is_open(2));
        bench.push(1, 1, 1);
        assert!(bench.lanes.is_open(0) && !bench.lanes.is_open(1));
        bench.lanes.set_partitions(3);
        assert!(bench.lanes.len() == 3 && !bench.lanes.is_empty() && bench.source.is_current(0));
        bench.lanes.set_partitions(1);
        assert!(bench.lanes.len() == 1 && bench.lanes.is_empty() && !bench.source.is_current(0));
        bench.lanes.set_partitions(0);
        assert_eq!(bench.lanes.len(), 1);
    }

    #[test]
    fn what_was_broken_off_is_given_back_even_behind_a_closed_gate() {
        let mut bench = Bench::new();
        bench.push(0, 0, 100);
        assert_eq!(bench.released(0, LINGER), [0]);
        bench.push(0, 1, 100);
        bench.source.break_off(0);
        assert!(bench.released(0, LINGER).is_empty());
        assert!(bench.lanes.is_empty());
    }
}
