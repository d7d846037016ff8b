//! The options of file inputs, by a whole agent whose output is this test.

mod whole;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;
use whole::{age, append, checked, folder, one, remembered, start};

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

#[tokio::test]
async fn a_container_log_knows_its_pod() {
    let (folder, log) = folder();
    let pod = folder.path().join("pods/shop_web_0a1b/nginx");
    fs::create_dir_all(&pod).expect("made");
    append(&pod.join("1.log"), "one\n");
    append(&log, "other\n");
    let yaml = "[{id: a, type: file, paths: [DIR/pods/*/*/*.log, DIR/*.log], scan_interval: 20ms, kubernetes: {}}]";
    let mut running = start(folder.path(), yaml);
    for _ in 0..2 {
        let group = running.groups.recv().await.expect("a line");
        let is_pod = group.source.path.ends_with("1.log");
        let expected = r#""kubernetes":{"container":{"name":"nginx","restart_count":1},"namespace":"shop","pod":{"name":"web","uid":"0a1b"}},"orchestrator":{"namespace":"shop","type":"kubernetes"}"#;
        assert_eq!(group.source.fields(), if is_pod { expected } else { "" });
        group.ack.settle();
    }
    running.stop().await;
}

const PLAIN: &str = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms}]";

#[tokio::test]
async fn two_inputs_follow_one_file_each_for_itself() {
    let (folder, log) = folder();
    append(&log, "one\n");
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms}, {id: b, type: file, paths: [DIR/a.*]}]";
    let mut running = start(folder.path(), yaml);
    assert_eq!(running.lines(2).await, one("a.log", &["one", "one"]));
    append(&log, "two\n");
    assert_eq!(running.lines(2).await, one("a.log", &["two", "two"]));
    running.stop().await;
}

#[tokio::test]
async fn start_at_the_end_is_for_files_that_are_there_at_the_first_start() {
    let (folder, log) = folder();
    append(&log, "one\ntw");
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, start: end}]";
    let mut running = start(folder.path(), yaml);
    running.until("seen", |files| files.iter().any(|file| file.size == 6)).await;
    append(&log, "o\n");
    assert_eq!(running.lines(1).await, one("a.log", &["two"]), "an unfinished last line is whole");
    append(&folder.path().join("b.log"), "b1\nb2\n");
    assert_eq!(running.lines(2).await, one("b.log", &["b1", "b2"]), "a file that comes later is read whole");
    running.stop().await;
    append(&folder.path().join("c.log"), "c1\nc2\n");
    let mut running = start(folder.path(), yaml);
    assert_eq!(running.lines(2).await, one("c.log", &["c1", "c2"]), "also one that came while the agent was stopped");
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_is_deleted_and_made_anew_is_read_whole() {
    let (folder, log) = folder();
    append(&log, "one\n");
    let mut running = start(folder.path(), PLAIN);
    running.lines(1).await;
    fs::remove_file(&log).expect("removed");
    append(&log, "one\ntwo\n");
    assert_eq!(running.lines(2).await, one("a.log", &["one", "two"]));
    running.stop().await;
}

#[tokio::test]
async fn a_file_renamed_while_the_agent_is_stopped_is_read_on() {
    let (folder, log) = folder();
    append(&log, "one\n");
    let mut running = start(folder.path(), PLAIN);
    running.lines(1).await;
    running.stop().await;
    let old = folder.path().join("a.log.1"); // No glob names it.
    append(&log, "two\n");
    fs::rename(&log, &old).expect("renamed");
    append(&log, "new\n");
    let mut running = start(folder.path(), PLAIN);
    let mut lines = running.lines(2).await.remove("a.log").expect("under the path where it was first seen");
    lines.sort();
    assert_eq!(lines, ["new", "two"]);
    running.stop().await;
}

#[tokio::test]
async fn a_file_truncated_while_the_agent_is_stopped_is_read_from_its_start() {
    for anew in ["1\n", "another, and longer than what was read of it\n"] {
        let (folder, log) = folder();
        append(&log, "one\ntwo\n");
        let mut running = start(folder.path(), PLAIN);
        running.lines(2).await;
        running.stop().await;
        fs::write(&log, anew).expect("written");
        let mut running = start(folder.path(), PLAIN);
        assert_eq!(running.lines(1).await, one("a.log", &[anew.trim_end()]));
        running.stop().await;
        assert_eq!(remembered(folder.path()), BTreeMap::from([("a.log".to_owned(), anew.len() as u64)]));
    }
}

