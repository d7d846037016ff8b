//! Writes and syncs that fail, and those that come beside each other.

use super::*;

#[test]
fn a_write_that_failed_is_made_good_by_the_next_flush_and_not_before() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    store.log = Arc::new(File::open("/dev/full").expect("the full device")); // Read only: the write fails.
    assert!(store.write(&[saved(1, 10)], &[]).is_err());
    assert!(store.is_torn() && !store.is_durable());
    store.write(&[saved(1, 11)], &[]).expect("only remembered: behind a torn entry nothing would be read");
    assert_eq!(offsets(folder.path()), []);
    store.flush(&[], &[]).expect("a new generation is made");
    assert_eq!(offsets(folder.path()), [(1, 11)]);
    assert!(store.is_durable());
}

#[test]
fn a_failed_write_is_made_good_by_the_next_flush() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    store.log = Arc::new(File::open("/dev/full").expect("the full device")); // Read only: the write fails.
    assert!(store.flush(&[saved(1, 10)], &[]).is_err());
    store.flush(&[], &[]).expect("a new generation is made");
    assert_eq!(offsets(folder.path()), [(1, 10)]);
}

/// A sync beside the writing: it makes durable what was written when it began, and no more.
#[test]
fn what_is_written_during_a_sync_is_durable_with_the_next() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    assert!(store.unsynced().is_none(), "all is durable");
    store.write(&[saved(1, 10)], &[]).expect("writes");
    let first = store.unsynced().expect("something to sync");
    store.write(&[saved(1, 11)], &[]).expect("writes");
    store.synced(first.sync()).expect("synced");
    assert!(!store.is_durable());
    let second = store.unsynced().expect("something to sync");
    store.synced(second.sync()).expect("synced");
    assert!(store.is_durable());
}

#[test]
fn a_sync_that_failed_beside_the_writing_makes_a_new_generation() {
    for is_compacted_since in [false, true] {
        let folder = folder();
        let (mut store, _) = Store::open(folder.path()).expect("opens");
        let log = store.log.clone();
        store.log = Arc::new(File::options().write(true).open("/dev/null").expect("the null device"));
        store.write(&[saved(1, 10)], &[]).expect("the null device takes it");
        let (unsynced, generation) = (store.unsynced().expect("something to sync"), store.generation);
        if is_compacted_since {
            store.log = log;
            store.appended = COMPACT_ENTRIES_MIN + 1;
            store.flush(&[saved(1, 11)], &[]).expect("a new generation");
            store.synced(unsynced.sync()).expect("the generation before matters no more");
            assert!(store.is_durable());
        } else {
            store.synced(unsynced.sync()).expect_err("nothing is on a disk");
            assert!(store.is_torn() && store.wants_generation());
            store.write(&[saved(1, 11)], &[]).expect("only remembered");
            store.flush(&[], &[]).expect("a new generation");
        }
        assert_eq!((store.generation, offsets(folder.path())), (generation + 1, vec![(1, 11)]));
    }
}

/// The null device takes every byte and refuses every fsync: a flush that succeeds there has not asked for one.
#[test]
fn a_flush_that_could_not_be_synced_is_no_flush() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    store.log = Arc::new(File::options().write(true).open("/dev/null").expect("the null device"));
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
