//! What is diverted, in librdkafka's own double of a broker: nothing is lost, and the rest of the way knows where it came from.

use super::*;
use crate::produce::Drained;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::time::Duration;

/// 2001: older than any retention.
const LONG_AGO_MS: i64 = 1_000_000_000_000;
const GROUPS: usize = 50;
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// All `count` records of a topic: payload and Kafka's timestamp.
pub(super) fn read(brokers: &str, topic: &str, count: usize) -> Vec<(serde_json::Value, i64)> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "test").create().expect("a consumer");
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning).expect("a partition");
    consumer.assign(&from).expect("assigned");
    let (mut records, end) = (Vec::new(), monotonic() + PATIENCE);
    while records.len() < count && monotonic() < end {
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            let record = record.expect("a record");
            let payload = serde_json::from_slice(record.payload().expect("a payload")).expect("is JSON");
            records.push((payload, record.timestamp().to_millis().expect("a time")));
        }
    }
    records
}

pub(super) fn config(mock: &MockCluster<'_, impl rdkafka::producer::ProducerContext>, more: &str) -> ShipperConfig {
    let yaml = format!("{{brokers: ['{}'], {more}}}", mock.bootstrap_servers());
    let kafka: KafkaConfig = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
    ShipperConfig::new("web-01", kafka, PATIENCE).expect("valid")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_passes_and_what_is_diverted_are_together_all_that_was_read() {
    let mock = MockCluster::new(1).expect("the mock starts");
    for topic in ["logs", "later"] {
        mock.create_topic(topic, 1, 1).expect("a topic");
    }
    let metrics = ShipperMetrics::new(&Registry::default());
    let yaml = "[{name: day, rate: {events: 10/h}, burst: 1h, excess: {divert: later}}]";
    let limits = Limits::new(plans(yaml), 1 << 20, metrics.clone());
    let (intake, shipper) =
        crate::start(config(&mock, ""), limits, metrics.clone(), Health::new(), Stop::new().1).expect("starts");
    let (mut debts, mut expected) = (Vec::new(), BTreeSet::new());
    for name in 0..GROUPS {
        let lines: Vec<_> = (0..5).map(|line| format!("group {name} line {line}")).collect();
        let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (mut group, entries) = owed(Input::default(), "/a", &texts);
        for record in &mut group.records {
            record.extra = Some(Box::new(Extra { timestamp_ms: Some(LONG_AGO_MS), ..Extra::default() }));
        }
        intake.gate.passes(&group);
        intake.groups.send(group).await.expect("it runs");
        debts.push(entries);
        expected.extend(lines);
    }
    drop(intake);
    let drained = tokio::task::spawn_blocking(|| shipper.join()).await.expect("ends");
    assert_eq!(drained, Drained::All);

    let (mut settled, mut diverted) = (0, 0);
    for debt in &mut debts {
        match debt.try_recv() {
            Ok(Entry::Settled(_)) => settled += 1,
            Ok(Entry::Shared(_, shares)) => {
                assert!(shares.iter().all(|share| share.route == Route::Overflow), "{shares:?}");
                diverted += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((settled, diverted), (3, GROUPS - 3), "ten of fifteen are paid, the third group is in debt");
    assert_eq!(metrics.limited.with_label_values(&["day", "diverted"]).get(), 5 * diverted as u64);

    let brokers = mock.bootstrap_servers();
    let (main, later) = (read(&brokers, "logs", 5 * settled), read(&brokers, "later", 5 * diverted));
    let text = |(payload, _): &(serde_json::Value, i64)| payload["message"].as_str().expect("a text").to_owned();
    let got: Vec<_> = main.iter().chain(&later).map(text).collect();
    assert_eq!(got.len(), 5 * GROUPS, "none twice");
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), expected, "none is missing");
    for (payload, time) in &later {
        let told = serde_json::json!({"plan": "day", "reason": "events", "topic": "logs"});
        assert_eq!(payload["@metadata"]["diverted"], told);
        assert_eq!(payload["@timestamp"], "2001-09-09T01:46:40.000Z", "the event's own time");
        assert!((wall_ms() - time).abs() < 600_000, "a broker deletes by this time: {time}");
    }
    assert!(main.iter().all(|(payload, _)| payload["@metadata"].get("diverted").is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_topic_that_is_missing_holds_up_nothing_but_what_is_diverted_there() {
    let mock = MockCluster::new(1).expect("the mock starts");
    mock.create_topic("logs", 1, 1).expect("a topic");
    let (metrics, health) = (ShipperMetrics::new(&Registry::default()), Health::new());
    let yaml = "[{name: day, match: {input: [a]}, rate: {events: 1/h}, excess: {divert: '-'}}]";
    let limits = Limits::new(plans(yaml), 4_000, metrics.clone());
    let (trigger, stop) = Stop::new();
    let (intake, shipper) = crate::start(config(&mock, ""), limits, metrics, health.clone(), stop).expect("starts");
    let of = |id: &str| Input { id: id.into(), ..Input::default() };
    let mut diverted = Vec::new();
    for lines in [["one", "two"], ["three", "four"], ["five", "six"]] {
        let (group, entries) = owed(of("a"), "/a", &lines);
        intake.gate.passes(&group);
        intake.groups.send(group).await.expect("it runs");
        diverted.push(entries);
    }
    let (group, mut other) = owed(of("b"), "/b", &["seven"]);
    intake.groups.send(group).await.expect("it runs");
    let first = tokio::time::timeout(PATIENCE, diverted[0].recv()).await.expect("in time");
    assert!(matches!(first, Some(Entry::Settled(_))), "{first:?}");
    let other = tokio::time::timeout(PATIENCE, other.recv()).await.expect("in time");
    assert!(matches!(other, Some(Entry::Settled(_))), "{other:?}");
    let end = monotonic() + PATIENCE;
    while !health.problems().contains_key("overflow") && monotonic() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let problems = health.problems();
    assert!(problems.contains_key("overflow") && !problems.contains_key("kafka"), "{problems:?}");
    assert!(intake.gate.opens(StreamId(1), &of("a"), "/a").is_some(), "what is too much waits in its file");
    assert!(intake.gate.opens(StreamId(2), &of("b"), "/b").is_none());
    trigger.stop();
    drop(intake);
    tokio::task::spawn_blocking(|| shipper.join()).await.expect("ends");
    for entries in &mut diverted[1..] {
        assert!(matches!(entries.try_recv(), Ok(Entry::Returned(_))), "it is read again");
    }
}
