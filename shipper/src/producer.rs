//! A client of librdkafka, the topics it knows, and the thread that takes its reports. What a report comes to is decided by
//! [`remedy`]: nothing is settled but by a delivery report.

use crate::config::{Acks, Delivery, ShipperConfig};
use crate::encode::Lines;
use crate::ffi::{self, Events, Finished, Topic};
use crate::lanes::Gate;
use crate::metrics::ShipperMetrics;
use crate::remedy::{Remedy, remedy};
use crate::share::Share;
use crate::statistics;
use crate::token::{Refresh, Token};
use event::{Source, StreamId};
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::statistics::Statistics;
use service::clock::monotonic;
use service::health::Health;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The report thread looks at its queue at least this often, whatever wakes it.
const REPORTS_WAIT_MAX: Duration = Duration::from_secs(1);
/// Longest wait for an answer that hastens the first record.
const FIRST_ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);

/// In the place of a batch's address: the record is an offset.
pub(crate) const OFFSET: usize = 0;

/// What is owed for a batch.
pub(crate) struct Owed {
    pub(crate) source: Arc<Source>,
    pub(crate) epoch: u32,
    pub(crate) share: Share,
    pub(crate) gate: Arc<Gate>,
    /// What it takes of a request.
    pub(crate) bytes: usize,
    pub(crate) topic: Arc<str>,
    /// The topic, as the sender counts them.
    pub(crate) route: usize,
    /// How many lines it has.
    pub(crate) events: u64,
    /// Offset of its last record in the source.
    pub(crate) last_offset: u64,
    /// The batch is one record, sent by itself to find out which one is refused.
    pub(crate) alone: Option<Box<Alone>>,
}

/// A record that is sent by itself.
#[derive(Debug)]
pub(crate) struct Alone {
    pub(crate) lines: Lines,
    pub(crate) key: Box<[u8]>,
    pub(crate) lane: usize,
    /// Size of its payload as it was sent last.
    pub(crate) payload_bytes: usize,
    /// It is a dead letter: why.
    pub(crate) refused: Option<RDKafkaErrorCode>,
}

/// What the sender is told of reports.
#[derive(Default)]
pub(crate) struct Told {
    /// Topics to be looked at again; true if a batch was too large there.
    pub(crate) doubtful: BTreeMap<usize, bool>,
    /// Topics whose records failed: they are held for a moment.
    pub(crate) failed: BTreeSet<usize>,
    /// Sources whose records are to be sent one by one, up to this offset.
    pub(crate) singly: Vec<(StreamId, u64)>,
    /// Batches of one record that have their report; their gates are still closed.
    pub(crate) alone: Vec<Finished<Owed>>,
}

/// Takes delivery reports on the report thread.
pub(crate) struct Reports {
    metrics: ShipperMetrics,
    health: Health,
    delivery: Delivery,
    acks: Acks,
    /// As whom the client speaks to the brokers.
    principal: String,
    /// The producer cannot go on: it is to be replaced.
    pub(crate) is_broken: AtomicBool,
    /// This cluster never takes what the configuration asks for.
    pub(crate) is_stopped: AtomicBool,
    told: Mutex<Told>,
    /// Offsets that are on their way, and whether one of them was not delivered.
    pub(crate) offsets_open: AtomicUsize,
    pub(crate) is_offset_lost: AtomicBool,
    /// One of these was set, or a group can be handed over that had to wait.
    pub(crate) is_changed: Arc<Notify>,
}

impl Reports {
    /// What came since the last call.
    pub(crate) fn take(&self) -> Told {
        std::mem::take(&mut *self.told())
    }

