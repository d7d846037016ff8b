//! The unfinished last line of a file that has ended for good, by a whole agent whose output is this test.

mod whole;

use event::Group;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use whole::packing::{gzip, zstd};
use whole::{Running, append, entries, folder, one, remembered, start};

const YAML: &str = "[{id: a, type: file, paths: ['DIR/a*'], scan_interval: 20ms}]";

/// What the shortest limit leaves of a long line.
const LONG: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

fn texts(group: &Group) -> Vec<(u64, String)> {
    let text = |record| String::from_utf8_lossy(group.bytes_of(record)).into_owned();
    group.records.iter().map(|record| (record.offset, text(record))).collect()
}

/// The next group that an output would send: none that was read behind one that is given back.
async fn current_group(running: &mut Running) -> Group {
    loop {
        let group = running.group().await;
        if group.source.is_current(group.epoch) {
            return group;
        }
    }
}

/// Nothing comes before what is written to another file.
async fn nothing_but(running: &mut Running, folder: &Path) {
    append(&folder.join("a.last"), "the last\n");
    assert_eq!(running.lines(1).await, one("a.last", &["the last"]));
}

/// Cuts that the checkpoint remembers.
fn cuts(folder: &Path) -> String {
    entries(folder).iter().map(|entry| serde_json::to_value(entry).expect("serializes")["cuts"].to_string()).collect()
}

#[tokio::test]
async fn the_last_line_of_a_deleted_file_is_shipped_and_its_end_is_recorded_before() {
    let (folder, log) = folder();
    append(&log, "one\ntwo");
    let mut running = start(folder.path(), YAML);
    assert_eq!(running.lines(1).await, one("a.log", &["one"]));
    fs::remove_file(&log).expect("removed");
    let last = running.group().await;
    assert_eq!(texts(&last), [(4, "two".to_owned())]);
    assert_eq!(cuts(folder.path()), "[7]");
    let incarnation = last.source.incarnation;
    drop(last);
    let again = running.group().await;
    assert_eq!((texts(&again), again.reread), (vec![(4, "two".to_owned())], true), "it was given back");
    assert_eq!(again.source.incarnation, incarnation);
    again.ack.settle();
    running.until("let go", <[_]>::is_empty).await;
    assert_eq!(running.metrics.lost_bytes.with_label_values(&["unfinished_line"]).get(), 0);
    running.stop().await;
    assert!(remembered(folder.path()).is_empty());
}

#[tokio::test]
async fn a_deleted_file_that_never_had_a_line_end_is_shipped() {
    for (content, text, lost) in [("ab", "ab", 0), ("ab\r", "ab", 0), ("\0\0ab", "ab", 0), ("\0\0\0", "", 3)] {
        let (folder, log) = folder();
        append(&log, content);
        let mut running = start(folder.path(), YAML);
        running.until("followed", |files| files.len() == 1).await;
        fs::remove_file(&log).expect("removed");
        if text.is_empty() {
            running.until("let go", <[_]>::is_empty).await;
        } else {
            assert_eq!(running.lines(1).await, one("a.log", &[text]), "{content:?}");
            running.until("let go", <[_]>::is_empty).await;
        }
        assert_eq!(running.metrics.lost_bytes.with_label_values(&["unfinished_line"]).get(), lost, "{content:?}");
        running.stop().await;
    }
}

