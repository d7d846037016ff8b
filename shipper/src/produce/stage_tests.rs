//! The whole stage before librdkafka's own double of a broker, which refuses what it is told to refuse.

use super::*;
use crate::config::KafkaConfig;
use bytes::Bytes;
use event::{Ack, Anchor, Committed, Debt, Entry, Extra, Incarnation, Input, Keeper, Permit, Record, Route, Share};
use event::{Source, StreamId};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Code};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use service::metrics::Registry;
use std::sync::Arc;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

const WAIT: Duration = Duration::from_secs(30);
pub(super) const OK: Code = Code::RD_KAFKA_RESP_ERR_NO_ERROR;
const TOO_LARGE: Code = Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;

/// A stage that runs, and what an agent holds of it.
pub(super) struct Bench {
    pub(super) mock: MockCluster<'static, DefaultProducerContext>,
    output: mpsc::Sender<Group>,
    ledger: UnboundedSender<Entry>,
    pub(super) entries: UnboundedReceiver<Entry>,
    pub(super) source: Arc<Source>,
    pub(super) metrics: ShipperMetrics,
    health: Health,
    keeper: Option<Keeper>,
    _trigger: service::stop::Trigger,
    stage: tokio::task::JoinHandle<Drained>,
}

/// One record as the broker has it.
#[derive(Debug)]
pub(super) struct Stored {
    partition: i32,
    key: Option<Vec<u8>>,
    pub(super) value: String,
    headers: Vec<(String, String)>,
}

impl Bench {
    /// `topics`: with how many partitions.
    pub(super) fn start(topics: &[(&str, i32)], kafka: &str) -> Self {
        let mock = MockCluster::new(1).expect("the mock starts");
        for (topic, partitions) in topics {
            mock.create_topic(topic, *partitions, 1).expect("a topic");
        }
        Self::on(mock, kafka)
    }

