//! Promise: a rate plan keeps its rate at Kafka, holds up nobody else, and loses nothing that it was not told to drop.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tests::daemon::Daemon;
use tests::scene::Scene;
use tests::wait;
use tests::writer::Writer;

/// What each plan lets pass.
const EVENTS_PER_S: u64 = 2_000;
/// So many seconds' worth pass at once after a pause.
const BURST_S: u64 = 5;
/// Every measured line has so many bytes, with its end.
const LINE_BYTES: u64 = 100;
/// Lines of each measured input: ten times what its plan lets pass in the time that is looked at, at least.
const LINES: u64 = 160_000;
/// The time over which the average counts.
const SPAN: Duration = Duration::from_secs(10);
/// Somebody else may keep the machine busy: so many times the average is looked at before it counts as missed.
const LOOKS: usize = 6;
/// How far the average may be off.
const TOLERANCE: f64 = 0.02;
/// How far a share, with its part of what is lent, may be off, of the whole.
const SHARE_TOLERANCE: f64 = 0.02;
/// Lines of the input that no plan is for.
const OTHERS: u64 = 20_000;

/// Lines of the input that is timed.
const TIMED: u64 = 300_000;
/// It is timed so many times alone and beside an input that is held, at least and at most; the fastest of each count, for
/// somebody else may keep the machine busy.
const PAIRS: (usize, usize) = (3, 8);
/// How much slower it may be beside one.
const SLOWER_MAX: f64 = 0.05;
/// What the plan of the held input lets pass.
const HELD_BYTES_PER_S: u64 = 100_000;

/// One at a time: they measure.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn acknowledged(agent: &Daemon) -> u64 {
    agent.metrics().map_or(0, |metrics| metrics.agent("acknowledged"))
}

/// Lines of a file that Kafka has acknowledged.
fn lines_of(agent: &Daemon, path: &Path) -> Result<u64, String> {
    let page = format!("/files?path={}", path.display());
    let (_, files) = agent.get(&page).map_err(|error| error.to_string())?;
    let files: Value = serde_json::from_str(&files).map_err(|error| error.to_string())?;
    Ok(files[0]["acknowledged"].as_u64().unwrap_or(0) / LINE_BYTES)
}

fn write_lines(path: &Path, lines: u64) {
    let width = usize::try_from(LINE_BYTES).expect("small") - "line \n".len();
    let text: String = (0..lines).map(|line| format!("line {line:0width$}\n")).collect();
    std::fs::write(path, text).expect("written");
}

/// Lines a second of each file over [`SPAN`].
fn rates(agent: &Daemon, paths: &[PathBuf]) -> Vec<f64> {
    let look = || paths.iter().map(|path| (wait::now(), lines_of(agent, path).expect("answers"))).collect::<Vec<_>>();
    let before = look();
    wait::reached(SPAN, || false);
    let after = look();
    let rate = |((begun, before), (ended, after)): (&(_, u64), &(std::time::Instant, u64))| {
        (after - before) as f64 / ended.duration_since(*begun).as_secs_f64()
    };
    before.iter().zip(&after).map(rate).collect()
}

