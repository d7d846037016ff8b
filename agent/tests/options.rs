//! The options of file inputs, by a whole agent whose output is this test.

mod whole;

use std::fs::{self, File};
use std::time::Duration;
use whole::{age, append, checked, folder, one, start};

#[tokio::test]
async fn a_file_closed_for_inactivity_is_read_on_when_it_grows() {
    let (folder, log) = folder();
    append(&log, "one\n");
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, close_inactive: 1ms}]";
    let mut running = start(folder.path(), yaml);
    assert_eq!(running.lines(1).await, one("a.log", &["one"]));
    running.until("closed", |files| files.iter().all(|file| !file.is_open)).await;
    append(&log, "two\n");
    assert_eq!(running.lines(1).await, one("a.log", &["two"]));
    running.until("closed", |files| files.iter().all(|file| !file.is_open)).await;
    fs::write(&log, "rewritten, and longer than what was read\n").expect("written");
    assert_eq!(running.lines(1).await, one("a.log", &["rewritten, and longer than what was read"]));
    running.stop().await;
}

#[tokio::test]
async fn a_closed_file_that_is_renamed_is_followed_and_one_that_is_deleted_is_let_go() {
    let (folder, log) = folder();
    append(&log, "one\n");
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, close_inactive: 1ms}]";
    let mut running = start(folder.path(), yaml);
    running.lines(1).await;
    running.until("closed", |files| files.iter().all(|file| !file.is_open)).await;
    let old = folder.path().join("a.log.1"); // No glob names it.
    fs::rename(&log, &old).expect("renamed");
    append(&old, "late\n");
    assert_eq!(running.lines(1).await, one("a.log", &["late"]), "under the path where it was first seen");
    running.until("closed", |files| files.iter().all(|file| !file.is_open)).await;
    fs::remove_file(&old).expect("removed");
    running.until("let go", <[_]>::is_empty).await;
    running.stop().await;
}

#[tokio::test]
async fn every_file_is_read_with_one_descriptor() {
    let (folder, _) = folder();
    for n in 0..20 {
        append(&folder.path().join(format!("{n:02}.log")), &"line\n".repeat(5));
    }
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, harvester_limit: 1}]";
    let mut running = start(folder.path(), yaml);
    assert_eq!(running.lines(100).await.len(), 20);
    running
        .until("one is open", |files| files.len() == 20 && files.iter().filter(|file| file.is_open).count() == 1)
        .await;
    for n in 0..20 {
        append(&folder.path().join(format!("{n:02}.log")), "more\n");
    }
    let more = running.lines(20).await;
    assert!(more.len() == 20 && more.values().all(|lines| *lines == ["more"]), "{more:?}");
    running.stop().await;
}

