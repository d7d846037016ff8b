use super::*;
use serde_json::{Value, json};

#[track_caller]
fn parse(options: &str, line: &str) -> (String, Extra) {
    let reader = read(&format!("[{{ndjson: {options}}}]"), &[line]);
    let extra = reader.events.records[0].extra.clone().expect("something beside the text");
    (reader.texts().remove(0), *extra)
}

#[track_caller]
fn check_fields(options: &str, line: &str, expected: Value) -> Extra {
    let (_, extra) = parse(options, line);
    assert_eq!(serde_json::from_str::<Value>(&extra.fields).expect("is JSON"), expected, "{}", extra.fields);
    extra
}

#[test]
fn members_go_to_the_root_as_they_are_written() {
    let line = r#"{"b":1.10,"a":{"x":[1, 2]},"n":12345678901234567890123}"#;
    let (text, extra) = parse("{}", line);
    assert_eq!((text.as_str(), extra.fields.as_str()), (line, line));
    assert!(extra.without_message && !extra.overwrite);
    check_fields("{}", r#" {"a":1,"a":2,"\u0062":3} "#, json!({"a": 2, "b": 3}));
    check_fields("{}", "{}", json!({}));
}

#[test]
fn a_target_takes_them_all() {
    check_fields("{target: app}", r#"{"a":1,"@timestamp":"x"}"#, json!({"app": {"a": 1, "@timestamp": "x"}}));
    check_fields("{keys_under_root: false}", r#"{"a":1}"#, json!({"json": {"a": 1}}));
    check_fields("{keys_under_root: true}", r#"{"a":1}"#, json!({"a": 1}));
    refuse("[{ndjson: {target: a, keys_under_root: true}}]", "exclude each other");
}

#[test]
fn the_message_key_gives_the_text() {
    let (text, extra) = parse("{message_key: msg}", r#"{"msg":"a\tb","n":1}"#);
    assert_eq!((text.as_str(), extra.without_message), ("a\tb", false));
    assert_eq!(extra.fields, r#"{"msg":"a\tb","n":1}"#);
    let (text, extra) = parse("{message_key: message}", r#"{"message":"m","n":1}"#);
    assert_eq!((text.as_str(), extra.fields.as_str()), ("m", r#"{"n":1}"#), "it is shipped once");
    let missing = json!({"n": 1, "error": {"message": "Key 'msg' not found", "type": "json"}});
    assert!(check_fields("{message_key: msg, add_error_key: true}", r#"{"n":1}"#, missing).without_message);
    let wrong = json!({"msg": 1, "error": {"message": "Value of key 'msg' is not a string", "type": "json"}});
    check_fields("{message_key: msg, add_error_key: true}", r#"{"msg":1,"error":2}"#, wrong);
    check_fields("{message_key: msg}", r#"{"msg":""}"#, json!({"msg": ""}));
}

#[test]
fn a_time_is_taken_over_only_if_keys_are_overwritten() {
    let line = r#"{"@timestamp":"2023-11-14T22:13:20.123Z","@metadata":{"_id":"x"},"a":1}"#;
    assert_eq!(check_fields("{}", line, json!({"a": 1})).timestamp_ms, None);
    let extra = check_fields("{overwrite_keys: true}", line, json!({"a": 1}));
    assert_eq!((extra.timestamp_ms, extra.overwrite), (Some(1_700_000_000_123), true));
    let error = json!({"error": {"message": "@timestamp not overwritten (parse error on 7)", "type": "json"}});
    let extra = check_fields("{overwrite_keys: true, add_error_key: true}", r#"{"@timestamp":7}"#, error);
    assert_eq!(extra.timestamp_ms, None);
}

#[test]
fn dotted_names_are_expanded() {
    let line = r#"{"a.b":1,"a":{"c.d":2},"l":[{"x.y":3}]}"#;
    check_fields("{expand_keys: true}", line, json!({"a": {"b": 1, "c": {"d": 2}}, "l": [{"x.y": 3}]}));
    let reader = read("[{ndjson: {expand_keys: true, add_error_key: true}}]", &[r#"{"a":1,"a.b":2}"#]);
    assert_eq!((reader.texts(), reader.events.unparsed), (vec![r#"{"a":1,"a.b":2}"#.to_owned()], 1));
    let deep = format!("{{\"{}\":1}}", ".".repeat(100_000));
    assert_eq!(read("[{ndjson: {expand_keys: true}}]", &[deep]).events.unparsed, 1);
}

#[test]
fn what_is_no_object_is_shipped_as_it_is() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    for line in ["plain", "[1]", "{\"a\":", "{\"a\":1} x", "7", r#"{"a":"\ud800"}"#, &deep] {
        let reader = read("[{ndjson: {}}]", &[line]);
        assert_eq!((reader.texts(), reader.events.unparsed), (vec![line.to_owned()], 1));
        assert_eq!(reader.events.records[0].extra, None);
        let (text, extra) = parse("{add_error_key: true}", line);
        assert!(
            text == line && !extra.without_message && extra.fields.contains(r#""type":"json""#),
            "{}",
            extra.fields
        );
    }
}

#[test]
fn what_a_container_said_stays_beside_it() {
    let line = r#"2023-11-14T22:13:20Z stdout F {"a":1,"stream":"mine"}"#;
    let fields = |options: &str| {
        let reader = read(&format!("[{{container: {{}}}}, {{ndjson: {options}}}]"), &[line]);
        let extra = reader.events.records[0].extra.clone().expect("something beside the text");
        assert_eq!(extra.timestamp_ms, Some(1_700_000_000_000));
        extra.fields
    };
    assert_eq!(fields("{}"), r#"{"stream":"stdout","a":1}"#);
    assert_eq!(fields("{overwrite_keys: true}"), r#"{"a":1,"stream":"mine"}"#);
    assert_eq!(fields("{target: app}"), r#"{"stream":"stdout","app":{"a":1,"stream":"mine"}}"#);
}
