//! How long a topic keeps records, how old the first one is that is not safe, and how fast the partition grows → how long until
//! retention may delete it. Pure.
//!
//! The forecast is early rather than late: Kafka deletes whole segments, so that a record is kept for as long as its youngest
//! neighbour in the segment.

use std::collections::BTreeMap;
use std::time::Duration;

/// Over so many milliseconds the growth of a partition is averaged.
const GROWTH_MS: f64 = 60_000.0;
/// So many records must have come before what they took on the wire is compared with what they are.
const COMPARED_RECORDS: u64 = 1_000;
/// Warned of is less than this part of what a record that comes now is kept for, where that is sooner than the threshold.
const SHORT: f64 = 0.5;

/// How long a topic keeps its records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keeps {
    /// `retention.ms`; `None`: without a limit.
    pub ms: Option<u64>,
    /// `retention.bytes` of each partition; `None`: without a limit.
    pub bytes: Option<u64>,
}

impl Keeps {
    /// By the settings of a topic.
    pub fn of<'a>(setting: impl Fn(&str) -> Option<&'a str>) -> Self {
        if setting("cleanup.policy").is_some_and(|policy| !policy.split(',').any(|one| one.trim() == "delete")) {
            return Self::default(); // Compacted only: the newest record of each key stays for good.
        }
        let limit = |name| setting(name).and_then(|text| text.parse().ok()); // -1 is none.
        Self { ms: limit("retention.ms"), bytes: limit("retention.bytes") }
    }
}

/// How fast a partition grows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Growth {
    last: Option<(i64, i64)>,
    per_s: Option<f64>,
}

impl Growth {
    /// The partition ended at `end` at `now_ms`.
    pub fn note(&mut self, end: i64, now_ms: i64) {
        let Some((last, last_ms)) = self.last.filter(|(last, _)| end >= *last) else {
            *self = Self { last: Some((end, now_ms)), per_s: None }; // The first look, or a topic made anew.
            return;
        };
        if now_ms <= last_ms {
            return;
        }
        let elapsed = (now_ms - last_ms) as f64;
        let now = (end - last) as f64 * 1_000.0 / elapsed;
        let weight = 1.0 - (-elapsed / GROWTH_MS).exp();
        self.per_s = Some(self.per_s.map_or(now, |before| before + (now - before) * weight));
        self.last = Some((end, now_ms));
    }

    /// Where it ends, and records a second, if both are known.
    pub fn get(&self) -> Option<(i64, f64)> {
        Some((self.last?.0, self.per_s?))
    }
}

/// What was received up to now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the brokers' answers, compressed as records are on their disks.
    pub wire_bytes: u64,
    /// Records of each partition, and their bytes, unpacked.
    pub partitions: BTreeMap<(String, i32), (u64, u64)>,
}

/// How many bytes a record takes on a broker's disk.
#[derive(Debug, Clone)]
pub struct Sizes {
    received: Received,
    /// Where the comparison of now begins: records, bytes on the wire, bytes unpacked.
    since: (u64, u64, u64),
    /// Bytes on the wire for each that was unpacked.
    packed: f64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { received: Received::default(), since: (0, 0, 0), packed: 1.0 }
    }
}

impl Sizes {
    /// Takes what was received up to now.
    pub fn note(&mut self, received: Received) {
        let sum = |of: fn(&(u64, u64)) -> u64| received.partitions.values().map(of).sum::<u64>();
        let now = (sum(|counts| counts.0), received.wire_bytes, sum(|counts| counts.1));
        let grown = |of: fn(&(u64, u64, u64)) -> u64| of(&now).checked_sub(of(&self.since));
        match (grown(|sums| sums.0), grown(|sums| sums.1), grown(|sums| sums.2)) {
            (Some(records), Some(wire), Some(plain)) if records >= COMPARED_RECORDS && plain > 0 => {
                (self.packed, self.since) = (wire as f64 / plain as f64, now);
            }
            (Some(_), Some(_), Some(_)) => {}
            _ => self.since = now, // Partitions that went to another member took their sums with them.
        }
        self.received = received;
    }