    /// The same with a broker that has run before.
    #[expect(clippy::disallowed_methods, reason = "settlements, as in the agent")]
    pub(super) fn on(mock: MockCluster<'static, DefaultProducerContext>, kafka: &str) -> Self {
        // Long enough that what is sent together is in one request.
        let linger = if kafka.contains("linger") { "" } else { "linger: 20ms, " };
        let yaml = format!("{{brokers: ['{}'], {linger}{kafka}}}", mock.bootstrap_servers());
        let kafka: KafkaConfig = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
        let config = ShipperConfig::new("web-01", kafka, WAIT).expect("valid");
        let (metrics, health, (trigger, stop)) =
            (ShipperMetrics::new(&Registry::default()), Health::new(), Stop::new());
        let (output, input) = mpsc::channel(8);
        let (ledger, entries) = mpsc::unbounded_channel();
        let (keeper, end) =
            (config.kafka.delivery == crate::config::Delivery::ExactlyOnce).then(crate::transact::keeper).unzip();
        let stage = tokio::spawn(run(config, input, metrics.clone(), health.clone(), stop, end));
        let input = Input { id: "nginx".into(), fields: r#""fields":{"service":"shop"}"#.into(), ..Input::default() };
        let source = Arc::new(Source::new(StreamId(1), Arc::new(input), "/a".into(), Incarnation(1), 0));
        source.set_entry(r#"{"path":"/a"}"#.into());
        Self { mock, output, ledger, entries, source, metrics, health, keeper, _trigger: trigger, stage }
    }

    /// What the topic of offsets had at the start.
    pub(super) async fn committed(&mut self) -> Vec<Committed> {
        let keeper = self.keeper.as_mut().expect("transactions");
        let told = tokio::time::timeout(WAIT, &mut keeper.committed).await;
        told.expect("within the limit").expect("it runs")
    }

    pub(super) fn forget(&self, file: (String, Incarnation)) {
        self.keeper.as_ref().expect("transactions").forgotten.send(file).expect("it runs");
    }

    /// The next produce requests end so, one each.
    pub(super) fn answer(&self, codes: &[Code]) {
        self.mock.request_errors(RDKafkaApiKey::Produce, codes);
    }

    /// Sends lines under one debt; a parser found `user` in each.
    pub(super) async fn send(&self, epoch: u32, lines: &[(&str, &str)]) {
        self.output.send(self.group(epoch, lines)).await.expect("it runs");
    }

    /// The same of a debt of which another part, which is returned, is owed elsewhere.
    pub(super) async fn send_part(&self, epoch: u32, lines: &[(&str, &str)]) -> Ack {
        let mut group = self.group(epoch, lines);
        let share = |route, events| Share { route, events, bytes: 1 };
        let mut parts = group.ack.divided(vec![share(Route::Main, 1), share(Route::Dropped("a".into()), 0)]);
        let other = parts.pop().expect("two parts");
        group.ack = parts.pop().expect("two parts");
        self.output.send(group).await.expect("it runs");
        other
    }

    fn group(&self, epoch: u32, lines: &[(&str, &str)]) -> Group {
        let (mut buffer, mut records) = (String::new(), Vec::new());
        for (line, user) in lines {
            let start = buffer.len() as u32;
            buffer.push_str(line);
            let extra = (!user.is_empty()).then(|| {
                Box::new(Extra { fields: serde_json::json!({ "user": user }).to_string(), ..Extra::default() })
            });
            let (bytes, offset) = (start..buffer.len() as u32, u64::from(start));
            records.push(Record { bytes, offset, truncated: false, extra });
            buffer.push('\n');
        }
        let (stream, anchor, held) = (self.source.stream, Anchor::default(), Permit::none());
        let (end, events) = (buffer.len() as u64, lines.len() as u32);
        let debt = Debt { stream, epoch, seq: 0, start: 0, end, anchor, events, bytes: end, held };
        let (source, ack) = (self.source.clone(), Ack::new(debt, self.ledger.clone()));
        let (buffer, read_at_ms) = (Bytes::from(buffer), 1_700_000_000_000);
        Group { source, epoch, buffer, records, read_at_ms, reread: false, divert: None, ack }
    }

    pub(super) async fn entry(&mut self) -> Entry {
        tokio::time::timeout(WAIT, self.entries.recv()).await.expect("within the limit").expect("the ledger is open")
    }

    pub(super) async fn settled(&mut self) {
        let entry = self.entry().await;
        assert!(matches!(entry, Entry::Settled(_)), "{entry:?}");
    }

    async fn returned(&mut self) {
        let entry = self.entry().await;
        assert!(matches!(entry, Entry::Returned(_)), "{entry:?}");
        assert!(!self.source.is_current(0), "what follows must not overtake it");
    }

    /// Sends; what is given back is read again, as an agent would, until it is settled. Returns how often it was given back.
    pub(super) async fn deliver(&mut self, lines: &[(&str, &str)]) -> u32 {
        self.deliver_from(0, lines).await
    }

    pub(super) async fn deliver_from(&mut self, first: u32, lines: &[(&str, &str)]) -> u32 {
        for epoch in first.. {
            self.send(epoch, lines).await;
            if matches!(self.entry().await, Entry::Settled(_)) {
                return epoch - first;
            }
            self.source.break_off(epoch);
        }
        unreachable!("a u32 does not end within the limit")
    }

    /// All records of a topic, by partition and offset.
    pub(super) fn stored(&self, topic: &str) -> Vec<Stored> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.mock.bootstrap_servers()).set("group.id", "tests");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(topic), WAIT).expect("the mock answers");
        let mut stored = Vec::new();
        for partition in metadata.topics()[0].partitions() {
            let consumer: BaseConsumer = config.create().expect("a consumer"); // Nothing fetched of another one.
            let (_, end) = consumer.fetch_watermarks(topic, partition.id(), WAIT).expect("the mock answers");
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("an offset");
            consumer.assign(&list).expect("assigned");
            for _ in 0..end {
                let message = consumer.poll(WAIT).expect("a record").expect("no error");
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let headers = message.headers().map(|headers| {
                    headers
                        .iter()
                        .map(|header| (header.key.to_owned(), header.value.map(text).unwrap_or_default()))
                        .collect()
                });
                stored.push(Stored {
                    partition: message.partition(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(text).unwrap_or_default(),
                    headers: headers.unwrap_or_default(),
                });
            }
        }
        stored
    }

    pub(super) fn values(&self, topic: &str) -> Vec<String> {
        self.stored(topic).into_iter().map(|stored| stored.value).collect()
    }

    /// Ends it; the broker goes on.
    pub(super) async fn end_and_keep(self) -> (Drained, MockCluster<'static, DefaultProducerContext>) {
        drop(self.output);
        (self.stage.await.expect("it ends"), self.mock)
    }

