//! Many files: more than can be open, idle ones, and such that come and go. Each test that counts what a process has runs in
//! one of its own.

mod whole;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use whole::{all, append, entries, folder, start};

const ALONE: &str = "TAILRACE_TEST_ALONE";

/// Runs the test `name` in a process of its own that may have `files` files open; true in that process.
fn is_alone(name: &str, files: usize) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("its own path");
    let script = format!("ulimit -Sn {files} && exec \"$0\" --exact {name} --nocapture --test-threads=1");
    let output = Command::new("sh").args(["-c", &script]).arg(program).env(ALONE, "1").output().expect("runs");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    false
}

fn count(of: &str) -> usize {
    fs::read_dir(format!("/proc/self/{of}")).expect("readable").count()
}

#[tokio::test]
async fn two_hundred_files_with_a_hundred_descriptors_are_read_once_and_none_is_forgotten_when_there_are_none_left() {
    let name =
        "two_hundred_files_with_a_hundred_descriptors_are_read_once_and_none_is_forgotten_when_there_are_none_left";
    if !is_alone(name, 164) {
        return;
    }
    let (folder, _) = folder();
    let paths: Vec<_> = (0..200).map(|n| folder.path().join(format!("{n:03}.log"))).collect();
    let (done, away) = (folder.path().join("done.txt"), folder.path().join("000.log.1"));
    paths.iter().for_each(|path| append(path, &"line\n".repeat(5)));
    append(&done, "one\n");
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, close_inactive: 1ms}, \
        {id: b, type: file, paths: [DIR/done.txt], delete_after: 1ms, close_inactive: 1ms}]";
    let mut running = start(folder.path(), yaml);
    let (mut owed, mut read) = (None, 0);
    while read < 1_000 || owed.is_none() {
        let group = running.group().await;
        if group.source.path.ends_with("done.txt") {
            owed = Some(group);
            continue;
        }
        read += group.records.len();
        group.ack.settle();
    }
    assert_eq!(read, 1_000);
    running.until("closed", |files| files.len() == 201 && files.iter().all(|file| !file.is_open)).await;

    // A writer with descriptors of its own, then nothing is left for the agent.
    let script = "while read f; do echo more >> \"$f\"; done";
    let mut writer = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().expect("runs");
    let mut to_writer = writer.stdin.take().expect("piped");
    // What a scan has in hand at first is free after it: all are taken when a scan has failed for want of one.
    let taken = std::cell::RefCell::new(Vec::new());
    let is_listed = |file: &agent::Shown| file.input == "a" && file.is_listed;
    running
        .until("no scan can look", |files| {
            taken.borrow_mut().extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
            !files.iter().any(is_listed)
        })
        .await;
    fs::rename(&paths[0], &away).expect("renamed"); // No glob names it.
    for path in [&away].into_iter().chain(&paths[1..]) {
        writeln!(to_writer, "{}", path.display()).expect("told");
    }
    owed.expect("a line").ack.settle();
    let cannot = |file: &agent::Shown| file.waits_for.iter().any(|reason| reason.contains("cannot be opened"));
    // Their new size shows that they were looked for after the rename.
    let refused = |file: &&agent::Shown| cannot(file) && file.size == 30;
    running.until("refused", |files| files.iter().filter(refused).count() == 199).await;
    running.until("acknowledged", |files| files.len() == 201 && files.iter().any(|file| file.acknowledged == 4)).await;
    assert!(done.exists());
    drop(taken);

    let more = running.lines(200).await;
    assert!(more.len() == 200 && more.values().all(|lines| *lines == ["more"]), "{more:?}");
    running.until("removed at last", |files| files.len() == 200).await;
    assert!(!done.exists());
    let lost = |reason: &str| running.metrics.lost_bytes.with_label_values(&[reason]).get();
    assert_eq!((lost("deleted"), lost("truncated")), (0, 0));
    assert_eq!(running.metrics.incarnations.with_label_values(&["new"]).get(), 201);
    drop(to_writer);
    writer.wait().expect("ends");
    assert_eq!(running.stop().await, all(&[]), "nothing twice");
    let left = entries(folder.path());
    assert!(left.len() == 200 && left.iter().all(|entry| entry.offset() == 30), "{left:#?}");
}

#[tokio::test]
async fn idle_files_cost_no_thread_and_no_descriptor() {
    if !is_alone("idle_files_cost_no_thread_and_no_descriptor", 1_024) {
        return;
    }
    let (folder, log) = folder();
    append(&log, "one\n");
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, close_inactive: 1ms}]";
    let mut running = start(folder.path(), yaml);
    running.lines(1).await;
    running.until("closed", |files| files.iter().all(|file| !file.is_open)).await;
    let mut before = (count("task"), count("fd"));
    for _ in 0..100 {
        before = before.min((count("task"), count("fd"))); // Without what a scan has in hand for a moment.
    }
    for n in 0..2_000 {
        append(&folder.path().join(format!("{n}.log")), "one\n");
    }
    assert_eq!(running.lines(2_000).await.len(), 2_000);
    running.until("closed", |files| files.len() == 2_001 && files.iter().all(|file| !file.is_open)).await;
    // A scan or the checkpoint may have a descriptor in hand for a moment.
    running.until("as many threads and descriptors as before", |_| (count("task"), count("fd")) == before).await;
    running.stop().await;
}

#[tokio::test]
async fn files_that_are_made_and_renamed_while_the_folder_is_scanned_are_read_once() {
    let (folder, _) = folder();
    let yaml = "[{id: a, type: file, paths: ['DIR/*.log', 'DIR/*.old'], scan_interval: 10ms}]";
    let mut running = start(folder.path(), yaml);
    let writers: Vec<_> = (0..4).map(|writer| writing(folder.path().to_owned(), writer)).collect();
    let mut lines: Vec<_> = running.lines(1_200).await.into_values().flatten().collect();
    let written = writers.into_iter().flat_map(|writer| writer.join().expect("has written"));
    let mut written: Vec<_> = written.collect();
    lines.sort();
    written.sort();
    assert!(lines == written, "{} of {} lines", lines.len(), written.len());
    assert_eq!(running.stop().await, all(&[]), "nothing twice");
}

/// A thread that makes 150 files, renames each while it is written, and tells its lines.
fn writing(folder: PathBuf, writer: usize) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut written = Vec::new();
        for n in 0..150 {
            let (path, old) = (folder.join(format!("{writer}-{n}.log")), folder.join(format!("{writer}-{n}.old")));
            append(&path, &format!("{writer} {n} first\n"));
            fs::rename(&path, &old).expect("renamed");
            append(&old, &format!("{writer} {n} second\n"));
            written.extend(["first", "second"].map(|part| format!("{writer} {n} {part}")));
        }
        written
    })
}
