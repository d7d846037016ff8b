//! What was flushed is read back, whatever happens to the files in between.

mod failing;
mod many;
pub(super) mod power;

use super::*;
use event::Anchor;

fn saved(n: u64, offset: u64) -> Saved {
    let inode = Inode { device: 1, number: n, birth_ns: Some(5) };
    let progress = Progress { offset, anchor: Anchor { head_bytes: 9, head: u64::MAX, tail: 2 } };
    Saved::new("nginx".into(), Incarnation(n), format!("/var/log/app-{n}.log").into(), inode, progress)
}

/// Entries appended to the newest generation.
pub(crate) fn entries_in(folder: &Path) -> usize {
    let newest = generations(folder).expect("listed").into_iter().max().expect("one");
    let (lines, damage) = decode(&fs::read(path_of(folder, newest)).expect("readable"));
    assert_eq!(damage, None);
    lines.len()
}

/// Lets everything that this thread's store does to its folder fail, or no longer.
pub(crate) fn fail_from_now_on(fails: bool) {
    power::watch_anew(fails.then_some(0), true);
}

impl Store {
    fn write(&mut self, puts: &[Saved], forgets: &[Key]) -> io::Result<()> {
        self.write_shared(&mut puts.iter().cloned().map(Arc::new), forgets)
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

/// The process ends without a word: nothing is flushed, nothing is dropped.
#[test]
fn what_was_written_outlives_the_process_without_a_flush() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    store.flush(&[saved(1, 10), saved(2, 20)], &[]).expect("flushes");
    power::watch_anew(None, false);
    for offset in 11..=15 {
        store.write(&[saved(1, offset)], &[]).expect("writes");
        assert_eq!(offsets(folder.path()), [(1, offset), (2, 20)]);
        assert!(!store.is_durable());
    }
    store.write(&[], &[saved(2, 0).key()]).expect("writes");
    assert_eq!(offsets(folder.path()), [(1, 15)]);
    assert_eq!(power::syncs(), 0, "a write does not wait for the disk");
    store.flush(&[], &[]).expect("flushes");
    assert!(store.is_durable() && power::syncs() == 1, "a flush without news makes durable what was written");
    store.flush(&[], &[]).expect("flushes");
    assert_eq!(power::syncs(), 1, "there was nothing to make durable");
}

/// A write waits for nothing, so it must not be what makes a generation.
#[test]
fn writes_alone_are_never_compacted() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    let generation = store.generation;
    store.appended = COMPACT_ENTRIES_MIN + 1; // So many writes later.
    store.write(&[saved(1, 10)], &[]).expect("writes");
    assert_eq!(store.generation, generation);
    store.flush(&[], &[]).expect("flushes");
    assert_eq!((store.generation, offsets(folder.path())), (generation + 1, vec![(1, 10)]));
}

