//! What is committed, rewound and handed on, record by record.

use super::*;
use service::metrics::Registry;
use tokio::sync::mpsc::UnboundedReceiver;

fn partitions() -> (Partitions, UnboundedReceiver<Entry>) {
    let (tx, rx) = crate::acks();
    let mut partitions = Partitions::new(tx, Metrics::new(&Registry::default()));
    partitions.assign("logs", 0);
    partitions.assign("logs", 1);
    (partitions, rx)
}

fn take(partitions: &mut Partitions, partition: i32, offsets: &[i64]) {
    for &offset in offsets {
        let record =
            Incoming { key: None, value: Some(b"line"), offset, timestamp_ms: None, sent: None, put_off: None };
        partitions.take("logs", partition, record);
    }
}

fn hand_on(partitions: &mut Partitions) -> Vec<Parcel> {
    let mut parcels = Vec::new();
    assert!(partitions.hand_on(|_| Some(Permit::none()), || true, |parcel| parcels.push(parcel)));
    parcels
}

fn note_all(partitions: &mut Partitions, rx: &mut UnboundedReceiver<Entry>) {
    while let Ok(entry) = rx.try_recv() {
        partitions.note(entry);
    }
}

fn finish(parcel: &Parcel) {
    parcel.done(parcel.records.len() as u32);
}

#[track_caller]
fn check(partitions: &Partitions, expected: &[(i32, u64)]) {
    let got: Vec<_> = partitions.to_commit().iter().map(|(_, partition, offset)| (*partition, *offset)).collect();
    assert_eq!(got, expected);
}

#[test]
fn only_the_settled_prefix_is_committed() {
    let (mut partitions, mut rx) = partitions();
    take(&mut partitions, 0, &[100, 101, 107]); // A gap, as compaction and transactions leave them.
    let first = hand_on(&mut partitions);
    take(&mut partitions, 0, &[108]);
    let second = hand_on(&mut partitions);
    check(&partitions, &[]);
    second.iter().for_each(finish);
    note_all(&mut partitions, &mut rx);
    check(&partitions, &[]); // The first parcel is still in flight.
    first.iter().for_each(finish);
    note_all(&mut partitions, &mut rx);
    check(&partitions, &[(0, 109)]);
    let places = partitions.to_commit();
    partitions.committed(&places);
    check(&partitions, &[]);
    partitions.forget_commits();
    check(&partitions, &[(0, 109)]);
    assert!(partitions.is_settled());
}

#[test]
fn of_a_topic_made_anew_the_new_offsets_are_committed() {
    let (mut partitions, mut rx) = partitions();
    take(&mut partitions, 0, &[5, 6]);
    let old = hand_on(&mut partitions);
    take(&mut partitions, 0, &[7, 0, 1]); // Gathered together.
    let both = hand_on(&mut partitions);
    old.iter().for_each(finish);
    note_all(&mut partitions, &mut rx);
    check(&partitions, &[]); // Nothing of the new topic is settled.
    both.iter().for_each(finish);
    note_all(&mut partitions, &mut rx);
    check(&partitions, &[(0, 2)]);
    take(&mut partitions, 0, &[0]); // And again, between two parcels.
    hand_on(&mut partitions).iter().for_each(finish);
    note_all(&mut partitions, &mut rx);
    check(&partitions, &[(0, 1)]);
    assert!(partitions.is_settled());
}

#[test]
fn a_topic_made_anew_is_read_from_its_beginning_also_where_it_is_longer_than_the_old_one() {
    let (mut partitions, mut rx) = partitions();
    take(&mut partitions, 0, &[5, 6]);
    hand_on(&mut partitions).iter().for_each(finish);
    note_all(&mut partitions, &mut rx);
    take(&mut partitions, 0, &[7, 8]); // Of the new topic, gathered before anybody knew.
    partitions.begin_anew("logs", 0);
    assert_eq!(partitions.rewinds(), [("logs".into(), 0, 0)]);
    take(&mut partitions, 0, &[9]); // Fetched before the seek.
    partitions.rewound("logs", 0);
    take(&mut partitions, 0, &[0, 1, 2]);
    hand_on(&mut partitions).iter().for_each(finish);
    note_all(&mut partitions, &mut rx);
    check(&partitions, &[(0, 3)]);
    assert!(partitions.is_settled());
    partitions.begin_anew("other", 0); // Not ours: nothing happens.
}

