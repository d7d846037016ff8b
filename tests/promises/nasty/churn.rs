//! Members of the group that join and leave under load.

use crate::{LIMIT, is_full, total};
use serde_json::json;
use std::time::Duration;
use tests::daemon::Daemon;
use tests::scene::Scene;
use tests::wait;
use tests::writer::Writer;

/// A member joins or leaves that often.
const EVERY: Duration = Duration::from_secs(3);

/// Lines a second, over all files.
const RATE: u64 = 2_000;

/// One that leaves as one should, or is killed.
fn end(mut member: Daemon, kill: bool) -> (u64, u64) {
    let counts = (total(&member, "indexed_total"), total(&member, "duplicate_total"));
    if kill {
        member.kill().expect("it runs");
        return counts;
    }
    let status = member.stop(LIMIT);
    assert!(matches!(status.code(), Some(0)), "{status}; log:\n{}", member.log_tail());
    counts
}

#[test]
fn members_that_come_and_go_lose_nothing_and_store_nothing_twice() {
    let span = Duration::from_secs(if is_full() { 180 } else { 18 });
    let scene = Scene::shared("churn", 6);
    let agent = scene.agent().spawn().expect("the agent starts");
    let mut joined = 0;
    let mut member = || {
        joined += 1;
        let mut start = scene.indexer();
        start.config["kafka"]["static_id"] = json!(null);
        start.config["kafka"]["session_timeout"] = json!("6s");
        start.folder = scene.folder.join(format!("member-{joined}"));
        std::fs::create_dir_all(&start.folder).expect("made");
        start.spawn().expect("the indexer starts")
    };
    let stays = member();
    let writer = Writer::start(scene.load(6, 10_000_000, RATE, 1));
    let (begun, mut others, mut left) = (wait::now(), Vec::<Daemon>::new(), 0_u32);
    let mut turn = 0_u32;
    while begun.elapsed() < span {
        turn += 1;
        // The next turn comes by the clock; meanwhile nobody ends by itself.
        let due = begun + EVERY * turn;
        wait::stays("the members between two turns", due.saturating_duration_since(wait::now()), || Ok(()));
        // One joins, another joins, the older of them leaves, and so on: there are one to three at any time.
        if others.len() < 2 && !turn.is_multiple_of(3) {
            others.push(member());
        } else if !others.is_empty() {
            left += 1;
            end(others.remove(0), left.is_multiple_of(3)); // Every third is killed.
        }
    }
    let written = writer.end().expect("the lines are written");
    let lines = written.values().sum();
    for other in others {
        end(other, false);
    }
    scene.wait_shipped(lines, LIMIT);
    scene.wait_indexed(lines, LIMIT);
    scene.wait_committed(LIMIT);
    scene.check_equations(Some(&agent), Some(&stays));
    let index = scene.audit_index(&written).expect("the index reads back");
    eprintln!(
        "figures churn: {joined} members in {span:?}, {} rebalances of the one that stays: {index}",
        total(&stays, "rebalances_total")
    );
    assert!(index.is_clean(), "{index}");
    assert!(joined > 3 && left > 1, "{joined} joined, {left} left");
    assert_eq!(scene.cluster.count(&scene.dead_topic).expect("the broker answers"), 0);
}
