//! Committed offsets ⇄ a durable store in the state folder.
//!
//! An append log in generations. `checkpoint.N`: 12 bytes of header (`TAILRACE`, version as u32), then entries, each
//! `length u32 · CRC-32C of sequence and payload u32 · sequence u64 · payload`, all little endian; the payload is JSON.
//! A generation begins with a snapshot of everything, written beside it, fsynced, renamed, its folder fsynced; then it is
//! appended to: by writes, which outlive the process, and by flushes, which end with one fdatasync and outlive the power.
//! The generation before stays until the next is made.
//! Damage never skips data: what is sound in the newest generation goes over the one before it, so the worst is an older
//! offset, from which lines are read again (their ids make that harmless). Of what was written after the last fdatasync a
//! power cut may leave any part: it counts up to the first entry that is not whole.

mod disk;
mod form;

pub(crate) use form::Put;

use crate::identity::Inode;
use event::{Incarnation, Progress};
use form::{HEADER_BYTES, Line, MAGIC, VERSION, decode, encode, parse_incarnation};
use service::clock::monotonic;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The file whose lock keeps a second agent out, with the process id of its holder.
pub(crate) const LOCK: &str = "lock";
/// A generation is compacted when its appended entries outnumber its files by this factor …
const COMPACT_FACTOR: usize = 8;
/// … and this many, so that a handful of files is not rewritten all the time: some 4 MB, read within 50 ms at a start. The
/// commit stage appends no more than 2,000 a second.
const COMPACT_ENTRIES_MIN: usize = 16_384;

/// How long a lock that somebody holds is tried for, and how often.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// What is remembered of one life of one file under one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) input: Arc<str>,
    pub(crate) incarnation: Incarnation,
    /// Path under which it was first seen, as shipped.
    pub(crate) path: Arc<str>,
    pub(crate) inode: Inode,
    /// How often the inode was truncated before this life.
    pub(crate) generation: u32,
    pub(crate) progress: Progress,
    /// Offsets behind `progress` at which what was open was finished by time: a second reading finishes it there too.
    pub(crate) cuts: Vec<u64>,
    /// Of a journal: its last entry that is settled. Then there is no file.
    pub(crate) cursor: Option<String>,
    /// Its content is gone: what its inode holds now is a later life, whatever it looks like. The entry only remembers the
    /// generation, until that life has a complete line and so an entry of its own.
    pub(crate) is_truncated: bool,
    /// Set if the file is packed.
    pub(crate) packed: Option<Box<PackedAt>>,
}

/// The packed file in which an entry's content is found, and whose inode need not be that of the entry's incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedAt {
    pub(crate) inode: Inode,
    /// Its size on disk when it was read to its end, and the offset at which that was.
    pub(crate) rest: Option<(u64, u64)>,
}

/// Names a [`Saved`].
pub(crate) type Key = (Arc<str>, Incarnation);

impl Saved {
    /// A file's first life, without cuts.
    pub(crate) fn new(
        input: Arc<str>,
        incarnation: Incarnation,
        path: Arc<str>,
        inode: Inode,
        progress: Progress,
    ) -> Self {
        let (generation, cuts, cursor, is_truncated, packed) = (0, Vec::new(), None, false, None);
        Self { input, incarnation, path, inode, generation, progress, cuts, cursor, is_truncated, packed }
    }

    pub(crate) fn key(&self) -> Key {
        (self.input.clone(), self.incarnation)
    }

    /// The inode that holds the content.
    pub(crate) fn body(&self) -> &Inode {
        self.packed.as_ref().map_or(&self.inode, |packed| &packed.inode)
    }
}

/// What was found at start.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) files: BTreeMap<Key, Saved>,
    /// No generation was ever written here.
    pub(crate) first_start: bool,
    /// What was damaged, for the log; empty if all is sound.
    pub(crate) damage: Vec<String>,
}

/// An open store. One process at a time: it holds the folder's lock.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    generation: u64,
    log: Arc<File>,
    /// Where the sound part of `log` ends.
    log_bytes: u64,
    sequence: u64,
    appended: usize,
    /// Everything remembered, as of the last successful or failed flush.
    files: BTreeMap<Key, Arc<Saved>>,
    /// A write or an fsync failed: the log's end is unknown, so the next flush writes a new generation.
    is_torn: bool,
    /// So much of `log` is durable.
    synced_bytes: u64,
    _lock: File,
}

/// What was written to the log and is to be made durable, beside further writes.
#[derive(Debug)]
pub(crate) struct Unsynced {
    log: Arc<File>,
    generation: u64,
    bytes: u64,
}

/// How that ended.
#[derive(Debug)]
pub(crate) struct Synced {
    generation: u64,
    bytes: u64,
    result: io::Result<()>,
}