#[test]
fn a_parcel_given_back_rewinds_its_partition_alone() {
    let (mut partitions, mut rx) = partitions();
    take(&mut partitions, 0, &[5, 6]);
    take(&mut partitions, 1, &[9]);
    let mut first = hand_on(&mut partitions);
    take(&mut partitions, 0, &[7]);
    let later = hand_on(&mut partitions);
    drop(first.remove(0));
    note_all(&mut partitions, &mut rx);
    assert_eq!(partitions.rewinds(), [("logs".into(), 0, 5)]);
    take(&mut partitions, 0, &[8]); // Not taken: it stands behind what has to be read again.
    assert!(hand_on(&mut partitions).is_empty());
    partitions.rewound("logs", 0);
    take(&mut partitions, 0, &[5]);
    let again = hand_on(&mut partitions);
    later.iter().for_each(finish); // Of the earlier epoch: it no longer counts.
    first.iter().for_each(finish);
    note_all(&mut partitions, &mut rx);
    check(&partitions, &[(1, 10)]);
    again.iter().for_each(finish);
    note_all(&mut partitions, &mut rx);
    check(&partitions, &[(0, 6), (1, 10)]);
}

#[test]
fn a_record_that_is_not_due_holds_its_partition_alone_until_it_is() {
    let (mut partitions, mut rx) = partitions();
    take(&mut partitions, 0, &[5]);
    partitions.wait("logs", 0, 6, 1000);
    partitions.wait("logs", 0, 7, 500); // The first one holds.
    take(&mut partitions, 0, &[8]); // What was fetched already.
    take(&mut partitions, 1, &[3]);
    assert_eq!(partitions.metrics.waiting.get(), 1);
    let parcels = hand_on(&mut partitions);
    assert_eq!(parcels.iter().map(|parcel| parcel.records.len()).collect::<Vec<_>>(), [1, 1]);
    parcels.iter().for_each(finish);
    note_all(&mut partitions, &mut rx);
    check(&partitions, &[(0, 6), (1, 4)]); // Never past the one that waits.
    assert_eq!((partitions.due(999), partitions.due(1000)), (vec![], vec![("logs".into(), 0, 6)]));
    partitions.awake("logs", 0);
    take(&mut partitions, 0, &[6, 8]);
    let parcels = hand_on(&mut partitions);
    assert_eq!(parcels[0].records.iter().map(|record| record.offset).collect::<Vec<_>>(), [6, 8]);
    assert_eq!(partitions.metrics.waiting.get(), 0);
}

#[test]
fn what_is_given_back_or_made_anew_while_its_partition_waits_is_read_first() {
    let (mut partitions, mut rx) = partitions();
    take(&mut partitions, 0, &[5]);
    let parcels = hand_on(&mut partitions);
    partitions.wait("logs", 0, 6, 1000);
    drop(parcels);
    note_all(&mut partitions, &mut rx);
    // Not by a rewind: the partition is paused until the seek that ends the wait.
    assert_eq!((partitions.rewinds(), partitions.due(0)), (vec![], vec![("logs".into(), 0, 5)]));
    partitions.begin_anew("logs", 0);
    assert_eq!((partitions.rewinds(), partitions.due(0)), (vec![], vec![("logs".into(), 0, 0)]));
    partitions.wait("logs", 1, 6, 1000);
    partitions.revoke("logs", 1);
    assert_eq!((partitions.due(1000).len(), partitions.metrics.waiting.get()), (1, 1));
}

