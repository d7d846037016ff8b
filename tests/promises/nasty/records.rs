//! What stands in a topic on a bad day, or no longer stands there.

use crate::{Bench, LIMIT, check_same, is_full, total};
use serde_json::json;
use std::fs;
use std::path::Path;
use tests::fake::FakeNode;
use tests::scene::Scene;
use tests::search::Node;
use tests::stack::{self, OwnKafka};
use tests::wait;

#[test]
fn gaps_between_offsets_hold_nothing() {
    let mut bench = Bench::new("gaps", 1);
    let (cluster, topic) = (bench.scene.cluster.clone(), bench.scene.topic.clone());
    let transact = |lines: &[String], commit| {
        let values: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
        cluster.transact(&topic, 0, &values, commit).expect("the broker takes them");
    };
    let some = |name: &str| (0..20).map(|number| format!("{name} {number}")).collect::<Vec<_>>();
    bench.add_lines(1, 20, 60);
    cluster.delete_records(&topic, 0, 5).expect("the broker forgets them"); // The first offset is not zero.
    bench.values.drain(..5);
    for round in 0..3 {
        let (taken, aborted) = (some(&format!("taken {round}")), some(&format!("aborted {round}")));
        transact(&aborted, false);
        transact(&taken, true);
        transact(&aborted, false);
        bench.values.extend(taken);
    }
    cluster.settled_ends(&topic).expect("the broker answers"); // The marker of an abort comes after the answer.
    let last = "the last".to_owned(); // Nothing is committed behind a marker until a record follows it.
    bench.produce(0, &[last.as_str()]);
    bench.values.push(last);
    let indexer = bench.scene.indexer().spawn().expect("the indexer starts");
    assert!(bench.settle_up(&indexer).is_empty());
    assert_eq!(total(&indexer, "consumed_total"), bench.values.len() as u64);
}

#[test]
fn a_corrupt_last_record_is_a_dead_letter_and_holds_nothing() {
    let mut bench = Bench::new("corrupt", 2);
    let cut = "{\"message\":\"cut in the mid"; // And nothing behind it.
    for partition in 0..2 {
        let lines: Vec<_> = (0..100).map(|number| format!("{partition} {number}")).collect();
        let records: Vec<_> = lines.iter().map(|line| json!({"message": line}).to_string()).collect();
        bench.produce(partition, &records.iter().map(String::as_str).collect::<Vec<_>>());
        bench.produce(partition, &[cut]);
        bench.values.extend(lines);
        bench.values.push(cut.to_owned());
    }
    let mut start = bench.scene.indexer();
    start.config["decode"] = json!("json");
    let indexer = start.spawn().expect("the indexer starts");
    assert_eq!(bench.settle_up(&indexer), [cut, cut]);
    let letters = bench.scene.cluster.read_all(&bench.scene.dead_topic).expect("the topic reads back");
    for letter in letters {
        let header = |name: &str| letter.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice());
        assert_eq!(header("tailrace-kind"), Some(b"undecodable".as_slice()));
        assert_eq!(header("tailrace-offset"), Some(b"100".as_slice()));
    }
}

#[test]
fn retention_passed_is_read_on_from_the_earliest_record() {
    let mut bench = Bench::with_lines("retention", 1, 300);
    let cluster = &bench.scene.cluster;
    cluster.commit(&bench.scene.group, &bench.scene.topic, 0, 100).expect("the broker takes it");
    cluster.delete_records(&bench.scene.topic, 0, 200).expect("the broker forgets them");
    bench.values.drain(..200); // 100 had been done before, 100 are gone for good.
    let indexer = bench.scene.indexer().spawn().expect("the indexer starts");
    assert!(bench.settle_up(&indexer).is_empty());
    assert_eq!(total(&indexer, "consumed_total"), 100);
    // And it goes on from there.
    bench.add_lines(1, 100, 100);
    assert!(bench.settle_up(&indexer).is_empty());
}

#[test]
fn a_recreated_topic_is_read_from_its_beginning() {
    let mut bench = Bench::with_lines("recreated", 1, 50);
    let indexer = bench.scene.indexer().spawn().expect("the indexer starts");
    assert!(bench.settle_up(&indexer).is_empty());
    bench.scene.cluster.delete_topic(&bench.scene.topic).expect("it is deleted");
    indexer.wait_log(&["Unknown topic or partition"], LIMIT); // Of a fetch or of the group, whichever asks first.
    bench.scene.cluster.create_topic(&bench.scene.topic, 1).expect("it is made anew");
    bench.add_lines(1, 30, 100); // At offsets that the old one had, too.
    bench.wait_ended();
    bench.scene.check_equations(None, Some(&indexer));
    assert!(bench.check_ends().is_empty());
    wait::wait_for("the new offset of the group", LIMIT, || {
        let committed = bench.scene.cluster.committed(&bench.scene.group, &bench.scene.topic);
        let committed = committed.map_err(|error| error.to_string())?;
        wait::met(committed.get(&0) == Some(&30), || format!("{committed:?}"))
    });
}