#[test]
fn many_flushes_are_compacted_and_two_generations_stay() {
    let folder = folder();
    let (mut store, _) = Store::open(folder.path()).expect("opens");
    for offset in 0..3 * COMPACT_ENTRIES_MIN as u64 {
        store.files.insert(saved(1, 0).key(), saved(1, offset).into()); // What a flush does, without its fsync.
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

/// A generator of its own (SplitMix64), so that a seed means the same in ten years.
struct Random(u64);

impl Random {
    fn seeded(seed: u64) -> Self {
        eprintln!("seed {seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, and without, `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }
}

/// The two generations that many flushes of seven files leave, and each offset that was ever flushed.
struct Real {
    folder: tempfile::TempDir,
    /// Older and newer: path and bytes.
    generations: [(PathBuf, Vec<u8>); 2],
    flushed: BTreeMap<Key, Vec<u64>>,
}

impl Real {
    fn new() -> Self {
        let (folder, mut flushed) = (folder(), BTreeMap::<Key, Vec<u64>>::new());
        for start in 0..3 {
            let (mut store, _) = Store::open(folder.path()).expect("opens");
            for step in 1..=4 {
                let offset = start * 1_000 + step * 10;
                let puts: Vec<_> = (1..=7).filter(|n| (n + step) % 2 == 0).map(|n| saved(n, offset + n)).collect();
                if step == 3 {
                    store.write(&puts, &[saved(7, 0).key()]).expect("writes");
                } else {
                    store.flush(&puts, &[saved(7, 0).key()]).expect("flushes");
                }
                puts.iter().for_each(|put| flushed.entry(put.key()).or_default().push(put.progress.offset));
            }
        }
        let mut numbers = generations(folder.path()).expect("listed");
        numbers.sort_unstable();
        let of = |number| {
            let path = path_of(folder.path(), number);
            (path.clone(), fs::read(path).expect("readable"))
        };
        let generations = [of(numbers[0]), of(numbers[1])];
        Self { folder, generations, flushed }
    }

    /// Reads what is there: only offsets that were flushed, damage told with path and byte, and an agent can start on it.
    #[track_caller]
    fn check(&self, is_damaged: bool, what: &str) -> Loaded {
        let loaded = load(self.folder.path()).expect("readable");
        assert_eq!(!loaded.damage.is_empty(), is_damaged, "{what}: {:?}", loaded.damage);
        for damage in &loaded.damage {
            assert!(damage.contains("/checkpoint.") && damage.contains(" byte "), "{what}: {damage}");
        }
        for (key, found) in &loaded.files {
            let offset = found.progress.offset;
            assert!(self.flushed[key].contains(&offset), "{what}: {key:?} at {offset}, which was never flushed");
        }
        loaded
    }

    /// The files that all generations know; the seventh is forgotten again in each flush, so it may be half there.
    fn knows_all(loaded: &Loaded) -> bool {
        (1..=6).all(|n| loaded.files.contains_key(&saved(n, 0).key()))
    }

    fn put_back(&self) {
        for (path, bytes) in &self.generations {
            put(path, bytes);
        }
    }
}

/// Makes `path` hold `bytes`, without emptying it first: that costs a wait for the disk.
fn put(path: &Path, bytes: &[u8]) {
    let mut file = File::options().create(true).truncate(false).write(true).open(path).expect("opens");
    file.write_all(bytes).expect("written");
    file.set_len(bytes.len() as u64).expect("cut");
}

#[test]
fn a_real_checkpoint_cut_at_each_length_starts_and_never_skips() {
    let real = Real::new();
    let [(older, _), (newer, whole)] = &real.generations;
    assert!(Real::knows_all(&real.check(false, "whole")));
    let snapshot_ends =
        (0..=whole.len()).find(|&end| decode(&whole[..end]).0.len() == 7).expect("six files and an end");
    for length in 0..=whole.len() {
        put(newer, &whole[..length]);
        let is_edge = length >= HEADER_BYTES && decode(&whole[..length]).1.is_none();
        let what = format!("cut at {length} of {}", whole.len());
        let loaded = real.check(!is_edge, &what);
        // The snapshot, or the generation before: either way each file is known.
        assert!(!loaded.first_start && Real::knows_all(&loaded), "{what}");
    }
    fs::remove_file(older).expect("removed");
    for length in 0..=whole.len() {
        put(newer, &whole[..length]);
        let loaded = load(real.folder.path()).expect("readable");
        assert!(!loaded.first_start && loaded.files.len() <= 7);
        assert!(Real::knows_all(&loaded) || length < snapshot_ends, "cut at {length}, nothing before it");
    }
    for length in (0..=whole.len()).step_by(211) {
        put(newer, &whole[..length]);
        Store::open(real.folder.path()).expect("an agent starts on it");
        real.put_back();
    }
}

#[test]
fn ten_thousand_random_bit_flips_are_noticed_and_never_skip() {
    let (real, mut random) = (Real::new(), Random::seeded(20_261_123));
    assert!(Real::knows_all(&real.check(false, "whole")));
    for round in 0..10_000 {
        let bits = 1 + random.below(3); // Flipped twice it would be whole again.
        let both = random.below(4) == 0;
        real.put_back();
        for (path, whole) in &real.generations[usize::from(!both)..] {
            let mut bent = whole.clone();
            let mut places: Vec<_> = (0..bits).map(|_| random.below(whole.len() * 8)).collect();
            places.sort_unstable();
            places.dedup();
            places.iter().for_each(|bit| bent[bit / 8] ^= 1 << (bit % 8));
            put(path, &bent);
        }
        let loaded = real.check(true, &format!("flip {round}, both: {both}"));
        assert!(!loaded.first_start);
        assert!(both || Real::knows_all(&loaded), "flip {round} forgot a file");
    }
}

#[test]
fn missing_empty_garbage_and_later_generations_are_read_over() {
    let real = Real::new();
    let [(older, _), (newer, _)] = &real.generations;
    assert!(Real::knows_all(&real.check(false, "whole")));
    let mut later = MAGIC.to_vec();
    later.extend_from_slice(&(VERSION + 1).to_le_bytes());
    let mut random = Random::seeded(20_261_123);
    let garbage: Vec<u8> = (0..5_000).map(|_| random.next().to_le_bytes()[0]).collect();
    for (what, bytes) in
        [("empty", &b""[..]), ("zeros", &[0; 4_096]), ("garbage", &garbage), ("a later version", &later)]
    {
        fs::write(newer, bytes).expect("written");
        assert!(Real::knows_all(&real.check(true, what)), "{what}");
    }
    fs::remove_file(newer).expect("removed");
    assert!(Real::knows_all(&real.check(false, "the generation before")));
    fs::write(older, &garbage).expect("written");
    assert!(real.check(true, "nothing but garbage").files.is_empty());
    let (_, loaded) = Store::open(real.folder.path()).expect("an agent starts on it");
    assert!(!loaded.first_start, "`start: end` would skip what is not delivered");
}

#[test]
fn a_lost_checkpoint_is_not_taken_for_a_first_start() {
    let real = Real::new();
    real.generations.iter().for_each(|(path, _)| fs::remove_file(path).expect("removed"));
    let (_, loaded) = Store::open(real.folder.path()).expect("an agent starts");
    assert!(!loaded.first_start, "`start: end` would skip what is not delivered");
    assert!(loaded.damage[0].contains("no checkpoint any more"), "{:?}", loaded.damage);
}

#[test]
fn only_its_owner_may_read_the_state() {
    let above = folder();
    let folder = above.path().join("lib/tailrace");
    let (mut store, _) = Store::open(&folder).expect("opens");
    store.flush(&[saved(1, 10)], &[]).expect("flushes");
    store.is_torn = true;
    store.flush(&[saved(1, 11)], &[]).expect("a new generation is made");
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    };
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = fs::read_dir(&folder).expect("listed").map(|entry| entry.expect("listed").path()).collect();
    assert_eq!(files.len(), 3, "two generations and the lock: {files:?}");
    files.iter().for_each(|path| assert_eq!(mode(path), 0o600, "{}", path.display()));
}

#[test]
fn what_root_writes_belongs_to_the_owner_of_the_folder() {
    let folder = folder();
    let nobody = 65_534;
    if std::os::unix::fs::chown(folder.path(), Some(nobody), Some(nobody)).is_err() {
        eprintln!("SKIPPED: only root may give a folder away");
        return;
    }
    drop(Store::open(folder.path()).expect("opens"));
    for entry in fs::read_dir(folder.path()).expect("listed") {
        let found = entry.and_then(|entry| entry.metadata()).expect("there");
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (nobody, nobody, 0o600));
    }
}

#[test]
fn a_folder_that_nobody_may_write_is_told_and_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).expect("its mode is set");
    if fs::write(folder.path().join("probe"), "").is_ok() {
        eprintln!("SKIPPED: whoever runs this test may write everywhere");
        return;
    }
    let error = format!("{:#}", Store::open(folder.path()).expect_err("there is no lock"));
    assert!(error.contains(&folder.path().display().to_string()) && error.contains("denied"), "{error}");
}

