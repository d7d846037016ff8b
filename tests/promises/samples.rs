//! Promise: real logs of nginx, Apache and OpenSSH go the whole way; every line is a document or a counted dead letter.

use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tests::scene::Scene;
use tests::stack;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn nginx_lines_arrive_parsed() {
    let Some(data) = stack::reference_data() else { return };
    let folder = data.join("module-cases/nginx-access");
    let logs: Vec<_> = files(&folder).into_iter().filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    assert!(!logs.is_empty(), "no sample in {}", folder.display());
    let parsed = whole_way("nginx", &logs, Some("nginx-access"));
    // Samples hold a few lines in formats of their own; most are plain access lines.
    assert!(
        parsed.with_status * 10 >= parsed.documents * 7,
        "only {} of {} were parsed",
        parsed.with_status,
        parsed.documents
    );
}

#[test]
fn apache_lines_arrive() {
    let Some(data) = stack::reference_data() else { return };
    whole_way("apache", &[data.join("loghub/Apache_2k.log")], None);
}

#[test]
fn openssh_lines_arrive() {
    let Some(data) = stack::reference_data() else { return };
    whole_way("openssh", &[data.join("loghub/OpenSSH_2k.log")], None);
}

struct Outcome {
    documents: usize,
    with_status: usize,
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Ships `logs`, and looks for each of their lines by file and offset among documents and dead letters.
fn whole_way(name: &str, logs: &[PathBuf], pipeline: Option<&str>) -> Outcome {
    let shared = stack::shared();
    let scene = Scene::without_node(name, 2, shared.cluster, shared.node);
    scene.node.create_template(&scene.run, &format!("{}*", scene.index), false).expect("the template is taken");
    let mut expected = BTreeMap::new();
    for (number, log) in logs.iter().enumerate() {
        let mut bytes = fs::read(log).expect("the sample is read");
        if !bytes.ends_with(b"\n") {
            bytes.push(b'\n'); // An unfinished last line would wait for its end.
        }
        let path = scene.append(&format!("app-{number}.log"), &bytes).expect("the sample is copied");
        expected.extend(lines(&path, &bytes));
    }
    let (mut agent, mut indexer) = (scene.agent(), scene.indexer());
    if let Some(pipeline) = pipeline {
        agent.config["inputs"][0]["pipeline"] = json!(pipeline);
        indexer.config["pipelines"] = json!({"dir": stack::project().join("pipelines/catalog")});
    }
    let (agent, indexer) = (agent.spawn().expect("it starts"), indexer.spawn().expect("it starts"));
    scene.wait_shipped(expected.len() as u64, LIMIT);
    scene.wait_committed(LIMIT);
    scene.check_equations(Some(&agent), Some(&indexer));
    let documents = scene.node.documents(&scene.index).expect("the index reads back");
    let dead = scene.cluster.read_all(&scene.dead_topic).expect("the topic reads back");
    let counted = indexer.metrics().expect("the indexer has metrics").indexer("dead_lettered");
    assert_eq!(dead.len() as u64, counted, "dead letters and their counter");
    eprintln!(
        "figures samples: {name}: {} lines, {} documents, {} dead letters",
        expected.len(),
        documents.len(),
        dead.len()
    );
    assert_eq!(documents.len() + dead.len(), expected.len());
    let mut with_status = 0;
    for document in &documents {
        let source = &document.source;
        let place =
            (source["log"]["file"]["path"].as_str().unwrap_or_default().to_owned(), source["log"]["offset"].as_u64());
        let line = expected.remove(&place).unwrap_or_else(|| panic!("{place:?} is no line, or there twice: {source}"));
        with_status += usize::from(source["http"]["response"]["status_code"].is_number());
        let text = source["event"]["original"].as_str().or_else(|| source["message"].as_str());
        assert!(text.is_none_or(|text| text == line), "{place:?}: {text:?} is not {line:?}");
    }
    assert_eq!(expected.len(), dead.len(), "neither a document nor a dead letter: {:?}", expected.first_key_value());
    Outcome { documents: documents.len(), with_status }
}

/// Each line of a file that makes an event, by path and offset, without its line end.
fn lines(path: &Path, bytes: &[u8]) -> BTreeMap<(String, Option<u64>), String> {
    let mut found = BTreeMap::new();
    let mut offset = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text = String::from_utf8_lossy(text).into_owned();
        // An empty line makes no event, as with Filebeat.
        if !text.is_empty() {
            found.insert((path.display().to_string(), Some(offset)), text);
        }
        offset += line.len() as u64;
    }
    found
}
