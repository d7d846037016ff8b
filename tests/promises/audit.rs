//! Promise: `tailrace audit` finds a removed document, a doubled one and a missing range, by offset.

use event::Incarnation;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;
use tests::scene::Scene;
use tests::{daemon, http, stack, wait};

const LIMIT: Duration = Duration::from_secs(60);
/// Lines of the one file: all of the same length.
const LINES: u64 = 12_000;
const LINE_BYTES: u64 = 11;

/// The files of the large audit; a test writes 40,000 lines into them, a full run 2,000,000.
const FILES: u64 = 4;
/// Longest time that 2,000,000 lines may take.
const MILLIONS_WITHIN: Duration = Duration::from_secs(60);
/// Most memory that an audit without dead letters may take, however many lines there are.
const RSS_MAX: u64 = 96 << 20;
/// Documents a bulk request.
const BULK: u64 = 2_000;

/// What an audit said, and took.
struct Audited {
    code: Option<i32>,
    told: Value,
    took: Duration,
    rss_max: u64,
}

/// Runs the audit of the scene's files.
fn audit(scene: &Scene) -> Audited {
    http::json("POST", &format!("{}/{}/_refresh", scene.node.url, scene.index), None).expect("refreshed");
    let (out, errors) = (scene.folder.join("audit.json"), scene.folder.join("audit.log"));
    let mut child = Command::new(stack::program())
        .args(["audit", "--json", "--index", &scene.index, "--dead-letters", &scene.dead_topic, "--files"])
        .arg(scene.folder.join("logs/app-*.log*"))
        .arg("-c")
        .arg(scene.folder.join("indexer.yaml"))
        .stdin(Stdio::null())
        .stdout(File::create(&out).expect("made"))
        .stderr(File::create(&errors).expect("made"))
        .spawn()
        .expect("the program runs");
    let mut rss_max = 0;
    let (status, took) = wait::wait_for("the end of the audit", 3 * LIMIT, || {
        rss_max = daemon::usage(child.id()).map_or(rss_max, |usage| usage.rss_max.max(rss_max));
        child.try_wait().ok().flatten().ok_or_else(|| "it still runs".to_owned())
    });
    let text = std::fs::read_to_string(out).expect("its output");
    let told = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}\n{}", std::fs::read_to_string(errors).unwrap_or_default());
    });
    Audited { code: status.code(), told, took, rss_max }
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

    let Audited { code, told, .. } = audit(&scene);
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

    let Audited { code, told, .. } = audit(&scene);
    let file = &told["files"][0];
    eprintln!("figures audit: {file}");
    assert_eq!((code, &told["adds_up"]), (Some(1), &Value::Bool(false)), "{told}");
    let range =
        |from: u64, lines: u64| json!({"from": from * LINE_BYTES, "to": (from + lines) * LINE_BYTES, "lines": lines});
    assert_eq!(file["missing"]["ranges"], json!([range(10, 1), range(500, 100)]), "{file}");
    assert_eq!(file["duplicates"]["ranges"], json!([range(9_000, 1)]), "{file}");
    wait::met(file["lines"] == LINES, || file.to_string()).expect("all lines are read");
}

#[test]
fn of_events_of_several_lines_it_says_that_it_cannot_tell() {
    let scene = Scene::shared("audit-multiline", 1);
    let mut indexer = scene.indexer().spawn().expect("the indexer starts");
    let mut agent = scene.agent();
    agent.config["inputs"][0]["parsers"] = json!([{"multiline": {"pattern": "^ ", "match": "after"}}]);
    let _agent = agent.spawn().expect("the agent starts");
    indexer.wait_ready(LIMIT);
    scene.append("app-0.log", b"fine\nerror\n  at x\n  at y\nfine again\nlast\n").expect("written");
    scene.wait_indexed(4, LIMIT);
    scene.check_equations(None, Some(&indexer));
    let Audited { code, told, .. } = audit(&scene);
    let file = &told["files"][0];
    assert_eq!((code, &told["adds_up"], &file["verdict"]), (Some(1), &json!(false), &json!("cannot_tell")), "{told}");
    assert_eq!(file["unlike"], json!({"documents": 1, "offset": 5}), "{told}");
}

/// Writes the scene's `file` with `lines` lines, and a document of each but `absent`. Returns the offset of that one.
fn write_file_and_documents(scene: &Scene, file: u64, lines: u64, absent: u64) -> u64 {
    let path = scene.folder.join(format!("logs/app-{file}.log"));
    let (mut text, mut bulk, mut offset, mut at_absent) = (String::new(), String::new(), 0, 0);
    for number in 0..lines {
        let line = format!("{number} GET /shop/item/{} HTTP/1.1 200 of file {file}", number * 7_919 % 100_003);
        if number == absent {
            at_absent = offset;
        } else {
            let id = event::document_id(Incarnation(file + 1), offset, line.as_bytes());
            let id = std::str::from_utf8(&id).expect("ASCII");
            let document = json!({"log": {"file": {"path": path}, "offset": offset}});
            writeln!(bulk, "{{\"create\":{{\"_id\":\"{id}\"}}}}\n{document}").expect("memory");
        }
        offset += line.len() as u64 + 1;
        writeln!(text, "{line}").expect("memory");
        if (number + 1) % BULK == 0 || number + 1 == lines {
            let url = format!("{}/{}/_bulk", scene.node.url, scene.index);
            let (status, answer) = http::request("POST", &url, Some(&bulk)).expect("the node answers");
            assert!(status == 200 && answer.contains("\"errors\":false"), "status {status}: {answer:.500}");
            bulk.clear();
        }
    }
    std::fs::write(&path, text).expect("written");
    at_absent
}

#[test]
fn one_missing_line_of_many_is_found_in_time_and_in_little_memory() {
    let scene = Scene::shared("audit-many", 1);
    let is_full = std::env::var_os("TAILRACE_TEST_FULL").is_some();
    let lines = if is_full { 500_000 } else { 10_000 };
    let config = scene.indexer().config;
    std::fs::write(scene.folder.join("indexer.yaml"), config.to_string()).expect("written");
    let keyword =
        json!({"properties": {"log": {"properties": {"file": {"properties": {"path": {"type": "keyword"}}}}}}});
    http::json("PUT", &format!("{}/{}/_mapping", scene.node.url, scene.index), Some(&keyword)).expect("mapped");
    let offsets: Vec<_> =
        (0..FILES).map(|file| write_file_and_documents(&scene, file, lines, lines - 1 - 10 * file)).collect();
    let Audited { code, told, took, rss_max } = audit(&scene);
    eprintln!(
        "figures audit: {} lines of {FILES} files in {took:.1?}, RSS {} MB at most",
        lines * FILES,
        rss_max >> 20
    );
    assert_eq!((code, &told["documents_of_others"]), (Some(1), &json!(0)), "{told}");
    for (file, offset) in told["files"].as_array().expect("files").iter().zip(offsets) {
        assert_eq!((&file["lines"], &file["documents"]), (&json!(lines), &json!(lines - 1)), "{file}");
        assert_eq!((&file["missing"]["lines"], &file["missing"]["ranges"][0]["from"]), (&json!(1), &json!(offset)));
        assert_eq!((&file["duplicates"]["lines"], &file["verdict"]), (&json!(0), &json!("does_not_add_up")), "{file}");
    }
    assert!(took < MILLIONS_WITHIN, "{took:?}");
    assert!(rss_max < RSS_MAX, "{rss_max} bytes");
}
