//! Very many small files: what is written for them grows with what happens to them, not with how many there are.

use super::power::Op;
use super::*;

/// Files of the test; half a million have the same figures, which count entries and not time.
const FILES: u64 = 40_000;
/// Files that come, and are done with, between two flushes.
const A_FLUSH: u64 = 500;

/// Bytes written to new generations, and appended to them.
fn written(ops: &[Op]) -> (usize, usize) {
    let (mut compacted, mut appended) = (0, 0);
    for op in ops {
        match op {
            Op::Write { at: 0, bytes } => compacted += bytes.len(),
            Op::Write { bytes, .. } => appended += bytes.len(),
            _ => {}
        }
    }
    (compacted, appended)
}

#[test]
fn nasty_16_very_many_small_files_make_no_storm_of_compactions() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    let first = store.generation;
    power::watch_anew(None, false);
    let all: Vec<_> = (0..FILES).map(|n| saved(n, 0)).collect();
    // Each comes, is read to its end, and goes.
    for files in all.chunks(A_FLUSH as usize) {
        store.flush(files, &[]).expect("flushes");
        let read: Vec<_> = files.iter().map(|file| saved(file.incarnation.0, 100)).collect();
        store.flush(&read, &[]).expect("flushes");
    }
    for files in all.chunks(A_FLUSH as usize) {
        store.flush(&[], &files.iter().map(Saved::key).collect::<Vec<_>>()).expect("flushes");
    }
    let (compacted, appended) = written(&power::done_so_far());
    let compactions = store.generation - first;
    eprintln!(
        "figures many files: {FILES} files, {compactions} compactions, {compacted} bytes in them, {appended} appended"
    );
    assert!(compacted <= appended / 2, "{compacted} bytes of compactions, {appended} appended");
    assert!(compactions <= 3 * FILES / COMPACT_ENTRIES_MIN as u64, "{compactions} compactions");
    assert_eq!(offsets(folder.path()), []);
    power::watch_anew(None, false); // What other tests of this thread do is theirs.
}
