//! However lines fall, wherever time cuts and whenever the agent dies: a second reading makes the same events.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const PLANS: &[&str] = &[
    "[{multiline: {pattern: '^ ', max_lines: 3}}]",
    "[{multiline: {pattern: '^[^ ]', negate: true, flush_pattern: 'end$', max_bytes: 20}}]",
    "[{multiline: {pattern: '[\\\\,]$', match: before}}]",
    "[{multiline: {pattern: ',$', match: before, flush_pattern: 'end$'}}]",
    "[{multiline: {type: while_pattern, pattern: '^ '}}]",
    "[{multiline: {type: count, count_lines: 3}}]",
    "[{exceptions: {max_lines: 4}}]",
    "[{container: {}}]",
    "[{container: {stream: stderr}}, {multiline: {pattern: '^ '}}]",
    "[{container: {}}, {multiline: {pattern: '^ '}}]",
    "[{container: {}}, {multiline: {pattern: ',$', match: before}}, {ndjson: {add_error_key: true}}]",
    "[{container: {}}, {exceptions: {}}]",
    "[{container: {}}, {exceptions: {}}, {multiline: {type: count, count_lines: 2}}]",
    "[{multiline: {pattern: '^ '}}, {multiline: {type: while_pattern, pattern: ',$'}}]",
];

const TEXTS: &[&str] = &[
    "a",
    "",
    " goes on",
    "wants more,",
    " both,",
    "the end",
    "{\"a\":1}",
    "java.lang.RuntimeException: x",
    "\tat a.b(C.java:1)",
    "Caused by: Other",
    "Traceback (most recent call last):",
    "  File \"a.py\", line 1",
    "    x()",
    "ValueError: x",
    "panic: oh",
    "goroutine 1 [running]:",
    "main.main()",
];

/// A line as it stands in the file: bare, or in one of the wrappings of a container's line.
fn line((text, wrapping): (usize, usize), is_container: bool) -> String {
    let (text, stream) = (TEXTS[text], if wrapping.is_multiple_of(2) { "stdout" } else { "stderr" });
    let time = "2023-11-14T22:13:20Z";
    match wrapping / 2 {
        _ if !is_container => text.to_owned(),
        0..4 => format!("{time} {stream} F {text}"),
        4 => format!("{time} {stream} P {text}"),
        5 | 6 => serde_json::json!({"log": format!("{text}\n"), "stream": stream, "time": time}).to_string(),
        7 => serde_json::json!({"log": text, "stream": stream, "time": time}).to_string(),
        _ => text.to_owned(),
    }
}

type Found = (u64, String, bool, Option<Box<Extra>>);

fn events(reader: &Reader) -> Vec<Found> {
    let records = reader.events.records.iter().zip(reader.texts());
    records.map(|(r, text)| (r.offset, text, r.truncated, r.extra.clone())).collect()
}

/// Reads the lines from `from` on; `cuts` are the lines behind which time cuts. What was found by then, and `safe`, after
/// each line.
fn life(
    plan: &Arc<Plan>,
    lines: &[String],
    from: u64,
    known: Vec<u64>,
    cuts: &BTreeSet<usize>,
) -> (Reader, Vec<(usize, u64)>) {
    let mut reader = Reader::new(plan.clone());
    reader.assembler = Assembler::new(plan.clone(), from, known.clone());
    let mut after = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if reader.offset < from {
            reader.offset += line.len() as u64 + 1;
        } else {
            reader.push(line);
            if cuts.contains(&index) && !known.contains(&reader.offset) {
                reader.flush();
            }
        }
        after.push((reader.events.records.len(), reader.assembler.safe()));
    }
    reader.flush();
    (reader, after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_second_reading_makes_the_same_events(
        plan_number in 0..PLANS.len(),
        lines in proptest::collection::vec((0..TEXTS.len(), 0_usize..18), 0..24),
        cuts in proptest::collection::btree_set(0_usize..24, 0..5),
        lag in 0_usize..8, // Acknowledgements come later than lines are read, so the checkpoint is behind.
    ) {
        let plan = plan(PLANS[plan_number]);
        let is_container = PLANS[plan_number].contains("container");
        let lines: Vec<_> = lines.into_iter().map(|choice| line(choice, is_container)).collect();
        let (whole, after) = life(&plan, &lines, 0, Vec::new(), &cuts);
        let whole = events(&whole);
        let (mut offset, mut safe_before, mut known) = (0, 0, Vec::new());
        for (index, &(emitted, safe)) in after.iter().enumerate() {
            offset += lines[index].len() as u64 + 1;
            if cuts.contains(&index) {
                known.push(offset);
            }
            prop_assert!(safe_before <= safe && safe <= offset, "safe never goes back: {safe_before} {safe} {offset}");
            safe_before = safe;
            prop_assert!(whole[emitted..].iter().all(|event| event.0 >= safe), "an open event starts before {safe}");
            let from = after[index.saturating_sub(lag)].1;
            let (second, _) = life(&plan, &lines, from, known.clone(), &cuts);
            let expected: Vec<_> = whole.iter().filter(|event| event.0 >= from).cloned().collect();
            prop_assert_eq!(events(&second), expected, "killed behind line {}, read again from {}", index, from);
        }
    }
}
