//! The topic of dead letters → letters, groups of them by cause, and documents once the cause is mended.
//!
//! Reading moves no group's offset and takes nothing away: [`read`] looks, [`replay`] writes documents by the same ids as
//! before, so it may be said twice, and only [`purge`] removes letters.

mod cause;
mod grave;
mod replay;

pub use cause::{Group, Groups, fingerprint, is_meant};
pub use grave::{Grave, Place};
pub use replay::{Rehearsed, Replay, Replayed};

use crate::config::IndexerConfig;
use crate::group;
use anyhow::Context as _;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

/// Longest wait for one answer of a broker.
const WAIT: Duration = Duration::from_secs(10);
/// Bytes that are fetched ahead.
const FETCH_KBYTES: &str = "8192";

/// The topic of `config`'s dead letters.
///
/// Errors: they go to an index or a file.
pub fn topic(config: &IndexerConfig) -> anyhow::Result<&str> {
    config.dead_letter.topic().context(
        "dead_letter is no topic in this configuration: search the index, or read the file; these commands read a topic",
    )
}

/// Reads the letters that are in the topic now, each partition from its start, and hands them to `visit` until it breaks.
///
/// Errors: no broker answers, there is no such topic.
pub fn read(config: &IndexerConfig, visit: impl FnMut(Grave) -> ControlFlow<()>) -> anyhow::Result<()> {
    read_from(group::base(config)?, topic(config)?, visit)
}

fn read_from(
    mut options: ClientConfig,
    topic: &str,
    mut visit: impl FnMut(Grave) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    options
        .set("group.id", "tailrace-dlq") // librdkafka asks for one; nothing is ever committed to it.
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("queued.max.messages.kbytes", FETCH_KBYTES);
    let consumer: BaseConsumer = options.create().context("kafka: creating a consumer")?;
    let ends = ends(&consumer, topic)?;
    let mut list = TopicPartitionList::new();
    let mut open = BTreeSet::new();
    for (partition, first, end) in ends {
        if first < end {
            list.add_partition_offset(topic, partition, Offset::Offset(first))?;
            open.insert((partition, end));
        }
    }
    consumer.assign(&list).with_context(|| format!("reading {topic}"))?;
    while !open.is_empty() {
        match consumer.poll(WAIT) {
            None => anyhow::bail!("topic {topic}: no broker answered within {WAIT:?}"),
            Some(Err(KafkaError::PartitionEOF(partition))) => open.retain(|(number, _)| *number != partition),
            Some(Err(error)) => return Err(error).with_context(|| format!("reading {topic}")),
            Some(Ok(message)) => {
                let grave = Grave::new(&message);
                let Place { partition, offset } = grave.place;
                // What came after the start of this is of no concern.
                open.retain(|(number, end)| *number != partition || offset + 1 < *end);
                if visit(grave).is_break() {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// First offset and end of each partition of `topic`.
fn ends(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<(i32, i64, i64)>> {
    let metadata = consumer.fetch_metadata(Some(topic), WAIT).with_context(|| format!("asking for topic {topic}"))?;
    let found = metadata.topics().first().filter(|found| found.error().is_none());
    let partitions = found.map(|found| found.partitions()).unwrap_or_default();
    anyhow::ensure!(!partitions.is_empty(), "dead_letter.topic: topic `{topic}` does not exist on these brokers");
    let ends = |partition: i32| {
        let (first, end) = consumer
            .fetch_watermarks(topic, partition, WAIT)
            .with_context(|| format!("asking for the ends of {topic}/{partition}"))?;
        Ok((partition, first, end))
    };
    partitions.iter().map(|partition| ends(partition.id())).collect()
}

/// Letters of a partition that a purge removes: those before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Purge {
    /// Number of the partition.
    pub partition: i32,
    /// Its first letter.
    pub first: i64,
    /// The first letter that stays.
    pub end: i64,
}

/// What [`purge`] would remove: letters written before `before_ms`, or all that are there now.
pub fn purgeable(config: &IndexerConfig, before_ms: Option<i64>) -> anyhow::Result<Vec<Purge>> {
    let (mut options, topic) = (group::base(config)?, topic(config)?);
    options.set("group.id", "tailrace-dlq").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = options.create().context("kafka: creating a consumer")?;
    let mut purges = Vec::new();
    for (partition, first, end) in ends(&consumer, topic)? {
        let end = match before_ms {
            None => end,
            Some(ms) => {
                let mut asked = TopicPartitionList::new();
                asked.add_partition_offset(topic, partition, Offset::Offset(ms))?;
                let told = consumer.offsets_for_times(asked, WAIT).context("asking for offsets by time")?;
                match told.find_partition(topic, partition).map(|place| place.offset()) {
                    Some(Offset::Offset(offset)) => offset,
                    _ => end, // None is that young.
                }
            }
        };
        purges.push(Purge { partition, first, end });
    }
    Ok(purges)
}

/// Removes letters for good.
///
/// Errors: a broker refuses (the right to delete from the topic).
pub async fn purge(config: &IndexerConfig, purges: &[Purge]) -> anyhow::Result<()> {
    let topic = topic(config)?;
    let admin: AdminClient<DefaultClientContext> = group::base(config)?.create().context("kafka: creating a client")?;
    let mut list = TopicPartitionList::new();
    for purge in purges.iter().filter(|purge| purge.first < purge.end) {
        list.add_partition_offset(topic, purge.partition, Offset::Offset(purge.end))?;
    }
    if list.count() == 0 {
        return Ok(());
    }
    let removed = admin
        .delete_records(&list, &AdminOptions::new().request_timeout(Some(WAIT)))
        .await
        .with_context(|| format!("removing letters from {topic}"))?;
    for place in removed.elements() {
        place.error().with_context(|| format!("removing letters from {topic}/{}", place.partition()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
