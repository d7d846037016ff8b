//! `delivery: exactly_once`: groups → Kafka transactions with the offsets at which they end → settlements.
//!
//! A transaction begins with a group and ends with one: what is settled is exactly what the topic of offsets has, so that a
//! restart reads on there. Nothing is settled before the commit. If a part of it fails all of it is aborted, given back and
//! read again; if nobody knows whether it was committed, the topic does.

use crate::attempt::{Attempt, Kept};
use crate::config::ShipperConfig;
use crate::key::partition;
use crate::offsets::{File, Found, file_key, file_value, session_key, session_value};
use crate::producer::{Context, OFFSET, Producer};
use anyhow::{Context as _, bail};
use event::{Committed, Group, Keeper, Progress, Source, StreamId};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::Offset;
use service::clock::monotonic;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

/// One wait for the coordinator: between two of them it is asked whether to go on.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// Longest time without any record while the offsets are read.
const READ_WAIT_MAX: Duration = Duration::from_secs(60);
/// Files that are forgotten in one transaction; the rest in the next ones.
const FORGOTTEN_MAX: usize = 1_000;

/// Sessions that are remembered: of each only the next one asks.
const SESSIONS_MAX: usize = 100;

/// Whether to go on waiting.
pub(crate) type Patience<'a> = &'a mut (dyn FnMut() -> bool + Send);

/// The shipper's end of what an [`event::Keeper`] has.
pub(crate) struct KeeperEnd {
    pub(crate) committed: oneshot::Sender<Vec<Committed>>,
    pub(crate) forgotten: UnboundedReceiver<File>,
}

/// A keeper, and the shipper's end of it.
pub(crate) fn keeper() -> (Keeper, KeeperEnd) {
    let (tell, committed) = oneshot::channel();
    #[expect(clippy::disallowed_methods, reason = "at most one a file that is forgotten")]
    let (forgotten, told) = tokio::sync::mpsc::unbounded_channel();
    (Keeper { committed, forgotten }, KeeperEnd { committed: tell, forgotten: told })
}

/// The transactions of one agent, one after the other.
pub(crate) struct Transact {
    agent: String,
    topic: String,
    partition: i32,
    interval: Duration,
    bytes_max: usize,
    /// Names this producer among those with its transactional id.
    session: String,
    /// Those before it in this process.
    sessions: Vec<String>,
    forgotten: UnboundedReceiver<File>,
    /// What the next commit forgets.
    forgetting: Vec<File>,
    open: Option<Open>,
    /// It must not be in the open transaction.
    held: Option<Group>,
}

struct Open {
    attempt: Arc<Attempt>,
    begun: Instant,
    bytes: usize,
    sources: HashMap<StreamId, (Arc<Source>, u32)>,
    /// Nothing more comes in.
    is_closing: bool,
}

/// What is to be done about the open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Nothing,
    Commit,
    Abort,
}

/// Why a transaction was not committed.
#[derive(Debug)]
pub(crate) enum Uncommitted {
    /// It is to be aborted.
    Abort(anyhow::Error),
    /// Nobody knows whether it was.
    Unknown(anyhow::Error, Undecided),
}

/// What a committed transaction settles.
#[derive(Debug)]
#[must_use = "dropped, it is given back and sent again"]
pub(crate) struct Safe(Vec<Kept>);

impl Safe {
    pub(crate) fn settle(self) {
        self.0.into_iter().for_each(|(_, ack)| ack.settle());
    }
}

/// What depends on a transaction of which nobody knows whether it was committed.
#[derive(Debug)]
pub(crate) struct Undecided {
    kept: Vec<Kept>,
    sources: Vec<(Arc<Source>, u32)>,
    offsets: Vec<(File, Progress)>,
}

impl Undecided {
    /// True if `found`, which was read since, has its offsets: all of them or none.
    pub(crate) fn is_in(&self, found: &Found) -> bool {
        let is_there = |(file, progress): &(File, Progress)| found.files.get(file).map(|at| at.0) == Some(*progress);
        self.offsets.first().is_some_and(is_there)
    }

    /// Settles everything, or gives it back.
    pub(crate) fn end(self, is_committed: bool) {
        if is_committed {
            return Safe(self.kept).settle();
        }
        for (source, epoch) in &self.sources {
            source.break_off(*epoch); // What follows must not overtake it.
        }
    }
}

