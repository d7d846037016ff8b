//! A state folder as an older release left it: it is read, files go on where they were, and it is written in the new form.

use super::*;
use crate::checkpoint::Store;

/// One entry of a generation of version 1, framed as the module's header says.
fn entry(sequence: u64, payload: &str) -> Vec<u8> {
    let sum = crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), payload.as_bytes());
    let head = [&(payload.len() as u32).to_le_bytes()[..], &sum.to_le_bytes(), &sequence.to_le_bytes()].concat();
    [&head, payload.as_bytes()].concat()
}

#[tokio::test]
async fn the_form_of_an_older_release_is_read_on_and_written_anew() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (log, state) = (folder.path().join("a.log"), folder.path().join("state"));
    fs::write(&log, "one\ntwo\n").expect("written");
    let (file, inode) = open(&log, Links::Refused).expect("opens");
    let anchor = Edges::read(&file, 4).expect("readable").expect("long enough").anchor();
    // Neither `cuts` nor `cursor`: the first release had none.
    let put = serde_json::json!({"put": {"input": "a", "incarnation": "0000000000000007", "path": log, "device": inode.device,
        "inode": inode.number, "birth_ns": inode.birth_ns, "generation": 3, "offset": 4, "head_bytes": anchor.head_bytes,
        "head": anchor.head, "tail": anchor.tail}});
    let entries = [entry(1, &put.to_string()), entry(2, r#"{"snapshot":{"files":1}}"#)].concat();
    fs::create_dir(&state).expect("made");
    let old = [&b"TAILRACE\x01\0\0\0"[..], &entries].concat();
    fs::write(state.join("checkpoint.5"), &old).expect("written");

    let (mut store, loaded) = Store::open(&state).expect("opens");
    assert_eq!((loaded.damage.len(), loaded.first_start), (0, false));
    assert_eq!(fs::read(state.join("checkpoint.5")).expect("kept"), old, "a step back is possible");
    let mut later: Vec<_> = loaded.files.values().cloned().collect();
    later[0].cuts = vec![8];
    store.flush(&later, &[]).expect("flushes");
    drop(store);
    let (_store, loaded) = Store::open(&state).expect("opens");
    assert_eq!(loaded.files.into_values().collect::<Vec<_>>(), later, "with what it could not hold before");
    assert!(state.join("checkpoint.7").exists());

    let mut bench = Bench::start_in(folder, later.into_iter().map(|saved| (saved.key(), saved)).collect());
    bench.list().await;
    let group = bench.groups.recv().await.expect("the stage runs");
    assert_eq!((group.records[0].offset, group.source.incarnation), (4, Incarnation(7)));
}
