//! Assigned partitions: what was taken of each, what is settled, and so what is safe to commit. No I/O.
//!
//! Every assignment is a stream of its own in the [`Ledger`]; a rewind starts the next epoch of it. Settlements of an
//! earlier life no longer count, so nothing is ever committed for a partition that was lost.

mod age;
mod place;

use crate::headers::{Body, Sent};
use crate::metrics::Metrics;
use crate::parcel::{Gathered, Origin, Parcel, Place, PutOff, Taken};
use crate::pool::Pool;
use age::Age;
pub use age::{Behind, Heard, Standing};
use event::wire::{self, Form};
use event::{Ack, Anchor, Debt, Entry, Ledger, Permit, Progress, StreamId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// Most records of a parcel.
pub const RECORDS_MAX: usize = 1000;
/// A parcel is full at this many bytes; one record may go beyond it.
pub const BYTES_MAX: usize = 1 << 20;
/// A payload byte costs so many bytes of memory until it is settled: itself, its document in a bulk body (nginx lines grow
/// by 2.7), and what growing buffers waste.
const BYTES_PER_BYTE: usize = 5;
/// A record costs this beside its bytes: its places in lists, and its action line.
const BYTES_PER_RECORD: usize = 256;
/// A parcel costs this beside its records.
const BYTES_PER_PARCEL: usize = 1024;
/// Room that a buffer starts with; it grows to what parcels need, and keeps that.
const BUFFER_BYTES: usize = 64 << 10;
/// Most bytes of buffers that wait for their next use: about as many as one bulk request gives back at once.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// One assigned partition.
#[derive(Debug)]
pub struct Track {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: i32,
    epoch: u32,
    next_seq: u64,
    /// Parcels of this epoch that are not settled.
    in_flight: usize,
    gathered: Gathered,
    /// Next offset to read after what was gathered.
    position: Option<u64>,
    committed: Option<u64>,
    /// The next record is not due: nothing is taken until it is, and the consumer has sought there.
    wait: Option<Wait>,
    /// librdkafka was told to pause it.
    paused: bool,
    /// Of a topic that takes what rate plans divert.
    is_overflow: bool,
    /// Where to read again, until the consumer has sought there; what arrives before that is not taken.
    rewind: Option<u64>,
    age: Age,
}

/// A record that is not due, and when it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    offset: u64,
    until_ms: i64,
}

/// All assigned partitions.
#[derive(Debug)]
pub struct Partitions {
    ledger: Ledger,
    tracks: BTreeMap<StreamId, Track>,
    by_name: HashMap<Arc<str>, HashMap<i32, StreamId>>,
    last: Option<(Arc<str>, i32, StreamId)>,
    next_stream: u64,
    overflow_topics: BTreeSet<String>,
    /// Records taken of main topics, and of overflow topics.
    taken: (u64, u64),
    acks: UnboundedSender<Entry>,
    metrics: Metrics,
    buffers: Pool,
}

/// Which partitions stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Still {
    /// All: the output does not keep up.
    All,
    /// Those that take what rate plans divert.
    Overflow,
    /// None but those that wait for a record's time.
    None,
}

/// An offset to commit or to seek to.
pub type Spot = (Arc<str>, i32, u64);

impl Partitions {
    /// None yet. Acks report to the other end of `acks`.
    pub fn new(acks: UnboundedSender<Entry>, metrics: Metrics) -> Self {
        let (tracks, by_name, buffers) = (BTreeMap::new(), HashMap::new(), Pool::new(KEPT_BYTES_MAX));
        let (ledger, overflow_topics, taken) = (Ledger::default(), BTreeSet::new(), (0, 0));
        Self { ledger, tracks, by_name, last: None, next_stream: 0, overflow_topics, taken, acks, metrics, buffers }
    }

    /// The same, where `topics` take what rate plans divert.
    pub fn with_overflow(self, topics: &[String]) -> Self {
        Self { overflow_topics: topics.iter().cloned().collect(), ..self }
    }

