//! What is known of each followed file, for whoever asks: the stages note it in passing, and it can be read at any time, also
//! while they wait. Nothing here costs a line anything: a note is taken once a turn.

use crate::identity::Inode;
use event::{Incarnation, StreamId};
use serde::{Deserialize, Serialize};
use service::clock::wall_ms;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What is said of a source that a rate plan holds.
const HELD: &str = "rate plan: its limit is used up, so the rest waits here; `tailrace limits status` shows it";

/// All followed files. Cheap to clone; clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Board {
    cards: Arc<Mutex<BTreeMap<StreamId, Arc<Card>>>>,
    /// When reading began to wait for memory, milliseconds since 1970; 0: it does not wait.
    waiting_since_ms: Arc<AtomicI64>,
    plates: Arc<Mutex<Vec<Arc<Plate>>>>,
}

/// One input that is no file.
#[derive(Debug)]
pub(crate) struct Plate {
    input: String,
    kind: &'static str,
    listen: Option<String>,
    read_events: AtomicU64,
    read_bytes: AtomicU64,
    acknowledged_events: AtomicU64,
    lost_events: AtomicU64,
    is_waiting: AtomicBool,
    is_held: AtomicBool,
    problem: Mutex<Option<String>>,
}

/// An input that is no file, as the board shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownInput {
    /// Its id.
    pub input: String,
    /// `stdin`, `syslog` or `journald`.
    pub kind: &'static str,
    /// Where it listens: an address with its port, or a path.
    pub listen: Option<String>,
    /// Records read.
    pub read_events: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Records acknowledged.
    pub acknowledged_events: u64,
    /// Records that were taken and could not be kept.
    pub lost_events: u64,
    /// Why nothing is read; empty if that is not so.
    pub waits_for: Vec<String>,
}

/// One followed file.
#[derive(Debug)]
pub(crate) struct Card {
    /// Input and generation, known when it is followed.
    names: OnceLock<(Arc<str>, u32)>,
    inode: Inode,
    incarnation: OnceLock<Incarnation>,
    path: Mutex<Arc<Path>>,
    offset: AtomicU64,
    /// Everything before it is settled.
    committed: AtomicU64,
    size: AtomicU64,
    read_ms: AtomicI64,
    acknowledged_ms: AtomicI64,
    is_open: AtomicBool,
    is_listed: AtomicBool,
    is_held: AtomicBool,
    problem: Mutex<Option<String>>,
    risk: Mutex<Option<Box<str>>>,
    lag: Mutex<Option<Lag>>,
}

/// Bytes that were there at a time and are not all settled since.
#[derive(Debug, Clone, Copy)]
struct Lag {
    to: u64,
    since_ms: i64,
}

/// A file as the board shows it. Sizes in bytes of the file, times in milliseconds since 1970 (absent: not yet).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its input's id.
    pub input: String,
    /// Its present path.
    pub path: PathBuf,
    /// Its inode number.
    pub inode: u64,
    /// Its life; absent before its first complete line.
    pub incarnation: Option<String>,
    /// How often it was truncated before this life.
    pub generation: u32,
    /// Its size when it was looked at last.
    pub size: u64,
    /// The next byte to read.
    pub offset: u64,
    /// Everything before it is acknowledged.
    pub acknowledged: u64,
    /// Bytes that are not acknowledged.
    pub lag_bytes: u64,
    /// How long the oldest of them has been seen, to about `scan_interval`; 0 if there are none.
    pub lag_seconds: u64,
    /// When lines were read last.
    pub read_ms: Option<i64>,
    /// When something of it was acknowledged last.
    pub acknowledged_ms: Option<i64>,
    /// It has a descriptor now.
    pub is_open: bool,
    /// The last scan saw it under a path that the input names.
    pub is_listed: bool,
    /// Why its unread bytes are not being read; empty if they are.
    pub waits_for: Vec<String>,
    /// Why its unread bytes will be lost, if that is to be expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_risk: Option<String>,
}

impl Board {
    /// The files as they are now, in the order of their paths; only that one if `path` is given.
    pub fn files(&self, path: Option<&Path>) -> Vec<Shown> {
        let cards: Vec<_> = self.lock().values().cloned().collect();
        let waiting = self.waiting_since_ms.load(Ordering::Relaxed);
        let mut shown: Vec<_> = cards.iter().map(|card| card.shown(waiting)).collect();
        shown.retain(|file| path.is_none_or(|path| file.path == path));
        shown.sort_by(|a, b| a.path.cmp(&b.path));
        shown
    }

