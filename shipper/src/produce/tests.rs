//! One group's way to its delivery reports, without a broker and with librdkafka's own double of one.

use super::*;
use crate::config::KafkaConfig;
use crate::lanes::Lanes;
use bytes::Bytes;
use event::{Ack, Anchor, Debt, Entry, Incarnation, Input, Permit, Record, Source, StreamId};
use prometheus::core::Collector as _;
use rdkafka::mocking::MockCluster;
use service::metrics::Registry;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

const FACTS: Facts =
    Facts { message_bytes_max: 1_048_588, partitions: 1, replicas: 1, insync_min: None, unclean_election: None };
const LINES: &[u8] = b"one\ntwo\n";

struct Bench {
    producer: Producer,
    sender: Sender,
    source: Arc<Source>,
    metrics: ShipperMetrics,
}

impl Bench {
    fn start(brokers: &str) -> Self {
        let kafka: KafkaConfig =
            service::load::parse_config("agent.yaml".as_ref(), &format!("{{brokers: ['{brokers}'], linger: 0s}}"))
                .expect("valid");
        let config = ShipperConfig::new("web-01", kafka, Duration::from_secs(10)).expect("valid");
        let metrics = ShipperMetrics::new(&Registry::default());
        let producer =
            Producer::new(&config, FACTS.message_bytes_max, metrics.clone(), Health::new()).expect("librdkafka starts");
        let source = Source::new(StreamId(1), Arc::new(Input::default()), "/a".into(), Incarnation(1), 0);
        Self { producer, sender: Sender::new(&config, FACTS, metrics.clone()), source: Arc::new(source), metrics }
    }

    /// Sends two records under one debt; what becomes of it shows at the other end of the channel.
    #[expect(clippy::disallowed_methods, reason = "settlements, as in the agent")]
    fn send(&mut self) -> UnboundedReceiver<Entry> {
        let (ledger, entries) = tokio::sync::mpsc::unbounded_channel();
        let (stream, anchor, held) = (self.source.stream, Anchor::default(), Permit::none());
        let debt =
            Debt { stream, epoch: 0, seq: 0, start: 0, end: LINES.len() as u64, anchor, events: 2, bytes: 0, held };
        let record =
            |offset: u32| Record { bytes: offset..offset + 3, offset: offset.into(), truncated: false, extra: None };
        let group = Group {
            source: self.source.clone(),
            epoch: 0,
            buffer: Bytes::from_static(LINES),
            records: vec![record(0), record(4)],
            read_at_ms: 1_700_000_000_000,
            reread: false,
            divert: None,
            ack: Ack::new(debt, ledger),
        };
        self.sender.send(&mut self.producer, group);
        entries
    }

    /// Waits until the thread of the reports has told that no broker is there.
    async fn has_heard_of_errors(&self) {
        let is_told = || self.metrics.client_errors.collect().iter().any(|family| !family.get_metric().is_empty());
        let looks = async {
            while !is_told() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), looks).await.expect("librdkafka tells that nobody listens");
    }
}

/// Nothing listens there, so nothing is ever delivered.
const NOBODY: &str = "127.0.0.1:1";

#[tokio::test]
async fn what_is_sent_is_owed_until_its_reports() {
    let mut bench = Bench::start(NOBODY);
    let mut entries = bench.send();
    bench.has_heard_of_errors().await; // A wrong settlement may come from the thread that heard of them.
    assert!(entries.try_recv().is_err(), "neither settled nor given back");
    assert_eq!(bench.metrics.groups_in_flight.get(), 1);
    bench.producer.drain(Duration::ZERO).await;
}

#[tokio::test]
async fn what_is_purged_at_the_end_is_given_back() {
    let mut bench = Bench::start(NOBODY);
    let mut entries = bench.send();
    assert!(!bench.producer.drain(Duration::from_millis(20)).await, "not everything was delivered");
    let debt = match entries.try_recv() {
        Ok(Entry::Returned(debt)) => debt,
        other => panic!("a record that was never delivered must be read again: {other:?}"),
    };
    assert_eq!((debt.start, debt.end), (0, LINES.len() as u64));
    assert!(entries.try_recv().is_err());
    assert!(!bench.source.is_current(0), "what follows in the file must not overtake it");
    assert_eq!(bench.metrics.groups_in_flight.get(), 0);
}

#[tokio::test]
async fn the_end_waits_for_the_reports_of_what_is_in_flight() {
    let mock = MockCluster::new(1).expect("the mock starts");
    mock.create_topic("logs", 1, 1).expect("a topic");
    mock.broker_round_trip_time(1, Duration::from_millis(200)).expect("a slow broker");
    let mut bench = Bench::start(&mock.bootstrap_servers());
    let mut entries = bench.send();
    assert!(entries.try_recv().is_err(), "the broker cannot have answered yet");
    assert!(bench.producer.drain(Duration::from_secs(20)).await, "everything is delivered");
    assert!(matches!(entries.try_recv(), Ok(Entry::Settled(_))));
    assert!(bench.source.is_current(0));
}

#[tokio::test]
async fn what_waits_for_a_slow_request_is_delivered_in_the_end() {
    let mock = MockCluster::new(1).expect("the mock starts");
    mock.create_topic("logs", 1, 1).expect("a topic");
    mock.broker_round_trip_time(1, Duration::from_millis(200)).expect("a slow broker");
    let mut bench = Bench::start(&mock.bootstrap_servers());
    bench.sender.routes[0].lanes = Lanes::new(1, LINES.len(), Duration::ZERO);
    let mut entries = [bench.send(), bench.send(), bench.send()];
    assert_eq!(bench.metrics.groups_in_flight.get(), 1, "librdkafka would spin with more");
    assert!(end(bench.sender, bench.producer, Duration::from_secs(20)).await, "everything is delivered");
    for entries in &mut entries {
        assert!(matches!(entries.try_recv(), Ok(Entry::Settled(_))));
    }
}

#[tokio::test]
async fn what_still_waits_when_patience_ends_is_given_back() {
    let mut bench = Bench::start(NOBODY);
    bench.sender.routes[0].lanes = Lanes::new(1, LINES.len(), Duration::ZERO);
    let mut entries = [bench.send(), bench.send()];
    assert_eq!(bench.metrics.groups_in_flight.get(), 1);
    assert!(!end(bench.sender, bench.producer, Duration::from_millis(20)).await, "not everything was delivered");
    for entries in &mut entries {
        assert!(matches!(entries.try_recv(), Ok(Entry::Returned(_))));
    }
}
