//! The Kafka section of the configuration → a subscribed consumer, and the producer settings of dead letters.

use crate::config::{CopyTopicConfig, GroupProtocol, IndexerConfig};
use crate::member::Member;
use crate::output;
use crate::topics::{Subscription, Wanted};
use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use service::health::Health;
use service::stop::Stop;
use std::collections::BTreeSet;
use std::time::Duration;

/// Smallest and largest queue of records that librdkafka has fetched ahead, in bytes (R7).
const PREFETCH: (u64, u64) = (1 << 20, 8 << 20);
/// A byte of that queue costs so many bytes of memory: librdkafka counts payloads, but keeps a structure of some 300 bytes
/// for each record, and asks for more before it has unpacked the answer before.
const PREFETCH_COST: u64 = 3;
/// Smallest answer to a fetch that librdkafka lets us ask for: one message of the largest size.
const FETCH_BYTES_MIN: u64 = 1 << 20;
/// Most compressed bytes of one partition in an answer. Logs unpack to five times that and more.
const FETCH_PARTITION_BYTES: u64 = 512 << 10;
/// Longest that a broker keeps a fetch waiting for records. A partition that is ready a moment after the others waits for
/// their fetch to come back, so this is also what the first record after a start waits.
const FETCH_WAIT_MS: &str = "25";
/// Wait before fetching on once the queue was full. At librdkafka's second, no more than a queue's worth is read a second.
const FETCH_BACKOFF_MS: &str = "10";
/// How old what is known of topics may become: so soon are new partitions and new leaders seen. At librdkafka's five minutes,
/// what is written to a new partition waits for so long.
const METADATA_AGE_MS: &str = "30000";
/// Longest wait for one answer about a topic.
const METADATA_WAIT: Duration = Duration::from_secs(5);

/// Options of librdkafka that would weaken the promise, or have a key of their own.
const REFUSED: &[(&str, &str)] = &[
    ("enable.auto.commit", "offsets are committed when the documents are safe, never on a timer"),
    ("enable.auto.offset.store", "offsets are committed when the documents are safe, never on a timer"),
    ("auto.offset.reset", "a new group starts at the earliest record: anything else skips records"),
    ("isolation.level", "aborted records must not be indexed"),
    ("check.crcs", "a damaged record must be noticed"),
    ("group.id", "use kafka.group"),
    ("group.instance.id", "use kafka.static_id"),
    ("group.protocol", "use kafka.group_protocol"),
    ("partition.assignment.strategy", "use kafka.assignors"),
    ("topic.blacklist", "topics are chosen by kafka.topics"),
    ("session.timeout.ms", "use kafka.session_timeout"),
    ("max.poll.interval.ms", "use kafka.max_poll_interval"),
    ("queued.max.messages.kbytes", "it follows from memory"),
    ("fetch.max.bytes", "it follows from memory"),
    ("fetch.message.max.bytes", "it follows from memory"),
    ("statistics.interval.ms", "the lag comes from it"),
    ("acks", "a dead letter counts only when all in-sync replicas have it"),
    ("enable.idempotence", "it keeps dead letters from being written twice"),
    ("message.timeout.ms", "a dead letter must not expire"),
];

/// Bytes of records that librdkafka may have fetched ahead.
fn prefetch_bytes(config: &IndexerConfig) -> u64 {
    (config.memory.0 / 16).clamp(PREFETCH.0, PREFETCH.1)
}

/// What is left of the memory for what this program holds itself.
pub fn budget_bytes(config: &IndexerConfig) -> u64 {
    config.memory.0.saturating_sub(prefetch_bytes(config) * PREFETCH_COST)
}

/// Brokers, security and what the user passes on: what consumer and producer share.
pub fn base(config: &IndexerConfig) -> anyhow::Result<ClientConfig> {
    Ok(service::kafka::client(&config.kafka.brokers, &config.kafka.librdkafka, REFUSED)?)
}

