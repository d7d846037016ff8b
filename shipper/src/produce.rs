//! Groups → Kafka, and delivery reports → settlements.
//!
//! The log file is the buffer: what is not delivered is given back and read again, in order. Nothing is settled but by
//! a delivery report.

use crate::config::{Codec, ShipperConfig};
use crate::encode;
use crate::ffi::{self, Events, Finished, Scratch, Topic};
use crate::lanes::{Gate, Lanes, Parcel};
use crate::metrics::ShipperMetrics;
use crate::topic::{self, Facts};
use bytes::Bytes;
use event::{Ack, Group, Source};
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext, PurgeConfig};
use service::backoff::Backoff;
use service::clock::monotonic;
use service::health::Health;
use service::stop::Stop;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;

/// The report thread looks at its queue at least this often, whatever wakes it.
const REPORTS_WAIT_MAX: Duration = Duration::from_secs(1);
/// Longest wait for an answer that hastens the first record.
const FIRST_ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);
/// Room in a record for what the broker counts beside the payload: key, headers, framing.
const RECORD_FRAME_BYTES: usize = 1_024;
/// What a record costs in a request beside key and payload, at most.
const RECORD_BYTES: usize = 36;
/// What a request costs beside its records, at most.
const REQUEST_FRAME_BYTES: usize = 1_024;
/// A record that the broker refused as too large makes the limit shrink by this factor, when the topic tells no other.
const SHRINK: f64 = 0.8;

/// What is owed for a batch.
struct Owed {
    source: Arc<Source>,
    epoch: u32,
    ack: Ack,
    gate: Arc<Gate>,
    bytes: usize,
}

/// What is handed over for a parcel.
struct Encoded {
    key: Box<[u8]>,
    payloads: Bytes,
    payload_bytes: usize,
    spans: Vec<Range<u32>>,
    ack: Ack,
}

/// Takes delivery reports on the report thread.
struct Reports {
    metrics: ShipperMetrics,
    health: Health,
    /// The producer cannot go on: it is to be replaced.
    is_broken: AtomicBool,
    /// A record was refused as too large, or the topic is gone: look at it again.
    is_doubtful: AtomicBool,
    /// One of these was set, or a group can be handed over that had to wait.
    is_changed: Notify,
}

impl Reports {
    fn finish(&self, finished: Finished<Owed>) {
        let Owed { source, epoch, ack, gate, bytes } = finished.owed;
        self.metrics.groups_in_flight.dec();
        match finished.failure {
            None => {
                service::failpoint::hit("shipper-delivered");
                ack.settle();
            }
            Some(code) => {
                source.break_off(epoch); // At once: what follows in this file must not overtake what is read again.
                self.failed(&source, code);
                self.is_changed.notify_one();
            }
        }
        if gate.reported(bytes) {
            self.is_changed.notify_one();
        }
    }

    fn failed(&self, source: &Source, code: RDKafkaErrorCode) {
        match code {
            RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight => {}
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition => self.is_doubtful.store(true, Ordering::Release),
            _ => self.is_broken.store(true, Ordering::Release),
        }
        self.metrics.failed.with_label_values(&[&format!("{code:?}")]).inc();
        tracing::warn!(path = &*source.path, error = %code, "not delivered; it is read again from the last acknowledged offset");
    }
}

/// The context of the Kafka client: errors and reports.
struct Context(Arc<Reports>);

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        self.0
            .metrics
            .client_errors
            .with_label_values(&[&code.map_or("unknown".into(), |code| format!("{code:?}"))])
            .inc();
        if code == Some(RDKafkaErrorCode::Fatal) {
            self.0.is_broken.store(true, Ordering::Release);
            self.0.is_changed.notify_one();
        }
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.0.health.set("kafka", Some(reason.to_owned()));
        }
        tracing::warn!(%error, reason, "kafka");
    }
}

impl ProducerContext for Context {
    /// Address of the [`ffi`] batch that the record belongs to.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: usize) {
        let failure = match result {
            Ok(_) => None,
            Err((error, _)) => Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        if let Some(finished) = ffi::report::<Owed>(batch, failure) {
            if finished.failure.is_none() {
                self.0.health.set("kafka", None);
            }
            self.0.finish(finished);
        }
    }
}

/// A client, its topic, and the thread that takes its reports.
struct Producer {
    topic: Topic, // Before the client: dropped first.
    client: Arc<BaseProducer<Context>>,
    reports: Arc<Reports>,
    ends: Arc<AtomicBool>,
    poll: Option<std::thread::JoinHandle<()>>,
}

