//! What a syslog message says of itself → fields of the document, as ECS names them. Pure.

use super::message::{Clock, Format, Message, parse};
use event::Extra;
use serde_json::{Map, Value, json};

/// As Filebeat's `syslog` processor writes them.
const SEVERITIES: [&str; 8] =
    ["Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Debug"];
const FACILITIES: [&str; 24] = [
    "kernel",
    "user-level",
    "mail",
    "system",
    "security/authorization",
    "syslogd",
    "line printer",
    "network news",
    "UUCP",
    "clock",
    "security/authorization",
    "FTP",
    "NTP",
    "log audit",
    "log alert",
    "clock",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];

/// How the messages of one sender are read.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) format: Format,
    /// It came over a socket of this host.
    pub(super) is_local: bool,
    pub(super) clock: &'a Clock,
    /// Address of the sender, if it has one.
    pub(super) address: Option<&'a str>,
}

/// The text to ship, what stands beside it, and whether the message could be read. One that could not is shipped as it is,
/// with the reason.
pub(super) fn read<'a>(message: &'a [u8], reading: &Reading<'_>) -> (&'a [u8], Option<Box<Extra>>, bool) {
    let address = reading.address.map(|address| json!({"source": {"address": address}}));
    if reading.format == Format::Raw {
        let extra = address.map(|log| extra(json!({ "log": log }), None));
        return (message, extra, true);
    }
    match parse(message, reading.format, reading.is_local, reading.clock) {
        Ok(parsed) => {
            let mut extra = extra(document(&parsed, address), parsed.timestamp_ms);
            extra.without_message = parsed.text.is_empty(); // The header says it all.
            (parsed.text, Some(extra), true)
        }
        Err(reason) => {
            let mut root = json!({"error": {"message": format!("syslog: {reason}")}});
            if let Some(log) = address {
                root["log"] = log;
            }
            (message, Some(extra(root, None)), false)
        }
    }
}

fn extra(root: Value, timestamp_ms: Option<i64>) -> Box<Extra> {
    Box::new(Extra { fields: root.to_string(), timestamp_ms, ..Extra::default() })
}

fn document(message: &Message<'_>, log: Option<Value>) -> Value {
    let (facility, severity) = (message.priority / 8, message.priority % 8);
    let (facility_name, severity_name) = (FACILITIES[usize::from(facility)], SEVERITIES[usize::from(severity)]);
    let mut syslog = Map::new();
    syslog.insert("priority".into(), message.priority.into());
    syslog.insert("facility".into(), json!({"code": facility, "name": facility_name}));
    syslog.insert("severity".into(), json!({"code": severity, "name": severity_name}));
    if let Some(version) = message.version {
        syslog.insert("version".into(), version.to_string().into());
    }
    let (mut process, mut root) = (Map::new(), Map::new());
    if let Some(host) = message.hostname.map(text) {
        root.insert("host".into(), json!({"hostname": host}));
        syslog.insert("hostname".into(), host);
    }
    if let Some(name) = message.appname.map(text) {
        process.insert("name".into(), name.clone());
        syslog.insert("appname".into(), name);
    }
    if let Some(procid) = message.procid.map(text) {
        if let Some(pid) = procid.as_str().and_then(|procid| procid.parse::<u32>().ok()) {
            process.insert("pid".into(), pid.into());
        }
        syslog.insert("procid".into(), procid);
    }
    if let Some(msgid) = message.msgid.map(text) {
        syslog.insert("msgid".into(), msgid);
    }
    if !message.data.is_empty() {
        syslog.insert("structured_data".into(), structured_data(message));
    }
    let mut log = log.unwrap_or_else(|| json!({}));
    log["syslog"] = syslog.into();
    root.insert("log".into(), log);
    if !process.is_empty() {
        root.insert("process".into(), process.into());
    }
    root.into()
}

/// An object a parameter under an object an element; a name given several times makes a list.
fn structured_data(message: &Message<'_>) -> Value {
    let mut elements = Map::new();
    for (id, parameters) in &message.data {
        let element = elements.entry(String::from_utf8_lossy(id)).or_insert_with(|| json!({}));
        for (name, value) in parameters {
            let (name, value) = (String::from_utf8_lossy(name).into_owned(), text(value));
            match &mut element[name] {
                slot @ Value::Null => *slot = value,
                Value::Array(values) => values.push(value),
                slot => *slot = Value::Array(vec![slot.take(), value]),
            }
        }
    }
    elements.into()
}

fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    #[track_caller]
    fn check(message: &str, format: Format, address: Option<&str>, expected: (&str, Value, bool)) {
        let clock = Clock { zone: TimeZone::UTC, now_ms: 1_795_348_800_000 };
        let reading = Reading { format, is_local: false, clock: &clock, address };
        let (text, extra, is_read) = read(message.as_bytes(), &reading);
        let fields = extra.map_or(json!(null), |extra| serde_json::from_str(&extra.fields).expect("is JSON"));
        assert_eq!((text, fields, is_read), (expected.0.as_bytes(), expected.1, expected.2));
    }

    #[test]
    fn a_message_has_the_names_of_ecs() {
        let expected = json!({
            "host": {"hostname": "web-01"},
            "log": {"source": {"address": "10.0.0.7:51000"}, "syslog": {
                "priority": 165, "facility": {"code": 20, "name": "local4"}, "severity": {"code": 5, "name": "Notice"},
                "version": "1", "hostname": "web-01", "appname": "app", "procid": "8710", "msgid": "ID47",
                "structured_data": {"a@1": {"x": ["1", "2", "3"], "y": "é"}},
            }},
            "process": {"name": "app", "pid": 8710},
        });
        let message = "<165>1 2026-11-22T10:00:00Z web-01 app 8710 ID47 [a@1 x=\"1\" x=\"2\" x=\"3\" y=\"é\"] text";
        check(message, Format::Auto, Some("10.0.0.7:51000"), ("text", expected, true));
    }

    #[test]
    fn what_cannot_be_read_is_shipped_as_it_is_with_the_reason() {
        let expected = json!({"error": {"message": "syslog: it does not begin with a priority"}});
        check("no header", Format::Auto, None, ("no header", expected, false));
    }

    #[test]
    fn a_raw_message_is_not_read() {
        let expected = json!({"log": {"source": {"address": "[::1]:9"}}});
        check("<13>a", Format::Raw, Some("[::1]:9"), ("<13>a", expected, true));
        check("<13>a", Format::Raw, None, ("<13>a", json!(null), true));
    }
}