/// Version 1, byte by byte, as the first release wrote it. A later program must read it: entries get optional fields only.
#[test]
fn a_checkpoint_of_version_1_stays_readable() {
    let bytes = [
        &b"TAILRACE\x01\0\0\0"[..],
        b"\xca\0\0\0\x45\xe5\x9a\xdb\x01\0\0\0\0\0\0\0",
        br#"{"put":{"input":"nginx","incarnation":"0000000000000001","path":"/var/log/app-1.log","#,
        br#""device":1,"inode":1,"birth_ns":null,"generation":2,"offset":10,"head_bytes":9,"head":18446744073709551615,"tail":2}}"#,
        b"\xc7\0\0\0\xe4\xe2\x7b\x7c\x02\0\0\0\0\0\0\0",
        br#"{"put":{"input":"nginx","incarnation":"0000000000000002","path":"/var/log/app-2.log","#,
        br#""device":1,"inode":2,"birth_ns":5,"generation":0,"offset":20,"head_bytes":9,"head":18446744073709551615,"tail":2}}"#,
        b"\x18\0\0\0\x5f\xdb\xbd\x4d\x03\0\0\0\0\0\0\0",
        br#"{"snapshot":{"files":2}}"#,
        b"\xcc\0\0\0\x89\x3d\x3c\0\x04\0\0\0\0\0\0\0",
        br#"{"put":{"input":"nginx","incarnation":"0000000000000001","path":"/var/log/app-1.log","#,
        br#""device":1,"inode":1,"birth_ns":null,"generation":2,"offset":4096,"head_bytes":9,"head":18446744073709551615,"tail":2}}"#,
        b"\xc7\0\0\0\x19\xcc\x1c\xe4\x05\0\0\0\0\0\0\0",
        br#"{"put":{"input":"nginx","incarnation":"0000000000000003","path":"/var/log/app-3.log","#,
        br#""device":1,"inode":3,"birth_ns":5,"generation":0,"offset":30,"head_bytes":9,"head":18446744073709551615,"tail":2}}"#,
        b"\x3d\0\0\0\xf2\x13\x44\x60\x06\0\0\0\0\0\0\0",
        br#"{"forget":{"input":"nginx","incarnation":"0000000000000002"}}"#,
    ]
    .concat();
    let folder = folder();
    fs::write(path_of(folder.path(), 7), bytes).expect("written");
    let loaded = load(folder.path()).expect("readable");
    assert_eq!(loaded.damage, [""; 0]);
    let first = Saved { inode: Inode { device: 1, number: 1, birth_ns: None }, generation: 2, ..saved(1, 4_096) };
    assert_eq!(loaded.files.values().collect::<Vec<_>>(), [&first, &saved(3, 30)]);
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
