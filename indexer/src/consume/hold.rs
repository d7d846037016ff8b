//! Partitions that stand still: because the output does not keep up, or because their next record is not due yet.

use super::{Consume, SEEK_WAIT};
use crate::headers;
use crate::parcel::PutOff;
use rdkafka::Message as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use service::clock::wall_ms;
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

    /// Pauses all that is assigned, or only what waits, and resumes the others.
    pub(super) fn set_paused(&mut self, all: bool) {
        for pause in [true, false] {
            let places = self.partitions.to_pause(all, pause);
            self.tell(&places, pause);
        }
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