impl Unsynced {
    /// Waits for the disk.
    pub(crate) fn sync(self) -> Synced {
        service::failpoint::hit("agent-checkpoint-before-fsync");
        let result = disk::sync(&self.log);
        service::failpoint::hit("agent-checkpoint-after-fsync");
        Synced { generation: self.generation, bytes: self.bytes, result }
    }
}

impl Store {
    /// Opens (or makes) the store in `folder`, locks it, and starts a new generation.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<(Self, Loaded)> {
        use anyhow::Context as _;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("making state_dir {}", folder.display()))?;
        let is_new = !folder.join(LOCK).exists();
        let lock = lock(folder)?;
        let mut loaded = load(folder).with_context(|| format!("reading checkpoints in {}", folder.display()))?;
        if loaded.first_start && !is_new {
            loaded.damage.push(format!("{}: an agent ran here, but there is no checkpoint any more", folder.display()));
            loaded.first_start = false;
        }
        let newest = generations(folder)?.into_iter().max().unwrap_or(0);
        let mut store = Self {
            folder: folder.to_owned(),
            generation: newest,
            log: Arc::new(lock.try_clone()?), // Replaced by `compact` before it is ever written.
            log_bytes: 0,
            sequence: 0,
            appended: 0,
            files: loaded.files.iter().map(|(key, saved)| (key.clone(), Arc::new(saved.clone()))).collect(),
            is_torn: true,
            synced_bytes: 0,
            _lock: lock,
        };
        if let Err(error) = store.compact() {
            tracing::error!(%error, folder = %folder.display(), "checkpoint cannot be written, shipping goes on without");
        }
        Ok((store, loaded))
    }

    /// Makes `puts` and `forgets`, and what was written before, durable: one append, one fdatasync. On an error everything
    /// stays in memory and is written by the next flush that succeeds.
    pub(crate) fn flush<'a>(&mut self, puts: impl IntoIterator<Item = &'a Saved>, forgets: &[Key]) -> io::Result<()> {
        self.flush_shared(&mut puts.into_iter().map(|saved| Arc::new(saved.clone())), forgets)
    }

    /// The same with entries that the caller keeps as well: those at rest are in memory once.
    pub(crate) fn flush_shared(
        &mut self,
        puts: &mut dyn Iterator<Item = Arc<Saved>>,
        forgets: &[Key],
    ) -> io::Result<()> {
        let bytes = self.remember(puts, forgets);
        if self.wants_generation() {
            return self.compact();
        }
        self.append(&bytes)?;
        match self.unsynced() {
            Some(unsynced) => self.synced(unsynced.sync()),
            None => Ok(()),
        }
    }

    /// The next flush makes a new generation: this one's end is unknown, or it is long.
    pub(crate) fn wants_generation(&self) -> bool {
        self.is_torn || self.appended > COMPACT_ENTRIES_MIN.max(COMPACT_FACTOR * self.files.len())
    }

    /// What is written and not durable: to be synced and told to [`Store::synced`]. `None` if there is nothing. While a
    /// failed fsync is not told, no other may begin: the file tells each failure once.
    pub(crate) fn unsynced(&self) -> Option<Unsynced> {
        let (generation, bytes) = (self.generation, self.log_bytes);
        (!self.is_durable()).then(|| Unsynced { log: self.log.clone(), generation, bytes })
    }

    /// Takes what an [`Unsynced`] came to. A failed fsync may have dropped the pages, so it is never tried again: the next
    /// flush makes a new generation. Errors: the fsync's.
    pub(crate) fn synced(&mut self, synced: Synced) -> io::Result<()> {
        if synced.generation != self.generation {
            return Ok(()); // The one since began with all of it, durable.
        }
        match &synced.result {
            Ok(()) => self.synced_bytes = synced.bytes,
            Err(_) => self.is_torn = true,
        }
        synced.result
    }

    /// Writes `puts` and `forgets` without waiting for the disk: they outlive this process, and are durable with the next
    /// flush. While the log's end is unknown nothing is written: that flush makes it good. Errors: as in [`Store::flush`].
    pub(crate) fn write_shared(
        &mut self,
        puts: &mut dyn Iterator<Item = Arc<Saved>>,
        forgets: &[Key],
    ) -> io::Result<()> {
        let bytes = self.remember(puts, forgets);
        if self.is_torn { Ok(()) } else { self.append(&bytes) }
    }

    /// The log's end is unknown since a write failed: only a flush makes it good.
    pub(crate) fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// A power cut now would lose nothing.
    pub(crate) fn is_durable(&self) -> bool {
        self.synced_bytes == self.log_bytes && !self.is_torn
    }

    /// Takes entries into what is remembered. Returns them as the log has them.
    fn remember(&mut self, puts: &mut dyn Iterator<Item = Arc<Saved>>, forgets: &[Key]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for saved in puts {
            self.sequence += 1;
            self.appended += 1;
            encode(&Line::Put(Put::from(&*saved)), self.sequence, &mut bytes);
            self.files.insert(saved.key(), saved);
        }
        for (input, incarnation) in forgets {
            self.sequence += 1;
            let line = Line::Forget { input: input.to_string(), incarnation: incarnation.to_string() };
            encode(&line, self.sequence, &mut bytes);
            self.files.remove(&(input.clone(), *incarnation));
        }
        self.appended += forgets.len();
        bytes
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        service::failpoint::hit("agent-checkpoint-before-write");
        self.is_torn = true; // Until it is known to be whole.
        disk::write(&self.log, self.log_bytes, bytes)?;
        service::failpoint::hit("agent-checkpoint-after-write");
        self.is_torn = false;
        self.log_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes everything into a new generation: write, fsync, rename, fsync of the folder. Keeps the one before.
    fn compact(&mut self) -> io::Result<()> {
        self.is_torn = true; // Until all of it is done, an append to the generation before could be overlooked.
        let next = self.generation + 1;
        let (making, made) = (self.folder.join("checkpoint.new"), path_of(&self.folder, next));
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 256 * self.files.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for saved in self.files.values() {
            self.sequence += 1;
            encode(&Line::Put(Put::from(&**saved)), self.sequence, &mut bytes);
        }
        self.sequence += 1;
        encode(&Line::Snapshot { files: self.files.len() as u64 }, self.sequence, &mut bytes);

        let log = disk::create(&making)?;
        give(&log, &self.folder);
        disk::write(&log, 0, &bytes)?;
        disk::sync(&log)?;
        service::failpoint::hit("agent-checkpoint-before-rename");
        disk::rename(&making, &made)?;
        service::failpoint::hit("agent-checkpoint-after-rename");
        disk::sync_folder(&self.folder)?;

        let length = bytes.len() as u64;
        (self.log, self.log_bytes, self.synced_bytes) = (Arc::new(log), length, length);
        (self.generation, self.appended, self.is_torn) = (next, 0, false);
        for old in generations(&self.folder)?.into_iter().filter(|&old| old + 1 < next) {
            disk::remove(&path_of(&self.folder, old))?;
        }
        Ok(())
    }
}

