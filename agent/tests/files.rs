//! What happens to files while they are followed: closed, rotated, truncated, removed, written all the time.

mod whole;

use service::clock::monotonic;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::time::Duration;
use whole::{Running, all, append, entries, folder, one, start, until_remembered};

/// A file is closed as soon as it is read.
const CLOSED: &str = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, close_inactive: 1ms}]";
const PLAIN: &str = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms}]";

async fn until_closed(running: &Running) {
    running.until("closed", |files| files.iter().all(|file| !file.is_open)).await;
}

fn lost(running: &Running, reason: &str) -> u64 {
    running.metrics.lost_bytes.with_label_values(&[reason]).get()
}

fn numbered(word: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{word} {n:04} {}", "x".repeat(980))).collect()
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn a_closed_file_that_is_rotated_and_removed_is_let_go_and_so_is_its_successor() {
    for is_successor_removed in [false, true] {
        let (folder, log) = folder();
        let old = folder.path().join("a.log.1"); // No glob names it.
        append(&log, "one\n");
        let mut running = start(folder.path(), CLOSED);
        running.lines(1).await;
        until_closed(&running).await;
        fs::rename(&log, &old).expect("renamed");
        append(&log, "two\n");
        assert_eq!(running.lines(1).await, one("a.log", &["two"]));
        running.until("both closed", |files| files.len() == 2 && files.iter().all(|file| !file.is_open)).await;
        let (removed, left) = if is_successor_removed { (&log, &old) } else { (&old, &log) };
        fs::remove_file(removed).expect("removed");
        running.until("one is let go", |files| files.len() == 1 && files[0].path == *left).await;
        append(left, "three\n");
        assert_eq!(running.lines(1).await, one("a.log", &["three"]), "the other one is followed on");
        assert_eq!(lost(&running, "deleted"), 0);
        assert_eq!(running.stop().await, all(&[]), "nothing twice");
        let offsets: Vec<_> = entries(folder.path()).iter().map(agent::StateEntry::offset).collect();
        assert_eq!(offsets, [10], "the entry of the removed one is gone");
    }
}

#[tokio::test]
async fn what_is_written_while_a_file_is_closed_again_and_again_is_read_once() {
    let (folder, log) = folder();
    let mut running = start(folder.path(), CLOSED);
    let written: Vec<_> = (0..400).map(|n| format!("line {n}")).collect();
    let writer = {
        let written = written.clone();
        std::thread::spawn(move || {
            for (n, line) in written.iter().enumerate() {
                append(&log, &format!("{line}\n"));
                std::thread::sleep(Duration::from_millis(n as u64 % 7)); // So that it meets the closing at every moment.
            }
        })
    };
    assert_eq!(running.lines(written.len()).await.remove("a.log"), Some(written));
    writer.join().expect("has written");
    until_closed(&running).await;
    assert_eq!(running.stop().await, all(&[]), "nothing twice");
}

#[tokio::test]
async fn a_file_truncated_while_the_output_is_blocked_is_read_from_its_start_and_its_loss_is_counted() {
    for is_given_back in [false, true] {
        let (folder, log) = folder();
        let old = numbered("old", 1_000); // Several chunks: one is in the channel, one is on its way into it.
        append(&log, &text(&old));
        let mut running = start(folder.path(), PLAIN);
        running.until("blocked", |files| files.iter().any(|file| file.offset > 200_000)).await;
        fs::write(&log, "new\n").expect("truncated and written");
        let mut delivered = Vec::new();
        loop {
            let group = running.group().await;
            let lines = group.records.iter().map(|record| String::from_utf8_lossy(group.bytes_of(record)).into_owned());
            let lines: Vec<_> = lines.collect();
            let is_new = lines == ["new"];
            let is_lost = is_given_back && !delivered.is_empty() && !is_new;
            if !is_lost {
                delivered.extend(lines);
                group.ack.settle();
            }
            if is_new {
                break;
            }
        }
        assert_eq!(delivered.pop(), Some("new".to_owned()));
        assert!(old.starts_with(&delivered) && delivered.len() < old.len(), "{} lines", delivered.len());
        running.until("at rest", |files| files.len() == 1 && files[0].acknowledged == 4).await;
        let expected = text(&old[delivered.len()..]).len() as u64;
        assert_eq!(lost(&running, "truncated"), expected, "given back: {is_given_back}");
        assert_eq!(running.stop().await, all(&[]), "nothing twice");
        let offsets: Vec<_> = entries(folder.path()).iter().map(agent::StateEntry::offset).collect();
        assert_eq!(offsets, [4], "given back: {is_given_back}");
    }
}

#[tokio::test]
async fn what_is_given_back_after_a_truncation_is_counted_as_lost() {
    for round in 0..10 {
        let (folder, log) = folder();
        append(&log, "one\n");
        let mut running = start(folder.path(), PLAIN);
        running.lines(1).await;
        append(&log, "two\n");
        let owed = running.group().await;
        fs::write(&log, "new\n").expect("truncated and written");
        drop(owed); // Not delivered. Either of the two may be seen first.
        assert_eq!(running.lines(1).await, one("a.log", &["new"]));
        assert_eq!(lost(&running, "truncated"), 4, "round {round}");
        running.stop().await;
        let offsets: Vec<_> = entries(folder.path()).iter().map(agent::StateEntry::offset).collect();
        assert_eq!(offsets, [4], "round {round}");
    }
}

/// The first event of a file is open, so nothing is shipped yet that its id could have been made for.
#[tokio::test]
async fn the_first_event_is_shipped_though_its_file_is_truncated_closed_or_deleted_while_it_is_open() {
    let parsers = "parsers: [{multiline: {pattern: '^ ', match: after, timeout: TIME}}]";
    let yaml =
        format!("[{{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, close_inactive: 1ms, {parsers}}}]");
    let never = yaml.replace("TIME", "1h");
    for is_open in [true, false] {
        let (folder, log) = folder();
        append(&log, "one\n two\n");
        let yaml = if is_open { never.replace("close_inactive: 1ms", "close_inactive: 1h") } else { never.clone() };
        let mut running = start(folder.path(), &yaml);
        running.until("read", |files| files.iter().any(|file| file.size == 9 && file.is_open == is_open)).await;
        fs::write(&log, "new\nnext\n").expect("truncated and written");
        assert_eq!(running.lines(2).await, one("a.log", &["one\n two", "new"]), "truncated, open: {is_open}");
        until_remembered(folder.path(), "forgotten", |entries| entries.iter().all(|entry| entry.generation() == 1))
            .await;
        running.stop().await;
    }
    let (deleted, log) = folder();
    append(&log, "one\n two\n");
    let mut running = start(deleted.path(), &never);
    running.until("closed", |files| files.iter().any(|file| file.size == 9 && !file.is_open)).await;
    fs::remove_file(&log).expect("removed");
    assert_eq!(running.lines(1).await, one("a.log", &["one\n two"]), "deleted");
    running.stop().await;

    let (timed, log) = folder();
    append(&log, "one\n two\n");
    let mut running = start(timed.path(), &yaml.replace("TIME", "300ms"));
    assert_eq!(running.lines(1).await, one("a.log", &["one\n two"]), "closed before its time was up");
    append(&log, "new\n");
    assert_eq!(running.lines(1).await, one("a.log", &["new"]));
    assert_eq!(running.stop().await, all(&[]), "nothing twice");
}

#[tokio::test]
async fn a_file_that_is_rotated_slowly_or_quickly_is_read_once() {
    // Slowly: closed before each rotation, and no glob names the rotated file.
    let (slow, log) = folder();
    let mut running = start(slow.path(), CLOSED);
    for round in 0..5 {
        let late = format!("{round} late");
        append(&log, &format!("{round}\n"));
        running.lines(1).await;
        until_closed(&running).await;
        let old = log.with_extension(format!("log.{round}"));
        fs::rename(&log, &old).expect("renamed");
        append(&old, &format!("{late}\n"));
        assert_eq!(running.lines(1).await, one("a.log", &[&late]));
    }
    assert_eq!(running.stop().await, all(&[]), "nothing twice");

    // Quickly: no scan may see a file under its first name.
    let (quick, log) = folder();
    let mut running = start(quick.path(), &CLOSED.replace("*.log", "a.log*"));
    let writer = std::thread::spawn(move || {
        let mut written = Vec::new();
        for round in 0..40 {
            for part in 0..25 {
                let lines: Vec<_> = (0..20).map(|n| format!("{round} {part} {n}")).collect();
                append(&log, &text(&lines));
                written.extend(lines);
            }
            fs::rename(&log, log.with_extension(format!("log.{round}"))).expect("renamed");
        }
        written
    });
    let mut lines: Vec<_> = running.lines(20_000).await.into_values().flatten().collect();
    let mut written = writer.join().expect("has written");
    written.sort();
    lines.sort();
    assert!(lines == written, "{} of {} lines", lines.len(), written.len());
    assert_eq!(running.stop().await, all(&[]), "nothing twice");
}

#[tokio::test]
async fn an_expired_entry_goes_when_all_of_it_is_acknowledged_and_the_file_is_read_on_when_it_grows() {
    let (folder, log) = folder();
    let other = folder.path().join("b.log");
    append(&log, "one\n");
    append(&other, "one\n");
    let expiry = "ignore_older: 2s, clean_inactive: 2100ms";
    let yaml = format!("[{{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, {expiry}}}]");
    let mut running = start(folder.path(), &yaml);
    let (first, second) = (running.group().await, running.group().await);
    let (owed, done) = if first.source.path.ends_with("a.log") { (first, second) } else { (second, first) };
    done.ack.settle();
    until_remembered(folder.path(), "both", |entries| entries.len() == 2).await;
    until_remembered(folder.path(), "one expires", |entries| {
        entries.len() == 1 && entries[0].path().ends_with("a.log")
    })
    .await;
    owed.ack.settle();
    until_remembered(folder.path(), "the other too", <[_]>::is_empty).await;
    append(&log, "more\n");
    append(&other, "more\n");
    assert_eq!(running.lines(2).await, all(&[("a.log", &["more"]), ("b.log", &["more"])]));
    assert_eq!(running.stop().await, all(&[]), "nothing twice");
    let offsets: Vec<_> = entries(folder.path()).iter().map(agent::StateEntry::offset).collect();
    assert_eq!(offsets, [9, 9]);
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.ino())
}

