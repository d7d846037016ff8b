//! What becomes of groups, without a broker: to whom they go, what is counted, and what is owed.

use super::*;
use crate::config::{KafkaConfig, ShipperConfig};
use crate::divide;
use crate::overflow::Overflows;
use bytes::Bytes;
use event::{Ack, Anchor, Debt, Entry, Extra, Incarnation, Intake, Permit, Record, Route, Source};
use service::health::Health;
use service::metrics::Registry;
use service::stop::Stop;
use tokio::sync::mpsc::{self, UnboundedReceiver};

mod kafka;
mod reserved;

/// Plans from YAML, beside the topic `logs`.
pub(crate) fn plans(yaml: &str) -> Vec<Plan> {
    let configs: Vec<PlanConfig> =
        service::load::parse_config("agent.yaml".as_ref(), yaml).unwrap_or_else(|error| panic!("{error}"));
    let kafka = service::load::parse_config("agent.yaml".as_ref(), "{brokers: ['a:9092']}").expect("valid");
    compile(&configs, &kafka, None).unwrap_or_else(|error| panic!("{error}"))
}

/// A group of an input of this id.
pub(crate) fn group(input: &str, lines: &[&str]) -> Group {
    group_of(Input { id: input.into(), ..Input::default() }, "/a.log", lines)
}

pub(crate) fn group_of(input: Input, path: &str, lines: &[&str]) -> Group {
    owed(input, path, lines).0
}

/// The same, and what becomes of its debt.
fn owed(input: Input, path: &str, lines: &[&str]) -> (Group, UnboundedReceiver<Entry>) {
    let (mut buffer, mut records) = (String::new(), Vec::new());
    for line in lines {
        let start = buffer.len();
        buffer.push_str(line);
        let bytes = u32::try_from(start).expect("small")..u32::try_from(buffer.len()).expect("small");
        records.push(Record { bytes, offset: start as u64, truncated: false, extra: None });
        buffer.push('\n');
    }
    let source = Arc::new(Source::new(StreamId(1), Arc::new(input), path.into(), Incarnation(1), 0));
    let (ledger, entries) = mpsc::unbounded_channel();
    let (events, bytes) = (u32::try_from(lines.len()).expect("small"), buffer.len() as u64);
    let (stream, anchor, held) = (StreamId(1), Anchor::default(), Permit::none());
    let debt = Debt { stream, epoch: 0, seq: 0, start: 0, end: bytes, anchor, events, bytes, held };
    let (ack, buffer) = (Ack::new(debt, ledger), Bytes::from(buffer));
    (Group { source, epoch: 0, buffer, records, read_at_ms: 0, reread: false, divert: None, ack }, entries)
}

fn shipper_config() -> ShipperConfig {
    // Nothing listens there, so nothing is ever delivered.
    let kafka: KafkaConfig =
        service::load::parse_config("agent.yaml".as_ref(), "{brokers: ['127.0.0.1:1']}").expect("valid");
    ShipperConfig::new("web-01", kafka, Duration::ZERO).expect("valid")
}

/// The stage, with plans.
struct Bench {
    limits: Limits,
    intake: Intake,
    passed: mpsc::Receiver<Group>,
    task: tokio::task::JoinHandle<()>,
    metrics: ShipperMetrics,
}

impl Bench {
    fn start(yaml: &str, overflow_bytes: usize) -> Self {
        let metrics = ShipperMetrics::new(&Registry::default());
        let limits = Limits::new(plans(yaml), overflow_bytes, metrics.clone());
        let (groups, input) = mpsc::channel(100);
        let (output, passed) = mpsc::channel(100);
        let (trigger, stop) = Stop::new();
        trigger.stop(); // Clients of other topics end at once, and give back what they have.
        let mut overflows = Overflows::new(shipper_config(), metrics.clone(), Health::new(), stop);
        let (stage, told) = (limits.clone(), metrics.clone());
        let task = tokio::spawn(async move {
            let ((to_divide, judged), config) = (mpsc::channel(1), shipper_config());
            let divide = divide::run(&config, judged, output, &mut overflows, &told);
            tokio::join!(run(stage, input, to_divide), divide);
        });
        let intake = Intake { groups, gate: Arc::new(limits.clone()) };
        Self { limits, intake, passed, task, metrics }
    }

