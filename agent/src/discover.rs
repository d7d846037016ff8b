//! Globs and change notifications → listings of files to follow.
//!
//! The periodic scan is the truth; a notification only makes the next scan or the next look come sooner. A folder that
//! could not be read is said, and its files are not taken for deleted: a listing only ever tells what is there.

mod near;
#[cfg(test)]
mod races;
mod watch;

pub(crate) use near::{Fails, Near};

use crate::config::FileInput;
use crate::follow::{Links, Sighting};
use crate::identity::Inode;
use anyhow::{Context as _, bail};
use globset::{GlobBuilder, GlobMatcher};
use service::clock::monotonic;
use service::stop::Stop;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::{self, DirEntry, Metadata, ReadDir};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use watch::{Signals, Watches};

/// How deep `**` looks.
const DEPTH_MAX: usize = 32;
/// Notifications within this time make one scan.
const RESCAN_PAUSE: Duration = Duration::from_millis(50);
/// A scan of very many files takes its time: the next one waits so many times as long, so that scanning costs a fixed share
/// of a core (0.25 %, and what the tail stage does with the listing less than that again) while nothing changes and
/// notifications tell what does …
const IDLE_REST: u32 = 400;
/// … so many times as long while files grow, or where a folder cannot be watched (2 %) …
const BUSY_REST: u32 = 50;
/// … and so many times as long after a notification of a new file (5 %).
const RESCAN_REST: u32 = 20;
/// … and never longer than this, however slow the disk.
const REST_MAX: Duration = Duration::from_secs(60);
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
        let mut walk = Walk { input, index, files: &mut listing.files, folders: &mut listing.folders };
        for glob in &input.globs {
            walk.visit(PathBuf::new(), &glob.parts, 0);
        }
    }
    // As bytes: comparing paths name by name costs more than looking at the files.
    listing.files.sort_unstable_by(|a, b| (a.input, a.path.as_os_str()).cmp(&(b.input, b.path.as_os_str())));
    listing.files.dedup_by(|a, b| a.input == b.input && a.path.as_os_str() == b.path.as_os_str()); // Found by several globs.
    listing
}

/// One input's way through the folders.
struct Walk<'a> {
    input: &'a FileInput,
    index: usize,
    files: &'a mut Vec<Seen>,
    /// Folders that were read.
    folders: &'a mut BTreeSet<PathBuf>,
}

impl Walk<'_> {
    fn visit(&mut self, at: PathBuf, parts: &[Part], depth: usize) {
        if self.input.exclude.is_match(&at) {
            return; // A file that is left out, or a folder: then nothing in it is looked at.
        }
        let Some((part, rest)) = parts.split_first() else {
            let found = self.metadata(&at);
            return self.add(at, found);
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
                let mut folders = Vec::new();
                for entry in self.entries(&at).into_iter().flatten().flatten() {
                    match pattern.is_match(entry.file_name()) {
                        true if rest.is_empty() => self.find(&entry),
                        true if self.is_folder(&entry) => folders.push(entry.path()),
                        _ => {}
                    }
                }
                folders.into_iter().for_each(|folder| self.visit(folder, rest, depth));
            }
            Part::Folders => {
                self.visit(at.clone(), rest, depth);
                if depth < DEPTH_MAX {
                    // Below "**" a link to a folder is not followed: it may lead in a circle.
                    let is_folder = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
                    let entries = self.entries(&at).into_iter().flatten().flatten();
                    let folders: Vec<_> = entries.filter(is_folder).map(|entry| entry.path()).collect();
                    folders.into_iter().for_each(|folder| self.visit(folder, parts, depth + 1));
                }
            }
        }
    }

    /// A file whose name matches to the end.
    fn find(&mut self, entry: &DirEntry) {
        let path = entry.path();
        if self.input.exclude.is_match(&path) {
            return;
        }
        let found = match self.input.links {
            Links::Refused => entry.metadata(), // By name in the open folder, which costs less than by path.
            Links::Followed => self.metadata(&path),
        };
        self.add(path, found);
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        match self.input.links {
            Links::Refused => fs::symlink_metadata(path),
            Links::Followed => fs::metadata(path),
        }
    }

    fn add(&mut self, path: PathBuf, found: io::Result<Metadata>) {
        match found {
            Ok(found) if found.is_file() => {
                let (inode, sighting) = (Inode::of(&found), Sighting::of(&found));
                self.files.push(Seen { input: self.index, path, inode, sighting });
            }
            Ok(_) => {} // Folders, symbolic links, pipes, devices.
            Err(error) => cannot_look(&path, &error),
        }
    }

    fn entries(&mut self, folder: &Path) -> Option<ReadDir> {
        self.folders.insert(folder.to_owned());
        fs::read_dir(folder).inspect_err(|error| cannot_look(folder, error)).ok()
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
    reloads: tokio::sync::watch::Receiver<Arc<Vec<FileInput>>>,
    touched: Touched,
    output: mpsc::Sender<Listing>,
    stop: Stop,
) {
    run_with(true, reloads, touched, output, stop).await;
}

