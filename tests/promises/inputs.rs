//! Promise: inputs come and go while the agent runs, and what they ship stands in the topic as long as any record.

use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tests::scene::Scene;
use tests::wait;

const LIMIT: Duration = Duration::from_secs(30);

/// The lines in the topic, sorted.
fn lines(scene: &Scene) -> Vec<String> {
    let records = scene.cluster.read_all(&scene.topic).expect("the topic reads back");
    let mut lines: Vec<_> = records.iter().map(|record| record.line()).collect();
    lines.sort();
    lines
}

/// A file of the folder of inputs, for one log.
fn input(scene: &Scene, id: &str) -> (PathBuf, String) {
    let log = scene.folder.join("logs").join(format!("{id}.log"));
    let yaml = format!("- {{id: {id}, type: file, paths: ['{}'], scan_interval: 100ms}}\n", log.display());
    (scene.folder.join("inputs.d").join(format!("{id}.yaml")), yaml)
}

#[test]
fn a_watched_folder_adds_disables_and_adds_inputs_and_a_bad_file_changes_nothing() {
    let scene = Scene::shared("inputs", 1);
    let mut start = scene.agent();
    start.config["inputs_dir"] = json!(scene.folder.join("inputs.d"));
    start.config["inputs"] = json!([]);
    fs::create_dir(scene.folder.join("inputs.d")).expect("made");
    let agent = start.spawn().expect("the agent starts");

    let (a, yaml_a) = input(&scene, "a");
    scene.append("a.log", b"a1\n").expect("written");
    fs::write(&a, &yaml_a).expect("written");
    scene.wait_shipped(1, LIMIT);

    let (b, yaml_b) = input(&scene, "b");
    fs::rename(&a, a.with_extension("yaml.disabled")).expect("disabled");
    fs::write(&b, &yaml_b).expect("written");
    scene.append("b.log", b"b1\n").expect("written");
    scene.wait_shipped(2, LIMIT);
    wait::wait_for("input a to be gone", LIMIT, || {
        let (_, page) = agent.get("/inputs").map_err(|error| error.to_string())?;
        wait::met(!page.contains("\"a\""), || page)
    });

    scene.append("a.log", b"a2\n").expect("written");
    fs::write(&a, "- {id: a, type: file, paths: ['relative']}\n").expect("written");
    let told = agent.wait_log(&["not reloaded", "a.yaml:1:8", "relative"], LIMIT);
    eprintln!("figures inputs: bad file: {told}");
    scene.append("b.log", b"b2\n").expect("written");
    scene.wait_shipped(3, LIMIT);
    assert_eq!(lines(&scene), ["a1", "b1", "b2"], "a is disabled, b goes on");

    fs::write(&a, &yaml_a).expect("written");
    scene.wait_shipped(4, LIMIT);
    assert_eq!(lines(&scene), ["a1", "a2", "b1", "b2"], "read on where it was");
    scene.check_equations(Some(&agent), None);
}

#[test]
fn nasty_20_a_backlog_older_than_the_topics_retention_has_the_time_at_which_it_was_sent() {
    let scene = Scene::shared("backlog", 1);
    let mut start = scene.agent();
    start.config["inputs"][0]["parsers"] = json!([{"container": {}}]);
    let old = r#"{"log":"from a backlog\n","stream":"stdout","time":"2001-02-03T04:05:06.789Z"}"#;
    scene.append("app-0.log", format!("{old}\n").as_bytes()).expect("written");
    let before = service::clock::wall_ms();
    let _agent = start.spawn().expect("the agent starts");
    scene.wait_shipped(1, LIMIT);
    let records = scene.cluster.read_all(&scene.topic).expect("the topic reads back");
    let event: Value = serde_json::from_slice(&records[0].value).expect("is JSON");
    assert_eq!(event["@timestamp"], "2001-02-03T04:05:06.789Z", "the event's own time");
    // The broker throws away by the record's time, and would do so with a time of 2001 at once.
    assert!(records[0].timestamp_ms >= before, "{} is before {before}", records[0].timestamp_ms);
}
