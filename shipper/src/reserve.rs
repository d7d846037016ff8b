//! `delivery: at_most_once`: groups whose offsets are stored durably → groups that may be sent, once. In order, many at a time.

use event::Group;
use std::collections::VecDeque;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::oneshot;

/// Groups whose reservations are waited for at once; the byte budget bounds them as well.
const WAITING_MAX: usize = 1_024;

/// Runs until the input closes and every reservation is decided, or the output closes.
pub(crate) async fn run(mut input: Receiver<Group>, output: Sender<Group>) {
    let (mut waiting, mut is_open) = (VecDeque::<(Group, oneshot::Receiver<()>)>::new(), true);
    while is_open || !waiting.is_empty() {
        tokio::select! {
            group = input.recv(), if is_open && waiting.len() < WAITING_MAX => match group {
                Some(mut group) => {
                    let is_durable = group.ack.reserve();
                    waiting.push_back((group, is_durable));
                }
                None => is_open = false,
            },
            is_durable = first(&mut waiting) => {
                let Some((group, _)) = waiting.pop_front() else { continue };
                // Not reserved: it is read again, and sending it now as well would be twice.
                if is_durable && output.send(group).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether the first one's offset is durable; never, if none waits.
async fn first(waiting: &mut VecDeque<(Group, oneshot::Receiver<()>)>) -> bool {
    match waiting.front_mut() {
        Some((_, is_durable)) => is_durable.await.is_ok(),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "settlements, as in the agent")]
mod tests {
    use super::*;
    use bytes::Bytes;
    use event::{Ack, Anchor, Debt, Entry, Incarnation, Input, Permit, Source, StreamId};
    use std::sync::Arc;
    use tokio::sync::mpsc;

    fn group(read_at_ms: i64, ledger: &mpsc::UnboundedSender<Entry>) -> Group {
        let source = Source::new(StreamId(1), Arc::new(Input::default()), "/a".into(), Incarnation(1), 0);
        let (anchor, held) = (Anchor::default(), Permit::none());
        let debt = Debt { stream: StreamId(1), epoch: 0, seq: 0, start: 0, end: 1, anchor, events: 1, bytes: 1, held };
        let (ack, buffer, records) = (Ack::new(debt, ledger.clone()), Bytes::new(), Vec::new());
        Group { source: Arc::new(source), epoch: 0, buffer, records, read_at_ms, reread: false, ack }
    }

    #[tokio::test]
    async fn nothing_is_sent_before_it_is_reserved_and_what_cannot_be_is_never_sent() {
        let (ledger, mut entries) = mpsc::unbounded_channel();
        let (input, groups) = mpsc::channel(8);
        let (output, mut sent) = mpsc::channel(8);
        let stage = tokio::spawn(run(groups, output));
        let mut durable = Vec::new();
        for number in 0..3 {
            input.send(group(number, &ledger)).await.expect("it is taken");
            let Some(Entry::Reserved(_, told)) = entries.recv().await else { panic!("it is reserved at once") };
            durable.push(told);
        }
        drop((input, ledger));
        durable.remove(2).send(()).expect("it is waited for");
        tokio::task::yield_now().await;
        assert!(sent.try_recv().is_err(), "those before it are not decided");
        drop(durable.remove(1)); // Read again.
        durable.remove(0).send(()).expect("it is waited for");
        assert_eq!(sent.recv().await.map(|group| group.read_at_ms), Some(0));
        assert_eq!(sent.recv().await.map(|group| group.read_at_ms), Some(2));
        assert!(sent.recv().await.is_none() && entries.recv().await.is_none(), "nothing is given back");
        stage.await.expect("it ends");
    }
}
