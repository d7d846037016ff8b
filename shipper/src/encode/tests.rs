use super::*;
use event::{Incarnation, Input, StreamId};

pub(super) fn group(lines: &[&[u8]], input: Input) -> Lines {
    let (mut buffer, mut records) = (Vec::new(), Vec::new());
    for line in lines {
        let start = buffer.len() as u32;
        buffer.extend_from_slice(line);
        records.push(Record {
            bytes: start..buffer.len() as u32,
            offset: u64::from(start),
            truncated: false,
            extra: None,
        });
        buffer.push(b'\n');
    }
    let source = Source::new(StreamId(1), Arc::new(input), "/var/log/a\"b.log".into(), Incarnation(7), 0);
    let is_utf8 = std::str::from_utf8(&buffer).is_ok();
    let (source, buffer, read_at_ms) = (Arc::new(source), Bytes::from(buffer), 1_700_000_000_123);
    Lines { source, buffer, records, read_at_ms, reread: false, divert: None, is_utf8 }
}

fn encode(group: &Lines, max: usize) -> (Vec<serde_json::Value>, Counts) {
    let (mut out, mut spans) = (Vec::new(), Vec::new());
    let counts = json(group, "web-01", max, &mut out, &mut spans);
    let parse = |s: &Range<u32>| serde_json::from_slice(&out[s.start as usize..s.end as usize]).expect("is JSON");
    (spans.iter().map(parse).collect(), counts)
}

#[test]
fn a_record_is_filebeats_event() {
    let input = Input {
        kind: "filestream",
        pipeline: Some("nginx-access".into()),
        fields: r#""fields":{"service":{"name":"shop"}}"#.into(),
        tags: vec!["a".into(), "b".into()],
        ..Input::default()
    };
    let (got, counts) = encode(&group(&[b"one", b"two"], input), 1_000_000);
    let expected = serde_json::json!({
        "@timestamp": "2023-11-14T22:13:20.123Z",
        "@metadata": {"beat": "tailrace", "type": "_doc", "version": env!("CARGO_PKG_VERSION"), "pipeline": "nginx-access",
            "_id": std::str::from_utf8(&document_id(Incarnation(7), 4, b"two")).expect("ASCII")},
        "agent": {"name": "web-01", "id": "web-01", "type": "tailrace", "version": env!("CARGO_PKG_VERSION")},
        "ecs": {"version": ECS_VERSION}, "host": {"name": "web-01"}, "input": {"type": "filestream"},
        "fields": {"service": {"name": "shop"}}, "tags": ["a", "b"],
        "log": {"file": {"path": "/var/log/a\"b.log"}, "offset": 4}, "message": "two",
    });
    assert_eq!(got[1], expected);
    assert_eq!((got.len(), counts), (2, Counts::default()));
}

