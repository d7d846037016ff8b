//! Promise: each output of an indexer gets every document, whatever is killed, and one that is away holds up no other.

use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;
use tests::audit::{self, Copy};
use tests::daemon::Start;
use tests::scene::Scene;
use tests::writer::Writer;
use tests::{http, stack, wait};

const LIMIT: Duration = Duration::from_secs(120);
/// Lines written, and how many a second.
const LINES: u64 = 40_000;
const RATE: u64 = 5_000;
/// Kills of the indexer while they are written.
const KILLS: u64 = 5;
/// The file is renamed when it has so many bytes: several times.
const FILE_BYTES: u64 = 4 << 20;

/// A pipeline that all documents go through.
const PIPELINE: &str = "processors:\n  - set: {field: event.kind, value: parsed}\n";

fn parsed_topic(scene: &Scene) -> String {
    format!("{}-parsed", scene.topic)
}

fn far_index(scene: &Scene) -> String {
    format!("{}-far", scene.index)
}

/// An indexer with four outputs; `far` is the node of the fourth.
fn indexer(scene: &Scene, far: &str) -> Start {
    let mut start = scene.indexer();
    let pipelines = scene.folder.join("pipelines");
    std::fs::create_dir_all(&pipelines).expect("the folder is made");
    std::fs::create_dir_all(scene.folder.join("out")).expect("the folder is made");
    std::fs::write(pipelines.join("p.yml"), PIPELINE).expect("written");
    start.config["pipelines"] = json!({"dir": pipelines, "default": "p"});
    start.config["outputs"] = json!([
        {"id": "topic", "kafka": {"topic": parsed_topic(scene)}},
        {"id": "file", "file": {"path": scene.folder.join("out/parsed.ndjson"), "bytes_max": FILE_BYTES}},
        {"id": "far", "elasticsearch": {"hosts": [far], "index": far_index(scene)}},
    ]);
    start
}

/// The lines of all files in `folder`, and how many files there are.
fn lines_of(folder: &Path) -> (Vec<String>, usize) {
    let (mut lines, mut files) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a text");
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is whole");
        lines.extend(text.lines().map(str::to_owned));
        files += 1;
    }
    (lines, files)
}

/// How many different documents there are among copies: each is parsed, and names the one that the index has.
fn distinct(copies: &[Value], documents: &HashMap<String, String>) -> u64 {
    let mut seen = BTreeMap::new();
    for copy in copies {
        let (id, message) = (copy["@metadata"]["_id"].as_str(), copy["message"].as_str());
        let (id, message) = (id.expect("a copy has an id"), message.expect("a copy has the message"));
        assert_eq!(copy["event"]["kind"], "parsed", "{copy}");
        assert_eq!(documents.get(id).map(String::as_str), Some(message), "the index has it under the same id: {copy}");
        *seen.entry(id.to_owned()).or_insert(0_u64) += 1;
    }
    seen.len() as u64
}

