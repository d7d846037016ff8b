use super::*;
use crate::follow::{Links, Place, open};
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

struct Packed {
    _folder: tempfile::TempDir,
    path: PathBuf,
    follow: Follow,
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).expect("written");
    encoder.finish().expect("finished")
}

impl Packed {
    fn new(packed: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.log.gz");
        std::fs::write(&path, packed).expect("written");
        let (file, inode) = open(&path, Links::Refused).expect("opens");
        let recipe = crate::config::files_of("[{id: a, type: file, paths: [/a]}]")[0].recipe.clone();
        let place = Place { input: 0, path: path.clone().into(), recipe };
        let mut follow = Follow::new(file, place, inode, StreamId(1), service::clock::monotonic());
        assert!(follow.look_for_packing().expect("readable"));
        Self { _folder: folder, path, follow }
    }

    fn window(&self) -> Option<&Window> {
        self.follow.pack.as_ref().and_then(|pack| pack.window.as_ref())
    }

    /// Everything up to the end, as (offset, text), with a line limit of 100,000 bytes.
    fn lines(&mut self) -> Vec<(u64, String)> {
        let mut lines = Vec::new();
        loop {
            let look = self.follow.look(100_000, service::clock::monotonic()).expect("readable");
            assert!(self.window().is_none_or(|window| window.kept_bytes() < 4 << 20), "memory is bounded");
            match look {
                Look::Lines(found) => lines.extend(found.records.iter().map(|r| {
                    let bytes = &found.buffer[r.bytes.start as usize..r.bytes.end as usize];
                    (r.offset, String::from_utf8_lossy(bytes).into_owned())
                })),
                Look::More => {}
                Look::End => return lines,
                look => panic!("{look:?}"),
            }
        }
    }
}

#[test]
fn a_line_without_end_takes_no_more_memory_than_the_limit() {
    let long: String = (0_u32..3_000_000).map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761))).collect();
    let mut packed = Packed::new(&gzip(format!("one\n{long}\ntwo\n").as_bytes()));
    let lines = packed.lines();
    assert_eq!(lines[0], (0, "one".to_owned()));
    assert_eq!(lines[1], (4, long.chars().take(100_000).collect()));
    assert_eq!(lines[2], (4 + 24_000_000 + 1, "two".to_owned()));
    assert_eq!((lines.len(), packed.follow.offset), (3, 24_000_009));
}

#[test]
fn an_old_size_is_no_truncation() {
    let half = [gzip(b"one\ntwo\n"), gzip(b"more")[..12].to_vec()].concat();
    let mut packed = Packed::new(&half);
    assert_eq!(packed.lines().len(), 2);
    assert!(packed.follow.is_pack_ready(half.len() as u64 - 5).expect("readable"), "what was read stands");
    let file = File::options().write(true).open(&packed.path).expect("opens");
    file.set_len(20).expect("truncated");
    assert!(!packed.follow.is_pack_ready(20).expect("readable"), "what was read is gone");
}

#[test]
fn what_is_given_back_is_unpacked_again_and_compared() {
    let mut packed = Packed::new(&gzip(b"one\ntwo\nthree\n"));
    assert_eq!(packed.lines().len(), 3);
    let anchor = Edges::of(b"one\n", b"one\n").anchor();
    assert!(packed.follow.rewind(&event::Progress { offset: 4, anchor }, 1).expect("readable"));
    assert_eq!(packed.lines(), [(4, "two".to_owned()), (8, "three".to_owned())]);
    std::fs::write(&packed.path, gzip(b"another\nfile, and larger\n")).expect("written");
    assert!(packed.follow.rewind(&event::Progress { offset: 4, anchor }, 2).expect("readable"));
    let look = packed.follow.look(100_000, service::clock::monotonic());
    assert!(matches!(look, Ok(Look::Truncated)), "{look:?}");
}