    /// Bytes of a record of this partition, on average.
    pub fn record_bytes(&self, topic: &str, partition: i32) -> Option<f64> {
        let (records, bytes) = *self.received.partitions.get(&(topic.to_owned(), partition))?;
        (records > 0).then(|| bytes as f64 / records as f64 * self.packed)
    }
}

/// What has to be known of a partition's bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bulk {
    /// Records from the first that is not safe to the end.
    pub records: u64,
    /// Bytes of each.
    pub record_bytes: f64,
    /// Records that are written a second.
    pub per_s: f64,
}

/// Until when retention keeps the first record that is not safe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Left {
    /// From now on.
    pub s: f64,
    /// Of so many that a record has which comes now.
    pub of_s: f64,
    /// The setting that decides.
    pub by: &'static str,
}

/// How much time is left for a record that is `age_ms` old; `None`: without end, as far as it is known.
pub fn left(keeps: Keeps, age_ms: u64, bulk: Option<Bulk>) -> Option<Left> {
    let by_time = keeps.ms.map(|ms| {
        let (s, of_s) = (ms.saturating_sub(age_ms) as f64 / 1_000.0, ms as f64 / 1_000.0);
        Left { s, of_s, by: "retention.ms" }
    });
    let by_bytes = keeps.bytes.zip(bulk).and_then(|(bytes, bulk)| {
        let Bulk { records, record_bytes, per_s } = bulk;
        let (bytes, behind, bytes_per_s) = (bytes as f64, records as f64 * record_bytes, per_s * record_bytes);
        let s = (bytes - behind).max(0.0) / bytes_per_s;
        (bytes_per_s > 0.0).then_some(Left { s, of_s: bytes / bytes_per_s, by: "retention.bytes" })
    });
    [by_time, by_bytes].into_iter().flatten().min_by(|one, other| one.s.total_cmp(&other.s))
}