#[test]
fn what_waits_stays_paused_when_the_output_takes_records_again() {
    let (mut partitions, _rx) = partitions();
    let names = |list: Vec<(Arc<str>, i32)>| list.into_iter().map(|(_, partition)| partition).collect::<Vec<_>>();
    partitions.wait("logs", 1, 6, 1000);
    assert_eq!(names(partitions.to_pause(Still::None, true)), [1]);
    assert!(partitions.to_pause(Still::None, true).is_empty(), "it is told once");
    assert_eq!(names(partitions.to_pause(Still::All, true)), [0]);
    assert!(partitions.to_pause(Still::All, false).is_empty());
    assert_eq!(names(partitions.to_pause(Still::None, false)), [0]);
    partitions.forget_pauses();
    assert_eq!(names(partitions.to_pause(Still::None, true)), [1]);
    partitions.awake("logs", 1);
    assert!(partitions.to_pause(Still::None, true).is_empty() && partitions.to_pause(Still::None, false).is_empty());
}

#[test]
fn overflow_topics_stand_still_alone_and_are_counted_alone() {
    let (tx, _rx) = crate::acks();
    let metrics = Metrics::new(&Registry::default());
    let mut partitions = Partitions::new(tx, metrics).with_overflow(&["later".to_owned()]);
    partitions.assign("logs", 0);
    partitions.assign("later", 0);
    let names = |list: Vec<(Arc<str>, i32)>| list.into_iter().map(|(topic, _)| topic.to_string()).collect::<Vec<_>>();
    assert_eq!(names(partitions.to_pause(Still::Overflow, true)), ["later"]);
    assert_eq!(names(partitions.to_pause(Still::All, true)), ["logs"]);
    assert_eq!(names(partitions.to_pause(Still::Overflow, false)), ["logs"]);
    assert_eq!(names(partitions.to_pause(Still::None, false)), ["later"]);
    take(&mut partitions, 0, &[1, 2]);
    let record = Incoming { key: None, value: None, offset: 5, timestamp_ms: None, sent: None, put_off: None };
    partitions.take("later", 0, record);
    assert_eq!((partitions.take_counts(), partitions.take_counts()), ((2, 1), (0, 0)));
}

#[test]
fn a_revoked_partition_commits_nothing_more() {
    let (mut partitions, mut rx) = partitions();
    take(&mut partitions, 0, &[5]);
    let old = hand_on(&mut partitions);
    assert!(!partitions.is_idle("logs", 0));
    partitions.revoke("logs", 0);
    take(&mut partitions, 0, &[6]);
    assert!(hand_on(&mut partitions).is_empty());
    partitions.assign("logs", 0);
    old.iter().for_each(finish);
    note_all(&mut partitions, &mut rx);
    check(&partitions, &[]);
}

#[test]
fn a_partition_about_to_go_takes_nothing_more_but_settles() {
    let (mut partitions, mut rx) = partitions();
    take(&mut partitions, 0, &[5]);
    let old = hand_on(&mut partitions);
    take(&mut partitions, 0, &[6]);
    partitions.cut("logs", 0);
    take(&mut partitions, 0, &[7]);
    assert!(hand_on(&mut partitions).is_empty());
    old.iter().for_each(finish);
    note_all(&mut partitions, &mut rx);
    assert!(partitions.is_idle("logs", 0));
    check(&partitions, &[(0, 6)]);
}

#[test]
fn what_the_budget_refuses_stays_gathered_in_order() {
    let (mut partitions, _rx) = partitions();
    take(&mut partitions, 0, &[5]);
    assert!(!partitions.hand_on(|_| None, || true, drop));
    assert!(!partitions.hand_on(|_| Some(Permit::none()), || false, drop));
    take(&mut partitions, 0, &[6]);
    let parcels = hand_on(&mut partitions);
    assert_eq!(parcels[0].records.iter().map(|record| record.offset).collect::<Vec<_>>(), [5, 6]);
}
