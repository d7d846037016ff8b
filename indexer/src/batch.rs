//! Documents → one bulk body, bounded by bytes, count and age. Pure but for the clock it is handed.
//!
//! Body: newline-delimited JSON, an action line and the document, as `_bulk` takes it.

use crate::config::BatchConfig;
use crate::latency::Moments;
use crate::parcel::Parcel;
use crate::pool::Pool;
use crate::settle::Cause;
use bytes::Bytes;
use compact_str::CompactString;
use std::num::NonZeroI64;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which record of which parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Place in the batch's list of parcels.
    pub parcel: u32,
    /// Place in the parcel's list of records.
    pub record: u32,
}

/// One document of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    /// The record it was made of.
    pub origin: Origin,
    /// Where it ends in the body; it starts where the one before ends.
    pub end: usize,
    /// The pipeline that made it, in the batch's list of names.
    pub pipeline: u32,
    /// When its line was read, milliseconds since 1970.
    pub read_ms: Option<NonZeroI64>,
}

/// What is sent in one bulk request.
#[derive(Debug, Default)]
pub struct Batch {
    /// The whole body.
    pub body: Bytes,
    /// The documents, in order.
    pub items: Vec<Item>,
    /// The parcels they come from.
    pub parcels: Vec<Arc<Parcel>>,
    /// Names of pipelines; the first is the empty name: none.
    pub pipelines: Vec<CompactString>,
    /// Documents, in order, whose pipeline failed, with the processor that did.
    pub failed: Vec<(u32, String)>,
    /// Records that are not to be indexed before a time, milliseconds since 1970.
    pub later: Vec<(Origin, i64)>,
    /// Records that cannot become documents at all.
    pub dead: Vec<(Origin, Cause)>,
}

impl Batch {
    /// The processor that failed on the document at `at`; empty if none did.
    pub fn processor(&self, at: u32) -> &str {
        let found = self.failed.binary_search_by_key(&at, |(failed, _)| *failed);
        found.map_or("", |place| self.failed[place].1.as_str())
    }

    /// The bytes of the document at `at`, action line included.
    pub fn document(&self, at: u32) -> Bytes {
        let at = at as usize;
        let start = if at == 0 { 0 } else { self.items[at - 1].end };
        self.body.slice(start..self.items[at].end)
    }

    /// Body of the documents `chosen`: the whole body without a copy if that is all of them.
    pub fn body_of(&self, chosen: &[u32]) -> Bytes {
        if chosen.len() == self.items.len() {
            return self.body.clone();
        }
        let mut body = Vec::new();
        for &at in chosen {
            body.extend_from_slice(&self.document(at));
        }
        body.into()
    }

    /// Bytes of the body of the documents `chosen`.
    pub fn bytes_of(&self, chosen: &[u32]) -> usize {
        if chosen.len() == self.items.len() {
            return self.body.len();
        }
        let start = |at: usize| if at == 0 { 0 } else { self.items[at - 1].end };
        chosen.iter().map(|&at| self.items[at as usize].end - start(at as usize)).sum()
    }

    /// The parcel and record of `origin`.
    pub fn parcel(&self, origin: Origin) -> &Arc<Parcel> {
        &self.parcels[origin.parcel as usize]
    }

    /// When things happened to the document at `at`; `None` if it waited in a retry topic.
    pub fn moments(&self, at: u32) -> Option<Moments> {
        let Item { origin, read_ms, .. } = self.items[at as usize];
        let parcel = self.parcel(origin);
        if parcel.put_off(origin.record).is_some_and(|put_off| put_off.home.is_some()) {
            return None;
        }
        let broker_ms = parcel.records[origin.record as usize].timestamp_ms;
        Some(Moments { read_ms: read_ms.map(NonZeroI64::get), broker_ms, parsed_ms: parcel.parsed_ms })
    }

    /// The records of `origins` are safe; the caller has counted how they ended.
    pub fn done(&self, origins: impl Iterator<Item = Origin>) {
        let mut run: Option<(u32, u32)> = None; // Neighbours are mostly of one parcel: one subtraction for all of them.
        for origin in origins {
            match &mut run {
                Some((parcel, count)) if *parcel == origin.parcel => *count += 1,
                _ => {
                    if let Some((parcel, count)) = run.replace((origin.parcel, 1)) {
                        self.parcels[parcel as usize].done(count);
                    }
                }
            }
        }
        if let Some((parcel, count)) = run {
            self.parcels[parcel as usize].done(count);
        }
    }
}

