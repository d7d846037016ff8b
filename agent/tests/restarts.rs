//! What a stop, a rotation and a removal leave in the checkpoint, and what the next start makes of it.

mod whole;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::time::Duration;
use whole::{PATIENCE, Running, all, append, entries, folder, one, start, start_to_drain};

const PLAIN: &str = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms}]";

fn offsets(folder: &Path) -> Vec<(String, u64)> {
    let name = |path: &str| Path::new(path).file_name().expect("a name").to_string_lossy().into_owned();
    entries(folder).iter().map(|entry| (name(entry.path()), entry.offset())).collect()
}

/// Ends it without acknowledging anything more.
async fn stop_without_acknowledging(running: Running) {
    running.trigger.stop();
    drop(running.groups);
    tokio::task::spawn_blocking(|| running.agent.join()).await.expect("ends");
}

#[tokio::test]
async fn reading_to_the_end_on_a_stop_ends_when_its_time_is_up_and_the_next_start_reads_on() {
    let limit = Duration::from_millis(300);
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, read_until_eof: true}]";
    let (folder, log) = folder();
    let written: Vec<_> =
        (0..20_000).map(|n| format!("line {n} of some length, so that it takes many turns")).collect();
    append(&log, &(written.join("\n") + "\n"));
    let mut running = start_to_drain(folder.path(), yaml, limit);
    let first = running.group().await;
    let read = first.records.len();
    first.ack.settle();
    running.trigger.stop();
    let ends = async {
        while !running.groups.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await; // Nobody takes what it reads.
        }
    };
    tokio::time::timeout(PATIENCE, ends).await.expect("it ends in time");
    stop_without_acknowledging(running).await;
    assert!(read < written.len());
    let mut running = start(folder.path(), yaml);
    let rest = running.lines(written.len() - read).await.remove("a.log").unwrap_or_default();
    assert!(rest == written[read..], "{} lines", rest.len());
    assert_eq!(running.stop().await, all(&[]), "nothing twice");
}

#[tokio::test]
async fn the_entries_of_files_that_vanished_while_it_was_stopped_are_removed_unless_asked_otherwise() {
    for (clean, expected) in [("true", vec![]), ("false", vec![("a.log".to_owned(), 4)])] {
        let (folder, log) = folder();
        let yaml = format!("[{{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, clean_removed: {clean}}}]");
        append(&log, "one\n");
        append(&folder.path().join("b.log"), "one\n");
        let mut running = start(folder.path(), &yaml);
        running.lines(2).await;
        running.stop().await;
        fs::remove_file(&log).expect("removed");
        let mut running = start(folder.path(), &yaml);
        for name in ["c.log", "d.log", "e.log"] {
            append(&folder.path().join(name), "one\n");
            assert_eq!(running.lines(1).await, one(name, &["one"])); // A listing each.
        }
        running.stop().await;
        let mut left = offsets(folder.path());
        left.retain(|(name, _)| !["c.log", "d.log", "e.log"].contains(&name.as_str()));
        assert_eq!(left, [expected, vec![("b.log".to_owned(), 4)]].concat(), "clean_removed: {clean}");
    }
}

#[tokio::test]
async fn an_entry_whose_folder_cannot_be_looked_into_is_kept() {
    let (folder, _) = folder();
    let (app, away) = (folder.path().join("app"), folder.path().join("away"));
    fs::create_dir(&app).expect("made");
    append(&app.join("a.log"), "one\n");
    let yaml =
        "[{id: a, type: file, paths: [DIR/app/*.log], scan_interval: 20ms}, {id: b, type: file, paths: [DIR/*.log]}]";
    let mut running = start(folder.path(), yaml);
    running.lines(1).await;
    running.stop().await;
    fs::rename(&app, &away).expect("renamed");
    symlink("app", &app).expect("linked"); // To itself: whoever looks is told of too many links.
    let mut running = start(folder.path(), yaml);
    for name in ["c.log", "d.log", "e.log"] {
        append(&folder.path().join(name), "one\n");
        assert_eq!(running.lines(1).await, one(name, &["one"])); // A listing each.
    }
    fs::remove_file(&app).expect("removed");
    append(&away.join("a.log"), "two\n");
    fs::rename(&away, &app).expect("renamed");
    assert_eq!(running.lines(1).await, one("a.log", &["two"]), "read on, not from its start");
    running.stop().await;
}