    /// Records taken since the last call: of main topics, and of overflow topics.
    pub fn take_counts(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.taken)
    }

    /// A partition was assigned. Reading starts where the group committed, which the first record will show.
    pub fn assign(&mut self, topic: &str, partition: i32) {
        self.revoke(topic, partition);
        let is_overflow = self.overflow_topics.contains(topic);
        let (topic, stream): (Arc<str>, _) = (topic.into(), StreamId(self.next_stream));
        self.next_stream += 1;
        let track = Track {
            topic: topic.clone(),
            partition,
            epoch: 0,
            next_seq: 0,
            in_flight: 0,
            gathered: Gathered::default(),
            position: None,
            committed: None,
            wait: None,
            paused: false,
            is_overflow,
            rewind: None,
            age: Age::default(),
        };
        self.tracks.insert(stream, track);
        self.by_name.entry(topic).or_default().insert(partition, stream);
        self.metrics.assigned.set(self.tracks.len() as i64);
    }

    /// A partition is no longer ours: nothing of it counts from here on.
    pub fn revoke(&mut self, topic: &str, partition: i32) {
        self.last = None;
        if let Some(stream) = self.by_name.get_mut(topic).and_then(|numbers| numbers.remove(&partition)) {
            self.ledger.close(stream);
            self.tracks.remove(&stream);
            let Metrics { lag, lag_seconds, retention_left, .. } = &self.metrics;
            for gauges in [lag, lag_seconds, retention_left] {
                gauges.remove_label_values(&[topic, &partition.to_string()]).ok(); // There may be none yet.
            }
        }
        self.count_waiting();
        self.metrics.assigned.set(self.tracks.len() as i64);
    }

    /// Stops taking records of a partition that is about to be revoked, and forgets those not handed on.
    pub fn cut(&mut self, topic: &str, partition: i32) {
        if let Some(track) = self.track(topic, partition) {
            track.gathered = Gathered::default();
            track.wait = None;
            track.rewind = Some(u64::MAX);
        }
    }

    /// True if there is nothing of `topic`/`partition` between the consumer and its settlement.
    pub fn is_idle(&self, topic: &str, partition: i32) -> bool {
        let stream = self.by_name.get(topic).and_then(|numbers| numbers.get(&partition));
        stream.and_then(|stream| self.tracks.get(stream)).is_none_or(|track| track.in_flight == 0)
    }

    fn track(&mut self, topic: &str, partition: i32) -> Option<&mut Track> {
        let stream = self.stream(topic, partition)?;
        self.tracks.get_mut(&stream)
    }

    fn stream(&mut self, topic: &str, partition: i32) -> Option<StreamId> {
        match &self.last {
            // Records come in runs of one partition, so this is nearly always it.
            Some((name, number, stream)) if *number == partition && &**name == topic => Some(*stream),
            _ => {
                let (name, numbers) = self.by_name.get_key_value(topic)?;
                let stream = *numbers.get(&partition)?;
                self.last = Some((name.clone(), partition, stream));
                Some(stream)
            }
        }
    }

    /// Takes a record of the consumer. Returns true if a parcel of that partition is full.
    pub fn take(&mut self, topic: &str, partition: i32, record: Incoming<'_>) -> bool {
        // Unassigned: a record that was on its way when the partition went.
        let stream = self.stream(topic, partition);
        let Some(track) = stream.and_then(|stream| self.tracks.get_mut(&stream)) else { return false };
        if track.rewind.is_some() || track.wait.is_some() {
            return false;
        }
        let taken = if track.is_overflow { &mut self.taken.1 } else { &mut self.taken.0 };
        *taken += 1;
        let gathered = &mut track.gathered;
        if gathered.buffer.capacity() == 0 {
            gathered.buffer = self.buffers.take(BUFFER_BYTES);
        }
        gathered.put(record);
        gathered.records.len() >= RECORDS_MAX || gathered.buffer.len() >= BYTES_MAX
    }

    /// Makes parcels of what was gathered, as long as `permit` grants their bytes and `send` takes them. What is not
    /// taken stays gathered, in order. Returns false if something had to stay.
    pub fn hand_on(
        &mut self,
        mut permit: impl FnMut(usize) -> Option<Permit>,
        mut ready: impl FnMut() -> bool,
        mut send: impl FnMut(Parcel),
    ) -> bool {
        let mut all = true;
        for (stream, track) in &mut self.tracks {
            if track.gathered.records.is_empty() {
                continue;
            }
            let (bytes, records) = (track.gathered.buffer.len(), track.gathered.records.len());
            let cost = bytes * BYTES_PER_BYTE + records * BYTES_PER_RECORD + BYTES_PER_PARCEL;
            let held = if ready() { permit(cost) } else { None };
            let Some(held) = held else {
                all = false;
                continue;
            };
            let (gathered, buffers) = track.gathered.take(&self.buffers);
            let debt = track.open(*stream, &gathered.records, held, &mut self.ledger);
            let ack = Ack::new(debt, self.acks.clone());
            let (topic, metrics) = (track.topic.clone(), self.metrics.clone());
            send(Parcel::new(topic, track.partition, gathered, ack, metrics, buffers));
        }
        all
    }

    /// Records a settlement or a span given back.
    pub fn note(&mut self, entry: Entry) {
        let debt = match &entry {
            Entry::Settled(debt) | Entry::Shared(debt, _) | Entry::Returned(debt) | Entry::Reserved(debt, ..) => debt,
        };
        let Some(track) = self.tracks.get_mut(&debt.stream).filter(|track| track.epoch == debt.epoch) else {
            return; // Of an earlier life of the partition: it will be, or was, read again.
        };
        track.in_flight -= 1;
        match entry {
            Entry::Settled(debt) | Entry::Shared(debt, _) | Entry::Reserved(debt, ..) => {
                self.ledger.settle(&debt).expect("the ledger has the stream and epoch that the track has");
                let settled = self.ledger.progress(debt.stream).expect("it has just taken a settlement of it");
                track.age.settled(settled.offset);
            }
            Entry::Returned(debt) => {
                let from = self.ledger.progress(debt.stream).expect("the ledger has the stream of a track with debts");
                track.epoch += 1;
                track.age.forget();
                (track.next_seq, track.in_flight, track.gathered) = (0, 0, Gathered::default());
                track.position = Some(from.offset);
                track.seek_to(track.rewind.map_or(from.offset, |cut| cut.max(from.offset)));
                self.ledger.open(debt.stream, track.epoch, from);
            }
        }
    }

    /// The partitions of `topic` that are assigned.
    pub fn numbers(&self, topic: &str) -> Vec<i32> {
        self.by_name.get(topic).into_iter().flat_map(|numbers| numbers.keys().copied()).collect()
    }

    /// The partition's topic was deleted and made anew: it is read from its beginning, also if it already has as many records as
    /// the old one had.
    pub fn begin_anew(&mut self, topic: &str, partition: i32) {
        if let Some(track) = self.track(topic, partition).filter(|track| track.rewind != Some(u64::MAX)) {
            track.gathered = Gathered::default();
            track.seek_to(0);
        }
    }

    /// Where the consumer has to seek before records of those partitions are taken again.
    pub fn rewinds(&self) -> Vec<Spot> {
        let wanted = |track: &Track| track.rewind.filter(|offset| *offset != u64::MAX);
        self.tracks.values().filter_map(|track| Some((track.topic.clone(), track.partition, wanted(track)?))).collect()
    }

    /// The consumer has sought there.
    pub fn rewound(&mut self, topic: &str, partition: i32) {
        if let Some(track) = self.track(topic, partition) {
            track.rewind = None;
        }
    }

    /// The record at `offset` is not due before `until_ms`: nothing of its partition is taken until then.
    pub fn wait(&mut self, topic: &str, partition: i32, offset: i64, until_ms: i64) {
        let Some(track) = self.track(topic, partition) else { return };
        if track.wait.is_some() || track.rewind.is_some() {
            return; // It stands behind one that waits, or before the place to read again.
        }
        let offset = u64::try_from(offset).expect("Kafka's offsets are not negative");
        track.wait = Some(Wait { offset, until_ms });
        self.count_waiting();
    }

    /// Where the consumer has to seek because the time has come.
    pub fn due(&self, now_ms: i64) -> Vec<Spot> {
        let due = |track: &Track| track.wait.filter(|wait| wait.until_ms <= now_ms).map(|wait| wait.offset);
        self.tracks.values().filter_map(|track| Some((track.topic.clone(), track.partition, due(track)?))).collect()
    }

    /// The consumer has sought there, and goes on.
    pub fn awake(&mut self, topic: &str, partition: i32) {
        if let Some(track) = self.track(topic, partition) {
            (track.wait, track.paused) = (None, false);
        }
        self.count_waiting();
    }

    fn count_waiting(&self) {
        self.metrics.waiting.set(self.tracks.values().filter(|track| track.wait.is_some()).count() as i64);
    }

    /// What is to be paused, or (`pause: false`) resumed, if `still` stand still, and always those that wait. They count as told.
    pub fn to_pause(&mut self, still: Still, pause: bool) -> Vec<(Arc<str>, i32)> {
        let held = |track: &Track| match still {
            Still::All => true,
            Still::Overflow => track.is_overflow || track.wait.is_some(),
            Still::None => track.wait.is_some(),
        };
        let turns = self.tracks.values_mut().filter(|track| track.paused != pause && held(track) == pause);
        turns
            .map(|track| {
                track.paused = pause;
                (track.topic.clone(), track.partition)
            })
            .collect()
    }

    /// A rebalance may have resumed what was paused.
    pub fn forget_pauses(&mut self) {
        for track in self.tracks.values_mut() {
            track.paused = false;
        }
    }

    /// Settled prefixes that moved since they were last [`Partitions::committed`].
    pub fn to_commit(&self) -> Vec<Spot> {
        let moved = |(stream, track): (&StreamId, &Track)| {
            let offset = self.ledger.progress(*stream)?.offset;
            let known = track.committed.is_some_and(|committed| committed >= offset);
            (!known).then(|| (track.topic.clone(), track.partition, offset))
        };
        self.tracks.iter().filter_map(moved).collect()
    }

    /// `places` are with the broker, or on their way.
    pub fn committed(&mut self, places: &[Spot]) {
        for (topic, partition, offset) in places {
            if let Some(track) = self.track(topic, *partition) {
                track.committed = Some(*offset);
            }
        }
    }

    /// A commit failed: all progress is committed again next time.
    pub fn forget_commits(&mut self) {
        for track in self.tracks.values_mut() {
            track.committed = None;
        }
    }

    /// True if nothing is gathered or in flight.
    pub fn is_settled(&self) -> bool {
        self.tracks.values().all(|track| track.in_flight == 0)
    }

    /// Forgets what was gathered and not handed on.
    pub fn forget_gathered(&mut self) {
        for track in self.tracks.values_mut() {
            track.gathered = Gathered::default();
        }
    }
}

