//! Promise: killed at any moment and at every named point, nothing is lost and nothing is stored twice.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tests::audit::LifeEnd;
use tests::daemon::Daemon;
use tests::points::points_in;
use tests::scene::Scene;
use tests::writer::{Writer, Written};
use tests::{stack, wait};

/// Lines a second of the random kills, over all files.
const RATE: u64 = 5_000;

/// Kills of each half; the full run kills the agent more often.
const KILLS: u64 = 10;

/// Kills of the agent in the full run.
const KILLS_FULL: u64 = 50;

/// Copies in Kafka beyond the first: fewer than one of so many lines (0.5 %). A kill sends again only what was on its way
/// or was settled within the last moment.
const LINES_A_COPY: u64 = 200;

/// Rounds of looks that an agent makes at files that grow, when no notification makes it look sooner.
const ROUNDS_A_SECOND: u64 = 10;

/// One load at a time: two would share the processors and neither would keep its rate.
static TURN: Mutex<()> = Mutex::new(());

/// SIGABRT: how a failpoint ends a process.
const ABORTED: i32 = 6;

#[test]
fn ten_kills_of_each_half_lose_nothing_and_store_nothing_twice() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let scene = Scene::shared("kill", 6);
    let (lines, kills) = if is_full() { (1_000_000, KILLS_FULL) } else { (200_000, KILLS) };
    let (agent, indexer) = (scene.agent(), scene.indexer());
    let mut rng = fastrand::Rng::with_seed(scene.seed);
    let writer = Writer::start(scene.load(20, lines, RATE, 2));
    let mut agent_life = agent.spawn().expect("the agent starts");
    let mut indexer_life = indexer.spawn().expect("the indexer starts");
    let mut lives = Vec::new();
    for (at, kills_agent) in moments(&mut rng, lines, kills) {
        wait::wait_for("the next moment to kill", Duration::from_secs(lines / RATE + 60), || {
            let written = writer.lines();
            wait::met(written >= at || writer.is_done(), || format!("{written} of {at} lines"))
        });
        if kills_agent {
            agent_life.kill().expect("the agent runs");
            lives.push(scene.cluster.settled_ends(&scene.topic).expect("the broker answers"));
            agent_life = agent.spawn().expect("the agent starts again");
        } else {
            indexer_life.kill().expect("the indexer runs");
            indexer_life = indexer.spawn().expect("the indexer starts again");
        }
    }
    let written = writer.finish().expect("all lines are written");
    let tail = scene.wait_indexed(lines, Duration::from_secs(120));
    eprintln!("figures kill: all {lines} lines indexed {tail:?} after the last was written");
    eprintln!("figures kill: {kills} kills of the agent, {KILLS} of the indexer");
    check(&scene, &written, &lives, lines / LINES_A_COPY, &agent_life, &indexer_life);
}

fn is_full() -> bool {
    std::env::var_os("TAILRACE_TEST_FULL").is_some()
}

/// Moments for each half, as counts of lines written; true kills the agent.
fn moments(rng: &mut fastrand::Rng, lines: u64, agent_kills: u64) -> BTreeMap<u64, bool> {
    let mut moments = BTreeMap::new();
    for (kills_agent, kills) in [(true, agent_kills), (false, KILLS)] {
        let slot = lines / (kills + 1);
        for kill in 0..kills {
            let mut at = slot / 2 + kill * slot + rng.u64(0..slot);
            while moments.insert(at, kills_agent).is_some_and(|before| before != kills_agent) {
                moments.insert(at, !kills_agent);
                at += 1;
            }
        }
    }
    moments
}

#[test]
fn a_kill_at_each_named_point_of_the_agent_loses_nothing() {
    at_each_point(&["agent", "shipper"], When::AtOnce);
}

#[test]
fn a_kill_at_each_named_point_of_an_agent_that_keeps_up_sends_little_again() {
    at_each_point(&["agent", "shipper"], When::KeepingUp);
}

#[test]
fn a_kill_at_each_named_point_of_the_indexer_stores_nothing_twice() {
    at_each_point(&["indexer"], When::AtOnce);
}

