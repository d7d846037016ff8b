//! An application that logs: many files at a steady rate, renamed while it writes, never a line torn over two files.

use crate::lines::Recipe;
use crate::wait;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How the lines come.
#[derive(Debug, Clone)]
pub struct Load {
    /// What the lines are.
    pub recipe: Recipe,
    /// Folder of the files `app-00.log`, `app-00.log.1` …
    pub folder: PathBuf,
    /// How many files are written at once.
    pub files: usize,
    /// Lines in all, over all files.
    pub lines: u64,
    /// Lines a second, over all files; 0 for as fast as the disk takes them.
    pub rate: u64,
    /// How often each file is renamed, at moments spread over the run.
    pub renames: u64,
}

/// How many lines each file's life got: `03-1` → 3,400, numbered from 0.
pub type Written = BTreeMap<String, u64>;

/// A load that is being written by its own thread.
#[derive(Debug)]
pub struct Writer {
    thread: Option<JoinHandle<Result<Written>>>,
    lines: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    /// Starts to write. Prints the seed.
    pub fn start(load: Load) -> Self {
        let (lines, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        eprintln!(
            "load {}: seed {}, {} lines over {} files at {}/s, {} renames each",
            load.recipe.run, load.recipe.seed, load.lines, load.files, load.rate, load.renames
        );
        let (count, end) = (lines.clone(), stop.clone());
        let thread = std::thread::spawn(move || write(&load, &count, &end));
        Self { thread: Some(thread), lines, stop }
    }

    /// Lines written up to now, over all files.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Acquire)
    }

    /// True once all lines are written.
    pub fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end and returns what was written.
    pub fn finish(mut self) -> Result<Written> {
        let thread = self.thread.take().context("the writer was already finished")?;
        thread.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    }