impl Track {
    /// The consumer is to read on from `offset`: now, or, because a partition that waits is paused, by the seek that ends the wait.
    fn seek_to(&mut self, offset: u64) {
        match &mut self.wait {
            Some(wait) => *wait = Wait { offset, until_ms: i64::MIN },
            None => self.rewind = Some(offset),
        }
    }

    /// Opens the debt of `records`. The stream itself opens with its first record: only that shows where reading starts.
    fn open(&mut self, stream: StreamId, records: &[Taken], held: Permit, ledger: &mut Ledger) -> Debt {
        let (first, last) = (records.first(), records.last());
        first.expect("records are not empty");
        // A topic that is deleted and made anew counts from the beginning, even within what was gathered.
        let begins =
            records.windows(2).rposition(|pair| pair[1].offset < pair[0].offset).map_or(0, |before| before + 1);
        let start = u64::try_from(records[begins].offset).expect("Kafka's offsets are not negative");
        let end = last.map_or(start, |last| last.offset as u64 + 1);
        let is_anew = begins > 0 || self.position.is_some_and(|position| start < position);
        if is_anew {
            let (topic, partition) = (&*self.topic, self.partition);
            tracing::warn!(topic, partition, before = self.position, start, "the partition's offsets begin again");
            self.epoch += 1; // What is in flight of before is indexed, and moves no offset.
            (self.next_seq, self.in_flight) = (0, 0);
            self.age.forget();
        }
        if self.position.is_none() || is_anew {
            ledger.open(stream, self.epoch, Progress { offset: start, anchor: Anchor::default() });
            self.committed = Some(start); // Nothing to commit before the first settlement.
        }
        self.position = Some(end);
        self.age.open(start, end, records[begins].timestamp_ms, last.and_then(|last| last.timestamp_ms));
        let seq = self.next_seq;
        self.next_seq += 1;
        self.in_flight += 1;
        let events = u32::try_from(records.len()).unwrap_or(u32::MAX);
        Debt { stream, epoch: self.epoch, seq, start, end, anchor: Anchor::default(), events, bytes: 0, held }
    }
}

