//! Letters in a topic of a mock broker: written, read back, grouped and replayed.

use super::*;
use crate::batch::Origin;
use crate::bulk::{Cluster, Host, Sending, Wire};
use crate::config::Compression;
use crate::dead_letter::{DeadLetterTopic, DeadLetters as _, Letter};
use crate::metrics::Metrics;
use crate::parcel::Parcel;
use crate::parcel::tests::parcel;
use crate::settle::{Answer, Cause};
use bytes::Bytes;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use serde_json::{Value, json};
use service::metrics::Registry;
use std::path::Path;
use std::sync::{Arc, Mutex};

type Mock = MockCluster<'static, DefaultProducerContext>;

fn broker() -> Mock {
    let mock = MockCluster::new(1).expect("a mock cluster");
    mock.create_topic("logs-dead", 2, 1).expect("a topic");
    mock
}

fn config(mock: &Mock, more: &str) -> IndexerConfig {
    let brokers = mock.bootstrap_servers();
    let text = format!(
        "kafka: {{brokers: ['{brokers}'], topics: [logs]}}\nelasticsearch: {{hosts: ['http://127.0.0.1:1'], index: 'logs-{{event.dataset}}-default'}}\n{more}"
    );
    service::load::parse_config(Path::new("indexer.yaml"), &text).expect("a valid configuration")
}

fn letter<'p>(parcel: &'p Parcel, record: u32, reason: &str, pipeline: &'p str) -> Letter<'p> {
    Letter {
        parcel,
        origin: Origin { parcel: 0, record },
        cause: Cause { status: 400, kind: "mapper_parsing_exception".to_owned(), reason: reason.to_owned() },
        pipeline,
        processor: "",
        index: "logs-x-default".to_owned(),
        attempts: 1,
    }
}

/// Writes letters of payloads that stand at offsets 0, 1, … of `logs/3`, with their causes and pipelines.
async fn bury(mock: &Mock, records: &[(&[u8], &str, &str)]) {
    let metrics = Metrics::new(&Registry::default());
    let payloads: Vec<&[u8]> = records.iter().map(|(payload, ..)| *payload).collect();
    let (parcel, _rx) = parcel(&payloads, &metrics);
    let letters: Vec<Letter<'_>> = records
        .iter()
        .enumerate()
        .map(|(at, (_, reason, pipeline))| letter(&parcel, at as u32, reason, pipeline))
        .collect();
    let topic =
        DeadLetterTopic::new(&group::base(&config(mock, "")).expect("brokers"), "logs-dead").expect("a producer");
    assert_eq!(topic.write(&letters).await, []);
}