#[test]
fn rates_bursts_and_shares_are_kept_at_kafka_and_nobody_else_is_held_up() {
    let _alone = alone();
    let scene = Scene::shared("limits", 6);
    let mut start = scene.agent();
    let names = ["events", "bytes", "high", "low", "other"];
    let paths = names.map(|name| scene.folder.join(format!("{name}.log")));
    let input = |(name, path): (&str, &PathBuf)| {
        let priority = if ["high", "low"].contains(&name) { name } else { "normal" };
        json!({"id": name, "type": "file", "paths": [path], "priority": priority})
    };
    start.config["inputs"] = names.into_iter().zip(&paths).map(input).collect();
    let events = format!("{EVENTS_PER_S}/s");
    start.config["limits"] = json!([
        {"name": "events", "match": {"input": ["events"]}, "rate": {"events": events}, "burst": format!("{BURST_S}s")},
        {"name": "bytes", "match": {"input": ["bytes"]}, "rate": {"bytes": format!("{}B/s", EVENTS_PER_S * LINE_BYTES)}},
        {"name": "both", "match": {"input": ["high", "low"]}, "rate": {"events": events}, "shares": {"high": 40, "low": 10}},
    ]);
    let (measured, other) = (&paths[..4], &paths[4]);
    measured.iter().for_each(|path| write_lines(path, LINES));
    let mut agent = start.spawn().expect("the agent starts");
    agent.wait_ready(Duration::from_secs(20));

    let burst = BURST_S * EVENTS_PER_S;
    let reaches = |path: &Path, lines: u64, limit| {
        let met = || lines_of(&agent, path).and_then(|count| wait::met(count >= lines, || format!("{count} lines")));
        wait::wait_for("lines of a plan at Kafka", limit, met).1
    };
    reaches(&paths[0], 1, Duration::from_secs(30));
    let took = reaches(&paths[0], burst, Duration::from_secs(30));
    eprintln!("figures limits: a burst of {burst} events in {took:?} (at the rate alone {BURST_S} s)");
    assert!(took < Duration::from_secs(BURST_S) / 2, "{took:?}: it was paid for at the rate");

    // What a second and a half let pass: the bursts are spent.
    measured.iter().zip([burst, EVENTS_PER_S, EVENTS_PER_S, EVENTS_PER_S / 4]).for_each(|(path, burst)| {
        reaches(path, burst + EVENTS_PER_S / 10, Duration::from_secs(30));
    });
    let is_kept = |rates: &[f64]| {
        let is_near = |rate: f64| (rate / EVENTS_PER_S as f64 - 1.0).abs() <= TOLERANCE;
        let both = rates[2] + rates[3];
        is_near(rates[0]) && is_near(rates[1]) && is_near(both) && (rates[2] / both - 0.8).abs() <= SHARE_TOLERANCE
    };
    let mut looks = Vec::new();
    while looks.len() < LOOKS && !looks.last().is_some_and(|rates: &Vec<f64>| is_kept(rates)) {
        let rates = rates(&agent, measured);
        eprintln!(
            "figures limits: over {SPAN:?} under plans of {EVENTS_PER_S}/s: by events {:.0}/s, by bytes {:.0}/s; shared 40:10, the rest lent, {:.0}/s and {:.0}/s",
            rates[0], rates[1], rates[2], rates[3]
        );
        looks.push(rates);
    }
    assert!(looks.last().is_some_and(|rates| is_kept(rates)), "{looks:?}");
    let (status, page) = agent.get("/limits").expect("answers");
    assert!(status == 200 && page.contains("\"plan\":\"events\""), "{status} {page}");

    // Others go on at once, though much still waits in its files.
    write_lines(other, OTHERS);
    let waited = reaches(other, OTHERS, Duration::from_secs(5));
    let held = LINES - lines_of(&agent, &paths[3]).expect("answers");
    eprintln!("figures limits: {OTHERS} lines of another input in {waited:?} while {held} of the least urgent waited");
    assert!(held > LINES / 2, "{held} lines still waited");

    // Without the plans the rest goes at once, and nothing of it is missing or came twice.
    start.config["limits"] = json!([]);
    std::fs::write(scene.folder.join("agent.yaml"), start.config.to_string()).expect("written");
    agent.signal("HUP").expect("a signal");
    let all = 4 * LINES + OTHERS;
    scene.wait_shipped(all, Duration::from_secs(60));
    scene.check_equations(Some(&agent), None);
    assert_eq!((acknowledged(&agent), scene.cluster.count(&scene.topic).expect("answers")), (all, all));
    assert!(agent.stop(Duration::from_secs(20)).success());
}

