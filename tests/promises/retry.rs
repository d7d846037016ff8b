//! Promise: what the index refuses for now waits in Kafka, longer each time, and what is not to be indexed yet until its time;
//! neither holds up others, is lost, or is stored twice.

use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tests::daemon::{Daemon, Start};
use tests::kafka::Stored;
use tests::scene::Scene;
use tests::{http, wait};

const LIMIT: Duration = Duration::from_secs(60);
/// Lengths of the waits.
const DELAYS: [&str; 3] = ["1s", "2s", "4s"];

fn retry_topic(scene: &Scene, delay: &str) -> String {
    format!("{}-retry.{delay}", scene.topic)
}

/// An indexer with retry topics, to an index for each `event.dataset`.
fn indexer(scene: &Scene) -> Start {
    for delay in DELAYS {
        scene.cluster.create_topic(&retry_topic(scene, delay), 1).expect("the topic is made");
    }
    let mut start = scene.indexer();
    start.config["elasticsearch"]["index"] = json!(format!("{}-{{event.dataset}}", scene.index));
    start.config["retry"] = json!({"delays": DELAYS, "after": "500ms", "topic": format!("{}-retry", scene.topic)});
    start
}

fn index(scene: &Scene, dataset: &str) -> String {
    format!("{}-{dataset}", scene.index)
}

/// Lets the index take documents, or refuse them for now.
fn set_shut(scene: &Scene, dataset: &str, shut: bool) {
    let url = format!("{}/{}/_settings", scene.node.url, index(scene, dataset));
    http::json("PUT", &url, Some(&json!({"index.blocks.write": shut}))).expect("the index is set");
}

fn record(metadata: &Value, dataset: &str) -> Vec<u8> {
    json!({"@metadata": metadata, "event": {"dataset": dataset}, "message": "m"}).to_string().into_bytes()
}

fn header<'s>(stored: &'s Stored, name: &str) -> &'s str {
    let value = stored.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice());
    std::str::from_utf8(value.unwrap_or_else(|| panic!("no {name} in {stored:?}"))).expect("a text")
}

fn number(stored: &Stored, name: &str) -> i64 {
    header(stored, name).parse().expect("a number")
}

/// Others are taken while `body` runs: a record every 100 ms. Returns how many.
fn beside_others(scene: &Scene, body: impl FnOnce()) -> u64 {
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let others = threads.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                scene.cluster.produce(&scene.topic, 0, &[&record(&json!({}), "open")]).expect("it is written");
                count += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
            count
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        over.store(true, Ordering::Relaxed);
        let count = others.join().expect("others are written");
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        count
    })
}

fn wait_count(what: &str, expected: u64, mut count: impl FnMut() -> anyhow::Result<u64>) {
    wait::wait_for(what, LIMIT, || {
        let count = count().map_err(|error| error.to_string())?;
        wait::met(count >= expected, || format!("{count} of {expected}"))
    });
}

fn put_off(indexer: &Daemon) -> u64 {
    indexer.metrics().map_or(0, |metrics| metrics.indexer("put_off"))
}

