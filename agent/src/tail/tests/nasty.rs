//! What other agents lose lines by. The numbers are those of the reference, "Nasty cases to handle first".

use super::*;

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn append(path: &Path, bytes: &[u8]) {
    File::options().append(true).open(path).expect("opens").write_all(bytes).expect("written");
}

fn started(option: impl FnOnce(&mut FileInput)) -> Bench {
    Bench::start_with(tempfile::tempdir().expect("a temporary folder"), BTreeMap::new(), option)
}

/// Two listings: the first may close what is idle, the second is taken only after that.
async fn close_idle(bench: &Bench) {
    bench.list().await;
    bench.list().await;
}

/// Reads until `expected` is there, in whatever order the files come.
async fn check(mut bench: Bench, mut lines: BTreeMap<StreamId, Vec<String>>, mut expected: Vec<String>) {
    bench.read(&mut lines, expected.len()).await;
    let mut read: Vec<_> = lines.into_values().flatten().collect();
    read.sort_unstable();
    expected.sort_unstable();
    assert!(read == expected, "{} lines read, {} written", read.len(), expected.len());
}

#[tokio::test]
async fn nasty_01_an_offset_beyond_the_end_of_a_file_on_a_reused_inode_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("a.log"), "new\n").expect("written");
    let (_, inode) = open(&folder.path().join("a.log"), Links::Refused).expect("opens");
    let progress = Progress { offset: 1_000_000, anchor: event::Anchor { head_bytes: 1024, head: 1, tail: 2 } };
    let path = folder.path().join("a.log").to_string_lossy().into_owned();
    let saved = Saved {
        input: "a".into(),
        incarnation: Incarnation(7),
        path,
        inode,
        generation: 0,
        progress,
        cuts: vec![],
        cursor: None,
        packed: None,
    };
    let bench = Bench::start_in(folder, BTreeMap::from([(saved.key(), saved)]));
    bench.list().await;
    check(bench, BTreeMap::new(), vec!["new".to_owned()]).await;
}

#[tokio::test]
async fn nasty_02_truncated_and_regrown_past_the_offset_between_two_looks_is_read_from_its_start() {
    let mut bench = started(|_| ());
    let (old, new, mut lines) = (numbered("old", 3), numbered("new", 300), BTreeMap::new());
    fs::write(bench.path("a.log"), text(&old)).expect("written");
    bench.list().await;
    bench.next(&mut lines).await;
    fs::write(bench.path("a.log"), text(&new)).expect("written");
    bench.list().await;
    check(bench, lines, [old, new].concat()).await;
}

#[tokio::test]
async fn nasty_03_a_second_rotation_while_the_first_file_is_being_read_loses_nothing() {
    let mut bench = started(|_| ());
    let (mut lines, mut expected) = (BTreeMap::new(), Vec::new());
    for generation in 0..4 {
        let written = numbered(&format!("generation {generation}"), LINES / 4);
        fs::write(bench.path("a.log"), text(&written)).expect("written");
        expected.extend(written);
        bench.list().await;
        bench.next(&mut lines).await;
        fs::rename(bench.path("a.log"), bench.path(&format!("a.log.{generation}"))).expect("renamed");
    }
    check(bench, lines, expected).await;
}

#[tokio::test]
async fn nasty_04_a_rotated_file_with_megabytes_to_read_is_not_given_up() {
    let mut bench = started(|input| input.close_inactive = Duration::ZERO);
    let (written, mut lines) = (numbered("old", LINES), BTreeMap::new());
    fs::write(bench.path("a.log"), text(&written)).expect("written");
    bench.list().await;
    bench.next(&mut lines).await;
    fs::rename(bench.path("a.log"), bench.path("a.log.1")).expect("renamed");
    for _ in 0..5 {
        bench.list().await;
        bench.next(&mut lines).await;
    }
    check(bench, lines, written).await;
}

#[tokio::test]
async fn nasty_05_closed_with_unacknowledged_lines_that_are_given_back_is_read_from_the_acknowledged_offset() {
    let mut bench = started(|input| input.close_inactive = Duration::ZERO);
    fs::write(bench.path("a.log"), "one\ntwo\n").expect("written");
    bench.list().await;
    let group = bench.groups.recv().await.expect("the stage runs");
    close_idle(&bench).await;
    let progress = Progress { offset: 0, anchor: event::Anchor::default() };
    bench._kept.2.send(Rewind { stream: group.source.stream, epoch: 1, progress }).expect("the stage runs");
    append(&bench.path("a.log"), b"three\n");
    bench.list().await;
    let again = bench.groups.recv().await.expect("the stage runs");
    assert_eq!((again.records.len(), again.records[0].offset, again.reread), (3, 0, true));
    assert_eq!(again.source.incarnation, group.source.incarnation);
}

