//! A payload → the event a pipeline works on. Pure.
//!
//! Understands the JSON that our agent and Filebeat's Kafka output write (`@timestamp`, `message`, `@metadata` with
//! `pipeline` and `_id`), plain lines of text from anyone, and lines whose metadata our agent put in headers.

use crate::config::{Charset, Decode};
use crate::headers;
use crate::parcel::Place;
use crate::routing::Reading;
use compact_str::CompactString;
use event::{Event, Incarnation, Object, Value, document_id, wire};
use std::borrow::Cow;

/// Longest document id, in bytes. Source: Elasticsearch, `IndexRequest.MAX_DOCUMENT_ID_LENGTH_IN_BYTES`.
const ID_BYTES_MAX: usize = 512;

/// Room made for the members of an event that a pipeline makes of a line.
const EVENT_MEMBERS: usize = 16;

/// What a payload holds.
#[derive(Debug, Clone, Default)]
pub struct Decoded {
    /// The document, without `@metadata`; the pipeline asked for stands in its metadata.
    pub event: Event,
    /// The record's own id (`@metadata._id`).
    pub id: Option<CompactString>,
    /// `@timestamp` as it came: when the line was read.
    pub read_at: Option<CompactString>,
    /// Not to be indexed before this time (`@metadata.not_before`), milliseconds since 1970; an error says why it is none.
    pub not_before: Option<Result<i64, String>>,
    /// True if bytes that are not UTF-8 were replaced.
    pub lossy: bool,
}

/// Records' timestamps as text. Neighbours mostly have the same, which is written once.
#[derive(Debug, Default)]
pub struct Times {
    ms: Option<i64>,
    text: Option<CompactString>,
}

impl Times {
    /// The text of `ms`, if it is a time that can be written.
    pub fn text(&mut self, ms: Option<i64>) -> Option<&CompactString> {
        if self.ms != ms {
            (self.ms, self.text) = (ms, ms.and_then(engine::time_text));
        }
        self.text.as_ref()
    }
}

/// Decodes `payload`. `time` is the record's, for events that bring none.
///
/// Errors: why it is not a JSON object, with `decode: json`.
pub fn decode(payload: &[u8], mode: Decode, time: Option<&CompactString>) -> Result<Decoded, String> {
    if mode == Decode::Text {
        return Ok(text(payload, time));
    }
    let looks_json = payload.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if !looks_json {
        return match mode {
            Decode::Json => Err("the payload is not a JSON object".to_owned()),
            _ => Ok(text(payload, time)),
        };
    }
    let (parsed, lossy) = match Value::from_json(payload) {
        Err(error) => match String::from_utf8_lossy(payload) {
            Cow::Owned(repaired) => (Value::from_json(repaired.as_bytes()), true),
            Cow::Borrowed(_) => (Err(error), false),
        },
        parsed => (parsed, false),
    };
    match parsed {
        Ok(Value::Object(source)) => Ok(Decoded { lossy, ..envelope(source, time) }),
        Ok(_) => Err("the payload is not a JSON object".to_owned()),
        Err(error) if mode == Decode::Json => Err(format!("the payload is not a JSON object: {error}")),
        Err(_) => Ok(text(payload, time)),
    }
}

/// Decodes the payload of anybody but our agent, which sends UTF-8 whatever it reads.
///
/// Errors: why it is not a JSON object, with `decode: json`.
pub(crate) fn foreign(payload: &[u8], reading: Reading, time: Option<&CompactString>) -> Result<Decoded, String> {
    let Reading { decode: mode, charset } = reading;
    if charset == Charset::default() {
        return decode(payload, mode, time);
    }
    let (text, lossy) = charset.0.decode_with_bom_removal(payload);
    let decoded = decode(text.as_bytes(), mode, time)?;
    Ok(Decoded { lossy: lossy || decoded.lossy, ..decoded })
}

fn envelope(mut source: Object, time: Option<&CompactString>) -> Decoded {
    let mut decoded = Decoded::default();
    let mut pipeline = None;
    // Looked for first: most foreign documents have none, and then nothing moves.
    if source.contains("@metadata")
        && let Some(Value::Object(metadata)) = source.remove("@metadata")
    {
        for (key, value) in metadata {
            match (key.as_str(), value) {
                ("pipeline", Value::Text(name)) if !name.is_empty() => pipeline = Some(name),
                ("not_before", time) => decoded.not_before = not_before(&time),
                ("_id", Value::Text(id)) if !id.is_empty() && id.len() <= ID_BYTES_MAX => decoded.id = Some(id),
                _ => {}
            }
        }
    }
    match source.get("@timestamp").and_then(Value::as_text) {
        Some(read_at) => decoded.read_at = Some(CompactString::new(read_at)),
        None => set_time(&mut source, time),
    }
    decoded.event = Event::new(source);
    decoded.event.metadata.pipeline = pipeline;
    decoded
}

