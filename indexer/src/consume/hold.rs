//! Partitions that stand still: because the output does not keep up, or because their next record is not due yet.

use super::{Consume, SEEK_WAIT};
use crate::headers;
use crate::parcel::PutOff;
use crate::partitions::Still;
use rdkafka::Message as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use service::clock::{monotonic, wall_ms};
use std::sync::Arc;

impl Consume {
    /// What headers of `message` tell of waits, where there are topics for them.
    pub(super) fn put_off(&self, message: &BorrowedMessage<'_>) -> Option<PutOff> {
        if self.retry_topics.is_empty() {
            return None;
        }
        match headers::put_off(message, self.retry_topics.contains(message.topic()))? {
            Ok(put_off) => Some(put_off),
            Err(reason) => {
                let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
                tracing::warn!(topic, partition, offset, reason, "a time that cannot be read, indexed now");
                None
            }
        }
    }

    /// Goes on with partitions whose next record is due now.
    pub(super) fn wake(&mut self) {
        for (topic, partition, offset) in self.partitions.due(wall_ms()) {
            self.tell(&[(topic.clone(), partition)], false);
            // After that, for what is resumed goes on at its own place; and with a wait, so that nothing fetched before comes after it.
            match self.consumer.seek(&topic, partition, Offset::Offset(offset as i64), SEEK_WAIT) {
                Ok(()) => self.partitions.awake(&topic, partition),
                Err(error) => tracing::warn!(%topic, partition, %error, "seeking to a record that is due, trying on"),
            }
        }
    }

    /// Pauses what is to stand still, and resumes the others.
    pub(super) fn pause(&mut self, still: Still) {
        for pause in [true, false] {
            let places = self.partitions.to_pause(still, pause);
            self.tell(&places, pause);
        }
    }

    /// Whether overflow topics stand still now.
    pub(super) fn still(&mut self) -> Still {
        let Some((valley, lag)) = &mut self.overflow else { return Still::None };
        let (lag, (main, overflow)) = (lag.get(), self.partitions.take_counts());
        let flows = valley.flows(lag, main, overflow, monotonic());
        self.metrics.main_lag.set(lag.and_then(|lag| i64::try_from(lag).ok()).unwrap_or(-1));
        self.metrics.overflow_open.set(i64::from(valley.is_open()));
        if flows { Still::None } else { Still::Overflow }
    }

    /// Pauses or resumes `places`; both may be said twice.
    fn tell(&self, places: &[(Arc<str>, i32)], pause: bool) {
        if places.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(places.len());
        for (topic, partition) in places {
            list.add_partition(topic, *partition);
        }
        let done = if pause { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        if let Err(error) = done {
            tracing::warn!(%error, pause, "pausing or resuming partitions");
        }
    }
}