/// When in its life a process is ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// One of the first times that it comes to the point: it is still busy with what was written while nothing ran, and all
    /// of that may be on its way.
    AtOnce,
    /// After some seconds: only the last moment is on its way.
    KeepingUp,
}

impl When {
    /// Lines a second, over all files.
    fn rate(self) -> u64 {
        match self {
            Self::AtOnce => 2_000,
            Self::KeepingUp => RATE,
        }
    }

    /// How often the point is passed before.
    fn passes(self, point: &str, rng: &mut fastrand::Rng) -> u32 {
        let longer = if is_full() { 5 } else { 1 };
        match self {
            _ if reached_once(point) => 0,
            Self::AtOnce => rng.u32(0..3),
            Self::KeepingUp if point.contains("fsync") => longer * rng.u32(3..6), // Once a second.
            Self::KeepingUp if point.contains("checkpoint") => longer * rng.u32(50..80), // Some 30 a second.
            Self::KeepingUp => longer * rng.u32(250..400),                        // Once a group: some 90 a second.
        }
    }

    /// Copies in Kafka must be fewer. An agent that catches up may have sent all that was written since the one before
    /// it: within a second it is there. One that keeps up has a round of looks at its files on its way: all points lie in the
    /// middle of one, where a random kill seldom falls. In the full run its kills are as far apart as the random ones.
    fn allowed(self, points: u64, lines: u64) -> u64 {
        match self {
            Self::AtOnce => points * self.rate(),
            Self::KeepingUp if is_full() => lines / LINES_A_COPY,
            Self::KeepingUp => points * self.rate() / ROUNDS_A_SECOND,
        }
    }
}

#[test]
fn a_panic_of_the_consumer_ends_the_indexer_which_says_so_and_nothing_is_lost() {
    let limit = Duration::from_secs(60);
    let scene = Scene::shared("panic", 2);
    let mut indexer = scene.indexer();
    indexer.env = vec![("FAILPOINTS".to_owned(), "indexer-before-commit=panic".to_owned())];
    let mut life = indexer.spawn().expect("the indexer starts");
    let _agent = scene.agent().spawn().expect("the agent starts");
    scene.append("app-0.log", b"one\ntwo\n").expect("written");
    let status = life.wait_end(limit);
    assert_eq!(status.code(), Some(1), "ended with {status}:\n{}", life.log_tail());
    let told = life.wait_log(&["tailrace: ", "the consumer thread panicked", "indexer-before-commit"], limit);
    eprintln!("figures panic: {told}");
    indexer.env.clear();
    let life = indexer.spawn().expect("the indexer starts again");
    scene.wait_committed(limit);
    scene.wait_indexed(2, limit);
    assert_eq!(scene.node.documents(&scene.index).expect("the index reads back").len(), 2);
    scene.check_equations(None, Some(&life));
}

