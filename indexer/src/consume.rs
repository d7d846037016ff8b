//! Kafka → parcels, settlements → commits: one thread that owns the consumer and the ledger.
//!
//! It never blocks: when the stages behind it are full it first waits a little, then pauses the partitions and goes on
//! polling, so that the group keeps its assignment however long the search node is away.

mod gone;
mod hold;
mod watch;

use crate::config::Commit;
use crate::lag::Lag;
use crate::member::{Change, Member};
use crate::metrics::Metrics;
use crate::parcel::{Parcel, PutOff};
use crate::partitions::{Incoming, Partitions, Spot, Still};
use crate::topics::Subscription;
use crate::valley::Valley;
use crate::{ffi, headers};
use anyhow::Context as _;
use event::{Budget, Entry};
use gone::Gap;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use service::clock::{monotonic, wall_ms};
use service::failpoint;
use service::stop::Stop;
use std::collections::{BTreeSet, HashSet};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
pub use watch::Watch;

/// Longest wait in one poll.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Wait between looks while the stages behind are full for a moment.
const FULL_WAIT: Duration = Duration::from_millis(2);
/// Full for so long, partitions are paused. Not at once: a pause throws away what librdkafka has fetched.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// Shortest time between two commits.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for the broker's answer to a commit at a revoke or at the end.
const COMMIT_WAIT: Duration = Duration::from_secs(5);
/// Longest wait until a consumer that failed has left the group.
const LEAVE_WAIT: Duration = Duration::from_secs(5);
/// Longest wait for one seek.
const SEEK_WAIT: Duration = Duration::from_secs(2);
/// Most parcels that wait for one worker.
pub const LANE_PARCELS_MAX: usize = 4;
/// Most records taken in one round, before settlements are looked at again.
const ROUND_RECORDS_MAX: usize = 8_000;

/// The way to one worker.
#[derive(Debug)]
pub struct Lane {
    /// Takes parcels.
    pub sender: SyncSender<Parcel>,
    /// Parcels in it: counted up here, down by the worker.
    pub waiting: Arc<AtomicUsize>,
}

/// How long things may take at a revoke and at the end.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For what is in flight of revoked partitions; less than the session time-out.
    pub revoke: Duration,
    /// For everything in flight when the process is told to stop.
    pub drain: Duration,
}

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything that was taken is settled and committed.
    Clean,
    /// Time ran out: so many records are not settled, and will be read again.
    Unfinished(u64),
}

/// The stage.
pub struct Consume {
    /// Subscribed already.
    pub consumer: BaseConsumer<Member>,
    /// What is assigned.
    pub partitions: Partitions,
    /// Where acks report to.
    pub acks: UnboundedReceiver<Entry>,
    /// To the workers.
    pub lanes: Vec<Lane>,
    /// Bounds what is in flight.
    pub budget: Budget,
    /// Bounds waits.
    pub patience: Patience,
    /// Topics whose records wait for their time.
    pub retry_topics: HashSet<String>,
    /// What the consumer is subscribed to, as it changes.
    pub subscription: Subscription,
    /// Stop where records are gone before they were read.
    pub strict: bool,
    /// Which offsets are committed.
    pub commit: Commit,
    /// What decides how fast overflow topics are read, and by which lag; none: there are none.
    pub overflow: Option<(Valley, Lag)>,
    /// What tells how far behind the group is, and how long records are kept.
    pub watch: Watch,
    /// Counts.
    pub metrics: Metrics,
}

/// What the loop remembers between rounds.
struct Round {
    full_since: Option<Instant>,
    paused: bool,
    still: Still,
    commit_due: Instant,
    /// Topics that are gone, and when it is looked next whether they are there again.
    gone: BTreeSet<String>,
    look_due: Instant,
    lost_due: Instant,
    /// Partitions of which records are gone before they were read, until the group's offset has passed the gap.
    gaps: Vec<Gap>,
}

