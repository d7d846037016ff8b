//! Records that are to wait → Kafka topics, one for each length of wait: Kafka has no delay queue.
//!
//! A record goes there as it is, with headers that say where it stood first, how often it was refused and before what time it
//! is not to be taken. The consumer reads the topics like others, and pauses a partition whose next record is not due yet.

use crate::batch::Origin;
use crate::config::RetryConfig;
use crate::dead_letter::Writing;
use crate::headers;
use crate::parcel::Parcel;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::time::Duration;

/// Longest record librdkafka takes; the broker's own limit decides. A record is never larger than what a broker gave us.
const MESSAGE_BYTES_MAX: &str = "104857600";
/// Bytes of records that may wait in librdkafka.
const QUEUE_KBYTES: &str = "32768";

/// The next wait of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Which of the topics.
    pub step: usize,
    /// Not to be taken from there before this time, milliseconds since 1970.
    pub not_before_ms: i64,
    /// Not to be indexed before this time, if its writer asked for one.
    pub due_ms: Option<i64>,
    /// How often it was refused for now, this time included.
    pub refusals: u32,
}

/// What follows when a record that was put off `refusals` times is refused once more: the wait after those; none: it was the last.
pub fn after_refusal(waits: &[Duration], refusals: u32, now_ms: i64) -> Option<Next> {
    let step = refusals as usize;
    let not_before_ms = now_ms.saturating_add(ms(*waits.get(step)?));
    Some(Next { step, not_before_ms, due_ms: None, refusals: refusals + 1 })
}

/// The wait of a record that goes aside without a fault of its own: the shortest one, and no refusal is counted.
pub fn aside(waits: &[Duration], refusals: u32, now_ms: i64) -> Next {
    let wait = waits.first().copied().unwrap_or_default();
    Next { step: 0, not_before_ms: now_ms.saturating_add(ms(wait)), due_ms: None, refusals }
}

/// The next wait of a record that is not to be indexed before `due_ms`: the longest of `waits` that ends by then, else the
/// shortest, cut off at that time. There is at least one.
pub fn until(waits: &[Duration], refusals: u32, due_ms: i64, now_ms: i64) -> Next {
    let ends_by_then = |wait: &Duration| now_ms.saturating_add(ms(*wait)) <= due_ms;
    let step = waits.partition_point(ends_by_then).saturating_sub(1);
    let not_before_ms = waits.get(step).map_or(due_ms, |wait| now_ms.saturating_add(ms(*wait)).min(due_ms));
    Next { step, not_before_ms, due_ms: Some(due_ms), refusals }
}

fn ms(wait: Duration) -> i64 {
    i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
}

/// A record that is to wait.
#[derive(Debug)]
pub struct Note<'b> {
    /// Where the record is.
    pub parcel: &'b Parcel,
    /// Which of the parcel's records, in the words of its batch.
    pub origin: Origin,
    /// How long.
    pub next: Next,
    /// Bulk requests that were made with it.
    pub attempts: u32,
    /// Why, for the metric.
    pub reason: &'static str,
}

/// Where records wait.
pub trait Later: Send + Sync {
    /// Lengths of the waits, the shortest first; there is at least one.
    fn waits(&self) -> &[Duration];
    /// How long a document is refused before it is put off.
    fn after(&self) -> Duration;
    /// Writes `notes` durably. Returns those that could not be written, in order.
    fn write<'l>(&'l self, notes: &'l [Note<'l>]) -> Writing<'l>;
}

/// Topics of a Kafka cluster.
pub struct RetryTopics {
    producer: FutureProducer,
    topics: Vec<String>,
    waits: Vec<Duration>,
    after: Duration,
}

impl RetryTopics {
    /// A producer for the topics of `config`. `base` holds brokers, security and what the user passes to librdkafka.
    pub fn new(base: &ClientConfig, config: &RetryConfig) -> anyhow::Result<Self> {
        let mut options = base.clone();
        options
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0") // The record is settled by the report alone: none may expire.
            .set("message.max.bytes", MESSAGE_BYTES_MAX)
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES)
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("allow.auto.create.topics", "false");
        let waits = config.delays.0.iter().map(|delay| delay.wait).collect();
        Ok(Self { producer: options.create()?, topics: config.topics(), waits, after: config.after })
    }
}

impl Later for RetryTopics {
    fn waits(&self) -> &[Duration] {
        &self.waits
    }

    fn after(&self) -> Duration {
        self.after
    }