#[tokio::test]
async fn nasty_06_what_is_written_while_a_file_is_closed_is_read() {
    // T-14, and at offset 0, where there is nothing yet to know the file by.
    for first in ["one\n", "on"] {
        let mut bench = started(|input| input.close_inactive = Duration::ZERO);
        fs::write(bench.path("a.log"), first).expect("written");
        bench.list().await;
        let mut lines = BTreeMap::new();
        if first.ends_with('\n') {
            bench.next(&mut lines).await;
        }
        close_idle(&bench).await;
        let stale = scan(&bench.inputs);
        append(&bench.path("a.log"), if first.ends_with('\n') { b"two\n" } else { b"e\ntwo\n" });
        bench.listings.send(stale).await.expect("the stage runs");
        bench.list().await;
        check(bench, lines, vec!["one".to_owned(), "two".to_owned()]).await;
    }
}

#[tokio::test]
async fn nasty_06_a_file_renamed_after_it_was_closed_is_read_on() {
    let mut bench = started(|input| input.close_inactive = Duration::ZERO);
    fs::write(bench.path("a.log"), "one\n").expect("written");
    bench.list().await;
    let mut lines = BTreeMap::new();
    bench.next(&mut lines).await;
    close_idle(&bench).await;
    fs::rename(bench.path("a.log"), bench.path("a.log.1")).expect("renamed"); // No glob names it any more.
    append(&bench.path("a.log.1"), b"two\n");
    bench.list().await;
    check(bench, lines, vec!["one".to_owned(), "two".to_owned()]).await;
}

/// T-26, T-31: more files than descriptors.
#[tokio::test]
async fn nasty_07_files_that_cannot_all_be_open_are_all_read_and_none_is_taken_for_deleted() {
    let bench = started(|input| input.harvester_limit = Some(2));
    let mut expected = Vec::new();
    for file in 0..40 {
        let written = numbered(&format!("file {file}"), 50);
        fs::write(bench.path(&format!("{file}.log")), text(&written)).expect("written");
        expected.extend(written);
    }
    bench.list().await;
    check(bench, BTreeMap::new(), expected).await;
}

#[tokio::test]
async fn nasty_08_two_files_with_the_same_first_kilobytes_are_both_read() {
    let mut bench = started(|_| ());
    let header = numbered("the same header", 200);
    let (first, second) = ([header.clone(), numbered("first", 5)].concat(), [header, numbered("second", 5)].concat());
    fs::write(bench.path("a.log"), text(&first)).expect("written");
    let mut lines = BTreeMap::new();
    bench.list().await;
    bench.next(&mut lines).await;
    fs::write(bench.path("b.log"), text(&second)).expect("written");
    bench.list().await;
    check(bench, lines, [first, second].concat()).await;
}

/// T-113. A size that a network file system remembers cannot be made here; blocks that have not arrived can.
#[tokio::test]
async fn nasty_14_zeros_at_the_end_are_waited_for_until_their_content_arrives() {
    use std::os::unix::fs::FileExt as _;
    let mut bench = started(|_| ());
    let file = File::create(bench.path("a.log")).expect("made");
    file.write_all_at(b"one\n", 0).expect("written");
    file.set_len(100).expect("grown");
    let mut lines = BTreeMap::new();
    bench.list().await;
    bench.next(&mut lines).await;
    close_idle(&bench).await;
    file.write_all_at(b"two\n", 4).expect("written");
    bench.list().await;
    check(bench, lines, vec!["one".to_owned(), "two".to_owned()]).await;
}

#[tokio::test]
async fn nasty_15_a_log_deleted_while_the_output_is_down_is_read_to_its_end() {
    let mut bench = started(|input| input.close_inactive = Duration::ZERO);
    let (written, mut lines) = (numbered("old", LINES), BTreeMap::new());
    fs::write(bench.path("a.log"), text(&written)).expect("written");
    bench.list().await;
    bench.next(&mut lines).await;
    fs::remove_file(bench.path("a.log")).expect("removed");
    for _ in 0..3 {
        bench.list().await;
        bench.next(&mut lines).await;
    }
    check(bench, lines, written).await;
}