/// Runs a load during which one half is ended at each of its named points, one after the other.
fn at_each_point(crates: &[&str], when: When) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut points: Vec<_> =
        crates.iter().flat_map(|name| points_in(&stack::project().join(name).join("src"))).collect();
    points.retain(|point| !point.contains("transaction")); // Only with `exactly_once`, which has a test of its own.
    assert!(points.len() >= 3, "the named points are gone: {points:?}");
    let name = if when == When::AtOnce { "points" } else { "late-points" };
    let scene = Scene::shared(&format!("{name}-{}", crates[0]), 3);
    let of_agent = crates.contains(&"agent");
    let (mut victim, other) =
        if of_agent { (scene.agent(), scene.indexer()) } else { (scene.indexer(), scene.agent()) };
    let mut rng = fastrand::Rng::with_seed(scene.seed);
    let other_life = other.spawn().expect("the other half starts");
    // More than is needed; ended when the last point has been hit.
    let writer = Writer::start(scene.load(8, 2_000_000, when.rate(), 3));
    let mut lives = Vec::new();
    for point in &points {
        let before = when.passes(point, &mut rng);
        victim.env = vec![("FAILPOINTS".to_owned(), format!("{point}={before}*off->1*return"))];
        let mut life = victim.spawn().expect("the victim starts");
        let mut member = provoke(point, &scene, &life);
        let begun = writer.lines();
        let status = life.wait_end(Duration::from_secs(60));
        eprintln!("figures points: {point}={before}: {} lines later", writer.lines() - begun);
        assert_eq!(status.signal(), Some(ABORTED), "{point}: ended with {status}:\n{}", life.log_tail());
        assert!(life.log().contains(point.as_str()), "{point} is not in the log:\n{}", life.log_tail());
        if let Some(member) = &mut member {
            member.stop(Duration::from_secs(30));
        }
        if of_agent {
            lives.push(scene.cluster.settled_ends(&scene.topic).expect("the broker answers"));
        }
    }
    victim.env.clear();
    let life = victim.spawn().expect("the victim starts");
    let written = writer.end().expect("the lines are written");
    let lines = written.values().sum();
    scene.wait_indexed(lines, Duration::from_secs(120));
    let (agent, indexer) = if of_agent { (&life, &other_life) } else { (&other_life, &life) };
    eprintln!("figures points: killed at {points:?}");
    let allowed = when.allowed(points.len() as u64, lines);
    check(&scene, &written, &lives, allowed, agent, indexer);
}

/// Brings about what a load alone does not: a refused document, or a second member that takes partitions away.
fn provoke(point: &str, scene: &Scene, victim: &Daemon) -> Option<Daemon> {
    if reached_by_refusal(point) {
        scene.cluster.produce(&scene.topic, 0, &[POISON; 4]).expect("the broker takes records");
    }
    if !point.contains("revoke") {
        return None;
    }
    wait::wait_for("partitions of the victim", Duration::from_secs(60), || {
        let metrics = victim.metrics().map_err(|error| error.to_string())?;
        wait::met(metrics.total("tailrace_indexer_assigned_partitions") == 3, || "not all assigned".to_owned())
    });
    let mut second = scene.indexer();
    second.folder = scene.folder.join("second");
    // Without a static id: such a member leaves the group when it is stopped.
    second.config["kafka"]["static_id"] = serde_json::Value::Null;
    std::fs::create_dir_all(&second.folder).expect("the folder is made");
    Some(second.spawn().expect("the second member starts"))
}

/// A document that the index refuses: `message` is text there.
const POISON: &[u8] = br#"{"message":{"not":"a text"}}"#;

/// Points that are passed only when a document is refused.
fn reached_by_refusal(point: &str) -> bool {
    point.contains("dead-letter")
}

/// Points that a life may pass only once or so: a compaction needs a long log, or happens at the start.
fn reached_once(point: &str) -> bool {
    point.contains("rename") || point.contains("revoke") || reached_by_refusal(point)
}

#[track_caller]
fn check(scene: &Scene, written: &Written, lives: &[LifeEnd], allowed: u64, agent: &Daemon, indexer: &Daemon) {
    scene.wait_committed(Duration::from_secs(60));
    scene.check_equations(Some(agent), Some(indexer));
    let topic = scene.audit_topic(written, lives).expect("the topic reads back");
    let index = scene.audit_index(written).expect("the index reads back");
    eprintln!("figures {}: topic: {topic}", scene.run);
    eprintln!("figures {}: index: {index}", scene.run);
    eprintln!("figures {}: lines that each life of the agent sent again: {:?}", scene.run, topic.resent);
    let surplus = topic.surplus();
    eprintln!(
        "figures {}: {surplus} copies in Kafka beyond the first of {} lines, {allowed} allowed",
        scene.run, topic.written
    );
    assert!(index.is_clean(), "{index}");
    assert!(topic.missing.is_empty() && topic.corrupt.is_empty(), "{topic}");
    assert!(topic.inverted_in_a_life.is_empty(), "{topic}");
    assert!(topic.repeated_in_a_life.is_empty(), "{topic}");
    assert!(surplus < allowed, "{surplus} copies in Kafka, {allowed} allowed");
}
