//! Two clusters, one of which is away: the other gets everything meanwhile, and the one that is back all that it missed.

use crate::{LIMIT, home};
use serde_json::json;
use tests::audit;
use tests::daemon::Daemon;
use tests::read_back;
use tests::scene::{AGENT_MEMORY, Scene};
use tests::stack::OwnKafka;
use tests::wait;
use tests::writer::{Writer, Written};

/// Lines a second, over all files.
const RATE: u64 = 2_000;
/// Lines that are written while one cluster is away, and again after the agent was killed there.
const MEANWHILE: u64 = 5 * RATE;
/// Resident memory that the agent may gain while one cluster is away.
const RSS_GROWTH_MAX: u64 = 2 * AGENT_MEMORY + 5_000_000;

#[test]
fn an_output_that_is_away_holds_up_no_other_and_loses_nothing() {
    let far = OwnKafka::start(&home("outputs")).expect("a broker of this test's own starts");
    let scene = Scene::shared("outputs", 3);
    far.cluster.create_topic(&scene.topic, 3).expect("the topic is made");
    let mut start = scene.agent();
    start.config["inputs"] = json!([
        {"id": "app", "type": "file", "paths": [scene.folder.join("logs/app-0[0-2].log*")]},
        {"id": "only", "type": "file", "paths": [scene.folder.join("logs/app-03.log*")], "outputs": ["far"]},
    ]);
    start.config["outputs"] = json!([{"id": "far", "kafka": {"brokers": far.cluster.list(), "topic": scene.topic}}]);
    let mut agent = start.spawn().expect("the agent starts");
    agent.wait_ready(LIMIT);
    let writer = Writer::start(scene.load(4, 10_000_000, RATE, 0)); // More than is needed; ended after the outage.
    for output in ["kafka", "far"] {
        wait_acknowledged(&agent, output, RATE);
    }

    let before = agent.usage().expect("the agent runs").rss;
    far.stop().expect("the broker stops");
    let stuck = acknowledged(&agent, "far").expect("it is told");
    wait_acknowledged(&agent, "kafka", near_of(writer.lines() + MEANWHILE));
    let grown = agent.usage().expect("the agent runs").rss.saturating_sub(before);
    eprintln!("figures outputs: one away, {MEANWHILE} lines: RSS grew by {grown} bytes");
    assert!(grown <= RSS_GROWTH_MAX, "{grown}");
    assert_eq!(acknowledged(&agent, "far").expect("it is told"), stuck, "nobody acknowledges what is away");
    let (_, health) = agent.get("/healthz").expect("it answers");
    assert!(health.contains("kafka (far)") && !health.contains("\"kafka\""), "{health}");

    agent.kill().expect("it is killed");
    agent = start.spawn().expect("the agent starts without one of its clusters");
    wait_acknowledged(&agent, "kafka", MEANWHILE);
    let back = wait::now();
    far.start_again().expect("the broker starts again");
    let written = writer.end().expect("the lines are written");
    let near: Written = written
        .iter()
        .filter(|(file, _)| !file.starts_with("03-"))
        .map(|(file, lines)| (file.clone(), *lines))
        .collect();
    for (cluster, written) in [(&scene.cluster, &near), (&far.cluster, &written)] {
        let lines = written.values().sum();
        wait::wait_for("all lines of an output in its topic", LIMIT, || {
            let count = cluster.count(&scene.topic).map_err(|error| error.to_string())?;
            wait::met(count >= lines, || format!("{count} of {lines} records; log:\n{}", agent.log_tail()))
        });
    }
    eprintln!("figures outputs: all is in both {:.1?} after the broker was started again", back.elapsed());
    scene.check_equations(Some(&agent), None);
    assert!(agent.stop(LIMIT).success());
    for (name, cluster, written) in [("near", &scene.cluster, &near), ("far", &far.cluster, &written)] {
        let copies = read_back::topic(cluster, &scene.topic, &scene.recipe()).expect("the topic reads back");
        let report = audit::records(written, &copies, &[]);
        eprintln!("figures outputs: {name}: {report}");
        assert!(report.missing.is_empty() && report.is_sound(), "{name}: {report}");
        assert!(report.surplus() <= RATE, "{name}: one kill repeats at most what was not yet noted: {report}");
    }
}

/// Of so many lines those of the three files that go to both.
fn near_of(lines: u64) -> u64 {
    lines * 3 / 4
}

/// What this life has acknowledged of an output.
fn acknowledged(agent: &Daemon, output: &str) -> Result<u64, String> {
    let metrics = agent.metrics().map_err(|error| error.to_string())?;
    let label = format!("output=\"{output}\"");
    Ok(metrics.sum_where("tailrace_agent_events_acknowledged_total", &label).unwrap_or(0.0) as u64)
}

#[track_caller]
fn wait_acknowledged(agent: &Daemon, output: &str, lines: u64) {
    wait::wait_for("lines acknowledged by an output", LIMIT, || {
        let acknowledged = acknowledged(agent, output)?;
        wait::met(acknowledged >= lines, || format!("{output}: {acknowledged} of {lines}; log:\n{}", agent.log_tail()))
    });
}
