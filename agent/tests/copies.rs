//! Packed files beside those that they are copies of, or are not, by a whole agent whose output is this test.

mod whole;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use whole::packing::{gzip, log, long_lines};
use whole::{Running, append, folder, one, remembered, start};

const YAML: &str = "[{id: a, type: file, paths: ['DIR/a*'], scan_interval: 20ms}]";

/// Nothing comes before what is written to another file.
async fn nothing_but(running: &mut Running, folder: &Path) {
    append(&folder.join("a.log.last"), "the last\n");
    assert_eq!(running.lines(1).await, one("a.log.last", &["the last"]));
}

/// Descriptors of this process for packed files below `folder`.
fn descriptors(folder: &Path) -> usize {
    let all = fs::read_dir("/proc/self/fd").expect("the descriptors of this process");
    let targets = all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(folder) && target.extension().is_some_and(|end| end == "gz")).count()
}

#[tokio::test]
async fn a_copy_of_three_bytes_is_known_by_the_letters_of_its_name() {
    for name in ["a.log.1.gz", "a-2026-11-22-1.log.gz"] {
        let (folder, log) = folder();
        append(&log, "ab\n");
        let mut running = start(folder.path(), YAML);
        running.lines(1).await;
        running.stop().await;
        fs::write(folder.path().join(name), gzip(b"ab\n")).expect("written");
        fs::remove_file(&log).expect("removed");
        let mut running = start(folder.path(), YAML);
        nothing_but(&mut running, folder.path()).await;
        assert_eq!(running.metrics.read.get(), 1, "{name}");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_packed_file_of_three_bytes_ships() {
    let (folder, _) = folder();
    fs::write(folder.path().join("a.gz"), gzip(b"ab\n")).expect("written");
    let mut running = start(folder.path(), YAML);
    assert_eq!(running.lines(1).await, one("a.gz", &["ab"]));
    running.stop().await;
}

#[tokio::test]
async fn an_original_that_is_removed_when_it_is_acknowledged_leaves_its_copy_nothing() {
    let (folder, log) = folder();
    append(&log, "one\ntwo\n");
    let yaml = YAML.replace("type: file", "type: file, delete_after: 300ms");
    let mut running = start(folder.path(), &yaml);
    running.lines(2).await;
    fs::write(log.with_extension("log.1.gz"), gzip(b"one\ntwo\n")).expect("written");
    running.until("it waits", |files| files.len() == 2 && format!("{files:?}").contains("still there")).await;
    running.until("both are removed", <[_]>::is_empty).await;
    assert!(!log.exists() && !log.with_extension("log.1.gz").exists());
    nothing_but(&mut running, folder.path()).await;
    assert_eq!((running.metrics.read.get(), running.metrics.removed.get()), (3, 2));
    running.stop().await;
}

#[tokio::test]
async fn files_that_take_several_turns_to_unpack_are_read_with_one_descriptor() {
    let (folder, log) = folder();
    for n in 0..3 {
        fs::write(log.with_extension(format!("log.{n}.gz")), gzip(long_lines(n, 80).as_bytes())).expect("written");
    }
    append(&log, "plain\n");
    let yaml = YAML.replace("type: file", "type: file, harvester_limit: 1");
    let mut running = start(folder.path(), &yaml);
    let lines = running.lines(241).await;
    assert_eq!(lines.into_values().map(|lines| lines.len()).collect::<Vec<_>>(), [1, 80, 80, 80]);
    running.stop().await;
}

#[tokio::test]
async fn no_more_than_four_files_are_unpacked_at_once() {
    let (folder, plain) = folder();
    let files = 20;
    for n in 0..files {
        let content = format!("file {n}\n{}", log(n * 100, 99));
        let half = [gzip(content.as_bytes()), gzip(b"more")[..5].to_vec()].concat(); // More may come to each.
        fs::write(plain.with_extension(format!("log.{n}.gz")), half).expect("written");
    }
    let mut running = start(folder.path(), YAML);
    let lines = running.lines(2_000).await;
    assert!(lines.len() == 20 && lines.values().all(|lines| lines.len() == 100), "each whole");
    running.until("acknowledged", |files| files.iter().all(|file| file.acknowledged == file.size)).await;
    let held = descriptors(folder.path());
    assert!((20..=24).contains(&held), "one each, and one more where it is unpacked: {held}");
    running.stop().await;
}

#[tokio::test]
async fn a_copy_of_a_file_that_cannot_be_looked_at_waits() {
    let (folder, _) = folder();
    let (sub, away) = (folder.path().join("sub"), folder.path().join("deep/down"));
    fs::create_dir_all(folder.path().join("deep")).expect("made");
    fs::create_dir(&sub).expect("made");
    append(&sub.join("a.log"), &log(0, 200));
    let yaml = "[{id: a, type: file, paths: ['DIR/*/a.log*'], scan_interval: 20ms, close_inactive: 1ms}]";
    let mut running = start(folder.path(), yaml);
    running.lines(200).await;
    running.until("closed", |files| files.iter().all(|file| !file.is_open && file.acknowledged == file.size)).await;
    fs::rename(&sub, &away).expect("renamed");
    std::os::unix::fs::symlink("sub", &sub).expect("linked"); // To itself: nobody can look there.
    let other = folder.path().join("other");
    fs::create_dir(&other).expect("made");
    fs::write(other.join("a.log.1.gz"), gzip(log(0, 100).as_bytes())).expect("written");
    running.until("it waits", |files| files.len() == 2 && format!("{files:?}").contains("reading failed")).await;
    append(&other.join("a.log.last"), "the last\n");
    assert_eq!(running.lines(1).await, one("a.log.last", &["the last"]), "could not look is not deleted");
    fs::remove_file(&sub).expect("removed");
    fs::rename(&away, &sub).expect("renamed");
    running.until("it is found", |files| format!("{files:?}").contains("still there")).await;
    running.stop().await;
}

#[tokio::test]
async fn an_entry_is_kept_until_all_that_may_be_its_copy_is_compared() {
    let (folder, plain) = folder();
    let header = "#".repeat(1_100) + "\n";
    let content = |seed| header.clone() + &long_lines(seed, 25); // More than is unpacked in one turn.
    append(&plain, &content(0));
    let mut running = start(folder.path(), YAML);
    running.lines(26).await;
    running.until("acknowledged", |files| files[0].acknowledged == files[0].size).await;
    running.stop().await;
    fs::remove_file(&plain).expect("removed");
    for n in [1, 2, 3, 0] {
        fs::write(plain.with_extension(format!("log.{n}.gz")), gzip(content(n).as_bytes())).expect("written");
    }
    let mut running = start(folder.path(), YAML);
    let lines = running.lines(3 * 26).await;
    assert!(lines.len() == 3 && lines.values().all(|lines| lines.len() == 26), "{:?}", lines.keys());
    nothing_but(&mut running, folder.path()).await;
    running.stop().await;
}

#[tokio::test]
async fn a_packed_file_that_is_written_anew_in_its_place_is_read_from_its_start() {
    let (folder, plain) = folder();
    let gz = plain.with_extension("log.1.gz");
    fs::write(&gz, gzip(log(0, 500).as_bytes())).expect("written");
    let mut running = start(folder.path(), YAML);
    running.lines(500).await;
    running.until("at rest", |files| files[0].acknowledged == files[0].size).await;
    fs::write(&gz, gzip(log(5_000, 2_000).as_bytes())).expect("written");
    let again: String = running.lines(2_000).await["a.log.1.gz"].iter().map(|line| line.clone() + "\n").collect();
    assert!(again == log(5_000, 2_000), "all of it");
    // And once more, as the copy of a file that is there.
    append(&plain, &log(0, 900));
    running.lines(900).await;
    fs::write(&gz, gzip(log(0, 900).as_bytes())).expect("written");
    running.until("it waits", |files| format!("{files:?}").contains("still there")).await;
    nothing_but(&mut running, folder.path()).await;
    running.stop().await;
}

#[tokio::test]
async fn a_copy_that_is_longer_than_its_original_was_or_differs_at_its_end_is_a_file_of_its_own() {
    let (folder, plain) = folder();
    append(&plain, &log(0, 100));
    let mut running = start(folder.path(), YAML);
    running.lines(100).await;
    fs::write(plain.with_extension("log.1.gz"), gzip((log(0, 100) + "more\n").as_bytes())).expect("written");
    assert_eq!(running.lines(101).await["a.log.1.gz"].len(), 101);
    fs::write(plain.with_extension("log.2.gz"), gzip((log(0, 99) + "line 00099 0000000x\n").as_bytes()))
        .expect("written");
    assert_eq!(running.lines(100).await["a.log.2.gz"].len(), 100);
    running.stop().await;
}

#[tokio::test]
async fn packed_files_of_which_one_is_the_start_of_the_other_are_two() {
    let (folder, plain) = folder();
    let header = "#Fields: date time method\n";
    fs::write(plain.with_extension("log.2.gz"), gzip(header.as_bytes())).expect("written");
    let mut running = start(folder.path(), YAML);
    running.lines(1).await;
    running.until("at rest", |files| files[0].acknowledged == files[0].size).await;
    fs::write(plain.with_extension("log.1.gz"), gzip(format!("{header}one\n").as_bytes())).expect("written");
    assert_eq!(running.lines(2).await["a.log.1.gz"].len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn an_input_that_is_removed_does_not_wait_for_the_copies_in_it() {
    let (folder, plain) = folder();
    append(&plain, &log(0, 100));
    let mut running = start(folder.path(), YAML);
    running.lines(100).await;
    fs::write(plain.with_extension("log.1.gz"), gzip(log(0, 100).as_bytes())).expect("written");
    running.until("it waits", |files| files.len() == 2 && format!("{files:?}").contains("still there")).await;
    let other = whole::checked(folder.path(), "[{id: b, type: file, paths: ['DIR/b*'], scan_interval: 20ms}]");
    running.agent.reloader().reload(other);
    running.until("followed no longer", <[_]>::is_empty).await;
    assert_eq!(running.metrics.lost_bytes.with_label_values(&["deleted"]).get(), 0);
    running.stop().await;
    assert_eq!(remembered(folder.path()).len(), 1);
}

#[tokio::test]
async fn a_copy_that_goes_with_its_original_there_is_no_loss() {
    let (folder, plain) = folder();
    append(&plain, &log(0, 100));
    let yaml = YAML.replace("type: file", "type: file, close_inactive: 1ms");
    let mut running = start(folder.path(), &yaml);
    running.lines(100).await;
    let gz = plain.with_extension("log.1.gz");
    fs::write(&gz, gzip(log(0, 100).as_bytes())).expect("written");
    running.until("it waits", |files| files.len() == 2 && format!("{files:?}").contains("still there")).await;
    fs::remove_file(&gz).expect("removed");
    running.until("let go", |files| files.len() == 1).await;
    assert_eq!(running.metrics.lost_bytes.with_label_values(&["deleted"]).get(), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_is_made_and_then_packed_into_is_a_packed_one() {
    let (folder, plain) = folder();
    append(&plain, &log(0, 100));
    let gz = plain.with_extension("log.1.gz");
    let mut file = File::create(&gz).expect("made");
    let mut running = start(folder.path(), YAML);
    running.lines(100).await;
    running.until("both are followed", |files| files.len() == 2).await;
    file.write_all(&gzip(log(0, 100).as_bytes())).expect("written");
    running.until("it waits", |files| format!("{files:?}").contains("still there")).await;
    nothing_but(&mut running, folder.path()).await;
    running.stop().await;
}
