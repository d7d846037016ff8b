//! Promise: agent and indexer in one process, without Kafka, lose nothing and store nothing twice, whatever is killed or away; and their
//! documents are those that come through Kafka.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tests::daemon::{Half, Start};
use tests::scene::Scene;
use tests::search::Node;
use tests::stack::{self, OwnSearch};
use tests::wait;
use tests::writer::Writer;

const LIMIT: Duration = Duration::from_secs(120);
/// Lines written a second.
const RATE: u64 = 3_000;
/// Kills of the process while they are written, the node being there and being away.
const KILLS: u64 = 6;
/// The node is away for so long, under load.
const AWAY: Duration = Duration::from_secs(20);

/// A process that ships this scene's log folder to `index` of `node`.
fn standalone(scene: &Scene, node: &Node, index: &str) -> Start {
    let config = json!({
        "name": format!("host-{}", scene.run),
        "state_dir": scene.folder.join("state"),
        "memory": 64 << 20,
        "inputs": [{"id": "app", "type": "file", "paths": [scene.folder.join("logs/app-*.log*")], "start": "beginning"}],
        "elasticsearch": {"hosts": [node.url], "index": index},
        "metrics": {"listen": format!("127.0.0.1:{}", stack::free_port())},
    });
    Start { half: Half::Standalone, config, folder: scene.folder.clone(), env: Vec::new(), through: Vec::new() }
}

/// Waits until the index has all `lines`, or stands still.
fn wait_indexed(node: &Node, index: &str, lines: u64) {
    let (count, _) = wait::grows_to(lines, Duration::from_secs(60), || node.count(index).ok());
    assert!(count >= lines, "{count} of {lines} documents, and no more");
}

/// Documents by id, without what tells when they were read.
fn by_id(node: &Node, index: &str) -> BTreeMap<String, Value> {
    let without_times = |mut source: Value| {
        source.as_object_mut().expect("an object").retain(|name, _| name != "@timestamp");
        if let Some(event) = source.get_mut("event").and_then(Value::as_object_mut) {
            event.remove("created");
        }
        source
    };
    let documents = node.documents(index).expect("the index reads back");
    documents.into_iter().map(|document| (document.id.clone(), without_times(document.source))).collect()
}

#[test]
fn kills_and_a_node_that_is_away_lose_nothing_and_store_nothing_twice() {
    let own = stack::home().join(format!("standalone-{:08x}", fastrand::u32(..)));
    let search = OwnSearch::start(&own, "opensearch").expect("a node of this test's own starts");
    let scene = Scene::on("standalone", 1, stack::shared().cluster, search.node.clone());
    let start = standalone(&scene, &scene.node, &scene.index);
    let writer = Writer::start(scene.load(6, 10_000_000, RATE, 2)); // More than is needed; ended below.
    let mut life = start.spawn().expect("the process starts");
    let kill_at = |lines: u64, life: &mut tests::daemon::Daemon| {
        wait::wait_for("the next moment to kill", LIMIT, || {
            let written = writer.lines();
            wait::met(written >= lines, || format!("{written} of {lines} lines"))
        });
        life.kill().expect("it runs");
        *life = start.spawn().expect("it starts again");
    };
    for kill in 1..=KILLS {
        kill_at(kill * RATE, &mut life);
    }
    let before = writer.lines();
    search.stop().expect("the node stops");
    kill_at(before + RATE * AWAY.as_secs() / 2, &mut life);
    wait::wait_for("the end of the outage", LIMIT, || {
        let written = writer.lines();
        wait::met(written >= before + RATE * AWAY.as_secs(), || format!("{written} lines"))
    });
    assert!(life.ended().is_none(), "it waits for the node");
    search.start_again().expect("the node starts again");
    kill_at(writer.lines() + RATE, &mut life);
    let written = writer.end().expect("the lines are written");
    let lines = written.values().sum();
    wait_indexed(&scene.node, &scene.index, lines);
    let report = scene.audit_index(&written).expect("the index reads back");
    eprintln!("figures standalone: {} kills, node away for {AWAY:?}: {report}", KILLS + 2);
    assert!(report.is_clean(), "{report}");
    scene.check_equations(Some(&life), Some(&life));
    assert!(life.stop(Duration::from_secs(20)).success(), "it drains");
}

#[test]
fn its_documents_are_those_that_come_through_kafka() {
    let scene = Scene::shared("standalone-same", 1);
    let pipelines = scene.folder.join("pipelines");
    std::fs::create_dir_all(&pipelines).expect("the folder is made");
    let text = "processors:\n  - grok: {field: message, patterns: ['%{WORD:run.name}']}\n  - set: {field: event.kind, value: event}\n";
    std::fs::write(pipelines.join("p.yml"), text).expect("written");
    let direct_index = format!("{}-direct", scene.index);
    scene.node.create_index(&direct_index, &json!({"message": {"type": "text", "index": false}})).expect("made");
    let written = Writer::start(scene.load(3, 3_000, 100_000, 0)).finish().expect("the lines are written");
    let lines: u64 = written.values().sum();
    let pipelines = json!({"dir": pipelines, "default": "p"});
    let fields = |start: &mut Start| {
        start.config["inputs"][0]["fields"] = json!({"service.name": "shop"});
        start.config["inputs"][0]["tags"] = json!(["a", "b"]);
    };
    let (mut agent, mut indexer) = (scene.agent(), scene.indexer());
    fields(&mut agent);
    indexer.config["pipelines"] = pipelines.clone();
    let (mut agent, mut indexer) = (agent.spawn().expect("it starts"), indexer.spawn().expect("it starts"));
    wait_indexed(&scene.node, &scene.index, lines);
    agent.kill().expect("it runs");
    indexer.kill().expect("it runs");
    std::fs::remove_dir_all(scene.folder.join("state")).expect("it begins anew");
    let mut start = standalone(&scene, &scene.node, &direct_index);
    fields(&mut start);
    start.config["pipelines"] = pipelines;
    let _life = start.spawn().expect("it starts");
    wait_indexed(&scene.node, &direct_index, lines);
    let (through, direct) = (by_id(&scene.node, &scene.index), by_id(&scene.node, &direct_index));
    assert_eq!(through.len() as u64, lines);
    assert_eq!(direct, through);
}

#[test]
fn what_needs_kafka_is_refused_at_the_start() {
    let scene = Scene::shared("standalone-refused", 1);
    for (key, value, told) in [
        (
            "limits",
            json!([{"name": "p", "rate": {"events": "5/s"}, "excess": {"divert": "later"}}]),
            "use wait or drop",
        ),
        ("dead_letter", json!({"topic": "dead"}), "use dead_letter.file or dead_letter.index"),
        ("pipelines", json!({"routes": [{"topic": "t", "pipeline": "p"}]}), "there is no topic `t`"),
        ("outputs", json!([]), "unknown field `outputs`"),
    ] {
        let mut start = standalone(&scene, &scene.node, &scene.index);
        start.config[key] = value;
        let mut life = start.spawn().expect("it starts");
        let status = life.wait_end(Duration::from_secs(20));
        assert_eq!(status.code(), Some(2), "{key}: {}", life.log());
        assert!(life.log().contains(told), "{key}: {}", life.log());
    }
}
