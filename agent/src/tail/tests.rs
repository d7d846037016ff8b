//! Listings in, groups out, over real files: a rename must cost no line.

use super::*;
use crate::config::{InputConfig, inputs};
use crate::discover::scan;
use event::Incarnation;
use service::metrics::Registry;
use service::stop::Trigger;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use tokio::sync::mpsc;

/// Longest wait for lines that should be there at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// Many chunks, so that a file is renamed long before its end is read.
const LINES: usize = 60_000;

/// The stage on `a.log` of a folder; what it tells the ledger is kept and not looked at.
struct Bench {
    folder: tempfile::TempDir,
    inputs: Arc<Vec<FileInput>>,
    listings: Sender<Listing>,
    groups: Receiver<Group>,
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
    #[expect(clippy::disallowed_methods, reason = "settlements, as in lib.rs")]
    fn start_in(folder: tempfile::TempDir, files: BTreeMap<Key, Saved>) -> Self {
        let yaml = format!("[{{id: a, type: file, paths: ['{}/a.log']}}]", folder.path().display());
        let configs: Vec<InputConfig> = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
        let checked = inputs(&configs).expect("valid");
        let (checked_files, _) = crate::config::parted(checked.clone());
        let (name, state_dir) = ("web-01".to_owned(), folder.path().join("state"));
        let drain_timeout = Duration::from_secs(5);
        let config = AgentConfig { name, state_dir, memory: 1 << 30, inputs: checked, drain_timeout };
        let inputs = Arc::new(checked_files);
        let (listings, listings_rx) = mpsc::channel(1);
        let (control, control_rx) = mpsc::channel(64);
        let (ledger, entries) = mpsc::unbounded_channel();
        let (rewinds_tx, rewinds) = mpsc::unbounded_channel();
        let (output, groups) = mpsc::channel(1);
        let (trigger, stop) = Stop::new();
        let wires = Wires {
            listings: listings_rx,
            touched: Touched::default(),
            rewinds,
            control,
            ledger,
            output,
            budget: Budget::new(1 << 30),
        };
        let known = Known { first_start: files.is_empty(), files };
        let metrics = AgentMetrics::new(&Registry::default());
        let task = tokio::spawn(run(config, inputs.clone(), known, wires, metrics, Board::default(), stop));
        Self { folder, inputs, listings, groups, _kept: (control_rx, entries, rewinds_tx, trigger), task }
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
        let group = self.groups.recv().await.expect("the stage runs");
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