impl Gathered {
    /// Takes a record, event by event if it is a packed one.
    pub(crate) fn put(&mut self, record: Incoming<'_>) {
        let Incoming { key, value, offset, timestamp_ms, sent, put_off } = record;
        let (key, start) = (key.map(|bytes| self.copy(bytes)), self.buffer.len());
        let value = value.map(|bytes| self.copy(bytes));
        let (Some(sent), Some(whole)) = (sent, value.clone()) else {
            return self.records.push(Taken { value, key, offset, timestamp_ms, sent: None, put_off });
        };
        let origin = u32::try_from(self.origins.len()).expect("a parcel is bounded to far fewer records");
        let place = |offset| Place { origin, offset, is_truncated: false, is_without_message: false, is_json: false };
        let one = |sent| {
            let (value, key, put_off) = (value.clone(), key.clone(), put_off.clone());
            Taken { value, key, offset, timestamp_ms, sent: Some(sent), put_off }
        };
        let unreadable = match sent {
            Err(reason) => Some(reason),
            Ok(Sent { event, incarnation, body }) => {
                let event = self.copy(event);
                self.origins.push(Origin::Known { event, incarnation });
                match body {
                    Body::Line { offset, is_truncated, is_without_message, is_json } => {
                        self.records.push(one(Place { is_truncated, is_without_message, is_json, ..place(offset) }));
                        return;
                    }
                    Body::Packed(spans) => match wire::places(spans, whole.len()) {
                        Ok(places) => {
                            self.records.extend(places.into_iter().map(|found| {
                                let bytes = (start + found.bytes.start) as u32..(start + found.bytes.end) as u32;
                                let (is_truncated, is_json) = (found.form == Form::Truncated, found.form == Form::Json);
                                let sent = Some(Place { is_truncated, is_json, ..place(found.offset) });
                                let (key, put_off) = (key.clone(), put_off.clone());
                                Taken { value: Some(bytes), key, offset, timestamp_ms, sent, put_off }
                            }));
                            return;
                        }
                        Err(error) => Some(error.to_string()),
                    },
                }
            }
        };
        if let Some(reason) = unreadable {
            self.origins.truncate(origin as usize);
            self.origins.push(Origin::Unreadable(reason));
            self.records.push(one(place(0)));
        }
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<u32> {
        let start = self.buffer.len() as u32;
        self.buffer.extend_from_slice(bytes);
        start..self.buffer.len() as u32
    }
}

/// A record as the consumer lends it.
#[derive(Debug)]
pub struct Incoming<'m> {
    /// The key.
    pub key: Option<&'m [u8]>,
    /// The payload.
    pub value: Option<&'m [u8]>,
    /// Offset in the partition.
    pub offset: i64,
    /// The record's timestamp.
    pub timestamp_ms: Option<i64>,
    /// What its headers tell, if it is of our agent; an error says what is wrong with them.
    pub sent: Option<Result<Sent<'m>, String>>,
    /// What its headers tell of its waits.
    pub put_off: Option<Box<PutOff>>,
}

#[cfg(test)]
mod tests;
