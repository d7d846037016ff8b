//! `delivery: exactly_once`: when a transaction is begun, committed, aborted, and what becomes of a client that cannot go on.

use super::{Drained, Stage, until};
use crate::guarantee::weaknesses;
use crate::offsets::Found;
use crate::producer::Producer;
use crate::send::Sender;
use crate::topic::{Facts, Use};
use crate::transact::{self, KeeperEnd, Next, Transact, Uncommitted, Undecided};
use event::Group;
use service::backoff::Backoff;
use service::clock::monotonic;
use service::stop::Stop;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longest wait for reports that are due, between two looks.
const REPORTS_WAIT: Duration = Duration::from_millis(20);

/// How long the brokers are waited for: after a stop for `drain_timeout`.
pub(super) struct Patience {
    pub(super) stop: Stop,
    pub(super) drain_timeout: Duration,
    pub(super) ends_at: Option<Instant>,
}

impl Patience {
    pub(super) fn is_left(&mut self) -> bool {
        if self.ends_at.is_none() && self.stop.is_stopped() {
            self.ends_at = Some(monotonic() + self.drain_timeout);
        }
        self.ends_at.is_none_or(|at| monotonic() < at)
    }
}

impl Stage {
    /// Makes a client that fences those before it, and tells the agent what they committed. `None` if stopped before.
    pub(super) async fn begin_transactions(&mut self, facts: Facts, keeper: KeeperEnd) -> Option<Producer> {
        let topic = self.config.kafka.offsets_topic.clone();
        let offsets = self.await_topic(&topic, Use::Offsets).await?;
        for reason in weaknesses(&self.config.kafka, &offsets) {
            tracing::warn!(topic, reason, "the promise is weaker than asked");
        }
        let mut transact = Transact::new(&self.config, offsets.partitions, keeper.forgotten);
        let (producer, found) = self.session(&mut transact, facts).await?;
        tracing::info!(topic, files = found.files.len(), "the offsets are read");
        keeper.committed.send(found.committed()).ok(); // Or the agent has ended.
        self.transact = Some(transact);
        Some(producer)
    }

