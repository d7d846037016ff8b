//! Copies → records of a Kafka topic: acks=all, idempotent, done with the broker's report.

use super::{Copies, Copy, Writing, Written};
use crate::config::{CopyKey, CopyTopicConfig};
use crate::settle::{Cause, Fate};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use std::sync::{Mutex, PoisonError};

/// The document's id.
const ID: &str = "tailrace-id";
/// The index it is meant for.
const INDEX: &str = "tailrace-index";

/// Longest copy librdkafka takes; the broker's own limit decides.
const MESSAGE_BYTES_MAX: &str = "104857600";
/// Bytes of copies that may wait in librdkafka. What does not fit is sent when the rest was taken.
const QUEUE_KBYTES: &str = "32768";

/// Options of librdkafka that would weaken the promise.
pub(crate) const REFUSED: &[(&str, &str)] = &[
    ("acks", "a copy counts only when all in-sync replicas have it"),
    ("enable.idempotence", "it keeps a record from being written twice by a retry"),
    ("message.timeout.ms", "a copy must not expire: what is settled is what was reported"),
    ("transactional.id", "copies are written at least once, by id"),
];

/// A Kafka topic.
pub struct CopyTopic {
    options: ClientConfig,
    /// Made anew after an error that it does not recover from.
    producer: Mutex<FutureProducer>,
    topic: String,
    key: CopyKey,
}

impl CopyTopic {
    /// A producer for the topic. `base` holds brokers, security and what the user passes to librdkafka.
    pub fn new(base: ClientConfig, config: &CopyTopicConfig) -> anyhow::Result<Self> {
        let mut options = base;
        if options.get("compression.type").or(options.get("compression.codec")).is_none() {
            options.set("compression.type", "lz4");
        }
        options
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0") // Done by the report alone: none may expire.
            .set("message.max.bytes", MESSAGE_BYTES_MAX)
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES)
            .set("linger.ms", "5");
        let producer = Mutex::new(options.create()?);
        Ok(Self { options, producer, topic: config.topic.clone(), key: config.key })
    }

    /// The producer of now.
    fn producer(&self) -> Result<FutureProducer, KafkaError> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((code, reason)) = producer.client().fatal_error() {
            tracing::warn!(topic = self.topic, %code, reason, "the producer cannot go on and is made anew");
            *producer = self.options.create()?;
        }
        Ok(producer.clone())
    }
}

impl Copies for CopyTopic {
    fn part(&self) -> &'static str {
        "output kafka"
    }

    fn write<'c>(&'c self, copies: &'c [Copy<'c>]) -> Writing<'c> {
        Box::pin(async move {
            let producer = match self.producer() {
                Ok(producer) => producer,
                Err(error) => {
                    let problem = Some(format!("topic {}: {error}", self.topic));
                    return Written { fates: vec![Fate::Retry("not_written"); copies.len()], problem };
                }
            };
            let mut sent = Vec::with_capacity(copies.len());
            let mut payload = Vec::new();
            for copy in copies {
                payload.clear();
                copy.line(&mut payload);
                payload.pop(); // The newline.
                let headers = OwnedHeaders::new_with_capacity(2)
                    .insert(Header { key: ID, value: Some(&copy.id) })
                    .insert(Header { key: INDEX, value: Some(&copy.index) });
                let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic).headers(headers).payload(&payload);
                record.key = match self.key {
                    CopyKey::DocumentId => Some(copy.id.as_bytes()),
                    CopyKey::Record => copy.key,
                };
                sent.push(producer.send_result(record).map_err(|(error, _)| error));
            }
            let (mut fates, mut problem) = (Vec::with_capacity(sent.len()), None);
            for report in sent {
                let error = match report {
                    Ok(report) => match report.await {
                        Ok(Ok(_)) => None,
                        Ok(Err((error, _))) => Some(error),
                        Err(_) => Some(KafkaError::Canceled),
                    },
                    Err(error) => Some(error),
                };
                let fate = error.as_ref().map_or(Fate::Done(false), fate);
                if let (Fate::Retry(_), Some(error)) = (&fate, error) {
                    problem.get_or_insert_with(|| format!("topic {}: {error}", self.topic));
                }
                fates.push(fate);
            }
            Written { fates, problem }
        })
    }
}

/// What an error means for the record: too large and refused for what it is are for good, all others may pass.
fn fate(error: &KafkaError) -> Fate {
    let dead = |kind: &str| {
        Fate::Dead(Box::new(Cause {
            status: 0,
            kind: kind.to_owned(),
            reason: format!("the topic refuses it: {error}"),
        }))
    };
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => dead("message_too_large"),
        Some(RDKafkaErrorCode::InvalidRecord) => dead("invalid_record"),
        Some(RDKafkaErrorCode::QueueFull) => Fate::Retry("queue_full"),
        _ => Fate::Retry("not_written"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_never_be_taken_is_a_dead_letter() {
        let of = |code| fate(&KafkaError::MessageProduction(code));
        assert!(
            matches!(of(RDKafkaErrorCode::MessageSizeTooLarge), Fate::Dead(cause) if cause.kind == "message_too_large")
        );
        assert!(matches!(of(RDKafkaErrorCode::InvalidRecord), Fate::Dead(_)));
        assert_eq!(of(RDKafkaErrorCode::QueueFull), Fate::Retry("queue_full"));
        assert_eq!(of(RDKafkaErrorCode::UnknownTopicOrPartition), Fate::Retry("not_written"));
        assert_eq!(of(RDKafkaErrorCode::NotEnoughReplicas), Fate::Retry("not_written"));
        assert_eq!(fate(&KafkaError::Canceled), Fate::Retry("not_written"));
    }
}
