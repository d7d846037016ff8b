//! Globs and change notifications → listings of files to follow.
//!
//! The periodic scan is the truth; a notification only makes the next scan or the next look come sooner. A folder that
//! could not be read is said, and its files are not taken for deleted: a listing only ever tells what is there.

mod near;

pub(crate) use near::{Fails, Near};

use crate::config::FileInput;
use crate::follow::{Links, Sighting};
use crate::identity::Inode;
use anyhow::{Context as _, bail};
use globset::{GlobBuilder, GlobMatcher};
use notify::{EventKind, RecursiveMode, Watcher as _};
use service::clock::monotonic;
use service::stop::Stop;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};

/// How deep `**` looks.
const DEPTH_MAX: usize = 32;
/// Notifications within this time make one scan.
const RESCAN_PAUSE: Duration = Duration::from_millis(50);
/// A scan of very many files takes its time: the next one waits so many times as long, so that scanning costs a fixed share
/// of a core (0.4 %) while nothing changes …
const IDLE_REST: u32 = 250;
/// … so many times as long while files grow (2 %) …
const BUSY_REST: u32 = 50;
/// … and so many times as long after a notification of a new file (5 %).
const RESCAN_REST: u32 = 20;
/// How long a folder with a busy writer goes unwatched: every write makes a notification, and a thousand a second cost
/// more than looking at its files ten times a second does. The tail stage looks at busy files by itself.
const UNWATCHED: Duration = Duration::from_secs(5);
/// More touched paths than this are not remembered one by one: every file is looked at.
const TOUCHED_MAX: usize = 4_096;

/// One entry of `paths`: the path components, each literal or a pattern.
#[derive(Debug, Clone)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Literal(PathBuf),
    Pattern(GlobMatcher),
    /// `**`: any number of folders.
    Folders,
}

impl Glob {
    /// Compiles an absolute glob. Errors name the glob.
    pub fn new(pattern: &str) -> anyhow::Result<Self> {
        compile(pattern)?;
        let mut parts = Vec::new();
        for component in Path::new(pattern).components() {
            let text = component.as_os_str().to_str().context("a glob is UTF-8")?;
            match component {
                Component::Normal(_) if text == "**" => parts.push(Part::Folders),
                Component::Normal(_) if text.contains(['*', '?', '[', '{', '\\']) => {
                    let matcher = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
                    let matcher = matcher.with_context(|| format!("glob {pattern:?}: {{a,b}} may not span folders"))?;
                    parts.push(Part::Pattern(matcher.compile_matcher()));
                }
                Component::ParentDir => bail!("glob {pattern:?} contains \"..\""),
                _ => parts.push(Part::Literal(component.as_os_str().into())),
            }
        }
        if matches!(parts.last(), Some(Part::Folders)) {
            bail!("glob {pattern:?} ends with \"**\", which matches folders; write \"**/*\" for the files in them");
        }
        Ok(Self { parts })
    }

    /// True if it matches `path`, whether or not there is such a file.
    pub fn is_match(&self, path: &Path) -> bool {
        let names: Vec<_> = path.components().map(Component::as_os_str).collect();
        is_match(&self.parts, &names)
    }
}

fn is_match(parts: &[Part], names: &[&OsStr]) -> bool {
    let Some((part, rest)) = parts.split_first() else { return names.is_empty() };
    let below = names.split_first();
    match part {
        Part::Literal(name) => below.is_some_and(|(first, names)| name == first && is_match(rest, names)),
        Part::Pattern(pattern) => below.is_some_and(|(first, names)| pattern.is_match(first) && is_match(rest, names)),
        Part::Folders => is_match(rest, names) || below.is_some_and(|(_, names)| is_match(parts, names)),
    }
}

/// Compiles a whole absolute glob for matching paths.
pub(crate) fn compile(pattern: &str) -> anyhow::Result<globset::Glob> {
    if !pattern.starts_with('/') {
        bail!("glob {pattern:?} is not an absolute path");
    }
    GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build().context("glob does not compile")
}