#[tokio::test]
async fn a_truncation_is_remembered() {
    let (folder, log) = folder();
    append(&log, "one\ntwo\n");
    let mut running = start(folder.path(), PLAIN);
    running.lines(2).await;
    fs::write(&log, "new\n").expect("written");
    assert_eq!(running.lines(1).await, one("a.log", &["new"]));
    running.stop().await;
    assert_eq!(remembered(folder.path()), BTreeMap::from([("a.log".to_owned(), 4)]), "one entry, of the new life");
    append(&log, "more\n");
    let mut running = start(folder.path(), PLAIN);
    assert_eq!(running.lines(1).await, one("a.log", &["more"]));
    running.stop().await;
}

#[tokio::test]
async fn folders_that_appear_are_looked_into() {
    let (folder, _) = folder();
    let yaml = "[{id: a, type: file, paths: [DIR/*/x*/*.log], scan_interval: 20ms}]";
    let mut running = start(folder.path(), yaml);
    running.until("started", <[_]>::is_empty).await;
    for place in ["one/x", "one/x2", "two/x"] {
        fs::create_dir_all(folder.path().join(place)).expect("made");
        let name = format!("{}.log", place.replace('/', "-"));
        append(&folder.path().join(place).join(&name), "line\n");
        assert_eq!(running.lines(1).await, one(&name, &["line"]));
    }
    running.stop().await;
}

#[tokio::test]
async fn the_offset_of_a_deleted_file_is_kept_if_asked() {
    for (asked, expected) in [("false", 1), ("true", 0)] {
        let (folder, log) = folder();
        append(&log, "one\n");
        let yaml = format!("[{{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, clean_removed: {asked}}}]");
        let mut running = start(folder.path(), &yaml);
        running.lines(1).await;
        fs::remove_file(&log).expect("removed");
        running.until("let go", <[_]>::is_empty).await;
        running.stop().await;
        assert_eq!(remembered(folder.path()).len(), expected, "clean_removed: {asked}");
    }
}

#[tokio::test]
async fn files_with_the_same_start_are_told_apart_also_after_a_restart() {
    let (folder, log) = folder();
    let other = folder.path().join("b.log");
    append(&log, "same\n");
    append(&other, "same\n");
    let mut running = start(folder.path(), PLAIN);
    let (a, b) = (one("a.log", &["same"]), one("b.log", &["same"]));
    assert_eq!(running.lines(2).await, a.into_iter().chain(b).collect());
    running.stop().await;
    append(&log, "of a\n");
    append(&other, "of b\n");
    append(&folder.path().join("c.log"), "same\n");
    let mut running = start(folder.path(), PLAIN);
    let (a, b, c) = (one("a.log", &["of a"]), one("b.log", &["of b"]), one("c.log", &["same"]));
    assert_eq!(running.lines(3).await, a.into_iter().chain(b).chain(c).collect());
    running.stop().await;
}

#[tokio::test]
async fn what_is_owed_when_a_file_is_closed_is_read_again_when_it_is_given_back() {
    let (folder, log) = folder();
    append(&log, "one\n");
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, close_inactive: 1ms}]";
    let mut running = start(folder.path(), yaml);
    let owed = running.groups.recv().await.expect("a line");
    running.until("closed", |files| files.iter().any(|file| !file.is_open && file.offset == 4)).await;
    append(&log, "two\n");
    let second = running.groups.recv().await.expect("a line");
    running.until("closed", |files| files.iter().any(|file| !file.is_open && file.offset == 8)).await;
    drop((owed, second)); // Not delivered.
    assert_eq!(running.lines(2).await, one("a.log", &["one", "two"]));
    assert!(
        running.board.files(None).iter().all(|file| file.generation == 0),
        "it is no other life, its ids are the same"
    );
    running.stop().await;
    assert_eq!(remembered(folder.path()), BTreeMap::from([("a.log".to_owned(), 8)]));
}

