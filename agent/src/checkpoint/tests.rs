//! What was flushed is read back, whatever happens to the files in between.

use super::*;

fn saved(n: u64, offset: u64) -> Saved {
    Saved {
        input: "nginx".into(),
        incarnation: Incarnation(n),
        path: format!("/var/log/app-{n}.log"),
        inode: Inode { device: 1, number: n, birth_ns: Some(5) },
        generation: 0,
        progress: Progress { offset, anchor: Anchor { head_bytes: 9, head: u64::MAX, tail: 2 } },
        cursor: None,
    }
}

fn offsets(folder: &Path) -> Vec<(u64, u64)> {
    let loaded = load(folder).expect("readable");
    loaded.files.values().map(|s| (s.incarnation.0, s.progress.offset)).collect()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn what_was_flushed_is_read_back() {
    let folder = folder();
    let (mut store, loaded) = Store::open(folder.path()).expect("opens");
    assert!(loaded.first_start && loaded.files.is_empty() && loaded.damage.is_empty());
    store.flush(&[saved(1, 10), saved(2, 20)], &[]).expect("flushes");
    store.flush(&[saved(1, 11)], &[saved(2, 0).key()]).expect("flushes");
    assert_eq!(offsets(folder.path()), [(1, 11)]);
    drop(store);
    let (_store, loaded) = Store::open(folder.path()).expect("opens again");
    assert!(!loaded.first_start && loaded.damage.is_empty());
    assert_eq!(loaded.files.values().collect::<Vec<_>>(), [&saved(1, 11)]);
}

#[test]
fn many_flushes_are_compacted_and_two_generations_stay() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    for offset in 0..3 * COMPACT_ENTRIES_MIN as u64 {
        store.files.insert(saved(1, 0).key(), saved(1, offset)); // What a flush does, without its fsync.
        store.appended += 1;
        if store.appended > COMPACT_ENTRIES_MIN {
            store.flush(&[saved(1, offset)], &[]).expect("flushes");
        }
    }
    store.flush(&[saved(1, 77)], &[]).expect("flushes");
    assert_eq!(offsets(folder.path()), [(1, 77)]);
    assert_eq!(generations(folder.path()).expect("listed").len(), 2);
}

#[test]
fn a_second_agent_is_refused_and_told_who_holds_the_folder() {
    let folder = folder();
    let _first = Store::open(folder.path()).expect("opens");
    let error = Store::open(folder.path()).expect_err("is locked").to_string();
    assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
}

#[test]
fn cut_at_any_byte_it_starts_with_an_older_offset_at_worst() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    store.flush(&[saved(1, 10), saved(2, 20)], &[]).expect("flushes");
    drop(store);
    let (mut store, _) = Store::open(folder.path()).expect("opens"); // The snapshot holds 10 and 20.
    store.flush(&[saved(1, 11)], &[]).expect("flushes");
    store.flush(&[saved(2, 22)], &[]).expect("flushes");
    let newest = path_of(folder.path(), store.generation);
    let whole = fs::read(&newest).expect("readable");
    let mut seen = std::collections::BTreeSet::new();
    for length in 0..=whole.len() {
        fs::write(&newest, &whole[..length]).expect("written");
        let loaded = load(folder.path()).expect("readable");
        let found: Vec<_> = loaded.files.values().map(|s| s.progress.offset).collect();
        assert!(found == [10, 20] || found == [11, 20] || found == [11, 22], "cut at {length}: {found:?}");
        seen.insert(found);
    }
    assert_eq!(seen.len(), 3, "the newest sound state is used");
}

#[test]
fn a_flipped_bit_is_noticed_and_never_skips_ahead() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    store.flush(&[saved(1, 10)], &[]).expect("flushes");
    drop(store);
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    store.flush(&[saved(1, 11)], &[]).expect("flushes");
    let newest = path_of(folder.path(), store.generation);
    let whole = fs::read(&newest).expect("readable");
    for bit in 0..whole.len() * 8 {
        let mut bent = whole.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        fs::write(&newest, &bent).expect("written");
        let loaded = load(folder.path()).expect("readable");
        assert!(!loaded.damage.is_empty(), "bit {bit} was not noticed");
        let found: Vec<_> = loaded.files.values().map(|s| s.progress.offset).collect();
        assert!(found == [10] || found == [11], "bit {bit}: {found:?}");
    }
}

#[test]
fn a_failed_write_is_made_good_by_the_next_flush() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    store.log = File::open("/dev/full").expect("the full device"); // Read only: the write fails.
    assert!(store.flush(&[saved(1, 10)], &[]).is_err());
    store.flush(&[], &[]).expect("a new generation is made");
    assert_eq!(offsets(folder.path()), [(1, 10)]);
}

/// The null device takes every byte and refuses every fsync: a flush that succeeds there has not asked for one.
#[test]
fn a_flush_that_could_not_be_synced_is_no_flush() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    store.log = File::options().write(true).open("/dev/null").expect("the null device");
    let error = store.flush(&[saved(1, 10)], &[]).expect_err("nothing is on a disk");
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
    store.flush(&[], &[]).expect("a new generation is made");
    assert_eq!(offsets(folder.path()), [(1, 10)]);
}

#[test]
fn a_generation_that_could_not_be_synced_gets_no_name() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    store.flush(&[saved(1, 10)], &[]).expect("flushes");
    let (before, making) = (generations(folder.path()).expect("listed"), folder.path().join("checkpoint.new"));
    std::os::unix::fs::symlink("/dev/null", &making).expect("linked");
    store.is_torn = true;
    let error = store.flush(&[saved(1, 11)], &[]).expect_err("nothing is on a disk");
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
    assert_eq!(generations(folder.path()).expect("listed"), before);
    assert_eq!(offsets(folder.path()), [(1, 10)]);
    fs::remove_file(making).expect("removed");
    store.flush(&[], &[]).expect("the next one makes it good");
    assert_eq!(offsets(folder.path()), [(1, 11)]);
}

#[test]
fn a_checkpoint_of_a_later_version_is_left_unread_and_said() {
    let folder = folder();
    drop(Store::open(folder.path()).expect("opens"));
    let newest = generations(folder.path()).expect("listed").into_iter().max().expect("one");
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&99_u32.to_le_bytes());
    fs::write(path_of(folder.path(), newest), bytes).expect("written");
    let (_, loaded) = Store::open(folder.path()).expect("opens");
    assert!(loaded.damage.concat().contains("version 99"), "{:?}", loaded.damage);
}

#[test]
fn a_journals_cursor_is_remembered_and_an_entry_without_one_is_read() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    let (file, journal) = (saved(1, 10), Saved { cursor: Some("s=1;i=2".into()), ..saved(2, 0) });
    store.flush(&[file.clone(), journal.clone()], &[]).expect("flushes");
    let loaded = load(folder.path()).expect("readable");
    assert_eq!(loaded.files.into_values().collect::<Vec<_>>(), [file.clone(), journal]);
    // A file's entry is what it was before there were cursors, byte for byte.
    let text = serde_json::to_string(&Line::Put(Put::from(&file))).expect("is JSON");
    assert!(!text.contains("cursor"), "{text}");
    let Line::Put(put) = serde_json::from_str(&text).expect("is read") else { panic!("an entry of a file") };
    assert_eq!(Saved::try_from(put), Ok(file));
}
