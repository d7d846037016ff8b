//! Three brokers, three replicas, two of which must be in sync, and a load while they break.

use crate::{LIMIT, acknowledged, caught_up, home, is_full};
use rdkafka::admin::ResourceSpecifier;
use std::time::Duration;
use tests::daemon::Daemon;
use tests::scene::Scene;
use tests::trio::{ALL, Trio};
use tests::writer::Writer;
use tests::{audit, read_back, stack, wait};

/// Lines a second, over all files.
const RATE: u64 = 500;

/// So many that added partitions surely get some of them.
const FILES: usize = 30;

/// How long a leader is frozen: longer than `socket.timeout.ms`.
const FROZEN: Duration = Duration::from_secs(20);

/// How soon new partitions are used.
const PARTITIONS_MAX: Duration = Duration::from_secs(60);

/// Everything that a fault goes with.
struct Bench {
    trio: Trio,
    scene: Scene,
    agent: Daemon,
    writer: Writer,
}

#[test]
fn leaders_that_die_or_freeze_bounces_and_too_few_replicas_lose_and_copy_nothing() {
    let trio = Trio::start(&home("brokers")).expect("three brokers start");
    let scene = Scene::without_node("brokers", 6, trio.cluster.clone(), stack::shared().node);
    let mut agent = scene.agent().spawn().expect("the agent starts");
    agent.wait_ready(LIMIT);
    let writer = Writer::start(scene.load(FILES, 10_000_000, RATE, 0)); // More than is needed; ended after the last fault.
    let mut bench = Bench { trio, scene, agent, writer };
    for round in 0..if is_full() { 3 } else { 1 } {
        bench.more_partitions(9 + round);
        bench.leader_killed();
        bench.leader_frozen();
        bench.bounced();
        bench.too_few_in_sync();
        if is_full() {
            bench.two_of_three_down();
        }
    }
    let Bench { trio, scene, agent, writer } = bench;
    let written = writer.end().expect("the lines are written");
    let lines = written.values().sum();
    wait::wait_for("all lines acknowledged", LIMIT, || {
        let acknowledged = acknowledged(&agent)?;
        wait::met(acknowledged >= lines, || format!("{acknowledged} of {lines}; log:\n{}", agent.log_tail()))
    });
    scene.check_equations(Some(&agent), None);
    let rebuilt = agent.metrics().expect("it has metrics").total("tailrace_shipper_producers_rebuilt_total");
    let report = scene.audit_topic(&written, &[]).expect("the topic reads back");
    eprintln!("figures brokers: {report}; {rebuilt} clients made anew");
    assert!(report.is_clean(), "{report}");
    let mut agent = agent;
    assert!(agent.stop(LIMIT).success());
    drop(trio);
}

impl Bench {
    fn caught_up(&self, after: &str) {
        let waited = caught_up(&self.agent, &self.writer, RATE, LIMIT);
        eprintln!("figures brokers: {after}: all acknowledged again after {waited:.1?}");
    }

    /// Starts what was killed, and waits until all is as before.
    fn healed(&self) {
        self.trio.start_again().expect("the brokers start again");
        self.trio.wait_in_sync(&self.scene.topic);
    }

    fn leader_killed(&mut self) {
        let leader = self.trio.leader(&self.scene.topic, 0).expect("there is a leader");
        self.trio.kill(leader).expect("it is killed");
        self.caught_up("leader killed");
        self.healed();
        self.caught_up("and started again");
    }

    fn leader_frozen(&mut self) {
        let leader = self.trio.leader(&self.scene.topic, 0).expect("there is a leader");
        self.trio.freeze(leader).expect("it is frozen");
        let frozen = wait::now();
        self.caught_up("leader frozen");
        wait::stays("the agent while a leader is frozen", FROZEN.saturating_sub(frozen.elapsed()), || {
            wait::met(self.agent.ended().is_none(), || "it ended".to_owned())
        });
        self.trio.thaw(leader).expect("it goes on");
        self.trio.wait_in_sync(&self.scene.topic);
        self.caught_up("and thawed");
    }

    fn bounced(&mut self) {
        for broker in ALL {
            self.trio.kill(broker).expect("it is killed");
            self.healed();
        }
        self.caught_up("rolling hard bounce");
    }

    /// One replica of three is missing, and all three are asked for.
    fn too_few_in_sync(&mut self) {
        let (trio, topic) = (&self.trio, &*self.scene.topic);
        let min = |count| trio.cluster.set(ResourceSpecifier::Topic(topic), &[("min.insync.replicas", count)]);
        min("3").expect("the brokers take it");
        let leader = trio.leader(topic, 0).expect("there is a leader");
        let other = ALL.into_iter().find(|broker| *broker != leader).expect("there are three");
        trio.kill(other).expect("it is killed");
        let shrunk = trio.wait_isr(topic, 2);
        let mut before = acknowledged(&self.agent).expect("it has metrics");
        // What the brokers took while the dead one still counted may be told a moment later.
        wait::wait_for("nothing more is acknowledged", LIMIT, || {
            std::thread::sleep(Duration::from_millis(500)); // Between two looks.
            let now = acknowledged(&self.agent)?;
            let is_still = now == before;
            before = now;
            wait::met(is_still, || format!("{now} acknowledged"))
        });
        wait::stays("no acknowledgement with too few replicas", Duration::from_secs(3), || {
            let now = acknowledged(&self.agent)?;
            wait::met(now == before, || format!("{before} -> {now}"))
        });
        eprintln!("figures brokers: too few replicas from {shrunk:.1?} after the kill");
        self.healed();
        self.caught_up("enough replicas again");
        min("2").expect("the brokers take it");
    }