impl Producer {
    fn new(config: &ShipperConfig, facts: Facts, metrics: ShipperMetrics, health: Health) -> anyhow::Result<Self> {
        let mut settings = config.client()?;
        settings.set("message.max.bytes", facts.message_bytes_max.to_string());
        let (is_broken, is_doubtful) = (AtomicBool::new(false), AtomicBool::new(false));
        let reports = Arc::new(Reports { metrics, health, is_broken, is_doubtful, is_changed: Notify::new() });
        let client: BaseProducer<Context> = settings.create_with_context(Context(reports.clone()))?;
        let topic = Topic::new(client.client(), &config.kafka.topic)?;
        // An answer makes the client ask for its producer id at once; by itself it would wait half a second. The first
        // answer can come through a bootstrap connection that is just being closed. Without any it goes on as it would.
        for _ in 0..2 {
            client.client().fetch_metadata(Some(&config.kafka.topic), FIRST_ANSWER_WAIT_MAX).ok();
        }
        let (client, ends) = (Arc::new(client), Arc::new(AtomicBool::new(false)));
        let poll = {
            let (client, ends) = (client.clone(), ends.clone());
            std::thread::Builder::new().name("reports".into()).spawn(move || {
                let events = Events::wake_me(client.client());
                while !ends.load(Ordering::Acquire) {
                    // A wait inside `poll` spins for its last millisecond, so this thread waits by itself.
                    client.poll(Duration::ZERO);
                    if events.is_empty() {
                        std::thread::park_timeout(REPORTS_WAIT_MAX);
                    }
                }
            })?
        };
        Ok(Self { topic, client, reports, ends, poll: Some(poll) })
    }

    fn in_flight(&self) -> i64 {
        self.reports.metrics.groups_in_flight.get()
    }

    /// Waits for all reports, at most `patience`; then gives back what is left. True if everything was delivered.
    async fn drain(mut self, patience: Duration) -> bool {
        let deadline = monotonic() + patience;
        while self.in_flight() > 0 && monotonic() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let is_delivered = self.in_flight() == 0;
        if !is_delivered {
            // A purged record is not delivered: its report gives the span back.
            self.client.purge(PurgeConfig::default().queue().inflight());
            while self.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        self.ends.store(true, Ordering::Release);
        if let Some(thread) = self.poll.take() {
            thread.thread().unpark();
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)); // Wrong code must stop.
        }
        is_delivered
    }
}

/// How the stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everything that was taken is delivered.
    All,
    /// Some of it was given back: no acknowledgement came within `drain_timeout`.
    Some,
}

/// Produces groups until the input closes, then waits for their reports.
pub(crate) async fn run(
    config: ShipperConfig,
    mut input: Receiver<Group>,
    metrics: ShipperMetrics,
    health: Health,
    stop: Stop,
) -> Drained {
    let Some(mut facts) = await_topic(&config, &health, &stop).await else {
        input.close();
        let mut drained = Drained::All;
        while input.recv().await.is_some() {
            drained = Drained::Some; // Given back with its Ack.
        }
        return drained;
    };
    let Some(mut producer) = build(&config, facts, &metrics, &health, &stop).await else { return Drained::Some };
    let mut sender = Sender::new(&config, facts, metrics.clone());
    loop {
        let group = tokio::select! {
            group = input.recv() => match group {
                Some(group) => Some(group),
                None => break,
            },
            () = producer.reports.is_changed.notified() => None,
            () = until(sender.lanes.due()) => None,
        };
        if producer.reports.is_broken.load(Ordering::Acquire) {
            tracing::error!("the producer cannot go on and is made anew");
            metrics.rebuilt.inc();
            producer.drain(Duration::ZERO).await;
            let Some(next) = build(&config, facts, &metrics, &health, &stop).await else { return Drained::Some };
            producer = next;
        }
        if producer.reports.is_doubtful.swap(false, Ordering::AcqRel) {
            let Some(found) = await_topic(&config, &health, &stop).await else { break };
            sender.adjust(facts, found);
            facts = found;
        }
        match group {
            Some(group) => sender.send(&producer, group),
            None => sender.release(&producer),
        }
    }
    if end(sender, producer, config.drain_timeout).await { Drained::All } else { Drained::Some }
}

/// Hands over what waits, then waits for all reports, at most `patience` in all. True if everything was delivered.
async fn end(mut sender: Sender, producer: Producer, patience: Duration) -> bool {
    let deadline = monotonic() + patience;
    while !sender.lanes.is_empty() && !producer.reports.is_broken.load(Ordering::Acquire) {
        tokio::select! {
            () = producer.reports.is_changed.notified() => {}
            () = until(sender.lanes.due()) => {}
            () = until(Some(deadline)) => break,
        }
        sender.release(&producer);
    }
    let is_handed_over = sender.lanes.is_empty();
    drop(sender); // What still waits is given back.
    producer.drain(deadline.duration_since(monotonic())).await && is_handed_over
}

