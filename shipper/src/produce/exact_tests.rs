//! Transactions before librdkafka's own double of a broker. It hides no record of an aborted one, so only settlements, offsets and
//! order are judged here; what a consumer of committed records sees is `tests/promises/exactly_once.rs`.

use super::stage_tests::{Bench, OK};
use super::*;
use event::Entry;
use rdkafka::types::RDKafkaRespErr as Code;

const TOPICS: &[(&str, i32)] = &[("logs", 1), ("dead", 1), ("offsets", 1)];

fn start(kafka: &str) -> Bench {
    Bench::start(TOPICS, &format!("codec: raw, delivery: exactly_once, offsets_topic: offsets, {kafka}"))
}

fn transactions(bench: &Bench, result: &str) -> u64 {
    bench.metrics.transactions.with_label_values(&[result]).get()
}

async fn wait_until(mut is_met: impl FnMut() -> bool) {
    let deadline = monotonic() + Duration::from_secs(30);
    while !is_met() {
        assert!(monotonic() < deadline, "within the limit");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_settled_before_the_commit_and_the_offsets_go_with_it() {
    let mut bench = start("commit_interval: 30s");
    assert!(bench.committed().await.is_empty(), "nothing was ever committed here");
    bench.send(0, &[("one", ""), ("two", "")]).await;
    wait_until(|| bench.values("logs").len() == 2).await;
    assert!(bench.entries.try_recv().is_err(), "it is delivered, and not committed");
    let (values, source) = (bench.values("offsets"), bench.source.clone());
    assert!(values.len() == 1 && values[0].contains("session"), "{values:?}");
    let (drained, mock) = bench.end_and_keep().await;
    assert_eq!(drained, Drained::All, "it is committed at the end");
    let mut next = Bench::on(mock, "codec: raw, delivery: exactly_once, offsets_topic: offsets");
    let committed = next.committed().await;
    assert_eq!(committed.len(), 1);
    let one = &committed[0];
    assert_eq!((&*one.input, one.incarnation), ("nginx", source.incarnation));
    assert_eq!((one.progress.offset, &*one.entry), (8, r#"{"path":"/a"}"#));
    assert_eq!(next.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_committed_after_its_time_and_at_its_size() {
    for kafka in ["commit_interval: 50ms", "commit_interval: 30s, commit_bytes: 4"] {
        let mut bench = start(kafka);
        bench.send(0, &[("one", "")]).await;
        bench.settled().await;
        assert_eq!(transactions(&bench, "committed"), 1, "{kafka}");
        assert_eq!(bench.end().await, Drained::All);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failure_gives_everything_in_the_transaction_back() {
    let mut bench = start("commit_interval: 300ms");
    bench.committed().await;
    bench.answer(&[OK, Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    bench.send(0, &[("first", "")]).await;
    wait_until(|| !bench.values("logs").is_empty()).await;
    bench.send(0, &[("second", "")]).await;
    for _ in 0..2 {
        assert!(matches!(bench.entry().await, Entry::Returned(_)), "neither is committed");
    }
    assert!(!bench.source.is_current(0), "what follows must not overtake them");
    assert_eq!(transactions(&bench, "aborted"), 1);
    bench.deliver_from(1, &[("first", ""), ("second", "")]).await;
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_becomes_a_dead_letter_in_a_later_transaction() {
    let mut bench = start("commit_interval: 50ms, dead_letter_topic: dead");
    bench.committed().await;
    bench.answer(&[Code::RD_KAFKA_RESP_ERR_INVALID_RECORD; 2]);
    let again = bench.deliver(&[("bad", ""), ("second", "")]).await;
    assert!(again >= 2, "with its neighbour, then by itself");
    assert_eq!(bench.values("dead"), ["bad"]);
    assert!(bench.values("logs").contains(&"second".to_owned()));
    assert_eq!(bench.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_offset_passes_a_part_that_is_owed_elsewhere() {
    let mut bench = start("commit_interval: 50ms");
    bench.committed().await;
    let other = bench.send_part(0, &[("one", "")]).await;
    wait_until(|| transactions(&bench, "aborted") == 1).await;
    assert!(bench.entries.try_recv().is_err(), "the other part is still owed");
    assert!(!bench.source.is_current(0), "what follows must not overtake it");
    other.settle();
    assert!(matches!(bench.entry().await, Entry::Returned(_)), "all of it is read again");
    let other = bench.send_part(1, &[("one", "")]).await;
    other.settle();
    assert!(matches!(bench.entry().await, Entry::Shared(..)), "now it is safe");
    assert_eq!((transactions(&bench, "aborted"), transactions(&bench, "committed")), (1, 1));
    let (drained, mock) = bench.end_and_keep().await;
    assert_eq!(drained, Drained::All);
    let mut next = Bench::on(mock, "codec: raw, delivery: exactly_once, offsets_topic: offsets");
    let offsets: Vec<_> = next.committed().await.iter().map(|one| one.progress.offset).collect();
    assert_eq!(offsets, [4], "of the whole debt");
    assert_eq!(next.end().await, Drained::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_forgotten_in_the_topic() {
    let mut bench = start("commit_interval: 50ms");
    bench.committed().await;
    bench.send(0, &[("one", "")]).await;
    bench.settled().await;
    bench.forget(("other".into(), event::Incarnation(9)));
    bench.send(0, &[("two", "")]).await;
    bench.settled().await;
    let stored = bench.stored("offsets");
    let forgotten = stored.iter().filter(|record| record.value.is_empty()).count();
    assert_eq!(forgotten, 1, "{stored:?}");
    assert_eq!(bench.end().await, Drained::All);
}