/// Lines a second of `timed.log` until all are acknowledged, by an agent that has read nothing before; `is_beside`: it also has an
/// input that its plan holds.
fn speed(scene: &Scene, life: usize, is_beside: bool) -> f64 {
    let [timed, held] = ["timed.log", "held.log"].map(|name| scene.folder.join(name));
    let input = |id: &str, path: &Path| json!({"id": id, "type": "file", "paths": [path]});
    let mut start = scene.agent();
    start.config["state_dir"] = json!(scene.folder.join(format!("state-{life}")));
    start.config["inputs"] = json!([input("timed", &timed)]);
    if is_beside {
        start.config["inputs"] = json!([input("timed", &timed), input("held", &held)]);
        let rate = format!("{HELD_BYTES_PER_S}B/s");
        start.config["limits"] = json!([{"name": "hold", "match": {"input": ["held"]}, "rate": {"bytes": rate}}]);
    }
    let spawned = wait::now();
    let mut agent = start.spawn().expect("the agent starts");
    let until = |lines: u64| {
        let met = || lines_of(&agent, &timed).and_then(|count| wait::met(count >= lines, || format!("{count} lines")));
        wait::wait_for("lines of the timed input", Duration::from_secs(60), met);
        (lines_of(&agent, &timed).expect("answers"), wait::now())
    };
    let ((first, begun), (last, ended)) = (until(1), until(TIMED));
    if is_beside {
        let passed = lines_of(&agent, &held).expect("answers") * LINE_BYTES;
        let most = HELD_BYTES_PER_S as f64 * (spawned.elapsed().as_secs_f64() + 1.0) * 1.1;
        assert!(passed > 0 && (passed as f64) < most, "held, and not stopped: {passed} of {most} bytes");
    }
    assert!(agent.stop(Duration::from_secs(20)).success());
    (last - first) as f64 / ended.duration_since(begun).as_secs_f64()
}

#[test]
fn an_input_that_is_held_slows_another_by_a_twentieth_at_most() {
    let _alone = alone();
    let scene = Scene::shared("beside", 6);
    write_lines(&scene.folder.join("timed.log"), TIMED);
    write_lines(&scene.folder.join("held.log"), LINES);
    let (mut without, mut beside, mut pairs) = (0.0_f64, 0.0_f64, 0);
    while pairs < PAIRS.0 || (pairs < PAIRS.1 && beside < without * (1.0 - SLOWER_MAX)) {
        without = without.max(speed(&scene, 2 * pairs, false));
        beside = beside.max(speed(&scene, 2 * pairs + 1, true));
        pairs += 1;
    }
    let slower = 1.0 - beside / without;
    eprintln!(
        "figures limits: {without:.0} lines/s alone, {beside:.0} beside a held input: {:.1} % slower, {pairs} pairs",
        slower * 100.0
    );
    assert!(slower <= SLOWER_MAX, "{slower}");
}

/// Lines for the plans that divert.
const DIVERT_LINES: u64 = 30_000;

/// Where what a plan diverts goes, and an agent with such a plan.
fn diverting(scene: &Scene, delivery: &str) -> (String, tests::daemon::Start) {
    let later = format!("{}-later", scene.topic);
    scene.cluster.create_topic(&later, 3).expect("a topic");
    let mut start = scene.agent();
    start.config["limits"] =
        json!([{"name": "peak", "rate": {"events": "1000/s"}, "burst": "1s", "excess": {"divert": later}}]);
    start.config["kafka"]["delivery"] = json!(delivery);
    (later, start)
}

