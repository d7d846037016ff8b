//! Plans against told clocks.

use super::*;
use crate::limit::tests::plans;
use proptest::prelude::*;

const STREAM: StreamId = StreamId(1);
/// 2026-11-23T00:00:00Z, a Monday.
const BASE_MS: i64 = 1_795_392_000_000;

fn engine(yaml: &str) -> Engine {
    let mut engine = Engine::default();
    engine.reload(plans(yaml), 1 << 20);
    engine
}

fn input(id: &str, priority: Priority) -> Input {
    Input { id: id.into(), priority, ..Input::default() }
}

fn at(ms: u64) -> Now {
    Now { at: Duration::from_millis(ms), wall_ms: BASE_MS + i64::try_from(ms).expect("small") }
}

fn part(events: u64) -> Part {
    Part { keys: Vec::new(), load: Load { events, bytes: events * 100 } }
}

fn origin(input: &Input) -> Origin<'_> {
    Origin { stream: STREAM, input, path: "/a.log" }
}

/// Reads and sends as soon as there is room, from `start` for `time`; returns the events that passed.
fn flood(engine: &mut Engine, input: &Input, start: Now, time: Duration, group: u64) -> u64 {
    let (mut now, mut passed) = (start, 0);
    while now.at < start.at + time {
        match engine.opens(origin(input), now) {
            Some(opens) => {
                let step = opens - now.at;
                now = Now { at: opens, wall_ms: now.wall_ms + i64::try_from(step.as_millis()).expect("small") };
            }
            None => {
                engine.pay(origin(input), &[part(group)], now);
                passed += group;
            }
        }
    }
    passed
}

#[test]
fn each_scope_has_a_limit_for_each_of_its_values() {
    let (a, b) = (input("a", Priority::High), input("b", Priority::Low));
    for (scope, other_file, other_input) in
        [("host", true, true), ("input", true, false), ("file", false, false), ("priority", true, false)]
    {
        let mut engine = engine(&format!("[{{name: p, scope: {scope}, rate: {{events: 10/s}}, burst: 1s}}]"));
        engine.pay(origin(&a), &[part(100)], at(0));
        let held = |engine: &mut Engine, input: &Input, path: &str| {
            engine.opens(Origin { stream: StreamId(2), input, path }, at(0)).is_some()
        };
        assert!(held(&mut engine, &a, "/a.log"), "{scope}");
        assert_eq!(held(&mut engine, &a, "/b.log"), other_file, "{scope}");
        assert_eq!(held(&mut engine, &b, "/c.log"), other_input, "{scope}");
    }
}

#[test]
fn a_value_of_a_field_holds_the_whole_file_that_was_read_under_it() {
    let mut engine = engine("[{name: p, scope: 'field:tenant', rate: {events: 10/s}}]");
    let a = input("a", Priority::Normal);
    let keyed = |key: &str, events| Part { keys: vec![key.into()], ..part(events) };
    assert_eq!(engine.fields(origin(&a), at(0)), ["tenant"]);
    engine.pay(origin(&a), &[keyed("x", 1), keyed("y", 100)], at(0));
    let other = Origin { stream: StreamId(2), ..origin(&a) };
    assert!(engine.opens(origin(&a), at(0)).is_some());
    assert!(engine.opens(other, at(0)).is_none(), "its lines may be of another tenant");
    engine.pay(other, &[keyed("x", 1)], at(0));
    assert!(engine.opens(other, at(0)).is_none());
    engine.pay(other, &[keyed("y", 1)], at(0));
    assert!(engine.opens(other, at(0)).is_some());
    assert!(engine.opens(origin(&a), at(9_200)).is_none(), "90 above the burst, and one");
}