/// The same for a topic that gets copies, which may be of other brokers.
pub fn of_copies(config: &IndexerConfig, topic: &CopyTopicConfig) -> anyhow::Result<ClientConfig> {
    if !topic.brokers.is_empty() {
        return Ok(service::kafka::client(&topic.brokers, &topic.librdkafka, output::REFUSED)?);
    }
    let mut passed = config.kafka.librdkafka.clone();
    passed.extend(topic.librdkafka.clone());
    Ok(service::kafka::client(&config.kafka.brokers, &passed, output::REFUSED)?)
}

/// A consumer of the group, not yet subscribed.
pub fn consumer(config: &IndexerConfig, member: Member) -> anyhow::Result<BaseConsumer<Member>> {
    options(config)?.create_with_context(member).context("kafka: creating the consumer")
}

fn options(config: &IndexerConfig) -> anyhow::Result<ClientConfig> {
    let (kafka, prefetch) = (&config.kafka, prefetch_bytes(config));
    let mut options = base(config)?;
    options
        .set("group.id", &kafka.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("max.poll.interval.ms", kafka.max_poll_interval.as_millis().to_string())
        .set("queued.max.messages.kbytes", (prefetch / 1024).to_string())
        .set("fetch.max.bytes", (prefetch / 4).max(FETCH_BYTES_MIN).to_string())
        .set("fetch.message.max.bytes", FETCH_PARTITION_BYTES.to_string())
        .set("statistics.interval.ms", "5000");
    for (key, value) in [
        ("fetch.wait.max.ms", FETCH_WAIT_MS),
        ("fetch.queue.backoff.ms", FETCH_BACKOFF_MS),
        ("topic.metadata.refresh.interval.ms", METADATA_AGE_MS),
    ] {
        if !kafka.librdkafka.contains_key(key) {
            options.set(key, value);
        }
    }
    match kafka.group_protocol {
        // Time-outs and assignors are the brokers' affair there, and librdkafka refuses them.
        GroupProtocol::Consumer => options.set("group.protocol", "consumer"),
        GroupProtocol::Classic => options
            .set(
                "partition.assignment.strategy",
                kafka.assignors.iter().map(|one| one.name()).collect::<Vec<_>>().join(","),
            )
            .set("session.timeout.ms", kafka.session_timeout.as_millis().to_string()),
    };
    if let Some(id) = &kafka.static_id {
        options.set("group.instance.id", id);
    }
    Ok(options)
}

/// A client that asks for topics and for the group's offsets, and takes no part in it.
pub fn observer(config: &IndexerConfig) -> anyhow::Result<BaseConsumer> {
    let mut options = base(config)?;
    options.set("group.id", &config.kafka.group).set("enable.auto.commit", "false");
    options.create().context("kafka: creating the client that asks for topics and offsets")
}

/// Subscribes, and waits until the broker has told that each of the topics that are named exists. Returns early when told to
/// stop.
///
/// Errors: one does not, and what to do.
pub fn join(
    consumer: &BaseConsumer<Member>,
    config: &IndexerConfig,
    subscription: &mut Subscription,
    health: &Health,
    stop: &Stop,
) -> anyhow::Result<()> {
    subscribe(consumer, &subscription.now())?; // First, because joining takes longer than the questions about topics.
    if check_topics(consumer, config, health, stop)? {
        subscribe(consumer, &subscription.now())?;
    }
    Ok(())
}

/// Subscribes to `topics`, instead of what it was subscribed to; none of them: to nothing.
pub fn subscribe(consumer: &BaseConsumer<Member>, topics: &BTreeSet<String>) -> anyhow::Result<()> {
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    if topics.is_empty() {
        consumer.unsubscribe();
        return Ok(());
    }
    consumer.subscribe(&topics).with_context(|| format!("subscribing to {topics:?}"))
}

/// Returns true if it had to wait, and left the group for that: a member that does not take its partitions holds them back.
fn check_topics(
    consumer: &BaseConsumer<Member>,
    config: &IndexerConfig,
    health: &Health,
    stop: &Stop,
) -> anyhow::Result<bool> {
    let mut waited = false;
    let mut wait = |problem: &str| {
        consumer.unsubscribe();
        waited = true;
        std::thread::sleep(pause_for(health, problem));
    };
    let brokers = config.kafka.brokers.join(",");
    let waiting = config.retry.topics();
    let wanted = Wanted::new(config).map_err(anyhow::Error::msg)?;
    let inputs = wanted.named().iter().map(|topic| (topic.as_str(), "kafka.topics"));
    let inputs = inputs.chain(config.overflow.topics.iter().map(|topic| (topic.as_str(), "overflow.topics")));
    let inputs = inputs.chain(waiting.iter().map(|topic| (topic.as_str(), "retry.delays")));
    for (topic, key) in inputs.chain(config.dead_letter.topic().map(|topic| (topic, "dead_letter.topic"))) {
        while !stop.is_stopped() {
            match consumer.fetch_metadata(Some(topic), METADATA_WAIT) {
                Ok(metadata) => {
                    let found = metadata.topics().first().and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
                    match found {
                        None => break,
                        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                            anyhow::bail!(
                                "{key}: topic `{topic}` does not exist on {brokers}: create it, or set {key} to one that exists"
                            )
                        }
                        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::InvalidTopic) => {
                            anyhow::bail!("{key}: topic `{topic}` on {brokers}: {}", found.expect("just matched"))
                        }
                        // No leader yet: the broker is starting.
                        Some(other) => wait(&format!("topic {topic}: {other}")),
                    }
                }
                Err(error) => wait(&format!("{brokers} does not answer: {error}")),
            }
        }
    }
    health.set("kafka", None);
    Ok(waited)
}

