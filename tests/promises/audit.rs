//! Promise: `tailrace audit` finds a removed document, a doubled one and a missing range, by offset.

use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;
use tests::scene::Scene;
use tests::{http, stack, wait};

const LIMIT: Duration = Duration::from_secs(60);
/// Lines of the one file: all of the same length.
const LINES: u64 = 12_000;
const LINE_BYTES: u64 = 11;

/// Runs the audit of the scene's files. Returns the exit code and what it says.
fn audit(scene: &Scene) -> (Option<i32>, Value) {
    http::json("POST", &format!("{}/{}/_refresh", scene.node.url, scene.index), None).expect("refreshed");
    let files = scene.folder.join("logs/app-*.log*");
    let output = Command::new(stack::program())
        .args(["audit", "--json", "--index", &scene.index, "--dead-letters", &scene.dead_topic, "--files"])
        .arg(files)
        .arg("-c")
        .arg(scene.folder.join("indexer.yaml"))
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code(), told)
}

#[test]
fn a_removed_document_a_doubled_one_and_a_missing_range_are_found() {
    let scene = Scene::shared("audit", 2);
    let mut indexer = scene.indexer().spawn().expect("the indexer starts");
    let _agent = scene.agent().spawn().expect("the agent starts");
    indexer.wait_ready(LIMIT);
    let text: String = (0..LINES).map(|number| format!("line-{number:05}\n")).collect();
    scene.append("app-0.log", text.as_bytes()).expect("written");
    scene.wait_indexed(LINES, LIMIT);
    scene.check_equations(None, Some(&indexer));

    let (code, told) = audit(&scene);
    assert_eq!((code, &told["adds_up"]), (Some(0), &Value::Bool(true)), "{told}");
    assert_eq!((&told["files"][0]["lines"], &told["files"][0]["documents"]), (&json!(LINES), &json!(LINES)));

    let url = format!("{}/{}", scene.node.url, scene.index);
    // One removed; a hundred in a row removed; one of the others stored a second time, under another id.
    let query = |from: u64, lines: u64| json!({"query": {"range": {"log.offset": {"gte": from * LINE_BYTES, "lt": (from + lines) * LINE_BYTES}}}});
    for (from, lines) in [(10, 1), (500, 100)] {
        let removed = http::json("POST", &format!("{url}/_delete_by_query?refresh"), Some(&query(from, lines)));
        assert_eq!(removed.expect("removed")["deleted"], lines);
    }
    let found = http::json("POST", &format!("{url}/_search"), Some(&query(9_000, 1))).expect("found");
    let copy = &found["hits"]["hits"][0]["_source"];
    http::json("POST", &format!("{url}/_doc?refresh"), Some(copy)).expect("stored again");

    let (code, told) = audit(&scene);
    let file = &told["files"][0];
    eprintln!("figures audit: {file}");
    assert_eq!((code, &told["adds_up"]), (Some(1), &Value::Bool(false)), "{told}");
    let range =
        |from: u64, lines: u64| json!({"from": from * LINE_BYTES, "to": (from + lines) * LINE_BYTES, "lines": lines});
    assert_eq!(file["missing"]["ranges"], json!([range(10, 1), range(500, 100)]), "{file}");
    assert_eq!(file["duplicates"]["ranges"], json!([range(9_000, 1)]), "{file}");
    wait::met(file["lines"] == LINES, || file.to_string()).expect("all lines are read");
}