impl Transact {
    /// `partitions`: of the topic of offsets.
    pub(crate) fn new(config: &ShipperConfig, partitions: usize, forgotten: UnboundedReceiver<File>) -> Self {
        let kafka = &config.kafka;
        Self {
            agent: config.producer.clone(),
            topic: kafka.offsets_topic.clone(),
            partition: i32::try_from(partition(config.producer.as_bytes(), partitions))
                .expect("Kafka counts them as i32"),
            interval: kafka.commit_interval,
            bytes_max: usize::try_from(kafka.commit_bytes.0).unwrap_or(usize::MAX),
            session: String::new(),
            sessions: Vec::new(),
            forgotten,
            forgetting: Vec::new(),
            open: None,
            held: None,
        }
    }

    /// Begins a session: every producer before it is fenced and its last transaction is decided; then what stands in the topic
    /// is all that there is.
    ///
    /// Errors: the brokers do not answer as long as there is patience, or do not let us. Then another client is needed.
    pub(crate) fn open_session(
        &mut self,
        config: &ShipperConfig,
        client: &BaseProducer<Context>,
        patience: Patience<'_>,
    ) -> anyhow::Result<Found> {
        insist(patience, |wait| client.init_transactions(wait)).context("beginning transactions")?;
        service::failpoint::hit("shipper-transaction-before-read");
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.remove(0);
        }
        self.sessions.push(std::mem::replace(&mut self.session, format!("{:016x}", fastrand::u64(..))));
        client.begin_transaction().context("beginning a transaction")?;
        self.put(client, &session_key(&self.agent), Some(&session_value(&self.session)))?;
        insist(patience, |wait| client.commit_transaction(wait)).context("committing a session")?;
        self.read(config, Some(&self.session), patience).context("reading the offsets topic")
    }

    /// True if another producer has begun a session since ours, as far as can be seen without fencing it.
    pub(crate) fn is_replaced(&self, config: &ShipperConfig, patience: Patience<'_>) -> anyhow::Result<bool> {
        let found = self.read(config, None, patience).context("reading the offsets topic")?;
        Ok(found.session.is_some_and(|session| session != self.session))
    }

    /// True if no other producer has begun a session between ours and the last one, which `found` was read in.
    pub(crate) fn follows_itself(&self, found: &Found) -> bool {
        found.session_before.as_ref().is_none_or(|before| self.sessions.contains(before))
    }

    /// What the topic has of this agent: up to the session `until`, or up to what is its end now. That is not waited for to be the
    /// end still: with others that write there it never is.
    fn read(&self, config: &ShipperConfig, until: Option<&str>, patience: Patience<'_>) -> anyhow::Result<Found> {
        let consumer: BaseConsumer = config.reader()?.create()?;
        config.log_in(consumer.client())?;
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(&self.topic, self.partition, Offset::Beginning)?;
        let end = match until {
            None => consumer.fetch_watermarks(&self.topic, self.partition, ANSWER_WAIT)?.1,
            Some(_) => i64::MAX,
        };
        consumer.assign(&from)?;
        let (mut found, mut heard) = (Found::default(), monotonic());
        while patience() {
            match consumer.poll(ANSWER_WAIT / 10) {
                Some(Ok(record)) => {
                    heard = monotonic();
                    found.take(&self.agent, record.key().unwrap_or_default(), record.payload())?;
                    let is_read = match until {
                        Some(session) => found.session.as_deref() == Some(session),
                        None => record.offset() + 1 >= end,
                    };
                    if is_read {
                        return Ok(found);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) if until.is_none() => return Ok(found),
                // Others commit between our records and the end: as long as they have not, it comes again.
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) => tracing::warn!(%error, topic = self.topic, "reading offsets"),
            }
            if heard.elapsed() > READ_WAIT_MAX {
                bail!("{}: nothing came for {READ_WAIT_MAX:?}", self.topic);
            }
        }
        bail!("stopped")
    }

    fn put(&self, client: &BaseProducer<Context>, key: &[u8], value: Option<&[u8]>) -> anyhow::Result<()> {
        let mut record = BaseRecord::with_opaque_to(&self.topic, OFFSET).partition(self.partition).key(key);
        if let Some(value) = value {
            record = record.payload(value);
        }
        let reports = &client.context().0;
        reports.offsets_open.fetch_add(1, Ordering::AcqRel);
        client.send(record).map_err(|(error, _)| {
            reports.offsets_open.fetch_sub(1, Ordering::AcqRel);
            anyhow::Error::from(error).context(format!("writing to {}", self.topic))
        })
    }

    /// True if a group may come.
    pub(crate) fn takes(&self) -> bool {
        let is_open = |open: &Open| !open.is_closing && !open.attempt.is_failed();
        self.held.is_none() && self.open.as_ref().is_none_or(is_open)
    }

    /// When the open transaction is to end, if it goes on as it does.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.open.as_ref().filter(|open| !open.is_closing).map(|open| open.begun + self.interval)
    }

    /// The group that had to wait for the end of a transaction, when it may go.
    pub(crate) fn next_held(&mut self) -> Option<Group> {
        if self.open.is_some() { None } else { self.held.take() }
    }

    /// Takes `group` into the open transaction, or into a new one. `None` if it has to wait for the next one, or was given back.
    ///
    /// `is_suspect`: one of its records may be refused, and everything in its transaction with it: it has one for itself.
    pub(crate) fn admit(
        &mut self,
        producer: &Producer,
        group: Group,
        is_suspect: bool,
    ) -> Option<(Group, Arc<Attempt>)> {
        let (stream, epoch) = (group.source.stream, group.epoch);
        let is_current = group.source.is_current(epoch);
        if let Some(open) = &mut self.open {
            // Given back elsewhere: it is read again from what is committed, so what is in this transaction is, too.
            if open.sources.get(&stream).is_some_and(|(_, known)| *known != epoch || !is_current) {
                open.attempt.fail();
            }
            if is_suspect {
                open.is_closing = true;
                self.held = Some(group);
                return None;
            }
        }
        if !is_current {
            return None; // Given back with its Ack.
        }
        if self.open.is_none() {
            if let Err(error) = producer.client.begin_transaction() {
                tracing::error!(%error, "no transaction can be begun");
                producer.reports.is_broken.store(true, Ordering::Release);
                self.held = Some(group);
                return None;
            }
            producer.reports.is_offset_lost.store(false, Ordering::Release);
            let (attempt, begun) = (Arc::new(Attempt::new(producer.reports.is_changed.clone())), monotonic());
            self.open = Some(Open { attempt, begun, bytes: 0, sources: HashMap::new(), is_closing: false });
        }
        let open = self.open.as_mut()?;
        open.bytes += group.buffer.len();
        open.is_closing |= is_suspect || open.bytes >= self.bytes_max;
        open.sources.entry(stream).or_insert_with(|| (group.source.clone(), epoch));
        Some((group, open.attempt.clone()))
    }

    /// Lets nothing more into the open transaction.
    pub(crate) fn close(&mut self) {
        if let Some(open) = &mut self.open {
            open.is_closing = true;
        }
    }

    /// True if the open transaction takes nothing more.
    pub(crate) fn is_closing(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.is_closing)
    }

    /// What is to be done now.
    pub(crate) fn next(&mut self) -> Next {
        let due = self.due();
        let Some(open) = &mut self.open else { return Next::Nothing };
        open.is_closing |= due.is_some_and(|due| due <= monotonic());
        if open.attempt.is_failed() {
            return Next::Abort;
        }
        if open.is_closing && open.attempt.is_idle() { Next::Commit } else { Next::Nothing }
    }

    /// Commits the open transaction, in which nothing is on its way any more. Returns its groups, which are safe now.
    pub(crate) async fn commit(
        &mut self,
        client: &BaseProducer<Context>,
        patience: Patience<'_>,
    ) -> Result<Safe, Uncommitted> {
        let Some(open) = &self.open else { return Ok(Safe(Vec::new())) };
        if open.sources.values().any(|(source, epoch)| !source.is_current(*epoch)) {
            return Err(Uncommitted::Abort(anyhow::anyhow!("a part of it is read again")));
        }
        let (reports, attempt) = (&client.context().0, open.attempt.clone());
        let kept = attempt.take();
        let written = offsets(&kept).and_then(|offsets| {
            self.write(client, &kept, &offsets)?;
            Ok(offsets)
        });
        while reports.offsets_open.load(Ordering::Acquire) > 0 && patience() {
            // The thread that takes reports tells; time only that patience has an end.
            tokio::time::timeout(ANSWER_WAIT, reports.is_changed.notified()).await.ok();
        }
        reports.is_changed.notify_one(); // Whatever else was told.
        let is_lost = reports.is_offset_lost.swap(false, Ordering::AcqRel);
        let offsets = match written {
            Ok(offsets) if !is_lost && reports.offsets_open.load(Ordering::Acquire) == 0 => offsets,
            written => {
                let error = written.err().unwrap_or_else(|| anyhow::anyhow!("an offset was not delivered"));
                kept.into_iter().for_each(|(source, ack)| attempt.keep(source, ack));
                return Err(Uncommitted::Abort(error));
            }
        };
        service::failpoint::hit("shipper-transaction-before-commit");
        let committed = insist(patience, |wait| client.commit_transaction(wait));
        let sources = self.open.take().into_iter().flat_map(|open| open.sources.into_values()).collect();
        if let Err(error) = committed {
            let offsets = offsets.into_values().collect();
            return Err(Uncommitted::Unknown(error, Undecided { kept, sources, offsets }));
        }
        service::failpoint::hit("shipper-transaction-after-commit");
        self.forgetting.clear();
        Ok(Safe(kept))
    }

    /// Writes the offsets, and that files are forgotten.
    fn write(
        &mut self,
        client: &BaseProducer<Context>,
        kept: &[Kept],
        offsets: &HashMap<StreamId, (File, Progress)>,
    ) -> anyhow::Result<()> {
        while self.forgetting.len() < FORGOTTEN_MAX {
            let Ok(file) = self.forgotten.try_recv() else { break };
            self.forgetting.push(file);
        }
        for file in &self.forgetting {
            let is_read_again = offsets.values().any(|(known, _)| known == file);
            if !is_read_again {
                self.put(client, &file_key(&self.agent, &file.0, file.1), None)?;
            }
        }
        let sources: HashMap<_, _> = kept.iter().map(|(source, _)| (source.stream, source)).collect();
        for (stream, ((input, incarnation), progress)) in offsets {
            let Some(entry) = sources.get(stream).and_then(|source| source.entry()) else { continue };
            self.put(client, &file_key(&self.agent, input, *incarnation), Some(&file_value(progress, entry)))?;
        }
        service::failpoint::hit("shipper-transaction-after-offsets");
        Ok(())
    }

    /// Breaks off the files of the open transaction: nothing of them is to overtake what is read again.
    pub(crate) fn break_off(&mut self) {
        for (source, epoch) in self.open.iter().flat_map(|open| open.sources.values()) {
            source.break_off(*epoch);
        }
    }

    /// True if groups of the open transaction have not ended.
    pub(crate) fn has_open_groups(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.attempt.is_idle())
    }

    /// True if no transaction is open.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.open.is_none() && self.held.is_none()
    }

    /// Gives back all groups of the open transaction, and forgets it.
    pub(crate) fn give_back(&mut self) {
        self.open = None;
    }
}

