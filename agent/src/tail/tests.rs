//! Listings in, groups out, over real files: a rename must cost no line.

use super::*;
use crate::config::{CheckedInput, InputConfig, inputs};
use crate::discover::scan;
use crate::follow::{Links, open};
use event::Incarnation;
use service::metrics::Registry;
use service::stop::Trigger;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use tokio::sync::mpsc;

mod cuts;
mod deadlines;
mod nasty;
mod old;
mod seen;

/// Longest wait for lines that should be there at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// Many chunks, so that a file is renamed long before its end is read.
const LINES: usize = 60_000;

/// The stage on `*.log` of a folder; what it tells the ledger is kept and not looked at.
struct Bench {
    folder: tempfile::TempDir,
    inputs: Arc<Vec<FileInput>>,
    listings: Sender<Listing>,
    groups: Receiver<Group>,
    metrics: AgentMetrics,
    board: Board,
    touched: Touched,
    _kept: (Receiver<Control>, UnboundedReceiver<Entry>, UnboundedSender<Rewind>, Trigger),
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bench {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), BTreeMap::new())
    }

    /// Starts on a folder, with what a checkpoint knew.
    fn start_in(folder: tempfile::TempDir, files: BTreeMap<Key, Saved>) -> Self {
        Self::start_with(folder, files, |_| ())
    }

    /// The same with an option of the input set.
    #[expect(clippy::disallowed_methods, reason = "settlements, as in lib.rs")]
    fn start_with(folder: tempfile::TempDir, files: BTreeMap<Key, Saved>, option: impl FnOnce(&mut FileInput)) -> Self {
        let yaml = format!("[{{id: a, type: file, paths: ['{}/*.log']}}]", folder.path().display());
        let configs: Vec<InputConfig> = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
        let mut checked = inputs(&configs).expect("valid");
        if let CheckedInput::File(input) = &mut checked[0] {
            option(input);
        }
        let (checked_files, _) = crate::config::parted(checked.clone());
        let (name, state_dir) = ("web-01".to_owned(), folder.path().join("state"));
        let drain_timeout = Duration::from_secs(5);
        let config = AgentConfig { name, state_dir, memory: 1 << 30, inputs: checked, drain_timeout, agents: 1 };
        let inputs = Arc::new(checked_files);
        let (listings, listings_rx) = mpsc::channel(1);
        let (control, mut control_rx) = mpsc::channel(64);
        let (told, told_rx) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Some(mut control) = control_rx.recv().await {
                if let Control::Open { written, .. } = &mut control {
                    written.take().and_then(|written| written.send(()).ok());
                }
                told.send(control).await.ok(); // The test has ended.
            }
        });
        let (ledger, entries) = mpsc::unbounded_channel();
        let (rewinds_tx, rewinds) = mpsc::unbounded_channel();
        let (output, groups) = mpsc::channel(1);
        let (trigger, stop) = Stop::new();
        let touched = Touched::default();
        let wires = Wires {
            listings: listings_rx,
            touched: touched.clone(),
            rewinds,
            control,
            ledger,
            output: output.into(),
            budget: Budget::new(1 << 30),
        };
        let known = Known { first_start: files.is_empty(), files, is_kept: false };
        let (metrics, board) = (AgentMetrics::new(&Registry::default()), Board::default());
        let task = tokio::spawn(run(config, inputs.clone(), known, wires, metrics.clone(), board.clone(), stop));
        let _kept = (told_rx, entries, rewinds_tx, trigger);
        Self { folder, inputs, listings, groups, metrics, board, touched, _kept, task }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Shows the stage the folder as it is now.
    async fn list(&self) {
        self.listings.send(scan(&self.inputs)).await.expect("the stage runs");
    }

    /// Adds the next group to the lines of its stream.
    async fn next(&mut self, lines: &mut BTreeMap<StreamId, Vec<String>>) {
        let group = tokio::time::timeout(PATIENCE, self.groups.recv()).await.expect("a group in time");
        let group = group.expect("the stage runs");
        let texts = group.records.iter().map(|record| String::from_utf8_lossy(group.bytes_of(record)).into_owned());
        lines.entry(group.source.stream).or_default().extend(texts);
        group.ack.settle();
    }

    /// Takes groups, and lists again and again as `discover` does, until `count` lines are there or none come any more.
    async fn read(&mut self, lines: &mut BTreeMap<StreamId, Vec<String>>, count: usize) {
        while lines.values().map(Vec::len).sum::<usize>() < count {
            let deadline = tokio::time::sleep(PATIENCE);
            tokio::pin!(deadline);
            loop {
                let again = tokio::time::sleep(Duration::from_millis(50));
                tokio::select! {
                    biased;
                    () = self.next(lines) => break,
                    () = &mut deadline => return,
                    () = again => {
                        self.listings.try_send(scan(&self.inputs)).ok(); // One that still waits shows the same.
                    }
                }
            }
        }
    }
}