impl Consume {
    /// Runs until `stop`, then drains, commits and leaves the group.
    ///
    /// Errors: the consumer cannot go on (another took its static id, rights were withdrawn), a worker ended, or it panicked.
    pub fn run(mut self, stop: &Stop) -> anyhow::Result<Ended> {
        let ended = panic::catch_unwind(AssertUnwindSafe(|| self.consume(stop)));
        self.consumer.context().close();
        match ended {
            Ok(Ok(ended)) => {
                drop(self.consumer); // Leaves the group, unless its id is static.
                Ok(ended)
            }
            Ok(Err(error)) => {
                leave(self.consumer);
                Err(error)
            }
            Err(panicked) => {
                leave(self.consumer);
                let text = panicked.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panicked.downcast_ref::<&str>().copied()).unwrap_or("no message");
                anyhow::bail!(
                    "the consumer thread panicked, which is a bug: {text}; what was not committed is read again"
                )
            }
        }
    }

    fn consume(&mut self, stop: &Stop) -> anyhow::Result<Ended> {
        let mut round = Round {
            full_since: None,
            paused: false,
            still: if self.overflow.is_some() { Still::Overflow } else { Still::None },
            commit_due: monotonic() + COMMIT_EVERY,
            gone: BTreeSet::new(),
            look_due: monotonic(),
            lost_due: monotonic(),
            gaps: Vec::new(),
        };
        while !stop.is_stopped() {
            self.round(&mut round)?;
        }
        self.drain()
    }

    fn round(&mut self, round: &mut Round) -> anyhow::Result<()> {
        self.note_acks();
        while let Some(change) = self.consumer.context().next_change() {
            self.change(change, if round.paused { Still::All } else { round.still })?;
        }
        self.look_for_topics(round)?;
        self.look_for_lost(round)?;
        self.look_for_gone(round);
        self.rewind();
        self.watch();
        if !round.paused {
            self.wake();
        }
        if monotonic() >= round.commit_due {
            self.commit();
            round.commit_due = monotonic() + COMMIT_EVERY;
        }
        if self.hand_on()? {
            if round.paused {
                tracing::info!("the output takes records again, partitions resumed");
                self.pause(round.still);
                self.metrics.paused.set(0);
                round.paused = false;
            }
            round.full_since = None;
            self.gather()?;
            round.still = self.still();
            self.pause(round.still);
            return Ok(());
        }
        let full_since = *round.full_since.get_or_insert_with(monotonic);
        if round.paused {
            self.poll(POLL_WAIT)?; // Nothing but events and strays: all partitions are paused.
        } else if full_since.elapsed() < PAUSE_AFTER {
            std::thread::sleep(FULL_WAIT);
        } else {
            tracing::info!("the output is full, partitions paused");
            self.pause(Still::All);
            self.metrics.paused.set(1);
            round.paused = true;
        }
        Ok(())
    }

    /// Takes what there is, until a parcel is full.
    fn gather(&mut self) -> anyhow::Result<()> {
        let mut wait = POLL_WAIT;
        for _ in 0..ROUND_RECORDS_MAX {
            match self.poll(wait)? {
                Polled::Taken => wait = Duration::ZERO,
                Polled::Full | Polled::Nothing => break,
            }
        }
        Ok(())
    }

    fn poll(&mut self, wait: Duration) -> anyhow::Result<Polled> {
        match self.consumer.poll(wait) {
            None => Ok(Polled::Nothing),
            Some(Ok(message)) if self.strict && self.consumer.context().has_resets() => {
                // What is missing stands before this record, which is not taken: the loop stops at what is lost.
                drop(message);
                Ok(Polled::Full)
            }
            Some(Ok(message)) => {
                let put_off = self.put_off(&message);
                if let Some(not_before_ms) = put_off.as_ref().map(|put_off| put_off.not_before_ms)
                    && not_before_ms > wall_ms()
                    && self.retry_topics.contains(message.topic())
                {
                    self.partitions.wait(message.topic(), message.partition(), message.offset(), not_before_ms);
                    return Ok(Polled::Taken);
                }
                Ok(if take(&mut self.partitions, &message, put_off) { Polled::Full } else { Polled::Taken })
            }
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => Err(KafkaError::MessageConsumptionFatal(code))
                .context(match code {
                    RDKafkaErrorCode::FencedInstanceId => "another indexer runs with the same kafka.static_id",
                    RDKafkaErrorCode::UnreleasedInstanceId => {
                        "kafka.static_id is taken: another indexer runs with it, or one was killed, and the brokers keep its \
                         place for group.consumer.session.timeout.ms"
                    }
                    RDKafkaErrorCode::UnsupportedFeature | RDKafkaErrorCode::UnsupportedVersion => {
                        "the brokers do not have the group protocol that kafka.group_protocol asks for: set it to classic"
                    }
                    RDKafkaErrorCode::InconsistentGroupProtocol => {
                        "the members of the group do not speak the same protocol: give all the same kafka.assignors and \
                         kafka.group_protocol"
                    }
                    _ => "the consumer cannot go on",
                }),
            Some(Err(error)) => {
                self.metrics.consume_errors.inc();
                tracing::warn!(%error, "reading from kafka");
                Ok(Polled::Nothing)
            }
        }
    }

    /// Hands parcels to the workers. False if they or the budget are full.
    fn hand_on(&mut self) -> anyhow::Result<bool> {
        let (budget, lanes) = (&self.budget, &self.lanes);
        let waiting = |lane: &Lane| lane.waiting.load(Ordering::Acquire);
        let mut ended = false;
        let all = self.partitions.hand_on(
            |bytes| budget.try_take(bytes),
            || lanes.iter().any(|lane| waiting(lane) < LANE_PARCELS_MAX),
            |parcel| {
                let lane = lanes.iter().min_by_key(|lane| waiting(lane)).expect("there is at least one worker");
                lane.waiting.fetch_add(1, Ordering::AcqRel);
                ended |= lane.sender.try_send(parcel).is_err();
            },
        );
        anyhow::ensure!(!ended, "a worker ended, its records are read again");
        Ok(all)
    }

    fn note_acks(&mut self) {
        while let Ok(entry) = self.acks.try_recv() {
            self.partitions.note(entry);
        }
    }

    /// Seeks back where parcels were given back.
    fn rewind(&mut self) {
        for (topic, partition, offset) in self.partitions.rewinds() {
            tracing::warn!(%topic, partition, offset, "reading again from there");
            // With a wait, so that nothing fetched before the seek comes after it.
            match self.consumer.seek(&topic, partition, Offset::Offset(offset as i64), SEEK_WAIT) {
                Ok(()) => self.partitions.rewound(&topic, partition),
                Err(error) => tracing::warn!(%topic, partition, %error, "seeking, trying on"),
            }
        }
    }

    fn change(&mut self, change: Change, still: Still) -> anyhow::Result<()> {
        let cooperative = matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        match change {
            Change::Assign(places) => {
                tracing::info!(partitions = ?places, "assigned");
                let list = list_of(&places);
                for (topic, partition) in &places {
                    self.partitions.assign(topic, *partition);
                }
                let assigned =
                    if cooperative { self.consumer.incremental_assign(&list) } else { self.consumer.assign(&list) };
                assigned.context("taking assigned partitions")?;
                self.partitions.forget_pauses(); // A new partition starts unpaused, and a rebalance may resume the others.
                self.pause(still);
            }
            Change::Revoke(places) => {
                let lost = self.consumer.assignment_lost();
                tracing::info!(partitions = ?places, lost, "revoked");
                if !lost {
                    self.finish(&places)?;
                }
                failpoint::hit("indexer-revoke");
                for (topic, partition) in &places {
                    self.partitions.revoke(topic, *partition);
                }
                let list = list_of(&places);
                let given =
                    if cooperative { self.consumer.incremental_unassign(&list) } else { self.consumer.unassign() };
                given.context("giving partitions back")?;
            }
        }
        Ok(())
    }

    /// Waits for what is in flight of `places`, within limits, and commits how far they got.
    fn finish(&mut self, places: &[(String, i32)]) -> anyhow::Result<()> {
        for (topic, partition) in places {
            self.partitions.cut(topic, *partition);
        }
        let deadline = monotonic() + self.patience.revoke;
        while !places.iter().all(|(topic, partition)| self.partitions.is_idle(topic, *partition)) {
            if monotonic() >= deadline {
                tracing::warn!(waited = ?self.patience.revoke, "revoked partitions still have records in flight; the next owner reads them again");
                break;
            }
            self.hand_on()?;
            self.note_acks();
            std::thread::sleep(FULL_WAIT);
        }
        self.commit_and_wait()
    }

    /// Commits the settled prefixes that moved; the answer comes by `poll`.
    fn commit(&mut self) -> bool {
        if self.commit == Commit::Never {
            return false;
        }
        if self.consumer.context().take_commit_failed() {
            self.partitions.forget_commits();
        }
        let places = self.partitions.to_commit();
        if places.is_empty() {
            return false;
        }
        failpoint::hit("indexer-before-commit");
        let sent = offsets_of(&places).and_then(|list| ffi::commit(self.consumer.client(), &list));
        match sent {
            Ok(()) => {
                self.consumer.context().commit_sent();
                self.partitions.committed(&places);
                failpoint::hit("indexer-after-commit");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "committing offsets, trying again");
                false
            }
        }
    }

    /// Commits and waits for the broker's answer. Not by a synchronous commit: that one waits without a limit.
    fn commit_and_wait(&mut self) -> anyhow::Result<()> {
        let deadline = monotonic() + COMMIT_WAIT;
        self.poll(Duration::ZERO)?; // An earlier commit may have failed: that has to be known now.
        if !self.commit() {
            return Ok(());
        }
        while self.consumer.context().has_unanswered_commits() && monotonic() < deadline {
            self.poll(FULL_WAIT)?;
        }
        Ok(())
    }

    /// Stops taking records, waits for what is in flight, and commits.
    fn drain(&mut self) -> anyhow::Result<Ended> {
        let deadline = monotonic() + self.patience.drain;
        self.partitions.forget_gathered();
        self.pause(Still::All);
        self.metrics.paused.set(1);
        self.lanes.clear(); // The workers hand on what they hold, and end.
        while !self.partitions.is_settled() && monotonic() < deadline {
            self.note_acks();
            while let Some(change) = self.consumer.context().next_change() {
                self.change(change, Still::All)?;
            }
            self.poll(FULL_WAIT)?;
            self.partitions.forget_gathered(); // Strays from before the pause.
        }
        self.note_acks();
        self.commit_and_wait()?;
        // The broker may have taken seconds to answer, and what was left may have come to its end meanwhile.
        self.note_acks();
        if self.partitions.is_settled() {
            self.commit_and_wait()?;
            return Ok(Ended::Clean);
        }
        let left = u64::try_from(self.metrics.in_flight.get()).unwrap_or(0);
        Ok(Ended::Unfinished(left.max(1))) // A settlement that is on its way to us is not committed.
    }
}

