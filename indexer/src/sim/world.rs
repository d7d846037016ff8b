//! What stands in Kafka, what must become of it, and what came of it.

use super::BEGIN_MS;
use super::node::Node;
use crate::dead_letter::{DeadLetters, Letter, Writing};
use crate::parcel::PutOff;
use crate::retry::{Later, Note};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Lengths of the waits in retry topics.
const WAITS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(20), Duration::from_secs(60)];
/// So long that only what is refused every time is put off, however often a node fails.
const PUT_OFF_AFTER: Duration = Duration::from_secs(300);

/// How a record must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A document with this number.
    Document(u64),
    /// A dead letter with this status.
    Dead(u16),
    /// Neither.
    Dropped,
}

/// A record of a partition.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) offset: i64,
    pub(super) value: Option<Vec<u8>>,
    pub(super) end: End,
    /// Not to be indexed before.
    pub(super) not_before_ms: i64,
}

/// A record of a retry topic; its offset is its place in the list.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) value: Option<Vec<u8>>,
    pub(super) put_off: PutOff,
}

/// A letter: place and status.
type Written = ((i32, i64), u16);

/// A topic of some partitions, its group's offsets, and the dead-letter topic.
#[derive(Debug)]
pub(super) struct World {
    pub(super) partitions: Vec<Vec<Record>>,
    pub(super) committed: Vec<i64>,
    /// One topic of one partition for each length of wait.
    retry: Shelves,
    pub(super) retry_committed: Vec<i64>,
    letters: Arc<Mutex<Vec<Written>>>,
}

impl World {
    /// A random one. No document that should be indexed has more than half of `body_bytes_max`.
    pub(super) fn random(random: &mut Rng, body_bytes_max: usize) -> Self {
        let (mut n, mut partitions) = (0, Vec::new());
        for _ in 0..random.usize(1..4) {
            let (mut records, mut offset): (Vec<Record>, i64) = (Vec::new(), random.i64(0..1000));
            for _ in 0..random.usize(0..50) {
                n += 1;
                let copied = if random.u8(0..10) == 0 { random.choice(records.iter()).cloned() } else { None };
                let (value, end, not_before_ms) = match copied {
                    // A producer that sent it twice. Without an id of its own it is another document: its place names it.
                    Some(earlier)
                        if earlier.value.as_ref().is_some_and(|value| value.starts_with(b"{\"@metadata\":{\"_id")) =>
                    {
                        (earlier.value, earlier.end, earlier.not_before_ms)
                    }
                    _ => record(random, n, body_bytes_max),
                };
                records.push(Record { offset, value, end, not_before_ms });
                offset += 1 + if random.u8(0..5) == 0 { random.i64(1..10) } else { 0 }; // Transactions leave gaps.
            }
            partitions.push(records);
        }
        let committed = partitions.iter().map(|records| records.first().map_or(0, |record| record.offset)).collect();
        let retry = Shelves(Arc::new(Mutex::new(vec![Vec::new(); WAITS.len()])));
        Self { partitions, committed, retry, retry_committed: vec![0; WAITS.len()], letters: Arc::default() }
    }

    pub(super) fn letters(&self) -> usize {
        self.letters.lock().expect("no test panics with it").len()
    }

    /// The dead-letter topic as the delivery sees it.
    pub(super) fn dead_letters(&self, random: Rng) -> Box<dyn DeadLetters> {
        Box::new(Kept { letters: self.letters.clone(), random: Mutex::new(random) })
    }

    /// How many records were ever put off.
    pub(super) fn put_off(&self) -> usize {
        self.retry.0.lock().expect("no test panics with it").iter().map(Vec::len).sum()
    }

    /// The retry topics as the delivery sees them.
    pub(super) fn later(&self) -> Box<dyn Later> {
        Box::new(self.retry.clone())
    }

    /// The record at `offset` of a retry topic.
    pub(super) fn waiting(&self, step: usize, offset: usize) -> Option<Waiting> {
        self.retry.0.lock().expect("no test panics with it")[step].get(offset).cloned()
    }