#[test]
fn what_is_refused_for_now_waits_longer_each_time_and_is_stored_once_or_a_dead_letter() {
    let scene = Scene::shared("retry", 1);
    for dataset in ["shut", "never"] {
        scene.node.create_index(&index(&scene, dataset), &json!({})).expect("the index is made");
        set_shut(&scene, dataset, true);
    }
    let refused = [record(&json!({"_id": "own"}), "shut"), record(&json!({}), "shut"), record(&json!({}), "never")];
    let refused: Vec<&[u8]> = refused.iter().map(Vec::as_slice).collect();
    scene.cluster.produce(&scene.topic, 0, &refused).expect("the records are written");
    let first: Vec<Stored> = scene.cluster.read_all(&scene.topic).expect("the topic reads back");
    let indexer = indexer(&scene).spawn().expect("the indexer starts");
    let others = beside_others(&scene, || {
        wait_count("records in the last topic", 3, || scene.cluster.count(&retry_topic(&scene, "4s")));
        set_shut(&scene, "shut", false);
        wait_count("documents", 2, || scene.node.count(&index(&scene, "shut")));
        wait_count("a dead letter", 1, || scene.cluster.count(&scene.dead_topic));
    });
    let all = |delay| scene.cluster.read_all(&retry_topic(&scene, delay)).expect("the topic reads back");
    for (place, stood) in first.iter().take(3).enumerate() {
        let mut before_ms = stood.timestamp_ms;
        for (step, delay) in DELAYS.into_iter().enumerate() {
            let waits = all(delay);
            assert_eq!(waits.len(), 3, "each record waits once in each topic");
            let of_place = |stored: &&Stored| number(stored, "tailrace-offset") == place as i64;
            let waited = waits.iter().find(of_place).expect("it waited there");
            assert_eq!((&waited.value, header(waited, "tailrace-topic")), (&stood.value, scene.topic.as_str()));
            assert_eq!(number(waited, "tailrace-refusals"), step as i64 + 1);
            let not_before_ms = number(waited, "tailrace-not-before");
            assert!(waited.timestamp_ms >= before_ms, "{delay}: it came before its time: {waited:?}");
            let wait_ms = i64::from(delay.as_bytes()[0] - b'0') * 1000;
            assert!(not_before_ms + 500 >= waited.timestamp_ms + wait_ms, "{delay}: {waited:?}");
            before_ms = not_before_ms;
        }
    }
    let place = String::from_utf8_lossy(&event::foreign_id(&scene.topic, 0, 1, first[1].timestamp_ms)).into_owned();
    let documents = scene.node.documents(&index(&scene, "shut")).expect("the index reads back");
    let mut ids: Vec<String> = documents.into_iter().map(|document| document.id).collect();
    ids.sort_by_key(|id| id != "own");
    assert_eq!(ids, ["own".to_owned(), place], "the ids of the records where they stood first");
    let letters = scene.cluster.read_all(&scene.dead_topic).expect("the topic reads back");
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((&letter.value, header(letter, "tailrace-kind")), (&first[2].value, "put_off_too_often"));
    assert_eq!((header(letter, "tailrace-topic"), number(letter, "tailrace-offset")), (scene.topic.as_str(), 2));
    assert!(number(letter, "tailrace-attempts") >= 2 * 4, "each of its four stays asked twice: {letter:?}");
    assert!(header(letter, "tailrace-cause").contains("(blocked)"), "{letter:?}");
    scene.wait_committed(LIMIT);
    wait_count("the others", others, || scene.node.count(&index(&scene, "open")));
    assert_eq!(put_off(&indexer), 9);
    scene.check_equations(None, Some(&indexer));
}

#[test]
fn a_record_is_not_indexed_before_its_time_also_if_the_indexer_is_killed() {
    let scene = Scene::shared("not-before", 1);
    let start = indexer(&scene);
    let due_ms = service::clock::wall_ms() + 20_000;
    let due = event_time(due_ms);
    let values = [
        record(&json!({"_id": "milliseconds", "not_before": due_ms}), "later"),
        record(&json!({"_id": "text", "not_before": due}), "later"),
        record(&json!({"_id": "over", "not_before": due_ms - 3_600_000}), "now"),
    ];
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    scene.cluster.produce(&scene.topic, 0, &values).expect("the records are written");
    let line = record(&json!({"_id": "header"}), "later");
    scene.cluster.produce_with(&scene.topic, 0, &line, &[("tailrace-not-before", &due)]).expect("it is written");
    let mut indexer = start.spawn().expect("the indexer starts");
    wait_count("the record without a wait", 1, || scene.node.count(&index(&scene, "now")));
    wait_count("records in the retry topic", 3, || scene.cluster.count(&retry_topic(&scene, "4s")));
    indexer.kill().expect("it runs");
    let indexer = start.spawn().expect("the indexer starts again");
    let later = index(&scene, "later");
    wait::wait_for("the documents", LIMIT, || {
        http::request("POST", &format!("{}/{later}/_refresh", scene.node.url), None).ok(); // There may be none yet.
        let count = scene.node.count(&later).map_err(|error| error.to_string())?;
        let now_ms = service::clock::wall_ms();
        assert!(count == 0 || now_ms >= due_ms, "{count} documents {} ms too early", due_ms - now_ms);
        wait::met(count == 3, || format!("{count} documents"))
    });
    let late_ms = service::clock::wall_ms() - due_ms;
    eprintln!("figures retry: not_before: the last of 3 documents is seen {late_ms} ms after its time");
    assert!(late_ms < 15_000, "{late_ms} ms late");
    let mut ids: Vec<String> =
        scene.node.documents(&later).expect("the index reads back").into_iter().map(|document| document.id).collect();
    ids.sort();
    assert_eq!(ids, ["header", "milliseconds", "text"]);
    scene.wait_committed(LIMIT);
    assert_eq!(scene.cluster.count(&scene.dead_topic).expect("the topic is there"), 0);
    scene.check_equations(None, Some(&indexer));
}

fn event_time(ms: i64) -> String {
    engine::time_text(ms).expect("a time that can be written").to_string()
}
