//! What the store does to its folder, told to the tests: a power cut after each step, and each step failing once.
//!
//! After a cut, a file holds what was synced, and of what was written since a beginning, whole or with zeros in it, or any
//! of its sectors in any order; the folder holds the names as they were synced, and of what was renamed or removed since a
//! beginning.

use super::*;
use std::cell::RefCell;

/// One thing done to the folder. Writes and syncs go to the file that was created last: the store never goes back.
#[derive(Debug, Clone)]
pub(in crate::checkpoint) enum Op {
    Create { path: PathBuf },
    Write { at: u64, bytes: Vec<u8> },
    Sync,
    Rename { from: PathBuf, to: PathBuf },
    SyncFolder,
    Remove { path: PathBuf },
}

#[derive(Default)]
struct Watch {
    ops: Vec<Op>,
    /// The operation with this number fails …
    fails: Option<usize>,
    /// … and all that follow it, as on a disk that is full or read-only.
    for_good: bool,
    count: usize,
}

thread_local! {
    static WATCH: RefCell<Watch> = RefCell::default();
}

/// Told before each operation; an error is what the operation then ends with.
pub(in crate::checkpoint) fn done(op: Op) -> io::Result<()> {
    WATCH.with_borrow_mut(|watch| {
        let (number, for_good) = (watch.count, watch.for_good);
        watch.count += 1;
        if watch.fails.is_some_and(|fails| number == fails || (for_good && number > fails)) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        watch.ops.push(op);
        Ok(())
    })
}

pub(in crate::checkpoint) fn watch_anew(fails: Option<usize>, for_good: bool) {
    WATCH.set(Watch { fails, for_good, ..Watch::default() });
}

/// How often a log was synced since.
pub(in crate::checkpoint) fn syncs() -> usize {
    WATCH.with_borrow(|watch| watch.ops.iter().filter(|op| matches!(op, Op::Sync)).count())
}

/// What was done since the watch began.
pub(super) fn done_so_far() -> Vec<Op> {
    WATCH.with_borrow(|watch| watch.ops.clone())
}

/// What a disk writes at once, at most: an entry lies in one, or in two. (Real ones are larger, and hide less.)
const SECTOR_BYTES: usize = 128;

/// Everything flushed so far, with the number of operations after which the flush had ended well.
#[derive(Default)]
struct Flushed {
    /// Operations at the end of the flush, and what is then known for certain.
    certain: Vec<(usize, BTreeMap<Key, u64>)>,
    now: BTreeMap<Key, u64>,
    highest: BTreeMap<Key, u64>,
}

impl Flushed {
    fn is_told(&mut self, puts: &[Saved], forgets: &[Key]) {
        for saved in puts {
            self.now.insert(saved.key(), saved.progress.offset);
            self.highest.insert(saved.key(), saved.progress.offset);
        }
        self.now.retain(|key, _| !forgets.contains(key));
    }

    /// Written only: nothing is certain of it.
    fn write(&mut self, store: &mut Store, puts: &[Saved], forgets: &[Key]) -> io::Result<()> {
        self.is_told(puts, forgets);
        store.write(puts, forgets)
    }

    fn flush(&mut self, store: &mut Store, puts: &[Saved], forgets: &[Key]) -> io::Result<()> {
        self.is_told(puts, forgets);
        store.flush(puts, forgets)?;
        self.certain.push((WATCH.with_borrow(|watch| watch.ops.len()), self.now.clone()));
        Ok(())
    }

    /// A sync beside the writing, with what it will make certain.
    fn begin(&self, store: &Store) -> Option<(Unsynced, BTreeMap<Key, u64>)> {
        Some((store.unsynced().filter(|_| !store.is_torn())?, self.now.clone()))
    }

    fn end(&mut self, store: &mut Store, syncing: Option<(Unsynced, BTreeMap<Key, u64>)>) {
        let Some((unsynced, then)) = syncing else { return };
        if store.synced(unsynced.sync()).is_ok() {
            self.certain.push((WATCH.with_borrow(|watch| watch.ops.len()), then));
        }
    }

