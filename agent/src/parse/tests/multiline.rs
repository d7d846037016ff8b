use super::*;

#[test]
fn after_a_line_that_matches_goes_on() {
    check("[{multiline: {pattern: '^ '}}]", &["a", " b", " c", "d", "e"], &["a\n b\n c", "d", "e"]);
    check("[{multiline: {pattern: '^\\[', negate: true}}]", &["[a", "b", "", "[c"], &["[a\nb\n", "[c"]);
    check("[{multiline: {pattern: '^ '}}]", &[" a", " b"], &[" a\n b"]); // The first line starts an event in any case.
    check("[{multiline: {pattern: '^ ', skip_newline: true}}]", &["a", " b"], &["a b"]);
}

#[test]
fn before_a_line_that_matches_wants_the_next() {
    let parsers = "[{multiline: {pattern: '\\\\$', match: before}}]";
    check(parsers, &["a \\", "b \\", "c", "d", "e \\"], &["a \\\nb \\\nc", "d", "e \\"]);
    check("[{multiline: {pattern: ';$', negate: true, match: before}}]", &["a", "b;", "c;"], &["a\nb;", "c;"]);
    let mut reader = Reader::new(plan(parsers));
    ["a \\", "b"].iter().for_each(|line| reader.push(line));
    assert_eq!(reader.texts(), ["a \\\nb"], "it does not wait for the line behind it");
}

#[test]
fn a_flush_pattern_ends_an_event() {
    let parsers = "[{multiline: {pattern: '^BEGIN', negate: true, match: after, flush_pattern: '^END'}}]";
    check(parsers, &["BEGIN 1", "x", "END", "y", "BEGIN 2", "END"], &["BEGIN 1\nx\nEND", "y", "BEGIN 2\nEND"]);
    check(
        "[{multiline: {pattern: ',$', match: before, flush_pattern: '^!'}}]",
        &["a,", "b", "!c", "d"],
        &["a,\nb\n!c", "d"],
    );
}

#[test]
fn while_lines_match_they_are_joined_and_others_stay_alone() {
    check(
        "[{multiline: {type: while_pattern, pattern: '^\\{'}}]",
        &["{a", "{b", "x", "y", "{c"],
        &["{a\n{b", "x", "y", "{c"],
    );
    let parsers = "[{multiline: {type: while_pattern, pattern: '^\\{', negate: true}}]";
    check(parsers, &["{a", "x", "y", "{c"], &["{a", "x\ny", "{c"]);
}

#[test]
fn count_makes_events_of_so_many_lines_and_waits_for_them() {
    let parsers = "[{multiline: {type: count, count_lines: 2}}]";
    check(parsers, &["a", "b", "c", "d", "e"], &["a\nb", "c\nd", "e"]);
    let mut reader = Reader::new(plan(parsers));
    reader.push("a");
    assert_eq!(reader.assembler.deadline(), None);
}

#[test]
fn surplus_lines_and_bytes_are_left_out_and_flagged_and_the_next_event_is_whole() {
    let reader = read("[{multiline: {pattern: '^ ', max_lines: 2}}]", &["a", " b", " c", " d", "e", " f", "g"]);
    assert_eq!(reader.texts(), ["a\n b", "e\n f", "g"]);
    assert_eq!(reader.events.records.iter().map(|r| r.truncated).collect::<Vec<_>>(), [true, false, false]);
    let reader =
        read("[{multiline: {pattern: '^ ', max_bytes: 6}}]", &["abc", " é", " d", "abcdef", "abcdefg", "abcdef", ""]);
    assert_eq!(reader.texts(), ["abc\n ", "abcdef", "abcdef", "abcdef"], "cut at a character");
    assert_eq!(reader.events.records.iter().map(|r| r.truncated).collect::<Vec<_>>(), [true, false, true, false]);
    assert_eq!(reader.events.truncated, 2);
}

#[test]
fn memory_is_bounded_by_max_bytes() {
    let mut reader = Reader::new(plan("[{multiline: {pattern: '^ ', max_bytes: 10KiB, max_lines: 1000000}}]"));
    reader.push("a");
    (0..100_000).for_each(|_| reader.push(" some line of an event without end"));
    (0..100_000).for_each(|_| reader.push(" "));
    assert_eq!((reader.assembler.safe(), reader.texts().len()), (0, 0));
    reader.flush();
    assert_eq!(reader.texts()[0].len(), 10 * 1024);
    assert_eq!(reader.assembler.safe(), reader.offset);
}

#[test]
fn what_does_not_go_together_is_refused() {
    refuse("[{multiline: {}}]", "pattern is required");
    refuse("[{multiline: {type: count}}]", "count_lines");
    refuse("[{multiline: {type: count, count_lines: 3, pattern: a}}]", "no pattern");
    refuse("[{multiline: {pattern: a, count_lines: 3}}]", "count_lines: 3");
    refuse("[{multiline: {pattern: a, max_lines: 0}}]", "max_lines 0");
    refuse("[{multiline: {pattern: a, match: behind}}]", "behind");
}
