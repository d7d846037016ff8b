//! When a record was read, when the broker had it, when it was parsed and when it was indexed → how long each stage took. Pure.
//!
//! Counted of records whose document was just created, a bulk answer at a time: one look at the clock and one lock for all of them.
//! A time that is not known leaves out the stages that begin or end with it. So does a wait in a retry topic leave out all of them:
//! it is meant to be long.

use crate::metrics::Metrics;
use service::tally::Counts;
use std::num::NonZeroI64;

/// The stages, as the label tells them: from when the line was read until Kafka's timestamp of its record, from there until it is
/// parsed, from there until it is indexed, and from the first to the last.
pub const STAGES: [&str; 4] = ["file", "broker", "parse", "total"];

/// Moments of one record, milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moments {
    /// The line was read: `@timestamp` as it came.
    pub read_ms: Option<i64>,
    /// Kafka's timestamp of the record.
    pub broker_ms: Option<i64>,
    /// It was begun to be parsed.
    pub parsed_ms: Option<i64>,
}

/// What one bulk answer tells.
#[derive(Debug)]
pub struct Latencies {
    indexed_ms: i64,
    counts: [Counts; STAGES.len()],
    /// Stages that ended before they began, by the clocks.
    backward: [u64; STAGES.len()],
}

impl Latencies {
    /// Of documents that are in the index since `indexed_ms`.
    pub fn new(indexed_ms: i64) -> Self {
        Self { indexed_ms, counts: Default::default(), backward: Default::default() }
    }

    /// One more document.
    pub fn add(&mut self, moments: Moments) {
        let Moments { read_ms, broker_ms, parsed_ms } = moments;
        let indexed_ms = Some(self.indexed_ms);
        let spans = [(read_ms, broker_ms), (broker_ms, parsed_ms), (parsed_ms, indexed_ms), (read_ms, indexed_ms)];
        for (stage, span) in spans.into_iter().enumerate() {
            let (Some(from), Some(to)) = span else { continue };
            let took = to.saturating_sub(from);
            self.backward[stage] += u64::from(took < 0);
            self.counts[stage].add(u64::try_from(took).unwrap_or(0));
        }
    }

    /// Adds all of it to the metrics.
    pub fn tell(&self, metrics: &Metrics) {
        if self.counts.iter().all(|counts| counts.count() == 0) {
            return;
        }
        metrics.latency.merge(&self.counts);
        for (stage, backward) in STAGES.iter().zip(self.backward).filter(|(_, backward)| *backward > 0) {
            metrics.latency_backward.with_label_values(&[stage]).inc_by(backward);
        }
    }
}

/// Letters of a time up to its minute, as in `2026-11-22T10:00:01.234Z`, and how many there are in all.
const MINUTE: usize = "2026-11-22T10:00".len();
const WHOLE: usize = "2026-11-22T10:00:01.234Z".len();

/// Times as text → milliseconds since 1970. Neighbours are mostly of the same minute, of which all but the seconds is read once.
#[derive(Debug, Default)]
pub struct ReadTimes {
    minute: [u8; MINUTE],
    minute_ms: i64,
}

impl ReadTimes {
    /// Of an RFC 3339 time; `None` if it is none, or the very first millisecond of 1970.
    pub fn ms(&mut self, text: &str) -> Option<NonZeroI64> {
        NonZeroI64::new(self.millis(text)?)
    }

    fn millis(&mut self, text: &str) -> Option<i64> {
        let Some(within_ms) = within_minute(text.as_bytes()) else { return engine::parse_now(text).ok() };
        let minute = text.as_bytes().first_chunk()?;
        if *minute != self.minute {
            let whole_ms = engine::parse_now(text).ok()?;
            (self.minute, self.minute_ms) = (*minute, whole_ms - within_ms);
        }
        Some(self.minute_ms + within_ms)
    }
}