    /// Topics that are still to be looked at again.
    pub(crate) fn look_again(&self, doubtful: BTreeMap<usize, bool>) {
        self.told().doubtful.extend(doubtful);
        self.is_changed.notify_one();
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn finish(&self, finished: Finished<Owed>) {
        self.metrics.groups_in_flight.dec();
        if finished.failure.is_none() && self.acks == Acks::None {
            self.metrics.unknown.inc_by(finished.owed.events); // The client's word, not a broker's.
        }
        if finished.owed.alone.is_some() {
            if let Some(code) = finished.failure {
                self.failed(&finished.owed, code);
            }
            self.told().alone.push(finished);
            self.is_changed.notify_one();
            return;
        }
        let Owed { gate, bytes, .. } = &finished.owed;
        let (gate, bytes) = (gate.clone(), *bytes);
        match finished.failure {
            None => {
                service::failpoint::hit("shipper-delivered");
                finished.owed.share.settle();
            }
            Some(code) => {
                if self.delivery != Delivery::AtMostOnce {
                    // At once: what follows in this file must not overtake what is read again.
                    finished.owed.source.break_off(finished.owed.epoch);
                }
                self.failed(&finished.owed, code);
                self.is_changed.notify_one();
            }
        }
        if gate.reported(bytes) {
            self.is_changed.notify_one();
        }
    }

    fn offset_reported(&self, failure: Option<RDKafkaErrorCode>) {
        if let Some(code) = failure {
            tracing::warn!(error = %code, "an offset was not delivered");
            self.is_offset_lost.store(true, Ordering::Release);
        }
        self.offsets_open.fetch_sub(1, Ordering::AcqRel);
        self.is_changed.notify_one();
    }

    /// Logs in with the next token. Without one the client goes on with the one it has, as long as that is good.
    fn log_in(&self, client: &Client<Context>, fetched: anyhow::Result<Token>) {
        if let Err(error) = fetched.and_then(|token| ffi::set_token(client, &token)) {
            let error = format!("{error:#}");
            tracing::error!(error, "no new token; it is tried again");
            self.health.set("kafka", Some(error));
        }
    }

    fn failed(&self, owed: &Owed, code: RDKafkaErrorCode) {
        self.metrics.failed.with_label_values(&[&format!("{code:?}")]).inc();
        let (path, topic) = (&*owed.source.path, &*owed.topic);
        if self.delivery == Delivery::AtMostOnce {
            tracing::error!(path, topic, error = %code, lines = owed.events, "not delivered and not sent again: delivery is at_most_once");
        } else if owed.alone.is_none() {
            tracing::warn!(path, topic, error = %code, "not delivered; it is read again from the last acknowledged offset");
        }
        let remedy = remedy(code);
        let mut told = self.told();
        match remedy {
            Remedy::Retry => {}
            Remedy::LookAgain => {
                told.doubtful.entry(owed.route).or_default();
            }
            Remedy::TooLarge | Remedy::Refused if owed.alone.is_none() => {
                told.singly.push((owed.source.stream, owed.last_offset + 1));
                if remedy == Remedy::TooLarge {
                    told.doubtful.insert(owed.route, true);
                }
            }
            Remedy::TooLarge | Remedy::Refused => {} // The sender sees to that one record.
            // The transaction is aborted, and if that does not help either the client says so.
            Remedy::Rebuild if self.delivery == Delivery::ExactlyOnce => {}
            Remedy::Stop if self.delivery == Delivery::ExactlyOnce && is_fenced(code) => {
                self.is_broken.store(true, Ordering::Release);
            }
            Remedy::Rebuild => self.is_broken.store(true, Ordering::Release),
            Remedy::Stop => self.is_stopped.store(true, Ordering::Release),
        }
        let is_purged = matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight);
        if !is_purged && matches!(remedy, Remedy::Retry | Remedy::LookAgain) {
            told.failed.insert(owed.route);
        }
        drop(told);
        if is_denied(code) {
            self.health.set("kafka", Some(format!("topic {topic}: {code}, as {}", self.principal)));
        }
    }
}

/// True if another producer has this one's transactional id now.
fn is_fenced(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced)
}

/// True if the brokers do not let this principal in, or do not let it do this.
pub(crate) fn is_denied(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
    )
}

/// What the client says of a denial, with what it leaves out: of a certificate it says the same whatever is wrong with it.
pub(crate) fn denial(code: RDKafkaErrorCode, reason: &str) -> String {
    if code == RDKafkaErrorCode::SSL && reason.contains("certificate verify failed") {
        return format!(
            "{reason}: the broker's certificate is of a CA that ssl.ca.location does not hold, or for another host name, or expired"
        );
    }
    reason.to_owned()
}

/// The context of the Kafka client: errors and reports.
pub(crate) struct Context(pub(crate) Arc<Reports>);

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let reports = &self.0;
        let label = code.map_or("unknown".into(), |code| format!("{code:?}"));
        reports.metrics.client_errors.with_label_values(&[&label]).inc();
        if code == Some(RDKafkaErrorCode::Fatal) {
            reports.is_broken.store(true, Ordering::Release);
            reports.is_changed.notify_one();
        }
        if let Some(code) = code.filter(|code| is_denied(*code)) {
            // The reason names the broker, and never the secret.
            let (reason, principal) = (denial(code, reason), &*reports.principal);
            reports.health.set("kafka", Some(format!("{reason}, as {principal}")));
            tracing::error!(%error, reason, principal, "kafka does not let the agent in; nothing is sent, the log files are the buffer");
            return;
        }
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            reports.health.set("kafka", Some(reason.to_owned()));
        }
        tracing::warn!(%error, reason, "kafka");
    }

    fn stats(&self, statistics: Statistics) {
        self.0.metrics.statistics.take(&statistics);
    }
}

impl ProducerContext for Context {
    /// Address of the [`ffi`] batch that the record belongs to, or [`OFFSET`].
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: usize) {
        let failure = match result {
            Ok(_) => None,
            Err((error, _)) => Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        if batch == OFFSET {
            return self.0.offset_reported(failure);
        }
        if let Some(finished) = ffi::report::<Owed>(batch, failure) {
            if finished.failure.is_none() {
                self.0.health.set("kafka", None);
            }
            self.0.finish(finished);
        }
    }
}