/// The time of `@metadata.not_before`: RFC 3339, or milliseconds since 1970; null is none.
fn not_before(value: &Value) -> Option<Result<i64, String>> {
    let time = match value {
        Value::Null => return None,
        Value::Text(text) => headers::time_ms(text),
        other => other.as_i64().ok_or_else(|| format!("{} is no time", other.to_json())),
    };
    Some(time.map_err(|reason| format!("@metadata.not_before: {reason}")))
}

/// Decodes what the events of a record with headers share.
///
/// Errors: it is not a JSON object.
pub fn shared(event: &[u8], time: Option<&CompactString>) -> Result<Decoded, String> {
    decode(event, Decode::Json, time).map_err(|reason| format!("header {}: {reason}", wire::EVENT))
}

/// The event of one line, whose place and `incarnation` headers told: the same document as of codec `json`.
pub fn sent(shared: &Decoded, line: &[u8], incarnation: Incarnation, place: Place) -> Decoded {
    let mut decoded = shared.clone();
    let source = &mut decoded.event.source;
    if let Value::Object(log) = source.object_at("log") {
        log.insert("offset", Value::integer(i64::try_from(place.offset).unwrap_or(i64::MAX)));
        if place.is_truncated {
            log.insert("flags", Value::Array(vec![wire::TRUNCATED.into()]));
        }
    }
    if !place.is_without_message {
        let (message, lossy) = utf8(line);
        source.insert("message", message);
        decoded.lossy |= lossy;
    }
    let id = document_id(incarnation, place.offset, line);
    decoded.id = Some(CompactString::from_utf8_lossy(&id));
    decoded
}

/// `line` as text, and true if bytes that are not UTF-8 were replaced.
fn utf8(line: &[u8]) -> (CompactString, bool) {
    match simdutf8::basic::from_utf8(line) {
        Ok(line) => (CompactString::new(line), false),
        Err(_) => (CompactString::from(String::from_utf8_lossy(line)), true),
    }
}

fn text(payload: &[u8], time: Option<&CompactString>) -> Decoded {
    let line = payload.strip_suffix(b"\n").map_or(payload, |line| line.strip_suffix(b"\r").unwrap_or(line));
    let (line, lossy) = utf8(line);
    let mut source = Object::with_capacity(EVENT_MEMBERS);
    set_time(&mut source, time);
    source.insert("message", line);
    Decoded { event: Event::new(source), lossy, ..Decoded::default() }
}

