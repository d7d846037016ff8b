//! Dead letters → a Kafka topic: the original key and bytes, with the cause in headers.

use super::{DeadLetters, Letter, Writing};
use crate::headers;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::Delivery;
use rdkafka::producer::{FutureProducer, FutureRecord};

/// Longest letter librdkafka takes; the broker's own limit decides. A record is never larger than what a broker gave us.
const MESSAGE_BYTES_MAX: &str = "104857600";
/// Bytes of letters that may wait in librdkafka.
const QUEUE_KBYTES: &str = "32768";

/// A Kafka topic of dead letters.
pub struct DeadLetterTopic {
    producer: FutureProducer,
    topic: String,
}

impl DeadLetterTopic {
    /// A producer for `topic`. `base` holds brokers, security and what the user passes to librdkafka.
    pub fn new(base: &ClientConfig, topic: &str) -> anyhow::Result<Self> {
        let mut config = base.clone();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0") // The record is settled by the report alone: no letter may expire.
            .set("message.max.bytes", MESSAGE_BYTES_MAX)
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES)
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("allow.auto.create.topics", "false");
        Ok(Self { producer: config.create()?, topic: topic.to_owned() })
    }
}

impl DeadLetters for DeadLetterTopic {
    fn write<'l>(&'l self, letters: &'l [Letter<'l>]) -> Writing<'l> {
        Box::pin(async move {
            let time_ms = service::clock::wall_ms();
            let mut sent = Vec::with_capacity(letters.len());
            for (at, letter) in letters.iter().enumerate() {
                let headers = headers_of(letter, time_ms);
                let value = letter.value();
                let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic).headers(headers);
                record.key = letter.parcel.key(letter.origin.record);
                record.payload = value;
                // Waits only while librdkafka's queue is full.
                sent.push((at, self.producer.send_result(record)));
            }
            let mut unwritten = Vec::new();
            for (at, result) in sent {
                let problem = match result {
                    Ok(report) => match report.await {
                        Ok(Ok(Delivery { .. })) => continue,
                        Ok(Err((error, _))) => error.to_string(),
                        Err(_) => "the producer was closed".to_owned(),
                    },
                    Err((error, _)) => error.to_string(),
                };
                unwritten.push((at, format!("topic {}: {problem}", self.topic)));
            }
            unwritten
        })
    }
}

/// What `tailrace dlq` groups and replays by.
fn headers_of(letter: &Letter<'_>, time_ms: i64) -> OwnedHeaders {
    let home = letter.home();
    let time = jiff::Timestamp::from_millisecond(time_ms).unwrap_or_default();
    [
        ("tailrace-cause", letter.cause.reason.clone()),
        ("tailrace-kind", letter.cause.kind.clone()),
        ("tailrace-status", letter.cause.status.to_string()),
        ("tailrace-pipeline", letter.pipeline.to_owned()),
        ("tailrace-processor", letter.processor.to_owned()),
        ("tailrace-index", letter.index.clone()),
        (headers::TOPIC, home.topic.to_string()),
        (headers::PARTITION, home.partition.to_string()),
        (headers::OFFSET, home.offset.to_string()),
        (headers::TIMESTAMP, home.timestamp_ms.unwrap_or(-1).to_string()),
        (headers::ATTEMPTS, letter.attempts.to_string()),
        ("tailrace-time", format!("{time:.3}")),
    ]
    .into_iter()
    .map(|(key, value)| (key, value.into_bytes()))
    .chain(sent(letter))
    .fold(OwnedHeaders::new_with_capacity(17), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(&value) })
    })
}

/// What the agent's headers told of a line, so that the letter can be read as that line: of a packed record it is one event.
fn sent(letter: &Letter<'_>) -> Vec<(&'static str, Vec<u8>)> {
    match letter.parcel.sent(letter.origin.record) {
        Some(Ok(line)) if !line.place.is_json => headers::of_line(line),
        _ => Vec::new(), // It says all of itself.
    }
}