#[test]
fn only_plans_that_match_apply_and_the_tightest_decides() {
    let yaml = "
- {name: wide, rate: {events: 1000/s}, burst: 1s, excess: drop}
- {name: tight, match: {input: [a], priority: [low]}, rate: {events: 10/s}, burst: 1s, excess: {divert: later}}";
    let mut engine = engine(yaml);
    let (a, high, b) = (input("a", Priority::Low), input("a", Priority::High), input("b", Priority::Low));
    assert_eq!(engine.judge(origin(&a), &part(11), at(0)), Verdict::Pass);
    match engine.judge(origin(&a), &part(1), at(0)) {
        Verdict::Divert(plan, reason) => assert_eq!((&*plan.name, reason), ("tight", "events")),
        other => panic!("{other:?}"),
    }
    for other in [&high, &b] {
        assert_eq!(engine.judge(origin(other), &part(500), at(0)), Verdict::Pass, "{}", other.id);
    }
    // Now the wide one owes 11 (0.01 s), the tight one 1 (0.1 s) and then much less than the wide one.
    assert!(matches!(engine.judge(origin(&a), &part(1), at(0)), Verdict::Divert(..)), "the tight one opens later");
    engine.judge(origin(&b), &part(1), at(12));
    engine.judge(origin(&b), &part(5_000), at(1_000));
    engine.judge(origin(&b), &part(5_000), at(1_010));
    assert!(matches!(engine.judge(origin(&a), &part(1), at(1_200)), Verdict::Drop(_)), "the wide one opens later");
    let counts = engine.running()[1].counts;
    assert_eq!(
        (counts.passed.events, counts.diverted.events),
        (11, 2),
        "what is not let pass is not counted as passed"
    );
}

#[test]
fn what_is_dropped_pays_nothing_and_what_is_diverted_pays_for_the_way() {
    for (excess, passed) in [("drop", 2), ("{divert: later}", 7)] {
        let yaml = format!(
            "[{{name: w, rate: {{events: 10/s}}, burst: 1s}}, {{name: x, rate: {{events: 1/h}}, excess: {excess}}}]"
        );
        let (mut engine, a) = (engine(&yaml), input("a", Priority::Normal));
        for events in [2, 5] {
            engine.pay(origin(&a), &[part(events)], at(0));
            engine.judge(origin(&a), &part(events), at(0));
        }
        assert_eq!(engine.running()[0].counts.passed.events, passed, "{excess}");
        let room = engine.running()[0].limits.values_mut().next().expect("a limit").room(at(0).at)[1];
        assert_eq!(room, Some((10 - i64::try_from(passed).expect("small"), 10)), "{excess}");
    }
}

#[test]
fn a_plan_applies_while_its_schedule_says_so() {
    let mut engine = engine("[{name: p, rate: {events: 1/s}, schedule: 'Mon 08:00-20:00 UTC'}]");
    let a = input("a", Priority::Normal);
    let held = |engine: &mut Engine, seconds: i64| {
        let now = Now { at: Duration::from_secs(1), wall_ms: BASE_MS + seconds * 1_000 };
        engine.pay(origin(&a), &[part(10)], now);
        engine.opens(origin(&a), now).is_some()
    };
    assert!(!held(&mut engine, 8 * 3_600 - 1));
    assert!(held(&mut engine, 8 * 3_600));
    assert!(held(&mut engine, 20 * 3_600 - 1));
    assert!(!held(&mut engine, 20 * 3_600));
    assert!(held(&mut engine, 10 * 3_600), "the clock may be set back");
}

#[test]
fn a_step_of_the_wall_clock_changes_no_rate() {
    for step_h in [-3, 3] {
        let (mut engine, a) =
            (engine("[{name: p, rate: {events: 1000/s}, burst: 100ms}]"), input("a", Priority::Normal));
        let before = flood(&mut engine, &a, at(0), Duration::from_secs(10), 7);
        let stepped = Now { wall_ms: BASE_MS + step_h * 3_600_000, ..at(10_000) };
        let after = flood(&mut engine, &a, stepped, Duration::from_secs(10), 7);
        for passed in [before, after] {
            assert!((9_800..=10_200).contains(&passed), "{passed} with a step of {step_h} h");
        }
    }
}