/// The same, without notifications if `is_watched` is false.
pub(crate) async fn run_with(
    is_watched: bool,
    mut reloads: tokio::sync::watch::Receiver<Arc<Vec<FileInput>>>,
    touched: Touched,
    output: mpsc::Sender<Listing>,
    stop: Stop,
) {
    let signals = Arc::new(Signals::default());
    let mut watches = Watches::new(is_watched, touched, signals.clone());
    let (mut last_seen, mut inputs) = (0, reloads.borrow_and_update().clone());
    while !stop.is_stopped() {
        let before = std::mem::replace(&mut inputs, reloads.borrow_and_update().clone());
        // An input that goes looks once more: what has come since its last scan is read out too.
        if !Arc::ptr_eq(&before, &inputs) && output.send(scan(&before)).await.is_err() {
            return; // Tailing has ended.
        }
        let interval = inputs.iter().map(|input| input.scan_interval).min().unwrap_or(Duration::from_secs(1));
        // A listing is made when the one before was taken: no more than two are in memory, and none is old when it is used.
        let Ok(place) = output.reserve().await else { return }; // Tailing has ended.
        let begun = monotonic();
        let mut listing = scan(&inputs);
        let took = begun.elapsed();
        let seen = listing.fingerprint();
        let is_same = std::mem::replace(&mut last_seen, seen) == seen;
        watches.follow(std::mem::take(&mut listing.folders), monotonic());
        place.send(listing);
        let next_scan = tokio::time::sleep(rest(interval, took, is_same && watches.is_complete()));
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
                () = signals.busy.notified() => {
                    watches.unwatch_busy(&signals.take_busy(), monotonic());
                    // What else begins to grow in such a folder is told no longer: the scan has to see it.
                    let sooner = begun + rest(interval, took, false);
                    if sooner < next_scan.deadline().into_std() {
                        next_scan.as_mut().reset(sooner.into());
                    }
                }
            }
        }
    }
}

/// How long to wait for the next scan, if nothing is told: the price of a scan of very many files is spread over time.
fn rest(interval: Duration, took: Duration, is_quiet: bool) -> Duration {
    interval.max((took * if is_quiet { IDLE_REST } else { BUSY_REST }).min(REST_MAX))
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
    fn scans_of_many_files_rest_in_proportion_and_never_longer_than_a_minute() {
        let (second, took) = (Duration::from_secs(1), Duration::from_millis(100));
        assert_eq!(rest(second, took / 1_000, true), second, "few files: the interval");
        assert_eq!(rest(second, took, true), second * 40);
        assert_eq!(rest(second, took, false), second * 5, "something grows, or is not watched");
        assert_eq!(rest(second, took * 20, true), second * 60);
        assert_eq!(rest(second * 90, took * 20, true), second * 90, "as configured");
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
