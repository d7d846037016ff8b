//! `delivery: at_most_once` under a plan: whatever way a record goes, it is reserved before and sent once at most.

use super::kafka::{PATIENCE, config, read};
use super::*;
use crate::produce::Drained;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use std::collections::BTreeSet;

const GROUPS: usize = 20;
/// Its reservation is let go: it is read again, and must not be sent.
const LET_GO: usize = 7;
/// Of the tenant that all groups share one event passes that is paid and one that is owed; each group has one of a tenant of its own,
/// which passes too.
const PASS: usize = 2;
const PLAN: &str = "[{name: day, scope: 'field:tenant', rate: {events: 1/h}, excess: {divert: later}}]";

fn mixed(number: usize) -> (Group, UnboundedReceiver<Entry>) {
    let lines = [format!("shared {number}"), format!("own {number}")];
    let (mut group, entries) = owed(Input::default(), "/a", &[&lines[0], &lines[1]]);
    for (record, tenant) in group.records.iter_mut().zip(["shared".to_owned(), format!("own-{number}")]) {
        let fields = format!(r#"{{"tenant":"{tenant}"}}"#);
        record.extra = Some(Box::new(Extra { fields, ..Extra::default() }));
    }
    (group, entries)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_reserved_and_then_divided_is_sent_once_by_each_way() {
    let mock = MockCluster::new(1).expect("the mock starts");
    for topic in ["logs", "later"] {
        mock.create_topic(topic, 1, 1).expect("a topic");
    }
    let metrics = ShipperMetrics::new(&Registry::default());
    let limits = Limits::new(plans(PLAN), 1 << 20, metrics.clone());
    let config = config(&mock, "delivery: at_most_once");
    let (intake, shipper) =
        crate::start(config, limits, metrics.clone(), Health::new(), Stop::new().1).expect("starts");
    let mut ledgers = Vec::new();
    for number in 0..GROUPS {
        let (group, mut entries) = mixed(number);
        intake.gate.passes(&group);
        intake.groups.send(group).await.expect("it runs");
        let entry = tokio::time::timeout(PATIENCE, entries.recv()).await.expect("in time");
        let Some(Entry::Reserved(_, shares, told)) = entry else { panic!("{entry:?}") };
        let routes: Vec<_> = shares.iter().map(|share| (share.route.clone(), share.events)).collect();
        let expected = [(Route::Overflow, 1), (Route::Main, 1)];
        assert_eq!(routes, if number < PASS { vec![(Route::Main, 2)] } else { expected.to_vec() });
        if number != LET_GO {
            told.send(()).expect("it is waited for");
        }
        ledgers.push(entries);
    }
    drop(intake);
    let drained = tokio::task::spawn_blocking(|| shipper.join()).await.expect("ends");
    assert_eq!(drained, Drained::All);
    for ledger in &mut ledgers {
        assert!(ledger.try_recv().is_err(), "what is reserved is neither settled nor given back");
    }

    let sent: Vec<_> = (0..GROUPS).filter(|number| *number != LET_GO).collect();
    let own = sent.iter().map(|number| format!("own {number}"));
    let main: BTreeSet<_> = own.chain((0..PASS).map(|number| format!("shared {number}"))).collect();
    let later: BTreeSet<_> = sent[PASS..].iter().map(|number| format!("shared {number}")).collect();
    let brokers = mock.bootstrap_servers();
    for (topic, expected) in [("logs", main), ("later", later)] {
        let got = read(&brokers, topic, expected.len());
        let texts: BTreeSet<_> =
            got.iter().map(|(payload, _)| payload["message"].as_str().expect("a text").to_owned()).collect();
        assert_eq!(texts, expected, "{topic}");
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("a consumer");
        let (_, end) = consumer.fetch_watermarks(topic, 0, PATIENCE).expect("the mock answers");
        assert_eq!(usize::try_from(end), Ok(expected.len()), "{topic}: none twice");
    }
    assert_eq!(metrics.limited.with_label_values(&["day", "diverted"]).get(), (sent.len() - PASS) as u64);
    assert_eq!(metrics.lost.get(), 0);
}

#[tokio::test]
async fn what_there_is_no_room_for_is_given_back_before_it_is_reserved() {
    let bench = Bench::start(PLAN, 1_000);
    for number in 0..PASS {
        bench.send(mixed(number).0).await;
    }
    let overflow = bench.limits.engine().overflow("later").cloned().expect("there is a plan");
    let held = overflow.try_take(900).expect("it is free");
    let (group, mut entries) = mixed(PASS);
    let source = group.source.clone();
    bench.send(group).await;
    let passed = bench.end().await;
    assert_eq!(
        passed.iter().map(lines).collect::<Vec<_>>(),
        [["shared 0", "own 0"], ["shared 1", "own 1"]],
        "and no part of the last"
    );
    assert!(matches!(entries.try_recv(), Ok(Entry::Returned(_))), "whole: it is read again and judged anew");
    assert!(!source.is_current(0), "what follows must not overtake it");
    drop(held);
}