    /// Ends the load early, at a line's end, and returns what was written.
    pub fn end(self) -> Result<Written> {
        self.stop.store(true, Ordering::Release);
        self.finish()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Writes a whole load at once, at full speed, in this thread.
pub fn write_now(load: &Load) -> Result<Written> {
    write(&Load { rate: 0, ..load.clone() }, &AtomicU64::new(0), &AtomicBool::new(false))
}

/// One log file and its life.
struct Log {
    index: usize,
    path: PathBuf,
    life: u64,
    seq: u64,
    /// Line counts at which it is renamed, in falling order.
    renames: Vec<u64>,
    written: u64,
    file: File,
    /// The renamed file, written to until the application opens the new one.
    linger: u64,
    /// The second half of a line whose first half has been written.
    rest: Vec<u8>,
}

impl Log {
    fn name(&self) -> String {
        format!("{:02}-{}", self.index, self.life)
    }
}

fn write(load: &Load, lines: &AtomicU64, stop: &AtomicBool) -> Result<Written> {
    fs::create_dir_all(&load.folder).with_context(|| format!("making {}", load.folder.display()))?;
    let mut rng = fastrand::Rng::with_seed(load.recipe.seed);
    let mut logs = (0..load.files).map(|index| open(load, index, &mut rng)).collect::<Result<Vec<_>>>()?;
    let mut written = Written::new();
    let (begun, mut total) = (wait::now(), 0);
    while total < load.lines && !stop.load(Ordering::Acquire) {
        let due = due(load, begun.elapsed());
        while total < due.min(load.lines) {
            let index = usize::try_from(total % load.files as u64)?;
            step(load, &mut logs[index], &mut written, &mut rng)?;
            total += 1;
        }
        lines.store(total, Ordering::Release);
        if load.rate > 0 {
            std::thread::sleep(Duration::from_millis(5)); // The pace of the load, not a wait.
        }
    }
    for log in &mut logs {
        log.file.write_all(&log.rest)?;
        written.insert(log.name(), log.seq);
    }
    Ok(written)
}

fn due(load: &Load, elapsed: Duration) -> u64 {
    if load.rate == 0 {
        return load.lines;
    }
    u64::try_from(elapsed.as_micros() * u128::from(load.rate) / 1_000_000).unwrap_or(u64::MAX)
}

fn open(load: &Load, index: usize, rng: &mut fastrand::Rng) -> Result<Log> {
    let path = load.folder.join(format!("app-{index:02}.log"));
    let share = load.lines / load.files as u64;
    let mut renames: Vec<u64> =
        (1..=load.renames).map(|n| share * n / (load.renames + 1) + rng.u64(0..=share / 10)).collect();
    renames.reverse();
    let file = append(&path)?;
    Ok(Log { index, path, life: 0, seq: 0, renames, written: 0, file, linger: 0, rest: Vec::new() })
}

/// Writes the next line of `log`; renames first, or opens the new file, when it is time.
fn step(load: &Load, log: &mut Log, written: &mut Written, rng: &mut fastrand::Rng) -> Result<()> {
    if log.linger > 0 {
        log.linger -= 1;
        if log.linger == 0 {
            reopen(log, written)?;
        }
    } else if log.renames.last().is_some_and(|&at| log.written >= at) {
        log.renames.pop();
        shift(&log.path)?;
        log.linger = rng.u64(0..40); // As an application that has not yet heard of the rename.
        if log.linger == 0 {
            reopen(log, written)?;
        }
    }
    let mut bytes = std::mem::take(&mut log.rest);
    bytes.extend_from_slice(load.recipe.line(&log.name(), log.seq).as_bytes());
    bytes.push(b'\n');
    // One line in eight reaches the file in two writes, cut anywhere, as stdio buffers cut it.
    if rng.u32(0..8) == 0 {
        log.rest = bytes.split_off(rng.usize(1..bytes.len()));
    }
    log.file.write_all(&bytes).with_context(|| format!("writing {}", log.path.display()))?;
    log.seq += 1;
    log.written += 1;
    Ok(())
}

/// `app.log.1` → `app.log.2`, `app.log` → `app.log.1`.
fn shift(path: &Path) -> Result<()> {
    let old = |n: u64| PathBuf::from(format!("{}.{n}", path.display()));
    let last = (1..).find(|&n| !old(n).exists()).unwrap_or(1);
    for n in (1..last).rev() {
        fs::rename(old(n), old(n + 1)).with_context(|| format!("renaming {}", old(n).display()))?;
    }
    fs::rename(path, old(1)).with_context(|| format!("renaming {}", path.display()))
}

fn reopen(log: &mut Log, written: &mut Written) -> Result<()> {
    log.file.write_all(&std::mem::take(&mut log.rest))?;
    written.insert(log.name(), log.seq);
    log.file = append(&log.path)?;
    log.life += 1;
    log.seq = 0;
    Ok(())
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("opening {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{self, Copy};
    use crate::lines::Read;

    fn load(folder: &Path) -> Load {
        let recipe = Recipe::new("w", 3);
        Load { recipe, folder: folder.to_owned(), files: 3, lines: 3_000, rate: 0, renames: 2 }
    }

    fn all_lines(folder: &Path) -> Vec<(PathBuf, String)> {
        let mut paths: Vec<_> =
            fs::read_dir(folder).expect("the folder").map(|e| e.expect("an entry").path()).collect();
        paths.sort();
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).expect("the file is UTF-8");
            assert!(text.ends_with('\n'), "{} ends inside a line", path.display());
            text.lines().map(|line| (path.clone(), line.to_owned())).collect::<Vec<_>>()
        };
        paths.into_iter().flat_map(read).collect()
    }

    #[test]
    fn renamed_files_hold_every_line_once_and_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let load = load(folder.path());
        let written = write_now(&load).expect("the load is written");
        let lines = all_lines(folder.path());
        assert_eq!(written.len(), 9, "three files, two renames each: {written:?}");
        assert_eq!(written.values().sum::<u64>(), 3_000);
        let copies: Vec<_> = lines.iter().map(|(_, line)| Copy::document(&load.recipe, line)).collect();
        assert!(audit::documents(&written, &copies).is_clean());
    }

    #[test]
    fn one_file_holds_one_life_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let load = load(folder.path());
        write_now(&load).expect("the load is written");
        let mut next: BTreeMap<PathBuf, (String, u64)> = BTreeMap::new();
        for (path, line) in all_lines(folder.path()) {
            let Read::Whole(name) = load.recipe.read(&line) else { panic!("damaged line in {}", path.display()) };
            let (life, seq) = next.entry(path).or_insert_with(|| (name.file.clone(), 0));
            assert_eq!((&*life, *seq), (&name.file, name.seq));
            *seq += 1;
        }
    }

    #[test]
    fn the_same_seed_writes_the_same_bytes() {
        let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        write_now(&load(one.path())).expect("the load is written");
        write_now(&load(two.path())).expect("the load is written");
        let bytes = |at: &Path| all_lines(at).into_iter().map(|(_, line)| line).collect::<Vec<_>>();
        assert_eq!(bytes(one.path()), bytes(two.path()));
    }
}
