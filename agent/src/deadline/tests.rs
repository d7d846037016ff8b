//! Names, rotations and deletions in, time left out; the clock is told.

use super::*;

const S: i64 = 1_000;

fn generation(path: &str) -> Generation {
    Generation::of("a", Path::new(path)).expect("not packed")
}

/// `app.log` as logrotate leaves it with `rotate 3`, every 100 s, last at 1000 s: stream 0 is the live one, 1 to 3 the others.
fn rotated() -> Deadlines {
    let mut deadlines = Deadlines::default();
    let names = ["/l/app.log", "/l/app.log.1", "/l/app.log.2", "/l/app.log.3"];
    for (stream, (name, at)) in (0..).zip(names.into_iter().zip([1_040, 1_000, 900, 800])) {
        deadlines.born(StreamId(stream), generation(name), at * S, None);
    }
    deadlines
}

/// Seconds left of each stream at a second; -1: it cannot be told.
#[track_caller]
fn check(deadlines: &Deadlines, at: i64, name: &str, expected: &[(u64, i64)]) {
    let series = generation(name).series;
    let left = |stream| deadlines.left(StreamId(stream), series, at * S).map_or(-1, |left| left.as_secs() as i64);
    let found: Vec<_> = expected.iter().map(|(stream, _)| (*stream, left(*stream))).collect();
    assert_eq!(found, expected, "at {at} s");
}

#[test]
fn a_name_tells_its_series() {
    let same = |a: &str, b: &str| assert_eq!(generation(a).series, generation(b).series, "{a} {b}");
    same("/l/app.log", "/l/app.log.1");
    same("/l/app.log", "/l/app.log.12");
    same("/l/app.log", "/l/app.log-20261122");
    same("/l/app.log", "/l/app.log.2026-11-22-03");
    same("/l/app.log", "/l/app-2026-11-22.log");
    same("/l/app.log", "/l/app-2026-11-22.log.2");
    same("/l/app.log", "/l/app_20261122T031500.log");
    let apart = |a: &str, b: &str| assert_ne!(generation(a).series, generation(b).series, "{a} {b}");
    apart("/l/app.log", "/m/app.log.1");
    apart("/l/app.log", "/l/error.log.1");
    apart("/l/app-00001.log", "/l/app-00002.log"); // Instances, not generations.
    apart("/l/app.log", "/l/app.log.5000"); // A process id.
    apart("/l/db-10.0.0.1.log", "/l/db-10.0.0.2.log");
    assert_eq!(Generation::of("a", Path::new("/l/app.log.2.gz")), None);
    assert_ne!(generation("/l/app.log").series, Generation::of("b", Path::new("/l/app.log")).expect("plain").series);
}

#[test]
fn the_oldest_generation_goes_at_the_next_rotation_and_each_younger_one_an_interval_later() {
    check(&rotated(), 1_040, "/l/app.log", &[(3, 60), (2, 160), (1, 260), (0, 360)]);
}

#[test]
fn an_overdue_rotation_counts_on_less_the_longer_it_does_not_come() {
    check(&rotated(), 1_100, "/l/app.log", &[(3, 0), (2, 100)]);
    check(&rotated(), 1_110, "/l/app.log", &[(3, 10), (2, 120)]);
    check(&rotated(), 9_100, "/l/app.log", &[(3, 8_000), (2, 16_100)]);
}

#[test]
fn a_deletion_says_how_many_are_kept() {
    let mut deadlines = rotated();
    // At 1100 s: a new app.log; the others move up, the oldest is gone.
    deadlines.born(StreamId(4), generation("/l/app.log"), 1_100 * S, Some(1_100 * S));
    let series = generation("/l/app.log").series;
    for (stream, name) in [(0, "/l/app.log.1"), (1, "/l/app.log.2"), (2, "/l/app.log.3")] {
        deadlines.renamed(StreamId(stream), series, generation(name), 1_100 * S);
    }
    deadlines.deleted(StreamId(3), series);
    check(&deadlines, 1_100, "/l/app.log", &[(2, 100), (1, 200), (0, 300), (4, 400)]);
    deadlines.gone(StreamId(3), series);
    check(&deadlines, 1_100, "/l/app.log", &[(2, 100), (1, 200), (0, 300), (4, 400)]);
    // Fewer from now on: two go at once.
    deadlines.deleted(StreamId(1), series);
    check(&deadlines, 1_100, "/l/app.log", &[(0, 100), (4, 200)]);
    // Removed by hand while it is written: that says nothing.
    deadlines.deleted(StreamId(4), series);
    check(&deadlines, 1_100, "/l/app.log", &[(0, 100), (4, 200)]);
}

