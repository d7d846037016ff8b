use super::*;

fn extras(reader: &Reader) -> Vec<(String, Option<i64>)> {
    let extra =
        |record: &event::Record| record.extra.clone().map_or_else(Default::default, |e| (e.fields, e.timestamp_ms));
    reader.events.records.iter().map(extra).collect()
}

#[test]
fn docker_records_are_unwrapped_with_their_time_and_stream() {
    let lines = [
        r#"{"log":"caf\u00e9 \"\ud83d\ude00\"\n","stream":"stdout","time":"2023-11-14T22:13:20.123456789Z"}"#,
        r#"{"log":"err\r\n","stream":"stderr","attrs":{"log":"no"},"time":"2023-11-14T22:13:21Z"}"#,
    ];
    let reader = read("[{container: {}}]", &lines);
    assert_eq!(reader.texts(), ["café \"😀\"", "err"]);
    let expected = [(r#"{"stream":"stdout"}"#, 1_700_000_000_123), (r#"{"stream":"stderr"}"#, 1_700_000_001_000)];
    assert_eq!(extras(&reader), expected.map(|(fields, time)| (fields.to_owned(), Some(time))));
}

#[test]
fn cri_lines_are_unwrapped_and_parts_joined_by_stream() {
    let lines = [
        "2023-11-14T22:13:20.5Z stdout P one, ",
        "2023-11-14T22:13:21.5Z stderr F other",
        "2023-11-14T22:13:22.5Z stdout P two, ",
        "2023-11-14T22:13:23.5Z stdout F:x three",
        "2023-11-14T22:13:24.5Z stdout F ",
        "2023-11-14T22:13:24.5Z stdout F  indented",
    ];
    let reader = read("[{container: {format: cri}}]", &lines);
    assert_eq!(reader.texts(), ["other", "one, two, three", " indented"]);
    assert_eq!(
        extras(&reader)[1],
        (r#"{"stream":"stdout"}"#.to_owned(), Some(1_700_000_000_500)),
        "those of its first part"
    );
    assert_eq!(reader.events.records[1].offset, 0);
    assert_eq!(reader.events.filtered, [("empty", 1)].into());
}

#[test]
fn a_line_that_is_neither_is_shipped_as_it_is_flagged_and_counted() {
    let lines = [
        "plain",
        "{\"log\":1}",
        r#"{"log":"a\q","stream":"stdout"}"#,
        "2023-11-14T22:13:20Z stdin F a",
        "2023 stdout F b",
    ];
    let reader = read("[{container: {}}]", &lines);
    assert_eq!(reader.texts(), lines);
    assert_eq!(reader.events.unparsed, 5);
    assert!(extras(&reader)[0].0.contains(r#""type":"container""#));
    assert_eq!(read("[{container: {format: docker}}]", &["2023-11-14T22:13:20Z stdout F a"]).events.unparsed, 1);
    let docker = r#"{"log":"a\n","stream":"stdout","time":"2023-11-14T22:13:20Z"}"#;
    assert_eq!(read("[{container: {format: cri}}]", &[docker]).texts(), [docker]);
}

#[test]
fn one_stream_is_chosen_and_the_other_counted() {
    let lines = [
        "2023-11-14T22:13:20Z stdout F a",
        "2023-11-14T22:13:20Z stderr P b",
        "2023-11-14T22:13:20Z stderr F c",
        "2023-11-14T22:13:20Z stdout F d",
    ];
    let reader = read("[{container: {stream: stdout}}]", &lines);
    assert_eq!(reader.texts(), ["a", "d"]);
    assert_eq!(reader.events.filtered, [("stream", 1)].into());
    assert_eq!(read("[{container: {stream: stderr}}]", &lines).texts(), ["bc"]);
}

#[test]
fn later_parsers_see_each_stream_apart_and_safe_goes_back_over_both() {
    let mut reader = Reader::new(plan("[{container: {}}, {multiline: {pattern: '^ '}}]"));
    let cri = |stream: &str, text: &str| format!("2023-11-14T22:13:20Z {stream} F {text}");
    let step = cri("stdout", "a").len() as u64 + 1;
    let mut safe = Vec::new();
    for (stream, text) in
        [("stdout", "a"), ("stderr", "b"), ("stdout", " "), ("stdout", "c"), ("stderr", "d"), ("stdout", "e")]
    {
        reader.push(&cri(stream, text));
        safe.push(reader.assembler.safe());
    }
    assert_eq!(reader.texts(), ["a\n ", "b", "c"]);
    // `b` begins inside `a\n `: as long as it is open, both must be read again. Then `c`, which begins behind.
    assert_eq!(safe, [0, 0, 0, 0, 3 * step, 4 * step]);
}

#[test]
fn a_part_that_is_left_alone_is_shipped_after_a_time() {
    let mut reader = Reader::new(plan("[{container: {}}]"));
    reader.push("2023-11-14T22:13:20Z stdout P part");
    assert_eq!(reader.assembler.deadline(), Some(reader.now + Duration::from_secs(5)));
    reader.flush();
    assert_eq!(reader.texts(), ["part"]);
}

#[test]
fn a_line_of_many_parts_is_bounded() {
    let mut reader = Reader::new(plan("[{container: {}}]"));
    let part = format!("2023-11-14T22:13:20Z stdout P {}", "x".repeat(16 * 1024));
    (0..100).for_each(|_| reader.push(&part));
    reader.push("2023-11-14T22:13:20Z stdout F end");
    reader.push("2023-11-14T22:13:20Z stdout F next");
    assert_eq!(reader.texts()[0].len(), 1024 * 1024);
    assert_eq!((reader.texts()[1].as_str(), reader.events.truncated), ("next", 1));
}
