//! What is settled reaches the checkpoint, in time and no more often than that.
#![expect(clippy::disallowed_methods, reason = "settlements, as in lib.rs")]

use super::*;
use crate::identity::Inode;
use event::{Ack, Anchor, Incarnation, Input, Permit};
use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Semaphore, mpsc};

const STREAM: StreamId = StreamId(3);

thread_local! {
    /// Where a sync waits for its turn; without one, it does not.
    static GATE: RefCell<Option<Arc<Semaphore>>> = RefCell::default();
}

/// What `beside` does, in this thread, when the gate lets it.
pub(crate) fn at_once(unsynced: Unsynced) -> Syncing {
    let gate = GATE.with_borrow(Clone::clone);
    Box::pin(async move {
        if let Some(gate) = gate {
            gate.acquire().await.expect("never closed").forget();
        }
        unsynced.sync()
    })
}

/// Keeps every sync of this thread waiting; each permit lets one go.
fn slow_disk() -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    GATE.set(Some(gate.clone()));
    gate
}

struct Bench {
    control: mpsc::Sender<Control>,
    ledger: UnboundedSender<Entry>,
    rewinds: UnboundedReceiver<Rewind>,
    source: Arc<Source>,
    metrics: AgentMetrics,
    health: Health,
    saved: Saved,
    /// How often the stage was woken.
    polls: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

async fn bench(folder: &Path) -> Bench {
    let (store, _) = Store::open(folder).expect("opens");
    let (control, control_rx) = mpsc::channel(8);
    let (ledger, entries) = mpsc::unbounded_channel();
    let (rewinds_tx, rewinds) = mpsc::unbounded_channel();
    let metrics = AgentMetrics::new(&Default::default());
    let (health, polls) = (Health::new(), Arc::new(AtomicUsize::new(0)));
    let wires = Wires { control: control_rx, entries, rewinds: rewinds_tx, forgotten: None };
    let mut stage = Box::pin(run(store, wires, at_once, metrics.clone(), health.clone()));
    let counted = polls.clone();
    let task = tokio::spawn(std::future::poll_fn(move |context| {
        counted.fetch_add(1, Ordering::Relaxed);
        stage.as_mut().poll(context)
    }));
    let (input, path) = (Arc::new(Input { id: "i".into(), ..Input::default() }), "/a".to_owned());
    let source = Arc::new(Source::new(STREAM, input, path.into(), Incarnation(1), 0));
    let progress = Progress { offset: 0, anchor: Anchor::default() };
    let inode = Inode { device: 1, number: 2, birth_ns: None };
    let saved = Saved::new("i".into(), Incarnation(1), "/a".into(), inode, progress);
    let card = Arc::new(Card::new(Path::new("/a").into(), inode));
    let open =
        Control::Open { saved: saved.clone(), source: source.clone(), epoch: 0, card, replaces: None, written: None };
    control.send(open).await.expect("is open");
    Bench { control, ledger, rewinds, source, metrics, health, saved, polls, task }
}

impl Bench {
    fn ack(&self, epoch: u32, seq: u64) -> Ack {
        self.ack_of(STREAM, epoch, seq)
    }

    fn ack_of(&self, stream: StreamId, epoch: u32, seq: u64) -> Ack {
        self.metrics.in_flight.inc();
        let (start, end, anchor) = (seq * 10, seq * 10 + 10, Anchor::default());
        let debt = Debt { stream, epoch, seq, start, end, anchor, events: 1, bytes: 10, held: Permit::none() };
        Ack::new(debt, self.ledger.clone())
    }

    /// A file of its own, from its beginning on.
    fn opened(&self, n: u64) -> Control {
        let (path, inode): (Arc<str>, _) = (format!("/{n}").into(), Inode { device: 1, number: n, birth_ns: None });
        let source = Source::new(StreamId(n), self.source.input(), path.clone(), Incarnation(n), 0);
        let card = Arc::new(Card::new(Path::new(&*path).into(), inode));
        let saved = Saved { path, incarnation: Incarnation(n), inode, ..self.saved.clone() };
        Control::Open { saved, source: Arc::new(source), epoch: 0, card, replaces: None, written: None }
    }

    async fn end(self, folder: &Path) -> Vec<u64> {
        drop((self.ledger, self.control));
        self.task.await.expect("ends");
        let (_, loaded) = Store::open(folder).expect("opens");
        loaded.files.values().map(|saved| saved.progress.offset).collect()
    }

    async fn end_in(self, folder: std::path::PathBuf) -> Vec<u64> {
        self.end(&folder).await
    }
}

#[tokio::test]
async fn only_the_settled_prefix_is_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    let (first, second, third) = (bench.ack(0, 0), bench.ack(0, 1), bench.ack(0, 2));
    third.settle();
    first.settle();
    drop(second); // Still on its way when the process ends.
    assert_eq!(bench.end(folder.path()).await, [10]);
}

