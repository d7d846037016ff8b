//! Looks at real files.

use super::*;
use std::fs;
use std::io::Write as _;

struct Log {
    folder: tempfile::TempDir,
    follow: Follow,
}

impl Log {
    fn new(content: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.log");
        fs::write(&path, content).expect("written");
        let (file, inode) = open(&path, Links::Refused).expect("opens");
        let yaml = "[{id: a, type: file, paths: [/a]}]";
        let recipe = crate::config::files_of(yaml)[0].recipe.clone();
        let place = Place { input: 0, path: path.into(), recipe };
        let follow = Follow::new(file, place, inode, StreamId(1), service::clock::monotonic());
        Self { folder, follow }
    }

    fn append(&self, content: &[u8]) {
        let path = self.folder.path().join("a.log");
        File::options().append(true).open(path).expect("opens").write_all(content).expect("written");
    }

    /// Everything up to the end, as (offset, text), with a line limit of 200,000 bytes.
    fn lines(&mut self) -> Vec<(u64, String)> {
        let mut lines = Vec::new();
        loop {
            match self.follow.look(200_000, service::clock::monotonic()).expect("readable") {
                Look::Lines(found) => lines.extend(found.records.iter().map(|r| {
                    let bytes = &found.buffer[r.bytes.start as usize..r.bytes.end as usize];
                    (r.offset, String::from_utf8_lossy(bytes).into_owned())
                })),
                Look::More => {}
                Look::End => return lines,
                Look::Packed => panic!("a plain file"),
                Look::Truncated => panic!("taken for truncated"),
            }
        }
    }
}

#[test]
fn an_unfinished_line_waits_for_its_end() {
    let mut log = Log::new(b"one\ntw");
    assert_eq!(log.lines(), [(0, "one".into())]);
    assert_eq!(log.lines(), []);
    log.append(b"o\nthree\n");
    assert_eq!(log.lines(), [(4, "two".into()), (8, "three".into())]);
}

#[test]
fn zeros_before_an_unfinished_first_line_wait_with_it() {
    let mut log = Log::new(b"\0\0tw");
    assert_eq!(log.lines(), []);
    assert_eq!(log.follow.offset, 0, "they are passed over with it");
    log.append(b"o\n");
    assert_eq!(log.lines(), [(2, "two".into())]);
}

#[test]
fn lines_over_the_buffer_edge_are_whole() {
    let line = "x".repeat(CHUNK_BYTES - 10);
    let content = format!("{line}\n0123456789abcdef\n{line}\n");
    let mut log = Log::new(content.as_bytes());
    let lines = log.lines();
    assert_eq!(lines[1], (line.len() as u64 + 1, "0123456789abcdef".into()));
    assert_eq!(lines[2].1, line);
    for length in CHUNK_BYTES - 3..CHUNK_BYTES + 3 {
        let content = format!("{}\nnext\n", "y".repeat(length));
        assert_eq!(Log::new(content.as_bytes()).lines()[1].1, "next", "a line of {length} bytes before it");
    }
}

#[test]
fn a_line_without_end_is_cut_and_its_neighbours_are_whole() {
    let long = "z".repeat(3_000_000);
    let mut log = Log::new(format!("a\n{long}").as_bytes());
    assert_eq!(log.lines(), [(0, "a".into())]);
    assert!(log.follow.long.as_ref().is_some_and(|long| long.kept.len() == 200_000), "memory is bounded");
    log.append(b"zz\nb\n");
    let lines = log.lines();
    assert_eq!(lines[0], (2, "z".repeat(200_000)));
    assert_eq!(lines[1], (3_000_005, "b".into()));
    let again =
        Edges::read(log.follow.file().expect("open"), log.follow.offset).expect("readable").expect("long enough");
    assert_eq!(log.follow.anchor(), again.anchor());
}

#[test]
fn a_long_line_that_is_replaced_before_its_end_is_not_mixed_with_the_other() {
    let mut log = Log::new("z".repeat(300_000).as_bytes());
    assert_eq!(log.lines(), []);
    fs::write(log.folder.path().join("a.log"), "y".repeat(300_000) + "\nb\n").expect("written");
    assert_eq!(log.lines(), [(0, "y".repeat(200_000)), (300_001, "b".into())]);
}

#[test]
fn a_long_line_goes_on_after_its_file_was_closed() {
    let mut log = Log::new(("z".repeat(3_000_000) + "\nb\n").as_bytes());
    for _ in 0..100 {
        match log.follow.look(200_000, service::clock::monotonic()).expect("readable") {
            Look::Lines(lines) => return assert_eq!(lines.end, 3_000_001),
            look => assert!(matches!(look, Look::More), "{look:?}"),
        }
        assert!(log.follow.close(), "another file needs the descriptor");
        assert_eq!(log.follow.open(Links::Refused).expect("opens"), Opened::Same);
    }
    panic!("the end of the line is never found");
}