/// Waits for ever if there is no such time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Asks until the topic is there. `None` if stopped before.
async fn await_topic(config: &ShipperConfig, health: &Health, stop: &Stop) -> Option<Facts> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        match topic::inspect(config).await {
            Ok(facts) => {
                health.set("kafka", None);
                return Some(facts);
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "nothing is sent; the log files are the buffer, this is tried again");
                health.set("kafka", Some(error));
            }
        }
        tokio::select! {
            () = stop.stopped() => return None,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

async fn build(
    config: &ShipperConfig,
    facts: Facts,
    metrics: &ShipperMetrics,
    health: &Health,
    stop: &Stop,
) -> Option<Producer> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        match Producer::new(config, facts, metrics.clone(), health.clone()) {
            Ok(producer) => return Some(producer),
            Err(error) => tracing::error!(error = format!("{error:#}"), "no producer; it is tried again"),
        }
        tokio::select! {
            () = stop.stopped() => return None,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

/// Encodes groups and hands them over.
struct Sender {
    host: String,
    codec: Codec,
    key_template: crate::key::Template,
    record_bytes_max: usize,
    key: String,
    lanes: Lanes<Encoded>,
    scratch: Scratch,
    metrics: ShipperMetrics,
}

impl Sender {
    fn new(config: &ShipperConfig, facts: Facts, metrics: ShipperMetrics) -> Self {
        let batch_bytes =
            usize::try_from(config.kafka.batch_bytes.0).unwrap_or(usize::MAX).min(facts.message_bytes_max);
        let batch_bytes = batch_bytes.saturating_sub(REQUEST_FRAME_BYTES);
        Self {
            host: config.name.clone(),
            codec: config.kafka.codec,
            key_template: config.key.clone(),
            record_bytes_max: facts.message_bytes_max.saturating_sub(RECORD_FRAME_BYTES),
            key: String::new(),
            lanes: Lanes::new(facts.partitions, batch_bytes, config.kafka.linger),
            scratch: Scratch::default(),
            metrics,
        }
    }

    /// Takes over what a second look at the topic found; a limit that did not change yet was too high all the same.
    fn adjust(&mut self, before: Facts, now: Facts) {
        let told = now.message_bytes_max.saturating_sub(RECORD_FRAME_BYTES);
        let shrunk = (self.record_bytes_max as f64 * SHRINK) as usize;
        self.record_bytes_max = if now.message_bytes_max == before.message_bytes_max { shrunk } else { told };
    }

    /// Encodes `group` and hands it over, now or when its turn has come.
    fn send(&mut self, producer: &Producer, group: Group) {
        if !group.source.is_current(group.epoch) {
            return; // Given back with its Ack: something before it was, and it must not overtake.
        }
        let mut spans = Vec::with_capacity(group.records.len());
        let payloads = match self.codec {
            Codec::Json => {
                let mut out = Vec::with_capacity(group.buffer.len() + 512 * group.records.len());
                let counts = encode::json(&group, &self.host, self.record_bytes_max, &mut out, &mut spans);
                self.metrics.invalid_utf8.inc_by(counts.invalid_utf8);
                self.metrics.cut.inc_by(counts.cut);
                Bytes::from(out)
            }
            Codec::Raw => {
                let counts = encode::raw(&group, self.record_bytes_max, &mut spans);
                self.metrics.cut.inc_by(counts.cut);
                group.buffer.clone()
            }
        };
        self.key_template.render(&self.host, &group.source, &mut self.key);
        let payload_bytes: usize = spans.iter().map(|span| (span.end - span.start) as usize).sum();
        let bytes = payload_bytes + spans.len() * (self.key.len() + RECORD_BYTES);
        let lane = crate::key::partition(self.key.as_bytes(), self.lanes.len());
        let rest = Encoded { key: self.key.as_bytes().into(), payloads, payload_bytes, spans, ack: group.ack };
        self.lanes.push(lane, Parcel { source: group.source, epoch: group.epoch, bytes, since: monotonic(), rest });
        self.release_lane(producer, lane);
    }

    /// Hands over all whose turn has come.
    fn release(&mut self, producer: &Producer) {
        for lane in 0..self.lanes.len() {
            self.release_lane(producer, lane);
        }
    }

    fn release_lane(&mut self, producer: &Producer, lane: usize) {
        let Self { lanes, metrics, scratch, .. } = self;
        lanes.release(lane, monotonic(), |parcel, gate| {
            let Parcel { source, epoch, bytes, rest, .. } = parcel;
            let Encoded { key, payloads, payload_bytes, spans, ack } = rest;
            metrics.produced.inc_by(spans.len() as u64);
            metrics.produced_bytes.inc_by(payload_bytes as u64);
            metrics.groups_in_flight.inc();
            let owed = Owed { source, epoch, ack, gate: gate.clone(), bytes };
            service::failpoint::hit("shipper-before-produce");
            if let Some(finished) = ffi::produce(&producer.topic, &key, payloads, &spans, owed, scratch) {
                producer.reports.finish(finished);
            }
            service::failpoint::hit("shipper-after-produce");
        });
    }
}

#[cfg(test)]
mod tests;
