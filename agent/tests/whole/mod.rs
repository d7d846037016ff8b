//! A whole agent over a folder of the test's own, whose output the test reads.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test file uses a part of it")]

pub mod packing;
pub mod streams;

use agent::{Agent, AgentConfig, AgentMetrics, Board, InputConfig, inputs};
use event::Group;
use service::clock::wall_ms;
use service::health::Health;
use service::metrics::Registry;
use service::stop::{Stop, Trigger};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// Longest wait for what should come at once.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// An agent that runs, and what it puts out.
pub struct Running {
    pub agent: Agent,
    pub groups: mpsc::Receiver<Group>,
    pub trigger: Trigger,
    pub board: Board,
    pub metrics: AgentMetrics,
}

/// Inputs from YAML, in which `DIR` is `folder`.
pub fn checked(folder: &Path, yaml: &str) -> Vec<agent::CheckedInput> {
    let yaml = yaml.replace("DIR", &folder.display().to_string());
    let configs: Vec<InputConfig> = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
    inputs(&configs).expect("valid")
}

pub fn config(folder: &Path, yaml: &str) -> AgentConfig {
    let (name, state_dir, inputs) = ("web-01".into(), folder.join("state"), checked(folder, yaml));
    AgentConfig { name, state_dir, memory: 1 << 20, inputs, drain_timeout: PATIENCE, agents: 1 }
}

pub fn start(folder: &Path, yaml: &str) -> Running {
    run(config(folder, yaml))
}

/// The same, with the longest time for what is read after a stop.
pub fn start_to_drain(folder: &Path, yaml: &str, drain_timeout: Duration) -> Running {
    run(AgentConfig { drain_timeout, ..config(folder, yaml) })
}

pub fn run(config: AgentConfig) -> Running {
    run_kept(config, None)
}

/// The same before an output that keeps offsets.
pub fn run_kept(config: AgentConfig, keeper: Option<event::Keeper>) -> Running {
    let (output, groups) = mpsc::channel(1);
    let (trigger, stop) = Stop::new();
    let (metrics, board) = (AgentMetrics::new(&Registry::default()), Board::default());
    let agent =
        agent::start(config, output, keeper, metrics.clone(), board.clone(), Health::new(), stop).expect("starts");
    Running { agent, groups, trigger, board, metrics }
}

impl Running {
    /// The next group.
    pub async fn group(&mut self) -> Group {
        let group = tokio::time::timeout(PATIENCE, self.groups.recv()).await;
        group.expect("a group in time").expect("it runs")
    }

    /// The next `count` lines, acknowledged as they come, by file name; fewer if no more come.
    pub async fn lines(&mut self, count: usize) -> BTreeMap<String, Vec<String>> {
        let (mut lines, mut got) = (BTreeMap::<_, Vec<_>>::new(), 0);
        while got < count {
            let Ok(Some(group)) = tokio::time::timeout(PATIENCE, self.groups.recv()).await else { break };
            let name = Path::new(&*group.source.path).file_name().expect("a name").to_string_lossy().into_owned();
            got += group.records.len();
            let text = group.records.iter().map(|record| String::from_utf8_lossy(group.bytes_of(record)).into_owned());
            lines.entry(name).or_default().extend(text);
            group.ack.settle();
        }
        lines
    }

    /// Waits until `holds` of the board; says what stands there if it never does.
    pub async fn until(&self, what: &str, holds: impl Fn(&[agent::Shown]) -> bool) {
        self.met(what, || holds(&self.board.files(None))).await;
    }

    /// Waits until `holds`; says what stands on the board if it never does.
    pub async fn met(&self, what: &str, holds: impl Fn() -> bool) {
        let looks = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, looks).await;
        assert!(reached.is_ok(), "{what}: {:#?} {:#?}", self.board.files(None), self.board.inputs());
    }

    /// Stops it, acknowledging what still comes; returns those lines.
    pub async fn stop(mut self) -> BTreeMap<String, Vec<String>> {
        self.trigger.stop();
        let rest = self.lines(usize::MAX).await;
        drop(self.groups);
        tokio::task::spawn_blocking(|| self.agent.join()).await.expect("ends");
        rest
    }
}

/// What the checkpoint remembers, in the order of the paths.
pub fn entries(folder: &Path) -> Vec<agent::StateEntry> {
    agent::read_state(&folder.join("state")).expect("readable").entries
}

/// Waits until `holds` of the checkpoint; says what stands there if it never does.
pub async fn until_remembered(folder: &Path, what: &str, holds: impl Fn(&[agent::StateEntry]) -> bool) {
    let looks = async {
        while !holds(&entries(folder)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, looks).await;
    assert!(reached.is_ok(), "{what}: {:#?}", entries(folder));
}

pub fn append(path: &Path, text: &str) {
    let mut file = File::options().create(true).append(true).open(path).expect("opens");
    file.write_all(text.as_bytes()).expect("written");
}

pub fn one(name: &str, lines: &[&str]) -> BTreeMap<String, Vec<String>> {
    BTreeMap::from([(name.to_owned(), lines.iter().map(ToString::to_string).collect())])
}

/// Several files and their lines.
pub fn all(files: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    files.iter().flat_map(|(name, lines)| one(name, lines)).collect()
}

/// Sets the time of the last change to `ago` before now.
pub fn age(path: &Path, ago: Duration) {
    let file = File::options().append(true).open(path).expect("opens");
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(wall_ms().unsigned_abs());
    file.set_modified(now - ago).expect("is set");
}

pub fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("a.log");
    (folder, log)
}

/// The offsets that the checkpoint remembers, by file name.
pub fn remembered(folder: &Path) -> BTreeMap<String, u64> {
    let state = agent::read_state(&folder.join("state")).expect("readable");
    let name = |path: &str| Path::new(path).file_name().expect("a name").to_string_lossy().into_owned();
    state.entries.iter().map(|entry| (name(entry.path()), entry.offset())).collect()
}