#[test]
fn a_shorter_file_is_truncated() {
    let mut log = Log::new(b"one\ntwo\n");
    log.lines();
    fs::write(log.folder.path().join("a.log"), b"1\n").expect("written");
    assert!(matches!(log.follow.look(99, service::clock::monotonic()), Ok(Look::Truncated)));
}

#[test]
fn truncated_and_regrown_past_the_offset_between_two_looks_is_truncated() {
    let mut log = Log::new(b"one\ntwo\n");
    log.lines();
    fs::write(log.folder.path().join("a.log"), b"three\nfour\nfive\n").expect("written");
    assert!(matches!(log.follow.look(99, service::clock::monotonic()), Ok(Look::Truncated)));
}

#[test]
fn regrown_between_one_chunk_and_the_next_is_truncated() {
    let mut log = Log::new(b"one\ntwo\n");
    let first = log.follow.look(99, service::clock::monotonic());
    assert!(matches!(first, Ok(Look::Lines(lines)) if !lines.is_full), "its end was not looked at again");
    fs::write(log.folder.path().join("a.log"), b"three\nfour\nfive\n").expect("written");
    assert!(matches!(log.follow.look(99, service::clock::monotonic()), Ok(Look::Truncated)));
}

#[test]
fn a_rewind_reads_again_and_flags_it() {
    let mut log = Log::new(b"one\n");
    log.lines();
    let first = Progress { offset: 4, anchor: log.follow.anchor() };
    log.append(b"two\n");
    log.lines();
    assert!(log.follow.rewind(&first, 1).expect("readable"));
    assert_eq!((log.follow.reread_below, log.follow.epoch), (8, 1));
    assert_eq!(log.lines(), [(4, "two".into())]);
    fs::write(log.folder.path().join("a.log"), b"three\nfour\n").expect("written");
    assert!(!log.follow.rewind(&first, 2).expect("readable"), "it would be read on in the middle of a line");
}

#[test]
fn links_and_pipes_are_not_opened() {
    let log = Log::new(b"secret\n");
    let link = log.folder.path().join("link.log");
    std::os::unix::fs::symlink(log.folder.path().join("a.log"), &link).expect("linked");
    assert!(open(&link, Links::Refused).is_err());
    assert!(open(log.folder.path(), Links::Refused).is_err());
}

#[test]
fn a_file_at_rest_is_small() {
    // Twenty thousand of them are followed in 80 MB: what only reading needs stands behind a pointer.
    assert!(size_of::<Follow>() <= 376, "{} bytes", size_of::<Follow>());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("a.log");
    std::fs::write(&path, "one\n two\nthree\n").expect("written");
    let parsers = "parsers: [{multiline: {pattern: '^ ', match: after}}]";
    let recipe = crate::config::files_of(&format!("[{{id: a, type: file, paths: [/a], {parsers}}}]"))[0].recipe.clone();
    let (file, inode) = open(&path, Links::Refused).expect("opens");
    let place = Place { input: 0, path: path.into(), recipe };
    let mut follow = Follow::new(file, place, inode, StreamId(1), service::clock::monotonic());
    assert!(matches!(follow.look(1_000, service::clock::monotonic()), Ok(Look::Lines(_))));
    follow.rest();
    assert!(matches!(follow.way, Way::Assembled(_)), "an event is open");
    follow.flush().expect("the open event");
    follow.rest();
    assert!(matches!(follow.way, Way::Untold), "nothing is open: its parsers are let go");
}

#[test]
fn what_is_to_be_read_again_waits_for_a_turn() {
    let mut log = Log::new(b"one\ntwo\n");
    assert_eq!(log.lines().len(), 2);
    log.follow.seen.size = 8;
    log.follow.note_end();
    assert_eq!(log.follow.waiting(), 0);
    let start = Progress { offset: 0, anchor: Anchor::default() };
    assert!(log.follow.rewind(&start, 1).expect("readable"));
    assert_eq!(log.follow.waiting(), 8, "it was given back");
}

#[test]
fn behind_the_end_of_an_input_that_is_gone_nothing_waits() {
    let mut log = Log::new(b"one\ntwo\n");
    log.follow.seen.size = 8;
    assert_eq!(log.follow.waiting(), 8);
    log.follow.ends_at = Some(0);
    assert_eq!(log.follow.waiting(), 0);
}

#[test]
fn an_unfinished_last_line_waits_for_its_writer_and_not_for_a_turn_also_when_no_listing_shows_it() {
    let mut log = Log::new(b"one\n");
    log.follow.seen.size = 4;
    log.append(b"two\nthr");
    assert_eq!(log.lines().len(), 2);
    log.follow.note_end();
    log.follow.is_listed = false;
    assert_eq!(log.follow.waiting(), 0);
    log.append(b"ee\n");
    assert_eq!(log.follow.waiting(), 6);
}