#[test]
fn rotations_are_learned_while_they_are_watched() {
    let mut deadlines = Deadlines::default();
    deadlines.born(StreamId(0), generation("/l/app.log"), 0, None);
    for round in 1..=3 {
        let at = 100 * S * i64::try_from(round).expect("small");
        check(&deadlines, 100, "/l/app.log", &[(0, -1)]); // Nothing was ever deleted.
        deadlines.born(StreamId(round), generation("/l/app.log"), at, Some(at));
    }
    // The glob shows no other name: the first one is deleted at the third rotation.
    deadlines.deleted(StreamId(0), generation("/l/app.log").series);
    check(&deadlines, 310, "/l/app.log", &[(1, 90), (2, 190), (3, 290)]);
}

#[test]
fn a_rotation_counts_also_when_its_file_is_gone() {
    let mut deadlines = Deadlines::default();
    let series = generation("/l/app.log").series;
    for (stream, at) in [(0, 0), (1, 100), (2, 200)] {
        deadlines.born(StreamId(stream), generation("/l/app.log"), at * S, (at > 0).then_some(at * S));
    }
    deadlines.deleted(StreamId(0), series);
    deadlines.gone(StreamId(0), series);
    check(&deadlines, 230, "/l/app.log", &[(1, 70), (2, 170)]);
}

#[test]
fn dated_generations_count_by_their_age() {
    let mut deadlines = Deadlines::default();
    let day = 86_400;
    for n in 1..=4 {
        let name = format!("/l/app-2026-11-0{n}.log");
        deadlines.born(StreamId(n), generation(&name), i64::try_from(n).expect("small") * day * S, None);
    }
    let next = generation("/l/app-2026-11-05.log");
    deadlines.born(StreamId(5), next, 4 * day * S, Some(4 * day * S));
    deadlines.deleted(StreamId(1), next.series);
    check(&deadlines, 4 * day + 1, "/l/app-2026-11-05.log", &[(2, day - 1), (3, 2 * day - 1), (5, 4 * day - 1)]);
}

#[test]
fn a_truncated_file_loses_what_is_unread_at_the_next_truncation() {
    let mut deadlines = Deadlines::default();
    let series = generation("/l/app.log").series;
    deadlines.born(StreamId(0), generation("/l/app.log"), 0, None);
    deadlines.truncated(StreamId(0), StreamId(1), series, 100 * S);
    check(&deadlines, 100, "/l/app.log", &[(1, -1)]);
    deadlines.truncated(StreamId(1), StreamId(2), series, 200 * S);
    check(&deadlines, 230, "/l/app.log", &[(2, 70)]);
}

#[test]
fn what_is_not_known_makes_no_deadline() {
    let mut deadlines = Deadlines::default();
    deadlines.born(StreamId(0), generation("/l/app.log"), 0, None);
    check(&deadlines, 1, "/l/app.log", &[(0, -1)]); // One file.
    deadlines.born(StreamId(1), generation("/l/app.log.1"), 0, None);
    check(&deadlines, 1, "/l/app.log", &[(0, -1), (1, -1)]); // One rotation.
    deadlines.born(StreamId(2), generation("/l/app.log.2"), 20, None);
    check(&deadlines, 1, "/l/app.log", &[(0, -1), (1, -1)]); // Copied here, all at once.
    for stream in 0..3 {
        deadlines.gone(StreamId(stream), generation("/l/app.log").series);
    }
    assert!(deadlines.series.is_empty(), "nothing is kept of what is gone");
}

#[test]
fn what_takes_longer_to_read_than_it_is_kept_is_late() {
    let late = |seconds: i64, read: u64, unread, left| {
        Backlog::new(0, 1_000).is_late(seconds * S, 1_000 + read, unread, Duration::from_secs(left))
    };
    assert_eq!(late(10, 100, 1_000, 99), Some(true)); // 10 bytes a second: 100 s to go.
    assert_eq!(late(10, 100, 1_000, 101), Some(false));
    assert_eq!(late(10, 0, 1, 60), Some(true), "nothing moves");
    assert_eq!(late(10, 0, 1, 3_600), None, "an hour is left: a moment without reading says little");
    assert_eq!(late(1, 0, 1, 0), None, "just seen");
    assert_eq!(late(2, 0, 1, 0), Some(true), "its deletion is due");
}

#[test]
fn the_rate_is_that_of_late() {
    let (mut backlog, left) = (Backlog::new(0, 0), Duration::from_secs(100));
    assert_eq!(backlog.is_late(60 * S, 6_000, 8_000, left), Some(false), "100 bytes a second");
    assert_eq!(backlog.is_late(70 * S, 6_001, 8_000, left), Some(true), "and then nearly none");
}
