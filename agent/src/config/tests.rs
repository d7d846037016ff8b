//! What is accepted of `inputs`, and in what words the rest is refused.

use super::*;

fn load_all(yaml: &str) -> anyhow::Result<(Vec<FileInput>, Vec<StreamInput>)> {
    let configs: Vec<InputConfig> = service::load::parse_config("agent.yaml".as_ref(), yaml)?;
    inputs(&configs).map(parted)
}

fn load(yaml: &str) -> anyhow::Result<Vec<FileInput>> {
    load_all(yaml).map(|(files, _)| files)
}

#[test]
fn each_kind_has_its_own_keys() {
    let yaml = "[{id: a, type: stdin}, {id: b, type: syslog, protocol: udp, listen: '127.0.0.1:0'}, \
        {id: c, type: syslog, protocol: unix_stream, listen: /run/x, mode: '0600', framing: newline}, \
        {id: d, type: journald, units: [a.service], severity: warning, match: [_TRANSPORT=kernel]}]";
    let streams = load_all(yaml).expect("is accepted").1;
    let StreamKind::Syslog(syslog) = &streams[2].kind else { panic!("a syslog input") };
    assert_eq!(syslog.listen, Listen::UnixStream { path: "/run/x".into(), mode: 0o600 });
    let StreamKind::Journald(journald) = &streams[3].kind else { panic!("a journald input") };
    assert_eq!(journald.filters, ["--unit=a.service", "--priority=warning", "_TRANSPORT=kernel"]);
}

#[test]
fn a_key_of_another_kind_is_refused_with_both_named() {
    refuse(
        "[{id: a, type: stdin, paths: [/a]}]",
        "paths: an input of type stdin has no such key; it belongs to type file",
    );
    refuse(
        "[{id: a, type: file, paths: [/a], framing: auto}]",
        "framing: an input of type file has no such key; it belongs to type syslog",
    );
    refuse("[{id: a, type: syslog, scan_interval: 1s}]", "type syslog has no such key");
    refuse("[{id: a, type: syslog, start: end}]", "it belongs to type file and journald");
    refuse("[{id: a, type: journald, listen: /x}]", "type journald has no such key; it belongs to type syslog");
    refuse("[{id: a, type: stdin, strange: 1}]", "unknown field `strange`");
}

#[test]
fn what_a_stream_cannot_do_is_refused() {
    refuse("[{id: a, type: syslog, listen: /x}]", "protocol: it must be");
    refuse("[{id: a, type: syslog, protocol: udp}]", "listen: it must be set");
    refuse("[{id: a, type: syslog, protocol: udp, listen: /x}]", "not an IP address and a port");
    refuse("[{id: a, type: syslog, protocol: unix_dgram, listen: '127.0.0.1:5'}]", "not an absolute path");
    refuse("[{id: a, type: syslog, protocol: unix_dgram, listen: /x, mode: rw}]", "mode: \"rw\" is not octal");
    refuse("[{id: a, type: syslog, protocol: udp, listen: '127.0.0.1:5', mode: '0600'}]", "mode: only");
    refuse("[{id: a, type: syslog, protocol: udp, listen: '127.0.0.1:5', framing: auto}]", "framing: a datagram");
    refuse("[{id: a, type: syslog, protocol: tcp, listen: '127.0.0.1:5', timezone: Mars}]", "timezone: \"Mars\"");
    refuse(
        "[{id: a, type: syslog, protocol: tcp, listen: '127.0.0.1:5', max_message_size: 5}]",
        "max_message_size: 5 bytes",
    );
    refuse("[{id: a, type: syslog, protocol: tcp, listen: '127.0.0.1:5', max_connections: 0}]", "max_connections: 0");
    refuse("[{id: a, type: journald, match: [--file=/etc/shadow]}]", "is not FIELD=value");
    refuse("[{id: a, type: journald, since: yesterday, start: end}]", "since: start: end");
}

#[track_caller]
fn refuse(yaml: &str, reason: &str) {
    let error = format!("{:#}", load(yaml).expect_err("is refused"));
    assert!(error.contains(reason), "{error}");
}

#[test]
fn an_input_has_defaults() {
    let inputs = load("[{id: a, type: file, paths: [/var/log/a*.log]}]").expect("is accepted");
    assert_eq!(inputs[0].start, Start::Beginning);
    assert_eq!(inputs[0].scan_interval, Duration::from_secs(1));
    assert_eq!(inputs[0].line_bytes_max, 524_288);
    assert_eq!(inputs[0].shared.fields, "");
}

#[test]
fn dotted_fields_are_nested() {
    let inputs = load("[{id: a, type: file, paths: [/a], fields: {service.name: shop, service.id: 7, env: x}}]");
    let fields = inputs.expect("is accepted")[0].shared.fields.clone();
    assert_eq!(fields, r#""fields":{"env":"x","service":{"id":7,"name":"shop"}}"#);
}

#[test]
fn what_cannot_work_is_refused_with_the_input_named() {
    refuse("[{id: a, type: file, paths: [/a]}, {id: a, type: file, paths: [/b]}]", "\"a\" is used by an earlier input");
    refuse("[{id: '', type: file, paths: [/a]}]", "id is empty");
    refuse("[{id: a, type: file, paths: []}]", "input \"a\": paths");
    refuse("[{id: a, type: file, paths: [logs/*.log]}]", "absolute");
    refuse("[{id: a, type: file, paths: ['/a[']}]", "/a[");
    refuse("[{id: a, type: file, paths: [/a], line_bytes_max: 1}]", "line_bytes_max: 1 bytes");
    refuse("[{id: a, type: file, paths: [/a], fields: {a: 1, a.b: 2}}]", "below a field");
    refuse("[{id: a, type: file, paths: [/a], clean_inactive: 1h}]", "ignore_older is not set");
    refuse("[{id: a, type: file, paths: [/a], ignore_older: 1h, clean_inactive: 1h}]", "clean_inactive");
}