    /// Neither replicas enough nor controllers.
    fn two_of_three_down(&mut self) {
        let leader = self.trio.leader(&self.scene.topic, 0).expect("there is a leader");
        for broker in ALL.into_iter().filter(|broker| *broker != leader) {
            self.trio.kill(broker).expect("it is killed");
        }
        wait::stays("the agent while one of three is there", Duration::from_secs(20), || {
            wait::met(self.agent.ended().is_none(), || "it ended".to_owned())
        });
        self.healed();
        self.caught_up("two of three down");
    }

    fn more_partitions(&mut self, partitions: usize) {
        let (cluster, topic) = (&self.trio.cluster, &*self.scene.topic);
        let before = cluster.ends(topic).expect("the brokers answer").len();
        cluster.add_partitions(topic, partitions).expect("the brokers add them");
        let (_, waited) = wait::wait_for("new partitions are used", PARTITIONS_MAX, || {
            let ends = cluster.ends(topic).map_err(|error| error.to_string())?;
            let used = ends.values().skip(before).any(|end| *end > 0);
            wait::met(used && ends.len() == partitions, || format!("{ends:?}"))
        });
        eprintln!("figures brokers: {before} -> {partitions} partitions, used after {waited:.1?}");
    }
}

/// The agent is frozen at the moment of the deletion, so that what was acknowledged by then is known exactly.
#[test]
fn of_a_topic_made_anew_nothing_unacknowledged_is_lost_and_no_id_comes_twice() {
    let scene = Scene::shared("anew", 2);
    let by_place = Scene::shared("anew-place", 2);
    let mut agent = scene.agent().spawn().expect("the agent starts");
    let indexer = scene.indexer().spawn().expect("the indexer starts");
    let mut start = by_place.indexer();
    start.config["kafka"]["topics"] = serde_json::json!([scene.topic]);
    start.config["elasticsearch"]["document_id"] = serde_json::json!("record");
    let place_indexer = start.spawn().expect("the indexer starts");
    let writer = Writer::start(scene.load(4, 10_000_000, RATE, 0));
    wait::wait_for("some lines", LIMIT, || wait::met(writer.lines() > 3 * RATE, || "written".to_owned()));
    caught_up(&agent, &writer, RATE, LIMIT);

    agent.signal("STOP").expect("it is frozen");
    let ends = scene.cluster.settled_ends(&scene.topic).expect("the broker answers");
    let before = ends.values().sum::<i64>().unsigned_abs();
    let old = read_back::topic(&scene.cluster, &scene.topic, &scene.recipe()).expect("the topic reads back");
    scene.wait_indexed(before, LIMIT);
    by_place.wait_indexed(before, LIMIT);
    scene.cluster.delete_topic(&scene.topic).expect("the topic is deleted");
    agent.signal("CONT").expect("it goes on");
    let told = agent.wait_log(&[&scene.topic, "does not exist"], LIMIT);
    eprintln!("figures anew: {told}");
    // The indexer sleeps until the new topic has more records than the old one had: where it was is a place in the new one, too.
    indexer.wait_log(&["Unknown topic or partition"], LIMIT);
    indexer.signal("STOP").expect("it is frozen");
    scene.cluster.create_topic(&scene.topic, 2).expect("the topic is made anew");
    let made = wait::now();
    caught_up(&agent, &writer, RATE, LIMIT);
    eprintln!("figures anew: caught up {:.1?} after the topic was there again", made.elapsed());
    scene.wait_shipped(2 * before + RATE, LIMIT);
    indexer.signal("CONT").expect("it goes on");
    let written = writer.end().expect("the lines are written");
    let lines = written.values().sum::<u64>();
    wait::wait_for("all lines acknowledged", LIMIT, || {
        let acknowledged = acknowledged(&agent)?;
        wait::met(acknowledged >= lines, || format!("{acknowledged} of {lines}"))
    });
    let new = read_back::topic(&scene.cluster, &scene.topic, &scene.recipe()).expect("the topic reads back");
    eprintln!("figures anew: {} records in the old topic, {} in the new one, {lines} lines", old.len(), new.len());
    let both: Vec<_> = old.iter().chain(&new).cloned().collect();
    let report = audit::documents(&written, &both);
    assert!(report.missing.is_empty() && report.is_sound(), "{report}");
    let order = audit::records(&written, &new, &[]);
    assert!(order.inverted.is_empty() && order.duplicated.is_empty(), "{order}");
    scene.wait_indexed(lines, LIMIT);
    let index = scene.audit_index(&written).expect("the index reads back");
    eprintln!("figures anew: index: {index}");
    assert!(index.is_clean(), "{index}");
    by_place.wait_indexed(both.len() as u64, LIMIT);
    let documents = by_place.node.documents(&by_place.index).expect("the index reads back");
    assert_eq!(documents.len(), both.len(), "a record of the new topic has the id of one of the old");
    scene.check_equations(Some(&agent), Some(&indexer));
    by_place.check_equations(None, Some(&place_indexer));
    assert!(agent.stop(LIMIT).success());
}