#[tokio::test]
async fn rotations_leave_each_inode_with_its_offset_in_the_checkpoint() {
    let (folder, log) = folder();
    let names: Vec<_> =
        (0..4).map(|n| if n == 0 { log.clone() } else { log.with_extension(format!("log.{n}")) }).collect();
    let rotate = || {
        for pair in names.windows(2).rev() {
            fs::rename(&pair[0], &pair[1]).ok(); // What is not there yet is not renamed.
        }
    };
    let check = || {
        let entries = entries(folder.path());
        for path in names.iter().filter(|path| path.exists()) {
            let found = fs::metadata(path).expect("there");
            let offsets: Vec<_> =
                entries.iter().filter(|entry| entry.inode() == found.ino()).map(agent::StateEntry::offset).collect();
            assert_eq!(offsets, [found.len()], "{}: {entries:#?}", path.display());
        }
        assert_eq!(entries.len(), names.iter().filter(|path| path.exists()).count(), "{entries:#?}");
    };
    let mut running = start(folder.path(), PLAIN);
    for round in 0..3 {
        append(&log, &"line\n".repeat(round + 1));
        running.lines(round + 1).await;
        rotate();
    }
    append(&log, "last\n");
    assert_eq!(running.lines(1).await, one("a.log", &["last"]));
    running.stop().await;
    check();

    fs::remove_file(&names[3]).expect("removed");
    append(&log, "later\n");
    rotate();
    append(&log, "new\n");
    let mut running = start(folder.path(), PLAIN);
    let mut lines = running.lines(2).await.remove("a.log").unwrap_or_default();
    lines.sort();
    assert_eq!(lines, ["later", "new"]);
    for name in ["x.log", "y.log"] {
        append(&folder.path().join(name), "one\n");
        assert_eq!(running.lines(1).await, one(name, &["one"])); // A listing each.
        fs::remove_file(folder.path().join(name)).expect("removed");
    }
    running.until("let go", |files| files.len() == 4).await;
    assert_eq!(running.stop().await, all(&[]), "nothing twice");
    check();
}

#[tokio::test]
async fn a_file_rotated_while_it_is_stopped_is_read_again_as_far_as_it_was_not_acknowledged() {
    for acknowledged in [0, 1] {
        let (folder, log) = folder();
        append(&log, "one\n");
        let mut running = start(folder.path(), PLAIN);
        if acknowledged > 0 {
            running.lines(1).await;
            append(&log, "two\n");
        }
        let owed = running.group().await;
        let incarnation = owed.source.incarnation;
        running.trigger.stop();
        let (agent, groups) = (running.agent, running.groups);
        drop((groups, owed)); // Not delivered.
        tokio::task::spawn_blocking(|| agent.join()).await.expect("ends");
        fs::rename(&log, folder.path().join("a.log.1")).expect("renamed"); // No glob names it.
        append(&log, "new\n");

        let mut running = start(folder.path(), PLAIN);
        let mut found = Vec::new();
        for _ in 0..2 {
            let group = running.group().await;
            let text = |record| String::from_utf8_lossy(group.bytes_of(record)).into_owned();
            let lines: Vec<_> = group.records.iter().map(text).collect();
            found.push((lines, group.source.incarnation == incarnation, group.reread));
            group.ack.settle();
        }
        found.sort();
        let again = if acknowledged > 0 { "two" } else { "one" };
        assert!(found.contains(&(vec![again.to_owned()], true, true)), "the same ids, flagged: {found:?}");
        assert!(found.iter().any(|(lines, is_same, _)| lines == &["new"] && !is_same), "{found:?}");
        assert_eq!(running.stop().await, all(&[]), "nothing twice");
    }
}
