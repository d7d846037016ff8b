//! Random histories of files and of the agent, against what was written: nothing is lost that could be read, nothing is
//! made up, every line has one id.
//!
//! A history is made from a seed and run in one thread: real files, the real stages, and no time but what a step lets pass.
//! `TAILRACE_SEEDS=N` runs more of them, `TAILRACE_SEED=S` runs one again and tells its steps.

mod audit;
mod disk;
mod holds;
mod process;
mod writers;

use crate::checkpoint::Saved;
use crate::commit::Control;
use crate::config::{AgentConfig, CheckedInput, files_of};
use crate::follow::{Links, open};
use crate::identity::{Likeness, compare, incarnation};
use audit::{Audit, Held};
use disk::{Disk, folder, is_matched};
use fastrand::Rng;
use process::Process;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Histories of an ordinary run, and of `make test-full`.
const SEEDS: u64 = 2_000;
const SEEDS_FULL: u64 = 50_000;
/// Polls after which a stage that is still not waiting for anything runs in a circle.
const POLLS_MAX: usize = 20_000;
/// Listings after which all must be read.
const ROUNDS_MAX: usize = 200;
/// Every so many seeds the files are on a file system that gives an inode's number to the next file.
const REUSING_SEEDS: u64 = 4;
const NAMES: [&str; 6] =
    ["logs/a.log", "logs/b.log", "logs/c.log", "logs/sub/a.log", "logs/sub/b.log", "logs/sub/c.log"];

type Result<T = ()> = std::result::Result<T, String>;
type Step = (u32, &'static str, fn(&mut World) -> Result);

/// What may happen: how often, and what it is. A step that does not fit the moment does nothing.
const STEPS: &[Step] = &[
    (30, "append", World::append),
    (6, "copytruncate", World::copytruncate),
    (5, "delete", World::delete),
    (4, "delete and recreate", World::recreate),
    (12, "give back", World::give_back),
    (2, "let go of the checkpoint", World::lose_checkpoint),
    (3, "link", World::link),
    (25, "list", World::list),
    (8, "kill", World::kill),
    (4, "move", World::move_),
    (3, "move out", World::move_out),
    (8, "notify", World::notify),
    (20, "output", World::output),
    (10, "pass time", World::pass_time),
    (4, "overtake", World::overtake),
    (20, "poll", World::poll),
    (7, "rotate", World::rotate),
    (5, "rotate and compress", World::rotate_and_compress),
    (10, "settle", World::settle),
    (4, "shorten", World::shorten),
    (8, "start", World::start),
    (3, "stop", World::stop),
    (6, "truncate and regrow", World::regrow),
    (3, "write behind a hole", World::write_behind_hole),
];

struct World {
    rng: Rng,
    _folders: [tempfile::TempDir; 2],
    disk: Disk,
    config: AgentConfig,
    groups_max: usize,
    runtime: Arc<tokio::runtime::Runtime>,
    process: Option<Process>,
    /// What the last listing showed that the agent has not taken yet.
    shown: Option<Vec<(PathBuf, u64)>>,
    /// What the checkpoint held when the agent started, until its first listing is taken.
    loaded: Option<Vec<Saved>>,
    /// Files that the agent follows in this life, and the folder in which it saw them last.
    followed: BTreeMap<usize, String>,
    /// Files that the agent held open when their last name was deleted.
    held_open: BTreeSet<usize>,
    held: Vec<Held>,
    /// Of four groups that the output may settle, so many are settled at once.
    haste: u8,
    audit: Audit,
    /// All that could be read is delivered, and nothing was given back since the agent started.
    is_settled: bool,
    /// The last life of the agent ended so.
    is_orderly: bool,
    /// Inodes that stood in a checkpoint that is lost, or had another name: their packed copies may get other ids.
    forgotten: BTreeSet<u64>,
    /// Inodes that had another name: of those below 1 KiB a packed copy may not be known for one.
    renamed: BTreeSet<u64>,
    /// Old ends of truncated files, at which a writer may go on who was not told.
    stale_ends: BTreeMap<String, u64>,
    told: Vec<String>,
}

#[test]
fn any_history_delivers_what_can_be_read() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("TAILRACE_SEED") {
        return run(seed).map_or_else(|failure| panic!("seed {seed}: {failure}"), |_| ());
    }
    let (mut lines, mut failures) = (0, Vec::new());
    let is_full = std::env::var_os("TAILRACE_TEST_FULL").is_some();
    let seeds = number("TAILRACE_SEEDS").unwrap_or(if is_full { SEEDS_FULL } else { SEEDS });
    for seed in 0..seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(Ok(received)) => lines += received,
            Ok(Err(failure)) => failures.push(format!("seed {seed}: {failure}")),
            Err(_) => failures.push(format!("seed {seed}: panicked")),
        }
    }
    assert!(failures.is_empty(), "{} failed\n{}", failures.len(), failures.join("\n"));
    assert!(lines > 0, "no history delivered anything");
}

