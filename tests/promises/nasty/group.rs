//! What happens to the member of the group on a bad day: others come, the output stands still, it is edited or killed.

use crate::{Bench, LIMIT, is_full, total};
use serde_json::json;
use std::fs;
use std::time::Duration;
use tests::daemon::Daemon;
use tests::fake::Answer;
use tests::wait;

/// Longer than a member waits for its bulks when partitions are taken from it.
const SLOW: Duration = Duration::from_secs(12);

/// The shortest limit between two polls: that of a session.
const POLL_MAX: Duration = Duration::from_secs(6);

/// Resident memory that the indexer may reach.
const RSS_MAX: u64 = 200_000_000;

#[track_caller]
fn wait_assigned(daemons: &[&Daemon], each: u64) {
    wait::wait_for("the assignment", LIMIT, || {
        let assigned: Vec<_> = daemons.iter().map(|daemon| total(daemon, "assigned_partitions")).collect();
        wait::met(assigned.iter().all(|count| *count == each), || format!("{assigned:?} partitions"))
    });
}

#[test]
fn a_rebalance_with_bulks_in_flight_stores_nothing_twice() {
    let mut bench = Bench::with_lines("rebalance", 4, 4_000);
    bench.node.script(std::iter::repeat_n(Answer::Late(SLOW), 2));
    let member = |name: &str| {
        let mut start = bench.another(name);
        start.config["kafka"]["static_id"] = json!(null);
        start.spawn().expect("the indexer starts")
    };
    let first = member("first");
    wait::wait_for("bulks in flight", LIMIT, || {
        let sent = total(&first, "bulk_bytes_total");
        wait::met(sent > 0 && total(&first, "in_flight") > 0, || "nothing is sent".to_owned())
    });
    let second = member("second");
    wait_assigned(&[&first, &second], 2);
    assert!(total(&first, "in_flight") > 0, "its bulks are on their way");
    bench.add_lines(4, 1_000, 100);
    assert!(bench.settle_up(&first).is_empty());
    bench.scene.check_equations(None, Some(&second));
    let sum = |name: &str| total(&first, name) + total(&second, name);
    eprintln!("figures rebalance: {} documents were sent twice", sum("duplicate_total"));
    assert_eq!(sum("indexed_total"), 5_000, "each was created once");
    assert!(sum("duplicate_total") > 0, "the bulks took longer than the revoke waits");
}

#[test]
fn an_outage_longer_than_max_poll_interval_moves_no_partition() {
    let mut bench = Bench::new("poll-limit", 2);
    bench.add_lines(2, 4_000, 4_000);
    bench.node.script(std::iter::repeat_n(Answer::Refuse(503, "{}"), 100_000));
    let mut start = bench.scene.indexer();
    let limit = format!("{}s", POLL_MAX.as_secs());
    start.config["kafka"]["session_timeout"] = json!(limit);
    start.config["kafka"]["max_poll_interval"] = json!(limit);
    start.config["memory"] = json!("8MiB");
    let mut indexer = start.spawn().expect("the indexer starts");
    wait_assigned(&[&indexer], 2);
    let rebalances = total(&indexer, "rebalances_total");
    wait::wait_for("the pause", LIMIT, || {
        wait::met(total(&indexer, "paused") == 1, || "the output is not full".to_owned())
    });
    let mut rss_max = 0;
    wait::stays("the assignment in the outage", POLL_MAX + POLL_MAX / 2, || {
        let now = (total(&indexer, "rebalances_total"), total(&indexer, "assigned_partitions"));
        rss_max = rss_max.max(indexer.usage().map_err(|error| error.to_string())?.rss);
        wait::met(indexer.ended().is_none() && now == (rebalances, 2), || format!("{now:?}"))
    });
    bench.node.heal();
    let drained = bench.wait_ended();
    eprintln!("figures poll limit: RSS at most {rss_max} bytes; 16 MB drained {drained:.1?} after the outage");
    assert!(bench.settle_up(&indexer).is_empty());
    assert_eq!((total(&indexer, "rebalances_total"), total(&indexer, "paused")), (rebalances, 0));
}

#[test]
fn a_reload_while_blocked_keeps_the_group_and_what_was_made_before() {
    let mut bench = Bench::with_lines("blocked", 1, 500);
    let folder = bench.scene.folder.join("pipelines");
    fs::create_dir_all(&folder).expect("made");
    let write = |text: &str| fs::write(folder.join("p.yml"), text).expect("written");
    let made_by = |name: &str| format!("processors:\n  - set: {{field: made_by, value: {name}}}\n");
    write(&made_by("first"));
    bench.node.script(std::iter::repeat_n(Answer::Refuse(503, "{}"), 100_000));
    let mut start = bench.scene.indexer();
    start.config["pipelines"] = json!({"dir": folder, "default": "p"});
    let indexer = start.spawn().expect("the indexer starts");
    wait::wait_for("all of it on its way", LIMIT, || {
        let in_flight = total(&indexer, "in_flight");
        wait::met(in_flight == 500 && !bench.node.bulks().is_empty(), || format!("{in_flight} in flight"))
    });
    let rebalances = total(&indexer, "rebalances_total");
    let reload = |reloads: u64| {
        indexer.signal("HUP").expect("sent");
        wait::wait_for("the reload", LIMIT, || {
            let counted = total(&indexer, "reloads_total");
            wait::met(counted >= reloads, || format!("{counted} reloads; log:\n{}", indexer.log_tail()))
        });
    };
    write("processors:\n  - sett: {field: x}\n");
    reload(1);
    indexer.wait_log(&["not reloaded", "p.yml:2:", "sett"], LIMIT);
    write(&made_by("second"));
    reload(2);
    bench.add_lines(1, 500, 100);
    wait::wait_for("the rest on its way", LIMIT, || {
        let in_flight = total(&indexer, "in_flight");
        wait::met(in_flight == 1_000, || format!("{in_flight} in flight"))
    });
    bench.node.heal();
    assert!(bench.settle_up(&indexer).is_empty());
    for source in bench.node.documents().into_values() {
        let place = bench.values.iter().position(|value| source["message"] == value.as_str()).expect("one of ours");
        assert_eq!(source["made_by"], if place < 500 { "first" } else { "second" }, "{place}");
    }
    assert_eq!(total(&indexer, "rebalances_total"), rebalances, "nobody left the group");
}