/// How a document came about.
#[derive(Debug, Default)]
pub struct Made<'p> {
    /// The pipeline that made it.
    pub pipeline: Option<&'p str>,
    /// The processor that failed on it.
    pub failed: Option<String>,
    /// When its line was read, milliseconds since 1970.
    pub read_ms: Option<NonZeroI64>,
}

/// Room in a body beyond its limit, so that the document which goes over it does not make the buffer grow.
const SLACK: usize = 64 << 10;
/// The first batch is so many times smaller, and due so much sooner, than the limits say.
const FIRST_SHARE: usize = 64;

/// Bytes that a body of `limits` takes.
pub fn body_capacity(limits: &BatchConfig) -> usize {
    usize::try_from(limits.bytes_max.0).unwrap_or(usize::MAX).saturating_add(SLACK)
}

/// A batch while it is filled. One per worker.
#[derive(Debug)]
pub struct Filling {
    limits: BatchConfig,
    bodies: Pool,
    /// Limits of bytes and age are divided by this. Halves from batch to batch: the first documents after the start are
    /// seen at once, and full batches come when there is a stream of them.
    share: usize,
    body: Vec<u8>,
    items: Vec<Item>,
    parcels: Vec<Arc<Parcel>>,
    pipelines: Vec<CompactString>,
    failed: Vec<(u32, String)>,
    later: Vec<(Origin, i64)>,
    dead: Vec<(Origin, Cause)>,
    since: Option<Instant>,
}

impl Filling {
    /// An empty batch; its bodies come from `bodies`.
    pub fn new(limits: BatchConfig, bodies: Pool) -> Self {
        let pipelines = vec![CompactString::default()];
        Self {
            limits,
            bodies,
            share: FIRST_SHARE,
            body: Vec::new(),
            items: Vec::new(),
            parcels: Vec::new(),
            pipelines,
            failed: Vec::new(),
            later: Vec::new(),
            dead: Vec::new(),
            since: None,
        }
    }

    /// Where the next document is written to; [`Filling::push`] closes it.
    pub fn body(&mut self) -> &mut Vec<u8> {
        if self.body.capacity() == 0 {
            // Not before there is something to write: a worker that waits with a full batch holds no second one.
            self.body = self.bodies.take(body_capacity(&self.limits));
        }
        &mut self.body
    }

    /// Closes the document that was written to `body` since the last call. Returns a batch when that one is full: all
    /// before this document if it no longer fits, else all.
    pub fn push(&mut self, parcel: &Arc<Parcel>, record: u32, made: Made<'_>, now: Instant) -> Option<Batch> {
        let start = self.items.last().map_or(0, |item| item.end);
        let full = if self.body.len() > self.bytes_max() && !self.items.is_empty() {
            let last = self.body.split_off(start);
            let full = self.take();
            self.body().extend_from_slice(&last);
            full
        } else {
            None
        };
        let origin = self.origin(parcel, record, now);
        let pipeline = self.pipeline(made.pipeline.unwrap_or_default());
        if let Some(processor) = made.failed {
            self.failed.push((self.items.len() as u32, processor));
        }
        self.items.push(Item { origin, end: self.body.len(), pipeline, read_ms: made.read_ms });
        full.or_else(|| if self.is_full() { self.take() } else { None })
    }

    /// Takes note of a record that cannot become a document.
    pub fn push_dead(&mut self, parcel: &Arc<Parcel>, record: u32, cause: Cause, now: Instant) -> Option<Batch> {
        let origin = self.origin(parcel, record, now);
        self.dead.push((origin, cause));
        if self.is_full() { self.take() } else { None }
    }

    /// Takes note of a record that is not to be indexed before `time_ms`.
    pub fn push_later(&mut self, parcel: &Arc<Parcel>, record: u32, time_ms: i64, now: Instant) -> Option<Batch> {
        let origin = self.origin(parcel, record, now);
        self.later.push((origin, time_ms));
        if self.is_full() { self.take() } else { None }
    }

    /// Takes out what there is, if anything.
    pub fn take(&mut self) -> Option<Batch> {
        self.since = None;
        if self.items.is_empty() && self.dead.is_empty() && self.later.is_empty() {
            return None;
        }
        self.share = (self.share / 2).max(1);
        let pipelines = std::mem::replace(&mut self.pipelines, vec![CompactString::default()]);
        let items = Vec::with_capacity(self.items.len()); // The next batch will be about as long: no growing by copies.
        Some(Batch {
            body: self.bodies.lend(std::mem::take(&mut self.body)),
            items: std::mem::replace(&mut self.items, items),
            parcels: std::mem::take(&mut self.parcels),
            pipelines,
            failed: std::mem::take(&mut self.failed),
            later: std::mem::take(&mut self.later),
            dead: std::mem::take(&mut self.dead),
        })
    }

