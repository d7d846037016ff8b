//! From bytes to events by a whole agent: encodings, line ends, long lines, filters, parsers, and what a restart makes of them.

mod whole;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use whole::{append, folder, one, start};

/// Ships `content` under `options` and checks the events.
async fn check(options: &str, content: &[u8], expected: &[&str]) {
    let (folder, log) = folder();
    fs::write(&log, content).expect("written");
    let mut running =
        start(folder.path(), &format!("[{{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, {options}}}]"));
    let lines = running.lines(expected.len()).await;
    assert_eq!(lines, one("a.log", expected), "{options}");
    assert!(running.stop().await.is_empty(), "{options}: more than that");
}

#[tokio::test]
async fn encodings_and_line_ends() {
    check("encoding: utf-16le", b"a\0b\0\n\0\n\x0a\n\0", &["ab", "\u{a0a}"]).await; // U+0A0A holds two 0x0A bytes.
    check("encoding: auto", b"\xFE\xFF\0h\0i\0\r\0\n", &["hi"]).await;
    check("encoding: auto", b"\xEF\xBB\xBFhi\n", &["hi"]).await;
    check("encoding: gbk", b"\xD6\xD0\n", &["\u{4e2d}"]).await;
    check("line_terminator: nul", b"a\0b\0", &["a", "b"]).await;
    check("line_terminator: {custom: '||'}", b"a|b||c||", &["a|b", "c"]).await;
    check("invalid_bytes: replace", b"a\xFFb\n", &["a\u{FFFD}b"]).await;
}

#[tokio::test]
async fn long_lines_are_cut_split_or_left_out() {
    let long = format!("{}\nnext\n", "x".repeat(150));
    let cut = |bytes: usize| "x".repeat(bytes);
    check("line_bytes_max: 64", long.as_bytes(), &[&cut(64), "next"]).await;
    check("line_bytes_max: 64, on_long_line: split", long.as_bytes(), &[&cut(64), &cut(64), &cut(22), "next"]).await;
    check("line_bytes_max: 64, on_long_line: skip", long.as_bytes(), &["next"]).await;
}

#[tokio::test]
async fn filters_leave_lines_out_and_count_them() {
    let (folder, log) = folder();
    append(&log, "INFO a\nDEBUG b\nINFO health\n\nINFO c\n");
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], include_lines: ['^INFO'], exclude_lines: [health]}]";
    let mut running = start(folder.path(), yaml);
    assert_eq!(running.lines(2).await, one("a.log", &["INFO a", "INFO c"]));
    let filtered = |reason: &str| running.metrics.filtered.with_label_values(&[reason]).get();
    assert_eq!(["include_lines", "exclude_lines", "empty"].map(filtered), [1, 1, 1]);
    running.until("all acknowledged", |files| files[0].acknowledged == files[0].size).await;
    let metrics = &running.metrics;
    assert_eq!(metrics.read.get(), 5, "{:?}", running.board.files(None));
    assert_eq!(metrics.bytes_read.get(), metrics.bytes_acknowledged.get(), "a line that is left out moves the offset");
    running.stop().await;
}

#[tokio::test]
async fn an_event_that_time_finishes_is_cut_at_the_same_place_after_a_restart() {
    let (folder, log) = folder();
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, \
        parsers: [{multiline: {pattern: '^ ', match: after, timeout: 50ms}}]}]";
    append(&log, "first\n one\n");
    let mut running = start(folder.path(), yaml);
    let group = running.group().await;
    assert_eq!(group.bytes_of(&group.records[0]), b"first\n one");
    let id = |group: &event::Group| {
        let record = &group.records[0];
        event::document_id(group.source.incarnation, record.offset, group.bytes_of(record))
    };
    let first = id(&group);
    append(&log, " late\nsecond\n");
    let late = running.group().await;
    assert_eq!(late.bytes_of(&late.records[0]), b" late");
    // Neither is acknowledged: the next life reads both again.
    running.trigger.stop();
    drop((group, late, running.groups));
    tokio::task::spawn_blocking(|| running.agent.join()).await.expect("ends");

    let mut running = start(folder.path(), yaml);
    let group = running.group().await;
    assert_eq!(group.bytes_of(&group.records[0]), b"first\n one");
    assert_eq!(id(&group), first);
    assert_eq!(group.bytes_of(&group.records[1]), b" late", "cut where time cut it before");
    group.ack.settle();
    assert_eq!(running.lines(1).await, one("a.log", &["second"]));
    running.stop().await;
}

