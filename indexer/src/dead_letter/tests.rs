//! Letters as documents, in files and in an index.

use super::*;
use crate::bulk::{Cluster, Host, Sending, Wire};
use crate::config::Compression;
use crate::metrics::Metrics;
use crate::parcel::tests::parcel;
use crate::settle::Answer;
use bytes::Bytes;
use service::metrics::Registry;
use std::sync::{Arc, Mutex};

const NOT_TEXT: &[u8] = b"\xff\x00line";

fn letters(parcel: &Parcel) -> Vec<Letter<'_>> {
    let cause =
        Cause { status: 400, kind: "mapper_parsing_exception".to_owned(), reason: "failed to parse [n]".to_owned() };
    let letter = |record| Letter {
        parcel,
        origin: Origin { parcel: 0, record },
        cause: cause.clone(),
        pipeline: "nginx",
        processor: "grok (tag t)",
        index: "logs-x-default".to_owned(),
        attempts: 2,
    };
    (0..parcel.records.len() as u32).map(letter).collect()
}

fn metrics() -> Metrics {
    Metrics::new(&Registry::default())
}

#[test]
fn a_letter_as_a_document_has_the_cause_the_place_and_the_bytes() {
    let (parcel, _rx) = parcel(&[b"line", NOT_TEXT], &metrics());
    let documents: Vec<Value> = letters(&parcel).iter().map(|letter| letter.document(0)).collect();
    let expected = json!({
        "@timestamp": "1970-01-01T00:00:00.000Z",
        "message": "failed to parse [n]",
        "error": {"message": "failed to parse [n]", "type": "mapper_parsing_exception", "code": "400"},
        "event": {"original": "line"},
        "tailrace": {
            "pipeline": "nginx", "processor": "grok (tag t)", "index": "logs-x-default", "topic": "logs", "partition": 3,
            "offset": 0, "timestamp": 1_700_000_000_000_i64, "attempts": 2, "key": null,
        },
    });
    assert_eq!(documents[0], expected);
    let bytes = documents[1]["tailrace"]["value_base64"].as_str().map(|text| STANDARD.decode(text));
    assert_eq!(bytes, Some(Ok(NOT_TEXT.to_vec())));
}

#[tokio::test]
async fn a_file_has_a_line_for_each_letter_and_is_made_anew_after_a_rotation() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("dead.ndjson");
    let file = DeadLetterFile::new(&path).expect("the folder is there");
    let (parcel, _rx) = parcel(&[b"one", b"two"], &metrics());
    let originals = |path: &std::path::Path| -> Vec<String> {
        let text = std::fs::read_to_string(path).expect("it is there");
        let original = |line| serde_json::from_str::<Value>(line).expect("JSON")["event"]["original"].to_string();
        text.lines().map(original).collect()
    };
    assert_eq!(file.write(&letters(&parcel)).await, []);
    assert_eq!(originals(&path), ["\"one\"", "\"two\""]);
    let rotated = folder.path().join("dead.1");
    std::fs::rename(&path, &rotated).expect("it can be renamed");
    assert_eq!(file.write(&letters(&parcel)).await, []);
    assert_eq!((originals(&path).len(), originals(&rotated).len()), (2, 2));
    std::fs::remove_dir_all(folder.path()).expect("it can be removed");
    let unwritten = file.write(&letters(&parcel)).await;
    assert_eq!(unwritten.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1]);
    assert!(unwritten[0].1.contains("dead.ndjson"), "{unwritten:?}");
    assert!(DeadLetterFile::new(&path).is_err());
}

/// Takes bodies up to a size, answers 201 for each document, or one answer for all.
#[derive(Debug, Clone)]
struct Taking {
    bytes_max: usize,
    says: Option<u16>,
    taken: Arc<Mutex<Vec<Value>>>,
}

impl Wire for Taking {
    fn bulk(&self, body: Bytes, _packed: bool) -> Sending<'_> {
        Box::pin(async move {
            let says = |status, body: String| Answer::Http { status, body: body.into(), retry_after: None };
            if let Some(status) = self.says {
                return says(status, String::new());
            }
            if body.len() > self.bytes_max {
                return says(413, String::new());
            }
            let text = std::str::from_utf8(&body).expect("a body is text");
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            let items = vec![r#"{"create":{"status":201}}"#; lines.len() / 2].join(",");
            self.taken.lock().expect("no test panics").extend(lines);
            says(200, format!(r#"{{"errors":false,"items":[{items}]}}"#))
        })
    }

    fn root(&self) -> Sending<'_> {
        Box::pin(std::future::ready(Answer::Nothing("not asked".to_owned())))
    }
}

/// Writes letters of these payloads. Returns the lines that were taken and what was not written.
async fn write(payloads: &[&[u8]], bytes_max: usize, says: Option<u16>) -> (Vec<Value>, Vec<Unwritten>) {
    let taking = Taking { bytes_max, says, taken: Arc::default() };
    let host = Host::new("http://node", Box::new(taking.clone()));
    let cluster = Arc::new(Cluster::of(vec![host], Compression::None, metrics()));
    let (parcel, _rx) = parcel(payloads, &metrics());
    let unwritten = DeadLetterIndex::new(cluster, "dead").write(&letters(&parcel)).await;
    let taken = taking.taken.lock().expect("no test panics").clone();
    (taken, unwritten)
}

#[tokio::test]
async fn an_index_has_a_document_for_each_letter_named_by_its_place() {
    let (lines, unwritten) = write(&[b"one", b"two"], usize::MAX, None).await;
    assert_eq!(unwritten, []);
    let id = event::foreign_id("logs", 3, 1, 1_700_000_000_000);
    assert_eq!(
        lines[2],
        json!({"create": {"_index": "dead", "_id": std::str::from_utf8(&id).expect("an id is text")}})
    );
    assert_eq!(lines[3]["event"]["original"], "two");
}

#[tokio::test]
async fn a_letter_that_is_too_large_for_an_index_is_kept_in_part_and_its_neighbours_whole() {
    let large = vec![b'x'; 100_000];
    let (lines, unwritten) = write(&[b"one", &large, b"two"], 40_000, None).await;
    assert_eq!(unwritten, []);
    let kept = |at: usize| (lines[at]["event"]["original"].as_str().map_or(0, str::len), &lines[at]["tailrace"]["cut"]);
    assert_eq!([kept(1), kept(3), kept(5)], [(3, &Value::Null), (16 << 10, &Value::Bool(true)), (3, &Value::Null)]);
}

#[tokio::test]
async fn what_an_index_does_not_take_is_told() {
    for status in [200, 400, 403, 429, 503] {
        let (_, unwritten) = write(&[b"one", b"two"], usize::MAX, Some(status)).await;
        assert_eq!(unwritten.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1], "{status}");
        assert!(unwritten[0].1.starts_with("http://node, index dead: "), "{unwritten:?}");
    }
}