/// Runs the agent until all lines are acknowledged, with a kill on the way.
fn run_with_a_kill(scene: &Scene, start: &tests::daemon::Start) -> Daemon {
    let mut agent = start.spawn().expect("the agent starts");
    agent.wait_ready(Duration::from_secs(20));
    wait::wait_for("some lines are acknowledged", Duration::from_secs(60), || {
        let count = acknowledged(&agent);
        wait::met(count >= DIVERT_LINES / 4, || format!("{count} events"))
    });
    agent.kill().expect("it runs");
    let agent = start.spawn().expect("the agent starts again");
    let logs = std::fs::read_dir(scene.folder.join("logs")).expect("it is there");
    let bytes: u64 = logs.map(|log| log.and_then(|log| log.metadata()).expect("it is there").len()).sum();
    wait::wait_for("all bytes are acknowledged", Duration::from_secs(60), || {
        let (_, files) = agent.get("/files").map_err(|error| error.to_string())?;
        let files: Vec<Value> = serde_json::from_str(&files).map_err(|error| error.to_string())?;
        let count: u64 = files.iter().filter_map(|file| file["acknowledged"].as_u64()).sum();
        wait::met(count == bytes, || format!("{count} of {bytes} bytes"))
    });
    agent
}

#[test]
fn what_is_diverted_and_replayed_is_indexed_once_and_nothing_is_missing() {
    let _alone = alone();
    let scene = Scene::shared("divert", 3);
    let (later, start) = diverting(&scene, "at_least_once");
    let written = Writer::start(scene.load(3, DIVERT_LINES, 0, 0)).finish().expect("written");
    let mut indexer = scene.indexer().spawn().expect("the indexer starts");
    let mut agent = run_with_a_kill(&scene, &start);
    scene.check_equations(Some(&agent), None);
    let kept = scene.cluster.read_all(&later).expect("it reads back");
    eprintln!(
        "figures limits: {} records passed, {} were diverted",
        scene.cluster.count(&scene.topic).unwrap_or(0),
        kept.len()
    );
    assert!(kept.len() as u64 > DIVERT_LINES / 2, "{}", kept.len());
    let told: BTreeSet<_> = kept
        .iter()
        .map(|record| {
            let record: Value = serde_json::from_slice(&record.value).expect("JSON");
            record["@metadata"]["diverted"].to_string()
        })
        .collect();
    let expected = json!({"plan": "peak", "reason": "events", "topic": scene.topic}).to_string();
    assert_eq!(told, BTreeSet::from([expected]));

    // What was diverted is played back into the topic it was meant for; twice does no harm.
    let values: Vec<&[u8]> = kept.iter().map(|record| record.value.as_slice()).collect();
    for _ in 0..2 {
        scene.cluster.produce(&scene.topic, 0, &values).expect("produced");
    }
    scene.wait_indexed(DIVERT_LINES, Duration::from_secs(60));
    scene.wait_committed(Duration::from_secs(60));
    scene.check_equations(Some(&agent), Some(&indexer));
    let report = scene.audit_index(&written).expect("the index reads back");
    eprintln!("figures limits: index: {report}");
    assert!(report.is_clean(), "{report}");
    assert!(agent.stop(Duration::from_secs(20)).success() && indexer.stop(Duration::from_secs(20)).success());
}

#[test]
fn with_at_most_once_nothing_that_is_diverted_comes_twice_not_even_after_a_kill() {
    let _alone = alone();
    let scene = Scene::shared("divert-once", 3);
    let (later, start) = diverting(&scene, "at_most_once");
    Writer::start(scene.load(3, DIVERT_LINES, 0, 0)).finish().expect("written");
    let mut agent = run_with_a_kill(&scene, &start);
    assert!(agent.stop(Duration::from_secs(20)).success());
    let (mut seen, mut counts) = (BTreeSet::new(), Vec::new());
    for topic in [&scene.topic, &later] {
        scene.cluster.settled_ends(topic).expect("it is at rest");
        let records = scene.cluster.read_all(topic).expect("it reads back");
        counts.push(records.len());
        for record in &records {
            assert!(seen.insert(record.line()), "twice: {}", record.line());
        }
    }
    let missing = DIVERT_LINES - seen.len() as u64;
    eprintln!(
        "figures limits: at_most_once: {} passed, {} diverted, none twice, {missing} lost to a kill",
        counts[0], counts[1]
    );
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}