/// Milliseconds since the minute began, if `text` is a time in UTC with just milliseconds.
fn within_minute(text: &[u8]) -> Option<i64> {
    let text: &[u8; WHOLE] = text.try_into().ok()?;
    let [b':', tens, ones, b'.', milli @ .., b'Z'] = text.last_chunk::<{ WHOLE - MINUTE }>()? else { return None };
    let digits = [tens, ones, &milli[0], &milli[1], &milli[2]];
    if !digits.iter().all(|digit| digit.is_ascii_digit()) || *tens > b'5' {
        return None; // A leap second is left to who knows them.
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + i64::from(**digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use service::metrics::Registry;

    const READ: i64 = 1_700_000_000_000;

    fn told(indexed_ms: i64, all: &[Moments]) -> Metrics {
        let metrics = Metrics::new(&Registry::default());
        let mut latencies = Latencies::new(indexed_ms);
        all.iter().for_each(|moments| latencies.add(*moments));
        latencies.tell(&metrics);
        metrics
    }

    #[track_caller]
    fn check(metrics: &Metrics, expected: [(u64, u64, u64); 4]) {
        let found = STAGES.map(|stage| {
            let counts = metrics.latency.of(stage);
            (counts.count(), counts.sum_ms(), metrics.latency_backward.with_label_values(&[stage]).get())
        });
        assert_eq!(found, expected, "count, sum and backward of {STAGES:?}");
    }

    fn moments(read: i64, broker: i64, parsed: i64) -> Moments {
        Moments { read_ms: Some(read), broker_ms: Some(broker), parsed_ms: Some(parsed) }
    }

    #[test]
    fn the_stages_of_a_record_add_up_to_the_whole() {
        let all = [moments(READ, READ + 5, READ + 1_005), moments(READ + 10, READ + 10, READ + 20)];
        let metrics = told(READ + 2_000, &all);
        check(&metrics, [(2, 5, 0), (2, 1_010, 0), (2, 995 + 1_980, 0), (2, 2_000 + 1_990, 0)]);
        let sum = |stage: &str| metrics.latency.of(stage).sum_ms();
        assert_eq!(sum("file") + sum("broker") + sum("parse"), sum("total"));
    }

    #[test]
    fn a_clock_that_is_ahead_counts_as_no_time_and_is_told() {
        // The agent's clock is a minute ahead of the indexer's, and so is what it tells Kafka.
        let metrics = told(READ + 100, &[moments(READ + 60_000, READ + 60_001, READ + 50)]);
        check(&metrics, [(1, 1, 0), (1, 0, 1), (1, 50, 0), (1, 0, 1)]);
    }

    #[test]
    fn a_time_that_is_not_known_leaves_out_what_it_bounds() {
        let plain = Moments { read_ms: None, broker_ms: Some(READ), parsed_ms: Some(READ + 7) };
        let direct = Moments { read_ms: Some(READ), broker_ms: None, parsed_ms: Some(READ + 7) };
        let metrics = told(READ + 10, &[plain, direct]);
        check(&metrics, [(0, 0, 0), (1, 7, 0), (2, 6, 0), (1, 10, 0)]);
        let nothing = Moments { read_ms: None, broker_ms: None, parsed_ms: None };
        check(&told(READ, &[nothing]), [(0, 0, 0); 4]);
    }

    #[test]
    fn times_are_read_as_the_engine_reads_them() {
        let mut times = ReadTimes::default();
        let texts = [
            "2026-11-22T10:00:01.234Z",
            "2026-11-22T10:00:59.999Z",
            "2026-11-22T10:01:00.000Z",
            "2026-11-22T10:00:07.001Z",
            "1969-12-31T23:59:59.999Z",
            "2026-11-22T10:00:60.000Z", // A leap second, or none.
            "2026-11-22T10:00:01Z",
            "2026-11-22T12:00:01.234567+02:00",
            "2026-02-30T10:00:01.234Z", // No such day, twice: what is not read is not remembered.
            "2026-02-30T10:00:01.234Z",
            "2026-11-22T10:00:0x.234Z",
            "2026-11-22T10:00:01.234z",
            "yesterday",
            "",
        ];
        for text in texts {
            assert_eq!(times.ms(text).map(NonZeroI64::get), engine::parse_now(text).ok(), "{text}");
        }
        assert_eq!(times.ms("1970-01-01T00:00:00.000Z"), None);
    }
}