/// The time an event without one gets: the record's, never now, so that a replay makes the same document.
fn set_time(source: &mut Object, time: Option<&CompactString>) {
    if let Some(time) = time
        && !source.contains("@timestamp")
    {
        source.insert("@timestamp", time.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Filebeat 7.17 writes to Kafka.
    const FILEBEAT: &str = r#"{"@timestamp":"2026-11-22T10:00:00.123Z","@metadata":{"beat":"filebeat","type":"_doc","version":"7.17.29","pipeline":"nginx-access"},"message":"GET / 200","input":{"type":"filestream"},"host":{"name":"web-01"},"agent":{"type":"filebeat","version":"7.17.29","hostname":"web-01","ephemeral_id":"0e1c","id":"7d0f","name":"web-01"},"ecs":{"version":"1.12.0"},"log":{"offset":1024,"file":{"path":"/var/log/nginx/access.log"}}}"#;

    fn decoded(payload: &[u8], mode: Decode) -> Decoded {
        decode(payload, mode, Times::default().text(Some(1_700_000_000_000))).expect("it decodes")
    }

    #[track_caller]
    fn check(payload: &[u8], mode: Decode, expected: &str, lossy: bool) {
        let decoded = decoded(payload, mode);
        assert_eq!((Value::Object(decoded.event.source).to_json().as_str(), decoded.lossy), (expected, lossy));
    }

    #[test]
    fn a_record_of_filebeat_is_an_event() {
        let decoded = decoded(FILEBEAT.as_bytes(), Decode::Auto);
        assert_eq!(decoded.event.metadata.pipeline.as_deref(), Some("nginx-access"));
        assert_eq!(decoded.read_at.as_deref(), Some("2026-11-22T10:00:00.123Z"));
        assert_eq!(decoded.id, None);
        assert!(!decoded.event.source.contains("@metadata"));
        let path = event::FieldPath::new("log.file.path").expect("a path");
        assert_eq!(decoded.event.get(&path).and_then(Value::as_text), Some("/var/log/nginx/access.log"));
        assert_eq!(decoded.event.source.len(), 7);
    }

    #[test]
    fn a_record_of_our_agent_brings_its_id() {
        let payload = br#"{"@timestamp":"2026-11-22T10:00:00.000Z","@metadata":{"pipeline":"p","_id":"ASNFZ4mrze8AAAAAEjToVVxi3P0","reread":true},"message":"m"}"#;
        let decoded = decoded(payload, Decode::Json);
        assert_eq!(decoded.id.as_deref(), Some("ASNFZ4mrze8AAAAAEjToVVxi3P0"));
        assert_eq!(decoded.event.metadata.pipeline.as_deref(), Some("p"));
    }

    #[test]
    fn a_record_says_before_what_time_it_is_not_to_be_indexed() {
        let of = |time: &str| {
            let payload = format!(r#"{{"@metadata":{{"not_before":{time}}},"message":"m"}}"#);
            decoded(payload.as_bytes(), Decode::Json).not_before
        };
        assert_eq!(of("1700000000000"), Some(Ok(1_700_000_000_000)));
        assert_eq!(of(r#""2023-11-14T22:13:20Z""#), Some(Ok(1_700_000_000_000)));
        assert_eq!(of(r#""2023-11-14T23:13:20.5+01:00""#), Some(Ok(1_700_000_000_500)));
        assert_eq!(of(r#""1700000000000""#), Some(Ok(1_700_000_000_000)));
        assert_eq!(of("null"), None);
        for wrong in [r#""tomorrow""#, "[1]", "1.5"] {
            let reason = of(wrong).expect("it is there").expect_err("it is no time");
            assert!(reason.starts_with("@metadata.not_before: "), "{reason}");
        }
    }

    #[test]
    fn anything_else_is_a_line_of_text() {
        let at = r#""@timestamp":"2023-11-14T22:13:20.000Z""#;
        check(b"hello\r\n", Decode::Auto, &format!(r#"{{{at},"message":"hello"}}"#), false);
        check(b"", Decode::Auto, &format!(r#"{{{at},"message":""}}"#), false);
        check(b"[1,2]", Decode::Auto, &format!(r#"{{{at},"message":"[1,2]"}}"#), false);
        check(b"{not json", Decode::Auto, &format!(r#"{{{at},"message":"{{not json"}}"#), false);
        check(br#"{"a":1}"#, Decode::Text, &format!(r#"{{{at},"message":"{{\"a\":1}}"}}"#), false);
        check(br#"{"a":1}"#, Decode::Auto, &format!(r#"{{"a":1,{at}}}"#), false);
    }

    #[test]
    fn each_record_has_its_own_time() {
        let mut times = Times::default();
        let mut check = |ms, text: Option<&str>| assert_eq!(times.text(ms).map(CompactString::as_str), text);
        check(None, None);
        check(Some(0), Some("1970-01-01T00:00:00.000Z"));
        check(Some(0), Some("1970-01-01T00:00:00.000Z"));
        check(Some(1), Some("1970-01-01T00:00:00.001Z"));
        check(Some(253_402_300_799_999), Some("9999-12-31T23:59:59.999Z"));
        check(Some(253_402_300_800_000), None);
        check(Some(-1), None);
        check(None, None);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_told() {
        let at = r#""@timestamp":"2023-11-14T22:13:20.000Z""#;
        check(b"a\xffb", Decode::Text, &format!(r#"{{{at},"message":"a{}b"}}"#, '\u{fffd}'), true);
        check(b"{\"a\":\"\xff\"}", Decode::Auto, &format!(r#"{{"a":"{}",{at}}}"#, '\u{fffd}'), true);
    }

    #[track_caller]
    fn check_charset(charset: &str, mode: Decode, payload: &[u8], expected: &str, lossy: bool) {
        let reading = Reading { decode: mode, charset: charset.parse().expect("a charset") };
        let decoded = foreign(payload, reading, None).expect("it decodes");
        let document = Value::Object(decoded.event.source).to_json();
        assert_eq!((document.as_str(), decoded.lossy), (expected, lossy), "{charset}");
    }

    #[test]
    fn text_in_another_charset_is_read_as_what_it_says() {
        let check = |charset, payload: &[u8], message: &str| {
            check_charset(charset, Decode::Auto, payload, &format!(r#"{{"message":"{message}"}}"#), false);
        };
        check("windows-1252", b"caf\xe9 \x80\r\n", "café €");
        check("latin1", b"na\xefve", "naïve");
        check("gbk", b"\xb5\xc7\xc2\xbc\xca\xa7\xb0\xdc", "登录失败");
        check("big5", b"\xb5\x6e\xa4\x4a", "登入");
        check("shift_jis", b"\x83\x8d\x83\x4f", "ログ");
        check("utf-16le", b"\xff\xfeh\0i\0\n\0", "hi");
        check("koi8-r", b"\xcf\xdb\xc9\xc2\xcb\xc1", "ошибка");
        check_charset("gbk", Decode::Json, b"{\"m\":\"\xca\xa7\"}", r#"{"m":"失"}"#, false);
        check_charset("gbk", Decode::Text, b"a\xff", "{\"message\":\"a\u{fffd}\"}", true);
        check_charset("utf-8", Decode::Text, b"a\xff", "{\"message\":\"a\u{fffd}\"}", true);
    }

    #[test]
    fn with_decode_json_anything_else_is_refused() {
        for payload in [b"hello".as_slice(), b"", b"[1]", b"{\"a\":", b"\xff"] {
            assert!(decode(payload, Decode::Json, None).is_err(), "{payload:?}");
        }
    }
}
