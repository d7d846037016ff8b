//! Promise: the group reads what it is told to, spreads it as it is told to, and tells what it can no longer read.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tests::daemon::{Daemon, Start};
use tests::scene::Scene;
use tests::stack::{self, OwnKafka};
use tests::wait;

const LIMIT: Duration = Duration::from_secs(60);

/// Records `from..to`, each told apart by its number.
fn produce(scene: &Scene, topic: &str, partition: i32, from: u64, to: u64) {
    let records: Vec<_> = (from..to).map(|n| json!({"topic": topic, "n": n}).to_string().into_bytes()).collect();
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    scene.cluster.produce(topic, partition, &records).expect("the records are written");
}

/// An indexer of the scene's group that is a member like others: no static id, a folder and a port of its own.
fn member(scene: &Scene, number: usize, kafka: Value) -> Start {
    let mut start = scene.indexer();
    start.folder = scene.folder.join(format!("member-{number}"));
    std::fs::create_dir_all(&start.folder).expect("the folder is made");
    let options = start.config["kafka"].as_object_mut().expect("an object");
    options.remove("static_id");
    options.extend(kafka.as_object().expect("an object").clone());
    start
}

fn counter(indexer: &Daemon, name: &str) -> u64 {
    indexer.metrics().map_or(0, |metrics| metrics.indexer(name))
}

fn assigned(indexer: &Daemon) -> u64 {
    let metrics = indexer.metrics();
    metrics.map_or(0, |metrics| metrics.total("tailrace_indexer_assigned_partitions"))
}

#[track_caller]
fn wait_count(scene: &Scene, documents: u64) -> Duration {
    let (_, waited) = wait::wait_for("all documents", LIMIT, || {
        let count = scene.node.count(&scene.index).map_err(|error| error.to_string())?;
        wait::met(count == documents, || format!("{count} of {documents} documents"))
    });
    waited
}

/// How many documents there are of each topic.
fn by_topic(scene: &Scene) -> BTreeMap<String, usize> {
    let mut topics = BTreeMap::new();
    for document in scene.node.documents(&scene.index).expect("the index reads back") {
        let topic = document.source["topic"].as_str().unwrap_or_default().to_owned();
        *topics.entry(topic).or_default() += 1;
    }
    topics
}

#[test]
fn a_pattern_reads_topics_that_are_made_later_and_none_of_another_part() {
    let scene = Scene::shared("pattern", 1);
    let topic = |suffix: &str| format!("{}-{suffix}", scene.topic);
    for suffix in ["retry.1s", "retry.1h", "later"] {
        scene.cluster.create_topic(&topic(suffix), 1).expect("the topic is made");
    }
    for (topic, to) in [(&scene.topic, 30), (&scene.dead_topic, 7), (&topic("retry.1h"), 7), (&topic("later"), 20)] {
        produce(&scene, topic, 0, 0, to);
    }
    let mut start = scene.indexer();
    start.config["kafka"]["topics"] = json!([format!("^{}", scene.topic)]);
    start.config["retry"] = json!({"topic": topic("retry"), "delays": ["1s"]});
    start.config["overflow"] = json!({"topics": [topic("later")]});
    let mut indexer = start.spawn().expect("the indexer starts");
    wait_count(&scene, 50);

    let new = topic("new");
    scene.cluster.create_topic(&new, 2).expect("the topic is made");
    produce(&scene, &new, 1, 0, 10);
    let waited = wait_count(&scene, 60);
    eprintln!("figures consumer: a new topic that matches was read after {waited:?}");
    let expected = [(scene.topic.clone(), 30), (topic("later"), 20), (new, 10)];
    assert_eq!(by_topic(&scene), BTreeMap::from(expected));
    // The main topic, two partitions of the new one, one each of the overflow and the retry topic.
    assert_eq!(assigned(&indexer), 5);
    scene.check_equations(None, Some(&indexer));
    assert!(indexer.stop(LIMIT).success());
}

/// Two members share four partitions, one leaves while records come, another comes: everything is indexed once.
#[track_caller]
fn members_come_and_go(name: &str, kafka: Value) {
    let scene = Scene::shared(name, 4);
    let produce_all = |from, to| (0..4).for_each(|partition| produce(&scene, &scene.topic, partition, from, to));
    produce_all(0, 500);
    let mut first = member(&scene, 1, kafka.clone()).spawn().expect("the first starts");
    let second = member(&scene, 2, kafka.clone()).spawn().expect("the second starts");
    wait::wait_for("two partitions each", LIMIT, || {
        let each = (assigned(&first), assigned(&second));
        wait::met(each == (2, 2), || format!("{each:?}; {}\n{}", first.log_tail(), second.log_tail()))
    });
    produce_all(500, 1_000);
    assert!(first.stop(LIMIT).success(), "{}", first.log_tail());
    produce_all(1_000, 1_500);
    let third = member(&scene, 3, kafka).spawn().expect("the third starts");
    wait_count(&scene, 6_000);
    scene.wait_committed(LIMIT);
    for member in [&second, &third] {
        scene.check_equations(None, Some(member));
        assert_eq!((counter(member, "lost"), counter(member, "dead_lettered")), (0, 0));
    }
    let copies = counter(&second, "duplicate") + counter(&third, "duplicate");
    eprintln!("figures consumer: {name}: 6000 of 6000 documents, {copies} read twice and stored once");
}

