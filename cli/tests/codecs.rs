//! The agent's half and the indexer's half, with a broker between them: every codec makes the same documents.

use bytes::Bytes;
use event::{
    Ack, Anchor, Debt, Entry, Extra, Group, Incarnation, Input, Permit, Record, Route, Share, Source, StreamId,
};
use indexer::batch::Filling;
use indexer::config::{BatchConfig, Decode, DocumentId, PipelinesConfig};
use indexer::metrics::Metrics;
use indexer::partitions::{Incoming, Partitions};
use indexer::pool::Pool;
use indexer::process::{self, Plan, Plans};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use service::health::Health;
use service::metrics::Registry;
use service::stop::Stop;
use shipper::{Drained, KafkaConfig, Limits, PlanConfig, ShipperConfig, ShipperMetrics};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);
const COUNT: usize = 12;

/// Lines of every kind: plain, with newlines inside, empty, JSON, not UTF-8, cut by the agent, long, and with what a parser found.
fn group(ack: Ack) -> Group {
    let fields = |fields: &str| Extra { fields: fields.to_owned(), ..Extra::default() };
    let own_message = r#"{"message":"own","log":{"level":"warn"}}"#;
    let lines: [(&[u8], Option<Extra>); COUNT] = [
        (b"plain", None),
        (b"two\nlines", None),
        (b"", None),
        (br#"{"json":"line"}"#, None),
        (b"not \xff UTF-8", None),
        (b"cut", None),
        (&[b'x'; 3_000], None),
        (b"found", Some(fields(r#"{"stream":"stdout","n":1.10}"#))),
        (b"timed", Some(Extra { timestamp_ms: Some(1_600_000_000_456), ..Extra::default() })),
        (b"merged", Some(fields(own_message))),
        (b"overwritten", Some(Extra { overwrite: true, ..fields(own_message) })),
        (b"replaced", Some(Extra { without_message: true, ..fields(r#"{"message":"own"}"#) })),
    ];
    let (mut buffer, mut records) = (Vec::new(), Vec::new());
    for (line, extra) in lines {
        let start = buffer.len() as u32;
        buffer.extend_from_slice(line);
        let bytes = start..buffer.len() as u32;
        let (offset, truncated) = (1_000 + u64::from(start), line == b"cut");
        records.push(Record { bytes, offset, truncated, extra: extra.map(Box::new) });
        buffer.push(b'\n');
    }
    let input = Input {
        id: "nginx".into(),
        kind: "filestream",
        fields: r#""fields":{"service":{"name":"shop"}}"#.into(),
        tags: vec!["web".into()],
        ..Input::default()
    };
    let source = Source::new(StreamId(1), Arc::new(input), "/var/log/a\"b.log".into(), Incarnation(0xfeed), 0);
    let (source, buffer) = (Arc::new(source), Bytes::from(buffer));
    Group { source, epoch: 0, buffer, records, read_at_ms: 1_700_000_000_123, reread: true, divert: None, ack }
}

fn ship(brokers: &str, topic: &str, options: &str) {
    let entries = ship_under("[]", 1, brokers, topic, options);
    assert!(matches!(entries[..], [Entry::Settled(_)]), "{options}");
}

/// Ships the group so many times under rate plans, and returns what became of each.
#[expect(clippy::disallowed_methods, reason = "settlements, as in the agent")]
fn ship_under(limits: &str, times: usize, brokers: &str, topic: &str, options: &str) -> Vec<Entry> {
    let yaml = format!("{{brokers: ['{brokers}'], topic: {topic}, {options}}}");
    let kafka: KafkaConfig = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
    let plans: Vec<PlanConfig> = service::load::parse_config("agent.yaml".as_ref(), limits).expect("valid");
    let plans = shipper::limit::compile(&plans, &kafka, None).expect("valid");
    let config = ShipperConfig::new("web-01", kafka, WAIT).expect("valid");
    let (_trigger, stop) = Stop::new();
    let metrics = ShipperMetrics::new(&Registry::default());
    let limits = Limits::new(plans, 1 << 20, metrics.clone());
    let (intake, shipper) = shipper::start(config, limits, metrics, Health::new(), stop).expect("it starts");
    let (ledger, mut entries) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..times {
        let (anchor, held) = (Anchor::default(), Permit::none());
        let debt = Debt { stream: StreamId(1), epoch: 0, seq: 0, start: 0, end: 1, anchor, events: 1, bytes: 0, held };
        intake.groups.blocking_send(group(Ack::new(debt, ledger.clone()))).expect("it takes groups");
    }
    drop((intake, ledger));
    assert_eq!(shipper.join(), Drained::All, "{options}");
    std::iter::from_fn(|| entries.try_recv().ok()).collect()
}

/// Where the records of `topic` say that they were diverted from: in a header, else in the payload.
fn diverted(brokers: &str, topic: &str) -> Vec<serde_json::Value> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "codecs").create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("assigned");
    let (_, end) = consumer.fetch_watermarks(topic, 0, WAIT).expect("the mock answers");
    let told = |_| {
        let message = consumer.poll(WAIT).expect("a record").expect("no error");
        let of = |name| {
            let mut headers = message.headers().into_iter().flat_map(|headers| headers.iter());
            headers.find(|header| header.key == name).and_then(|header| header.value)
        };
        let line = of(event::wire::LINE).map(|value| event::wire::parse_line(value).expect("of this format").2);
        let event = line.or(of(event::wire::EVENT)).or(message.payload()).expect("a payload");
        let event: serde_json::Value = serde_json::from_slice(event).expect("JSON");
        event["@metadata"]["diverted"].clone()
    };
    (0..end).map(told).collect()
}

/// Documents by id, as the indexer writes them, and how many Kafka records they came in.
fn documents(brokers: &str, topic: &str, document_id: DocumentId) -> (BTreeMap<String, serde_json::Value>, usize) {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "codecs").create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("assigned");
    let metrics = Metrics::new(&Registry::default());
    #[expect(clippy::disallowed_methods, reason = "settlements, as in the indexer")]
    let (acks, _entries) = tokio::sync::mpsc::unbounded_channel();
    let mut partitions = Partitions::new(acks, metrics.clone());
    partitions.assign(topic, 0);
    let (_, end) = consumer.fetch_watermarks(topic, 0, WAIT).expect("the mock answers");
    for _ in 0..end {
        let message = consumer.poll(WAIT).expect("a record").expect("no error");
        let (key, value, offset) = (message.key(), message.payload(), message.offset());
        let (timestamp_ms, sent) = (message.timestamp().to_millis(), indexer::headers::sent(&message));
        partitions.take(topic, 0, Incoming { key, value, offset, timestamp_ms, sent, put_off: None });
    }
    let plan = Plan::new(&PipelinesConfig::default(), Decode::Auto, "logs-test", document_id, metrics).expect("a plan");
    let (parcels, input) = std::sync::mpsc::channel();
    assert!(partitions.hand_on(|_| Some(Permit::none()), || true, |parcel| parcels.send(parcel).expect("it is taken")));
    drop(parcels);
    let (output, mut batches) = tokio::sync::mpsc::channel(8);
    process::run(&Plans::new(plan), Filling::new(BatchConfig::default(), Pool::new(0)), &input, &output, || ());
    drop(output);
    let mut documents = BTreeMap::new();
    while let Some(batch) = batches.blocking_recv() {
        assert!(batch.dead.is_empty(), "{topic}: {:?}", batch.dead);
        let body = String::from_utf8(batch.body.to_vec()).expect("JSON is text");
        let lines: Vec<serde_json::Value> =
            body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        for pair in lines.chunks(2) {
            let id = pair[0]["create"]["_id"].as_str().expect("an id").to_owned();
            assert!(documents.insert(id, pair[1].clone()).is_none(), "{topic}: one id twice");
        }
    }
    (documents, usize::try_from(end).expect("not negative"))
}

#[test]
fn every_codec_makes_the_same_documents_with_the_same_ids() {
    let mock = MockCluster::new(1).expect("the mock starts");
    let brokers = mock.bootstrap_servers();
    let all = [
        ("json", "codec: json", COUNT),
        ("raw", "codec: raw, headers: true", COUNT),
        ("packed", "codec: packed", 1),
        ("small-packs", "codec: packed, pack_bytes: 2KiB", 4),
        ("json-headers", "codec: json, header_fields: {service: '{fields.service.name}', stream: '{stream}'}", COUNT),
    ];
    for (topic, options, _) in all {
        mock.create_topic(topic, 1, 1).expect("a topic");
        ship(&brokers, topic, options);
    }
    let (expected, _) = documents(&brokers, "json", DocumentId::Event);
    assert_eq!(expected.len(), COUNT);
    let with = |message: &str| expected.values().filter(|document| document["message"] == message).count();
    assert_eq!((with("two\nlines"), with("merged"), with("own"), with("overwritten")), (1, 1, 2, 0));
    for (topic, _, records) in all {
        let (got, count) = documents(&brokers, topic, DocumentId::Event);
        assert_eq!(count, records, "{topic}");
        assert_eq!(got, expected, "{topic}");
    }
}

/// Of the group that is sent twice the first passes and the second is diverted: the same documents stand in both topics.
#[test]
fn what_is_diverted_makes_the_same_documents_and_says_where_it_comes_from() {
    let mock = MockCluster::new(1).expect("the mock starts");
    let brokers = mock.bootstrap_servers();
    let all = [
        ("json", "json", "codec: json"),
        ("raw", "raw", "codec: raw, headers: true"),
        ("packed", "packed", "codec: packed"),
        ("of-shop", "'of-{fields.service.name}'", "codec: json, fallback_topic: json"),
        ("bare", "bare", "codec: raw"), // Only what is diverted has headers.
    ];
    for (name, topic, options) in all {
        let later = format!("{name}-later");
        mock.create_topic(name, 1, 1).expect("a topic");
        mock.create_topic(&later, 1, 1).expect("a topic");
        let limits = format!("[{{name: day, rate: {{events: 1/h}}, excess: {{divert: {later}}}}}]");
        let entries = ship_under(&limits, 2, &brokers, topic, options);
        let is_overflow = |entry: &Entry| match entry {
            Entry::Shared(_, shares) => matches!(shares[..], [Share { route: Route::Overflow, .. }]),
            _ => false,
        };
        assert!(entries.len() == 2 && entries.iter().filter(|entry| is_overflow(entry)).count() == 1, "{entries:?}");
        let (later_documents, records) = documents(&brokers, &later, DocumentId::Event);
        assert_eq!(later_documents.len(), COUNT, "{name}");
        if name != "bare" {
            assert_eq!(documents(&brokers, name, DocumentId::Event), (later_documents, records), "{name}");
            assert!(diverted(&brokers, name).iter().all(serde_json::Value::is_null), "{name}");
        }
        let told = serde_json::json!({"plan": "day", "reason": "events", "topic": name});
        assert_eq!(diverted(&brokers, &later), vec![told; records], "{name}");
    }
}

#[test]
fn ids_by_record_tell_packed_events_apart() {
    let mock = MockCluster::new(1).expect("the mock starts");
    mock.create_topic("packed", 1, 1).expect("a topic");
    ship(&mock.bootstrap_servers(), "packed", "codec: packed");
    let (documents, records) = documents(&mock.bootstrap_servers(), "packed", DocumentId::Record);
    assert_eq!((documents.len(), records), (COUNT, 1));
}