    fn write<'l>(&'l self, notes: &'l [Note<'l>]) -> Writing<'l> {
        Box::pin(async move {
            let mut sent = Vec::with_capacity(notes.len());
            for note in notes {
                let topic = &self.topics[note.next.step];
                let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(headers_of(note));
                record.key = note.parcel.key(note.origin.record);
                record.payload = note.parcel.value(note.origin.record);
                // Waits only while librdkafka's queue is full.
                sent.push((topic, self.producer.send_result(record)));
            }
            let mut unwritten = Vec::new();
            for (at, (topic, result)) in sent.into_iter().enumerate() {
                let problem = match result {
                    Ok(report) => match report.await {
                        Ok(Ok(_)) => continue,
                        Ok(Err((error, _))) => error.to_string(),
                        Err(_) => "the producer was closed".to_owned(),
                    },
                    Err((error, _)) => error.to_string(),
                };
                unwritten.push((at, format!("topic {topic}: {problem}")));
            }
            unwritten
        })
    }
}

fn headers_of(note: &Note<'_>) -> OwnedHeaders {
    let (home, next) = (note.parcel.home(note.origin.record), note.next);
    let told = note.parcel.sent(note.origin.record).and_then(Result::ok).map(headers::of_line);
    [
        (headers::NOT_BEFORE, Some(next.not_before_ms.to_string())),
        (headers::DUE, next.due_ms.map(|ms| ms.to_string())),
        (headers::REFUSALS, Some(next.refusals.to_string())),
        (headers::ATTEMPTS, Some(note.attempts.to_string())),
        (headers::TOPIC, Some(home.topic.to_string())),
        (headers::PARTITION, Some(home.partition.to_string())),
        (headers::OFFSET, Some(home.offset.to_string())),
        (headers::TIMESTAMP, Some(home.timestamp_ms.unwrap_or(-1).to_string())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?.into_bytes())))
    .chain(told.into_iter().flatten())
    .fold(OwnedHeaders::new_with_capacity(13), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(&value) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::parcel::tests::parcel_of;
    use crate::parcel::{Home, PutOff};
    use rdkafka::message::Headers as _;
    use service::metrics::Registry;

    const WAITS: [Duration; 3] = [Duration::from_secs(30), Duration::from_secs(300), Duration::from_secs(3600)];

    #[test]
    fn each_refusal_waits_in_the_next_topic_and_none_follows_the_last() {
        let check = |refusals, expected: Option<(usize, i64)>| {
            let next = after_refusal(&WAITS, refusals, 5);
            assert_eq!(next.map(|next| (next.step, next.not_before_ms)), expected, "{refusals} refusals");
            assert!(next.is_none_or(|next| next.refusals == refusals + 1 && next.due_ms.is_none()));
        };
        check(0, Some((0, 30_005)));
        check(1, Some((1, 300_005)));
        check(2, Some((2, 3_600_005)));
        check(3, None);
        check(u32::MAX, None); // Whatever a header says.
    }

    #[test]
    fn what_is_written_says_where_the_record_stood_first() {
        let metrics = Metrics::new(&Registry::default());
        let home = Home { topic: "first".into(), partition: 7, offset: 42, timestamp_ms: None };
        let waited = PutOff { refusals: 1, attempts: 4, home: Some(home.clone()), ..PutOff::default() };
        let (parcel, _rx) = parcel_of(&[(b"new", None), (b"waited", Some(waited))], &metrics);
        let headers = |record| {
            let origin = Origin { parcel: 0, record };
            let next = Next { step: 1, not_before_ms: 5, due_ms: Some(9), refusals: 2 };
            let headers = headers_of(&Note { parcel: &parcel, origin, next, attempts: 6, reason: "busy" });
            let text = |header: Header<'_, &[u8]>| {
                format!(
                    "{}={}",
                    header.key.trim_start_matches("tailrace-"),
                    String::from_utf8_lossy(header.value.unwrap_or_default())
                )
            };
            headers.iter().map(text).collect::<Vec<_>>().join(" ")
        };
        let of_both = "not-before=5 due=9 refusals=2 attempts=6";
        assert_eq!(headers(0), format!("{of_both} topic=logs partition=3 offset=0 timestamp=1700000000000"));
        assert_eq!(headers(1), format!("{of_both} topic=first partition=7 offset=42 timestamp=-1"));
    }

    #[track_caller]
    fn check(remaining_s: i64, step: usize, wait_s: i64) {
        let next = Next { step, not_before_ms: wait_s * 1000, due_ms: Some(remaining_s * 1000), refusals: 2 };
        assert_eq!(until(&WAITS, 2, remaining_s * 1000, 0), next, "{remaining_s} s");
    }

    #[test]
    fn a_long_wait_goes_by_the_longest_steps_that_fit() {
        check(10_000, 2, 3600);
        check(3600, 2, 3600);
        check(3599, 1, 300);
        check(299, 0, 30);
        check(30, 0, 30);
        check(7, 0, 7); // Shorter than any: cut off.
        let far = until(&WAITS, 0, i64::MAX, 5);
        assert_eq!((far.step, far.not_before_ms), (2, 3_600_005));
    }
}
