//! What a listing shows and what is there: folders that could not be read, sizes that are old, files without notifications.

use super::*;
use crate::discover;

fn append(path: &Path, bytes: &[u8]) {
    File::options().create(true).append(true).open(path).expect("opens").write_all(bytes).expect("written");
}

/// A listing in which `change` was made.
fn changed(bench: &Bench, change: impl FnOnce(&mut Listing)) -> Listing {
    let mut listing = scan(&bench.inputs);
    change(&mut listing);
    listing
}

/// A delete event of a file that is there: nothing may be let go or read again, whether the file is open or closed, and
/// whether one reader is on it or two generations of one name are.
#[tokio::test]
async fn a_file_that_a_listing_misses_and_that_is_there_is_read_on() {
    for close_inactive in [Duration::ZERO, Duration::from_secs(300)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut bench = Bench::start_with(folder, BTreeMap::new(), |input| input.close_inactive = close_inactive);
        let mut lines = BTreeMap::new();
        fs::write(bench.path("a.log"), "old\n").expect("written");
        bench.list().await;
        bench.read(&mut lines, 1).await;
        fs::rename(bench.path("a.log"), bench.path("a.log.1")).expect("renamed");
        fs::write(bench.path("a.log"), "new\n").expect("written");
        bench.list().await;
        bench.read(&mut lines, 2).await;
        for _ in 0..3 {
            bench.listings.send(changed(&bench, |listing| listing.files.clear())).await.expect("the stage runs");
        }
        append(&bench.path("a.log.1"), b"old again\n");
        append(&bench.path("a.log"), b"new again\n");
        bench.list().await;
        bench.read(&mut lines, 4).await;
        assert!(lines.into_values().eq([["old", "old again"], ["new", "new again"]]), "{close_inactive:?}");
    }
}

/// The same when it is truly gone: both generations are read to their end and let go, and a new file is another one.
#[tokio::test]
async fn two_generations_of_one_name_that_are_truly_gone_are_read_to_their_ends() {
    let mut bench = Bench::start();
    let (old, new) = (numbered("old", LINES), numbered("new", LINES));
    fs::write(bench.path("a.log"), old.join("\n") + "\n").expect("written");
    let mut lines = BTreeMap::new();
    bench.list().await;
    bench.next(&mut lines).await;
    fs::rename(bench.path("a.log"), bench.path("a.log.1")).expect("renamed");
    fs::write(bench.path("a.log"), new.join("\n") + "\n").expect("written");
    bench.list().await;
    while lines.len() < 2 {
        bench.next(&mut lines).await;
    }
    fs::remove_file(bench.path("a.log.1")).expect("removed");
    fs::remove_file(bench.path("a.log")).expect("removed");
    bench.list().await;
    bench.read(&mut lines, 2 * LINES).await;
    fs::write(bench.path("a.log"), "another\n").expect("written");
    bench.read(&mut lines, 2 * LINES + 1).await;
    assert!(lines.into_values().eq([old, new, vec!["another".to_owned()]]));
}

/// The size of a network file system's cache: what a listing shows may be less than what was read.
#[tokio::test]
async fn nasty_14_an_old_size_in_a_listing_is_not_taken_for_a_truncation() {
    for close_inactive in [Duration::ZERO, Duration::from_secs(300)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut bench = Bench::start_with(folder, BTreeMap::new(), |input| input.close_inactive = close_inactive);
        let mut lines = BTreeMap::new();
        fs::write(bench.path("a.log"), "one\ntwo\n").expect("written");
        bench.list().await;
        bench.read(&mut lines, 2).await;
        for size in [4, 0, 4] {
            let stale = changed(&bench, |listing| {
                (listing.files[0].sighting.size, listing.files[0].sighting.modified_ns) = (size, size as i64);
            });
            bench.listings.send(stale).await.expect("the stage runs");
        }
        append(&bench.path("a.log"), b"three\n");
        bench.list().await;
        bench.read(&mut lines, 3).await;
        assert!(lines.into_values().eq([["one", "two", "three"]]), "{close_inactive:?}");
    }
}