/// Where each file stands when the transaction is committed. What is no file has no place to stand.
///
/// Errors: a part of a group is owed elsewhere, or was given back; no offset may pass it.
fn offsets(kept: &[Kept]) -> anyhow::Result<HashMap<StreamId, (File, Progress)>> {
    let mut offsets: HashMap<StreamId, (File, Progress)> = HashMap::new();
    for (source, ack) in kept.iter().filter(|(source, _)| source.entry().is_some()) {
        let progress = ack.progress().with_context(|| format!("{}: a part of a group is not safe", source.path))?;
        let file = || ((source.input().id.clone(), source.incarnation), progress);
        let known = offsets.entry(source.stream).or_insert_with(file);
        if progress.offset > known.1.offset {
            known.1 = progress;
        }
    }
    Ok(offsets)
}

/// Calls until it is done; a call that only ran out of time goes on where it was.
fn insist(patience: Patience<'_>, mut call: impl FnMut(Duration) -> KafkaResult<()>) -> anyhow::Result<()> {
    loop {
        match call(ANSWER_WAIT) {
            Ok(()) => return Ok(()),
            Err(error) if is_retriable(&error) && patience() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => error.is_retriable(),
        KafkaError::Flush(_) => true,
        _ => false,
    }
}

/// Aborts the transaction that `client` has open. Errors: the client is of no use any more.
pub(crate) fn abort(client: &BaseProducer<Context>, patience: Patience<'_>) -> anyhow::Result<()> {
    insist(patience, |wait| client.abort_transaction(wait))
}