#[test]
fn members_come_and_go_with_range_and_roundrobin() {
    members_come_and_go("eager", json!({"assignors": ["roundrobin", "range"]}));
}

#[test]
fn members_come_and_go_with_cooperative_sticky() {
    members_come_and_go("sticky", json!({"assignors": ["cooperative-sticky"]}));
}

#[test]
fn members_come_and_go_with_the_group_protocol_of_the_brokers() {
    members_come_and_go("kip-848", json!({"group_protocol": "consumer"}));
}

#[test]
fn brokers_without_the_group_protocol_are_told_with_what_to_do() {
    let home = stack::home().join(format!("classic-{:08x}", fastrand::u32(..)));
    let more = "group.coordinator.rebalance.protocols=classic";
    let kafka = OwnKafka::start_with(&home, more).expect("a broker of this test's own starts");
    let scene = Scene::on("classic", 1, kafka.cluster.clone(), stack::shared().node);
    let mut indexer = member(&scene, 1, json!({"group_protocol": "consumer"})).spawn().expect("it starts");
    let status = indexer.wait_end(LIMIT);
    let log = indexer.log_tail();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("kafka.group_protocol") && log.contains("set it to classic"), "{log}");
    produce(&scene, &scene.topic, 0, 0, 10);
    let _indexer = member(&scene, 1, json!({})).spawn().expect("it starts");
    wait_count(&scene, 10);
}

#[test]
fn what_retention_took_is_counted_once_and_with_strict_it_stops() {
    let scene = Scene::shared("lost", 1);
    let start = scene.indexer();
    produce(&scene, &scene.topic, 0, 0, 100);
    let mut indexer = start.spawn().expect("the indexer starts");
    wait_count(&scene, 100);
    assert!(indexer.stop(LIMIT).success());
    produce(&scene, &scene.topic, 0, 100, 150);
    scene.cluster.delete_records(&scene.topic, 0, 130).expect("they are deleted");

    let mut strict = start.clone();
    strict.config["kafka"]["strict"] = json!(true);
    let mut indexer = strict.spawn().expect("the indexer starts");
    let status = indexer.wait_end(LIMIT);
    let log = indexer.log_tail();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("kafka.strict: offset 100 of topic"), "{log}");
    assert_eq!(scene.cluster.committed(&scene.group, &scene.topic).expect("an answer")[&0], 100);
    assert_eq!(scene.node.count(&scene.index).expect("an answer"), 100, "nothing behind the gap is taken");

    let mut indexer = start.spawn().expect("the indexer starts");
    wait_count(&scene, 120);
    assert_eq!(counter(&indexer, "lost"), 30);
    scene.wait_committed(LIMIT);
    // Taken away under a reader that is up to date: nothing is lost.
    scene.cluster.delete_records(&scene.topic, 0, 150).expect("they are deleted");
    produce(&scene, &scene.topic, 0, 150, 160);
    wait_count(&scene, 130);
    assert_eq!(counter(&indexer, "lost"), 30);
    assert!(indexer.stop(LIMIT).success());

    // All that was to be read is gone, and no record comes behind it.
    produce(&scene, &scene.topic, 0, 160, 200);
    scene.cluster.delete_records(&scene.topic, 0, 200).expect("they are deleted");
    let mut indexer = start.spawn().expect("the indexer starts");
    wait::wait_for("the count of what is lost", LIMIT, || {
        let lost = counter(&indexer, "lost");
        wait::met(lost == 40, || format!("{lost}"))
    });
    scene.wait_committed(LIMIT);
    scene.check_equations(None, Some(&indexer));
    assert!(indexer.stop(LIMIT).success());
    let indexer = start.spawn().expect("the indexer starts");
    produce(&scene, &scene.topic, 0, 200, 210);
    wait_count(&scene, 140);
    assert_eq!(counter(&indexer, "lost"), 0, "it was counted before");
}

#[test]
fn with_commit_never_each_start_reads_the_same_again() {
    let scene = Scene::shared("never", 1);
    produce(&scene, &scene.topic, 0, 0, 100);
    let mut start = scene.indexer();
    start.config["kafka"]["commit"] = json!("never");
    for (indexed, duplicate) in [(100, 0), (0, 100)] {
        let mut indexer = start.spawn().expect("the indexer starts");
        wait::wait_for("all records", LIMIT, || {
            let ends = (counter(&indexer, "indexed"), counter(&indexer, "duplicate"));
            wait::met(ends == (indexed, duplicate), || format!("{ends:?}"))
        });
        assert!(indexer.stop(LIMIT).success());
        assert_eq!(scene.cluster.committed(&scene.group, &scene.topic).expect("an answer"), BTreeMap::new());
    }
}

#[test]
fn a_new_partition_is_read_within_sixty_seconds() {
    let scene = Scene::shared("partitions", 1);
    produce(&scene, &scene.topic, 0, 0, 10);
    let _indexer = scene.indexer().spawn().expect("the indexer starts");
    wait_count(&scene, 10);
    scene.cluster.add_partitions(&scene.topic, 3).expect("partitions are added");
    for partition in [1, 2] {
        produce(&scene, &scene.topic, partition, 0, 10);
    }
    let waited = wait_count(&scene, 30);
    eprintln!("figures consumer: new partitions were read after {waited:?}");
}