fn numbered(word: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{word} line number {n}")).collect()
}

#[tokio::test]
async fn a_file_renamed_before_its_end_is_read_is_read_to_its_end() {
    let mut bench = Bench::start();
    let (mut old, new) = (numbered("old", LINES), numbered("new", 10));
    fs::write(bench.path("a.log"), old.join("\n") + "\n").expect("written");
    let mut writer = File::options().append(true).open(bench.path("a.log")).expect("opens");
    let mut lines = BTreeMap::new();
    bench.list().await;
    bench.next(&mut lines).await;

    fs::rename(bench.path("a.log"), bench.path("a.log-20261122")).expect("renamed"); // No glob names it any more.
    fs::write(bench.path("a.log"), new.join("\n") + "\n").expect("written");
    bench.list().await;
    bench.read(&mut lines, LINES + new.len()).await;
    // A program that has not been told to open its log anew goes on with the old one.
    writer.write_all(b"late\n").expect("written");
    old.push("late".to_owned());
    bench.read(&mut lines, old.len() + new.len()).await;

    let counts: Vec<_> = lines.values().map(Vec::len).collect();
    assert_eq!(counts, [old.len(), new.len()], "lines of the renamed file and of its successor");
    assert!(lines.into_values().eq([old, new]), "every line once and in order");
}

#[tokio::test]
async fn a_file_deleted_before_its_end_is_read_is_read_to_its_end() {
    let mut bench = Bench::start();
    let old = numbered("old", LINES);
    fs::write(bench.path("a.log"), old.join("\n") + "\n").expect("written");
    let mut lines = BTreeMap::new();
    bench.list().await;
    bench.next(&mut lines).await;
    fs::remove_file(bench.path("a.log")).expect("removed");
    bench.list().await;
    bench.read(&mut lines, LINES).await;
    assert_eq!(lines.values().map(Vec::len).sum::<usize>(), LINES);
    assert!(lines.into_values().eq([old]), "every line once and in order");
}

/// Reads `a.log`, is killed before anything is acknowledged, and starts again with the entry that was written at once.
async fn incarnations_of_two_lives(between: impl FnOnce(&Path)) -> [Incarnation; 2] {
    let mut bench = Bench::start();
    fs::write(bench.path("a.log"), "one\ntwo\n").expect("written");
    bench.list().await;
    let first = bench.groups.recv().await.expect("the stage runs");
    let Some(Control::Open { saved, .. }) = bench._kept.0.recv().await else { panic!("a file is opened first") };
    assert_eq!(saved.progress.offset, 0);
    between(&bench.path("a.log"));
    let folder = std::mem::replace(&mut bench.folder, tempfile::tempdir().expect("a temporary folder"));
    drop(bench);

    let mut bench = Bench::start_in(folder, BTreeMap::from([(saved.key(), saved)]));
    bench.list().await;
    let second = bench.groups.recv().await.expect("the stage runs");
    assert_eq!(second.records[0].offset, 0);
    [first.source.incarnation, second.source.incarnation]
}

#[tokio::test]
async fn a_file_of_which_nothing_is_acknowledged_keeps_its_incarnation() {
    let [first, second] = incarnations_of_two_lives(|_| ()).await;
    assert_eq!(first, second, "its lines may be stored already: other ids would store them twice");
}

#[tokio::test]
async fn a_file_written_anew_before_anything_is_acknowledged_is_another_incarnation() {
    let [first, second] = incarnations_of_two_lives(|path| fs::write(path, "other\n").expect("written")).await;
    assert_ne!(first, second, "its lines would be taken for those already stored");
}

#[tokio::test]
async fn a_new_file_with_the_inode_of_a_closed_and_deleted_one_is_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut bench = Bench::start_with(folder, BTreeMap::new(), |input| input.close_inactive = Duration::ZERO);
    fs::write(bench.path("a.log"), "old\n").expect("written");
    let mut lines = BTreeMap::new();
    bench.list().await;
    bench.read(&mut lines, 1).await;
    bench.list().await;
    bench.list().await; // The first of both closed it, and was taken.
    let old = scan(&bench.inputs).files[0].inode;
    fs::remove_file(bench.path("a.log")).expect("removed");
    fs::write(bench.path("a.log"), "new\n").expect("written");
    bench.list().await;
    bench.read(&mut lines, 2).await;
    let is_reused = scan(&bench.inputs).files[0].inode.number == old.number; // As most file systems do, and tmpfs does not.
    assert!(lines.into_values().eq([["old"], ["new"]]), "inode number reused: {is_reused}");
}