#[tokio::test]
async fn a_reserved_offset_is_durable_before_anybody_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    let gate = slow_disk();
    let (mut first, mut second) = (bench.ack(0, 0), bench.ack(0, 1));
    let (mut first_told, second_told) = (first.reserve(Vec::new()), second.reserve(Vec::new()));
    while found(folder.path()) != [20] {
        tokio::task::yield_now().await; // It is written, and the disk is waited for.
    }
    assert!(first_told.try_recv().is_err(), "a power cut now would lose the reservation");
    gate.add_permits(2);
    first_told.await.expect("it is durable");
    second_told.await.expect("it is durable");
    drop((first, second)); // Never sent: nothing is given back, nothing read again.
    let metrics = bench.metrics.clone();
    bench.task.abort(); // A kill: nothing is flushed any more.
    assert!(bench.task.await.is_err(), "aborted");
    assert_eq!(found(folder.path()), [20]);
    assert_eq!((metrics.acknowledged.with_label_values(&["reserved"]).get(), metrics.returned.get()), (2, 0));
}

#[tokio::test]
async fn what_is_read_again_is_not_reserved() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    let (first, mut second) = (bench.ack(0, 0), bench.ack(0, 1));
    drop(first);
    second.reserve(Vec::new()).await.expect_err("the span before it is read again, and so is this one");
    drop(second);
    assert_eq!(bench.end(folder.path()).await, [0]);
}

#[tokio::test]
async fn an_entry_that_is_waited_for_is_written_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    let (written, is_written) = oneshot::channel();
    let inode = Inode { device: 1, number: 3, birth_ns: None };
    let progress = Progress { offset: 7, anchor: Anchor::default() };
    let saved = Saved { generation: 1, ..Saved::new("i".into(), Incarnation(2), "/b".into(), inode, progress) };
    let (source, card) = (bench.source.clone(), Arc::new(Card::new(Path::new("/b").into(), inode)));
    let open = Control::Open { saved, source, epoch: 0, card, replaces: None, written: Some(written) };
    bench.control.send(open).await.expect("is open");
    is_written.await.expect("is told");
    bench.task.abort(); // A kill: nothing is flushed any more.
    assert!(bench.task.await.is_err(), "aborted");
    let (_, loaded) = Store::open(folder.path()).expect("opens");
    assert!(loaded.files.values().any(|saved| &*saved.path == "/b" && saved.progress.offset == 7));
}

#[tokio::test]
async fn a_span_given_back_rewinds_once_and_ends_its_epoch() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut bench = bench(folder.path()).await;
    let acks = [bench.ack(0, 0), bench.ack(0, 1), bench.ack(0, 2)];
    let [first, second, third] = acks;
    first.settle();
    drop(second);
    drop(third);
    let rewind = bench.rewinds.recv().await.expect("a rewind");
    assert_eq!((rewind.epoch, rewind.progress.offset), (1, 10));
    assert!(!bench.source.is_current(0) && bench.source.is_current(1));
    bench.ack(1, 0).settle(); // 10..20 again; sequences begin anew, offsets do not matter to the ledger here.
    let metrics = bench.metrics.clone();
    assert!(bench.rewinds.try_recv().is_err(), "one rewind for all that was given back");
    bench.end(folder.path()).await;
    assert_eq!((metrics.in_flight.get(), metrics.returned.get()), (0, 2));
    assert_eq!(metrics.acknowledged.with_label_values(&["main"]).get(), 2);
}

#[tokio::test]
async fn a_file_that_is_gone_is_forgotten_when_it_is_settled() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    let last = bench.ack(0, 0);
    bench.control.send(Control::Leave { stream: STREAM, epoch: 0, end: 10, reason: "deleted" }).await.expect("is open");
    last.settle();
    assert_eq!(bench.end(folder.path()).await, [0_u64; 0]);
}

#[tokio::test]
async fn what_was_truncated_before_it_was_delivered_is_counted_and_its_generation_kept() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut bench = bench(folder.path()).await;
    let (first, second) = (bench.ack(0, 0), bench.ack(0, 1));
    first.settle();
    bench
        .control
        .send(Control::Leave { stream: STREAM, epoch: 0, end: 20, reason: "truncated" })
        .await
        .expect("is open");
    drop(second);
    let metrics = bench.metrics.clone();
    let rewinds = bench.rewinds.try_recv();
    drop((bench.ledger, bench.control));
    bench.task.await.expect("ends");
    let (_, loaded) = Store::open(folder.path()).expect("opens");
    let left: Vec<_> = loaded.files.values().map(|saved| (saved.is_truncated, saved.generation)).collect();
    assert_eq!(left, [(true, 0)], "the generation is remembered until the next life has an entry");
    assert!(rewinds.is_err(), "there is nothing to read again");
    assert_eq!(metrics.lost_bytes.with_label_values(&["truncated"]).get(), 10);
}