    pub(super) async fn end(self) -> Drained {
        drop(self.output);
        self.stage.await.expect("it ends")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_that_is_too_large_only_the_one_record_that_is_is_cut() {
    let mut bench = Bench::start(&[("logs", 1)], "codec: raw");
    bench.answer(&[TOO_LARGE]);
    let lines = [("first", ""), ("0123456789", ""), ("third", "")];
    bench.send(0, &lines).await;
    bench.returned().await;
    bench.answer(&[OK, TOO_LARGE, TOO_LARGE]);
    bench.send(1, &lines).await;
    bench.settled().await;
    assert_eq!(bench.values("logs"), ["first", "012345", "third"], "in order, and cut twice to four fifths");
    assert!(bench.metrics.cut.get() > 0);
    bench.send(1, &[("", ""), ("later lines are sent together again", ""), ("as before", "")]).await;
    bench.settled().await;
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_large_can_become_a_dead_letter() {
    let mut bench =
        Bench::start(&[("logs", 1), ("dead", 1)], "codec: raw, too_large: dead_letter, dead_letter_topic: dead");
    bench.answer(&[TOO_LARGE, TOO_LARGE]);
    assert_eq!(bench.deliver(&[("large", ""), ("second", "")]).await, 1);
    assert_eq!(bench.values("logs"), ["second"]);
    let letters = bench.stored("dead");
    assert_eq!((letters.len(), &*letters[0].value), (1, "large"));
    let header = |name: &str| {
        let found = letters[0].headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    assert!(header("tailrace-cause").contains("Message size too large"), "{:?}", letters[0].headers);
    assert_eq!((header("tailrace-topic"), header("tailrace-path")), ("logs", "/a"));
    let (_, offset, event) = event::wire::parse_line(header("tailrace-line").as_bytes()).expect("of this format");
    assert!(offset == 0 && event.starts_with(b"{\"@timestamp\""), "{:?}", letters[0].headers);
    assert_eq!(bench.metrics.dead_lettered.with_label_values(&["MessageSizeTooLarge"]).get(), 1);
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_broker_refuses_becomes_a_dead_letter_and_its_neighbours_are_delivered() {
    let mut bench = Bench::start(&[("logs", 1), ("dead", 1)], "codec: raw, dead_letter_topic: dead");
    let refused = Code::RD_KAFKA_RESP_ERR_INVALID_RECORD;
    bench.answer(&[refused, OK, refused]);
    assert_eq!(bench.deliver(&[("first", ""), ("bad", ""), ("third", "")]).await, 1);
    assert_eq!(
        (bench.values("logs"), bench.values("dead")),
        (vec!["first".into(), "third".into()], vec!["bad".into()])
    );
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_dead_letter_topic_a_refused_record_waits() {
    let mut bench = Bench::start(&[("logs", 1)], "codec: raw");
    bench.answer(&[Code::RD_KAFKA_RESP_ERR_INVALID_RECORD; 3]);
    assert_eq!(bench.deliver(&[("first", ""), ("second", "")]).await, 3, "given back until the broker takes it");
    assert_eq!(bench.values("logs"), ["first", "second"]);
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rights_nothing_is_dropped_and_it_goes_on_when_they_are_there() {
    let mut bench = Bench::start(&[("logs", 1)], "codec: raw");
    bench.answer(&[Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 2]);
    bench.send(0, &[("line", "")]).await;
    bench.returned().await;
    let problem = bench.health.problems().remove("kafka").unwrap_or_default();
    assert!(problem.contains("topic logs") && problem.contains("uthorization"), "{problem}");
    // Until the client has asked about the topic again it refuses by itself.
    let again = bench.deliver_from(1, &[("line", "")]).await;
    assert!(again >= 1, "the broker refused twice");
    assert_eq!(bench.health.problems().len(), 0);
    assert_eq!(bench.values("logs"), ["line"]);
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_cluster_never_takes_stops_the_shipper_and_loses_nothing() {
    let mut bench = Bench::start(&[("logs", 1)], "codec: raw");
    bench.answer(&[Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT]);
    bench.send(0, &[("line", "")]).await;
    bench.returned().await;
    assert_eq!(bench.stage.await.expect("it ends by itself"), Drained::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fills_no_request_goes_when_it_has_waited_for_linger() {
    let mut bench = Bench::start(&[("logs", 1)], "codec: raw, linger: 50ms");
    bench.send(0, &[("alone", "")]).await;
    bench.settled().await;
    assert_eq!(bench.values("logs"), ["alone"]);
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explicit_partition_has_everything() {
    let mut bench = Bench::start(&[("logs", 3)], "codec: raw, partition: 2, key: '{user}'");
    bench.deliver(&[("a", "u1"), ("b", "u2"), ("c", "")]).await;
    let got: Vec<_> =
        bench.stored("logs").into_iter().map(|stored| (stored.partition, stored.key, stored.value)).collect();
    let key = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(got, [(2, key("u1"), "a".into()), (2, key("u2"), "b".into()), (2, None, "c".into())]);
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_not_there_is_told_and_waited_for() {
    let bench = Bench::start(&[("logs", 2)], "partition: 2");
    let (started, mut problem) = (monotonic(), String::new());
    while problem.is_empty() && started.elapsed() < WAIT {
        tokio::time::sleep(Duration::from_millis(10)).await;
        problem = bench.health.problems().remove("kafka").unwrap_or_default();
    }
    assert!(problem.contains("kafka.partition: 2: topic \"logs\" has 2 partition(s)"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn round_robin_deals_every_record_and_settles_them_as_one() {
    let mut bench = Bench::start(&[("logs", 3)], "codec: raw, partitioner: round_robin");
    bench.deliver(&[("a", ""), ("b", ""), ("c", ""), ("d", ""), ("e", ""), ("f", "")]).await;
    let stored = bench.stored("logs");
    let count = |partition| stored.iter().filter(|stored| stored.partition == partition).count();
    assert_eq!([count(0), count(1), count(2)], [2, 2, 2]);
    assert!(bench.entries.try_recv().is_err(), "one debt, one settlement");
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_part_gives_the_whole_group_back() {
    let mut bench = Bench::start(&[("logs", 3)], "codec: raw, partitioner: round_robin");
    bench.answer(&[OK, Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let again = bench.deliver(&[("a", ""), ("b", ""), ("c", "")]).await;
    assert!(again >= 1, "a part of it failed");
    let mut values = bench.values("logs");
    values.sort();
    values.dedup();
    assert_eq!(values, ["a", "b", "c"], "copies are harmless, their ids are the same");
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_choose_topic_and_key_and_cannot_leave_the_template() {
    let topics = [("logs-shop", 1), ("logs", 1), ("secret", 1)];
    let mut bench = Bench::start(&topics, "codec: raw, topic: 'logs-{user}', key: '{input.id}/{user}'");
    bench.deliver(&[("a", "shop"), ("b", ""), ("c", "../secret"), ("d", "shop"), ("e", "none")]).await;
    assert_eq!(bench.values("logs-shop"), ["a", "d"]);
    assert_eq!(bench.values("logs"), ["b", "c", "e"]);
    assert_eq!(bench.values("secret"), [""; 0]);
    assert_eq!(bench.stored("logs-shop")[0].key.as_deref(), Some(b"nginx/shop".as_slice()));
    let fallbacks = |reason: &str| bench.metrics.topic_fallback.with_label_values(&[reason]).get();
    assert_eq!((fallbacks("unfit_value"), fallbacks("no_topic")), (2, 1));
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_ones_own_come_from_fields() {
    let fields = "header_fields: {service: '{fields.service}', user: 'u-{user}'}";
    let mut bench = Bench::start(&[("logs", 1)], &format!("codec: raw, {fields}"));
    bench.deliver(&[("a", "x"), ("b", "")]).await;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let got: Vec<_> = bench.stored("logs").into_iter().map(|stored| (stored.value, stored.headers)).collect();
    let expected = [
        ("a".to_owned(), vec![header("service", "shop"), header("user", "u-x")]),
        ("b".to_owned(), vec![header("service", "shop"), header("user", "u-")]),
    ];
    assert_eq!(got, expected);
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_counts_what_is_lost_and_never_reads_it_again() {
    let mut bench = Bench::start(&[("logs", 1)], "codec: raw, delivery: at_most_once, acks: 1");
    bench.answer(&[Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS]);
    bench.send(0, &[("lost", ""), ("too", "")]).await;
    assert!(matches!(bench.entry().await, Entry::Returned(_)), "this bench reserves nothing before the stage");
    assert!(bench.source.is_current(0), "what follows goes on");
    assert_eq!(bench.metrics.lost.get(), 2);
    bench.send(0, &[("next", "")]).await;
    bench.settled().await;
    assert_eq!(bench.values("logs"), ["next"]);
    assert_eq!(bench.metrics.guarantee.with_label_values(&["at_most_once"]).get(), 1);
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_sends_nothing_where_the_promise_is_weaker() {
    let bench = Bench::start(&[("logs", 1)], "strict: true");
    let (started, mut problem) = (monotonic(), String::new());
    while problem.is_empty() && started.elapsed() < WAIT {
        tokio::time::sleep(Duration::from_millis(10)).await;
        problem = bench.health.problems().remove("kafka").unwrap_or_default();
    }
    assert!(problem.contains("kafka.strict is set: replication factor 1"), "{problem}");
    assert_eq!(bench.metrics.guarantee.with_label_values(&["at_least_once"]).get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_s_own_statistics_are_metrics() {
    let mut bench = Bench::start(&[("logs", 1)], "librdkafka: {statistics.interval.ms: '20'}");
    bench.deliver(&[("first", ""), ("second", "")]).await;
    let broker = bench.mock.bootstrap_servers();
    let statistics = bench.metrics.statistics.clone();
    let round_trip = || statistics.round_trip.with_label_values(&[&broker, "main", "0.99"]).get();
    let in_time = tokio::time::timeout(WAIT, async {
        while round_trip() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    in_time.await.expect("a round trip was measured");
    assert_eq!(bench.end().await, Drained::All);
}