/// A file that a scan found.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Index of the input.
    pub(crate) input: usize,
    pub(crate) path: PathBuf,
    pub(crate) inode: Inode,
    pub(crate) sighting: Sighting,
}

/// All files that match now, sorted by input and path.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) files: Vec<Seen>,
    /// What was looked for; `Seen::input` counts in it.
    pub(crate) inputs: Arc<Vec<FileInput>>,
    /// When looking began.
    pub(crate) begun: Option<Instant>,
    /// Folders to watch.
    folders: BTreeSet<PathBuf>,
}

impl Listing {
    /// Another number when files have come, gone or changed.
    fn fingerprint(&self) -> u64 {
        let files = self.files.iter();
        files.fold(0, |all, Seen { inode, sighting, .. }| {
            let file = inode.number.wrapping_mul(31).wrapping_add(sighting.size) ^ sighting.modified_ns.unsigned_abs();
            all.rotate_left(5) ^ file
        })
    }
}

/// Looks for all files of all inputs.
pub(crate) fn scan(inputs: &Arc<Vec<FileInput>>) -> Listing {
    let mut listing = Listing { inputs: inputs.clone(), begun: Some(monotonic()), ..Listing::default() };
    for (index, input) in inputs.iter().enumerate() {
        let mut walk = Walk { input, paths: BTreeSet::new(), folders: &mut listing.folders };
        for glob in &input.globs {
            walk.visit(PathBuf::new(), &glob.parts, 0);
        }
        for path in walk.paths {
            let found = match input.links {
                Links::Refused => fs::symlink_metadata(&path),
                Links::Followed => fs::metadata(&path),
            };
            match found {
                Ok(found) if found.is_file() => {
                    let (inode, sighting) = (Inode::of(&found), Sighting::of(&found));
                    listing.files.push(Seen { input: index, path, inode, sighting });
                }
                Ok(_) => {} // Folders, symbolic links, pipes, devices.
                Err(error) => cannot_look(&path, &error),
            }
        }
    }
    listing
}

/// One input's way through the folders.
struct Walk<'a> {
    input: &'a FileInput,
    paths: BTreeSet<PathBuf>,
    /// Folders that were read.
    folders: &'a mut BTreeSet<PathBuf>,
}

impl Walk<'_> {
    fn visit(&mut self, at: PathBuf, parts: &[Part], depth: usize) {
        if self.input.exclude.is_match(&at) {
            return; // A file that is left out, or a folder: then nothing in it is looked at.
        }
        let Some((part, rest)) = parts.split_first() else {
            self.paths.insert(at);
            return;
        };
        match part {
            Part::Literal(name) => {
                if rest.is_empty() {
                    self.folders.insert(at.clone());
                }
                let next = at.join(name);
                if !rest.is_empty() || next.symlink_metadata().is_ok() {
                    self.visit(next, rest, depth);
                }
            }
            Part::Pattern(pattern) => {
                for entry in self.entries(&at) {
                    if pattern.is_match(entry.file_name()) && (rest.is_empty() || self.is_folder(&entry)) {
                        self.visit(entry.path(), rest, depth);
                    }
                }
            }
            Part::Folders => {
                self.visit(at.clone(), rest, depth);
                if depth < DEPTH_MAX {
                    for entry in self.entries(&at) {
                        // Below "**" a link to a folder is not followed: it may lead in a circle.
                        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                            self.visit(entry.path(), parts, depth + 1);
                        }
                    }
                }
            }
        }
    }

    fn entries(&mut self, folder: &Path) -> Vec<DirEntry> {
        self.folders.insert(folder.to_owned());
        match fs::read_dir(folder) {
            Ok(entries) => entries.filter_map(Result::ok).collect(),
            Err(error) => {
                cannot_look(folder, &error);
                Vec::new()
            }
        }
    }

    fn is_folder(&self, entry: &DirEntry) -> bool {
        match entry.file_type() {
            Ok(kind) if kind.is_symlink() => self.input.links == Links::Followed && entry.path().is_dir(),
            kind => kind.is_ok_and(|kind| kind.is_dir()),
        }
    }
}