    /// A client in a session of its own, and what the topic of offsets has. `None` if stopped before.
    async fn session(&mut self, transact: &mut Transact, facts: Facts) -> Option<(Producer, Found)> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            let producer = self.producer(facts).await?;
            match transact.open_session(&self.config, &producer.client, &mut || self.patience.is_left()) {
                Ok(found) => {
                    self.health.set("kafka", None);
                    return Some((producer, found));
                }
                Err(error) => {
                    producer.drain(Duration::ZERO).await;
                    if !self.wait(format!("{error:#}"), &mut backoff).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Takes `group` into a transaction, if there are any. `None` if it is not to be sent now.
    pub(super) fn admit(&mut self, producer: &Producer, sender: &mut Sender, group: Group) -> Option<Group> {
        let Some(transact) = &mut self.transact else { return Some(group) };
        let is_suspect = sender.is_suspect(&group);
        let (group, attempt) = transact.admit(producer, group, is_suspect)?;
        sender.attempt = Some(attempt);
        Some(group)
    }

    /// Ends the open transaction if it is time. `Err`: how the stage ends.
    pub(super) async fn advance(&mut self, mut producer: Producer, sender: &mut Sender) -> Result<Producer, Drained> {
        let Some(transact) = &mut self.transact else { return Ok(producer) };
        let next = transact.next();
        if transact.is_closing() && !sender.hurries {
            sender.hurries = true;
            sender.release(&mut producer);
        }
        match next {
            Next::Nothing => return Ok(producer),
            Next::Abort => return self.abort(producer, sender).await,
            Next::Commit => {}
        }
        let client = producer.client.clone();
        match transact.commit(&client, &mut || self.patience.is_left()).await {
            Ok(safe) => {
                self.metrics.transactions.with_label_values(&["committed"]).inc();
                safe.settle();
                sender.end_attempt();
                Ok(producer)
            }
            Err(Uncommitted::Abort(error)) => {
                tracing::warn!(error = format!("{error:#}"), "the transaction is aborted");
                self.abort(producer, sender).await
            }
            Err(Uncommitted::Unknown(error, undecided)) => {
                tracing::warn!(error = format!("{error:#}"), "nobody says whether the transaction is committed");
                self.renew(producer, sender, Some(undecided)).await
            }
        }
    }

    /// Gives back everything in the open transaction.
    async fn abort(&mut self, producer: Producer, sender: &mut Sender) -> Result<Producer, Drained> {
        self.has_given_back = true;
        let Some(transact) = &mut self.transact else { return Ok(producer) };
        transact.break_off();
        sender.clear();
        if let Err(error) = transact::abort(&producer.client, &mut || self.patience.is_left()) {
            tracing::warn!(error = format!("{error:#}"), "the transaction cannot be aborted");
            return self.renew(producer, sender, None).await;
        }
        let mut doubtful = BTreeMap::new();
        while transact.has_open_groups() && self.patience.is_left() {
            // The last reports come from their own thread, which may be a little behind.
            tokio::time::timeout(REPORTS_WAIT, producer.reports.is_changed.notified()).await.ok();
            let mut told = producer.reports.take();
            sender.hear(&mut told);
            doubtful.append(&mut told.doubtful);
        }
        producer.reports.look_again(doubtful);
        self.metrics.transactions.with_label_values(&["aborted"]).inc();
        transact.give_back();
        sender.end_attempt();
        Ok(producer)
    }

    /// A new client in the place of one that cannot go on. `Err`: how the stage ends.
    pub(super) async fn renew(
        &mut self,
        producer: Producer,
        sender: &mut Sender,
        undecided: Option<Undecided>,
    ) -> Result<Producer, Drained> {
        tracing::error!("the producer cannot go on and is made anew");
        self.metrics.rebuilt.inc();
        if let Some(transact) = &mut self.transact {
            transact.break_off();
            sender.clear();
        }
        let reports = producer.reports.clone();
        producer.drain(Duration::ZERO).await;
        sender.hear(&mut reports.take());
        sender.end_attempt();
        let facts = sender.routes[0].facts;
        let Some(mut transact) = self.transact.take() else { return self.producer(facts).await.ok_or(Drained::Some) };
        transact.give_back();
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            match transact.is_replaced(&self.config, &mut || self.patience.is_left()) {
                Ok(true) => return Err(self.replaced()),
                Ok(false) => break,
                Err(error) if self.wait(format!("{error:#}"), &mut backoff).await => {}
                Err(_) => return Err(Drained::Some),
            }
        }
        let (producer, found) = self.session(&mut transact, facts).await.ok_or(Drained::Some)?;
        if !transact.follows_itself(&found) {
            producer.drain(Duration::ZERO).await;
            return Err(self.replaced());
        }
        let is_committed = undecided.as_ref().is_some_and(|undecided| undecided.is_in(&found));
        tracing::info!(is_committed, "the topic of offsets says what became of the last transaction");
        self.has_given_back |= !is_committed;
        let result = if is_committed { "committed" } else { "aborted" };
        self.metrics.transactions.with_label_values(&[result]).inc();
        undecided.into_iter().for_each(|undecided| undecided.end(is_committed));
        self.transact = Some(transact);
        Ok(producer)
    }

    fn replaced(&self) -> Drained {
        let name = &*self.config.name;
        tracing::error!(name, "another agent with this name ships now; this one stops, and sends nothing more");
        Drained::Replaced
    }

    /// Commits what was taken, within `drain_timeout`.
    pub(super) async fn end_transaction(&mut self, mut producer: Producer, mut sender: Sender) -> Drained {
        self.patience.ends_at = Some(monotonic() + self.config.drain_timeout);
        self.has_given_back = false;
        loop {
            self.transact.iter_mut().for_each(Transact::close);
            producer = match self.advance(producer, &mut sender).await {
                Ok(same) => same,
                Err(drained) => return drained,
            };
            let is_at_rest = self.transact.as_ref().is_none_or(Transact::is_at_rest);
            let reports = producer.reports.clone();
            if is_at_rest || !self.patience.is_left() || reports.is_broken.load(Ordering::Acquire) {
                self.transact.iter_mut().for_each(Transact::break_off);
                sender.clear();
                producer.drain(Duration::ZERO).await;
                sender.hear(&mut reports.take());
                self.transact = None;
                return if is_at_rest && !self.has_given_back { Drained::All } else { Drained::Some };
            }
            tokio::select! {
                () = reports.is_changed.notified() => {}
                () = until(sender.due()) => {}
                () = until(self.patience.ends_at) => {}
            }
            sender.hear(&mut reports.take());
            sender.release(&mut producer);
        }
    }
}