#[test]
fn kills_lose_nothing_in_any_output_and_one_that_is_away_holds_up_no_other() {
    let scene = Scene::shared("outputs", 3);
    scene.cluster.create_topic(&parsed_topic(&scene), 3).expect("the topic is made");
    let nobody = format!("http://127.0.0.1:{}", stack::free_port());
    let start = indexer(&scene, &nobody);
    let writer = Writer::start(scene.load(6, LINES, RATE, 1));
    let _agent = scene.agent().spawn().expect("the agent starts");
    let mut life = start.spawn().expect("the indexer starts");
    for kill in 1..=KILLS {
        wait::wait_for("the next moment to kill", LIMIT, || {
            let written = writer.lines();
            wait::met(written >= kill * LINES / (KILLS + 1), || format!("{written} lines"))
        });
        life.kill().expect("the indexer runs");
        life = start.spawn().expect("the indexer starts again");
    }
    let written = writer.finish().expect("all lines are written");
    scene.wait_indexed(LINES, LIMIT);
    for id in ["topic", "file"] {
        wait_committed(&scene, id);
    }

    let report = scene.audit_index(&written).expect("the index reads back");
    assert!(report.is_clean(), "{report}");
    let documents = scene.node.documents(&scene.index).expect("the index reads back");
    let documents: HashMap<_, _> =
        documents.iter().map(|document| (document.id.clone(), document.message().to_owned())).collect();
    let recipe = scene.recipe();

    let records = scene.cluster.read_all(&parsed_topic(&scene)).expect("the topic reads back");
    let mut copies = Vec::new();
    for record in &records {
        let copy: Value = serde_json::from_slice(&record.value).expect("a copy is JSON");
        let id = copy["@metadata"]["_id"].as_str().unwrap_or_default().as_bytes();
        let header = record.headers.iter().find(|(name, _)| name == "tailrace-id");
        assert_eq!((record.key.as_deref(), header.map(|(_, id)| id.as_slice())), (Some(id), Some(id)));
        copies.push(copy);
    }
    let report = audit::documents(&written, &copies_of(&recipe, &copies));
    assert!(report.missing.is_empty() && report.is_sound(), "topic: {report}");
    assert_eq!(distinct(&copies, &documents), LINES);
    eprintln!(
        "figures outputs: {KILLS} kills, {LINES} lines; topic: 0 missing, {} copies beyond the first",
        report.surplus()
    );

    let (lines, files) = lines_of(&scene.folder.join("out"));
    let copies: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let report = audit::documents(&written, &copies_of(&recipe, &copies));
    assert!(report.missing.is_empty() && report.is_sound(), "file: {report}");
    assert_eq!(distinct(&copies, &documents), LINES);
    assert!(files > 2, "{files} files: they are renamed when they are full");
    eprintln!("figures outputs: files: 0 missing, {} copies beyond the first, in {files} files", report.surplus());

    // The fourth is told, has committed nothing, and gets all of it when its node is there.
    let committed = scene.cluster.committed(&group(&scene, "far"), &scene.topic).expect("the broker answers");
    assert!(committed.values().all(|offset| *offset <= 0), "{committed:?}");
    let (_, health) = life.get("/healthz").expect("the page is there");
    assert!(health.contains("elasticsearch (far)"), "{health}");
    let metrics = life.metrics().expect("the page is there");
    metrics.indexer_balances().expect("over all outputs it holds");
    assert_eq!(metrics.sum_where("tailrace_indexer_indexed_total", "output=\"far\"").unwrap_or(0.0), 0.0);
    life.kill().expect("the indexer runs");
    scene.node.create_index(&far_index(&scene), &json!({"message": {"type": "text", "index": false}})).expect("made");
    let mut life = indexer(&scene, &scene.node.url).spawn().expect("the indexer starts with a node that is there");
    wait::wait_for("all documents in the fourth", LIMIT, || {
        let count = scene.node.count(&far_index(&scene)).map_err(|error| error.to_string())?;
        wait::met(count >= LINES, || format!("{count} of {LINES}"))
    });
    http::json("POST", &format!("{}/{}/_refresh", scene.node.url, far_index(&scene)), None).expect("refreshed");
    let far = tests::read_back::index(&scene.node, &far_index(&scene), &recipe).expect("the index reads back");
    let report = audit::documents(&written, &far);
    assert!(report.is_clean(), "far: {report}");
    assert!(life.stop(Duration::from_secs(20)).success(), "all outputs drain");
}

fn copies_of(recipe: &tests::lines::Recipe, copies: &[Value]) -> Vec<Copy> {
    copies.iter().map(|copy| Copy::document(recipe, copy["message"].as_str().unwrap_or_default())).collect()
}

fn group(scene: &Scene, id: &str) -> String {
    format!("{}.{id}", scene.group)
}

fn wait_committed(scene: &Scene, id: &str) {
    wait::wait_for("an output that has all", LIMIT, || {
        let look = || {
            let mut ends = scene.cluster.ends(&scene.topic)?;
            ends.retain(|_, end| *end > 0); // Where nothing was written, nothing is committed.
            anyhow::Ok((ends, scene.cluster.committed(&group(scene, id), &scene.topic)?))
        };
        let (ends, committed) = look().map_err(|error| error.to_string())?;
        wait::met(ends == committed, || format!("{id}: ends {ends:?}, committed {committed:?}"))
    });
}

#[test]
fn standard_output_has_the_documents_and_nothing_else() {
    let scene = Scene::shared("outputs-stdout", 1);
    scene.cluster.produce(&scene.topic, 0, &[b"a line".as_slice(), b"{\"n\":2}"]).expect("the records are written");
    let mut start = scene.indexer();
    start.config["outputs"] = json!([{"id": "seen", "stdout": true}]);
    if let Some(config) = start.config.as_object_mut() {
        config.remove("elasticsearch"); // No search cluster is needed.
    }
    let config = scene.folder.join("stdout.yaml");
    std::fs::write(&config, start.config.to_string()).expect("written");
    let out = scene.folder.join("stdout");
    let mut child = std::process::Command::new(stack::program())
        .args(["indexer", "-c"])
        .arg(&config)
        .stdout(std::fs::File::create(&out).expect("made"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the indexer starts");
    let (lines, _) = wait::wait_for("two lines", LIMIT, || {
        let text = std::fs::read_to_string(&out).map_err(|error| error.to_string())?;
        let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if lines.len() < 2 { Err(text) } else { Ok(lines) }
    });
    let ended = std::process::Command::new("kill").arg(child.id().to_string()).status();
    assert!(ended.expect("kill runs").success());
    assert!(child.wait().expect("it ends").success(), "it drains");
    assert_eq!((&lines[0]["message"], &lines[1]["n"]), (&json!("a line"), &json!(2)));
    assert!(lines.iter().all(|line| line["@metadata"]["_id"].is_string()), "{lines:?}");
    assert_eq!(std::fs::read_to_string(&out).expect("a text").lines().count(), 2, "the log goes elsewhere");
}
