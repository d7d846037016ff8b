//! The topic while it is written: a thread that reads every record, so that a history can wait for its lines.

use super::judge::Arrival;
use crate::kafka::{Cluster, Stored};
use crate::lines::{Read, Recipe};
use crate::wait;
use anyhow::{Context as _, Result, bail};
use rdkafka::consumer::BaseConsumer;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What has arrived. Ends its thread when dropped.
#[derive(Debug)]
pub struct Arrivals {
    board: Arc<Board>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Board {
    state: Mutex<State>,
    is_over: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    all: Vec<Arrival>,
    /// Lines by file.
    lines: BTreeMap<String, BTreeSet<u64>>,
    /// The next offset of each partition.
    next: BTreeMap<i32, i64>,
    last: Option<Instant>,
    /// Why nothing more comes.
    broken: Option<String>,
}

impl Arrivals {
    /// Reads `topic` from its start.
    pub fn start(cluster: &Cluster, topic: &str, partitions: i32, recipe: Recipe) -> Result<Self> {
        let board = Arc::new(Board::default());
        let (shared, consumer) = (board.clone(), cluster.reader(topic, partitions)?);
        let thread =
            std::thread::Builder::new().name("arrivals".into()).spawn(move || read(&shared, &consumer, &recipe))?;
        Ok(Self { board, thread: Some(thread) })
    }

    /// True if the line has come.
    pub fn has(&self, file: &str, seq: u64) -> bool {
        self.board.state().lines.get(file).is_some_and(|lines| lines.contains(&seq))
    }

    /// How many different lines of `file` have come.
    pub fn count(&self, file: &str) -> usize {
        self.board.state().lines.get(file).map_or(0, BTreeSet::len)
    }

    /// Records up to now.
    pub fn records(&self) -> usize {
        self.board.state().all.len()
    }

    /// Time since the last record came.
    pub fn quiet_for(&self) -> Duration {
        self.board.state().last.map_or(Duration::ZERO, |last| wait::now().duration_since(last))
    }

    /// Everything up to now, in the order of the offsets within each partition. Errors: the mock cannot be read on.
    pub fn all(&self) -> Result<Vec<Arrival>> {
        let state = self.board.state();
        match &state.broken {
            Some(why) => bail!("the topic cannot be read: {why}"),
            None => Ok(state.all.clone()),
        }
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.board.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().ok(); // Its panic was printed.
        }
    }
}

impl Board {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(board: &Board, consumer: &BaseConsumer, recipe: &Recipe) {
    while !board.is_over.load(Ordering::Acquire) {
        // An error here is that of a broker that is away; what must not be left out is seen by the offsets.
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
        let stored = Stored::of(&message);
        let arrival = arrival(recipe, &stored);
        let mut state = board.state();
        let next = state.next.entry(stored.partition).or_default();
        let expected = std::mem::replace(next, stored.offset + 1);
        match arrival {
            _ if stored.offset != expected => {
                let gap = format!("{}:{} comes where {expected} should", stored.partition, stored.offset);
                state.broken.get_or_insert(gap);
            }
            Ok(arrival) => {
                if let Read::Whole(name) = &arrival.read {
                    state.lines.entry(name.file.clone()).or_default().insert(name.seq);
                }
                state.all.push(arrival);
                state.last = Some(wait::now());
            }
            Err(error) => drop(state.broken.get_or_insert(format!("{error:#}"))),
        }
    }
}

/// Takes the envelope apart.
fn arrival(recipe: &Recipe, stored: &Stored) -> Result<Arrival> {
    let envelope: Value = serde_json::from_slice(&stored.value).context("a record is JSON")?;
    let text = |pointer: &str| {
        let found = envelope.pointer(pointer).and_then(Value::as_str);
        found.map(str::to_owned).with_context(|| format!("no {pointer} in {envelope}"))
    };
    let number = |pointer: &str| {
        envelope.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("no {pointer} in {envelope}"))
    };
    let message = text("/message")?;
    Ok(Arrival {
        read: recipe.read(&message),
        text: message,
        id: text("/@metadata/_id")?,
        path: text("/log/file/path")?,
        at: number("/log/offset")?,
        is_reread: envelope.pointer("/@metadata/reread").and_then(Value::as_bool).unwrap_or(false),
        life: usize::try_from(number("/fields/life")?)?,
        place: (stored.partition, stored.offset),
        sent_ms: stored.timestamp_ms,
        sum: crc32c::crc32c(&stored.value),
    })
}
