//! Events of several lines by a whole agent: where they begin, what ends them, and what a pause, a closed file and a restart
//! make of them.

mod whole;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use whole::{append, folder, one, start};

/// An input of `*.log` whose events go on with lines that begin with a blank, with more options.
fn joining(timeout: &str, options: &str) -> String {
    format!(
        "[{{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, {options} \
        parsers: [{{multiline: {{pattern: '^ ', match: after, timeout: {timeout}}}}}]}}]"
    )
}

#[tokio::test]
async fn path_and_offset_of_each_event_are_those_of_its_first_line() {
    let (folder, log) = folder();
    let other = folder.path().join("sub/b.txt");
    fs::create_dir(folder.path().join("sub")).expect("made");
    let yaml = joining("1h", "").replace("[DIR/*.log]", "[DIR/a.log, DIR/sub/*.txt]");
    append(&log, "first\r\n one\r\n\nsecond\néé\n");
    append(&other, "x\n  y\n  z\n");
    let parts = [" three\nfourth\nlast\n", "w\nlast\n"];
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for life in 0..2 {
        let mut running = start(folder.path(), &yaml);
        let expected = if life == 0 { 2 } else { 4 };
        let mut got = 0;
        while got < expected {
            let group = running.group().await;
            for record in &group.records {
                let text = String::from_utf8_lossy(group.bytes_of(record)).into_owned();
                let content = fs::read(&*group.source.path).expect("the path is the file's");
                let at = usize::try_from(record.offset).expect("small");
                assert!(at == 0 || content[at - 1] == b'\n', "{text:?} at {at} is no start of a line");
                assert!(content[at..].starts_with(text.lines().next().expect("a line").as_bytes()), "{text:?} at {at}");
                found.entry(group.source.path.to_string()).or_default().push((record.offset, text));
                got += 1;
            }
            group.ack.settle();
        }
        assert!(running.stop().await.is_empty());
        append(&log, parts[0]);
        append(&other, parts[1]);
    }
    let at = |path: &std::path::Path| found[&path.display().to_string()].clone();
    let of = |events: &[(u64, &str)]| events.iter().map(|(at, text)| (*at, (*text).to_owned())).collect::<Vec<_>>();
    assert_eq!(at(&log), of(&[(0, "first\n one"), (14, "second"), (21, "éé\n three"), (33, "fourth")]));
    assert_eq!(at(&other), of(&[(0, "x\n  y\n  z"), (10, "w")]));
}

#[tokio::test]
async fn a_start_and_an_end_pattern_make_events_over_writes_stops_and_timeouts() {
    let (folder, log) = folder();
    let yaml = |timeout: &str| {
        joining(timeout, "").replace("pattern: '^ '", "pattern: '^BEGIN', negate: true, flush_pattern: 'END$'")
    };
    let mut running = start(folder.path(), &yaml("1h"));
    append(&log, "BEGIN 1\nx\n");
    running.until("read", |files| files.iter().any(|file| file.offset == 0 && file.size == 10)).await;
    append(&log, "\ny E");
    append(&log, "ND\n");
    assert_eq!(running.lines(1).await, one("a.log", &["BEGIN 1\nx\n\ny END"]), "it does not wait for the next");
    append(&log, "BEGIN 2\nx\n");
    assert!(running.stop().await.is_empty(), "an unfinished event is not sent");
    let mut running = start(folder.path(), &yaml("1h"));
    append(&log, "END\nBEGIN 3\n");
    assert_eq!(running.lines(1).await, one("a.log", &["BEGIN 2\nx\nEND"]));
    assert!(running.stop().await.is_empty());
    let mut running = start(folder.path(), &yaml("100ms"));
    assert_eq!(running.lines(1).await, one("a.log", &["BEGIN 3"]), "time ends it");
    append(&log, "BEGIN 4\nEND\n");
    assert_eq!(running.lines(1).await, one("a.log", &["BEGIN 4\nEND"]));
    running.stop().await;
}

#[tokio::test]
async fn nasty_18_an_event_that_is_open_while_the_output_pauses_is_not_torn() {
    let (folder, log) = folder();
    let timeout = Duration::from_millis(300);
    let mut running = start(folder.path(), &joining("300ms", ""));
    append(&log, "one\n");
    running.until("open", |files| files.iter().any(|file| file.size == 4)).await;
    // Groups of another file fill the channel: reading waits.
    append(&folder.path().join("b.log"), &"a line of the other file\n".repeat(20_000));
    running.until("it waits", |files| files.iter().any(|file| file.offset > 200_000)).await;
    append(&log, " two\n");
    tokio::time::sleep(timeout * 2).await; // Its time is up while nothing is read.
    let lines = running.lines(20_001).await;
    assert_eq!(lines["a.log"], ["one\n two"]);
    running.stop().await;
}

#[tokio::test]
async fn an_event_that_time_ends_is_shipped_though_its_file_is_closed() {
    let (folder, _) = folder();
    let mut running = start(folder.path(), &joining("200ms", "harvester_limit: 1,"));
    for n in 0..20 {
        append(&folder.path().join(format!("{n:02}.log")), &format!("{n}\n more\n"));
    }
    let lines = running.lines(20).await;
    assert!(lines.len() == 20 && lines.values().all(|of| of.len() == 1 && of[0].ends_with("\n more")), "{lines:#?}");
    running.until("all acknowledged", |files| files.iter().all(|file| file.acknowledged == file.size)).await;
    running.stop().await;
}

#[tokio::test]
async fn the_open_event_of_a_closed_file_that_is_deleted_is_shipped() {
    let (folder, log) = folder();
    let mut running = start(folder.path(), &joining("1h", "close_inactive: 1ms,"));
    append(&log, "one\ntwo\n");
    assert_eq!(running.lines(1).await, one("a.log", &["one"]));
    running.until("closed", |files| files.iter().any(|file| !file.is_open && file.acknowledged == 4)).await;
    fs::remove_file(&log).expect("removed");
    assert_eq!(running.lines(1).await, one("a.log", &["two"]));
    running.until("let go", <[_]>::is_empty).await;
    running.stop().await;
}
