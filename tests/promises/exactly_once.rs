//! Promise: with `delivery: exactly_once` a consumer of committed records sees every line once and in order, whatever is killed.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tests::daemon::{Daemon, Start};
use tests::points::points_in;
use tests::scene::Scene;
use tests::search::Node;
use tests::stack::{self, OwnKafka};
use tests::writer::{Load, Writer, Written};
use tests::{read_back, wait};

/// Lines a second, over all files.
const RATE: u64 = 2_000;

/// Kills of the agent at random moments; the full run has more.
const KILLS: u64 = 10;
const KILLS_FULL: u64 = 50;

/// SIGABRT: how a failpoint ends a process.
const ABORTED: i32 = 6;

/// Longest wait for what should come at once.
const LIMIT: Duration = Duration::from_secs(60);

/// One load at a time: two would share the processors and neither would keep its rate.
static TURN: Mutex<()> = Mutex::new(());

/// A corner of the shared broker. No search node: what counts is what stands in the topic.
fn scene(name: &str) -> Scene {
    Scene::without_node(name, 3, stack::shared().cluster, Node { url: String::new() })
}

/// An agent whose offsets stand in a topic of this scene's own, with a rate plan that makes what it has to catch up wait.
fn agent(scene: &Scene) -> Start {
    let offsets = format!("{}-offsets", scene.topic);
    let mut start = scene.agent();
    let kafka = &mut start.config["kafka"];
    kafka["delivery"] = "exactly_once".into();
    kafka["offsets_topic"] = offsets.into();
    kafka["create_topic"] = serde_json::json!({"partitions": 1, "replication_factor": 1});
    let rate = serde_json::json!({"events": format!("{}/s", 4 * RATE)});
    start.config["limits"] = serde_json::json!([{"name": "catch-up", "rate": rate, "excess": "wait"}]);
    start
}

fn is_full() -> bool {
    std::env::var_os("TAILRACE_TEST_FULL").is_some()
}

/// Waits until a consumer of committed records has seen as many lines as were written, and judges them.
#[track_caller]
fn check(scene: &Scene, written: &Written) {
    let lines = written.values().sum();
    let (seen, elapsed) = wait::grows_to(lines, LIMIT, || {
        std::thread::sleep(Duration::from_millis(200)); // Each look reads the whole topic.
        Some(scene.audit_committed(written).ok()?.found)
    });
    eprintln!("figures {}: {seen} of {lines} lines committed {elapsed:?} after the last was written", scene.run);
    let report = scene.audit_committed(written).expect("the topic reads back");
    let all = read_back::topic(&scene.cluster, &scene.topic, &scene.recipe()).expect("the topic reads back");
    eprintln!("figures {}: committed: {report}", scene.run);
    eprintln!("figures {}: {} records of aborted transactions", scene.run, all.len() as u64 - report.found);
    assert!(report.is_clean(), "{report}");
}

/// The checkpoint that is kept after this kill is put back after that one.
const OLD: [u64; 2] = [1, 3];

#[test]
fn kills_a_bounce_of_the_broker_and_an_old_checkpoint_store_every_line_once() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let kafka =
        OwnKafka::start(&stack::home().join(format!("once-{:08x}", fastrand::u32(..)))).expect("a broker starts");
    let scene = Scene::without_node("once", 3, kafka.cluster.clone(), Node { url: String::new() });
    let kills = if is_full() { KILLS_FULL } else { KILLS };
    let lines = RATE * 3 / 2 * kills;
    let mut rng = fastrand::Rng::with_seed(scene.seed);
    let start = agent(&scene);
    let (state, old) = (scene.folder.join("state"), scene.folder.join("state-old"));
    let mut committed = 0;
    let writer = Writer::start(scene.load(8, lines, RATE, 3));
    let mut life = start.spawn().expect("the agent starts");
    let slot = lines / (kills + 1);
    for kill in 0..kills {
        let at = slot / 2 + kill * slot + rng.u64(0..slot);
        wait::wait_for("the next moment to kill", Duration::from_secs(lines / RATE + 60), || {
            wait::met(writer.lines() >= at || writer.is_done(), || "written".to_owned())
        });
        if kill == kills / 2 {
            kafka.stop().expect("the broker stops");
            kafka.start_again().expect("the broker is back");
        }
        if kill == OLD[1] {
            wait_lines(&scene, committed + RATE / 2); // So that what is put back is old.
        }
        life.kill().expect("the agent runs");
        if kill == OLD[0] {
            committed = lines_committed(&scene).expect("the topic reads back");
            copy(&state, &old);
        }
        if kill == OLD[1] {
            std::fs::remove_dir_all(&state).expect("it is there");
            std::fs::rename(&old, &state).expect("it is there");
        }
        life = start.spawn().expect("the agent starts again");
    }
    let written = writer.finish().expect("all lines are written");
    check(&scene, &written);
    scene.check_equations(Some(&life), None);
    assert!(life.stop(LIMIT).success(), "{}", life.log_tail());
}

