//! Before the first record: does the topic exist, and how large a record does it take?

use crate::config::{KafkaConfig, ShipperConfig};
use anyhow::{Context as _, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use std::time::Duration;

/// Longest wait for one answer of the cluster.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What a broker takes if it does not tell: Kafka's default.
const RECORD_BYTES_DEFAULT: usize = 1_048_588;

/// What a topic is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `max.message.bytes`: the largest batch, and so the largest record, that the topic takes.
    pub(crate) message_bytes_max: usize,
    pub(crate) partitions: usize,
}

/// Asks the cluster, making the topic if the configuration says how.
///
/// Errors: no broker answers; the topic does not exist; each says what to do.
pub(crate) async fn inspect(config: &ShipperConfig) -> anyhow::Result<Facts> {
    let kafka = &config.kafka;
    let mut client = config.client()?;
    client.remove("enable.idempotence"); // Producer settings mean nothing to an admin client.
    let admin: AdminClient<DefaultClientContext> = client.create().context("kafka")?;
    let partitions = match partitions(&admin, kafka)? {
        Some(partitions) => partitions,
        None => create(&admin, kafka).await?,
    };
    let message_bytes_max = message_bytes_max(&admin, kafka).await.unwrap_or(RECORD_BYTES_DEFAULT);
    // Ending an admin client takes a tenth of a second, which the first record need not wait for.
    drop(tokio::task::spawn_blocking(move || drop(admin)));
    Ok(Facts { message_bytes_max, partitions })
}

/// How many partitions the topic has. `None` if it does not exist.
fn partitions(admin: &AdminClient<DefaultClientContext>, kafka: &KafkaConfig) -> anyhow::Result<Option<usize>> {
    let asked = admin.inner().fetch_metadata(Some(&kafka.topic), ANSWER_TIMEOUT);
    let metadata = asked.with_context(|| format!("no broker answers at {}", kafka.brokers.join(", ")))?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == kafka.topic);
    let Some(topic) = topic else { return Ok(None) };
    match topic.error().map(RDKafkaErrorCode::from) {
        None => Ok(Some(topic.partitions().len())),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(error) => bail!("topic {:?}: {error}", kafka.topic),
    }
}

/// Makes the topic. Returns how many partitions it was to have.
async fn create(admin: &AdminClient<DefaultClientContext>, kafka: &KafkaConfig) -> anyhow::Result<usize> {
    let Some(how) = kafka.create_topic else {
        bail!(
            "topic {:?} does not exist: create it, or set kafka.create_topic: {{partitions: …, replication_factor: …}}",
            kafka.topic
        );
    };
    let topic = NewTopic::new(&kafka.topic, how.partitions, TopicReplication::Fixed(how.replication_factor));
    let answers = admin.create_topics([&topic], &AdminOptions::new().operation_timeout(Some(ANSWER_TIMEOUT))).await?;
    match answers.into_iter().next() {
        Some(Ok(_)) => tracing::info!(topic = kafka.topic, partitions = how.partitions, "topic created"),
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => {}
        Some(Err((_, error))) => bail!("topic {:?} cannot be created: {error}", kafka.topic),
    }
    Ok(usize::try_from(how.partitions).unwrap_or(1))
}

async fn message_bytes_max(admin: &AdminClient<DefaultClientContext>, kafka: &KafkaConfig) -> Option<usize> {
    let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
    let answers = admin.describe_configs([&ResourceSpecifier::Topic(&kafka.topic)], &options).await.ok()?;
    let config = answers.into_iter().next()?.ok()?;
    config.get("max.message.bytes")?.value.as_ref()?.parse().ok()
}
