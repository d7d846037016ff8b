//! Before the first record: does the topic exist, how large a record does it take, and how safe is it there?

use crate::config::{CreateTopic, KafkaConfig, ShipperConfig};
use crate::producer::{denial, is_denied, principal};
use anyhow::{Context as _, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use service::clock::monotonic;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest wait for one answer of the cluster.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the reason why no broker answers.
const DENIAL_WAIT: Duration = Duration::from_secs(2);
/// What a broker takes if it does not tell: Kafka's default.
const RECORD_BYTES_DEFAULT: usize = 1_048_588;

/// Longest name of a topic. Source: `org.apache.kafka.common.internals.Topic.MAX_NAME_LENGTH`.
const NAME_BYTES_MAX: usize = 249;

/// What a topic is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `max.message.bytes`: the largest batch, and so the largest record, that the topic takes.
    pub(crate) message_bytes_max: usize,
    pub(crate) partitions: usize,
    /// Copies of the partition that has the fewest.
    pub(crate) replicas: usize,
    /// `min.insync.replicas`; `None` if the broker does not tell.
    pub(crate) insync_min: Option<usize>,
    /// `unclean.leader.election.enable`; `None` if the broker does not tell.
    pub(crate) unclean_election: Option<bool>,
}

/// What the cluster says of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Topic(Facts),
    /// It is not there, or not as it is needed: why, and what to do.
    Unusable(String),
}

/// True if Kafka takes `name` for a topic.
/// Source: `org.apache.kafka.common.internals.Topic.validate`.
pub(crate) fn is_name(name: &str) -> bool {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !matches!(name, "" | "." | "..") && name.len() <= NAME_BYTES_MAX && name.chars().all(is_safe)
}

/// True if `value` can be a part of a topic's name, be it ever so strange: no letter that Kafka refuses, no capital, nothing
/// that is special at the start of a name or of a path.
pub(crate) fn is_confined(value: &str) -> bool {
    let is_fit = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    value.bytes().all(is_fit) && !value.starts_with(['-', '_', '.']) && !value.contains("..")
}

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Records,
    /// Lines of a command, which makes no topic.
    Lines,
    /// Of files; only the newest of each is wanted.
    Offsets,
}

/// Asks the cluster about `topic`, making it if the configuration says how.
///
/// Errors: no broker answers, or not to this question.
pub(crate) async fn inspect(config: &ShipperConfig, topic: &str, usage: Use) -> anyhow::Result<Found> {
    let kafka = &config.kafka;
    let mut client = config.client()?;
    client.remove("enable.idempotence"); // Producer settings mean nothing to an admin client.
    let admin: AdminClient<DefaultClientContext> = client.create().context("kafka")?;
    config.log_in(admin.inner())?;
    let mut asked = ask(&admin, kafka, topic, usage).await;
    if asked.is_err()
        && let Some(reason) = denied(config)
    {
        asked = asked.context(reason);
    }
    // Ending an admin client takes a tenth of a second, which the first record need not wait for.
    drop(tokio::task::spawn_blocking(move || drop(admin)));
    asked
}

async fn ask(
    admin: &AdminClient<DefaultClientContext>,
    kafka: &KafkaConfig,
    topic: &str,
    usage: Use,
) -> anyhow::Result<Found> {
    let known =
        shape(admin.inner(), topic).with_context(|| format!("no broker answers at {}", kafka.brokers.join(", ")))?;
    let Shape { partitions, replicas, leader } = match (known, kafka.create_topic) {
        (Some(known), _) => known,
        (None, Some(how)) => create(admin, topic, how, usage).await?,
        (None, None) if usage == Use::Offsets => {
            return Ok(Found::Unusable(format!(
                "kafka.offsets_topic: {topic:?} does not exist: create it with cleanup.policy=compact, or set kafka.create_topic"
            )));
        }
        (None, None) => {
            let advice = match usage {
                Use::Lines => "create it first; this command makes none",
                _ => "create it, or set kafka.create_topic: {partitions: …, replication_factor: …}",
            };
            return Ok(Found::Unusable(format!("topic {topic:?} does not exist: {advice}")));
        }
    };
    let explicit = kafka.partition.filter(|_| usage != Use::Offsets);
    if let Some(partition) = explicit.filter(|partition| *partition as usize >= partitions) {
        return Ok(Found::Unusable(format!(
            "kafka.partition: {partition}: topic {topic:?} has {partitions} partition(s), counted from 0"
        )));
    }
    let told = settings(admin, topic, leader).await.unwrap_or_default();
    let of = |name: &str| told.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    if usage == Use::Offsets
        && let Some(policy) = of("cleanup.policy").filter(|policy| !policy.contains("compact"))
    {
        return Ok(Found::Unusable(format!(
            "kafka.offsets_topic: {topic:?} has cleanup.policy={policy}, so that offsets would be deleted with time: set compact"
        )));
    }
    Ok(Found::Topic(Facts {
        message_bytes_max: of("max.message.bytes").and_then(|value| value.parse().ok()).unwrap_or(RECORD_BYTES_DEFAULT),
        partitions,
        replicas,
        insync_min: of("min.insync.replicas").and_then(|value| value.parse().ok()),
        unclean_election: of("unclean.leader.election.enable").and_then(|value| value.parse().ok()),
    }))
}

