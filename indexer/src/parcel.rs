//! What travels from the consumer on: records of one partition over one buffer, and what is owed for them.
//!
//! A document ends in its own way (indexed, dead-lettered, dropped), so a parcel counts down; its `Ack` settles with the
//! last record. A parcel that is let go before that gives its span back.

use crate::metrics::Metrics;
use crate::pool::Pool;
use event::{Ack, Incarnation};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One Kafka record, or one event of a packed one: ranges of its parcel's buffer.
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
    /// What headers of our agent tell of it.
    pub sent: Option<Place>,
    /// What headers tell of its waits; mostly nothing.
    pub put_off: Option<Box<PutOff>>,
}

/// What headers tell of a record that is to wait, or has waited in a retry topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutOff {
    /// Not to be taken from this topic before this time, milliseconds since 1970.
    pub not_before_ms: i64,
    /// Not to be indexed before this time: what its writer asked for by a header.
    pub due_ms: Option<i64>,
    /// How often it was refused for now, and put off.
    pub refusals: u32,
    /// Bulk requests that were made with it before.
    pub attempts: u32,
    /// Where it stood first; none: where it is.
    pub home: Option<Home<'static>>,
}

/// Where a record stood first: what names it, and chooses its pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home<'p> {
    /// The topic.
    pub topic: Cow<'p, str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record's timestamp, milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

impl Home<'_> {
    /// Names the document of a record that brings no id: topic, partition, offset and timestamp.
    pub fn id(&self) -> impl AsRef<[u8]> + use<> {
        event::foreign_id(&self.topic, self.partition, self.offset, self.timestamp_ms.unwrap_or(-1))
    }
}

/// Where the agent found a record's bytes, as its headers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which of the parcel's origins.
    pub origin: u32,
    /// Offset in the source.
    pub offset: u64,
    /// The line was cut.
    pub is_truncated: bool,
    /// The bytes are not the event's message.
    pub is_without_message: bool,
    /// The bytes are a whole event as JSON.
    pub is_json: bool,
}

/// What the headers of our agent tell of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentLine<'p> {
    /// Where the agent found it.
    pub place: Place,
    /// The JSON object that it shares with the other lines of its Kafka record.
    pub event: &'p [u8],
    /// The life of the file.
    pub incarnation: Incarnation,
}

/// What headers tell once for all events of a Kafka record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// What the events share.
    Known {
        /// JSON object, in the buffer.
        event: Range<u32>,
        /// The life of the file.
        incarnation: Incarnation,
    },
    /// They cannot be read: why.
    Unreadable(String),
}

/// Records of one partition that are not yet a parcel.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Keys and payloads, one after the other.
    pub buffer: Vec<u8>,
    /// In the order of the partition.
    pub records: Vec<Taken>,
    /// What the records' places refer to.
    pub origins: Vec<Origin>,
}

impl Gathered {
    /// Takes out what there is, for a parcel, and where its buffer is to go in the end: back to `pool`. Few records go in
    /// buffers of just their size, else many small parcels would hold far more memory than they are charged for.
    pub fn take(&mut self, pool: &Pool) -> (Self, Option<Pool>) {
        let origins = std::mem::take(&mut self.origins);
        if self.buffer.len() >= self.buffer.capacity() / 2 {
            let records = Vec::with_capacity(self.records.len());
            return (
                Self {
                    buffer: std::mem::take(&mut self.buffer),
                    records: std::mem::replace(&mut self.records, records),
                    origins,
                },
                Some(pool.clone()),
            );
        }
        let exact = Self { buffer: self.buffer.as_slice().into(), records: self.records.as_slice().into(), origins };
        self.buffer.clear();
        self.records.clear();
        (exact, None)
    }
}

/// Records of one partition, in order, with one debt.
#[derive(Debug)]
pub struct Parcel {
    /// The topic they come from.
    pub topic: Arc<str>,
    /// The partition they come from.
    pub partition: i32,
    /// What the records' ranges refer to.
    buffer: Vec<u8>,
    /// In the order of the partition.
    pub records: Vec<Taken>,
    /// When parsing it was begun, milliseconds since 1970.
    pub parsed_ms: Option<i64>,
    origins: Vec<Origin>,
    left: AtomicU32,
    ack: Mutex<Option<Ack>>,
    metrics: Metrics,
    /// Where `buffer` goes back to, if it is worth it.
    buffers: Option<Pool>,
}