    /// The group's offset of a retry topic moves, never back.
    pub(super) fn commit_retry(&mut self, step: usize, offset: u64) {
        let (committed, offset) = (&mut self.retry_committed[step], offset as i64);
        assert!(*committed <= offset, "retry topic {step}: {offset} is committed after {committed}");
        *committed = offset;
    }

    /// The group's offset of `partition` moves, never back.
    pub(super) fn commit(&mut self, partition: i32, offset: u64) {
        let (committed, offset) = (&mut self.committed[partition as usize], offset as i64);
        assert!(*committed <= offset, "partition {partition}: {offset} is committed after {committed}");
        *committed = offset;
    }

    /// True if everything is committed.
    pub(super) fn is_done(&self) -> bool {
        let end = |records: &Vec<Record>| records.last().map_or(0, |last| last.offset + 1);
        let retry = self.retry.0.lock().expect("no test panics with it");
        let is_over = retry.iter().zip(&self.retry_committed).all(|(records, end)| records.len() as i64 <= *end);
        is_over && self.partitions.iter().zip(&self.committed).all(|(records, committed)| end(records) <= *committed)
    }

    /// Compares what came of all records with what must have come.
    #[track_caller]
    pub(super) fn check(&self, node: &Node, crashes: u32, replay: &str) {
        let all = || {
            let places = |(partition, records): (usize, &'_ Vec<Record>)| {
                records
                    .iter()
                    .map(move |record| ((partition as i32, record.offset), record.clone()))
                    .collect::<Vec<_>>()
            };
            self.partitions.iter().enumerate().flat_map(places)
        };
        let stored = node.stored();
        let mut ids_by_number: BTreeMap<u64, Vec<&String>> = BTreeMap::new();
        for (id, document) in &stored {
            ids_by_number.entry(document.n).or_default().push(id);
            assert_eq!(document.index, "logs-sim-default", "{replay}");
        }
        let wanted: BTreeSet<u64> =
            all().filter_map(|(_, record)| if let End::Document(n) = record.end { Some(n) } else { None }).collect();
        assert_eq!(ids_by_number.keys().copied().collect::<BTreeSet<_>>(), wanted, "documents; {replay}");
        for (n, ids) in ids_by_number {
            assert_eq!(ids.len(), 1, "document {n} is stored as {ids:?}; {replay}");
        }
        let times: BTreeMap<u64, i64> = stored.values().map(|document| (document.n, document.time_ms)).collect();
        for (_, record) in all() {
            if let End::Document(n) = record.end {
                assert!(times[&n] >= record.not_before_ms, "document {n} came too early; {replay}");
            }
        }
        let mut letters: BTreeMap<(i32, i64), Vec<u16>> = BTreeMap::new();
        for (place, status) in self.letters.lock().expect("no test panics with it").iter() {
            letters.entry(*place).or_default().push(*status);
        }
        let dead: BTreeMap<(i32, i64), u16> = all()
            .filter_map(|(place, record)| if let End::Dead(status) = record.end { Some((place, status)) } else { None })
            .collect();
        assert_eq!(letters.keys().collect::<Vec<_>>(), dead.keys().collect::<Vec<_>>(), "letters; {replay}");
        for (place, statuses) in letters {
            // A crash between the letter and the commit writes it again.
            // So does one between the answer of a retry topic and the commit, at each of its waits.
            let copies = (1 + crashes as usize).pow(if statuses[0] == 503 { 1 + WAITS.len() as u32 } else { 1 });
            assert!(statuses.len() <= copies, "{place:?} has {statuses:?}; {replay}");
            assert!(statuses.iter().all(|status| *status == dead[&place]), "{place:?} has {statuses:?}; {replay}");
        }
        assert!(self.is_done(), "{:?} are committed; {replay}", self.committed);
    }
}