/// Points that are passed only when the checkpoint's log is long, or at the start.
fn reached_once(point: &str) -> bool {
    point.contains("rename") || point.contains("transaction-before-read")
}

#[test]
fn a_kill_at_each_named_point_stores_every_line_once() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // The agent's points are all about its checkpoint, which the topic puts right wherever it was ended: in the full run.
    let crates: &[&str] = if is_full() { &["agent", "shipper"] } else { &["shipper"] };
    let points: Vec<_> = crates.iter().flat_map(|name| points_in(&stack::project().join(name).join("src"))).collect();
    assert!(points.iter().any(|point| point.contains("transaction")), "the named points are gone: {points:?}");
    let scene = scene("once-points");
    let mut start = agent(&scene);
    let mut rng = fastrand::Rng::with_seed(scene.seed);
    let writer = Writer::start(endless(&scene));
    for point in &points {
        let before = if reached_once(point) { 0 } else { rng.u32(0..4) };
        start.env = vec![("FAILPOINTS".to_owned(), format!("{point}={before}*off->1*return"))];
        let mut life = start.spawn().expect("the agent starts");
        let status = life.wait_end(LIMIT);
        assert_eq!(status.signal(), Some(ABORTED), "{point}: ended with {status}:\n{}", life.log_tail());
        assert!(life.log().contains(point.as_str()), "{point} is not in the log:\n{}", life.log_tail());
    }
    eprintln!("figures {}: killed at {points:?}", scene.run);
    start.env.clear();
    let life = start.spawn().expect("the agent starts");
    let written = writer.end().expect("the lines are written");
    check(&scene, &written);
    scene.check_equations(Some(&life), None);
}

/// Copies a folder of files.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("it is copied");
    }
}

/// More than is needed, with a rename of each file now and then; to be ended.
fn endless(scene: &Scene) -> Load {
    scene.load(8, 2_000_000, RATE, 100)
}

fn lines_committed(scene: &Scene) -> anyhow::Result<u64> {
    Ok(scene.cluster.read_committed(&scene.topic)?.len() as u64)
}

/// Waits until `lines` lines are committed.
#[track_caller]
fn wait_lines(scene: &Scene, lines: u64) {
    wait::wait_for("lines that are committed", LIMIT, || {
        let committed = lines_committed(scene).map_err(|error| error.to_string())?;
        wait::met(committed >= lines, || format!("{committed} of {lines}"))
    });
}

#[test]
fn an_agent_replaced_in_its_sleep_sends_nothing_more_and_the_next_needs_no_checkpoint() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let scene = scene("once-zombie");
    let start = agent(&scene);
    let writer = Writer::start(endless(&scene));
    let mut zombie: Daemon = start.spawn().expect("the agent starts");
    wait_lines(&scene, writer.lines() + RATE / 2);
    zombie.signal("STOP").expect("it sleeps");
    let mut second = scene.agent();
    second.config["kafka"] = start.config["kafka"].clone();
    second.config["state_dir"] = scene.folder.join("second-state").display().to_string().into();
    second.folder = scene.folder.join("second");
    std::fs::create_dir_all(&second.folder).expect("a folder");
    let life = second.spawn().expect("the second agent starts");
    wait_lines(&scene, writer.lines() + RATE / 2);
    zombie.signal("CONT").expect("it wakes");
    let status = zombie.wait_end(LIMIT);
    assert_eq!(status.code(), Some(1), "{}", zombie.log_tail());
    assert!(zombie.log().contains("another agent"), "{}", zombie.log_tail());
    let written = writer.end().expect("the lines are written");
    check(&scene, &written);
    scene.check_equations(Some(&life), None);
}