/// Drops a consumer that failed, which leaves the group. If it does not come to an end, because it waits for the answer to a
/// rebalance that the failure cut off, the process ends without: the group finds out by itself, later.
fn leave(consumer: BaseConsumer<Member>) {
    let (left, waiting) = std::sync::mpsc::channel::<()>();
    let leaving = std::thread::Builder::new().name("leave".to_owned()).spawn(move || {
        drop(consumer);
        drop(left);
    });
    if leaving.is_ok() && waiting.recv_timeout(LEAVE_WAIT) == Err(RecvTimeoutError::Timeout) {
        tracing::warn!(waited = ?LEAVE_WAIT, "the group could not be left");
    }
}

enum Polled {
    Nothing,
    Taken,
    Full,
}

fn take(partitions: &mut Partitions, message: &BorrowedMessage<'_>, put_off: Option<PutOff>) -> bool {
    let record = Incoming {
        key: message.key(),
        value: message.payload(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        sent: headers::sent(message),
        put_off: put_off.map(Box::new),
    };
    partitions.take(message.topic(), message.partition(), record)
}

fn list_of(places: &[(String, i32)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (topic, partition) in places {
        list.add_partition(topic, *partition);
    }
    list
}

fn offsets_of(places: &[Spot]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (topic, partition, offset) in places {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset as i64))?;
    }
    Ok(list)
}