#[test]
fn a_low_priority_keeps_its_share_under_a_flood_and_unused_shares_are_lent() {
    let yaml = "[{name: p, rate: {events: 1000/s}, burst: 1s, shares: {high: 50, normal: 35, low: 15}}]";
    let (high, low) = (input("h", Priority::High), input("l", Priority::Low));
    let mut engine = engine(yaml);
    // The flood takes everything; low comes late and has its share at once.
    flood(&mut engine, &high, at(0), Duration::from_secs(10), 10);
    engine.pay(origin(&high), &[part(5_000)], at(10_000));
    assert!(engine.opens(origin(&high), at(10_000)).is_some());
    assert!(engine.opens(origin(&low), at(10_000)).is_none());
    let passed = flood(&mut engine, &low, at(10_000), Duration::from_secs(4), 10);
    assert!((600..=620).contains(&passed), "15 % of 4,000 and its own small burst: {passed}");
    // The debt of the flood is paid from the other shares: then all is lent.
    let passed = flood(&mut engine, &low, at(30_000), Duration::from_secs(10), 10);
    assert!((10_800..=11_200).contains(&passed), "the rate and the burst: {passed}");
}

#[test]
fn a_plan_that_did_not_change_goes_on_after_a_reload() {
    let yaml = |rate: &str| format!("[{{name: a, rate: {{events: 1/h}}}}, {{name: b, rate: {{events: {rate}}}}}]");
    let (mut engine, x) = (engine(&yaml("1/h")), input("x", Priority::Normal));
    engine.pay(origin(&x), &[part(100)], at(0));
    engine.reload(plans(&yaml("2/h")), 1 << 20);
    let passed: Vec<_> = engine.running().iter().map(|running| running.counts.passed.events).collect();
    assert_eq!(passed, [100, 0]);
    assert!(engine.opens(origin(&x), at(0)).is_some(), "what a owes is still owed");
    engine.reload(plans("[{name: b, rate: {events: 2/h}}]"), 1 << 20);
    assert!(engine.opens(origin(&x), at(0)).is_none());
}

#[test]
fn the_values_of_a_scope_are_bounded_and_those_that_rest_make_room() {
    let mut engine = engine("[{name: p, scope: file, rate: {events: 10/s}, burst: 1s}]");
    let a = input("a", Priority::Normal);
    let mut read = |name: usize, now: Now| {
        let path = format!("/{name}");
        engine.pay(Origin { stream: STREAM, input: &a, path: &path }, &[part(1)], now);
        engine.running()[0].limits.len()
    };
    assert_eq!((0..KEYS_MAX).map(|name| read(name, at(0))).last(), Some(KEYS_MAX));
    assert_eq!(read(KEYS_MAX, at(1)), KEYS_MAX + 1, "one for all others");
    assert_eq!(read(KEYS_MAX + 1, at(2)), KEYS_MAX + 1);
    assert_eq!(read(KEYS_MAX + 2, at(5_000)), 1, "all others are full again");
}

#[test]
fn what_is_read_at_once_passes_in_the_twentieth_part_of_a_second() {
    let yaml = "
- {name: a, match: {input: [a]}, rate: {bytes: 1000kB/s}}
- {name: b, match: {input: [b]}, rate: {bytes: 1GB/s, events: 1000/s}}
- {name: c, match: {input: [c]}, rate: {events: 1/s}}
- {name: d, rate: {events: 1/s}, excess: drop}";
    let mut engine = engine(yaml);
    for (id, bytes) in [("a", 50_000), ("b", 10_000), ("c", 4_096), ("d", usize::MAX)] {
        assert_eq!(engine.chunk_bytes(&input(id, Priority::Normal), at(0)), bytes, "{id}");
    }
}

proptest! {
    /// However groups of two priorities come: no more passes than rate × time, both bursts and the groups in debt.
    #[test]
    fn shares_never_let_more_pass_than_the_rate(steps in prop::collection::vec((any::<bool>(), 1_u64..500, 0_u64..300), 1..200)) {
        let yaml = "[{name: p, rate: {events: 1000/s}, burst: 1s, shares: {high: 60, low: 40}}]";
        let (mut engine, mut now_ms, mut passed) = (engine(yaml), 0, 0);
        let inputs = [input("h", Priority::High), input("l", Priority::Low)];
        for (which, events, pause_ms) in steps {
            now_ms += pause_ms;
            let input = &inputs[usize::from(which)];
            if engine.opens(origin(input), at(now_ms)).is_none() {
                engine.pay(origin(input), &[part(events)], at(now_ms));
                passed += events;
            }
            prop_assert!(passed <= now_ms + 1_000 + 100 + 3 * 500, "{passed} after {now_ms} ms");
        }
    }
}
