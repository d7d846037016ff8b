//! Files that logrotate rotates, by a whole agent: every line once, in whatever way it is done, and in order after a start.

mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;
use whole::{Running, age, append, folder, start};

const ROTATIONS: usize = 6;

/// Does rotation `n` in a folder, and what the program that writes does about it.
type Rotate = fn(&Path, usize);

/// As logrotate's options say. The first word of each says which files the input follows.
const MODES: [(&str, &str, Rotate); 6] = [
    ("create", "a.log*", |folder, n| {
        fs::rename(folder.join("a.log"), folder.join(format!("a.log.{n}"))).expect("renamed");
        File::create_new(folder.join("a.log")).expect("made");
    }),
    ("nocopytruncate, the writer is late", "a.log", |folder, n| {
        let old = folder.join(format!("a.log.{n}"));
        fs::rename(folder.join("a.log"), &old).expect("renamed");
        append(&old, &format!("late {n}\n"));
    }),
    ("copytruncate", "a.log", |folder, n| {
        fs::copy(folder.join("a.log"), folder.join(format!("a.log.{n}"))).expect("copied");
        File::options().write(true).open(folder.join("a.log")).expect("opens").set_len(0).expect("truncated");
    }),
    ("dateext, olddir", "a.log", |folder, n| {
        fs::create_dir_all(folder.join("old")).expect("made");
        fs::rename(folder.join("a.log"), folder.join(format!("old/a.log-202611{n:02}"))).expect("renamed");
    }),
    ("rotate 2, start 1", "a.log*", |folder, _| {
        let name = |n: usize| folder.join(format!("a.log.{n}"));
        fs::remove_file(name(2)).ok(); // It is not there at first.
        fs::rename(name(1), name(2)).ok(); // The same.
        fs::rename(folder.join("a.log"), name(1)).expect("renamed");
    }),
    ("rotate 0", "a.log", |folder, _| fs::remove_file(folder.join("a.log")).expect("removed")),
];

/// The acknowledged bytes of the file that is called `a.log` now.
fn is_read(running: &Running, log: &Path) -> bool {
    let size = fs::metadata(log).map_or(0, |found| found.len());
    running.board.files(None).iter().any(|file| file.path == log && file.size == size && file.acknowledged == size)
}

#[tokio::test]
async fn each_way_of_logrotate_gives_every_line_once_and_keeps_the_checkpoint_right() {
    for (mode, glob, rotate) in MODES {
        let (folder, log) = folder();
        let yaml = format!("[{{id: a, type: file, paths: ['DIR/{glob}'], scan_interval: 10ms}}]");
        let mut running = start(folder.path(), &yaml);
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        for n in 0..ROTATIONS {
            append(&log, &format!("first {n}\nsecond {n}\n"));
            expected.extend([format!("first {n}"), format!("second {n}")]);
            // Only where the rotated file is still one of the input may it happen before a scan has seen it.
            if mode != "create" {
                found.extend(running.lines(expected.len() - found.len()).await.into_values().flatten());
            }
            // A copy is truncated whether or not it was read.
            if mode == "copytruncate" {
                running.met(mode, || is_read(&running, &log)).await;
            }
            rotate(folder.path(), n);
            if mode.ends_with("late") {
                expected.push(format!("late {n}"));
            }
        }
        append(&log, "last\n");
        expected.push("last".to_owned());
        found.extend(running.lines(expected.len() - found.len()).await.into_values().flatten());
        found.extend(running.stop().await.into_values().flatten());
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{mode}");
        // What is remembered is never more than what is there.
        let lengths: BTreeSet<_> = [17, 24, 5].into();
        let entries = || agent::read_state(&folder.path().join("state")).expect("readable").entries;
        for entry in entries() {
            assert!(lengths.contains(&entry.offset()), "{mode}: {} of {}", entry.offset(), entry.path());
        }
        append(&log, "next\n");
        let mut running = start(folder.path(), &yaml);
        let next: Vec<_> = running.lines(1).await.into_values().flatten().collect();
        assert_eq!(next, ["next"], "{mode}: nothing comes again");
        assert!(running.stop().await.is_empty(), "{mode}: nothing comes again");
        let log = log.to_string_lossy();
        assert!(entries().iter().any(|entry| entry.path() == log && entry.offset() == 10), "{mode}");
    }
}

#[tokio::test]
async fn rotated_generations_are_read_on_oldest_first_after_a_start() {
    let (folder, log) = folder();
    let name = |n: usize| folder.path().join(format!("a.log.{n}"));
    let yaml = "[{id: a, type: file, paths: ['DIR/a.log*'], scan_interval: 10ms}]";
    let mut running = start(folder.path(), yaml);
    for generation in ["oldest", "middle", "newest"] {
        append(&log, &format!("{generation} 1\n"));
        assert_eq!(running.lines(1).await.into_values().flatten().collect::<Vec<_>>(), [format!("{generation} 1")]);
        if generation != "newest" {
            fs::rename(name(1), name(2)).ok(); // Not there at first.
            fs::rename(&log, name(1)).expect("renamed");
            running.until("seen under its new name", |files| files.iter().any(|file| file.path == name(1))).await;
        }
    }
    running.stop().await;
    // Each has grown, and all were rotated once more, while the agent is stopped.
    for (n, (path, generation)) in
        [(name(2), "oldest"), (name(1), "middle"), (log.clone(), "newest")].iter().enumerate()
    {
        append(path, &format!("{generation} 2\n"));
        age(path, Duration::from_secs(300 - 60 * n as u64));
    }
    for (from, to) in [(name(2), name(3)), (name(1), name(2)), (log, name(1))] {
        fs::rename(from, to).expect("renamed");
    }
    let mut running = start(folder.path(), yaml);
    let (mut order, mut lives) = (Vec::new(), BTreeMap::new());
    while order.len() < 3 {
        let group = running.group().await;
        for record in &group.records {
            order.push((String::from_utf8_lossy(group.bytes_of(record)).into_owned(), record.offset));
            lives.insert(group.source.incarnation, group.source.path.clone());
        }
        group.ack.settle();
    }
    let at = |text: &str| (text.to_owned(), 9);
    assert_eq!(order, [at("oldest 2"), at("middle 2"), at("newest 2")], "each at its own offset");
    assert_eq!(lives.len(), 3, "{lives:?}");
    running.stop().await;
}
