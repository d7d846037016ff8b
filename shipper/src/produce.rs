//! Groups → Kafka, and delivery reports → settlements.
//!
//! The log file is the buffer: what is not delivered is given back and read again, in order. Nothing is settled but by
//! a delivery report.

mod exact;

use exact::Patience;

use crate::config::ShipperConfig;
use crate::guarantee::{Guarantee, guarantee, weaknesses};
use crate::metrics::ShipperMetrics;
use crate::producer::Producer;
use crate::send::Sender;
use crate::topic::{self, Facts, Found, Use};
use crate::transact::{KeeperEnd, Transact};
use event::Group;
use rdkafka::producer::Producer as _;
use service::backoff::Backoff;
use service::clock::monotonic;
use service::health::Health;
use service::stop::Stop;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

/// How often the partitions of all topics are counted, so that new ones are used within 60 s.
const COUNT_EVERY: Duration = Duration::from_secs(20);

/// How the stage ended, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drained {
    /// Everything that was taken is delivered.
    All,
    /// Some of it was given back: no acknowledgement came within `drain_timeout`.
    Some,
    /// The cluster never takes what the configuration asks for; all that was not delivered was given back.
    Stopped,
    /// Another agent with this one's name has taken over; all that was not delivered was given back.
    Replaced,
}

/// Produces groups until the input closes, then waits for their reports.
pub(crate) async fn run(
    config: ShipperConfig,
    input: Receiver<Group>,
    metrics: ShipperMetrics,
    health: Health,
    stop: Stop,
    keeper: Option<KeeperEnd>,
) -> Drained {
    let lost = metrics.clone();
    let patience = Patience { stop: stop.clone(), drain_timeout: config.drain_timeout, ends_at: None };
    let mut stage = Stage { config, metrics, health, stop, keeper, transact: None, patience, has_given_back: false };
    let (mut input, drained) = stage.run(input).await;
    input.close();
    let mut drained = drained;
    while let Some(group) = input.recv().await {
        lost.count_lost(&group);
        drained = drained.max(Drained::Some); // Given back with its Ack.
    }
    drained
}

/// What the stage works with, beside what it sends.
struct Stage {
    config: ShipperConfig,
    metrics: ShipperMetrics,
    health: Health,
    stop: Stop,
    keeper: Option<KeeperEnd>,
    /// With `delivery: exactly_once`, as soon as there is a client.
    transact: Option<Transact>,
    patience: Patience,
    /// A transaction was aborted.
    has_given_back: bool,
}

