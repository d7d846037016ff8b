//! Promise: on the nastiest days that peers of the indexer had, every record still ends as one document or one dead letter, none as
//! two, and both sides of the indexer's equation agree.
//!
//! docs/indexer-behaviours.md lists the cases. Where a real node is never that bad, a scripted one answers.

mod answers;
mod churn;
mod group;
mod mock;
mod records;

use std::time::Duration;
use tests::daemon::{Daemon, Start};
use tests::fake::FakeNode;
use tests::scene::Scene;
use tests::search::Node;
use tests::{stack, wait};

/// Longest wait for what should come soon, on a small machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(90);

/// A scene with a scripted node, and what stands in its topic.
struct Bench {
    scene: Scene,
    node: FakeNode,
    /// Each record once.
    values: Vec<String>,
}

impl Bench {
    fn new(name: &str, partitions: i32) -> Self {
        let node = FakeNode::start().expect("the fake starts");
        let scene = Scene::without_node(name, partitions, stack::shared().cluster, Node { url: node.url.clone() });
        Self { scene, node, values: Vec::new() }
    }

    /// So many records of some 100 bytes, dealt to the partitions in turn.
    fn with_lines(name: &str, partitions: i32, count: usize) -> Self {
        let mut bench = Self::new(name, partitions);
        bench.add_lines(partitions, count, 100);
        bench
    }

    /// More records, of some `bytes` each.
    fn add_lines(&mut self, partitions: i32, count: usize, bytes: usize) {
        let first = self.values.len();
        let line = |number: usize| format!("{} {number:07} {}", self.scene.run, "x".repeat(bytes.saturating_sub(30)));
        let lines: Vec<_> = (first..first + count).map(line).collect();
        for partition in 0..partitions {
            let mine = lines.iter().skip(partition as usize).step_by(partitions as usize);
            self.produce(partition, &mine.map(String::as_str).collect::<Vec<_>>());
        }
        self.values.extend(lines);
    }

    /// Writes records to the topic without expecting them.
    fn produce(&self, partition: i32, values: &[&str]) {
        let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
        self.scene.cluster.produce(&self.scene.topic, partition, &values).expect("the broker takes them");
    }

    /// A second indexer of the group, with a folder of its own.
    fn another(&self, name: &str) -> Start {
        let mut start = self.scene.indexer();
        start.folder = self.scene.folder.join(name);
        std::fs::create_dir_all(&start.folder).expect("made");
        start
    }

    /// How many records have come to an end, as far as the scripted node and the dead-letter topic show.
    fn ended(&self) -> usize {
        let dead = self.scene.cluster.count(&self.scene.dead_topic).unwrap_or(0);
        self.node.count() + usize::try_from(dead).unwrap_or(0)
    }

    /// Waits until all have come to an end.
    #[track_caller]
    fn wait_ended(&self) -> Duration {
        wait::wait_for("an end of each record", LIMIT, || {
            let (ended, of) = (self.ended(), self.values.len());
            wait::met(ended >= of, || format!("{ended} of {of}; {} requests", self.node.bulks().len()))
        })
        .1
    }

    /// Waits until everything is committed, and checks that each record is one document or one dead letter. Returns the dead.
    #[track_caller]
    fn settle_up(&self, indexer: &Daemon) -> Vec<String> {
        self.wait_ended();
        self.scene.wait_committed(LIMIT);
        self.scene.check_equations(None, Some(indexer));
        self.check_ends()
    }

    /// Each record is one document or one dead letter. Returns the dead.
    #[track_caller]
    fn check_ends(&self) -> Vec<String> {
        let letters = self.scene.cluster.read_all(&self.scene.dead_topic).expect("the topic reads back");
        let dead: Vec<_> = letters.iter().map(|letter| String::from_utf8_lossy(&letter.value).into_owned()).collect();
        let lines = letters.iter().map(tests::kafka::Stored::line);
        check_same(lines.chain(self.node.messages()).collect(), self.values.clone());
        dead
    }
}

/// The same texts, each as often.
#[track_caller]
fn check_same(mut found: Vec<String>, mut expected: Vec<String>) {
    found.sort_unstable();
    expected.sort_unstable();
    if found == expected {
        return;
    }
    let short = |text: &&String| text.chars().take(80).collect::<String>();
    let twice = found.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]);
    let missing = expected.iter().filter(|text| found.binary_search(text).is_err());
    let foreign = found.iter().filter(|text| expected.binary_search(text).is_err());
    panic!(
        "{} of {} records: twice {:?}, missing {:?}, foreign {:?}",
        found.len(),
        expected.len(),
        twice.map(|text| short(&text)).take(5).collect::<Vec<_>>(),
        missing.map(|text| short(&text)).take(5).collect::<Vec<_>>(),
        foreign.map(|text| short(&text)).take(5).collect::<Vec<_>>(),
    );
}

fn is_full() -> bool {
    std::env::var_os("TAILRACE_TEST_FULL").is_some()
}

/// A counter or gauge of a daemon, all labels together.
fn total(daemon: &Daemon, name: &str) -> u64 {
    daemon.metrics().map_or(0, |metrics| metrics.total(&format!("tailrace_indexer_{name}")))
}
