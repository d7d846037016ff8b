//! A broker that refuses single requests of the indexer: librdkafka's mock cluster, with room for some megabytes.

use crate::{LIMIT, check_same, total};
use rdkafka::types::{RDKafkaApiKey as Key, RDKafkaRespErr as Code};
use serde_json::json;
use tests::daemon::Daemon;
use tests::fake::FakeNode;
use tests::mock::MockBroker;
use tests::scene::Scene;
use tests::{stack, wait};

struct Refusing {
    scene: Scene,
    mock: MockBroker,
    node: FakeNode,
    lines: Vec<String>,
}

impl Refusing {
    fn new(name: &str) -> Self {
        let node = FakeNode::start().expect("the fake starts");
        let mock = MockBroker::start("mocked", 2).expect("the mock starts");
        mock.create_topic("mocked-dead").expect("the mock makes topics");
        Self {
            scene: Scene::without_node(name, 1, stack::shared().cluster, tests::search::Node { url: node.url.clone() }),
            mock,
            node,
            lines: Vec::new(),
        }
    }

    fn indexer(&self) -> Daemon {
        let mut start = self.scene.indexer();
        start.config["kafka"] = json!({"brokers": self.mock.cluster.list(), "group": "mocked", "topics": ["mocked"]});
        start.config["dead_letter"]["topic"] = json!("mocked-dead");
        start.spawn().expect("the indexer starts")
    }

    fn add(&mut self, count: usize) {
        let first = self.lines.len();
        let lines: Vec<_> = (first..first + count).map(|number| format!("{} {number}", self.scene.run)).collect();
        for partition in 0..2 {
            let mine = lines.iter().skip(partition).step_by(2).map(|line| line.as_bytes()).collect::<Vec<_>>();
            self.mock
                .cluster
                .produce("mocked", i32::try_from(partition).expect("small"), &mine)
                .expect("the mock takes them");
        }
        self.lines.extend(lines);
    }

    /// Waits until all is stored and committed, and checks that all of it is there once.
    #[track_caller]
    fn settle_up(&self, indexer: &Daemon) {
        wait::wait_for("everything stored and committed", LIMIT, || {
            let stored = self.node.documents().len();
            let committed = self.mock.cluster.committed("mocked", "mocked").map_err(|error| error.to_string())?;
            let done = committed.values().sum::<i64>().unsigned_abs();
            let of = self.lines.len();
            wait::met(stored == of && done == of as u64, || {
                format!("{stored} stored, {done} committed of {of}; log:\n{}", indexer.log_tail())
            })
        });
        check_same(self.node.messages(), self.lines.clone());
        self.scene.check_equations(None, Some(indexer));
    }
}

#[test]
fn a_fetch_that_fails_is_made_again() {
    let mut refusing = Refusing::new("fetch-failed");
    refusing.add(200);
    let mut indexer = refusing.indexer();
    refusing.settle_up(&indexer);
    for code in [
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ] {
        refusing.mock.fail(Key::Fetch, &[code; 3]);
        refusing.add(100);
        refusing.settle_up(&indexer);
    }
    assert!(indexer.ended().is_none());
    assert!(total(&indexer, "consume_errors_total") > 0, "none of them failed");
}

#[test]
fn a_commit_that_is_refused_is_made_again() {
    let mut refusing = Refusing::new("commit-refused");
    refusing.add(200);
    let indexer = refusing.indexer();
    refusing.settle_up(&indexer);
    let commits = |result: &str| {
        let metrics = indexer.metrics().expect("the indexer answers");
        metrics.sum_where("tailrace_indexer_commits_total", &format!("result=\"{result}\"")).unwrap_or(0.0)
    };
    wait::wait_for("the broker's answer to a commit", LIMIT, || wait::met(commits("ok") > 0.0, || "none".to_owned()));
    for (refused, code) in [
        (1.0, Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS),
        (2.0, Code::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE),
        (3.0, Code::RD_KAFKA_RESP_ERR_UNKNOWN),
    ] {
        refusing.mock.fail(Key::OffsetCommit, &[code]);
        refusing.add(100);
        // No record comes after these, so that nothing but the refusal makes it commit once more.
        refusing.settle_up(&indexer);
        assert!(commits("failed") >= refused, "{code:?} did not come to the indexer");
    }
}
