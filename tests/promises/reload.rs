//! Promise: edited pipelines take the place of the old ones at once; the group is not left, and what is wrong changes nothing.

use serde_json::json;
use std::fs;
use std::time::Duration;
use tests::daemon::Daemon;
use tests::fake::{Answer, FakeNode};
use tests::scene::Scene;
use tests::search::Node;
use tests::{stack, wait};

const LIMIT: Duration = Duration::from_secs(60);

/// Writes the pipeline `p`, which says in each document who made it.
fn write_pipeline(scene: &Scene, text: &str) {
    fs::create_dir_all(scene.folder.join("pipelines")).expect("made");
    fs::write(scene.folder.join("pipelines/p.yml"), text).expect("written");
}

fn made_by(name: &str) -> String {
    format!("processors:\n  - set: {{field: made_by, value: {name}}}\n")
}

fn start(scene: &Scene) -> (Daemon, Daemon) {
    let mut indexer = scene.indexer();
    indexer.config["pipelines"] = json!({"dir": scene.folder.join("pipelines"), "default": "p"});
    let mut indexer = indexer.spawn().expect("the indexer starts");
    let agent = scene.agent().spawn().expect("the agent starts");
    indexer.wait_ready(LIMIT);
    (agent, indexer)
}

fn total(daemon: &Daemon, name: &str) -> u64 {
    daemon.metrics().expect("it has metrics").total(name)
}

/// Sends SIGHUP and waits until `reloads` have been counted in all.
fn reload(indexer: &Daemon, reloads: u64) {
    indexer.signal("HUP").expect("sent");
    wait::wait_for("the reload", LIMIT, || {
        let counted = total(indexer, "tailrace_indexer_reloads_total");
        wait::met(counted >= reloads, || format!("{counted} reloads; log:\n{}", indexer.log_tail()))
    });
}

/// `made_by` of the one document whose message is `line`.
fn maker(documents: &[(String, String)], line: &str) -> String {
    let found: Vec<_> = documents.iter().filter(|(message, _)| message == line).collect();
    assert_eq!(found.len(), 1, "{line}: {found:?}");
    found[0].1.clone()
}

#[test]
fn an_edited_pipeline_is_swapped_without_a_rebalance_and_a_broken_one_keeps_the_old() {
    let scene = Scene::shared("reload", 2);
    write_pipeline(&scene, &made_by("first"));
    let (agent, indexer) = start(&scene);
    scene.append("app-0.log", b"one\n").expect("written");
    scene.wait_indexed(1, LIMIT);
    let rebalances = total(&indexer, "tailrace_indexer_rebalances_total");

    write_pipeline(&scene, &made_by("second"));
    reload(&indexer, 1);
    scene.append("app-0.log", b"two\n").expect("written");
    scene.wait_indexed(2, LIMIT);

    write_pipeline(&scene, "processors:\n  - set: {field: made_by, value: third}\n  - sett: {field: x}\n");
    reload(&indexer, 2);
    let told = indexer.wait_log(&["not reloaded", "p.yml:3:", "sett"], LIMIT);
    eprintln!("figures reload: broken: {told}");
    let (_, health) = indexer.get("/healthz").expect("it answers");
    assert!(health.contains("p.yml:3:"), "{health}");
    scene.append("app-0.log", b"three\n").expect("written");
    scene.wait_indexed(3, LIMIT);

    write_pipeline(&scene, &made_by("fourth"));
    reload(&indexer, 3);
    let (_, health) = indexer.get("/healthz").expect("it answers");
    assert!(!health.contains("not reloaded"), "{health}");
    scene.append("app-0.log", b"four\n").expect("written");
    scene.wait_indexed(4, LIMIT);

    let documents = scene.node.documents(&scene.index).expect("the index reads back");
    let documents: Vec<_> = documents
        .iter()
        .map(|document| {
            (document.message().to_owned(), document.source["made_by"].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    let makers = ["one", "two", "three", "four"].map(|line| maker(&documents, line));
    assert_eq!(makers, ["first", "second", "second", "fourth"]);
    assert_eq!(total(&indexer, "tailrace_indexer_rebalances_total"), rebalances, "nobody left the group");
    scene.check_equations(Some(&agent), Some(&indexer));
}

#[test]
fn what_was_made_before_a_reload_stays_as_it_was_made_while_the_output_is_blocked() {
    let node = FakeNode::start().expect("the fake starts");
    let scene = Scene::without_node("reload-blocked", 1, stack::shared().cluster, Node { url: node.url.clone() });
    write_pipeline(&scene, &made_by("first"));
    node.script(std::iter::repeat_n(Answer::Refuse(503, "{}"), 10_000));
    let (_agent, indexer) = start(&scene);
    scene.append("app-0.log", b"one\n").expect("written");
    wait::wait_for("the first try", LIMIT, || wait::met(!node.bulks().is_empty(), || "no request".to_owned()));

    write_pipeline(&scene, &made_by("second"));
    reload(&indexer, 1);
    scene.append("app-0.log", b"two\n").expect("written");
    scene.wait_shipped(2, LIMIT);
    let rebalances = total(&indexer, "tailrace_indexer_rebalances_total");
    node.heal();
    wait::wait_for("both documents", LIMIT, || {
        let stored = node.documents().len();
        wait::met(stored == 2, || format!("{stored} of 2"))
    });
    let documents: Vec<_> = node
        .documents()
        .into_values()
        .map(|source| {
            let text = |key: &str| source[key].as_str().unwrap_or_default().to_owned();
            (text("message"), text("made_by"))
        })
        .collect();
    assert_eq!([maker(&documents, "one"), maker(&documents, "two")], ["first", "second"]);
    assert_eq!(total(&indexer, "tailrace_indexer_rebalances_total"), rebalances);
    scene.check_equations(None, Some(&indexer));
}
