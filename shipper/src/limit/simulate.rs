//! What arrived when → what would pass, wait, be diverted and be dropped. Pure: the same engine as in the agent, on a clock of its own.

use super::config::Plan;
use super::engine::{Engine, Now, Origin, Verdict};
use super::tally::{Load, Part, of_input};
use event::{Input, StreamId};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What the agent reads of a file at once.
const CHUNK_BYTES: u64 = 128 * 1024;
const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;

/// Lines that were written at about the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Milliseconds since 1970.
    pub wall_ms: i64,
    /// Lines.
    pub events: u64,
    /// Their bytes, with line ends.
    pub bytes: u64,
}

/// A log and the input that would read it.
#[derive(Debug, Clone)]
pub struct SimulatedSource {
    /// The input.
    pub input: Arc<Input>,
    /// As it would be shipped.
    pub path: String,
    /// In the order of their times.
    pub arrivals: Vec<Arrival>,
}

/// What became of the lines that were written in one minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Minute {
    /// Its start, milliseconds since 1970.
    pub start_ms: i64,
    /// Lines written.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, lines that passed at once.
    pub passed_events: u64,
    /// Their bytes.
    pub passed_bytes: u64,
    /// Lines that waited in the file.
    pub waited_events: u64,
    /// Their bytes.
    pub waited_bytes: u64,
    /// The longest wait.
    pub wait_ms_max: u64,
    /// Lines that went to another topic, whether they waited or not.
    pub diverted_events: u64,
    /// Their bytes.
    pub diverted_bytes: u64,
    /// Lines that were dropped.
    pub dropped_events: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
}

/// What went on in one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Its start, milliseconds since 1970.
    pub start_ms: i64,
    /// Bytes written.
    pub offered_bytes: u64,
    /// Bytes sent to the main topic.
    pub sent_bytes: u64,
}

/// What would have become of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Simulated {
    /// By the time at which lines were written. Minutes without any are left out.
    pub minutes: Vec<Minute>,
    /// Seconds in which anything went on.
    pub seconds: Vec<Second>,
}

/// Runs `sources` through `plans`. Fields of records are not looked at, only those of the input.
pub fn simulate(plans: &[Plan], sources: &[SimulatedSource]) -> Simulated {
    let Some(base_ms) = sources.iter().filter_map(|source| source.arrivals.first()).map(|first| first.wall_ms).min()
    else {
        return Simulated::default();
    };
    let mut run = Run::new(plans, base_ms);
    sources.iter().flat_map(|source| &source.arrivals).for_each(|arrival| run.note_offered(arrival));
    run.all(sources, Duration::MAX);
    Simulated { minutes: run.minutes.into_values().collect(), seconds: run.seconds.into_values().collect() }
}

enum Turn {
    Waits(Duration),
    Read,
}

struct Run {
    engine: Engine,
    base_ms: i64,
    minutes: BTreeMap<i64, Minute>,
    seconds: BTreeMap<i64, Second>,
}

impl Run {
    fn new(plans: &[Plan], base_ms: i64) -> Self {
        let mut engine = Engine::default();
        engine.reload(plans.to_vec(), usize::MAX);
        Self { engine, base_ms, minutes: BTreeMap::new(), seconds: BTreeMap::new() }
    }

    /// Gives each source its turns, up to the time `end`.
    fn all(&mut self, sources: &[SimulatedSource], end: Duration) {
        let mut waiting: Vec<VecDeque<Arrival>> =
            sources.iter().map(|source| source.arrivals.iter().copied().collect()).collect();
        let first = |(index, source): (usize, &SimulatedSource)| {
            Some(Reverse((self.at(source.arrivals.first()?.wall_ms), index, index)))
        };
        let mut turns: BinaryHeap<_> = sources.iter().enumerate().filter_map(first).collect();
        let mut number = sources.len();
        while let Some(Reverse((at, turn, index))) = turns.pop() {
            if at >= end {
                return;
            }
            match self.turn(at, index, &sources[index], &mut waiting[index]) {
                // Whoever has to wait keeps its place among those who do.
                Turn::Waits(until) => turns.push(Reverse((until, turn, index))),
                Turn::Read => {
                    number += 1;
                    let next = waiting[index].front().map(|next| self.at(next.wall_ms).max(at));
                    turns.extend(next.map(|next| Reverse((next, number, index))));
                }
            }
        }
    }