    async fn send(&self, group: Group) {
        self.intake.gate.passes(&group);
        self.intake.groups.send(group).await.expect("the stage runs");
    }

    /// Closes the intake; returns what passed.
    async fn end(mut self) -> Vec<Group> {
        drop(self.intake);
        let mut groups = Vec::new();
        while let Some(group) = self.passed.recv().await {
            groups.push(group);
        }
        self.task.await.expect("ends");
        groups
    }
}

fn lines(group: &Group) -> Vec<String> {
    group.records.iter().map(|record| String::from_utf8_lossy(group.bytes_of(record)).into_owned()).collect()
}

#[track_caller]
fn shares(entries: &mut UnboundedReceiver<Entry>) -> Vec<(Route, u32, u64)> {
    match entries.try_recv() {
        Ok(Entry::Shared(_, shares)) => {
            shares.into_iter().map(|share| (share.route, share.events, share.bytes)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_plan_drops_is_settled_as_dropped_and_counted() {
    let bench = Bench::start("[{name: a, rate: {events: 1/h}, excess: drop}]", 1 << 20);
    let (first, mut first_entries) = owed(Input::default(), "/a", &["one", "two"]);
    let (second, mut entries) = owed(Input::default(), "/a", &["three", "four", "five"]);
    bench.send(first).await;
    bench.send(second).await;
    let (metrics, limits) = (bench.metrics.clone(), bench.limits.clone());
    let passed = bench.end().await;
    assert_eq!(passed.iter().map(lines).collect::<Vec<_>>(), [["one", "two"]], "a group passes whole");
    assert_eq!(shares(&mut entries), [(Route::Dropped("a".into()), 3, 16)]);
    assert!(first_entries.try_recv().is_err(), "it is still owed");
    assert_eq!(metrics.limited.with_label_values(&["a", "dropped"]).get(), 3);
    assert_eq!(metrics.limited_bytes.with_label_values(&["a", "dropped"]).get(), 16);
    let shown = limits.shown();
    assert_eq!((shown[0].passed_events, shown[0].dropped_events, shown[0].dropped_bytes), (2, 3, 16));
}

#[tokio::test]
async fn only_the_records_of_a_value_that_is_used_up_are_dropped() {
    let bench = Bench::start("[{name: a, scope: 'field:tenant', rate: {events: 1/h}, excess: drop}]", 1 << 20);
    let tenant = |group: &mut Group, tenants: &[&str]| {
        for (record, tenant) in group.records.iter_mut().zip(tenants) {
            let fields = format!(r#"{{"tenant":"{tenant}"}}"#);
            record.extra = Some(Box::new(Extra { fields, ..Extra::default() }));
        }
    };
    let (mut first, _first_entries) = owed(Input::default(), "/a", &["a1", "a2"]);
    tenant(&mut first, &["a", "a"]);
    let (mut second, mut entries) = owed(Input::default(), "/a", &["a3", "b1", "a4", "b2"]);
    tenant(&mut second, &["a", "b", "a", "b"]);
    bench.send(first).await;
    bench.send(second).await;
    let passed = bench.end().await;
    assert_eq!(passed.iter().map(lines).collect::<Vec<_>>(), [["a1", "a2"], ["b1", "b2"]]);
    assert!(entries.try_recv().is_err(), "a part of it is still owed");
    for group in passed {
        group.ack.settle();
    }
    assert_eq!(shares(&mut entries), [(Route::Dropped("a".into()), 2, 6), (Route::Main, 2, 6)]);
}

#[tokio::test]
async fn what_is_diverted_goes_to_its_topic_with_its_reason_and_is_given_back_if_that_never_takes_it() {
    let bench = Bench::start("[{name: a, rate: {bytes: 1B/h}, excess: {divert: later}}]", 1 << 20);
    let (second, mut entries) = owed(Input::default(), "/a", &["two"]);
    bench.send(group("x", &["one"])).await;
    bench.send(second).await;
    let metrics = bench.metrics.clone();
    assert_eq!(bench.end().await.len(), 1);
    assert_eq!(metrics.limited.with_label_values(&["a", "diverted"]).get(), 1);
    // The client of the other topic ended without a broker.
    let entry = tokio::time::timeout(Duration::from_secs(10), entries.recv()).await.expect("in time");
    assert!(matches!(entry, Some(Entry::Returned(_))), "{entry:?}");
}

#[tokio::test]
async fn what_an_overflow_has_no_room_for_is_given_back_and_then_waits_in_its_file() {
    let mut bench = Bench::start("[{name: a, rate: {bytes: 1B/h}, excess: {divert: later}}]", 1_000);
    bench.send(group("x", &["one"])).await;
    assert!(bench.passed.recv().await.is_some());
    let overflow = bench.limits.engine().overflow("later").cloned().expect("there is a plan");
    assert!(
        bench.intake.gate.opens(StreamId(1), &Input::default(), "/a").is_none(),
        "it is diverted, it need not wait"
    );
    let held = overflow.try_take(900).expect("it is free");
    assert!(bench.intake.gate.opens(StreamId(1), &Input::default(), "/a").is_some(), "nothing can be diverted now");
    let (second, mut entries) = owed(Input::default(), "/a", &["two"]);
    bench.send(second).await;
    assert!(bench.end().await.is_empty());
    assert!(matches!(entries.try_recv(), Ok(Entry::Returned(_))));
    drop(held);
}

#[tokio::test]
async fn a_source_is_held_while_its_plan_owes_and_no_other_is() {
    let bench = Bench::start("[{name: a, match: {input: [slow]}, scope: input, rate: {events: 1/h}}]", 1 << 20);
    let (slow, other) = (Input { id: "slow".into(), ..Input::default() }, Input::default());
    let opens = |input: &Input| bench.intake.gate.opens(StreamId(1), input, "/a");
    assert!(opens(&slow).is_none());
    bench.send(group("slow", &["one", "two", "three"])).await;
    let until = opens(&slow).expect("it is held");
    assert!(until <= monotonic() + ASK_AGAIN, "it is asked for again, as plans change");
    assert!(opens(&other).is_none());
    assert_eq!(bench.metrics.held.get(), 1);
    bench.limits.reload(plans("[]"));
    assert!(opens(&slow).is_none());
    assert_eq!(bench.end().await.len(), 1, "what was read passes");
}

#[tokio::test]
async fn what_was_broken_off_is_given_back_and_not_judged() {
    let bench = Bench::start("[{name: a, rate: {events: 1/h}, excess: drop}]", 1 << 20);
    let (group, mut entries) = owed(Input::default(), "/a", &["one"]);
    group.source.break_off(0);
    bench.intake.groups.send(group).await.expect("the stage runs");
    let limits = bench.limits.clone();
    assert!(bench.end().await.is_empty());
    assert!(matches!(entries.try_recv(), Ok(Entry::Returned(_))));
    assert_eq!(limits.shown()[0].passed_events, 0);
}

#[tokio::test]
async fn the_intake_closes_when_the_later_stages_have_ended_though_nothing_is_read() {
    let Bench { intake, passed, task, .. } = Bench::start("[]", 1 << 20);
    drop(passed);
    tokio::time::timeout(Duration::from_secs(30), task).await.expect("within the limit").expect("it ends");
    assert!(intake.groups.is_closed(), "so that reading ends, too");
}
