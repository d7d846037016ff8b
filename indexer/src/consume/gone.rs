//! What changes under the consumer: topics that come and go, and records that are gone before they were read.

use super::{Consume, Round};
use crate::group;
use crate::member::Reset;
use anyhow::Context as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use service::clock::monotonic;
use std::time::Duration;

/// How often it is looked whether a topic that is gone is there again, and the longest wait for an answer.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_WAIT: Duration = Duration::from_secs(2);

/// Offsets of a partition of which no record is there any more.
#[derive(Debug)]
pub(super) struct Gap {
    topic: String,
    partition: i32,
    /// The first that is missing, and the first that is there.
    from: i64,
    to: i64,
}

impl Consume {
    /// Reads what is wanted now.
    pub(super) fn look_for_topics(&mut self, round: &mut Round) -> anyhow::Result<()> {
        let Some(topics) = self.subscription.changed() else { return Ok(()) };
        tracing::info!(?topics, "topics to read");
        round.gone.retain(|topic| topics.contains(topic));
        group::subscribe(&self.consumer, &topics)
    }

    /// Counts what is lost where reading went on elsewhere.
    ///
    /// Errors: there is such a place, and `strict` says to stop.
    pub(super) fn look_for_lost(&mut self, round: &mut Round) -> anyhow::Result<()> {
        if self.consumer.context().has_resets() && monotonic() >= round.lost_due {
            round.lost_due = monotonic() + LOOK_EVERY;
            let resets = self.consumer.context().take_resets();
            let mut again = Vec::new();
            for reset in resets {
                if !self.partitions.numbers(&reset.topic).contains(&reset.partition) {
                    continue; // It is no longer ours.
                }
                match self.consumer.fetch_watermarks(&reset.topic, reset.partition, LOOK_WAIT) {
                    Ok((first, end)) => self.note_lost(reset, first, end, round)?,
                    Err(error) => {
                        let Reset { topic, partition, at } = &reset;
                        tracing::warn!(topic, partition, at, %error, "asking for what is lost, trying on");
                        again.push(reset);
                    }
                }
            }
            self.consumer.context().put_resets(again);
        }
        if !round.gaps.is_empty() && monotonic() >= round.commit_due {
            round.gaps.retain(|gap| !self.skip(gap));
        }
        Ok(())
    }

    fn note_lost(&mut self, reset: Reset, first: i64, end: i64, round: &mut Round) -> anyhow::Result<()> {
        let Reset { topic, partition, at } = reset;
        let known = round.gaps.iter().filter(|gap| gap.topic == topic && gap.partition == partition);
        let from = known.map(|gap| gap.to).fold(at, i64::max); // What retention took meanwhile counts once.
        let lost = u64::try_from(first - from).unwrap_or(0);
        if first > at {
            self.metrics.lost.with_label_values(&[topic.as_str()]).inc_by(lost);
            tracing::error!(
                topic,
                partition,
                from,
                to = first,
                lost,
                "records were gone before they were read, going on behind"
            );
        } else {
            tracing::warn!(
                topic,
                partition,
                at,
                first,
                end,
                "the offset lies behind the end: the topic was cut or made anew, reading it from its beginning"
            );
        }
        anyhow::ensure!(
            !self.strict,
            "kafka.strict: offset {at} of topic `{topic}`, partition {partition}, is not there: it has {first} to {end}. To go on \
             without what is missing, set kafka.strict to false, or the offset of group by hand"
        );
        if first > at {
            round.gaps.push(Gap { topic, partition, from: at, to: first });
        }
        Ok(())
    }

    /// Moves the group's offset over `gap`, if no record is to be read before it: else the gap would be found, and counted, again
    /// after a restart before the next record. Returns true if there is nothing left to do.
    fn skip(&mut self, gap: &Gap) -> bool {
        let Gap { topic, partition, from, to } = gap;
        match self.partitions.position(topic, *partition) {
            None => true,
            Some(None) => match self.committed(topic, *partition) {
                Ok(committed) if committed == Some(*from) => {
                    self.partitions.skip(topic, *partition, *to);
                    true
                }
                Ok(_) => true, // What was fetched before the gap is still to come, and then what is behind it.
                Err(error) => {
                    tracing::debug!(topic, partition, %error, "asking for the offset before a gap, trying on");
                    false
                }
            },
            Some(Some(position)) if position >= *to as u64 => true,
            Some(Some(position)) if position == *from as u64 && self.partitions.is_idle(topic, *partition) => {
                self.partitions.skip(topic, *partition, *to);
                true
            }
            Some(Some(_)) => false,
        }
    }

    fn committed(&self, topic: &str, partition: i32) -> anyhow::Result<Option<i64>> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, partition);
        let answer = self.consumer.committed_offsets(asked, LOOK_WAIT)?;
        let place = answer.find_partition(topic, partition).context("no answer for the partition")?;
        Ok(if let Offset::Offset(offset) = place.offset() { Some(offset) } else { None })
    }

    /// A topic that was gone and is there again is another one: where it counts from 0, it is read from there. Reading an old one
    /// again after a wrong answer costs time, and makes copies only with `document_id: none`.
    pub(super) fn look_for_gone(&mut self, round: &mut Round) {
        round.gone.extend(self.consumer.context().take_gone());
        if round.gone.is_empty() || monotonic() < round.look_due {
            return;
        }
        round.look_due = monotonic() + LOOK_EVERY;
        let topics: Vec<_> = round.gone.iter().cloned().collect();
        for topic in topics {
            match self.beginnings(&topic) {
                Ok(Some(beginnings)) => {
                    for (partition, _) in beginnings.into_iter().filter(|(_, first)| *first == 0) {
                        tracing::warn!(
                            topic,
                            partition,
                            "the topic was gone and is there again, it is read from its beginning"
                        );
                        self.partitions.begin_anew(&topic, partition);
                    }
                    round.gone.remove(&topic);
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(topic, %error, "asking for a topic that was gone, trying on"),
            }
        }
    }

    /// The first offset of each partition of `topic` that is ours. `None` if it is not there.
    fn beginnings(&self, topic: &str) -> Result<Option<Vec<(i32, i64)>>, KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(topic), LOOK_WAIT)?;
        if metadata.topics().iter().all(|found| found.error().is_some() || found.partitions().is_empty()) {
            return Ok(None);
        }
        let first = |partition| Ok((partition, self.consumer.fetch_watermarks(topic, partition, LOOK_WAIT)?.0));
        self.partitions.numbers(topic).into_iter().map(first).collect::<Result<_, _>>().map(Some)
    }
}
