//! What travels from the consumer on: records of one partition over one buffer, and what is owed for them.
//!
//! A document ends in its own way (indexed, dead-lettered, dropped), so a parcel counts down; its `Ack` settles with the
//! last record. A parcel that is let go before that gives its span back.

use crate::metrics::Metrics;
use bytes::Bytes;
use event::Ack;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One Kafka record: ranges of its parcel's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The payload; `None` is Kafka's null value.
    pub value: Option<Range<u32>>,
    /// The key.
    pub key: Option<Range<u32>>,
    /// Offset in the partition.
    pub offset: i64,
    /// The record's timestamp, milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

/// Records of one partition, in order, with one debt.
#[derive(Debug)]
pub struct Parcel {
    /// The topic they come from.
    pub topic: Arc<str>,
    /// The partition they come from.
    pub partition: i32,
    /// What the records' ranges refer to.
    pub buffer: Bytes,
    /// In the order of the partition.
    pub records: Vec<Taken>,
    left: AtomicU32,
    ack: Mutex<Option<Ack>>,
    metrics: Metrics,
}

impl Parcel {
    /// Opens the debt of `records`, which must not be empty; they count as consumed and in flight from here on.
    pub fn new(
        topic: Arc<str>,
        partition: i32,
        buffer: Bytes,
        records: Vec<Taken>,
        ack: Ack,
        metrics: Metrics,
    ) -> Self {
        assert!(!records.is_empty(), "a parcel of {topic}/{partition} holds no record");
        metrics.consumed.inc_by(records.len() as u64);
        metrics.in_flight.add(records.len() as i64);
        let left = AtomicU32::new(u32::try_from(records.len()).expect("a parcel is bounded to far fewer records"));
        Self { topic, partition, buffer, records, left, ack: Mutex::new(Some(ack)), metrics }
    }

    /// `count` of the records are safe. The caller has counted how they ended.
    pub fn done(&self, count: u32) {
        if count == 0 {
            return;
        }
        self.metrics.in_flight.sub(i64::from(count));
        let before = self.left.fetch_sub(count, Ordering::AcqRel);
        assert!(
            before >= count,
            "{}/{}: {count} records are done, but only {before} were left",
            self.topic,
            self.partition
        );
        if before == count
            && let Some(ack) = self.ack.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            ack.settle();
        }
    }

    /// The payload of the record at `at`.
    pub fn value(&self, at: u32) -> Option<&[u8]> {
        self.records[at as usize].value.as_ref().map(|range| self.slice(range))
    }

    /// The key of the record at `at`.
    pub fn key(&self, at: u32) -> Option<&[u8]> {
        self.records[at as usize].key.as_ref().map(|range| self.slice(range))
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        &self.buffer[range.start as usize..range.end as usize]
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        let left = *self.left.get_mut();
        self.metrics.returned.inc_by(u64::from(left));
        self.metrics.in_flight.sub(i64::from(left));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use event::{Anchor, Debt, Entry, Permit, StreamId};
    use service::metrics::Registry;
    use tokio::sync::mpsc;

    /// A parcel of these payloads and the end of its ack channel.
    pub(crate) fn parcel(payloads: &[&[u8]], metrics: &Metrics) -> (Arc<Parcel>, mpsc::UnboundedReceiver<Entry>) {
        let (tx, rx) = crate::acks();
        let count = payloads.len() as u64;
        let debt = Debt {
            stream: StreamId(1),
            epoch: 0,
            seq: 0,
            start: 0,
            end: count,
            anchor: Anchor::default(),
            events: payloads.len() as u32,
            held: Permit::none(),
        };
        let (mut buffer, mut records) = (Vec::new(), Vec::new());
        for (offset, payload) in payloads.iter().enumerate() {
            let start = buffer.len() as u32;
            buffer.extend_from_slice(payload);
            let value = Some(start..buffer.len() as u32);
            records.push(Taken { value, key: None, offset: offset as i64, timestamp_ms: Some(1_700_000_000_000) });
        }
        let ack = Ack::new(debt, tx);
        (Arc::new(Parcel::new("logs".into(), 3, buffer.into(), records, ack, metrics.clone())), rx)
    }

    #[test]
    fn the_last_record_settles_the_debt() {
        let metrics = Metrics::new(&Registry::default());
        let (parcel, mut rx) = parcel(&[b"a", b"b", b"c"], &metrics);
        parcel.done(2);
        assert!(rx.try_recv().is_err());
        parcel.done(1);
        assert!(matches!(rx.try_recv(), Ok(Entry::Settled(_))));
        assert_eq!(metrics.in_flight.get(), 0);
    }

    #[test]
    fn a_parcel_let_go_gives_its_span_back() {
        let metrics = Metrics::new(&Registry::default());
        let (parcel, mut rx) = parcel(&[b"a", b"b", b"c"], &metrics);
        parcel.done(1);
        drop(parcel);
        assert!(matches!(rx.try_recv(), Ok(Entry::Returned(_))));
        assert_eq!((metrics.returned.get(), metrics.in_flight.get()), (2, 0));
    }
}