#[tokio::test]
async fn rotations_in_quick_succession_lose_no_line() {
    let (folder, log) = folder();
    let yaml = "[{id: a, type: file, paths: ['DIR/a.log*'], scan_interval: 20ms}]";
    let mut running = start(folder.path(), yaml);
    let mut expected = Vec::new();
    for round in 0..20 {
        append(&log, &format!("{round} first\n{round} second\n"));
        expected.extend([format!("{round} first"), format!("{round} second")]);
        for generation in (0..round).rev() {
            let name = |n: usize| folder.path().join(if n == 0 { "a.log".to_owned() } else { format!("a.log.{n}") });
            fs::rename(name(generation), name(generation + 1)).ok(); // What is not there yet is not renamed.
        }
        if round > 0 {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    let mut lines: Vec<_> = running.lines(40).await.into_values().flatten().collect();
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
    running.stop().await;
}

#[tokio::test]
async fn names_may_be_of_any_script() {
    let (folder, _) = folder();
    let name = "журнал 日志 é.log";
    append(&folder.path().join(name), "one\n");
    let mut running = start(folder.path(), PLAIN);
    assert_eq!(running.lines(1).await, one(name, &["one"]));
    running.stop().await;
    assert_eq!(remembered(folder.path()), BTreeMap::from([(name.to_owned(), 4)]));
}

/// Stops and starts an agent again.
async fn anew(running: whole::Running, folder: &Path) -> whole::Running {
    running.stop().await;
    let running = start(folder, PLAIN);
    running.until("adopted", |files| !files.is_empty()).await;
    running
}

#[tokio::test]
async fn a_truncation_is_remembered_before_the_next_life_has_a_line() {
    for (seen_by_a_running_agent, grows_while_down) in [(true, false), (true, true), (false, false)] {
        let what = format!("seen: {seen_by_a_running_agent}, grows while down: {grows_while_down}");
        let (folder, log) = folder();
        append(&log, "one\n");
        let mut running = start(folder.path(), PLAIN);
        let group = running.group().await;
        let first = group.source.incarnation;
        group.ack.settle();
        if seen_by_a_running_agent {
            fs::write(&log, "").expect("written");
            running.until("truncated", |files| files.iter().all(|file| file.generation == 1)).await;
            running = anew(running, folder.path()).await;
        } else {
            running.stop().await;
            fs::write(&log, "").expect("written");
            running = start(folder.path(), PLAIN);
            running.until("truncated", |files| files.iter().any(|file| file.generation == 1)).await;
        }
        if grows_while_down {
            running.stop().await;
            append(&log, "one\n");
            running = start(folder.path(), PLAIN);
        } else {
            running = anew(running, folder.path()).await;
            append(&log, "one\n");
        }
        let group = running.group().await;
        assert_eq!((group.records.len(), group.records[0].offset), (1, 0), "{what}");
        assert_ne!(group.source.incarnation, first, "{what}: the line would be taken for the one before");
        group.ack.settle();
        running.stop().await;
        assert_eq!(remembered(folder.path()), BTreeMap::from([("a.log".to_owned(), 4)]), "{what}: of the new life");
    }
}

#[tokio::test]
async fn a_truncation_is_remembered_when_what_was_read_before_is_acknowledged_after_it() {
    let (folder, log) = folder();
    append(&log, "one\n");
    let mut running = start(folder.path(), PLAIN);
    let before = running.group().await;
    fs::write(&log, "").expect("written");
    running.until("truncated", |files| files.iter().all(|file| file.generation == 1)).await;
    let first = before.source.incarnation;
    before.ack.settle();
    running = anew(running, folder.path()).await;
    append(&log, "one\n");
    let group = running.group().await;
    assert_ne!(group.source.incarnation, first, "the line would be taken for the one before");
    group.ack.settle();
    fs::write(&log, "").expect("written");
    running.until("truncated", |files| files.iter().all(|file| file.generation == 2)).await;
    fs::remove_file(&log).expect("removed");
    running.until("let go", <[_]>::is_empty).await;
    running.stop().await;
    assert_eq!(remembered(folder.path()), BTreeMap::new(), "nothing is left to remember");
}
