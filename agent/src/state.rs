//! A checkpoint as people see it: its entries, read without the lock and without writing; what is on the disk of each; and
//! entries forgotten, which needs the lock.

use crate::checkpoint::{self, Put, Saved, Store};
use crate::discover::find_inode;
use crate::follow::{Links, open};
use crate::identity::{HEAD_BYTES_MAX, Likeness, compare, head_stands};
use crate::unpack::{Compression, Window};
use anyhow::Context as _;
use event::Incarnation;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a checkpoint is read before its damage is believed: a running agent may be writing …
const READS: usize = 3;
/// … and so long between.
const READ_PAUSE: Duration = Duration::from_millis(50);
/// From so many bytes on, equal edges prove that a file under another inode is a copy: see DESIGN.md §4.
const COPY_BYTES_MIN: u64 = 1024;

/// What a state folder holds.
#[derive(Debug)]
pub struct State {
    /// Sorted by input and path.
    pub entries: Vec<StateEntry>,
    /// What was damaged, each with path and byte; empty if all is sound.
    pub damage: Vec<String>,
    /// False if there is no checkpoint: no agent has run with this folder, or it was deleted.
    pub is_there: bool,
}

/// What is remembered of one life of one file under one input.
///
/// Its serialized form is that of the checkpoint's own entries, so what is exported can be read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Put", try_from = "Put")]
pub struct StateEntry {
    pub(crate) saved: Saved,
}

impl From<StateEntry> for Put {
    fn from(entry: StateEntry) -> Self {
        Self::from(&entry.saved)
    }
}

impl TryFrom<Put> for StateEntry {
    type Error = String;

    fn try_from(put: Put) -> Result<Self, String> {
        Ok(Self { saved: put.try_into()? })
    }
}