#[tokio::test]
async fn an_old_file_is_ignored_and_read_from_there_on_when_it_grows() {
    let (folder, log) = folder();
    append(&log, "old\n");
    age(&log, Duration::from_secs(3_600));
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, ignore_older: 1m}]";
    let mut running = start(folder.path(), yaml);
    running.until("seen", |files| files.iter().any(|file| file.offset == 4)).await;
    append(&log, "new\n");
    assert_eq!(running.lines(1).await, one("a.log", &["new"]));
    running.stop().await;
    append(&log, "newer\n");
    age(&log, Duration::from_secs(3_600));
    let mut running = start(folder.path(), yaml);
    assert_eq!(running.lines(1).await, one("a.log", &["newer"]), "what the checkpoint knows is never skipped");
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_is_acknowledged_is_removed_after_its_grace() {
    let (folder, log) = folder();
    append(&log, "one\n");
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, delete_after: 50ms}]";
    let mut running = start(folder.path(), yaml);
    let group = running.group().await;
    running.until("read", |files| files[0].offset == 4).await;
    assert!(log.exists(), "not before it is acknowledged");
    group.ack.settle();
    running.until("let go", <[_]>::is_empty).await;
    assert!(!log.exists());
    assert_eq!(running.metrics.removed.get(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_stop_reads_to_the_present_end_if_asked() {
    for (asked, expected) in [(true, 20_000), (false, 0)] {
        let (folder, log) = folder();
        let yaml = format!("[{{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, read_until_eof: {asked}}}]");
        append(&log, &"a line of some length, so that it takes more than one turn\n".repeat(20_000));
        let mut running = start(folder.path(), &yaml);
        let first = running.group().await;
        let read = first.records.len();
        first.ack.settle();
        running.trigger.stop();
        let rest = running.lines(usize::MAX).await.into_values().map(|lines| lines.len()).sum::<usize>();
        assert!(if asked { read + rest == expected } else { read + rest < 20_000 }, "{asked}: {read} and {rest} lines");
        drop(running.groups);
        tokio::task::spawn_blocking(|| running.agent.join()).await.expect("ends");
    }
}

#[tokio::test]
async fn a_link_is_followed_only_if_asked() {
    let (folder, _) = folder();
    fs::create_dir(folder.path().join("real")).expect("made");
    append(&folder.path().join("real/app.txt"), "secret\n");
    std::os::unix::fs::symlink("real/app.txt", folder.path().join("mid.lnk")).expect("linked");
    std::os::unix::fs::symlink("mid.lnk", folder.path().join("a.log")).expect("linked"); // A link to a link.
    append(&folder.path().join("b.log"), "plain\n");
    for (asked, expected) in [("false", vec!["b.log"]), ("true", vec!["a.log", "b.log"])] {
        let yaml = format!("[{{id: {asked}, type: file, paths: [DIR/*.log], scan_interval: 20ms, symlinks: {asked}}}]");
        let mut running = start(folder.path(), &yaml);
        assert_eq!(running.lines(expected.len()).await.into_keys().collect::<Vec<_>>(), expected);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_hole_is_passed_over() {
    let (folder, log) = folder();
    append(&log, "before\n");
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms}]";
    let mut running = start(folder.path(), yaml);
    running.lines(1).await;
    // Copied and truncated, while the writer goes on where it was: what lies before is a hole.
    let file = File::options().write(true).open(&log).expect("opens");
    file.set_len(0).expect("truncated");
    std::os::unix::fs::FileExt::write_all_at(&file, b"after\n", 1_000_000).expect("written");
    assert_eq!(running.lines(1).await, one("a.log", &["after"]));
    assert_eq!(running.metrics.bytes_skipped.with_label_values(&["zeros"]).get(), 1_000_000);
    running.stop().await;
}

#[tokio::test]
async fn inputs_are_added_changed_and_removed_while_others_go_on() {
    let (folder, log) = folder();
    let other = folder.path().join("b.txt");
    append(&log, "a1\n");
    append(&other, "b1\n");
    let (a, b) =
        ("{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms}", "{id: b, type: file, paths: [DIR/*.txt]}");
    let mut running = start(folder.path(), &format!("[{a}]"));
    assert_eq!(running.lines(1).await, one("a.log", &["a1"]));

    running.agent.reloader().reload(checked(folder.path(), &format!("[{b}, {a}]")));
    assert_eq!(running.lines(1).await, one("b.txt", &["b1"]), "added; the other is not read again");

    let tagged = a.replace("id: a,", "id: a, tags: [new],");
    running.agent.reloader().reload(checked(folder.path(), &format!("[{tagged}]")));
    running.until("at rest", |files| files.len() == 1).await;
    append(&other, "b2\n");
    append(&log, "a2\n");
    let group = running.group().await;
    let tags = group.source.input().tags.clone();
    assert_eq!((tags, group.bytes_of(&group.records[0])), (vec!["new".to_owned()], &b"a2"[..]));
    group.ack.settle();

    running.agent.reloader().reload(checked(folder.path(), &format!("[{tagged}, {b}]")));
    assert_eq!(running.lines(1).await, one("b.txt", &["b2"]), "back, and read on where it was");
    running.stop().await;
}