fn cannot_look(path: &Path, error: &io::Error) {
    // A path that vanished since it was listed, or a folder that may still come, is ordinary.
    if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
        tracing::warn!(path = %path.display(), %error, "cannot look here; its files are not taken for deleted");
    }
}

/// The file with `inode` in `folder`. `Ok(None)`: it is proved not to be there.
pub(crate) fn find_inode(folder: &Path, inode: &Inode) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        use std::os::unix::fs::DirEntryExt as _;
        let entry = entry?;
        if entry.ino() == inode.number && entry.metadata().is_ok_and(|m| m.is_file() && Inode::of(&m).may_be(inode)) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// Paths that changed since the last look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Touched {
    paths: Arc<Mutex<HashSet<PathBuf>>>,
    wake: Arc<Notify>,
}

impl Touched {
    pub(crate) async fn wait(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn take(&self) -> HashSet<PathBuf> {
        std::mem::take(&mut *self.paths.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// False if there are too many to remember.
    pub(crate) fn add(&self, touched: &[PathBuf]) -> bool {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        if paths.len() + touched.len() > TOUCHED_MAX {
            return false;
        }
        for path in touched {
            if !paths.contains(path) {
                paths.insert(path.clone());
            }
        }
        self.wake.notify_one();
        true
    }
}

/// Scans at every interval, soon after a notification of a new, renamed or removed file, and for other inputs at once,
/// until stopped.
pub(crate) async fn run(
    mut reloads: watch::Receiver<Arc<Vec<FileInput>>>,
    touched: Touched,
    output: mpsc::Sender<Listing>,
    stop: Stop,
) {
    let signals = Arc::new(Signals::default());
    let mut watches = Watches::new(touched, signals.clone());
    let mut last_seen = 0;
    while !stop.is_stopped() {
        let inputs = reloads.borrow_and_update().clone();
        let interval = inputs.iter().map(|input| input.scan_interval).min().unwrap_or(Duration::from_secs(1));
        let begun = monotonic();
        let mut listing = scan(&inputs);
        let took = begun.elapsed();
        let seen = listing.fingerprint();
        let rest = if std::mem::replace(&mut last_seen, seen) == seen { IDLE_REST } else { BUSY_REST };
        watches.follow(std::mem::take(&mut listing.folders), monotonic());
        if output.send(listing).await.is_err() {
            return; // Tailing has ended.
        }
        let next_scan = tokio::time::sleep(interval.max(took * rest));
        tokio::pin!(next_scan);
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                () = &mut next_scan => break,
                Ok(()) = reloads.changed() => break,
                () = signals.rescan.notified() => {
                    tokio::time::sleep(RESCAN_PAUSE.min(interval).max(took * RESCAN_REST)).await;
                    break;
                }
                () = signals.busy.notified() => watches.unwatch_busy(&signals.take_busy(), monotonic()),
            }
        }
    }
}

/// What the watcher's thread tells.
#[derive(Debug, Default)]
struct Signals {
    /// A file came, went or was renamed; or notifications were missed.
    rescan: Notify,
    /// Some folder's files are being written.
    busy: Notify,
    busy_folders: Mutex<HashSet<PathBuf>>,
}

impl Signals {
    fn take_busy(&self) -> HashSet<PathBuf> {
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
struct Watches {
    watcher: Option<notify::RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    /// Folders with busy writers, and when to watch them again.
    unwatched: HashMap<PathBuf, Instant>,
    refused: bool,
}

impl Watches {
    fn new(touched: Touched, signals: Arc<Signals>) -> Self {
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
        Self { watcher: watcher.ok(), folders: BTreeSet::new(), unwatched: HashMap::new(), refused: false }
    }

    /// Watches `folders` and no others; those with a busy writer again after a while.
    fn follow(&mut self, mut folders: BTreeSet<PathBuf>, now: Instant) {
        let Some(watcher) = &mut self.watcher else { return };
        self.unwatched.retain(|_, until| *until > now);
        folders.retain(|folder| !self.unwatched.contains_key(folder));
        for gone in self.folders.difference(&folders) {
            watcher.unwatch(gone).ok(); // Its watch went with the folder.
        }
        for new in folders.difference(&self.folders) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive)
                && new.exists()
                && !std::mem::replace(&mut self.refused, true)
            {
                tracing::warn!(path = %new.display(), %error, "cannot be watched, it is looked at every scan_interval");
            }
        }
        self.folders = folders.into_iter().filter(|folder| folder.exists()).collect();
    }