/// Runs the history of a seed; returns how many lines were received.
fn run(seed: u64) -> Result<u64> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = Arc::new(builder.enable_time().start_paused(true).build().expect("a runtime"));
    let _entered = runtime.enter();
    let mut world = World::new(seed, runtime.clone());
    let result = world.history();
    if std::env::var_os("TAILRACE_SEED").is_some() {
        eprintln!("{}", world.told.join("\n"));
    }
    result.map(|()| world.audit.received)
}

impl World {
    fn new(seed: u64, runtime: Arc<tokio::runtime::Runtime>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() && !seed.is_multiple_of(REUSING_SEEDS) {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let folder = folder.expect("a temporary folder");
        let root = folder.path().join("root");
        let state = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let state = state.expect("a temporary folder");
        let yaml = format!("[{{id: a, type: file, paths: ['{}/logs/**/*.log']}}]", root.display());
        let mut inputs = files_of(&yaml);
        let input = &mut inputs[0];
        input.line_bytes_max = if rng.bool() { 64 } else { 512 * 1024 };
        input.harvester_limit = Some(rng.usize(1..4)).filter(|_| rng.u8(0..3) == 0);
        input.close_inactive = if rng.u8(0..3) == 0 { Duration::ZERO } else { Duration::from_secs(3_600) };
        let haste = rng.u8(0..5);
        let memory = if rng.u8(0..4) == 0 { rng.usize(1..5_000) } else { 1 << 26 };
        let disk = Disk::new(root, input.line_bytes_max, rng.u8(0..20) == 0);
        let (groups_max, told) =
            (rng.usize(1..3), vec![format!("{:?} {:?}", input.harvester_limit, input.close_inactive)]);
        let config = AgentConfig {
            name: "web-01".to_owned(),
            state_dir: state.path().to_owned(),
            memory,
            inputs: inputs.into_iter().map(|input| CheckedInput::File(Box::new(input))).collect(),
            drain_timeout: Duration::ZERO,
            agents: 1,
        };
        Self {
            rng,
            _folders: [folder, state],
            disk,
            config,
            groups_max,
            runtime,
            process: None,
            shown: None,
            loaded: None,
            followed: BTreeMap::new(),
            held_open: BTreeSet::new(),
            held: Vec::new(),
            haste,
            audit: Audit::default(),
            is_settled: false,
            is_orderly: false,
            forgotten: BTreeSet::new(),
            renamed: BTreeSet::new(),
            stale_ends: BTreeMap::new(),
            told,
        }
    }

    fn history(&mut self) -> Result {
        let weights: u32 = STEPS.iter().map(|step| step.0).sum();
        if self.rng.u8(0..4) > 0 {
            self.start()?;
        }
        for _ in 0..self.rng.usize(10..40) {
            let mut at = self.rng.u32(0..weights);
            let chosen = STEPS.iter().find(|step| {
                let is_it = at < step.0;
                at = at.saturating_sub(step.0);
                is_it
            });
            let Some((_, name, step)) = chosen else { continue };
            self.told.push((*name).to_owned());
            step(self)?;
            self.check_counts()?;
        }
        self.settle()?;
        self.stop()?;
        self.settle()?; // Everything stands in the checkpoint: nothing comes again.
        self.audit.check_ids()
    }

    fn tell(&mut self, what: impl std::fmt::Display) {
        self.told.push(format!("    {what}"));
    }

    // What happens to the agent.

    fn start(&mut self) -> Result {
        if self.process.is_some() {
            return Ok(());
        }
        let (process, loaded) = Process::start(self.config.clone(), self.groups_max);
        let loaded: Vec<_> = loaded.files.into_values().collect();
        for saved in &loaded {
            self.tell(format!("known: {} {} at {}", saved.path, saved.incarnation, saved.progress.offset));
        }
        // What an earlier life shipped of a file without living to write its entry cannot be told from its packed copy.
        let is_known = |number: u64| loaded.iter().any(|saved| saved.inode.number == number);
        let unknown = self.disk.packed_files().filter(|number| !is_known(*number) && self.audit.has_received(*number));
        self.audit.renamed_lives.extend(unknown.collect::<Vec<_>>());
        self.audit.start(&self.disk, &loaded, std::mem::take(&mut self.is_orderly))?;
        self.process = Some(process);
        self.loaded = Some(loaded);
        Ok(())
    }

    fn end(&mut self) {
        self.followed.clear();
        self.held_open.clear();
        (self.shown, self.loaded, self.is_settled) = (None, None, false);
    }

    fn kill(&mut self) -> Result {
        if let Some(process) = self.process.take() {
            process.kill();
            self.held.clear();
            self.end();
        }
        Ok(())
    }

    /// An orderly end: what was read is settled or given back, then the checkpoint is written.
    fn stop(&mut self) -> Result {
        let Some(process) = &self.process else { return Ok(()) };
        process.stop();
        self.quiet()?;
        while self.take()? {
            self.quiet()?;
        }
        self.is_orderly = self.is_settled;
        for held in std::mem::take(&mut self.held) {
            if self.rng.u8(0..4) > 0 {
                self.audit.settle(held);
            } else {
                self.is_orderly = false;
            }
        }
        self.quiet()?;
        if let Some(process) = self.process.take() {
            let metrics = process.metrics.clone();
            self.is_orderly &= metrics.returned.get() == 0;
            process.join();
        }
        self.end();
        Ok(())
    }

    fn lose_checkpoint(&mut self) -> Result {
        if self.process.is_some() {
            return Ok(());
        }
        let kept = self.rng.bool(); // Only the newest generation, or all.
        let entries = fs::read_dir(&self.config.state_dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut generations: Vec<_> =
            entries.filter(|path| path.file_name().is_some_and(|name| name != "lock")).collect();
        generations.sort_by_key(|path| path.extension().and_then(|number| number.to_str()?.parse::<u64>().ok()));
        for path in generations.iter().rev().take(if kept { 1 } else { usize::MAX }) {
            fs::remove_file(path).expect("removed");
        }
        for file in self.disk.files.iter().filter(|file| file.lives.len() > 1) {
            self.audit.renamed_lives.insert(file.number);
        }
        self.forgotten.extend(self.disk.files.iter().map(|file| file.number));
        self.audit.renamed_lives.extend(self.disk.packed_files());
        self.is_orderly = false;
        Ok(())
    }

    /// Shows the agent the folder, and perhaps lets something happen before it looks.
    fn list(&mut self) -> Result {
        let Some(process) = &self.process else { return Ok(()) };
        if let Some(shown) = process.list() {
            self.shown = Some(shown);
        }
        if self.rng.u8(0..3) > 0 { self.quiet() } else { Ok(()) }
    }

    /// A notification, and perhaps the pause that follows it.
    fn notify(&mut self) -> Result {
        let Some(name) = self.any_name(|_| true) else { return Ok(()) };
        if let Some(process) = &self.process {
            process.notify(self.disk.path(&name));
            if self.rng.bool() {
                self.quiet()?;
                self.pass(Duration::from_millis(10));
                self.quiet()?;
            }
        }
        Ok(())
    }

    fn poll(&mut self) -> Result {
        for _ in 0..self.rng.usize(1..5) {
            self.poll_once();
        }
        Ok(())
    }

    fn pass_time(&mut self) -> Result {
        let time = Duration::from_millis([10, 100, 1_000][self.rng.usize(0..3)]);
        self.pass(time);
        if self.rng.bool() { self.quiet() } else { Ok(()) }
    }

    fn pass(&mut self, time: Duration) {
        self.runtime.block_on(tokio::time::advance(time));
    }

    /// The output takes some groups, and settles some of what it holds.
    fn output(&mut self) -> Result {
        for _ in 0..self.rng.usize(1..4) {
            self.take()?;
            if !self.held.is_empty() && self.rng.u8(0..4) < self.haste {
                let held = self.held.swap_remove(self.rng.usize(0..self.held.len()));
                self.audit.settle(held);
            }
            self.quiet()?;
        }
        Ok(())
    }

    /// One file's groups come one by one; the last is settled first, and the checkpoint is written.
    fn overtake(&mut self) -> Result {
        let Some(name) = self.any_name(is_matched) else { return Ok(()) };
        for _ in 0..3 {
            self.write(&name)?;
            self.list()?;
            self.quiet()?;
            self.take()?;
        }
        if let Some(last) = self.held.pop() {
            self.audit.settle(last);
        }
        self.quiet()?;
        self.pass(Duration::from_secs(1));
        self.quiet()?;
        if self.rng.bool() { self.kill() } else { Ok(()) }
    }

    /// The output gives back one group, and with it what it holds of the same file, or not yet.
    fn give_back(&mut self) -> Result {
        self.take()?;
        if !self.held.is_empty() {
            let held = self.held.swap_remove(self.rng.usize(0..self.held.len()));
            self.tell(format!("{held:?}"));
            drop(held);
        }
        if self.rng.bool() { self.quiet() } else { Ok(()) }
    }

    /// Takes one group, if there is one.
    fn take(&mut self) -> Result<bool> {
        let Some(Ok(group)) = self.process.as_mut().map(|process| process.groups.try_recv()) else { return Ok(false) };
        self.told.push(format!(
            "    read {} {} epoch {}, {} lines from {}, reread {}",
            group.source.path,
            group.source.incarnation,
            group.epoch,
            group.records.len(),
            group.records[0].offset,
            group.reread
        ));
        self.held.push(self.audit.receive(&self.disk, group)?);
        Ok(true)
    }

    /// One poll of each stage. False if there was nothing to do.
    fn poll_once(&mut self) -> bool {
        let Some(process) = &mut self.process else { return false };
        let audit = &mut self.audit;
        let has_done = process.step(|told| {
            if let Control::Open { saved, source, .. } = told {
                audit.open(saved, source.stream);
            }
        });
        if process.has_taken_listing() {
            self.note_followed();
        }
        has_done
    }

    /// Polls until all stages wait for something.
    fn quiet(&mut self) -> Result {
        for _ in 0..POLLS_MAX {
            if !self.poll_once() {
                return Ok(());
            }
        }
        Err("the stages run in a circle".to_owned())
    }

    /// A listing was taken: from here on the agent follows what it showed.
    fn note_followed(&mut self) {
        let Some(shown) = self.shown.take() else { return };
        // Backwards: of several names the first is the one under which the agent knows it.
        for (path, number) in shown.into_iter().rev() {
            let name = path.strip_prefix(&self.disk.root).expect("below the root").to_string_lossy().into_owned();
            if let Some(file) = self.disk.names.get(&name).filter(|file| self.disk.files[**file].number == number) {
                self.followed.insert(*file, folder(&name));
            } else if let Some((_, seen_in)) =
                self.followed.iter_mut().find(|(at, _)| self.disk.files[**at].number == number)
            {
                *seen_in = folder(&name); // That link is gone since, and the agent looks for the others where it was.
            }
        }
        // Its first listing: it looks for renamed files, each in the folder in which it was seen first.
        for saved in self.loaded.take().into_iter().flatten() {
            let found = self.disk.names.iter().find(|(name, file)| {
                self.disk.files[**file].number == saved.inode.number
                    && Some(self.disk.path(name).as_path().parent()) == Some(Path::new(&*saved.path).parent())
                    && is_known(&self.disk.path(name), &saved)
            });
            if let Some((name, file)) = found {
                self.followed.insert(*file, folder(name));
            }
        }
    }
}

/// True if the file at `path` is what an entry of the checkpoint tells of, so that it is found again under another name.
fn is_known(path: &Path, saved: &Saved) -> bool {
    let Ok((file, inode)) = open(path, Links::Refused) else { return false };
    if !inode.may_be(&saved.inode) || saved.is_truncated {
        return false; // Of a later life the entry knows nothing: only a name that a glob matches leads to it.
    }
    if saved.progress.offset == 0 {
        let yaml = "[{id: a, type: file, paths: [/a]}]";
        let decoder = &files_of(yaml)[0].recipe.decoder;
        let found = incarnation(&file, "web-01", &saved.inode, saved.generation, decoder);
        return found.ok().flatten() == Some(saved.incarnation);
    }
    compare(&file, saved.progress.offset, &saved.progress.anchor).is_ok_and(|likeness| likeness != Likeness::Other)
}
