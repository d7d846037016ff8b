//! What is put off, and what waits where it is.

use super::*;

const WAITS: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(300)];

/// What a retry topic was given: offset, which topic, refusals, attempts, reason.
type Shelved = (i64, usize, u32, u32, &'static str);

/// Retry topics kept in memory; the first write fails.
#[derive(Default)]
struct Shelf {
    notes: Arc<Mutex<Vec<Shelved>>>,
    failed: Mutex<bool>,
}

impl Later for Shelf {
    fn waits(&self) -> &[Duration] {
        &WAITS
    }

    fn after(&self) -> Duration {
        Duration::ZERO
    }

    fn write<'l>(&'l self, notes: &'l [Note<'l>]) -> Writing<'l> {
        if !std::mem::replace(&mut *self.failed.lock().expect("no test panics with it"), true) {
            let all = (0..notes.len()).map(|at| (at, "broker away".to_owned())).collect();
            return Box::pin(std::future::ready(all));
        }
        let shelved = notes.iter().map(|note| {
            let wait = [30_000, 300_000][note.next.step];
            assert!(note.next.due_ms.is_some() || note.next.not_before_ms == wait, "the clock stands at 0: {note:?}");
            (note.origin.record.into(), note.next.step, note.next.refusals, note.attempts, note.reason)
        });
        self.notes.lock().expect("no test panics with it").extend(shelved);
        Box::pin(std::future::ready(vec![]))
    }
}

/// Delivers documents with these ids by `script`, where there are retry topics. Returns what these and the dead letters got.
#[track_caller]
fn put_off(ids: &[(&str, Option<PutOff>)], script: Vec<Reply>) -> (Vec<Shelved>, Vec<(i64, u32)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let node = Node::start(script).await;
        let Setup { mut delivery, attempts, metrics, .. } = setup(&node.url, 0);
        let shelf = Shelf::default();
        let notes = shelf.notes.clone();
        delivery.later = Some(Box::new(shelf));
        let (batch, mut rx) = batch_of(ids, &metrics);
        tokio::time::timeout(Duration::from_secs(20), delivery.deliver(batch)).await.expect("the delivery ends");
        assert!(matches!(rx.try_recv(), Ok(Entry::Settled(_))), "the debt is settled");
        let (consumed, ends) = metrics.equation();
        assert_eq!((consumed, metrics.in_flight.get()), (ends, 0));
        let notes = notes.lock().expect("no test panics with it").clone();
        let stored = node.stored().len();
        let attempts = attempts.lock().expect("no test panics with it").clone();
        assert_eq!(stored + notes.len() + attempts.len(), ids.len(), "each record has one end");
        (notes, attempts)
    })
}

#[test]
fn what_stays_refused_while_others_are_taken_is_put_off() {
    let busy =
        Reply::Index(vec![("d1", 429, "es_rejected_execution_exception"), ("d2", 403, "cluster_block_exception")]);
    let expected = [(1, 0, 1, 1, "busy"), (2, 0, 1, 1, "blocked")];
    assert_eq!(put_off(&[("d0", None), ("d1", None), ("d2", None)], vec![busy]), (expected.to_vec(), vec![]));
}

#[test]
fn each_time_it_waits_longer_and_after_the_last_it_is_a_dead_letter_with_all_attempts() {
    let before = |refusals, attempts| Some(PutOff { refusals, attempts, ..PutOff::default() });
    let down = ("d1", 503, "unavailable_shards_exception");
    let script = || vec![Reply::Index(vec![down])];
    let ids = |put_off| [("d0", None), ("d1", put_off)];
    assert_eq!(put_off(&ids(before(1, 4)), script()), (vec![(1, 1, 2, 5, "server_error")], vec![]));
    assert_eq!(put_off(&ids(before(2, 9)), script()), (vec![], vec![(1, 10)]));
}

#[test]
fn while_nothing_is_taken_everything_waits_where_it_is() {
    let busy = Reply::Index(vec![("d0", 429, "x"), ("d1", 429, "x")]);
    assert_eq!(put_off(&[("d0", None), ("d1", None)], vec![busy.clone(), busy.clone(), busy]), (vec![], vec![]));
}

#[test]
fn what_is_stuck_makes_way_for_others_so_that_it_is_seen_whether_they_are_taken() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stuck = ["stuck", "stuck-too", "stuck-still", "stuck-more"];
        let busy = Reply::Index(stuck.map(|id| (id, 429, "x")).to_vec());
        let node = Node::start(vec![busy; 10_000]).await;
        let Setup { mut delivery, metrics, .. } = setup(&node.url, 0);
        let shelf = Shelf::default();
        let notes = shelf.notes.clone();
        delivery.later = Some(Box::new(shelf));
        let (batches, input) = mpsc::channel(8);
        for id in ["stuck", "passes", "stuck-too", "stuck-still", "stuck-more", "passes-too"] {
            batches.send(batch_of(&[(id, None)], &metrics).0).await.expect("there is room");
        }
        drop(batches);
        let run = run(Arc::new(delivery), 1, input);
        tokio::time::timeout(Duration::from_secs(20), run).await.expect("it ends").expect("a known version");
        assert_eq!(node.stored().into_keys().collect::<Vec<_>>(), ["passes", "passes-too"]);
        // Who had to leave before something passed is not to blame; who still waited when it did has one refusal more. How many of
        // each depends on how fast the node answers.
        let mut refusals: Vec<u32> =
            notes.lock().expect("no test panics with it").iter().map(|(_, _, refusals, ..)| *refusals).collect();
        refusals.sort_unstable();
        assert!(refusals.len() == 4 && (refusals[0], refusals[3]) == (0, 1), "{refusals:?}");
    });
}