#[tokio::test]
async fn the_checkpoint_of_an_open_event_is_its_start() {
    let (folder, log) = folder();
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, \
        parsers: [{multiline: {pattern: '^ ', match: after, timeout: 1h}}]}]";
    append(&log, "one\n two\nthree\n four\n");
    let mut running = start(folder.path(), yaml);
    assert_eq!(running.lines(1).await, one("a.log", &["one\n two"]));
    running.until("acknowledged to the open event", |files| files[0].acknowledged == 9 && files[0].offset == 9).await;
    assert!(running.stop().await.is_empty(), "an unfinished event is not sent");
    append(&log, " five\nsix\n");
    let mut running = start(folder.path(), yaml);
    assert_eq!(running.lines(1).await, one("a.log", &["three\n four\n five"]));
    running.stop().await;
}

#[tokio::test]
async fn the_open_event_of_a_file_that_is_deleted_is_shipped() {
    let (folder, log) = folder();
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, \
        parsers: [{multiline: {pattern: '^ ', match: after, timeout: 1h}}]}]";
    append(&log, "one\ntwo\n");
    let mut running = start(folder.path(), yaml);
    assert_eq!(running.lines(1).await, one("a.log", &["one"]));
    fs::remove_file(&log).expect("removed");
    assert_eq!(running.lines(1).await, one("a.log", &["two"]));
    running.until("let go", <[_]>::is_empty).await;
    running.stop().await;
}

#[tokio::test]
async fn container_lines_and_json_lines_carry_their_fields() {
    let (folder, log) = folder();
    append(&log, "2026-11-22T08:15:30.5Z stdout P half \n2026-11-22T08:15:31Z stdout F whole\n");
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], parsers: [{container: {}}]}]";
    let mut running = start(folder.path(), yaml);
    let group = running.group().await;
    let record = &group.records[0];
    let extra = record.extra.as_ref().expect("found by the parser");
    assert_eq!((group.bytes_of(record), record.offset), (&b"half whole"[..], 0));
    assert_eq!((&*extra.fields, extra.timestamp_ms), (r#"{"stream":"stdout"}"#, Some(1_795_335_330_500)));
    group.ack.settle();
    running.stop().await;
}

/// Files of the shared data, if it is there.
#[tokio::test]
async fn files_in_all_encodings_are_shipped_as_their_text() {
    let shared = std::env::var_os("TAILRACE_SHARED_DATA").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data").into());
    let Ok(index) = fs::read_to_string(shared.join("encodings/index.json")) else {
        return eprintln!("SKIPPED: {} is not there", shared.display());
    };
    let cases: Vec<serde_json::Value> = serde_json::from_str(&index).expect("JSON");
    let mut seen = BTreeSet::new();
    for case in cases {
        let text = |key: &str| case[key].as_str().expect("a text").to_owned();
        let bytes = fs::read(shared.join("encodings").join(text("file"))).expect("readable");
        let truth = fs::read(shared.join("encodings").join(text("truth"))).expect("readable");
        // Bytes that are no character become U+FFFD on the wire; here they are still as they were.
        let truth = String::from_utf8_lossy(&truth).into_owned();
        let mut lines: Vec<_> = truth.lines().filter(|line| !line.is_empty()).collect();
        if case["final_line_end"] == false {
            lines.pop();
        }
        check(&format!("encoding: {}", text("encoding")), &bytes, &lines).await;
        seen.insert(text("encoding"));
    }
    assert!(seen.len() >= 10, "{seen:?}");
}
