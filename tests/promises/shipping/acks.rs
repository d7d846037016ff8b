//! What a leader that dies takes with it: what `acks` allows, no more.
//!
//! The followers are frozen first, so that what the leader alone has is known; then the leader is killed.

use crate::{LIMIT, acknowledged, home};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tests::daemon::Daemon;
use tests::scene::Scene;
use tests::stack;
use tests::trio::Trio;
use tests::wait;

/// Lines of each of the three phases: before, while the followers are frozen, after.
const LINES: usize = 100;

/// The broker that leads all partitions at first.
const LEADER: i32 = 1;

/// Those that have what it has, unless they are frozen.
const FOLLOWERS: [i32; 2] = [2, 3];

struct Case {
    scene: Scene,
    agent: Daemon,
}

impl Case {
    fn start(trio: &Trio, acks: Value, guarantee: &str) -> Self {
        let name = acks.as_str().map_or_else(|| acks.to_string(), str::to_owned);
        let mut scene = Scene::without_node(&format!("acks-{name}"), 1, trio.cluster.clone(), stack::shared().node);
        scene.topic = format!("{}-led", scene.topic);
        scene.cluster.create_topic_on(&scene.topic, &[LEADER, 2, 3]).expect("the topic is made");
        let mut start = scene.agent();
        start.config["kafka"]["acks"] = acks;
        let agent = start.spawn().expect("the agent starts");
        let told = agent.wait_log(&["effective_guarantee", guarantee], LIMIT);
        eprintln!("figures acks: {name}: {told}");
        Self { scene, agent }
    }

    fn write(&self, lines: std::ops::Range<usize>) {
        let text: String = lines.map(|number| format!("line {number}\n")).collect();
        self.scene.append("app-1.log", text.as_bytes()).expect("written");
    }

    #[track_caller]
    fn wait_acknowledged(&self, lines: usize) {
        wait::wait_for("acknowledged lines", LIMIT, || {
            let acknowledged = acknowledged(&self.agent)?;
            wait::met(acknowledged >= lines as u64, || {
                format!("{acknowledged} of {lines}; log:\n{}", self.agent.log_tail())
            })
        });
    }

    /// The lines that are missing, by number. Those that are there are there once and in order.
    fn missing(&self) -> BTreeSet<usize> {
        let records = self.scene.cluster.read_all(&self.scene.topic).expect("the topic reads back");
        let number = |line: String| line.strip_prefix("line ").and_then(|number| number.parse::<usize>().ok());
        let found: Vec<_> = records.iter().filter_map(|record| number(record.line())).collect();
        assert_eq!(found.len(), records.len(), "each record is a line");
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "once each, in order: {found:?}");
        let found: BTreeSet<_> = found.into_iter().collect();
        (0..3 * LINES).filter(|number| !found.contains(number)).collect()
    }

    fn metric(&self, name: &str) -> u64 {
        self.agent.metrics().expect("it has metrics").total(name)
    }
}

#[test]
fn a_leader_that_dies_takes_with_it_what_acks_allows_and_no_more() {
    let trio = Trio::start(&home("acks")).expect("three brokers start");
    let none = Case::start(&trio, json!(0), "best_effort");
    let leader = Case::start(&trio, json!(1), "at_least_once");
    let all = Case::start(&trio, json!("all"), "at_least_once");
    let cases = [&none, &leader, &all];
    for case in cases {
        case.write(0..LINES);
        case.wait_acknowledged(LINES);
        case.scene.wait_shipped(LINES as u64, LIMIT);
    }
    for follower in FOLLOWERS {
        trio.freeze(follower).expect("it is frozen");
    }
    // In pieces: an answer that was on its way to a follower may hold the first of them.
    for from in (LINES..2 * LINES).step_by(10) {
        cases.iter().for_each(|case| case.write(from..from + 10));
        [&none, &leader].iter().for_each(|case| case.wait_acknowledged(from + 10));
    }
    wait::stays("nobody but the leader has it, and acks: all waits", Duration::from_secs(2), || {
        let acknowledged = acknowledged(&all.agent)?;
        wait::met(acknowledged == LINES as u64, || format!("{acknowledged} are acknowledged"))
    });
    trio.kill(LEADER).expect("it is killed");
    for follower in FOLLOWERS {
        trio.thaw(follower).expect("it goes on");
    }
    for case in cases {
        wait::wait_for("another leader", LIMIT, || {
            let found = trio.leader(&case.scene.topic, 0).map_err(|error| error.to_string())?;
            wait::met(found > 0 && found != LEADER, || format!("broker {found} leads"))
        });
        case.write(2 * LINES..3 * LINES);
        case.wait_acknowledged(3 * LINES);
        case.scene.check_equations(Some(&case.agent), None);
    }
    let [of_none, of_leader, of_all] = cases.map(Case::missing);
    let unknown = cases.map(|case| case.metric("tailrace_shipper_records_unknown_total"));
    eprintln!(
        "figures acks: of {} lines are missing: {} with acks 0 ({} unknown), {} with acks 1, {} with acks all",
        3 * LINES,
        of_none.len(),
        unknown[0],
        of_leader.len(),
        of_all.len()
    );
    assert!(of_all.is_empty(), "{of_all:?}");
    let alone = |number: &usize| (LINES..2 * LINES).contains(number);
    assert!(!of_leader.is_empty() && of_leader.iter().all(alone), "only what the leader alone had: {of_leader:?}");
    assert!(!of_none.is_empty() && of_none.iter().all(|number| *number >= LINES), "{of_none:?}");
    assert_eq!(unknown, [3 * LINES as u64, 0, 0], "what nobody acknowledged is counted as unknown");
}