impl Left {
    /// True if it is less than `warning`, or, where a record is kept for hardly longer than that anyway, than half of it.
    pub fn is_short(&self, warning: Duration) -> bool {
        self.s < warning.as_secs_f64().min(self.of_s * SHORT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_S: f64 = 3_600.0;
    const HOUR_MS: u64 = 3_600_000;

    #[track_caller]
    fn check_keeps(settings: &[(&str, &str)], ms: Option<u64>, bytes: Option<u64>) {
        let of = |name: &str| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        assert_eq!(Keeps::of(of), Keeps { ms, bytes }, "{settings:?}");
    }

    #[test]
    fn the_settings_of_a_topic_say_how_long_it_keeps_records() {
        check_keeps(&[("retention.ms", "604800000"), ("retention.bytes", "-1")], Some(604_800_000), None);
        check_keeps(&[("retention.ms", "-1"), ("retention.bytes", "1073741824")], None, Some(1 << 30));
        check_keeps(&[("cleanup.policy", "delete"), ("retention.ms", "1000")], Some(1_000), None);
        check_keeps(&[("cleanup.policy", "compact,delete"), ("retention.ms", "1000")], Some(1_000), None);
        check_keeps(&[("cleanup.policy", "compact"), ("retention.ms", "1000")], None, None);
        check_keeps(&[], None, None);
    }

    fn keeps(ms: Option<u64>, bytes: Option<u64>) -> Keeps {
        Keeps { ms, bytes }
    }

    #[track_caller]
    fn check(keeps: Keeps, age_ms: u64, bulk: Option<Bulk>, expected: Option<(f64, f64, &str)>) {
        let found = left(keeps, age_ms, bulk).map(|left| (left.s, left.of_s, left.by));
        assert_eq!(found, expected);
    }

    #[test]
    fn by_time_the_age_is_taken_off() {
        let hour = keeps(Some(HOUR_MS), None);
        check(hour, 0, None, Some((HOUR_S, HOUR_S, "retention.ms")));
        check(hour, 600_000, None, Some((3_000.0, HOUR_S, "retention.ms")));
        check(hour, 2 * HOUR_MS, None, Some((0.0, HOUR_S, "retention.ms")));
        check(keeps(None, None), HOUR_MS, None, None);
    }

    #[test]
    fn by_bytes_what_is_behind_is_taken_off_and_growth_eats_the_rest() {
        // A million bytes a second, of records of a thousand.
        let bulk = |records| Some(Bulk { records, record_bytes: 1_000.0, per_s: 1_000.0 });
        let room = keeps(None, Some(3_600_000_000));
        check(room, 0, bulk(0), Some((HOUR_S, HOUR_S, "retention.bytes")));
        check(room, 0, bulk(900_000), Some((2_700.0, HOUR_S, "retention.bytes")));
        check(room, 0, bulk(9_000_000), Some((0.0, HOUR_S, "retention.bytes")));
        // Nothing is written: nothing is pushed out.
        check(room, 0, Some(Bulk { records: 900_000, record_bytes: 1_000.0, per_s: 0.0 }), None);
        check(room, 0, None, None);
        // What comes first counts.
        let both = keeps(Some(HOUR_MS), Some(3_600_000_000));
        check(both, 600_000, bulk(900_000), Some((2_700.0, HOUR_S, "retention.bytes")));
        check(both, 1_200_000, bulk(900_000), Some((2_400.0, HOUR_S, "retention.ms")));
    }

    #[test]
    fn a_short_retention_is_no_alarm_by_itself() {
        let short = |s, of_s| Left { s, of_s, by: "retention.ms" }.is_short(Duration::from_secs(6 * 3_600));
        assert!(short(5.9 * HOUR_S, 168.0 * HOUR_S) && !short(6.1 * HOUR_S, 168.0 * HOUR_S));
        assert!(!short(0.99 * HOUR_S, HOUR_S) && short(0.49 * HOUR_S, HOUR_S));
        assert!(short(0.0, HOUR_S));
    }

    #[test]
    fn growth_is_averaged_over_a_minute_or_so() {
        let mut growth = Growth::default();
        growth.note(1_000, 0);
        assert_eq!(growth.get(), None);
        growth.note(1_000, 0);
        growth.note(2_000, 10_000);
        assert_eq!(growth.get(), Some((2_000, 100.0)));
        for second in 11..300 {
            growth.note(2_000 + (second - 10) * 500, second * 1_000);
        }
        let (end, per_s) = growth.get().expect("it is known");
        assert!(end == 2_000 + 289 * 500 && (490.0..=500.0).contains(&per_s), "{end} {per_s}");
        growth.note(3, 301_000);
        assert_eq!(growth, Growth { last: Some((3, 301_000)), per_s: None });
    }

    fn received(wire_bytes: u64, records: u64, bytes: u64) -> Received {
        Received { wire_bytes, partitions: BTreeMap::from([(("logs".to_owned(), 0), (records, bytes))]) }
    }

    #[test]
    fn a_record_s_bytes_are_those_of_the_wire() {
        let mut sizes = Sizes::default();
        assert_eq!(sizes.record_bytes("logs", 0), None);
        sizes.note(received(5_000, 10, 2_000));
        assert_eq!(sizes.record_bytes("logs", 0), Some(200.0)); // Too few to see how well they are packed.
        sizes.note(received(100_000, 2_000, 400_000));
        assert_eq!(sizes.record_bytes("logs", 0), Some(50.0));
        // What an idle hour of empty answers costs is no record's.
        sizes.note(received(9_000_000, 2_100, 420_000));
        assert_eq!(sizes.record_bytes("logs", 0), Some(50.0));
        // The partition went away, and another came.
        sizes.note(received(9_000_001, 0, 0));
        assert_eq!((sizes.record_bytes("logs", 0), sizes.record_bytes("logs", 1)), (None, None));
    }
}