fn record(random: &mut Rng, n: u64, body_bytes_max: usize) -> (Option<Vec<u8>>, End, i64) {
    let mut not_before_ms = 0;
    let (mut fate, mut pipeline, mut pad, mut end) = ("ok", "", random.usize(0..200), End::Document(n));
    match random.u8(0..20) {
        0 => return (None, End::Dropped, 0), // Kafka's null value.
        1 => return (Some(format!("no JSON {n}").into_bytes()), End::Dead(0), 0),
        2 => pipeline = "fails", // It is indexed all the same.
        3 => (fate, end) = ("mapping", End::Dead(400)),
        4 => (fate, end) = ("missing", End::Dead(404)),
        5 => (fate, end) = ("denied", End::Dead(403)),
        6 => (fate, end) = ("poison", End::Dead(400)),
        7 => (pad, end) = (body_bytes_max, End::Dead(413)),
        8 => (fate, end) = ("hopeless", End::Dead(503)),
        9 => fate = "stuck",
        10 => not_before_ms = BEGIN_MS + random.i64(0..300_000),
        _ => {}
    }
    // Without an id of its own, its place in Kafka names a document.
    let mut members = Vec::new();
    if random.bool() {
        members.push(format!(r#""_id":"own-{n}""#)); // First: by that, copies are known.
    }
    if !pipeline.is_empty() {
        members.push(format!(r#""pipeline":"{pipeline}""#));
    }
    if not_before_ms > 0 {
        members.push(format!(r#""not_before":{not_before_ms}"#));
    }
    let metadata =
        if members.is_empty() { String::new() } else { format!(r#""@metadata":{{{}}},"#, members.join(",")) };
    let pad = "x".repeat(pad);
    let text = format!(r#"{{{metadata}"event":{{"dataset":"sim"}},"n":{n},"fate":"{fate}","pad":"{pad}"}}"#);
    (Some(text.into_bytes()), end, not_before_ms)
}

/// Retry topics that are kept in memory; one record in ten cannot be written at first.
#[derive(Debug, Clone)]
struct Shelves(Arc<Mutex<Vec<Vec<Waiting>>>>);

impl Later for Shelves {
    fn waits(&self) -> &[Duration] {
        &WAITS
    }

    fn after(&self) -> Duration {
        PUT_OFF_AFTER
    }

    fn write<'l>(&'l self, notes: &'l [Note<'l>]) -> Writing<'l> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let mut unwritten = Vec::new();
            for (at, note) in notes.iter().enumerate() {
                if fastrand::u8(0..10) == 0 {
                    unwritten.push((at, "broker away".to_owned()));
                    continue;
                }
                let (home, next) = (note.parcel.home(note.origin.record), note.next);
                let put_off = PutOff {
                    not_before_ms: next.not_before_ms,
                    due_ms: next.due_ms,
                    refusals: next.refusals,
                    attempts: note.attempts,
                    home: Some(crate::parcel::Home { topic: home.topic.into_owned().into(), ..home }),
                };
                let value = note.parcel.value(note.origin.record).map(<[u8]>::to_vec);
                self.0.lock().expect("no test panics with it")[next.step].push(Waiting { value, put_off });
            }
            unwritten
        })
    }
}

/// Dead letters that are kept in memory; one in ten cannot be written at first.
struct Kept {
    letters: Arc<Mutex<Vec<Written>>>,
    random: Mutex<Rng>,
}

impl DeadLetters for Kept {
    fn write<'l>(&'l self, letters: &'l [Letter<'l>]) -> Writing<'l> {
        Box::pin(async move {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            let mut unwritten = Vec::new();
            for (at, letter) in letters.iter().enumerate() {
                if self.random.lock().expect("no test panics with it").u8(0..10) == 0 {
                    unwritten.push((at, "broker away".to_owned()));
                    continue;
                }
                let place = (letter.home().partition, letter.home().offset);
                self.letters.lock().expect("no test panics with it").push((place, letter.cause.status));
            }
            unwritten
        })
    }
}