/// What the disk holds of an entry's file now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnDisk {
    /// This file: an agent reads on in it, from the entry's offset.
    Matches {
        /// Where it is now.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// A file with this name or inode, whose content is another: an agent reads it from its start.
    Differs {
        /// Where it is.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// Proved not to be in its folder.
    Gone,
    /// It could not be looked at, and why.
    Unknown(String),
}

/// Reads the checkpoint in `state_dir` as it is now. Takes no lock and writes nothing: a running agent is not disturbed.
///
/// Errors: the folder cannot be read. Damage is no error.
pub fn read_state(state_dir: &Path) -> anyhow::Result<State> {
    let read = || checkpoint::load(state_dir).with_context(|| format!("reading state_dir {}", state_dir.display()));
    let mut loaded = read()?;
    for _ in 1..READS {
        if loaded.damage.is_empty() {
            break;
        }
        std::thread::sleep(READ_PAUSE);
        loaded = read()?;
    }
    let mut entries: Vec<_> = loaded.files.into_values().map(|saved| StateEntry { saved }).collect();
    entries.sort_by(|a, b| (a.input(), a.path(), a.offset()).cmp(&(b.input(), b.path(), b.offset())));
    Ok(State { entries, damage: loaded.damage, is_there: !loaded.first_start })
}

/// Removes `entries` from the checkpoint in `state_dir`: their files are read from their start again.
///
/// Errors: an agent holds the lock (its process id is told), or the checkpoint cannot be written.
pub fn forget(state_dir: &Path, entries: &[StateEntry]) -> anyhow::Result<()> {
    let (mut store, _) = Store::open(state_dir)?;
    let keys: Vec<_> = entries.iter().map(|entry| entry.saved.key()).collect();
    store.flush(&[], &keys).with_context(|| format!("writing the checkpoint in {}", state_dir.display()))
}

impl StateEntry {
    /// The input's id.
    pub fn input(&self) -> &str {
        &self.saved.input
    }

    /// Where the file was first seen, as it is shipped.
    pub fn path(&self) -> &str {
        &self.saved.path
    }

    /// The file's id, made once.
    pub fn incarnation(&self) -> Incarnation {
        self.saved.incarnation
    }

    /// The file's inode number.
    pub fn inode(&self) -> u64 {
        self.saved.inode.number
    }

    /// How often the inode was truncated before.
    pub fn generation(&self) -> u32 {
        self.saved.generation
    }

    /// Everything before it is acknowledged, in bytes.
    pub fn offset(&self) -> u64 {
        self.saved.progress.offset
    }

    /// Looks for the entry's file as a starting agent does: by name, by inode in the same folder, as a copy of that name.
    pub fn on_disk(&self) -> OnDisk {
        self.look().unwrap_or_else(|error| OnDisk::Unknown(error.to_string()))
    }

    fn look(&self) -> io::Result<OnDisk> {
        let (inode, progress) = (self.saved.body(), &self.saved.progress);
        let named = Path::new(&*self.saved.path);
        let folder = named.parent().unwrap_or(Path::new("/"));
        let at = open(named, Links::Followed).ok().filter(|(_, found)| found.may_be(inode)).map(|_| named.to_owned());
        let at = at.map_or_else(|| find_inode(folder, inode), |path| Ok(Some(path)))?;
        let (path, is_inode) = at.map_or_else(|| (named.to_owned(), false), |path| (path, true));
        let file = match open(&path, Links::Followed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(OnDisk::Gone),
            opened => opened?.0,
        };
        let size = file.metadata()?.len();
        if self.saved.packed.is_some()
            && let Some(packing) = Compression::Auto.of_file(&file)?
        {
            // What it unpacks to is compared at its start only: the rest may take long.
            let mut window = Window::new(file, packing)?;
            window.fill(0, HEAD_BYTES_MAX as u64)?;
            let is_same = is_inode && (progress.offset == 0 || head_stands(window.head(), &progress.anchor));
            return Ok(if is_same { OnDisk::Matches { path, size } } else { OnDisk::Differs { path, size } });
        }
        let is_same = match progress.offset {
            _ if self.saved.is_truncated => false,
            0 => is_inode, // Nothing of it is acknowledged, so there is no content to compare.
            offset => match compare(&file, offset, &progress.anchor)? {
                Likeness::Same => is_inode || offset >= COPY_BYTES_MIN,
                Likeness::SameTail => is_inode,
                Likeness::Other => false,
            },
        };
        Ok(if is_same { OnDisk::Matches { path, size } } else { OnDisk::Differs { path, size } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Edges, Inode};
    use event::{Anchor, Progress};
    use std::fs;

    /// A store in a folder of its own, and a log of 2000 lines beside it, read up to `offset`.
    fn scene(offset: u64) -> (tempfile::TempDir, StateEntry) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.log");
        fs::write(&path, (0..2_000).map(|n| format!("line {n}\n")).collect::<String>()).expect("written");
        let (file, inode) = open(&path, Links::Refused).expect("opens");
        let anchor = Edges::read(&file, offset).expect("readable").expect("long enough").anchor();
        let (input, incarnation, path) = ("nginx".into(), Incarnation(7), path.to_string_lossy().into());
        let progress = Progress { offset, anchor };
        (folder, StateEntry { saved: Saved::new(input, incarnation, path, inode, progress) })
    }

    fn stored(folder: &Path, entry: &StateEntry) -> PathBuf {
        let state_dir = folder.join("state");
        let (mut store, _) = Store::open(&state_dir).expect("opens");
        store.flush(std::slice::from_ref(&entry.saved), &[]).expect("flushes");
        state_dir
    }

    #[test]
    fn reading_takes_no_lock_and_writes_nothing() {
        let (folder, entry) = scene(14);
        let state_dir = folder.path().join("state");
        let (mut store, _) = Store::open(&state_dir).expect("opens");
        store.flush(std::slice::from_ref(&entry.saved), &[]).expect("flushes");
        let content = || {
            let mut files: Vec<_> =
                fs::read_dir(&state_dir).expect("listed").map(|e| e.expect("listed").path()).collect();
            files.sort();
            files.into_iter().map(|path| (fs::read(&path).expect("readable"), path)).collect::<Vec<_>>()
        };
        let before = content();
        let state = read_state(&state_dir).expect("readable while an agent holds the lock");
        assert_eq!((state.entries, state.damage.len(), state.is_there), (vec![entry], 0, true));
        assert_eq!(content(), before);
        assert!(read_state(&folder.path().join("none")).is_err() && !folder.path().join("none").exists());
        assert!(!read_state(folder.path()).expect("readable").is_there);
    }

    #[test]
    fn only_a_folder_that_no_agent_holds_forgets() {
        let (folder, entry) = scene(14);
        let state_dir = stored(folder.path(), &entry);
        let (holder, _) = Store::open(&state_dir).expect("opens");
        let error = forget(&state_dir, std::slice::from_ref(&entry)).expect_err("is locked").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert_eq!(read_state(&state_dir).expect("readable").entries.len(), 1);
        drop(holder);
        forget(&state_dir, &[entry]).expect("forgets");
        let state = read_state(&state_dir).expect("readable");
        assert!(state.entries.is_empty() && state.is_there, "a file that is forgotten is read whole, not from its end");
    }

    #[test]
    fn what_is_exported_is_read_back() {
        let (_folder, entry) = scene(14);
        let mut entry = entry;
        entry.saved.progress.anchor = Anchor { head_bytes: 14, head: u64::MAX, tail: u64::MAX - 1 };
        let line = serde_json::to_string(&entry).expect("only strings and numbers");
        assert_eq!(serde_json::from_str::<StateEntry>(&line).expect("is an entry"), entry);
        assert!(serde_json::from_str::<StateEntry>(&line.replace("0007\"", "000g\"")).is_err(), "{line}");
    }

    #[test]
    fn the_disk_is_looked_at_as_a_starting_agent_does() {
        for offset in [0, 14, 5_000] {
            let (folder, entry) = scene(offset);
            let (old, new) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
            let size = fs::metadata(&old).expect("there").len();
            assert_eq!(entry.on_disk(), OnDisk::Matches { path: old.clone(), size });
            fs::rename(&old, &new).expect("renamed");
            assert_eq!(entry.on_disk(), OnDisk::Matches { path: new.clone(), size });
            fs::write(&old, "another\n").expect("written");
            assert_eq!(entry.on_disk(), OnDisk::Matches { path: new.clone(), size });
            fs::copy(&new, &old).expect("copied");
            fs::rename(&new, folder.path().join("kept")).expect("renamed");
            let elsewhere = tempfile::tempdir().expect("a temporary folder");
            fs::copy(folder.path().join("kept"), elsewhere.path().join("kept")).expect("copied");
            let mut copied = entry.clone();
            copied.saved.inode = Inode { number: u64::MAX, ..copied.saved.inode };
            let is_proved = offset >= COPY_BYTES_MIN;
            assert_eq!(matches!(copied.on_disk(), OnDisk::Matches { .. }), is_proved, "a copy at {offset}");
        }
        let (folder, entry) = scene(14);
        fs::write(folder.path().join("a.log"), "written anew, and longer than it was\n").expect("written");
        assert!(matches!(entry.on_disk(), OnDisk::Differs { size: 37, .. }), "{:?}", entry.on_disk());
        fs::remove_file(folder.path().join("a.log")).expect("removed");
        assert_eq!(entry.on_disk(), OnDisk::Gone);
    }
}