impl Stage {
    async fn run(&mut self, mut input: Receiver<Group>) -> (Receiver<Group>, Drained) {
        let Some((mut producer, mut sender)) = self.begin().await else { return (input, Drained::All) };
        let mut counts: Option<JoinHandle<Vec<(usize, usize)>>> = None;
        let mut count_at = monotonic() + COUNT_EVERY;
        loop {
            let held = self.transact.as_mut().and_then(Transact::next_held);
            let takes = self.transact.as_ref().is_none_or(Transact::takes);
            let commit_at = self.transact.as_ref().and_then(Transact::due);
            let group = if held.is_some() {
                held
            } else {
                tokio::select! {
                    group = input.recv(), if takes => match group {
                        Some(group) => Some(group),
                        None => break,
                    },
                    () = producer.reports.is_changed.notified() => None,
                    () = until(sender.due()) => None,
                    () = until(commit_at) => None,
                    () = until(Some(count_at)), if counts.is_none() => {
                        counts = Some(count(&producer, &sender));
                        count_at = monotonic() + COUNT_EVERY;
                        None
                    }
                    counted = ended(&mut counts) => {
                        counts = None;
                        for (route, partitions) in counted {
                            sender.routes.set_partitions(route, partitions);
                        }
                        None
                    }
                }
            };
            if producer.reports.is_stopped.load(Ordering::Acquire) {
                tracing::error!(
                    "this cluster never takes what kafka asks for in the configuration; see the warning before"
                );
                drop(sender);
                producer.drain(Duration::ZERO).await;
                return (input, Drained::Stopped);
            }
            if producer.reports.is_broken.load(Ordering::Acquire) {
                producer = match self.renew(producer, &mut sender, None).await {
                    Ok(next) => next,
                    Err(drained) => return (input, drained),
                };
            }
            let mut told = producer.reports.take();
            sender.hear(&mut told);
            for (route, was_too_large) in told.doubtful {
                if !self.look_again(&mut sender, route, was_too_large).await {
                    return (
                        input,
                        if end(sender, producer, Duration::ZERO).await { Drained::All } else { Drained::Some },
                    );
                }
            }
            if let Some(group) = group {
                let names = sender.routes.unknown(&self.config.topic, &self.config.name, &group, &group.source.input());
                for name in names {
                    let Some(found) = self.ask(&name, Use::Records).await else { break };
                    sender.routes.add(&name, found);
                }
                if let Some(group) = self.admit(&producer, &mut sender, group) {
                    sender.send(&mut producer, group);
                }
            } else {
                sender.release(&mut producer);
            }
            producer = match self.advance(producer, &mut sender).await {
                Ok(same) => same,
                Err(drained) => return (input, drained),
            };
        }
        if self.transact.is_some() {
            return (input, self.end_transaction(producer, sender).await);
        }
        (input, if end(sender, producer, self.config.drain_timeout).await { Drained::All } else { Drained::Some })
    }

    /// Waits for the topics that there must be, and makes a client. `None` if stopped before.
    async fn begin(&mut self) -> Option<(Producer, Sender)> {
        let facts = self.await_topic(&self.config.fixed_topic, Use::Records).await?;
        self.tell_guarantee(&facts);
        let producer = match self.keeper.take() {
            Some(keeper) => self.begin_transactions(facts, keeper).await?,
            None => self.producer(facts).await?,
        };
        let mut sender = Sender::new(&self.config, facts, self.metrics.clone());
        if let Some(letters) = &self.config.kafka.dead_letter_topic {
            let facts = self.await_topic(letters, Use::Records).await?;
            sender.dead_letters = sender.routes.add(letters, Found::Topic(facts));
        }
        Some((producer, sender))
    }

    /// Prints and exports the promise that holds.
    fn tell_guarantee(&self, facts: &Facts) {
        let (holds, weak) = (guarantee(&self.config.kafka), weaknesses(&self.config.kafka, facts));
        for one in Guarantee::ALL {
            self.metrics.guarantee.with_label_values(&[one.name()]).set(i64::from(one == holds));
        }
        self.metrics.weaknesses.set(i64::try_from(weak.len()).unwrap_or(i64::MAX));
        let topic = &*self.config.fixed_topic;
        tracing::info!(
            topic,
            effective_guarantee = holds.name(),
            facts.partitions,
            facts.replicas,
            facts.insync_min,
            "kafka is there"
        );
        for reason in weak {
            tracing::warn!(topic, reason, "the promise is weaker than asked");
        }
    }

    /// Looks again at a topic whose records failed. False if stopped before the cluster answered.
    async fn look_again(&self, sender: &mut Sender, route: usize, was_too_large: bool) -> bool {
        let name = sender.routes[route].name.to_string();
        let is_needed = route == 0 || Some(route) == sender.dead_letters;
        let found = if is_needed {
            self.await_topic(&name, Use::Records).await.map(Found::Topic)
        } else {
            self.ask(&name, Use::Records).await
        };
        match found {
            Some(Found::Topic(facts)) => sender.routes.adjust(route, facts, was_too_large),
            Some(unusable) => drop(sender.routes.add(&name, unusable)),
            None => return false,
        }
        true
    }