/// 37 KB of what has broken shippers: quotes and backslashes, line ends with an action line, control characters, separators, and
/// characters of two to four bytes.
fn evil() -> String {
    let part = "\"\\\\\"}\n{\"index\":{\"_index\":\"evil\"}}\r\n{}\n\u{0}\u{1b}[2J\u{7f}\u{85}\u{2028}\u{2029}\u{202e}\u{e4}\u{20ac}\u{1f4a3}${env:HOME}{{x}}%{[y]}";
    let mut text = part.repeat(37_000 / part.len() + 1);
    text.push('.'); // A line end at the end would be cut.
    text
}

#[test]
fn a_37_kb_evil_line_is_one_document_to_the_last_character() {
    let mut bench = Bench::with_lines("evil", 1, 50);
    bench.produce(0, &[evil().as_str()]);
    bench.values.push(evil());
    bench.add_lines(1, 50, 100);
    let indexer = bench.scene.indexer().spawn().expect("the indexer starts");
    assert!(bench.settle_up(&indexer).is_empty());
    assert!(bench.node.bulks().iter().all(|bulk| bulk.items.iter().all(|item| item.action == "create")));
}

#[test]
fn a_37_kb_evil_line_that_no_index_takes_is_one_dead_letter_with_its_bytes() {
    let mut scene = Scene::shared("evil-term", 1);
    scene.index = format!("{}-keyword", scene.index);
    scene.node.create_index(&scene.index, &json!({"message": {"type": "keyword"}})).expect("the index is made");
    let lines: Vec<_> = (0..100).map(|number| format!("{} {number}", scene.run)).collect();
    let values: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
    let evil = evil();
    let (before, after) = values.split_at(50);
    for values in [before, &[evil.as_bytes()], after] {
        scene.cluster.produce(&scene.topic, 0, values).expect("the broker takes them");
    }
    let indexer = scene.indexer().spawn().expect("the indexer starts");
    scene.wait_indexed(100, LIMIT);
    scene.wait_committed(LIMIT);
    scene.check_equations(None, Some(&indexer));
    let documents = scene.node.documents(&scene.index).expect("the index reads back");
    check_same(documents.iter().map(|document| document.message().to_owned()).collect(), lines);
    let dead = scene.cluster.read_all(&scene.dead_topic).expect("the topic reads back");
    assert_eq!(dead.len(), 1);
    assert!(dead[0].value == evil.as_bytes(), "the letter has the bytes of the record");
    let cause = dead[0].headers.iter().find(|(key, _)| key == "tailrace-cause").expect("it says why");
    let cause = String::from_utf8_lossy(&cause.1).into_owned();
    assert!(cause.contains("immense term"), "{cause}");
    assert!(!indexer.log().contains("env:HOME"), "the log holds no part of a record");
}

/// Changes the last byte of each segment of the topic: the checksum of the batch that stands there last is wrong from then on.
fn damage(folder: &Path, topic: &str) -> usize {
    let mut damaged = 0;
    for entry in fs::read_dir(folder).expect("a folder of the broker") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            damaged += damage(&path, topic);
            continue;
        }
        let is_ours = path.parent().is_some_and(|folder| folder.ends_with(format!("{topic}-0")));
        if is_ours && path.extension().is_some_and(|end| end == "log") {
            let mut bytes = fs::read(&path).expect("readable");
            *bytes.last_mut().expect("records") ^= 1;
            fs::write(&path, bytes).expect("written");
            damaged += 1;
        }
    }
    damaged
}

#[test]
fn a_batch_with_a_wrong_checksum_is_told_and_is_indexed_by_nobody() {
    if !is_full() {
        return; // A broker of its own, started twice.
    }
    let home = stack::home().join(format!("checksum-{:08x}", fastrand::u32(..)));
    let kafka = OwnKafka::start(&home).expect("a broker of this test's own starts");
    let node = FakeNode::start().expect("the fake starts");
    let scene = Scene::without_node("checksum", 1, kafka.cluster.clone(), Node { url: node.url.clone() });
    let mut bench = Bench { scene, node, values: Vec::new() };
    bench.add_lines(1, 20, 100);
    bench.produce(0, &["damaged 1", "damaged 2"]);
    kafka.stop().expect("the broker stops");
    assert_eq!(damage(&home, &bench.scene.topic), 1);
    kafka.start_again().expect("the broker starts again");
    let mut indexer = bench.scene.indexer().spawn().expect("the indexer starts");
    bench.wait_ended();
    let told = indexer.wait_log(&["reading from kafka"], LIMIT);
    eprintln!("figures checksum: {told}");
    wait::wait_for("a commit of what stands before", LIMIT, || {
        let committed = bench.scene.cluster.committed(&bench.scene.group, &bench.scene.topic);
        let committed = committed.map_err(|error| error.to_string())?;
        wait::met(committed.get(&0) == Some(&20), || format!("{committed:?}"))
    });
    assert!(indexer.ended().is_none());
    assert!(total(&indexer, "consume_errors_total") > 0);
    // What follows is read; the damaged batch is passed over, counted as an error.
    bench.add_lines(1, 20, 100);
    bench.wait_ended();
    assert!(bench.check_ends().is_empty());
    bench.scene.check_equations(None, Some(&indexer));
}