    fn unwatch_busy(&mut self, busy: &HashSet<PathBuf>, now: Instant) {
        let Some(watcher) = &mut self.watcher else { return };
        for folder in busy {
            if self.folders.remove(folder) {
                watcher.unwatch(folder).ok(); // Gone, then the next scan says so.
                self.unwatched.insert(folder.clone(), now + UNWATCHED);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InputConfig;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "x\n").expect("written");
        }
        folder
    }

    /// Paths below the folder that the glob finds.
    #[track_caller]
    fn check(files: &[&str], glob: &str, found: &[&str]) {
        let folder = tree(files);
        let yaml =
            format!("[{{id: a, type: file, paths: ['{0}/{glob}'], exclude: ['{0}/out']}}]", folder.path().display());
        let configs: Vec<InputConfig> = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
        let listing = scan(&Arc::new(crate::config::parted(crate::config::inputs(&configs).expect("valid")).0));
        let paths = listing.files.iter().map(|seen| seen.path.strip_prefix(folder.path()).expect("below").to_owned());
        let paths: Vec<_> = paths.collect();
        let glob = Glob::new(&format!("{}/{glob}", folder.path().display())).expect("compiles");
        let kept = files
            .iter()
            .map(|file| folder.path().join(file))
            .filter(|path| !path.starts_with(folder.path().join("out")));
        let matching: BTreeSet<_> = kept.filter(|path| glob.is_match(path)).collect();
        assert!(matching.iter().eq(listing.files.iter().map(|seen| &seen.path)), "what is found is what matches");
        assert_eq!(paths, found.iter().map(PathBuf::from).collect::<Vec<_>>());
    }

    #[test]
    fn globs_match_at_every_level() {
        let files = ["a.log", "b.txt", "x/a.log", "x/y/a.log", "x/y/z/a.log", "w/a.log"];
        check(&files, "a.log", &["a.log"]);
        check(&files, "*.log", &["a.log"]);
        check(&files, "?.txt", &["b.txt"]);
        check(&files, "*/a.log", &["w/a.log", "x/a.log"]);
        check(&files, "{w,x}/*.log", &["w/a.log", "x/a.log"]);
        check(&files, "**/a.log", &["a.log", "w/a.log", "x/a.log", "x/y/a.log", "x/y/z/a.log"]);
        check(&files, "x/**/a.log", &["x/a.log", "x/y/a.log", "x/y/z/a.log"]);
        check(&files, "[ab].*", &["a.log", "b.txt"]);
        check(&files, "missing/*.log", &[]);
        check(&["out/a.log", "in/out/a.log"], "**/*.log", &["in/out/a.log"]); // A folder that is left out is not entered.
    }

    #[test]
    fn globs_that_cannot_work_are_refused() {
        for (glob, reason) in [("logs/*", "absolute"), ("/a/../b", "\"..\""), ("/a/**", "ends with"), ("/a[", "/a[")] {
            let error = format!("{:#}", Glob::new(glob).expect_err("is refused"));
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_renamed_file_is_found_by_its_inode_and_a_missing_one_is_proved_missing() {
        let folder = tree(&["a.log"]);
        let inode = Inode::of(&fs::metadata(folder.path().join("a.log")).expect("is there"));
        fs::rename(folder.path().join("a.log"), folder.path().join("a.log.1")).expect("renamed");
        let found = find_inode(folder.path(), &inode).expect("readable");
        assert_eq!(found, Some(folder.path().join("a.log.1")));
        let other = Inode { number: u64::MAX, ..inode };
        assert_eq!(find_inode(folder.path(), &other).expect("readable"), None);
        assert!(find_inode(&folder.path().join("a.log.1"), &inode).is_err(), "could not look");
    }
}