fn lock(folder: &Path) -> anyhow::Result<File> {
    use anyhow::Context as _;
    let path = folder.join(LOCK);
    let mut options = File::options();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.with_context(|| format!("opening {}", path.display()))?;
    // A program that the process before was just starting holds copies of its descriptors, and so of the lock, for a moment.
    let patience = monotonic() + LOCK_PATIENCE;
    let locked = loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if monotonic() < patience => std::thread::sleep(LOCK_PAUSE),
            locked => break locked,
        }
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).ok(); // Without it the message is less helpful, not wrong.
            anyhow::bail!(
                "state_dir {} is in use by process {}: stop it, or give this agent a state_dir of its own",
                folder.display(),
                if holder.trim().is_empty() { "(unknown)" } else { holder.trim() }
            );
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {}", path.display())),
    }
    give(&file, folder);
    // Who holds it is only for people: on a full disk the lock counts all the same.
    file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes())).ok();
    Ok(file)
}

/// Gives `file` to the owner of its folder: what root does with a state folder must not lock its agent out.
fn give(file: &File, folder: &Path) {
    let (Ok(owner), Ok(found)) = (fs::metadata(folder), file.metadata()) else { return };
    if found.uid() != owner.uid() {
        fchown(file, Some(owner.uid()), Some(owner.gid())).ok(); // Only root can; for others it is theirs anyway.
    }
}

fn path_of(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("checkpoint.{generation}"))
}

fn generations(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_prefix("checkpoint.")).and_then(|n| n.parse().ok());
        found.extend(number);
    }
    Ok(found)
}

/// Reads the generations, newest first, until one has a whole snapshot; newer sound entries go over older ones.
pub(crate) fn load(folder: &Path) -> io::Result<Loaded> {
    let mut numbers = generations(folder)?;
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let mut loaded = Loaded { first_start: numbers.is_empty(), ..Loaded::default() };
    let mut layers = Vec::new();
    for number in numbers {
        let path = path_of(folder, number);
        let (lines, damage) = match fs::read(&path) {
            Ok(bytes) => decode(&bytes),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        loaded.damage.extend(damage.map(|what| format!("{}: {what}", path.display())));
        let is_whole = lines.iter().any(|line| matches!(line, Line::Snapshot { .. }));
        layers.push(lines);
        if is_whole {
            break;
        }
    }
    for line in layers.into_iter().rev().flatten() {
        match line {
            Line::Put(put) => match Saved::try_from(put) {
                Ok(saved) => drop(loaded.files.insert(saved.key(), saved)),
                Err(what) => loaded.damage.push(what),
            },
            Line::Forget { input, incarnation } => {
                let incarnation = parse_incarnation(&incarnation);
                loaded.files.retain(|key, _| !(*key.0 == *input && Ok(key.1) == incarnation));
            }
            Line::Snapshot { .. } => {}
        }
    }
    Ok(loaded)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::{entries_in, fail_from_now_on};
