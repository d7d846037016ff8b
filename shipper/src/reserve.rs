//! `delivery: at_most_once`: groups whose offsets are stored durably → groups that may be sent, once. In order, many at a time.

use crate::judged::Judged;
use crate::metrics::ShipperMetrics;
use event::Source;
use std::collections::VecDeque;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::oneshot;

/// Groups whose reservations are waited for at once; the byte budget bounds them as well.
const WAITING_MAX: usize = 1_024;

/// Runs until the input closes and every reservation is decided, or the output closes.
pub(crate) async fn run(mut input: Receiver<Judged>, output: Sender<Judged>, metrics: &ShipperMetrics) {
    let (mut waiting, mut is_open) = (VecDeque::<(Judged, oneshot::Receiver<()>)>::new(), true);
    while is_open || !waiting.is_empty() {
        tokio::select! {
            judged = input.recv(), if is_open && waiting.len() < WAITING_MAX => match judged {
                Some(mut judged) => {
                    let shares = judged.shares();
                    let is_durable = judged.group.ack.reserve(shares);
                    waiting.push_back((judged, is_durable));
                }
                None => is_open = false,
            },
            is_durable = first(&mut waiting) => {
                let Some((mut judged, _)) = waiting.pop_front() else { continue };
                if !is_durable {
                    continue; // It is read again, and sending it now as well would be twice.
                }
                judged.group.epoch = Source::FOR_GOOD; // Whatever is read again of its source: it is not.
                if let Err(unsent) = output.send(judged).await {
                    metrics.count_unsent(unsent.0);
                    return waiting.into_iter().for_each(|(judged, _)| metrics.count_unsent(judged));
                }
            }
        }
    }
}

/// Whether the first one's offset is durable; never, if none waits.
async fn first(waiting: &mut VecDeque<(Judged, oneshot::Receiver<()>)>) -> bool {
    match waiting.front_mut() {
        Some((_, is_durable)) => is_durable.await.is_ok(),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "settlements, as in the agent")]
mod tests {
    use super::*;
    use crate::judged::{Part, Way};
    use bytes::Bytes;
    use event::{Ack, Anchor, Debt, Entry, Group, Incarnation, Input, Permit, Record, Route, Share, StreamId};
    use service::metrics::Registry;
    use std::sync::Arc;
    use tokio::sync::mpsc;

    /// A group of two records: the first is dropped by a plan, the second passes.
    fn judged(read_at_ms: i64, ledger: &mpsc::UnboundedSender<Entry>) -> Judged {
        let source = Source::new(StreamId(1), Arc::new(Input::default()), "/a".into(), Incarnation(1), 0);
        let (anchor, held) = (Anchor::default(), Permit::none());
        let debt = Debt { stream: StreamId(1), epoch: 0, seq: 0, start: 0, end: 4, anchor, events: 2, bytes: 4, held };
        let (ack, buffer, records) = (Ack::new(debt, ledger.clone()), Bytes::from("a\nb\n"), Vec::new());
        let source = Arc::new(source);
        let group = Group { source, epoch: 0, buffer, records, read_at_ms, reread: false, divert: None, ack };
        let part = |way, start: u32| {
            let record = Record { bytes: start..start + 1, offset: start.into(), truncated: false, extra: None };
            Part { way, records: vec![record], bytes: 2 }
        };
        Judged { group, parts: vec![part(Way::Drop { plan: "a".into() }, 0), part(Way::Pass, 2)] }
    }

    #[tokio::test]
    async fn nothing_is_sent_before_it_is_reserved_and_what_cannot_be_is_never_sent() {
        let (ledger, mut entries) = mpsc::unbounded_channel();
        let (input, groups) = mpsc::channel(8);
        let (output, mut sent) = mpsc::channel(8);
        let metrics = ShipperMetrics::new(&Registry::default());
        let stage = tokio::spawn(async move { run(groups, output, &metrics).await });
        let mut durable = Vec::new();
        for number in 0..3 {
            input.send(judged(number, &ledger)).await.expect("it is taken");
            let Some(Entry::Reserved(_, shares, told)) = entries.recv().await else { panic!("it is reserved at once") };
            let share = |route| Share { route, events: 1, bytes: 2 };
            assert_eq!(shares, [share(Route::Dropped("a".into())), share(Route::Main)], "as one");
            durable.push(told);
        }
        drop((input, ledger));
        durable.remove(2).send(()).expect("it is waited for");
        tokio::task::yield_now().await;
        assert!(sent.try_recv().is_err(), "those before it are not decided");
        drop(durable.remove(1)); // Read again.
        durable.remove(0).send(()).expect("it is waited for");
        for expected in [0, 2] {
            let judged = sent.recv().await.expect("it is reserved");
            assert_eq!(judged.group.read_at_ms, expected);
            let source = judged.group.source.clone();
            source.break_off(0);
            assert!(source.is_current(judged.group.epoch), "what is read again has nothing to do with it");
            let parts: Vec<_> = judged.divided().collect();
            assert!(parts.iter().all(|(group, _)| group.ack.is_reserved()) && parts.len() == 2);
        }
        assert!(sent.recv().await.is_none() && entries.recv().await.is_none(), "nothing is given back");
        stage.await.expect("it ends");
    }

    #[tokio::test]
    async fn what_is_reserved_when_the_later_stages_end_is_counted_as_lost() {
        let (ledger, mut entries) = mpsc::unbounded_channel();
        let (input, groups) = mpsc::channel(8);
        let (output, sent) = mpsc::channel(8);
        let (metrics, mut told) = (ShipperMetrics::new(&Registry::default()), Vec::new());
        for number in 0..3 {
            input.send(judged(number, &ledger)).await.expect("there is room");
        }
        drop(sent);
        let answers = async {
            for _ in 0..3 {
                let Some(Entry::Reserved(_, _, durable)) = entries.recv().await else { panic!("it is reserved") };
                told.push(durable);
            }
            told.remove(0).send(()).expect("it is waited for");
        };
        tokio::join!(run(groups, output, &metrics), answers);
        assert_eq!(metrics.lost.get(), 3, "one record of each was to be sent");
    }
}