#[tokio::test]
async fn a_file_that_changes_in_its_grace_is_removed_only_a_whole_grace_later() {
    let (folder, log) = folder();
    let still = folder.path().join("b.log");
    append(&log, "one\n");
    append(&still, "one\n");
    let before = inode(&log);
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, delete_after: 1s}]";
    let mut running = start(folder.path(), yaml);
    running.lines(2).await;
    let mut changed = monotonic();
    while still.exists() {
        changed = monotonic();
        append(&log, "more\n"); // Acknowledged at once: nothing but its change keeps it.
        assert_eq!(running.lines(1).await, one("a.log", &["more"]));
    }
    assert_eq!((inode(&log), running.metrics.removed.get()), (before, 1));
    running.until("let go", <[_]>::is_empty).await;
    assert!(!log.exists() && changed.elapsed() >= Duration::from_secs(1), "{:?}", changed.elapsed());
    running.stop().await;
}

#[tokio::test]
async fn of_a_link_and_of_several_names_each_name_is_removed_and_nothing_is_read_again() {
    let (folder, log) = folder();
    let (target, second) = (folder.path().join("target.txt"), folder.path().join("c.log"));
    append(&target, "one\n");
    symlink("target.txt", &log).expect("linked");
    append(&folder.path().join("b.log"), "two\n");
    fs::hard_link(folder.path().join("b.log"), &second).expect("linked");
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, delete_after: 50ms, symlinks: true}]";
    let mut running = start(folder.path(), yaml);
    assert_eq!(running.lines(2).await, all(&[("a.log", &["one"]), ("b.log", &["two"])]));
    running.until("only the target stays", |files| files.len() == 1 && !files[0].is_listed).await;
    assert!(fs::symlink_metadata(&log).is_err() && !second.exists() && target.exists());
    assert_eq!(running.metrics.removed.get(), 3, "a link and two names");
    append(&target, "more\n");
    assert_eq!(running.lines(1).await, one("a.log", &["more"]), "what the link led to is followed on");
    assert_eq!(running.stop().await, all(&[]), "nothing twice");
    assert_eq!(fs::read_to_string(target).expect("readable"), "one\nmore\n");
}

