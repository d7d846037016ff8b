//! One file in three codecs: the same documents with the same ids. And a line that is too large harms no other.

use crate::LIMIT;
use rdkafka::admin::ResourceSpecifier;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tests::scene::Scene;
use tests::stack;
use tests::writer;

#[test]
fn json_raw_and_packed_make_the_same_documents_with_the_same_ids() {
    let lines = 3_000;
    let first = Scene::shared("codec-json", 3);
    let written = writer::write_now(&first.load(4, lines, 0, 1)).expect("the lines are written");
    assert_eq!(written.values().sum::<u64>(), lines);
    first.append("app-99.log", b"not UTF-8: \xff\xfe\n\nbehind an empty one\n").expect("written");
    let lines = lines + 2; // The empty line is none.
    let others = ["raw", "packed"].map(|codec| (codec, Scene::shared(&format!("codec-{codec}"), 3)));
    let mut made = Vec::new();
    for (codec, scene) in [("json", &first)].into_iter().chain(others.iter().map(|(codec, scene)| (*codec, scene))) {
        let mut start = scene.agent();
        // The same files of the same host.
        start.config["name"] = json!("host");
        start.config["inputs"][0]["paths"] = json!([first.folder.join("logs/app-*.log*")]);
        start.config["inputs"][0]["fields"] = json!({"service.name": "shop"});
        start.config["inputs"][0]["tags"] = json!(["web"]);
        start.config["kafka"]["codec"] = json!(codec);
        if codec == "raw" {
            start.config["kafka"]["headers"] = json!(true);
        }
        let mut agent = start.spawn().expect("the agent starts");
        let mut indexer = scene.indexer().spawn().expect("the indexer starts");
        scene.wait_indexed(lines, LIMIT);
        scene.check_equations(Some(&agent), Some(&indexer));
        assert!(agent.stop(LIMIT).success() && indexer.stop(LIMIT).success());
        let documents = scene.node.documents(&scene.index).expect("the index reads back");
        let documents: BTreeMap<_, _> = documents.into_iter().map(|found| (found.id, timeless(found.source))).collect();
        assert_eq!(documents.len() as u64, lines, "{codec}");
        let records = scene.cluster.count(&scene.topic).expect("the broker answers");
        eprintln!("figures codecs: {codec}: {lines} documents of {records} records");
        made.push((codec, documents));
    }
    for (codec, documents) in &made[1..] {
        assert_eq!(documents, &made[0].1, "{codec}");
    }
}

/// Without the time at which the line was read, in both its places.
fn timeless(mut source: Value) -> Value {
    for (pointer, name) in [("", "@timestamp"), ("/event", "created")] {
        let time = source.pointer_mut(pointer).and_then(Value::as_object_mut).and_then(|object| object.remove(name));
        assert!(time.is_some_and(|time| time.is_string()), "{name}");
    }
    source
}

#[test]
fn of_lines_that_the_topic_no_longer_takes_only_the_large_one_is_cut() {
    let scene = Scene::shared("large", 1);
    let mut start = scene.agent();
    start.config["kafka"]["codec"] = json!("raw");
    let mut agent = start.spawn().expect("the agent starts");
    scene.append("app-1.log", b"first\n").expect("written");
    scene.wait_shipped(1, LIMIT);
    let small_limit = [("max.message.bytes", "3000")];
    scene.cluster.set(ResourceSpecifier::Topic(&scene.topic), &small_limit).expect("the broker takes it");
    let small = |from: u32| (from..from + 100).map(|number| format!("line {number}")).collect::<Vec<_>>();
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric).take(9_000).collect(); // lz4 makes it no smaller.
    let lines = [small(0), vec![noise.clone()], small(100)].concat();
    scene.append("app-1.log", (lines.join("\n") + "\n").as_bytes()).expect("written");
    scene.wait_shipped(202, LIMIT);
    assert!(agent.stop(LIMIT).success());
    let got: Vec<_> =
        scene.cluster.read_all(&scene.topic).expect("the broker answers").iter().map(|stored| stored.line()).collect();
    assert_eq!(
        (got.len(), &got[..101], &got[102..]),
        (202, &[vec!["first".into()], small(0)].concat()[..], &small(100)[..])
    );
    assert!(noise.starts_with(&got[101]) && got[101].len() > 1_000, "{} bytes are left", got[101].len());
}

#[test]
fn every_compression_arrives_as_such_and_reads_back() {
    let lines: Vec<_> = (0..2_000).map(|number| format!("GET /items/{number} 200")).collect();
    for (codec, (name, level)) in
        [("none", 0), ("gzip", 9), ("snappy", 0), ("lz4", 12), ("zstd", 12)].iter().enumerate()
    {
        let scene = Scene::shared(&format!("compression-{name}"), 1);
        scene.append("app-1.log", (lines.join("\n") + "\n").as_bytes()).expect("written");
        let mut start = scene.agent();
        start.config["kafka"]["codec"] = json!("raw");
        start.config["kafka"]["compression"] = json!(name);
        start.config["kafka"]["compression_level"] = json!(level);
        let mut agent = start.spawn().expect("the agent starts");
        scene.wait_shipped(lines.len() as u64, LIMIT);
        assert!(agent.stop(LIMIT).success());
        let stored = scene.cluster.read_all(&scene.topic).expect("the broker answers");
        assert!(stored.iter().map(|record| record.line()).eq(lines.iter().cloned()), "{name}");
        let segment = format!("stack/kafka/node-1/data/{}-0/00000000000000000000.log", scene.topic);
        let segment = std::fs::read(stack::home().join(segment)).expect("the broker's segment");
        assert_eq!(compressions(&segment), BTreeSet::from([codec as u8]), "{name}");
        eprintln!("figures compression: {name}: {} bytes of {} lines", segment.len(), lines.len());
    }
}

/// Kinds of compression of the batches of a segment: their number in Kafka's record format, version 2.
fn compressions(mut segment: &[u8]) -> BTreeSet<u8> {
    const BATCH_BYTES_FROM: usize = 12; // After the base offset and the length itself.
    const ATTRIBUTES: usize = 22; // Low byte; before it epoch, magic and checksum.
    let mut kinds = BTreeSet::new();
    while let Some(length) = segment.get(8..BATCH_BYTES_FROM) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let (batch, rest) = segment.split_at(BATCH_BYTES_FROM + length);
        kinds.insert(batch[ATTRIBUTES] & 7);
        segment = rest;
    }
    kinds
}
