//! Main topics and a group → by how much the group lags there, all members together: one thread with a client of its own.

use crate::topics::Topics;
use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use service::stop::Stop;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often it is asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for one answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Stands for a lag that is not known.
const UNKNOWN: u64 = u64::MAX;

/// The lag as it was last told; clones share it.
#[derive(Debug, Clone)]
pub struct Lag(Arc<AtomicU64>);

impl Lag {
    /// Records between what the group has committed and the ends of the topics; `None` if the last answer did not come.
    pub fn get(&self) -> Option<u64> {
        let lag = self.0.load(Ordering::Relaxed);
        (lag != UNKNOWN).then_some(lag)
    }

    fn set(&self, lag: Option<u64>) {
        self.0.store(lag.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }
}

/// Starts asking, by `consumer`, which is of the group but takes no part in it, until `stop`.
///
/// Errors: no thread can be started.
pub fn watch(consumer: BaseConsumer, topics: Topics, stop: Stop) -> anyhow::Result<Lag> {
    let lag = Lag(Arc::new(AtomicU64::new(UNKNOWN)));
    let told = lag.clone();
    let work = move || {
        while !stop.is_stopped() {
            let asked = ask(&consumer, &topics.now());
            if let Err(error) = &asked {
                tracing::warn!(%error, "asking for the lag of the main topics; until it is known, overflow topics get their share only");
            }
            told.set(asked.ok());
            std::thread::sleep(ASK_EVERY);
        }
    };
    std::thread::Builder::new().name("lag".to_owned()).spawn(work).context("starting a thread")?;
    Ok(lag)
}

fn ask(consumer: &BaseConsumer, topics: &BTreeSet<String>) -> KafkaResult<u64> {
    let mut wanted = TopicPartitionList::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WAIT)?;
        for found in metadata.topics() {
            if let Some(code) = found.error() {
                return Err(KafkaError::MetadataFetch(code.into()));
            }
            for partition in found.partitions() {
                wanted.add_partition(found.name(), partition.id());
            }
        }
    }
    let mut lag = 0_u64;
    for place in consumer.committed_offsets(wanted, ANSWER_WAIT)?.elements() {
        let ends = consumer.fetch_watermarks(place.topic(), place.partition(), ANSWER_WAIT)?;
        let committed = if let Offset::Offset(offset) = place.offset() { Some(offset) } else { None };
        lag = lag.saturating_add(behind(committed, ends));
    }
    Ok(lag)
}

/// Records of a partition that are still to be read: a group without an offset begins at the first.
fn behind(committed: Option<i64>, (first, end): (i64, i64)) -> u64 {
    u64::try_from(end - committed.unwrap_or(first).max(first)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_still_there_counts() {
        assert_eq!(behind(Some(7), (0, 10)), 3);
        assert_eq!(behind(Some(10), (0, 10)), 0);
        assert_eq!(behind(None, (4, 10)), 6);
        assert_eq!(behind(Some(1), (4, 10)), 6); // Retention took the others.
        assert_eq!(behind(Some(20), (0, 10)), 0); // A topic made anew.
    }
}