    /// Asks until `topic` is there and as safe as it has to be. `None` if stopped before.
    async fn await_topic(&self, topic: &str, usage: Use) -> Option<Facts> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            let reason = match self.ask(topic, usage).await? {
                Found::Unusable(reason) => reason,
                Found::Topic(facts) => match weaknesses(&self.config.kafka, &facts) {
                    weak if self.config.kafka.strict && !weak.is_empty() => {
                        format!(
                            "topic {topic:?}: the promise is weaker than asked, and kafka.strict is set: {}",
                            weak.join("; ")
                        )
                    }
                    _ => {
                        self.health.set("kafka", None);
                        return Some(facts);
                    }
                },
            };
            if !self.wait(reason, &mut backoff).await {
                return None;
            }
        }
    }

    /// Asks until the cluster answers. `None` if stopped before.
    async fn ask(&self, topic: &str, usage: Use) -> Option<Found> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            match topic::inspect(&self.config, topic, usage).await {
                Ok(found) => return Some(found),
                Err(error) => {
                    if !self.wait(format!("{error:#}"), &mut backoff).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Tells what is waited for, and waits a little. False if stopped.
    async fn wait(&self, reason: String, backoff: &mut Backoff) -> bool {
        tracing::error!(error = reason, "nothing is sent; the log files are the buffer, this is tried again");
        self.health.set("kafka", Some(reason));
        tokio::select! {
            () = self.stop.stopped() => false,
            () = tokio::time::sleep(backoff.next()) => true,
        }
    }

    /// `facts`: of the fixed topic. `None` if stopped before there is a client.
    async fn producer(&self, facts: Facts) -> Option<Producer> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            let (metrics, health) = (self.metrics.clone(), self.health.clone());
            match Producer::new(&self.config, facts.message_bytes_max, metrics, health) {
                Ok(producer) => return Some(producer),
                Err(error) => tracing::error!(error = format!("{error:#}"), "no producer; it is tried again"),
            }
            tokio::select! {
                () = self.stop.stopped() => return None,
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }
}

/// Counts the partitions of all topics, beside the stage: route and partitions of those that answer.
fn count(producer: &Producer, sender: &Sender) -> JoinHandle<Vec<(usize, usize)>> {
    let names: Vec<_> = sender.routes.iter().map(|route| route.name.to_string()).collect();
    let client = producer.client.clone();
    tokio::task::spawn_blocking(move || {
        let counted = |(route, name): (usize, &String)| {
            let partitions = topic::shape(client.client(), name).ok()??.partitions;
            Some((route, partitions))
        };
        names.iter().enumerate().filter_map(counted).collect()
    })
}

/// What was counted; never, if nobody counts.
async fn ended(counts: &mut Option<JoinHandle<Vec<(usize, usize)>>>) -> Vec<(usize, usize)> {
    match counts {
        Some(counts) => counts.await.unwrap_or_default(), // A panic costs one count.
        None => std::future::pending().await,
    }
}

/// Hands over what waits, then waits for all reports, at most `patience` in all. True if everything was delivered.
async fn end(mut sender: Sender, mut producer: Producer, patience: Duration) -> bool {
    let deadline = monotonic() + patience;
    let reports = producer.reports.clone();
    while !sender.is_empty() && !reports.is_broken.load(Ordering::Acquire) {
        tokio::select! {
            () = reports.is_changed.notified() => {}
            () = until(sender.due()) => {}
            () = until(Some(deadline)) => break,
        }
        sender.hear(&mut reports.take());
        sender.release(&mut producer);
    }
    let is_handed_over = sender.is_empty();
    let is_delivered = producer.drain(deadline.duration_since(monotonic())).await;
    sender.hear(&mut reports.take()); // Of those sent one by one; what they leave is given back with the sender.
    is_delivered && is_handed_over && sender.is_empty()
}

/// Waits for ever if there is no such time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod exact_tests;
#[cfg(test)]
mod stage_tests;
#[cfg(test)]
mod tests;