    fn at(&self, wall_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(wall_ms - self.base_ms).unwrap_or(0))
    }

    fn now(&self, at: Duration) -> Now {
        Now { at, wall_ms: self.base_ms.saturating_add(i64::try_from(at.as_millis()).unwrap_or(i64::MAX)) }
    }

    fn turn(&mut self, at: Duration, index: usize, source: &SimulatedSource, waiting: &mut VecDeque<Arrival>) -> Turn {
        let now = self.now(at);
        let origin = Origin { stream: StreamId(index as u64), input: &source.input, path: &source.path };
        if let Some(opens) = self.engine.opens(origin, now) {
            // A schedule may end before.
            let to_minute = Duration::from_millis((MINUTE_MS - now.wall_ms.rem_euclid(MINUTE_MS)).unsigned_abs());
            return Turn::Waits(opens.min(at + to_minute));
        }
        let chunk_bytes = CHUNK_BYTES.min(self.engine.chunk_bytes(&source.input, now) as u64);
        let keys = self.engine.fields(origin, now).iter().map(|name| of_input(&source.input.fields, name)).collect();
        let mut part = Part { keys, load: Load::default() };
        let mut read = Vec::new();
        while let Some(next) = waiting.front().copied().filter(|next| self.at(next.wall_ms) <= at) {
            if !read.is_empty() && part.load.bytes + next.bytes > chunk_bytes {
                break;
            }
            waiting.pop_front();
            part.load += Load { events: next.events, bytes: next.bytes };
            read.push(next);
        }
        self.engine.pay(origin, std::slice::from_ref(&part), now);
        let verdict = self.engine.judge(origin, &part, now);
        read.iter().for_each(|arrival| self.note(arrival, &verdict, now));
        Turn::Read
    }

    fn note_offered(&mut self, Arrival { wall_ms, events, bytes }: &Arrival) {
        let minute = self.minute(*wall_ms);
        minute.events += events;
        minute.bytes += bytes;
        self.second(*wall_ms).offered_bytes += bytes;
    }

    fn note(&mut self, Arrival { wall_ms, events, bytes }: &Arrival, verdict: &Verdict, now: Now) {
        let waited_ms = u64::try_from(now.wall_ms - wall_ms).unwrap_or(0);
        let minute = self.minute(*wall_ms);
        minute.wait_ms_max = minute.wait_ms_max.max(waited_ms);
        let counts = match verdict {
            Verdict::Pass if waited_ms > 0 => [&mut minute.waited_events, &mut minute.waited_bytes],
            Verdict::Pass => [&mut minute.passed_events, &mut minute.passed_bytes],
            Verdict::Divert(..) => [&mut minute.diverted_events, &mut minute.diverted_bytes],
            Verdict::Drop(_) => [&mut minute.dropped_events, &mut minute.dropped_bytes],
        };
        let [of_events, of_bytes] = counts;
        *of_events += events;
        *of_bytes += bytes;
        if *verdict == Verdict::Pass {
            self.second(now.wall_ms).sent_bytes += bytes;
        }
    }

    fn minute(&mut self, wall_ms: i64) -> &mut Minute {
        let start_ms = wall_ms.div_euclid(MINUTE_MS) * MINUTE_MS;
        self.minutes.entry(start_ms).or_insert_with(|| Minute { start_ms, ..Minute::default() })
    }

    fn second(&mut self, wall_ms: i64) -> &mut Second {
        let start_ms = wall_ms.div_euclid(SECOND_MS) * SECOND_MS;
        self.seconds.entry(start_ms).or_insert_with(|| Second { start_ms, ..Second::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::tests::plans;
    use event::Priority;

    /// Midnight UTC, a Monday.
    const BASE_MS: i64 = 1_795_392_000_000;

    fn source(id: &str, priority: Priority, seconds: std::ops::Range<i64>, events: u64) -> SimulatedSource {
        let arrival = |second: i64| {
            (0..10).map(move |tenth| Arrival {
                wall_ms: BASE_MS + second * 1_000 + tenth * 100,
                events: events / 10,
                bytes: events * 10,
            })
        };
        let input = Arc::new(Input { id: id.into(), priority, ..Input::default() });
        SimulatedSource { input, path: format!("/{id}"), arrivals: seconds.flat_map(arrival).collect() }
    }

    fn totals(simulated: &Simulated) -> Minute {
        let mut all = Minute::default();
        for minute in &simulated.minutes {
            all.events += minute.events;
            all.passed_events += minute.passed_events;
            all.waited_events += minute.waited_events;
            all.diverted_events += minute.diverted_events;
            all.dropped_events += minute.dropped_events;
            all.wait_ms_max = all.wait_ms_max.max(minute.wait_ms_max);
        }
        all
    }

    #[test]
    fn a_tenfold_burst_waits_and_what_is_sent_stays_flat() {
        let plans = plans("[{name: a, rate: {bytes: 200kB/s}, burst: 1s}]");
        let mut burst = source("a", Priority::Normal, 0..60, 1_000);
        burst.arrivals.extend(source("a", Priority::Normal, 60..120, 20_000).arrivals);
        let simulated = simulate(&plans, &[burst]);
        let all = totals(&simulated);
        assert_eq!((all.events, all.passed_events + all.waited_events), (1_260_000, 1_260_000), "nothing is lost");
        // 120 MB at 200 kB/s, less what has gone by the end of the burst.
        let longest = Duration::from_millis(all.wait_ms_max).as_secs();
        assert!((530..=545).contains(&longest), "{longest} s");
        let flat: Vec<_> = simulated.seconds.iter().filter(|second| second.start_ms >= BASE_MS + 62_000).collect();
        for ten in flat.chunks_exact(10).take(50) {
            let sent: u64 = ten.iter().map(|second| second.sent_bytes).sum();
            assert!((1_960_000..=2_040_000).contains(&sent), "{sent} in ten seconds");
        }
    }

    #[test]
    fn what_is_too_much_is_diverted_or_dropped_and_nothing_waits() {
        for (excess, diverted, dropped) in [("{divert: later}", 1, 0), ("drop", 0, 1)] {
            let yaml = format!("[{{name: a, rate: {{events: 1000/s}}, burst: 1s, excess: {excess}}}]");
            let simulated = simulate(&plans(&yaml), &[source("a", Priority::Normal, 0..100, 3_000)]);
            let all = totals(&simulated);
            assert_eq!((all.waited_events, all.wait_ms_max), (0, 0));
            assert!((100_000..=102_000).contains(&all.passed_events), "{all:?}");
            let excess = 300_000 - all.passed_events;
            assert_eq!((all.diverted_events, all.dropped_events), (diverted * excess, dropped * excess));
        }
    }

    #[test]
    fn a_schedule_that_ends_lets_go_what_it_held() {
        let yaml = "[{name: a, rate: {events: 10/s}, schedule: 'Mon 00:00-00:02 UTC'}]";
        let simulated = simulate(&plans(yaml), &[source("a", Priority::Normal, 0..60, 1_000)]);
        let all = totals(&simulated);
        assert_eq!(all.passed_events + all.waited_events, 60_000);
        let last = simulated.seconds.last().expect("seconds").start_ms;
        assert_eq!(last, BASE_MS + 120_000, "all the rest goes when the schedule ends");
    }

    #[test]
    fn two_inputs_share_as_is_configured_and_a_low_one_keeps_its_share() {
        let yaml = "[{name: a, rate: {events: 1000/s}, burst: 100ms, shares: {high: 50, normal: 35, low: 15}}]";
        let sources = |ids: &[(&str, Priority)]| {
            ids.iter().map(|(id, priority)| source(id, *priority, 0..60, 5_000)).collect::<Vec<_>>()
        };
        let all = sources(&[("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)]);
        let simulated = sent_by_source(yaml, &all);
        let total: u64 = simulated.iter().sum();
        for (events, share) in simulated.iter().zip([0.50, 0.35, 0.15]) {
            let part = *events as f64 / total as f64;
            assert!((part - share).abs() < 0.02, "{part} of {share}: {simulated:?}");
        }
        assert!((59_000..=62_000).contains(&total), "{total}");
        // Unused shares are lent.
        let two = sent_by_source(yaml, &sources(&[("high", Priority::High), ("low", Priority::Low)]));
        let total: u64 = two.iter().sum();
        assert!((59_000..=62_000).contains(&total), "{total}");
        assert!(two[0] >= 29_400 && two[1] >= 8_820, "each has its own share at least: {two:?}");
        let one = sent_by_source(yaml, &sources(&[("low", Priority::Low)]));
        assert!((59_000..=62_000).contains(&one[0]), "{one:?}");
    }

    /// Events of each source that are sent in the first minute: a plan beside the others counts them, and never holds.
    fn sent_by_source(yaml: &str, sources: &[SimulatedSource]) -> Vec<u64> {
        let sent = |source: &SimulatedSource| {
            let counts = format!(
                "{{name: c, match: {{input: [{}]}}, rate: {{events: 1000000/s}}, excess: drop}}",
                source.input.id
            );
            let mut run = Run::new(&plans(&format!("{}, {counts}]", yaml.trim_end_matches(']'))), BASE_MS);
            run.all(sources, Duration::from_secs(60));
            run.engine.running()[1].counts.passed.events
        };
        sources.iter().map(sent).collect()
    }
}