#[tokio::test]
async fn the_last_line_is_made_as_every_other_one() {
    let utf16: Vec<u8> = "eins\nzwei".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let long = format!("one\n{}", "x".repeat(300_000));
    let cases: [(&str, &[u8], &[&str]); 4] = [
        ("encoding: utf-16le", &utf16, &["eins", "zwei"]),
        (
            "parsers: [{multiline: {pattern: '^ ', match: after, timeout: 1h}}]",
            b"one\n two\n three",
            &["one\n two\n three"],
        ),
        ("line_terminator: {custom: ';;'}", b"one;;two;", &["one", "two;"]),
        ("line_bytes_max: 64B", long.as_bytes(), &["one", LONG]),
    ];
    for (key, content, expected) in cases {
        let (folder, log) = folder();
        fs::write(&log, content).expect("written");
        let mut running = start(folder.path(), &YAML.replace("type: file", &format!("type: file, {key}")));
        running.until("read to its end", |files| files.len() == 1 && files[0].size == content.len() as u64).await;
        fs::remove_file(&log).expect("removed");
        assert_eq!(running.lines(expected.len()).await, one("a.log", expected), "{key}");
        running.until("let go", <[_]>::is_empty).await;
        assert_eq!(running.metrics.lost_bytes.with_label_values(&["unfinished_line"]).get(), 0, "{key}");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_deleted_file_whose_writer_goes_on_is_read_on_behind_the_cut_also_if_it_is_given_back() {
    let (folder, log) = folder();
    let mut writer = File::create(&log).expect("made");
    writer.write_all(b"one\ntw").expect("written");
    let mut running = start(folder.path(), YAML);
    assert_eq!(running.lines(1).await, one("a.log", &["one"]));
    fs::remove_file(&log).expect("removed");
    let cut = running.group().await;
    assert_eq!(texts(&cut), [(4, "tw".to_owned())]);
    writer.write_all(b"o\nthree\n").expect("written");
    cut.source.break_off(cut.epoch); // As an output does before it gives back.
    drop(cut);
    let again = current_group(&mut running).await;
    assert_eq!(texts(&again), [(4, "tw".to_owned())], "it ends where it ended");
    again.ack.settle();
    assert_eq!(running.lines(2).await, one("a.log", &["o", "three"]));
    running.stop().await;
}

#[tokio::test]
async fn the_last_line_of_a_file_that_is_there_waits() {
    let (folder, log) = folder();
    append(&log, "one\ntwo");
    let yaml = YAML.replace("type: file", "type: file, close_inactive: 1ms");
    let mut running = start(folder.path(), &yaml);
    assert_eq!(running.lines(1).await, one("a.log", &["one"]));
    nothing_but(&mut running, folder.path()).await;
    append(&log, "!\n");
    assert_eq!(running.lines(1).await, one("a.log", &["two!"]));
    running.stop().await;
}

#[tokio::test]
async fn the_last_line_of_a_packed_file_is_shipped_when_it_has_rested() {
    for pack in [gzip, zstd] {
        let (folder, log) = folder();
        let packed = log.with_extension("log.packed");
        fs::write(&packed, pack(b"one\ntwo")).expect("written");
        let mut running = start(folder.path(), YAML); // close_inactive: 5m
        assert_eq!(running.lines(1).await, one("a.log.packed", &["one"]));
        nothing_but(&mut running, folder.path()).await;
        running.stop().await;
        let yaml = YAML.replace("type: file", "type: file, close_inactive: 50ms");
        let mut running = start(folder.path(), &yaml);
        let last = running.group().await;
        assert_eq!(texts(&last), [(4, "two".to_owned())]);
        assert!(cuts(folder.path()).contains('7'), "{}", cuts(folder.path()));
        last.ack.settle();
        running.stop().await;
        let mut running = start(folder.path(), &yaml);
        append(&folder.path().join("a.next"), "next\n");
        assert_eq!(running.lines(1).await, one("a.next", &["next"]), "and not again");
        File::options().append(true).open(&packed).expect("opens").write_all(&pack(b"more\n")).expect("written");
        let more = running.group().await;
        assert_eq!(texts(&more), [(7, "more".to_owned())], "behind the cut");
        more.ack.settle();
        running.stop().await;
    }
}

#[tokio::test]
async fn a_packed_file_without_any_line_end_is_shipped() {
    let (folder, log) = folder();
    fs::write(log.with_extension("log.gz"), gzip(b"abc")).expect("written");
    let yaml = YAML.replace("type: file", "type: file, close_inactive: 50ms");
    let mut running = start(folder.path(), &yaml);
    assert_eq!(running.lines(1).await, one("a.log.gz", &["abc"]));
    running.stop().await;
    let mut running = start(folder.path(), &yaml);
    nothing_but(&mut running, folder.path()).await;
    running.stop().await;
}

#[tokio::test]
async fn the_last_line_of_a_rotated_file_is_shipped_from_its_packed_copy_as_its_own() {
    let (folder, log) = folder();
    append(&log, "one\ntwo");
    let yaml = YAML.replace("type: file", "type: file, close_inactive: 50ms");
    let mut running = start(folder.path(), &yaml);
    let first = running.group().await;
    let incarnation = first.source.incarnation;
    first.ack.settle();
    fs::write(log.with_extension("log.1.gz"), gzip(b"one\ntwo")).expect("written");
    running.until("it waits", |files| files.len() == 2 && format!("{files:?}").contains("still there")).await;
    fs::remove_file(&log).expect("removed");
    let last = running.group().await;
    assert_eq!((last.source.incarnation, texts(&last)), (incarnation, vec![(4, "two".to_owned())]));
    last.ack.settle();
    nothing_but(&mut running, folder.path()).await;
    running.stop().await;
}