impl Parcel {
    /// Opens the debt of what was `gathered`, which must not be empty; its records count as consumed and in flight from
    /// here on.
    pub fn new(
        topic: Arc<str>,
        partition: i32,
        gathered: Gathered,
        ack: Ack,
        metrics: Metrics,
        buffers: Option<Pool>,
    ) -> Self {
        let Gathered { buffer, records, origins } = gathered;
        assert!(!records.is_empty(), "a parcel of {topic}/{partition} holds no record");
        metrics.consumed.inc_by(records.len() as u64);
        metrics.in_flight.add(records.len() as i64);
        let left = AtomicU32::new(u32::try_from(records.len()).expect("a parcel is bounded to far fewer records"));
        let (parsed_ms, ack) = (None, Mutex::new(Some(ack)));
        Self { topic, partition, buffer, records, parsed_ms, origins, left, ack, metrics, buffers }
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

    /// What headers tell of the waits of the record at `at`.
    pub fn put_off(&self, at: u32) -> Option<&PutOff> {
        self.records[at as usize].put_off.as_deref()
    }

    /// Where the record at `at` stood first.
    pub fn home(&self, at: u32) -> Home<'_> {
        let record = &self.records[at as usize];
        match record.put_off.as_ref().and_then(|put_off| put_off.home.as_ref()) {
            Some(home) => Home { topic: Cow::Borrowed(&home.topic), ..*home },
            None => Home {
                topic: Cow::Borrowed(&self.topic),
                partition: self.partition,
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
            },
        }
    }

    /// What headers told of the record at `at`, if they did.
    ///
    /// Errors: why they cannot be read.
    pub fn sent(&self, at: u32) -> Option<Result<SentLine<'_>, &str>> {
        let place = self.records[at as usize].sent?;
        Some(match &self.origins[place.origin as usize] {
            Origin::Known { event, incarnation } => {
                Ok(SentLine { place, event: self.slice(event), incarnation: *incarnation })
            }
            Origin::Unreadable(reason) => Err(reason),
        })
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
        if let Some(pool) = &self.buffers {
            pool.give(std::mem::take(&mut self.buffer));
        }
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
        let waits: Vec<_> = payloads.iter().map(|payload| (*payload, None)).collect();
        parcel_of(&waits, metrics)
    }

    /// The same, with what headers tell of waits.
    pub(crate) fn parcel_of(
        payloads: &[(&[u8], Option<PutOff>)],
        metrics: &Metrics,
    ) -> (Arc<Parcel>, mpsc::UnboundedReceiver<Entry>) {
        let payloads: Vec<_> = payloads.iter().map(|(payload, put_off)| (Some(*payload), put_off.clone())).collect();
        any(&payloads, metrics)
    }

    /// A parcel of records that have no value.
    pub(crate) fn nulls(count: usize, metrics: &Metrics) -> (Arc<Parcel>, mpsc::UnboundedReceiver<Entry>) {
        any(&vec![(None, None); count], metrics)
    }

    fn any(
        payloads: &[(Option<&[u8]>, Option<PutOff>)],
        metrics: &Metrics,
    ) -> (Arc<Parcel>, mpsc::UnboundedReceiver<Entry>) {
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
            bytes: 0,
            held: Permit::none(),
        };
        let (mut buffer, mut records) = (Vec::new(), Vec::new());
        for (offset, (payload, put_off)) in payloads.iter().enumerate() {
            let start = buffer.len() as u32;
            buffer.extend_from_slice(payload.unwrap_or_default());
            let value = payload.map(|_| start..buffer.len() as u32);
            records.push(Taken {
                value,
                key: None,
                offset: offset as i64,
                timestamp_ms: Some(1_700_000_000_000),
                sent: None,
                put_off: put_off.clone().map(Box::new),
            });
        }
        let ack = Ack::new(debt, tx);
        let gathered = Gathered { buffer, records, origins: Vec::new() };
        (Arc::new(Parcel::new("logs".into(), 3, gathered, ack, metrics.clone(), None)), rx)
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
    fn few_records_hold_no_large_buffer() {
        let pool = Pool::new(1 << 20);
        let (buffer, records) = (pool.take(1000), Vec::with_capacity(100));
        let mut gathered = Gathered { buffer, records, origins: Vec::new() };
        let place = gathered.buffer.as_ptr();
        let record = Taken { value: Some(0..3), key: None, offset: 0, timestamp_ms: None, sent: None, put_off: None };
        gathered.buffer.extend_from_slice(b"few");
        gathered.records.push(record.clone());
        let (few, back) = gathered.take(&pool);
        assert!(few.buffer.capacity() < 100 && few.records.capacity() < 10 && back.is_none());
        assert_eq!((few.buffer.as_slice(), few.records.as_slice()), (b"few".as_slice(), [record.clone()].as_slice()));
        assert_eq!((gathered.buffer.as_ptr(), gathered.buffer.len(), gathered.records.len()), (place, 0, 0));
        gathered.buffer.resize(600, b'x');
        gathered.records.push(record);
        let (many, back) = gathered.take(&pool);
        assert_eq!((many.buffer.as_ptr(), many.buffer.len(), back.is_some()), (place, 600, true));
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