#[tokio::test]
async fn what_was_given_back_before_the_file_is_known_to_be_gone_is_counted_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut bench = bench(folder.path()).await;
    let (first, second) = (bench.ack(0, 0), bench.ack(0, 1));
    first.settle();
    drop(second);
    let rewind = bench.rewinds.recv().await.expect("a rewind");
    assert_eq!(rewind.epoch, 1);
    // The tail stage had seen the end of the file before it took the rewind.
    bench.control.send(Control::Leave { stream: STREAM, epoch: 0, end: 20, reason: "deleted" }).await.expect("is open");
    let metrics = bench.metrics.clone();
    assert_eq!(bench.end(folder.path()).await, [0_u64; 0], "nothing is left to wait for");
    assert_eq!(metrics.lost_bytes.with_label_values(&["deleted"]).get(), 10);
}

/// While reports of other files come in a burst.
#[tokio::test]
async fn a_file_that_is_settled_as_soon_as_it_is_opened_is_remembered_there() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = Arc::new(bench(folder.path()).await);
    let opening = bench.clone();
    let opens = std::thread::spawn(move || {
        for n in 100..5_100 {
            opening.control.blocking_send(opening.opened(n)).expect("is open");
            (0..3).for_each(|seq| opening.ack_of(StreamId(n), 0, seq).settle());
        }
    });
    tokio::task::spawn_blocking(|| opens.join().expect("opens all")).await.expect("ends");
    let mut found = Arc::into_inner(bench).expect("the only one left").end(folder.path()).await;
    found.retain(|offset| *offset != 30);
    assert_eq!(found, [0], "all but the one that nothing was read of");
}

/// Offsets in the checkpoint as a process finds them that starts now.
fn found(folder: &Path) -> Vec<u64> {
    let loaded = crate::checkpoint::load(folder).expect("readable");
    loaded.files.values().map(|saved| saved.progress.offset).collect()
}

fn flushes(bench: &Bench) -> u64 {
    bench.metrics.checkpoints.with_label_values(&["ok"]).get()
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_is_written_at_once_though_no_flush_is_due() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    bench.ack(0, 0).settle();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = flushes(&bench);
    for seq in 1..15 {
        bench.ack(0, seq).settle();
        tokio::task::yield_now().await;
        assert_eq!(found(folder.path()), [seq * 10 + 10], "a kill now would send again what is delivered");
    }
    assert_eq!(flushes(&bench), before, "a write is no flush");
    tokio::time::sleep(FLUSH_INTERVAL).await;
    assert_eq!(flushes(&bench), before + 1);
}

#[tokio::test(start_paused = true)]
async fn settlements_in_a_row_are_few_writes_and_fewer_flushes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let entries = || crate::checkpoint::entries_in(folder.path());
    let before = entries();
    for seq in 0..3_000 {
        bench.ack(0, seq).settle();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let written = entries() - before;
    assert!((500..=580).contains(&written), "{written} writes in 3 s");
    assert!((3..=5).contains(&flushes(&bench)), "{} flushes in 3 s", flushes(&bench));
}

#[tokio::test(start_paused = true)]
async fn many_files_are_written_less_often() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    for n in 100..600 {
        bench.control.send(bench.opened(n)).await.expect("is open");
    }
    tokio::time::sleep(FLUSH_INTERVAL).await;
    let before = crate::checkpoint::entries_in(folder.path());
    for seq in 0..100 {
        (100..600).for_each(|n| bench.ack_of(StreamId(n), 0, seq).settle());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let written = crate::checkpoint::entries_in(folder.path()) - before;
    assert!(written <= 2 * 2_000 + 3 * 500, "{written} entries in 2 s");
}

#[tokio::test(start_paused = true)]
async fn an_idle_checkpoint_is_never_woken() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    bench.ack(0, 0).settle();
    tokio::time::sleep(FLUSH_INTERVAL * 3).await;
    let polls = bench.polls.load(Ordering::Relaxed);
    assert!(polls > 0);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(bench.polls.load(Ordering::Relaxed), polls);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_cannot_be_written_is_tried_once_a_second_and_made_good() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    bench.ack(0, 0).settle();
    tokio::time::sleep(FLUSH_INTERVAL * 2).await;
    let failed = || bench.metrics.checkpoints.with_label_values(&["failed"]).get();
    crate::checkpoint::fail_from_now_on(true);
    for seq in 1..=3_000 {
        bench.ack(0, seq).settle();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!((3..=5).contains(&failed()), "{} tries in 3 s", failed());
    assert!(bench.health.problems().contains_key("checkpoint"), "it is told");
    crate::checkpoint::fail_from_now_on(false);
    tokio::time::sleep(FLUSH_INTERVAL * 2).await;
    assert_eq!(found(folder.path()), [30_010]);
    assert!(!bench.health.problems().contains_key("checkpoint"), "it is well again");
}