/// The document of a record with the text `text`, as a parser of the agent found `extra` beside it.
fn encode_with(extra: Extra) -> serde_json::Value {
    let input = Input { fields: r#""fields":{"a":1}"#.into(), tags: vec!["t".into()], ..Input::default() };
    let mut group = group(&[b"text", b"next"], input);
    group.records[0].extra = Some(Box::new(extra));
    let (mut got, counts) = encode(&group, 100_000);
    assert_eq!(counts, Counts::default());
    assert_eq!(got[1]["message"], "next", "its neighbour is as ever");
    got.swap_remove(0)
}

#[track_caller]
fn check_extra(fields: &str, overwrite: bool, expected: &[(&str, serde_json::Value)]) {
    let got = encode_with(Extra { fields: fields.into(), overwrite, ..Extra::default() });
    for (pointer, value) in expected {
        assert_eq!(got.pointer(pointer).unwrap_or(&serde_json::Value::Null), value, "{pointer} of {got}");
    }
}

#[test]
fn what_a_parser_found_stands_at_the_root() {
    let plain = encode_with(Extra { timestamp_ms: Some(1_600_000_000_456), ..Extra::default() });
    assert_eq!(plain["@timestamp"], "2020-09-13T12:26:40.456Z");
    assert_eq!((&plain["message"], plain.as_object().map(|root| root.len())), (&"text".into(), Some(10)));
    check_extra(r#"{"stream":"stdout","n":1.10}"#, false, &[("/stream", "stdout".into()), ("/message", "text".into())]);
    check_extra("{}", false, &[("/message", "text".into())]);
    let (fields, without_message) = (r#"{"message":"own","level":"info"}"#.to_owned(), true);
    let own = encode_with(Extra { fields, without_message, ..Extra::default() });
    assert_eq!((&own["message"], &own["level"]), (&"own".into(), &"info".into()));
    assert_eq!(encode_with(Extra { without_message, ..Extra::default() }).get("message"), None);
}

#[test]
fn fields_are_written_as_they_are() {
    let fields = r#"{ "n": 12345678901234567890123, "x": 1.10 }"#.to_owned();
    let mut group = group(&[b"text"], Input::default());
    group.records[0].extra = Some(Box::new(Extra { fields, ..Extra::default() }));
    let mut out = Vec::new();
    json(&group, "web-01", 10_000, &mut out, &mut Vec::new());
    let text = String::from_utf8(out).expect("UTF-8");
    assert!(text.ends_with(r#""message":"text","n": 12345678901234567890123, "x": 1.10}"#), "{text}");
}

#[test]
fn of_two_members_of_one_name_overwrite_says_which_stands() {
    let fields = r#"{"host":{"name":"other","ip":"::1"},"message":"own","log":{"level":"info"},"agent":1,"tags":["u"],
        "fields":{"b":2},"@timestamp":"2001-01-01T00:00:00Z","@metadata":{"_id":"x","pipeline":"y"},"new":{"a":1}}"#;
    let both = [("/log/level", "info"), ("/host/ip", "::1"), ("/log/file/path", "/var/log/a\"b.log")];
    let both: Vec<_> = both.map(|(pointer, value)| (pointer, value.into())).to_vec();
    let more =
        [("/fields", serde_json::json!({"a": 1, "b": 2})), ("/new/a", 1.into()), ("/@metadata/pipeline", ().into())];
    let both = [both, more.to_vec()].concat();
    check_extra(fields, false, &both);
    check_extra(fields, true, &both);
    let own = [("/host/name", "web-01"), ("/message", "text"), ("/agent/name", "web-01"), ("/tags/0", "t")];
    check_extra(fields, false, &own.map(|(pointer, value)| (pointer, value.into())));
    let found =
        [("/host/name", "other"), ("/message", "own"), ("/tags/0", "u"), ("/@timestamp", "2001-01-01T00:00:00Z")];
    check_extra(fields, true, &found.map(|(pointer, value)| (pointer, value.into())));
    check_extra(fields, true, &[("/agent", 1.into())]);
    check_extra(r#"{"\u0068ost":{"ip":"::1"}}"#, false, &[("/host/ip", "::1".into()), ("/host/name", "web-01".into())]);
}

#[test]
fn fields_that_are_no_json_leave_the_text() {
    for fields in ["{\"a\"", "{\"host\":\"\\ud800\"}"] {
        let got = encode_with(Extra { fields: fields.into(), without_message: true, ..Extra::default() });
        assert_eq!((&got["message"], &got["host"]["name"]), (&"text".into(), &"web-01".into()));
    }
}

#[test]
fn fields_larger_than_the_topic_takes_give_way_to_the_text() {
    let fields = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes));
    for (extra, has_fields) in [
        (Extra { fields: fields(20_000), ..Extra::default() }, false),
        (Extra { fields: fields(9_900), without_message: true, ..Extra::default() }, false),
        (Extra { fields: fields(100), ..Extra::default() }, true),
    ] {
        let text = "y".repeat(20_000);
        let mut group = group(&[text.as_bytes(), b"next"], Input::default());
        group.records[0].extra = Some(Box::new(extra));
        let (got, counts) = encode(&group, 10_000);
        let message = got[0]["message"].as_str().expect("text");
        assert!(message.len() > 8_000 && got[0].to_string().len() <= 10_000, "{} bytes are left", message.len());
        assert_eq!((got[0].get("a").is_some(), counts.cut), (has_fields, 1));
        assert_eq!(got[0]["log"]["flags"], serde_json::json!(["truncated"]));
    }
}

#[test]
fn lines_read_again_are_flagged() {
    let mut group = group(&[b"x"], Input::default());
    group.reread = true;
    assert_eq!(encode(&group, 10_000).0[0]["@metadata"]["reread"], true);
}

#[test]
fn bytes_that_are_not_utf_8_are_replaced_and_counted_and_spare_their_neighbours() {
    let (got, counts) = encode(&group(&[b"a\xff\xfeb", "é".as_bytes()], Input::default()), 10_000);
    assert_eq!((&got[0]["message"], &got[1]["message"]), (&"a\u{fffd}\u{fffd}b".into(), &"é".into()));
    assert_eq!(counts.invalid_utf8, 1);
}

#[test]
fn a_record_larger_than_the_topic_takes_is_cut_and_flagged() {
    let long = "\u{1}é".repeat(50_000); // Each pair is 8 bytes in JSON.
    let (got, counts) = encode(&group(&[b"a", long.as_bytes(), b"b"], Input::default()), 100_000);
    let message = got[1]["message"].as_str().expect("text");
    assert!(long.starts_with(message) && message.len() > 30_000, "{} bytes are left", message.len());
    assert!(got[1].to_string().len() <= 100_000);
    assert_eq!(got[1]["log"]["flags"], serde_json::json!(["truncated"]));
    assert_eq!((&got[0]["message"], &got[2]["message"]), (&"a".into(), &"b".into()));
    assert_eq!(counts.cut, 1);
}

#[test]
fn raw_payloads_are_the_lines_where_they_lie() {
    let group = group(&[b"one", b"three"], Input::default());
    let mut spans = Vec::new();
    assert_eq!(raw(&group, 4, &mut spans), Counts { invalid_utf8: 0, cut: 1 });
    assert_eq!(spans, [0..3, 4..8]);
}

proptest::proptest! {
    /// Whatever the text, JSON reads it back.
    #[test]
    fn escaped_text_is_read_back(text in "[\\x00-\\x7fé€😀]{0,120}") {
        let mut out = b"\"".to_vec();
        escape(text.as_bytes(), &mut out);
        out.push(b'"');
        proptest::prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("is JSON"), text);
    }
}

#[test]
fn what_is_known_of_the_file_stands_in_each_of_its_records() {
    let mut group = group(&[b"one", b"two"], Input { fields: r#""fields":{"a":1}"#.into(), ..Input::default() });
    group.source.set_fields(r#""kubernetes":{"namespace":"shop"}"#.into());
    let fields =
        Extra { fields: r#"{"kubernetes":{"namespace":"other","labels":{"a":"b"}}}"#.into(), ..Extra::default() };
    group.records[1].extra = Some(Box::new(fields));
    let (got, _) = encode(&group, 1_000_000);
    assert_eq!(
        (&got[0]["fields"], &got[0]["kubernetes"]),
        (&serde_json::json!({"a": 1}), &serde_json::json!({"namespace": "shop"}))
    );
    assert_eq!(
        got[1]["kubernetes"],
        serde_json::json!({"namespace": "shop", "labels": {"a": "b"}}),
        "what the line says goes below"
    );
}
