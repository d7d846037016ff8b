//! What librdkafka tells its consumer (rebalances, commits, statistics, errors) → notes for the consume loop.
//!
//! Rebalances are only written down here: the loop acts on them, because only it knows what is in flight, and librdkafka
//! waits for the answer. While closing they are answered at once.

use crate::forecast::Received;
use crate::metrics::Metrics;
use crate::partitions::Heard;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use service::health::Health;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Name of the cluster in the health report.
const PART: &str = "kafka";

/// A change of the assignment that waits for the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These are ours from now on.
    Assign(Vec<(String, i32)>),
    /// These are wanted back.
    Revoke(Vec<(String, i32)>),
}

/// How partitions stand, and what was received of them.
pub type Hearing = (Vec<(String, i32, Heard)>, Received);

/// The consumer's context: its side of the group.
#[derive(Debug)]
pub struct Member {
    changes: Mutex<VecDeque<Change>>,
    closing: AtomicBool,
    unanswered: AtomicU64,
    commit_failed: AtomicBool,
    /// Topics that the brokers did not know when they were asked.
    gone: Mutex<BTreeSet<String>>,
    resets: Mutex<Vec<Reset>>,
    has_resets: AtomicBool,
    heard: Mutex<Option<Hearing>>,
    metrics: Metrics,
    health: Health,
}

impl Member {
    /// A member that has been assigned nothing yet.
    pub fn new(metrics: Metrics, health: Health) -> Self {
        let changes = Mutex::default();
        let (closing, unanswered, commit_failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicBool::new(false));
        let (gone, resets, has_resets) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        let heard = Mutex::default();
        Self { changes, closing, unanswered, commit_failed, gone, resets, has_resets, heard, metrics, health }
    }

    /// The next change that waits.
    pub fn next_change(&self) -> Option<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// From now on rebalances are answered at once: nothing is in flight any more.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// A commit is on its way; `commit_callback` tells what the broker says of it.
    pub fn commit_sent(&self) {
        self.unanswered.fetch_add(1, Ordering::AcqRel);
    }

    /// True while the broker has not answered all commits.
    pub fn has_unanswered_commits(&self) -> bool {
        self.unanswered.load(Ordering::Acquire) > 0
    }

    /// True if a commit failed since the last call.
    pub fn take_commit_failed(&self) -> bool {
        self.commit_failed.swap(false, Ordering::AcqRel)
    }
}

impl Member {
    /// Topics that were found to be gone since the last call.
    pub fn take_gone(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.gone.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Member {
    /// What was last told of the partitions, once.
    pub fn take_heard(&self) -> Option<Hearing> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Member {
    /// True if there are resets that nobody took yet.
    pub fn has_resets(&self) -> bool {
        self.has_resets.load(Ordering::Acquire)
    }

    /// Reads that went on elsewhere since the last call.
    pub fn take_resets(&self) -> Vec<Reset> {
        self.has_resets.store(false, Ordering::Release);
        std::mem::take(&mut *self.resets.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// These are to be taken once more.
    pub fn put_resets(&self, resets: Vec<Reset>) {
        let is_none = resets.is_empty();
        self.resets.lock().unwrap_or_else(PoisonError::into_inner).extend(resets);
        if !is_none {
            self.has_resets.store(true, Ordering::Release);
        }
    }
}

/// A partition was to be read from an offset that is not there, and is read from its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// The offset that is not there.
    pub at: i64,
}

/// librdkafka tells a reset in a line of its log only: `[thrd:main]: logs [0]: offset reset (at offset 150 (leader epoch 0),
/// broker 1) to …: fetch failed due to …: Broker: Offset out of range`. The promises show that this version still does.
fn reset(facility: &str, text: &str) -> Option<Reset> {
    let (place, rest) = text.split_once("]: offset reset (at offset ").filter(|_| facility == "OFFSET")?;
    let (name, partition) = place.rsplit_once(" [")?;
    let (at, _) = rest.split_once(' ')?;
    let topic = name.rsplit(' ').next()?.to_owned();
    Some(Reset { topic, partition: partition.parse().ok()?, at: at.parse().ok()? })
}

/// The topic that an error says is not there. librdkafka tells it in words only: `logs [0]: topic does not exist (Broker: …)`.
fn gone(error: &KafkaError, reason: &str) -> Option<String> {
    let is_gone = matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
    );
    let (topic, _) = reason.split_once(" [").filter(|_| is_gone)?;
    Some(topic.to_owned())
}

fn hearing(statistics: &Statistics) -> Hearing {
    let (mut heard, mut received) = (Vec::new(), Received::default());
    received.wire_bytes = statistics.brokers.values().map(|broker| broker.rxbytes).sum();
    for topic in statistics.topics.values() {
        for (&partition, status) in topic.partitions.iter().filter(|(partition, _)| **partition >= 0) {
            if status.rxmsgs > 0 {
                received.partitions.insert((topic.topic.clone(), partition), (status.rxmsgs, status.rxbytes));
            }
            // Below 0: not known. What is not fetched is not told of anew.
            if status.fetch_state == "active" && status.ls_offset >= 0 && status.next_offset >= 0 {
                let has_more = status.fetchq_cnt > 0 || status.next_offset < status.ls_offset;
                heard.push((topic.topic.clone(), partition, Heard { end: status.ls_offset, has_more }));
            }
        }
    }
    (heard, received)
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(facility, "librdkafka: {text}");
            }
            RDKafkaLogLevel::Warning => {
                if let Some(reset) = reset(facility, text) {
                    self.put_resets(vec![reset]); // Told when it is known what was lost.
                    return;
                }
                tracing::warn!(facility, "librdkafka: {text}");
            }
            _ => tracing::debug!(facility, "librdkafka: {text}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka");
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).extend(gone(&error, reason));
        self.metrics.consume_errors.inc();
        self.health.set(PART, Some(format!("{error}: {reason}")));
    }

