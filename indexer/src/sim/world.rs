//! What stands in Kafka, what must become of it, and what came of it.

use super::node::Node;
use crate::dead_letter::{DeadLetters, Letter, Writing};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

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
}

/// A letter: place and status.
type Written = ((i32, i64), u16);

/// A topic of some partitions, its group's offsets, and the dead-letter topic.
#[derive(Debug)]
pub(super) struct World {
    pub(super) partitions: Vec<Vec<Record>>,
    pub(super) committed: Vec<i64>,
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
                let (value, end) = match copied {
                    // A producer that sent it twice. Without an id of its own it is another document: its place names it.
                    Some(earlier)
                        if earlier.value.as_ref().is_some_and(|value| value.starts_with(b"{\"@metadata\":{\"_id")) =>
                    {
                        (earlier.value, earlier.end)
                    }
                    _ => record(random, n, body_bytes_max),
                };
                records.push(Record { offset, value, end });
                offset += 1 + if random.u8(0..5) == 0 { random.i64(1..10) } else { 0 }; // Transactions leave gaps.
            }
            partitions.push(records);
        }
        let committed = partitions.iter().map(|records| records.first().map_or(0, |record| record.offset)).collect();
        Self { partitions, committed, letters: Arc::default() }
    }

    pub(super) fn letters(&self) -> usize {
        self.letters.lock().expect("no test panics with it").len()
    }

    /// The dead-letter topic as the delivery sees it.
    pub(super) fn dead_letters(&self, random: Rng) -> Box<dyn DeadLetters> {
        Box::new(Kept { letters: self.letters.clone(), random: Mutex::new(random) })
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
        self.partitions.iter().zip(&self.committed).all(|(records, committed)| end(records) <= *committed)
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
            assert!(statuses.len() <= 1 + crashes as usize, "{place:?} has {statuses:?}; {replay}");
            assert!(statuses.iter().all(|status| *status == dead[&place]), "{place:?} has {statuses:?}; {replay}");
        }
        assert!(self.is_done(), "{:?} are committed; {replay}", self.committed);
    }
}

fn record(random: &mut Rng, n: u64, body_bytes_max: usize) -> (Option<Vec<u8>>, End) {
    let (mut fate, mut pipeline, mut pad, mut end) = ("ok", "", random.usize(0..200), End::Document(n));
    match random.u8(0..20) {
        0 => return (None, End::Dropped), // Kafka's null value.
        1 => return (Some(format!("no JSON {n}").into_bytes()), End::Dead(0)),
        2 => pipeline = "fails", // It is indexed all the same.
        3 => (fate, end) = ("mapping", End::Dead(400)),
        4 => (fate, end) = ("missing", End::Dead(404)),
        5 => (fate, end) = ("denied", End::Dead(403)),
        6 => (fate, end) = ("poison", End::Dead(400)),
        7 => (pad, end) = (body_bytes_max, End::Dead(413)),
        _ => {}
    }
    let metadata = match (random.bool(), pipeline) {
        (true, "") => format!(r#""@metadata":{{"_id":"own-{n}"}},"#),
        (true, pipeline) => format!(r#""@metadata":{{"_id":"own-{n}","pipeline":"{pipeline}"}},"#),
        (false, "") => String::new(),
        (false, pipeline) => format!(r#""@metadata":{{"pipeline":"{pipeline}"}},"#),
    };
    let pad = "x".repeat(pad);
    let text = format!(r#"{{{metadata}"event":{{"dataset":"sim"}},"n":{n},"fate":"{fate}","pad":"{pad}"}}"#);
    (Some(text.into_bytes()), end)
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
                let place = (letter.parcel.partition, letter.record().offset);
                self.letters.lock().expect("no test panics with it").push((place, letter.cause.status));
            }
            unwritten
        })
    }
}
