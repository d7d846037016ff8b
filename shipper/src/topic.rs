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
    let (partitions, broker) = match partitions(&admin, kafka)? {
        Some((partitions, broker)) => (partitions, broker),
        None => (create(&admin, kafka).await?, None),
    };
    let message_bytes_max = message_bytes_max(&admin, kafka, broker).await.unwrap_or(RECORD_BYTES_DEFAULT);
    // Ending an admin client takes a tenth of a second, which the first record need not wait for.
    drop(tokio::task::spawn_blocking(move || drop(admin)));
    Ok(Facts { message_bytes_max, partitions })
}

/// How many partitions the topic has, and a broker that has one. `None` if it does not exist.
fn partitions(
    admin: &AdminClient<DefaultClientContext>,
    kafka: &KafkaConfig,
) -> anyhow::Result<Option<(usize, Option<i32>)>> {
    let asked = admin.inner().fetch_metadata(Some(&kafka.topic), ANSWER_TIMEOUT);
    let metadata = asked.with_context(|| format!("no broker answers at {}", kafka.brokers.join(", ")))?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == kafka.topic);
    let Some(topic) = topic else { return Ok(None) };
    match topic.error().map(RDKafkaErrorCode::from) {
        None => {
            let broker = topic.partitions().iter().map(|partition| partition.leader()).find(|leader| *leader >= 0);
            Ok(Some((topic.partitions().len(), broker)))
        }
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

/// Any broker can tell. Without one the client asks the controller, and waits for it where there is none at the moment.
async fn message_bytes_max(
    admin: &AdminClient<DefaultClientContext>,
    kafka: &KafkaConfig,
    broker: Option<i32>,
) -> Option<usize> {
    let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT)).broker_id(broker);
    let answers = admin.describe_configs([&ResourceSpecifier::Topic(&kafka.topic)], &options).await.ok()?;
    let config = answers.into_iter().next()?.ok()?;
    config.get("max.message.bytes")?.value.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::mocking::MockCluster;

    /// The double has no controller, ever, and does not know this question.
    #[tokio::test]
    async fn a_cluster_without_a_controller_delays_no_start() {
        let mock = MockCluster::new(1).expect("the mock starts");
        mock.create_topic("logs", 3, 1).expect("a topic");
        let yaml = format!("{{brokers: ['{}'], topic: logs}}", mock.bootstrap_servers());
        let kafka: KafkaConfig = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
        let config = ShipperConfig::new("web-01", kafka, Duration::from_secs(10)).expect("valid");
        let begun = service::clock::monotonic();
        let facts = inspect(&config).await.expect("the broker answers");
        assert_eq!(facts, Facts { message_bytes_max: RECORD_BYTES_DEFAULT, partitions: 3 });
        assert!(begun.elapsed() < ANSWER_TIMEOUT / 2, "{:?}", begun.elapsed());
    }
}