#[tokio::test(start_paused = true)]
async fn a_truncated_life_is_remembered_at_once_and_until_it_is_replaced() {
    for settles_first in [true, false] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bench = bench(folder.path()).await;
        tokio::time::sleep(FLUSH_INTERVAL / 2).await;
        let (last, before) = (bench.ack(0, 0), flushes(&bench));
        bench
            .control
            .send(Control::Leave { stream: STREAM, epoch: 0, end: 10, reason: "truncated" })
            .await
            .expect("is open");
        tokio::task::yield_now().await;
        let entries = || {
            let files = crate::checkpoint::load(folder.path()).expect("readable").files;
            files.into_values().map(|saved| (saved.generation, saved.is_truncated)).collect::<Vec<_>>()
        };
        assert_eq!(entries(), [(0, true)], "before any time has passed");
        assert_eq!(flushes(&bench), before + 1, "and durable");
        let last = if settles_first {
            last.settle();
            tokio::time::sleep(FLUSH_INTERVAL * 2).await;
            assert_eq!(entries(), [(0, true)]);
            None
        } else {
            Some(last)
        };
        let inode = bench.saved.inode;
        let saved = Saved { incarnation: Incarnation(2), generation: 1, ..bench.saved.clone() };
        let source = Arc::new(Source::new(StreamId(4), bench.source.input(), "/a".into(), Incarnation(2), 0));
        let (card, replaces) = (Arc::new(Card::new(Path::new("/a").into(), inode)), Some(bench.saved.key()));
        let open = Control::Open { saved, source, epoch: 0, card, replaces, written: None };
        bench.control.send(open).await.expect("is open");
        last.into_iter().for_each(Ack::settle);
        tokio::time::sleep(FLUSH_INTERVAL * 2).await;
        assert_eq!(entries(), [(1, false)], "settles first: {settles_first}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_while_the_disk_is_slow_is_written_all_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    tokio::time::sleep(FLUSH_INTERVAL * 3).await;
    let (gate, before) = (slow_disk(), flushes(&bench));
    for seq in 0..100 {
        bench.ack(0, seq).settle();
        tokio::time::sleep(FLUSH_INTERVAL / 10).await;
        assert_eq!(found(folder.path()), [seq * 10 + 10], "a kill now would send again what is delivered");
    }
    assert_eq!(flushes(&bench), before, "nothing is durable yet");
    gate.add_permits(100);
    tokio::time::sleep(FLUSH_INTERVAL * 3).await;
    assert!(flushes(&bench) > before && flushes(&bench) <= before + 3, "{} flushes", flushes(&bench) - before);
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_durable_is_told_by_a_sync_that_began_after_it_was_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    tokio::time::sleep(FLUSH_INTERVAL * 3).await;
    let gate = slow_disk();
    bench.ack(0, 0).settle();
    tokio::time::sleep(FLUSH_INTERVAL * 2).await; // A sync is under way.
    let (done, mut is_done) = mpsc::unbounded_channel();
    bench.control.send(Control::Cut { stream: STREAM, at: 15, done }).await.expect("is open");
    tokio::time::sleep(FLUSH_INTERVAL * 2).await;
    let cuts = || {
        let files = crate::checkpoint::load(folder.path()).expect("readable").files;
        files.into_values().flat_map(|saved| saved.cuts).collect::<Vec<_>>()
    };
    assert_eq!(cuts(), [15], "written at once");
    assert!(is_done.try_recv().is_err(), "not durable");
    gate.add_permits(1);
    tokio::time::sleep(FLUSH_INTERVAL * 2).await;
    assert!(is_done.try_recv().is_err(), "the sync began before the cut was written");
    gate.add_permits(1);
    tokio::time::sleep(FLUSH_INTERVAL / 10).await;
    assert_eq!(is_done.try_recv(), Ok(STREAM));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_the_sync_under_way_and_makes_all_durable() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    tokio::time::sleep(FLUSH_INTERVAL * 3).await;
    let gate = slow_disk();
    bench.ack(0, 0).settle();
    tokio::time::sleep(FLUSH_INTERVAL * 2).await;
    bench.ack(0, 1).settle();
    let ends = tokio::spawn(bench.end_in(folder.path().to_owned()));
    tokio::time::sleep(FLUSH_INTERVAL * 2).await;
    assert!(!ends.is_finished(), "a sync is under way");
    gate.add_permits(1);
    assert_eq!(ends.await.expect("ends"), [20]);
}
