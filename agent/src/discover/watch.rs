//! Folders to watch → what changed in them. It only wakes: what is not told, the next scan finds.

use super::Touched;
use notify::{EventKind, RecursiveMode, Watcher as _};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a folder with a busy writer goes unwatched: every write makes a notification, and a thousand a second cost
/// more than looking at its files ten times a second does. The tail stage looks at busy files by itself.
const UNWATCHED: Duration = Duration::from_secs(5);

/// What the watcher's thread tells.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// A file came, went or was renamed; or notifications were missed.
    pub(super) rescan: Notify,
    /// Some folder's files are being written.
    pub(super) busy: Notify,
    busy_folders: Mutex<HashSet<PathBuf>>,
}

impl Signals {
    pub(super) fn take_busy(&self) -> HashSet<PathBuf> {
        std::mem::take(&mut *self.busy_folders.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn written(&self, path: &Path) {
        let Some(folder) = path.parent() else { return };
        let mut folders = self.busy_folders.lock().unwrap_or_else(PoisonError::into_inner);
        if !folders.contains(folder) {
            folders.insert(folder.to_owned());
            self.busy.notify_one();
        }
    }
}

/// The folders that are watched; without a watcher the scan does everything.
pub(super) struct Watches {
    watcher: Option<notify::RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    /// Folders with busy writers, and when to watch them again.
    unwatched: HashMap<PathBuf, Instant>,
    /// Some folder could not be watched at the last scan.
    is_refused: bool,
    is_refusal_told: bool,
}

impl Watches {
    /// Nothing is watched if `is_watched` is false.
    pub(super) fn new(is_watched: bool, touched: Touched, signals: Arc<Signals>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            Ok(event) if event.need_rescan() => signals.rescan.notify_one(),
            Ok(event) => match event.kind {
                EventKind::Access(_) => {} // Our own reading makes these.
                EventKind::Modify(notify::event::ModifyKind::Data(_)) => {
                    event.paths.iter().for_each(|path| signals.written(path));
                    if !touched.add(&event.paths) {
                        signals.rescan.notify_one();
                    }
                }
                _ => signals.rescan.notify_one(),
            },
            Err(_) => signals.rescan.notify_one(),
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "no change notifications, files are looked at every scan_interval");
        }
        Self {
            watcher: watcher.ok().filter(|_| is_watched),
            folders: BTreeSet::new(),
            unwatched: HashMap::new(),
            is_refused: false,
            is_refusal_told: false,
        }
    }

    /// Watches `folders` and no others; those with a busy writer again after a while.
    pub(super) fn follow(&mut self, mut folders: BTreeSet<PathBuf>, now: Instant) {
        let Some(watcher) = &mut self.watcher else { return };
        self.unwatched.retain(|_, until| *until > now);
        folders.retain(|folder| !self.unwatched.contains_key(folder));
        for gone in self.folders.difference(&folders) {
            watcher.unwatch(gone).ok(); // Its watch went with the folder.
        }
        self.is_refused = false;
        folders.retain(|folder| {
            if self.folders.contains(folder) {
                return folder.exists();
            }
            let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) else { return true };
            self.is_refused |= folder.exists();
            if folder.exists() && !std::mem::replace(&mut self.is_refusal_told, true) {
                tracing::warn!(path = %folder.display(), %error, "cannot be watched, it is looked at every scan_interval");
            }
            false // The next scan tries again: watches may have become free.
        });
        self.folders = folders;
    }

    /// True if a change anywhere is told.
    pub(super) fn is_complete(&self) -> bool {
        self.watcher.is_some() && self.unwatched.is_empty() && !self.is_refused
    }

    pub(super) fn unwatch_busy(&mut self, busy: &HashSet<PathBuf>, now: Instant) {
        let Some(watcher) = &mut self.watcher else { return };
        for folder in busy {
            if self.folders.remove(folder) {
                watcher.unwatch(folder).ok(); // Gone, then the next scan says so.
                self.unwatched.insert(folder.clone(), now + UNWATCHED);
            }
        }
    }
}