    /// The inputs that are no files, in the order in which they were opened.
    pub fn inputs(&self) -> Vec<ShownInput> {
        self.plates.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|plate| plate.shown()).collect()
    }

    pub(crate) fn put_up(&self, plate: Arc<Plate>) {
        self.plates.lock().unwrap_or_else(PoisonError::into_inner).push(plate);
    }

    pub(crate) fn take_off(&self, plate: &Arc<Plate>) {
        self.plates.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(other, plate));
    }

    /// The files with this inode number, under whatever path.
    pub fn files_of_inode(&self, number: u64) -> Vec<Shown> {
        let mut shown = self.files(None);
        shown.retain(|file| file.inode == number);
        shown
    }

    /// Shows the card of a file of `input`.
    pub(crate) fn put(&self, stream: StreamId, input: Arc<str>, generation: u32, card: Arc<Card>) {
        card.names.set((input, generation)).ok(); // A card is put up once.
        self.lock().insert(stream, card);
    }

    pub(crate) fn take_down(&self, stream: StreamId) {
        self.lock().remove(&stream);
    }

    /// Reading waits for memory from now on.
    pub(crate) fn waits(&self) {
        self.waiting_since_ms.store(wall_ms(), Ordering::Relaxed);
    }

    pub(crate) fn reads(&self) {
        self.waiting_since_ms.store(0, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<StreamId, Arc<Card>>> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plate {
    pub(crate) fn new(input: &str, kind: &'static str, listen: Option<String>) -> Self {
        Self {
            input: input.to_owned(),
            kind,
            listen,
            read_events: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            acknowledged_events: AtomicU64::new(0),
            lost_events: AtomicU64::new(0),
            is_waiting: AtomicBool::new(false),
            is_held: AtomicBool::new(false),
            problem: Mutex::new(None),
        }
    }

    /// Id of the input.
    pub(crate) fn input(&self) -> &str {
        &self.input
    }

    pub(crate) fn read(&self, events: u64, bytes: u64) {
        self.read_events.fetch_add(events, Ordering::Relaxed);
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn acknowledged(&self, events: u64) {
        self.acknowledged_events.fetch_add(events, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self, events: u64) {
        self.lost_events.fetch_add(events, Ordering::Relaxed);
    }

    /// Reading waits for memory, or no longer does.
    pub(crate) fn waits(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Ordering::Relaxed);
    }

    /// A rate plan holds it, or no longer does.
    pub(crate) fn is_held(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::Relaxed);
    }

    /// Why nothing can be read; `None`: it can.
    pub(crate) fn problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    fn shown(&self) -> ShownInput {
        let mut waits_for: Vec<_> =
            self.problem.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        if self.is_waiting.load(Ordering::Relaxed) {
            waits_for.push("memory: all of it is in flight to the output".into());
        }
        if self.is_held.load(Ordering::Relaxed) {
            waits_for.push(HELD.into());
        }
        let told = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ShownInput {
            input: self.input.clone(),
            kind: self.kind,
            listen: self.listen.clone(),
            read_events: told(&self.read_events),
            read_bytes: told(&self.read_bytes),
            acknowledged_events: told(&self.acknowledged_events),
            lost_events: told(&self.lost_events),
            waits_for,
        }
    }
}

impl Card {
    pub(crate) fn new(path: Arc<Path>, inode: Inode) -> Self {
        Self {
            names: OnceLock::new(),
            inode,
            incarnation: OnceLock::new(),
            path: Mutex::new(path),
            offset: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            size: AtomicU64::new(0),
            read_ms: AtomicI64::new(0),
            acknowledged_ms: AtomicI64::new(0),
            is_open: AtomicBool::new(true),
            is_listed: AtomicBool::new(true),
            is_held: AtomicBool::new(false),
            problem: Mutex::new(None),
            risk: Mutex::new(None),
            lag: Mutex::new(None),
        }
    }

    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Everything before `offset` is settled, without a new acknowledgement.
    pub(crate) fn start_at(&self, offset: u64) {
        self.committed.store(offset, Ordering::Release);
        self.offset.store(offset, Ordering::Relaxed);
    }

    pub(crate) fn acknowledged(&self, offset: u64) {
        self.committed.store(offset, Ordering::Release);
        self.acknowledged_ms.store(wall_ms(), Ordering::Relaxed);
        self.note_lag(offset, self.size.load(Ordering::Relaxed));
    }

    /// What was there at the first look and is not settled yet keeps its time; what came later is as old as this look.
    fn note_lag(&self, settled: u64, size: u64) {
        let mut lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        let still = lag.filter(|lag| lag.to > settled);
        *lag = still.or_else(|| (size > settled).then(|| Lag { to: size, since_ms: wall_ms() }));
    }

    pub(crate) fn has_incarnation(&self, incarnation: Incarnation) {
        self.incarnation.set(incarnation).ok(); // It never changes.
    }

    pub(crate) fn read_to(&self, offset: u64) {
        self.offset.store(offset, Ordering::Relaxed);
        self.read_ms.store(wall_ms(), Ordering::Relaxed);
    }

    pub(crate) fn seen(&self, path: &Arc<Path>, size: u64, is_open: bool, is_listed: bool) {
        self.size.store(size, Ordering::Relaxed);
        self.note_lag(self.committed(), size);
        self.is_open.store(is_open, Ordering::Relaxed);
        self.is_listed.store(is_listed, Ordering::Relaxed);
        let mut known = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&known, path) {
            *known = path.clone();
        }
    }

    /// A rate plan holds it, or no longer does.
    pub(crate) fn is_held(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::Relaxed);
    }

    /// Why it cannot be read; `None`: it can.
    pub(crate) fn problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Why its unread bytes will be lost; `None`: nothing speaks for that.
    pub(crate) fn risk(&self, risk: Option<String>) {
        *self.risk.lock().unwrap_or_else(PoisonError::into_inner) = risk.map(Into::into);
    }

    fn shown(&self, waiting_since_ms: i64) -> Shown {
        let told = |ms: &AtomicI64| Some(ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0);
        let (offset, acknowledged) = (self.offset.load(Ordering::Relaxed), self.committed());
        let size = self.size.load(Ordering::Relaxed).max(offset);
        let mut waits_for: Vec<_> =
            self.problem.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        if size > acknowledged && waiting_since_ms > 0 {
            let seconds = (wall_ms() - waiting_since_ms) / 1_000;
            waits_for.push(format!("memory: all of it is in flight to the output, for {seconds} s"));
        }
        if size > offset && self.is_held.load(Ordering::Relaxed) {
            waits_for.push(HELD.into());
        }
        let lag = *self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        let lag_ms = lag.filter(|_| size > acknowledged).map_or(0, |lag| wall_ms() - lag.since_ms);
        let (input, generation) =
            self.names.get().map_or_else(Default::default, |(input, generation)| (input.to_string(), *generation));
        Shown {
            input,
            path: self.path.lock().unwrap_or_else(PoisonError::into_inner).to_path_buf(),
            inode: self.inode.number,
            incarnation: self.incarnation.get().map(ToString::to_string),
            generation,
            size,
            offset,
            acknowledged,
            lag_bytes: size - acknowledged.min(size),
            lag_seconds: u64::try_from(lag_ms / 1_000).unwrap_or(0),
            read_ms: told(&self.read_ms),
            acknowledged_ms: told(&self.acknowledged_ms),
            is_open: self.is_open.load(Ordering::Relaxed),
            is_listed: self.is_listed.load(Ordering::Relaxed),
            waits_for,
            at_risk: self.risk.lock().unwrap_or_else(PoisonError::into_inner).as_deref().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_as_old_as_the_oldest_look_at_what_is_not_settled() {
        let card = Card::new(Path::new("/a.log").into(), Inode { device: 1, number: 2, birth_ns: None });
        let lag = || card.lag.lock().expect("whole").map(|lag| lag.to);
        card.seen(&Path::new("/a.log").into(), 10, true, true);
        card.seen(&Path::new("/a.log").into(), 30, true, true);
        assert_eq!(lag(), Some(10), "the first bytes are still owed");
        card.acknowledged(9);
        assert_eq!(lag(), Some(10));
        card.acknowledged(10);
        assert_eq!(lag(), Some(30), "what came since counts from now");
        card.acknowledged(30);
        assert_eq!((lag(), card.shown(0).lag_seconds), (None, 0));
    }

    #[test]
    fn what_is_not_acknowledged_waits_for_memory_though_it_is_read() {
        let card = Card::new(Path::new("/a.log").into(), Inode { device: 1, number: 2, birth_ns: None });
        card.seen(&Path::new("/a.log").into(), 10, true, true);
        card.read_to(10);
        assert_eq!(card.shown(wall_ms()).waits_for.len(), 1);
        card.acknowledged(10);
        assert!(card.shown(wall_ms()).waits_for.is_empty());
    }
}
