//! Promise: Elasticsearch 8 and OpenSearch 2 take the same documents, in plain indices and in data streams.

use std::time::Duration;
use tests::scene::Scene;
use tests::search::Node;
use tests::stack::{self, OwnSearch};
use tests::writer::Writer;

const LINES: u64 = 10_000;

#[test]
fn opensearch_holds_every_line_once() {
    every_line_once("opensearch", &stack::shared().node);
}

#[test]
fn elasticsearch_holds_every_line_once() {
    let own = stack::home().join(format!("elasticsearch-{:08x}", fastrand::u32(..)));
    let search = OwnSearch::start(&own, "elasticsearch").expect("a node of this test's own starts");
    every_line_once("elasticsearch", &search.node);
}

fn every_line_once(engine: &str, node: &Node) {
    let version = tests::http::json("GET", &node.url, None).expect("the node answers")["version"].clone();
    eprintln!("figures engines: {engine} {}", version["number"]);
    into(&format!("{engine}-index"), node, false);
    into(&format!("{engine}-stream"), node, true);
}

/// Ships a rotating load, kills both halves once on the way, and accounts for every line.
fn into(name: &str, node: &Node, stream: bool) {
    let shared = stack::shared();
    let mut scene = Scene::without_node(name, 3, shared.cluster, node.clone());
    if stream {
        scene.index = format!("logs-{}-default", scene.run);
    }
    node.create_template(&scene.run, &format!("{}*", scene.index), stream).expect("the template is taken");
    let writer = Writer::start(scene.load(4, LINES, 2_500, 1));
    let (agent, indexer) = (scene.agent(), scene.indexer());
    let (mut first_agent, mut first_indexer) = (agent.spawn().expect("it starts"), indexer.spawn().expect("it starts"));
    scene.wait_indexed(LINES / 4, Duration::from_secs(60));
    first_agent.kill().expect("it runs");
    first_indexer.kill().expect("it runs");
    let ends = scene.cluster.settled_ends(&scene.topic).expect("the broker answers");
    let (agent, indexer) = (agent.spawn().expect("it starts"), indexer.spawn().expect("it starts"));
    let written = writer.finish().expect("the lines are written");
    scene.wait_indexed(LINES, Duration::from_secs(60));
    scene.wait_committed(Duration::from_secs(30));
    scene.check_equations(Some(&agent), Some(&indexer));
    let topic = scene.audit_topic(&written, &[ends]).expect("the topic reads back");
    let index = scene.audit_index(&written).expect("the index reads back");
    eprintln!("figures {name}: index: {index}");
    assert!(index.is_clean(), "{index}");
    assert!(topic.missing.is_empty() && topic.inverted_in_a_life.is_empty(), "{topic}");
}