/// A scan may begin before the one before it is worked through: the file that it shows was removed since, and its inode is that
/// of one that is read already.
#[tokio::test]
async fn a_listing_older_than_a_file_does_not_take_its_inode_away() {
    for close_inactive in [Duration::ZERO, Duration::MAX] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut bench = Bench::start_with(folder, BTreeMap::new(), |input| input.close_inactive = close_inactive);
        fs::write(bench.path("a.log"), "one\n").expect("written");
        let mut old = scan(&bench.inputs);
        for seen in &mut old.files {
            seen.inode.birth_ns = seen.inode.birth_ns.map(|birth| birth - 1);
        }
        let mut lines = BTreeMap::new();
        bench.list().await;
        bench.read(&mut lines, 1).await;
        bench.list().await;
        bench.list().await; // The first of both closed it, or not, and was taken.
        bench.listings.send(old).await.expect("the stage runs");
        bench.list().await; // Adopted a second time, it would be read from its start.
        let mut log = File::options().append(true).open(bench.path("a.log")).expect("opens");
        log.write_all(b"two\n").expect("written");
        bench.read(&mut lines, 2).await;
        assert!(lines.into_values().eq([["one", "two"]]), "closed after {close_inactive:?}");
    }
}

#[tokio::test]
async fn a_file_given_back_from_its_start_and_then_written_anew_is_another_incarnation() {
    let mut bench = Bench::start();
    fs::write(bench.path("a.log"), "one\ntwo\n").expect("written");
    bench.list().await;
    let first = bench.groups.recv().await.expect("the stage runs");
    let progress = Progress { offset: 0, anchor: event::Anchor::default() };
    bench._kept.2.send(Rewind { stream: first.source.stream, epoch: 1, progress }).expect("the stage runs");
    fs::write(bench.path("a.log"), "other lines\n").expect("written");
    bench.list().await;
    let second = bench.groups.recv().await.expect("the stage runs");
    assert_ne!(first.source.incarnation, second.source.incarnation);
}

#[tokio::test]
async fn a_file_written_anew_in_the_same_size_and_deleted_before_the_next_listing_is_read() {
    let mut bench = Bench::start();
    fs::write(bench.path("a.log"), "one\n").expect("written");
    let mut lines = BTreeMap::new();
    bench.list().await;
    bench.next(&mut lines).await;
    fs::write(bench.path("a.log"), "two\n").expect("written");
    fs::remove_file(bench.path("a.log")).expect("removed");
    bench.list().await;
    bench.read(&mut lines, 2).await;
    assert!(lines.into_values().eq([["one"], ["two"]]));
}

#[tokio::test]
async fn a_file_older_than_the_agent_that_turns_up_late_is_flagged_as_read_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("a.log.part"), "one\n").expect("written");
    let mut bench = Bench::start_in(folder, BTreeMap::new());
    bench.list().await;
    bench.list().await; // The first was taken.
    fs::rename(bench.path("a.log.part"), bench.path("a.log")).expect("renamed");
    bench.list().await;
    assert!(bench.groups.recv().await.expect("the stage runs").reread, "an earlier life may have read it");
}

/// `a.log` has two lines; the checkpoint has the first, under another name.
fn one_line_was_read_elsewhere() -> Bench {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("a.log"), "one\ntwo\n").expect("written");
    let (file, inode) = open(&folder.path().join("a.log"), Links::Refused).expect("opens");
    let anchor = Edges::read(&file, 4).expect("readable").expect("long enough").anchor();
    let path = folder.path().join("elsewhere/a.log").to_string_lossy().into();
    let saved = Saved::new("a".into(), Incarnation(7), path, inode, Progress { offset: 4, anchor });
    Bench::start_in(folder, BTreeMap::from([(saved.key(), saved)]))
}

#[tokio::test]
async fn a_file_that_is_moved_while_the_agent_looks_for_it_is_read_on() {
    let mut bench = one_line_was_read_elsewhere();
    fs::rename(bench.path("a.log"), bench.path("a")).expect("renamed");
    let meanwhile = scan(&bench.inputs); // Neither where it was nor where it will be.
    fs::rename(bench.path("a"), bench.path("a.log")).expect("renamed");
    bench.listings.send(meanwhile).await.expect("the stage runs");
    bench.list().await;
    let group = bench.groups.recv().await.expect("the stage runs");
    assert_eq!((group.records[0].offset, group.source.incarnation), (4, Incarnation(7)));
}

#[tokio::test]
async fn a_file_that_is_moved_after_listings_were_made_is_read_on() {
    let mut bench = one_line_was_read_elsewhere();
    let before = scan(&bench.inputs);
    fs::rename(bench.path("a.log"), bench.path("b")).expect("renamed");
    let meanwhile = scan(&bench.inputs); // Neither where it was nor where it will be.
    fs::rename(bench.path("b"), bench.path("b.log")).expect("renamed");
    for listing in [before, meanwhile] {
        bench.listings.send(listing).await.expect("the stage runs");
    }
    bench.list().await;
    let group = bench.groups.recv().await.expect("the stage runs");
    assert_eq!((group.records[0].offset, group.source.incarnation), (4, Incarnation(7)));
}