    /// Files come, grow, and go, over several generations and starts. Offsets only grow.
    fn life(&mut self, folder: &Path) {
        for start in 0..3 {
            let Ok((mut store, _)) = Store::open(folder) else { panic!("the agent must start") };
            for step in 1..=4 {
                let at = start * 100 + step * 10;
                let puts = [saved(1, at), saved(2, at + 1), saved(100 + at, at)];
                let forgets = [saved(100 + at - 10, 0).key()];
                self.flush(&mut store, &puts, &forgets).ok();
                let mut syncing = None;
                for more in 2..=4 {
                    self.write(&mut store, &[saved(1, at + more), saved(2, at + more)], &[]).ok();
                    syncing = syncing.or_else(|| self.begin(&store));
                }
                self.end(&mut store, syncing);
                if step == 2 {
                    store.appended = COMPACT_ENTRIES_MIN + 1; // So many flushes later.
                }
            }
        }
    }
}

/// The folder as a power cut after `ops` may leave it.
fn cut(ops: &[Op], random: &mut Random) -> BTreeMap<PathBuf, Vec<u8>> {
    /// Content by file, as synced, and what was written since.
    struct Content {
        synced: Vec<u8>,
        pending: Vec<(u64, Vec<u8>)>,
    }
    let (mut files, mut names, mut pending) = (Vec::<Content>::new(), BTreeMap::<PathBuf, usize>::new(), Vec::new());
    fn apply(names: &mut BTreeMap<PathBuf, usize>, op: &(Op, usize)) {
        match op {
            (Op::Create { path }, file) => names.extend([(path.clone(), *file)]),
            (Op::Rename { from, to }, _) => {
                let file = names.remove(from).expect("it was there");
                names.extend([(to.clone(), file)]);
            }
            (Op::Remove { path }, _) => names.retain(|name, _| name != path),
            _ => {}
        }
    }
    fn put(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
        content.resize((at as usize + bytes.len()).max(content.len()), 0);
        content[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }
    for op in ops {
        match op {
            Op::Create { .. } => files.push(Content { synced: Vec::new(), pending: Vec::new() }),
            Op::Write { at, bytes } => {
                files.last_mut().expect("a file was created").pending.push((*at, bytes.clone()));
            }
            Op::Sync => {
                let file = files.last_mut().expect("a file was created");
                file.pending.drain(..).for_each(|(at, bytes)| put(&mut file.synced, at, &bytes));
            }
            Op::SyncFolder => pending.drain(..).for_each(|op| apply(&mut names, &op)),
            Op::Rename { .. } | Op::Remove { .. } => {}
        }
        if matches!(op, Op::Create { .. } | Op::Rename { .. } | Op::Remove { .. }) {
            pending.push((op.clone(), files.len().saturating_sub(1)));
        }
    }
    let kept = random.below(pending.len() + 1);
    pending.iter().take(kept).for_each(|op| apply(&mut names, op));
    let left = |file: &usize, random: &mut Random| {
        let Content { synced, pending } = &files[*file];
        let mut content = synced.clone();
        if random.below(3) == 0 {
            // The disk wrote the sectors in an order of its own.
            pending.iter().for_each(|(at, bytes)| put(&mut content, *at, bytes));
            let length = synced.len() + random.below(content.len() - synced.len() + 1);
            content.truncate(length);
            for (number, sector) in content.chunks_mut(SECTOR_BYTES).enumerate() {
                if random.below(3) == 0 {
                    let before = synced.get(number * SECTOR_BYTES..).unwrap_or_default();
                    let stood = before.len().min(sector.len());
                    sector[..stood].copy_from_slice(&before[..stood]);
                    sector[stood..].fill(0);
                }
            }
            return content;
        }
        for (at, bytes) in pending {
            match random.below(4) {
                0 => break,
                1 => put(&mut content, *at, &bytes[..random.below(bytes.len() + 1)]),
                2 => put(&mut content, *at, &vec![0; bytes.len()]), // The length is on the disk, the bytes are not.
                _ => put(&mut content, *at, bytes),
            }
        }
        content
    };
    names.iter().map(|(path, file)| (path.clone(), left(file, random))).collect()
}

#[test]
fn after_a_power_cut_at_any_step_it_goes_on_from_the_last_flush_that_ended() {
    let (folder, mut flushed) = (folder(), Flushed::default());
    watch_anew(None, false);
    flushed.life(folder.path());
    let ops = WATCH.take().ops;
    let (mut random, after, mut beyond) = (Random::seeded(20_261_123), super::folder(), 0);
    for end in 0..=ops.len() {
        let certain = flushed.certain.iter().rfind(|(ended, _)| *ended <= end).map(|(_, known)| known);
        for round in 0..150 {
            for entry in fs::read_dir(after.path()).expect("listed") {
                fs::remove_file(entry.expect("listed").path()).expect("removed");
            }
            for (path, content) in cut(&ops[..end], &mut random) {
                fs::write(after.path().join(path.file_name().expect("a name")), content).expect("written");
            }
            let loaded = load(after.path()).expect("readable").files;
            for (key, offset) in loaded.iter().map(|(key, saved)| (key, saved.progress.offset)) {
                assert!(offset <= flushed.highest[key], "cut after {end}, round {round}: {key:?} skips to {offset}");
            }
            for (key, offset) in certain.into_iter().flatten() {
                let found = loaded.get(key).map(|saved| saved.progress.offset);
                beyond += u32::from(found > Some(*offset));
                // Forgotten in the flush that the cut interrupted.
                let is_going = key.1.0 >= 100 && !flushed.now.contains_key(key);
                assert!(
                    found >= Some(*offset) || (is_going && found.is_none()),
                    "cut after {end} of {}, round {round}: {key:?} was durable at {offset}, found {found:?}",
                    ops.len()
                );
            }
        }
    }
    assert!(beyond > 1_000, "what was written and not flushed is used where it is whole: {beyond}");
}

#[test]
fn whichever_step_fails_once_the_next_flush_makes_it_good() {
    watch_anew(None, false);
    Flushed::default().life(folder().path());
    let steps = WATCH.take().ops.len();
    for fails in 0..steps {
        let (folder, mut flushed) = (folder(), Flushed::default());
        watch_anew(Some(fails), false);
        flushed.life(folder.path());
        let (mut store, loaded) = Store::open(folder.path()).expect("the agent must start");
        for (key, saved) in &loaded.files {
            assert!(saved.progress.offset <= flushed.highest[key], "step {fails}: {key:?} skips");
        }
        flushed.flush(&mut store, &[saved(1, 999)], &[]).expect("the disk is well again");
        drop(store);
        let found: BTreeMap<_, _> =
            load(folder.path()).expect("readable").files.into_iter().map(|(key, s)| (key, s.progress.offset)).collect();
        let kept = |from: &BTreeMap<Key, u64>| from.iter().filter(|(key, _)| key.1.0 < 100).map(|(_, o)| *o).collect();
        let (is, should): (Vec<_>, Vec<_>) = (kept(&found), kept(&flushed.now));
        assert!(is[0] == should[0] && is[1] <= should[1], "step {fails}: {is:?}, {should:?}");
    }
}

#[test]
fn a_disk_that_takes_nothing_any_more_keeps_nothing_from_running_and_loses_nothing_it_had() {
    for fails in 0..12 {
        let folder = folder();
        let (mut store, _) = Store::open(folder.path()).expect("opens");
        store.flush(&[saved(1, 10)], &[]).expect("flushes");
        drop(store);
        watch_anew(Some(fails), true);
        let (mut store, loaded) = Store::open(folder.path()).expect("the agent must start");
        assert!(!loaded.first_start && loaded.files.len() == 1, "what is there can be read");
        for offset in 11..15 {
            let flushed = store.flush(&[saved(1, offset)], &[]);
            let on_disk = offsets(folder.path())[0].1;
            assert!(
                on_disk <= offset && (flushed.is_err() || on_disk == offset),
                "{on_disk} after {offset}: {flushed:?}"
            );
        }
        watch_anew(None, false);
        store.flush(&[], &[]).expect("room again");
        assert_eq!(offsets(folder.path()), [(1, 14)]);
    }
}