    /// Comes every few seconds.
    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.state == "UP" && broker.nodeid >= 0) {
            self.health.set(PART, None);
        }
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(hearing(&statistics));
        for topic in statistics.topics.values() {
            for (partition, status) in &topic.partitions {
                if *partition >= 0 && status.consumer_lag >= 0 && status.fetch_state != "none" {
                    let labels = [topic.topic.as_str(), &partition.to_string()];
                    self.metrics.lag.with_label_values(&labels).set(status.consumer_lag);
                }
            }
        }
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.metrics.rebalances.inc();
        let assigned = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let answered = match (assigned, consumer.rebalance_protocol()) {
                (true, RebalanceProtocol::Cooperative) => consumer.incremental_assign(&TopicPartitionList::new()),
                (false, RebalanceProtocol::Cooperative) => consumer.incremental_unassign(list),
                _ => consumer.unassign(),
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "answering a rebalance while closing");
            }
            return;
        }
        let places = list.elements().iter().map(|place| (place.topic().to_owned(), place.partition())).collect();
        let change = if assigned { Change::Assign(places) } else { Change::Revoke(places) };
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        let refused = offsets.elements().iter().find_map(|place| place.error().err());
        let problem = result.err().or(refused);
        self.metrics.commits.with_label_values(&[if problem.is_some() { "failed" } else { "ok" }]).inc();
        if let Some(error) = problem {
            // Ordinary in a rebalance: the next commit, or the next owner, covers it.
            tracing::warn!(%error, "offsets could not be committed, committing again");
            self.commit_failed.store(true, Ordering::Release);
        }
        self.unanswered.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_read_from_the_log() {
        let text = "[thrd:main]: t-x.1 [3]: offset reset (at offset 150 (leader epoch 0), broker 1) to offset BEGINNING \
                    (leader epoch -1): fetch failed due to requested offset not available on the broker: Broker: Offset out of range";
        let expected = Reset { topic: "t-x.1".to_owned(), partition: 3, at: 150 };
        assert_eq!(reset("OFFSET", text), Some(expected.clone()));
        assert_eq!(reset("OFFSET", text.trim_start_matches("[thrd:main]: ")), Some(expected));
        assert_eq!(reset("FETCH", text), None);
        assert_eq!(reset("OFFSET", "t [0]: offset reset (at offset END (leader epoch 0), broker 1)"), None);
    }

    #[test]
    fn a_topic_that_is_gone_is_named_by_the_error() {
        let error = |code| KafkaError::Global(code);
        let told = |code, reason| gone(&error(code), reason);
        let reason = "t-anew-1 [0]: topic does not exist (Broker: Unknown topic or partition)";
        assert_eq!(told(RDKafkaErrorCode::UnknownTopicOrPartition, reason), Some("t-anew-1".to_owned()));
        assert_eq!(told(RDKafkaErrorCode::UnknownTopic, "logs [12]: gone"), Some("logs".to_owned()));
        assert_eq!(told(RDKafkaErrorCode::BrokerTransportFailure, reason), None);
        assert_eq!(told(RDKafkaErrorCode::UnknownTopicOrPartition, "no topic is named"), None);
    }
}