fn pause_for(health: &Health, problem: &str) -> Duration {
    tracing::warn!(problem, "kafka is not there yet, trying on");
    health.set("kafka", Some(problem.to_owned()));
    Duration::from_millis(500)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(kafka: &str, memory: &str) -> IndexerConfig {
        let text =
            format!("kafka: {{brokers: ['h:1'], topics: [t]{kafka}}}\nelasticsearch: {{hosts: [x]}}\nmemory: {memory}");
        service::load::parse_config(Path::new("indexer.yaml"), &text).expect("a valid configuration")
    }

    #[track_caller]
    fn check(kafka: &str, key: &str, expected: Option<&str>) {
        assert_eq!(options(&config(kafka, "128MiB")).expect("they are valid").get(key), expected, "{kafka}: {key}");
    }

    #[test]
    fn each_protocol_has_its_options() {
        check("", "partition.assignment.strategy", Some("cooperative-sticky"));
        check(", assignors: [range, roundrobin]", "partition.assignment.strategy", Some("range,roundrobin"));
        check("", "group.protocol", None);
        check(", group_protocol: consumer", "group.protocol", Some("consumer"));
        for key in ["partition.assignment.strategy", "session.timeout.ms"] {
            check(", group_protocol: consumer", key, None);
        }
        check("", "topic.metadata.refresh.interval.ms", Some("30000"));
        let own = ", librdkafka: {topic.metadata.refresh.interval.ms: '5000'}";
        check(own, "topic.metadata.refresh.interval.ms", Some("5000"));
    }

    /// What librdkafka may hold: a full queue, and one answer more of each of two brokers before it looks at the queue again.
    #[test]
    fn what_is_fetched_ahead_fits_into_the_memory_however_many_partitions_there_are() {
        for memory in ["8MiB", "32MiB", "128MiB", "4GiB"] {
            let config = config("", memory);
            let options = options(&config).expect("they are valid");
            let number = |key| options.get(key).expect("it is set").parse::<u64>().expect("a number");
            let (queue, answer) = (number("queued.max.messages.kbytes") * 1024, number("fetch.max.bytes"));
            assert!(queue + 2 * answer + budget_bytes(&config) <= config.memory.0, "{memory}: {queue}, {answer}");
            assert!(number("fetch.message.max.bytes") <= answer);
        }
    }

    #[test]
    fn what_follows_from_the_memory_cannot_be_passed_through() {
        for key in
            ["queued.max.messages.kbytes", "fetch.max.bytes", "fetch.message.max.bytes", "max.partition.fetch.bytes"]
        {
            let config = config(&format!(", librdkafka: {{{key}: '9'}}"), "128MiB");
            let told = options(&config).expect_err("it is refused").to_string();
            assert!(told.contains("it follows from memory"), "{told}");
        }
    }
}