#[test]
fn a_kill_between_answer_and_commit_makes_no_second_copy() {
    let bench = Bench::with_lines("uncommitted", 2, 3_000);
    let mut start = bench.scene.indexer();
    start.env = vec![("FAILPOINTS".to_owned(), "indexer-before-commit=1*return".to_owned())];
    let mut first = start.spawn().expect("the indexer starts");
    assert!(!first.wait_end(LIMIT).success());
    let stored = bench.node.documents().len() as u64;
    let committed = bench.scene.cluster.committed(&bench.scene.group, &bench.scene.topic).expect("the broker answers");
    assert!(stored > 0 && committed.is_empty(), "{stored} stored, committed {committed:?}");
    start.env.clear();
    let second = start.spawn().expect("the indexer starts");
    assert!(bench.settle_up(&second).is_empty());
    // What the first had begun to send may have been stored after it was looked at.
    let duplicates = total(&second, "duplicate_total");
    eprintln!("figures uncommitted: {stored} stored before the kill, {duplicates} found there again");
    assert!(duplicates >= stored, "{duplicates} of {stored}");
    assert_eq!(duplicates + total(&second, "indexed_total"), 3_000);
}

#[test]
fn a_second_member_of_the_same_static_id_ends_the_first() {
    let mut bench = Bench::with_lines("twins", 2, 500);
    let mut first = bench.another("first").spawn().expect("the indexer starts");
    wait_assigned(&[&first], 2);
    bench.wait_ended();
    let second = bench.another("second").spawn().expect("the indexer starts");
    assert!(!first.wait_end(LIMIT).success());
    let log = first.log();
    assert!(log.contains("another indexer runs with the same kafka.static_id"), "{}", first.log_tail());
    wait_assigned(&[&second], 2);
    bench.add_lines(2, 500, 100);
    assert!(bench.settle_up(&second).is_empty());
}

/// Documents a second, from the first tenth of `count` to the last, all behind the first `done`.
fn rate(indexer: &Daemon, done: u64, count: u64) -> f64 {
    let reach = |wanted: u64| {
        wait::wait_for("documents", LIMIT, || {
            let indexed = total(indexer, "indexed_total");
            wait::met(indexed >= done + wanted, || format!("{indexed} of {}", done + wanted)).map(|()| indexed)
        })
        .0
    };
    let (first, begun) = (reach(count / 10), wait::now());
    (reach(count) - first) as f64 / begun.elapsed().as_secs_f64()
}

#[test]
fn what_an_outage_left_is_drained_as_fast_as_a_backlog_before_it() {
    let count = if is_full() { 300_000 } else { 40_000 };
    let mut bench = Bench::new("drain", 4);
    bench.add_lines(4, count, 200);
    let mut start = bench.scene.indexer();
    start.config["kafka"]["session_timeout"] = json!("6s");
    start.config["kafka"]["max_poll_interval"] = json!("6s");
    let indexer = start.spawn().expect("the indexer starts");
    let count = count as u64;
    let peak = rate(&indexer, 0, count);
    bench.wait_ended();
    let rebalances = total(&indexer, "rebalances_total");
    bench.node.script(std::iter::repeat_n(Answer::Refuse(503, "{}"), 1_000_000));
    bench.add_lines(4, bench.values.len(), 200);
    let mut rss_max = 0;
    wait::stays("the outage", POLL_MAX + POLL_MAX / 6, || {
        rss_max = rss_max.max(indexer.usage().map_err(|error| error.to_string())?.rss);
        Ok(())
    });
    bench.node.heal();
    let drain = rate(&indexer, count, count);
    rss_max = rss_max.max(indexer.usage().expect("it runs").rss_max);
    eprintln!("figures drain: {peak:.0} documents a second before, {drain:.0} after, RSS at most {rss_max} bytes");
    assert!(bench.settle_up(&indexer).is_empty());
    assert_eq!(total(&indexer, "rebalances_total"), rebalances);
    assert!(rss_max <= RSS_MAX, "{rss_max} bytes");
    // Seconds of a busy machine say little; the full run takes long enough.
    assert!(!is_full() || drain >= 0.8 * peak, "{drain:.0} after {peak:.0}");
}
