//! What the checkpoint remembers of files, and for how long; offsets beyond four gigabytes.

mod whole;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use whole::{append, folder, one, remembered, start};

#[tokio::test]
async fn the_entry_of_a_file_that_does_not_grow_expires_once_all_of_it_is_acknowledged() {
    let (folder, log) = folder();
    let other = folder.path().join("owed.log");
    let yaml =
        "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, ignore_older: 1s, clean_inactive: 1500ms}]";
    append(&log, "one\n");
    let mut running = start(folder.path(), yaml);
    assert_eq!(running.lines(1).await, one("a.log", &["one"]));
    append(&other, "owed\n");
    let owed = running.group().await;
    let names = || remembered(folder.path()).into_keys().collect::<Vec<_>>();
    running.met("expired", || names() == ["owed.log"]).await;
    append(&log, "two\n");
    assert_eq!(running.lines(1).await, one("a.log", &["two"]), "in this life it is known all the same");
    running.met("it is an entry again", || remembered(folder.path()).get("a.log") == Some(&8)).await;
    assert!(names().contains(&"owed.log".to_owned()), "it is owed");
    owed.ack.settle();
    running.met("both expired", || names().is_empty()).await;
    running.stop().await;
    // Both are old now: they are not read again, but what is appended is.
    append(&log, "three\n");
    whole::age(&log, std::time::Duration::from_secs(60));
    let running = start(folder.path(), yaml);
    running.until("seen", |files| files.len() == 2 && files.iter().all(|file| file.offset == file.size)).await;
    assert!(running.stop().await.is_empty());
}

#[tokio::test]
async fn a_file_of_five_gigabytes_is_read_on_and_truncated() {
    const START: u64 = 5 << 30;
    let (folder, log) = folder();
    let file = File::create(&log).expect("made");
    file.write_all_at(b"first line\n", 0).expect("written");
    file.write_all_at(b"\nold\n", START - 5).expect("written"); // A hole before it takes no room.
    let yaml = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, start: end}]";
    let mut running = start(folder.path(), yaml);
    running.until("seen", |files| files.iter().any(|file| file.offset == START)).await;
    append(&log, "one\n");
    let group = running.group().await;
    assert_eq!((group.bytes_of(&group.records[0]), group.records[0].offset), (&b"one"[..], START));
    group.ack.settle();
    running.stop().await;
    assert_eq!(remembered(folder.path()), BTreeMap::from([("a.log".to_owned(), START + 4)]));
    append(&log, "two\n");
    let mut running = start(folder.path(), yaml);
    let group = running.group().await;
    assert_eq!((group.bytes_of(&group.records[0]), group.records[0].offset), (&b"two"[..], START + 4));
    group.ack.settle();
    running.until("acknowledged", |files| files[0].acknowledged == START + 8).await;
    fs::write(&log, "after\n").expect("written");
    assert_eq!(running.lines(1).await, one("a.log", &["after"]));
    running.stop().await;
    assert_eq!(remembered(folder.path()), BTreeMap::from([("a.log".to_owned(), 6)]));
}