fn all(config: &IndexerConfig) -> Vec<Grave> {
    let mut graves = Vec::new();
    let visit = |grave| {
        graves.push(grave);
        ControlFlow::Continue(())
    };
    read(config, visit).expect("the mock answers");
    graves.sort_by_key(|grave| grave.number::<i64>("offset"));
    graves
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_read_back_as_it_was_written() {
    let mock = broker();
    let config = config(&mock, "");
    assert_eq!(all(&config), []);
    bury(&mock, &[(b"\xffbytes", "failed 'a'", "p"), (b"two", "failed 'b'", "q"), (b"three", "other", "q")]).await;
    let graves = all(&config);
    assert_eq!(graves.len(), 3);
    assert_eq!(graves[0].value.as_deref(), Some(b"\xffbytes".as_slice()));
    let headers =
        ["cause", "kind", "status", "pipeline", "index", "topic", "partition", "offset", "timestamp", "attempts"];
    let read: Vec<&str> = headers.iter().map(|name| graves[0].header(name)).collect();
    let written = [
        "failed 'a'",
        "mapper_parsing_exception",
        "400",
        "p",
        "logs-x-default",
        "logs",
        "3",
        "0",
        "1700000000000",
        "1",
    ];
    assert_eq!(read, written);
    assert!(graves[0].header("time").ends_with('Z') && graves[0].headers.contains_key("processor"));
    let mut groups = Groups::default();
    graves.iter().for_each(|grave| groups.add(grave));
    assert_eq!(groups.sorted().iter().map(|group| group.letters).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn a_topic_that_is_not_there_and_letters_elsewhere_are_told() {
    let mock: Mock = MockCluster::new(1).expect("a mock cluster");
    let elsewhere = config(&mock, "dead_letter: {file: /var/lib/tailrace/dead.ndjson}");
    let error = read(&elsewhere, |_| ControlFlow::Continue(())).expect_err("it is no topic").to_string();
    assert!(error.starts_with("dead_letter is no topic"), "{error}");
}

/// Refuses documents with `"bad": true`, keeps the others by id.
#[derive(Debug, Clone, Default)]
struct Node {
    documents: Arc<Mutex<Vec<(String, String, Value)>>>,
}

impl Wire for Node {
    fn bulk(&self, body: Bytes, _packed: bool) -> Sending<'_> {
        let text = std::str::from_utf8(&body).expect("a body is text").to_owned();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let mut documents = self.documents.lock().expect("no test panics");
        let items: Vec<Value> = lines
            .chunks(2)
            .map(|pair| {
                let (id, index) = (pair[0]["create"]["_id"].to_string(), pair[0]["create"]["_index"].to_string());
                if pair[1]["bad"] == true {
                    return json!({"create": {"status": 400, "error": {"type": "x", "reason": "still bad"}}});
                }
                let status = if documents.iter().any(|(known, ..)| *known == id) { 409 } else { 201 };
                documents.push((id, index, pair[1].clone()));
                json!({"create": {"status": status}})
            })
            .collect();
        let body = json!({"errors": true, "items": items}).to_string();
        Box::pin(std::future::ready(Answer::Http { status: 200, body: body.into(), retry_after: None }))
    }

    fn root(&self) -> Sending<'_> {
        Box::pin(std::future::ready(Answer::Nothing("not asked".to_owned())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_makes_documents_by_the_same_ids_and_says_what_fails_again() {
    let mock = broker();
    let own = br#"{"@metadata":{"_id":"own"},"n":1}"#;
    bury(&mock, &[(own, "a", ""), (br#"{"n":2}"#, "b", ""), (br#"{"n":3,"bad":true}"#, "c", "")]).await;
    let config = config(&mock, "");
    let graves = all(&config);
    let replay = Replay::new(&config, None).expect("no pipelines");
    let node = Node::default();
    let metrics = Metrics::new(&Registry::default());
    let host = Host::new("http://node", Box::new(node.clone()));
    let cluster = Arc::new(Cluster::of(vec![host], Compression::None, metrics));
    for _ in 0..2 {
        let causes: Vec<_> = replay.send(&cluster, &graves).await.into_iter().map(|replayed| replayed.cause).collect();
        assert_eq!(causes, [None, None, Some("x: still bad".to_owned())]);
    }
    let mut ids: Vec<String> =
        node.documents.lock().expect("no test panics").iter().map(|(id, ..)| id.clone()).collect();
    ids.sort();
    ids.dedup();
    let place = event::foreign_id("logs", 3, 1, 1_700_000_000_000);
    let mut expected = vec!["\"own\"".to_owned(), format!("\"{}\"", std::str::from_utf8(&place).expect("text"))];
    expected.sort();
    assert_eq!(ids, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_with_an_edited_pipeline_shows_the_document_and_sends_nothing() {
    let mock = broker();
    let record = br#"{"@metadata":{"pipeline":"shop"},"n":"x"}"#;
    bury(&mock, &[(record, "a", "shop"), (record, "a", "other")]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pipelines = folder.path().join("pipelines");
    std::fs::create_dir(&pipelines).expect("a folder");
    // What stands there is another one, and what it calls is there, too.
    std::fs::write(pipelines.join("shop.yml"), "processors: [{remove: {field: n}}]").expect("written");
    std::fs::write(pipelines.join("other.yml"), "processors: [{set: {field: other, value: 'yes'}}]").expect("written");
    std::fs::write(pipelines.join("shop.tests.yml"), "[]").expect("written");
    let edited = folder.path().join("shop.yml");
    std::fs::write(&edited, "processors: [{set: {field: event.dataset, value: shop}}]").expect("written");
    let config = config(&mock, &format!("pipelines: {{dir: '{}'}}", pipelines.display()));
    let graves = all(&config);
    let replay = Replay::new(&config, Some(&edited)).expect("it compiles");
    assert!(replay.concerns(&graves[0]) && !replay.concerns(&graves[1]));
    let Rehearsed::Document { action, document, failed } = replay.rehearse(&graves[0]) else { panic!("a document") };
    assert_eq!((&action["create"]["_index"], &document["n"], failed), (&"logs-shop-default".into(), &"x".into(), None));
    let as_it_is = Replay::new(&config, None).expect("they compile");
    let Rehearsed::Document { document, .. } = as_it_is.rehearse(&graves[0]) else { panic!("a document") };
    assert_eq!(document.get("n"), None);
    let with_others =
        replay.rehearse(&Grave { value: Some(br#"{"@metadata":{"pipeline":"other"}}"#.to_vec()), ..graves[1].clone() });
    let Rehearsed::Document { document, .. } = with_others else { panic!("a document") };
    assert_eq!(document["other"], "yes");
    std::fs::write(&edited, "processors: [{convert: {field: n, type: integer, tag: t1}}]").expect("written");
    let replay = Replay::new(&config, Some(&edited)).expect("it compiles");
    let Rehearsed::Document { failed, .. } = replay.rehearse(&graves[0]) else { panic!("a document") };
    assert_eq!(failed.as_deref(), Some("convert (tag t1)"));
    std::fs::write(&edited, "processors: [{cnvert: {}}]").expect("written");
    let error = format!("{:#}", Replay::new(&config, Some(&edited)).err().expect("there is no such processor"));
    assert!(error.contains("shop.yml:1:"), "{error}");
}
