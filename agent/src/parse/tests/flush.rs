//! Flushes: of nothing, of several groups, between parsers.

use super::*;

const CRI: &str = "[{container: {format: cri}}, {multiline: {pattern: '^ ', timeout: 3s}}]";

#[test]
fn a_flush_with_nothing_open_makes_nothing_and_changes_nothing() {
    for parsers in [CRI, "[{exceptions: {}}]", "[{multiline: {type: count, count_lines: 2}}]", "[]"] {
        let mut reader = Reader::new(plan(parsers));
        reader.flush(); // Before the first line.
        reader.flush();
        assert_eq!((reader.texts().len(), reader.assembler.safe()), (0, 0), "{parsers}");
    }
    let mut reader = Reader::new(plan("[{multiline: {pattern: '^ '}}]"));
    ["a", " b"].iter().for_each(|line| reader.push(line));
    (0..3).for_each(|_| reader.flush());
    assert_eq!(reader.texts(), ["a\n b"], "once");
    assert!(reader.assembler.is_idle());
    ["c", " d"].iter().for_each(|line| reader.push(line));
    reader.flush();
    assert_eq!(reader.texts(), ["a\n b", "c\n d"], "nothing of the first is in the second");
    let offsets: Vec<_> = reader.events.records.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [0, 5]);
}

#[test]
fn every_group_is_flushed_whole_and_once_with_its_own_fields() {
    let mut reader = Reader::new(plan(CRI));
    for line in [
        "2023-11-14T22:13:20Z stdout F out 1",
        "2023-11-14T22:13:21Z stderr F err 1",
        "2023-11-14T22:13:22Z stdout F  more out",
        "2023-11-14T22:13:23Z stderr F  more err",
        "2023-11-14T22:13:24Z stderr P  half of",
        "2023-11-14T22:13:25Z stdout F  end of out",
        "2023-11-14T22:13:26Z stderr F  the err",
    ] {
        reader.push(line);
    }
    assert_eq!((reader.texts().len(), reader.assembler.safe()), (0, 0), "both are open");
    reader.flush();
    let (out, err) = ("out 1\n more out\n end of out", "err 1\n more err\n half of the err");
    assert_eq!(reader.texts(), [out, err]);
    let streams: Vec<_> =
        reader.events.records.iter().map(|r| r.extra.as_ref().expect("fields").fields.clone()).collect();
    assert_eq!(streams, [r#"{"stream":"stdout"}"#, r#"{"stream":"stderr"}"#]);
    assert_eq!((reader.assembler.is_idle(), reader.assembler.safe()), (true, reader.offset));
    reader.flush();
    reader.push("2023-11-14T22:13:27Z stderr F  late");
    reader.flush();
    assert_eq!(reader.texts(), [out, err, " late"], "nothing is open that it could belong to");
}