    /// How long until the batch is due, if it holds anything.
    pub fn due_in(&self, now: Instant) -> Option<Duration> {
        let age_max = self.limits.age_max / self.share as u32;
        self.since.map(|since| (since + age_max).saturating_duration_since(now))
    }

    fn is_full(&self) -> bool {
        // A little early: so the next document seldom goes over the limit, and has to be taken out again.
        let bytes_max = self.bytes_max();
        self.body.len() >= (bytes_max - bytes_max / 64) / self.share
            || self.items.len() + self.dead.len() + self.later.len() >= self.limits.events_max
    }

    fn bytes_max(&self) -> usize {
        usize::try_from(self.limits.bytes_max.0).unwrap_or(usize::MAX)
    }

    fn origin(&mut self, parcel: &Arc<Parcel>, record: u32, now: Instant) -> Origin {
        self.since.get_or_insert(now);
        if self.parcels.last().is_none_or(|last| !Arc::ptr_eq(last, parcel)) {
            self.parcels.push(parcel.clone());
        }
        Origin { parcel: self.parcels.len() as u32 - 1, record }
    }

    /// Pipelines come in runs, so the last name is looked at first.
    fn pipeline(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.pipelines.iter().rposition(|known| known == name).unwrap_or_else(|| {
            self.pipelines.push(CompactString::new(name));
            self.pipelines.len() - 1
        });
        at as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::parcel::tests::parcel;
    use service::load::ByteSize;
    use service::metrics::Registry;

    /// One that has handed on its first batches.
    fn filling(limits: BatchConfig) -> Filling {
        Filling { share: 1, ..Filling::new(limits, Pool::new(1 << 20)) }
    }

    /// Pushes documents of these sizes and checks the sizes of the bodies that come out, the last by `take`.
    #[track_caller]
    fn check(sizes: &[usize], events_max: usize, expected: &[&[usize]]) {
        let metrics = Metrics::new(&Registry::default());
        let payloads: Vec<&[u8]> = sizes.iter().map(|_| b"x".as_slice()).collect();
        let (parcel, _rx) = parcel(&payloads, &metrics);
        let limits = BatchConfig { bytes_max: ByteSize(100), events_max, age_max: Duration::from_secs(1) };
        let (mut filling, now) = (filling(limits), service::clock::monotonic());
        let mut batches = Vec::new();
        for (record, &size) in sizes.iter().enumerate() {
            filling.body().extend(std::iter::repeat_n(b'a' + record as u8, size));
            batches.extend(filling.push(&parcel, record as u32, Made { pipeline: Some("p"), ..Made::default() }, now));
        }
        batches.extend(filling.take());
        let got: Vec<Vec<usize>> = batches
            .iter()
            .map(|batch| (0..batch.items.len() as u32).map(|at| batch.document(at).len()).collect())
            .collect();
        assert_eq!(got, expected);
        let all: Vec<u8> = batches.iter().flat_map(|batch| batch.body.to_vec()).collect();
        let written: Vec<u8> = sizes.iter().enumerate().flat_map(|(at, &size)| vec![b'a' + at as u8; size]).collect();
        assert_eq!(all, written);
        assert!(
            batches.iter().all(|batch| batch.items.iter().all(|item| batch.pipelines[item.pipeline as usize] == "p"))
        );
    }

    #[test]
    fn a_batch_ends_by_bytes_or_count() {
        check(&[40, 40, 40], 10, &[&[40, 40], &[40]]);
        check(&[50, 50, 10], 10, &[&[50, 50], &[10]]); // An exact fit goes out at once.
        check(&[10, 300, 10], 10, &[&[10], &[300], &[10]]); // One that is too large goes alone.
        check(&[1, 1, 1, 1, 1], 2, &[&[1, 1], &[1, 1], &[1]]);
    }

    #[test]
    fn a_batch_is_due_by_the_age_of_its_first_document() {
        let metrics = Metrics::new(&Registry::default());
        let (parcel, _rx) = parcel(&[b"x"], &metrics);
        let (mut filling, now) = (filling(BatchConfig::default()), service::clock::monotonic());
        assert_eq!(filling.due_in(now), None);
        filling.body().push(b'x');
        assert!(filling.push(&parcel, 0, Made::default(), now).is_none());
        assert_eq!(filling.due_in(now + Duration::from_millis(400)), Some(Duration::from_millis(600)));
        assert_eq!(filling.due_in(now + Duration::from_secs(9)), Some(Duration::ZERO));
    }

    #[test]
    fn the_first_batches_go_sooner() {
        let metrics = Metrics::new(&Registry::default());
        let (parcel, _rx) = parcel(&[b"x"], &metrics);
        let limits = BatchConfig { bytes_max: ByteSize(64_000), ..BatchConfig::default() };
        let (mut filling, now) = (Filling::new(limits, Pool::new(0)), service::clock::monotonic());
        let sizes: Vec<usize> = (0..8)
            .map(|_| {
                let mut documents = 0;
                loop {
                    documents += 1;
                    filling.body().extend_from_slice(&[b'x'; 100]);
                    match filling.push(&parcel, 0, Made::default(), now) {
                        Some(batch) => return batch.body.len(),
                        None => assert!(documents < 1000, "the limit is 640 documents"),
                    }
                }
            })
            .collect();
        assert_eq!(sizes, [1000, 2000, 4000, 7900, 15_800, 31_500, 63_000, 63_000]);
        let (mut filling, second) = (Filling::new(BatchConfig::default(), Pool::new(0)), Duration::from_secs(1));
        filling.body().push(b'x');
        assert!(filling.push(&parcel, 0, Made::default(), now).is_none());
        assert_eq!(filling.due_in(now), Some(second / 64));
    }

    #[test]
    fn a_body_is_used_again_once_it_is_delivered() {
        let metrics = Metrics::new(&Registry::default());
        let (parcel, _rx) = parcel(&[b"x"], &metrics);
        let (mut filling, now) =
            (Filling::new(BatchConfig::default(), Pool::new(64 << 20)), service::clock::monotonic());
        let mut next = || {
            filling.body().extend_from_slice(b"document");
            assert!(filling.push(&parcel, 0, Made::default(), now).is_none());
            filling.take().expect("a document was pushed").body
        };
        let (first, second) = (next(), next());
        let place = first.as_ptr();
        assert_ne!(second.as_ptr(), place, "the first is still to be sent");
        drop(first);
        let third = next();
        assert_eq!((third.as_ptr(), third.as_ref()), (place, b"document".as_slice()));
    }

    #[test]
    fn a_subset_has_its_own_documents_only() {
        let metrics = Metrics::new(&Registry::default());
        let (parcel, _rx) = parcel(&[b"x", b"y", b"z"], &metrics);
        let (mut filling, now) = (filling(BatchConfig::default()), service::clock::monotonic());
        for (record, text) in ["aa", "bbb", "c"].iter().enumerate() {
            filling.body().extend_from_slice(text.as_bytes());
            assert!(filling.push(&parcel, record as u32, Made::default(), now).is_none());
        }
        let batch = filling.take().expect("three documents were pushed");
        assert_eq!(batch.body_of(&[0, 2]).as_ref(), b"aac");
        assert_eq!(batch.body_of(&[0, 1, 2]).as_ref(), b"aabbbc");
        batch.done(batch.items.iter().map(|item| item.origin));
        assert_eq!(metrics.in_flight.get(), 0);
    }

    #[test]
    fn what_waited_in_a_retry_topic_has_no_moments() {
        use crate::parcel::{Home, PutOff, tests::parcel_of};
        let home = Home { topic: "logs".into(), partition: 0, offset: 7, timestamp_ms: Some(5) };
        let waited = PutOff { home: Some(home), ..PutOff::default() };
        let was_due = PutOff { due_ms: Some(1), ..PutOff::default() }; // In its own topic, with a time that has passed.
        let waits = [(b"a".as_slice(), None), (b"b", Some(waited)), (b"c", Some(was_due))];
        let (parcel, _rx) = parcel_of(&waits, &Metrics::new(&Registry::default()));
        let (mut filling, now) = (filling(BatchConfig::default()), service::clock::monotonic());
        for record in 0..3 {
            filling.body().push(b'x');
            let made = Made { read_ms: NonZeroI64::new(9), ..Made::default() };
            assert!(filling.push(&parcel, record, made, now).is_none());
        }
        let batch = filling.take().expect("it holds three");
        let moments = Moments { read_ms: Some(9), broker_ms: Some(1_700_000_000_000), parsed_ms: None };
        assert_eq!([0, 1, 2].map(|at| batch.moments(at)), [Some(moments), None, Some(moments)]);
    }
}