/// A client, its topics, and the thread that takes its reports.
pub(crate) struct Producer {
    topics: Vec<Option<Topic>>, // Before the client: dropped first.
    pub(crate) client: Arc<BaseProducer<Context>>,
    pub(crate) reports: Arc<Reports>,
    ends: Arc<AtomicBool>,
    poll: Option<std::thread::JoinHandle<()>>,
}

impl Producer {
    /// `message_bytes_max`: the largest record that any of the topics takes.
    pub(crate) fn new(
        config: &ShipperConfig,
        message_bytes_max: usize,
        metrics: ShipperMetrics,
        health: Health,
    ) -> anyhow::Result<Self> {
        let mut settings = match config.kafka.delivery {
            Delivery::ExactlyOnce => config.transactional()?,
            Delivery::AtLeastOnce | Delivery::AtMostOnce => config.client()?,
        };
        settings.set("message.max.bytes", message_bytes_max.to_string());
        if settings.get(statistics::OPTION).is_none() {
            settings.set(statistics::OPTION, statistics::INTERVAL_MS);
        }
        let reports = Arc::new(Reports {
            metrics,
            health,
            delivery: config.kafka.delivery,
            acks: config.kafka.acks(),
            principal: principal(&settings),
            is_broken: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            told: Mutex::default(),
            offsets_open: AtomicUsize::new(0),
            is_offset_lost: AtomicBool::new(false),
            is_changed: Arc::default(),
        });
        let client: BaseProducer<Context> = settings.create_with_context(Context(reports.clone()))?;
        let refresh = config.log_in(client.client())?;
        // An answer makes the client ask for its producer id at once; by itself it would wait half a second. The first
        // answer can come through a bootstrap connection that is just being closed. Without any it goes on as it would.
        for _ in 0..2 {
            client.client().fetch_metadata(Some(&config.fixed_topic), FIRST_ANSWER_WAIT_MAX).ok();
        }
        let (client, ends) = (Arc::new(client), Arc::new(AtomicBool::new(false)));
        let poll = {
            let (client, ends, reports, mut refresh) = (client.clone(), ends.clone(), reports.clone(), refresh);
            std::thread::Builder::new().name("reports".into()).spawn(move || {
                let events = Events::wake_me(client.client());
                while !ends.load(Ordering::Acquire) {
                    if let Some(fetched) = refresh.as_mut().and_then(Refresh::fetch_if_due) {
                        reports.log_in(client.client(), fetched);
                    }
                    // A wait inside `poll` spins for its last millisecond, so this thread waits by itself.
                    client.poll(Duration::ZERO);
                    if events.is_empty() {
                        std::thread::park_timeout(REPORTS_WAIT_MAX);
                    }
                }
            })?
        };
        Ok(Self { topics: Vec::new(), client, reports, ends, poll: Some(poll) })
    }

    /// The topic that the sender counts as `route`. `None` if librdkafka refuses the name.
    pub(crate) fn topic(&mut self, route: usize, name: &str) -> Option<&Topic> {
        if self.topics.len() <= route {
            self.topics.resize_with(route + 1, || None);
        }
        let topic = &mut self.topics[route];
        if topic.is_none() {
            *topic = Topic::new(self.client.client(), name).ok();
        }
        topic.as_ref()
    }

    fn in_flight(&self) -> i64 {
        self.reports.metrics.groups_in_flight.get()
    }

    /// Waits for all reports, at most `patience`; then gives back what is left. True if everything was delivered.
    pub(crate) async fn drain(mut self, patience: Duration) -> bool {
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

/// As whom a client with these settings speaks to the brokers: never a secret.
pub(crate) fn principal(settings: &rdkafka::ClientConfig) -> String {
    let of = |key: &str| settings.get(key).filter(|value| !value.is_empty());
    match (of("sasl.username"), of("ssl.certificate.location")) {
        (Some(user), _) => format!("user {user:?}"),
        (None, Some(certificate)) => format!("the holder of {certificate}"),
        (None, None) => "nobody in particular".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_certificate_is_told_with_what_can_be_wrong_with_it() {
        let of_librdkafka =
            "ssl://a:1: SSL handshake failed: certificate verify failed: verify that ssl.ca.location is right";
        let told = denial(RDKafkaErrorCode::SSL, of_librdkafka);
        assert!(told.starts_with("ssl://a:1") && told.contains("for another host name"), "{told}");
        for (code, reason) in [(RDKafkaErrorCode::SSL, "unexpected message"), (RDKafkaErrorCode::Authentication, "no")]
        {
            assert_eq!(denial(code, reason), reason);
        }
    }
}