/// Why the brokers do not let this principal in, if that is it. Blocks for a moment: only a client that is polled is told.
fn denied(config: &ShipperConfig) -> Option<String> {
    let settings = config.client().ok()?;
    settings.get("security.protocol").filter(|protocol| *protocol != "plaintext")?;
    let client: BaseProducer<Denied> = settings.create_with_context(Denied::default()).ok()?;
    config.log_in(client.client()).ok()?;
    let deadline = monotonic() + DENIAL_WAIT;
    loop {
        client.poll(DENIAL_WAIT / 20);
        let reason = client.context().0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if reason.is_some() || monotonic() >= deadline {
            return reason.map(|reason| format!("{reason}, as {}", principal(&settings)));
        }
    }
}

/// Keeps the reason of a denial.
#[derive(Default)]
struct Denied(Mutex<Option<String>>);

impl ClientContext for Denied {
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code().filter(|code| is_denied(*code)) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(denial(code, reason));
        }
    }
}

impl ProducerContext for Denied {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// What the metadata tell of a topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) partitions: usize,
    /// Copies of the partition that has the fewest.
    replicas: usize,
    /// A broker that leads one of them.
    leader: Option<i32>,
}

/// What `topic` looks like. `None` if there is no such topic. Blocks.
///
/// Errors: no answer, or an error in it.
pub(crate) fn shape<C: ClientContext>(client: &Client<C>, topic: &str) -> anyhow::Result<Option<Shape>> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => {
            let all = found.partitions();
            let replicas = all.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
            let leader = all.iter().map(|partition| partition.leader()).find(|leader| *leader >= 0);
            Ok(Some(Shape { partitions: all.len(), replicas, leader }))
        }
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(error) => bail!("topic {topic:?}: {error}"),
    }
}

/// Makes the topic. Returns what it was to be.
async fn create(
    admin: &AdminClient<DefaultClientContext>,
    topic: &str,
    how: CreateTopic,
    usage: Use,
) -> anyhow::Result<Shape> {
    let mut new = NewTopic::new(topic, how.partitions, TopicReplication::Fixed(how.replication_factor));
    if usage == Use::Offsets {
        new = new.set("cleanup.policy", "compact");
    }
    let answers = admin.create_topics([&new], &AdminOptions::new().operation_timeout(Some(ANSWER_TIMEOUT))).await?;
    match answers.into_iter().next() {
        Some(Ok(_)) => tracing::info!(topic, partitions = how.partitions, "topic created"),
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => {}
        Some(Err((_, error))) => bail!("topic {topic:?} cannot be created: {error}"),
    }
    let replicas = usize::try_from(how.replication_factor).unwrap_or(1);
    Ok(Shape { partitions: usize::try_from(how.partitions).unwrap_or(1), replicas, leader: None })
}

/// The topic's settings, name and value. Any broker can tell. Without one the client asks the controller, and waits for it
/// where there is none at the moment.
async fn settings(
    admin: &AdminClient<DefaultClientContext>,
    topic: &str,
    broker: Option<i32>,
) -> Option<Vec<(String, String)>> {
    let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT)).broker_id(broker);
    let answers = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await.ok()?;
    let config = answers.into_iter().next()?.ok()?;
    Some(config.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::mocking::MockCluster;

    #[test]
    fn a_topics_name_is_of_few_letters() {
        for name in ["logs", "Logs_1.a-b", "x", &"x".repeat(249)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "é", "a\n", &"x".repeat(250)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_value_is_confined_to_the_harmless() {
        for value in ["shop", "shop-2.eu_west", "7"] {
            assert!(is_confined(value), "{value}");
        }
        for value in ["a/b", "..", "a..b", ".a", "-a", "_a", "A", "a b", "a\0", "\u{1b}[31m", "é", "a+b", "${x}"] {
            assert!(!is_confined(value), "{value:?}");
        }
    }

    /// The double has no controller, ever, and does not know this question.
    #[tokio::test]
    async fn a_cluster_without_a_controller_delays_no_start() {
        let mock = MockCluster::new(1).expect("the mock starts");
        mock.create_topic("logs", 3, 1).expect("a topic");
        let yaml = format!("{{brokers: ['{}'], topic: logs}}", mock.bootstrap_servers());
        let kafka: KafkaConfig = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
        let config = ShipperConfig::new("web-01", kafka, Duration::from_secs(10)).expect("valid");
        let begun = service::clock::monotonic();
        let found = inspect(&config, "logs", Use::Records).await.expect("the broker answers");
        let Found::Topic(facts) = found else { panic!("{found:?}") };
        assert_eq!((facts.message_bytes_max, facts.partitions), (RECORD_BYTES_DEFAULT, 3));
        assert!(begun.elapsed() < ANSWER_TIMEOUT / 2, "{:?}", begun.elapsed());
    }
}