#[tokio::test]
async fn busy_files_have_turns_of_equal_size_one_after_the_other() {
    let (folder, _) = folder();
    let names = ["a.log", "b.log", "c.log", "small.log"];
    for name in &names[..3] {
        append(&folder.path().join(name), &text(&numbered(name, 1_500)));
    }
    append(&folder.path().join("small.log"), "small\n");
    let mut running = start(folder.path(), PLAIN);
    let (mut turns, mut read) = (Vec::new(), [0_usize; 4]);
    while read != [1_500, 1_500, 1_500, 1] {
        let group = running.group().await;
        let name = names.iter().position(|name| group.source.path.ends_with(name)).expect("one of them");
        read[name] += group.records.len();
        turns.push(name);
        assert!(group.buffer.len() <= 256 * 1024, "a turn of {} bytes", group.buffer.len());
        group.ack.settle();
    }
    let mut first: Vec<_> = turns[..4].to_vec();
    first.sort_unstable();
    assert_eq!(first, [0, 1, 2, 3], "each has its turn: {turns:?}");
    let busy: Vec<_> = turns.into_iter().filter(|name| *name < 3).collect();
    assert!(busy.len() >= 30, "several rounds: {busy:?}");
    assert!(busy.chunks_exact(3).all(|round| round == &busy[..3]), "round after round: {busy:?}");
    running.stop().await;
}