/// All that happens to files, found by scans: with notifications, and without any. Both give every line once and in order.
#[tokio::test]
async fn polling_gives_the_same_as_notifications() {
    for is_watched in [true, false] {
        let mut bench = Bench::start();
        let (reloads, watched) = tokio::sync::watch::channel(bench.inputs.clone());
        let (trigger, stop) = Stop::new();
        let watcher = discover::run_with(is_watched, watched, bench.touched.clone(), bench.listings.clone(), stop);
        let discover = tokio::spawn(watcher);
        let (mut lines, log) = (BTreeMap::new(), bench.path("a.log"));
        let mut count = 0;
        let mut take = async |bench: &mut Bench, more: usize| {
            count += more;
            let all = async {
                while lines.values().map(Vec::len).sum::<usize>() < count {
                    bench.next(&mut lines).await;
                }
            };
            let is_there = tokio::time::timeout(PATIENCE, all).await;
            assert!(is_there.is_ok(), "{count} lines, notifications: {is_watched}; {lines:?}");
        };
        append(&log, b"one\n");
        take(&mut bench, 1).await;
        append(&log, b"two\nthr");
        take(&mut bench, 1).await;
        append(&log, b"ee\n");
        take(&mut bench, 1).await;
        fs::rename(&log, bench.path("a.log.1")).expect("renamed");
        append(&log, b"next\n");
        append(&bench.path("a.log.1"), b"late\n");
        take(&mut bench, 2).await;
        fs::write(&log, "truncated and longer than before\n").expect("written");
        take(&mut bench, 1).await;
        fs::remove_file(&log).expect("removed");
        append(&log, b"made anew\n");
        take(&mut bench, 1).await;
        trigger.stop();
        drop(reloads);
        discover.await.expect("ends");
        let expected: [&[&str]; 4] =
            [&["one", "two", "three", "late"], &["next"], &["truncated and longer than before"], &["made anew"]];
        assert!(lines.values().map(Vec::as_slice).eq(expected), "notifications: {is_watched}; {lines:?}");
    }
}

/// A file that no glob names, of the size at which it was read to its end, and yet with another line in it.
#[tokio::test]
async fn a_renamed_file_that_is_written_anew_to_its_old_size_is_read_from_its_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut bench = Bench::start_with(folder, BTreeMap::new(), |input| input.close_inactive = Duration::ZERO);
    let mut lines = BTreeMap::new();
    fs::write(bench.path("a.log"), "one\n").expect("written");
    bench.list().await;
    bench.read(&mut lines, 1).await;
    fs::rename(bench.path("a.log"), bench.path("a.log.1")).expect("renamed");
    bench.list().await;
    bench.list().await; // Both are taken when a third one can be sent.
    let mut file = File::create(bench.path("a.log.1")).expect("truncated");
    file.write_all(b"two\n").expect("written");
    let written = file.metadata().and_then(|found| found.modified()).expect("has a time");
    file.set_modified(written + Duration::from_secs(1)).expect("is set");
    bench.list().await;
    bench.read(&mut lines, 2).await;
    assert!(lines.into_values().eq([["one"], ["two"]]));
}

/// A file is packed and removed between the beginning of a listing and its end, and before the next one another has its inode.
#[tokio::test]
async fn a_copy_is_known_if_the_same_listing_shows_a_new_file_with_the_inode_of_its_original() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut bench = Bench::start_with(folder, BTreeMap::new(), |input| input.close_inactive = Duration::ZERO);
    let mut lines = BTreeMap::new();
    fs::write(bench.path("a.log"), "one\ntwo\n").expect("written");
    bench.list().await;
    bench.read(&mut lines, 2).await;
    bench.list().await;
    bench.list().await; // The first of both closed it, and was taken.
    let mut old = scan(&bench.inputs).files[0].inode;
    fs::rename(bench.path("a.log"), bench.path("a.log.1")).expect("renamed");
    let before = [scan(&bench.inputs), scan(&bench.inputs)];
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"one\ntwo\n").expect("written");
    fs::write(bench.path("a.log.1.gz.log"), packed.finish().expect("finished")).expect("written");
    fs::remove_file(bench.path("a.log.1")).expect("removed");
    append(&bench.path("b.log"), b"new\n");
    for listing in before {
        bench.listings.send(listing).await.expect("the stage runs"); // The first of both was taken when the second is sent.
    }
    old.birth_ns = Some(1);
    let reused = changed(&bench, |listing| {
        listing.files.iter_mut().filter(|seen| seen.path.ends_with("b.log")).for_each(|seen| seen.inode = old);
    });
    bench.listings.send(reused).await.expect("the stage runs");
    bench.read(&mut lines, 3).await;
    append(&bench.path("b.log"), b"last\n");
    bench.read(&mut lines, 4).await;
    assert_eq!(lines.into_values().collect::<Vec<_>>(), [["one", "two"], ["new", "last"]]);
}
