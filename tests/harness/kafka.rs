//! A Kafka cluster as tests see it: make topics, read every record back, see where partitions and groups stand.

use crate::wait;
use anyhow::{Context as _, Result, bail};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication, TopicResult,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// Longest wait for one answer of the broker.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// One cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `127.0.0.1:PORT`; of several brokers with commas.
    pub brokers: String,
}

/// One record, raw.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its time, milliseconds since 1970.
    pub timestamp_ms: i64,
}

impl Stored {
    /// A copy of what was read.
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message
            .headers()
            .map(|headers| headers.iter().map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())).collect());
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: headers.unwrap_or_default(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        }
    }

    /// The line that was shipped: the envelope's `message`, or the value itself if it is no JSON object.
    pub fn line(&self) -> String {
        let message = serde_json::from_slice::<serde_json::Value>(&self.value)
            .ok()
            .and_then(|envelope| Some(envelope.get("message")?.as_str()?.to_owned()));
        message.unwrap_or_else(|| String::from_utf8_lossy(&self.value).into_owned())
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn all_done(results: &[TopicResult]) -> Result<()> {
    match results.iter().find_map(|result| result.as_ref().err()) {
        Some((name, code)) => bail!("{name}: {code}"),
        None => Ok(()),
    }
}

impl Cluster {
    /// The brokers one by one, as a configuration lists them.
    pub fn list(&self) -> Vec<&str> {
        self.brokers.split(',').collect()
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("group.id", "tests-reader").set("log_level", "3");
        config
    }

    /// Makes a topic, with as many replicas as the brokers give by themselves: one of one broker, three of three.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        self.create(&NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)))
    }

    /// Makes a topic of one partition, whose replicas are these brokers; the first one leads.
    pub fn create_topic_on(&self, topic: &str, brokers: &[i32]) -> Result<()> {
        self.create(&NewTopic::new(topic, 1, TopicReplication::Variable(&[brokers])))
    }

    fn create(&self, wanted: &NewTopic<'_>) -> Result<()> {
        let topic = wanted.name;
        let options = AdminOptions::new().operation_timeout(Some(ANSWER_MAX)).request_timeout(Some(ANSWER_MAX));
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        all_done(&runtime()?.block_on(admin.create_topics([wanted], &options))?)
            .with_context(|| format!("making topic {topic}"))?;
        // The answer can come before every part of the broker knows: wait until a leader is known for each partition.
        wait::wait_for(&format!("topic {topic} on {}", self.brokers), ANSWER_MAX, || {
            self.ends(topic).map(drop).map_err(|error| error.to_string())
        });
        Ok(())
    }

    /// Deletes a topic, and waits until the brokers no longer know it.
    pub fn delete_topic(&self, topic: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        all_done(&runtime()?.block_on(admin.delete_topics(&[topic], &AdminOptions::new()))?)
            .with_context(|| format!("deleting topic {topic}"))?;
        wait::wait_for(&format!("no topic {topic}"), ANSWER_MAX, || {
            wait::met(self.ends(topic).is_err(), || "it is still there".to_owned())
        });
        Ok(())
    }

    /// Gives a topic more partitions.
    pub fn add_partitions(&self, topic: &str, partitions: usize) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let wanted = NewPartitions::new(topic, partitions);
        all_done(&runtime()?.block_on(admin.create_partitions([&wanted], &AdminOptions::new()))?)
            .with_context(|| format!("more partitions for {topic}"))
    }

    /// Forgets all records of a partition before `offset`, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        let options = AdminOptions::new().operation_timeout(Some(ANSWER_MAX)).request_timeout(Some(ANSWER_MAX));
        let done = runtime()?.block_on(admin.delete_records(&before, &options))?;
        for place in done.elements() {
            place.error().with_context(|| format!("deleting records of {topic} before {offset}"))?;
        }
        Ok(())
    }

    /// Sets one of a topic's or a broker's settings; all others that were set so go back to their defaults.
    pub fn set(&self, what: ResourceSpecifier<'_>, settings: &[(&str, &str)]) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let wanted = settings.iter().fold(AlterConfig::new(what), |wanted, (name, value)| wanted.set(name, value));
        for result in runtime()?.block_on(admin.alter_configs([&wanted], &AdminOptions::new()))? {
            result.map_err(|(what, code)| anyhow::anyhow!("setting {settings:?} of {what:?}: {code}"))?;
        }
        Ok(())
    }

    /// Who leads each partition, and how many replicas are in sync.
    pub fn leaders(&self, topic: &str) -> Result<BTreeMap<i32, (i32, usize)>> {
        let consumer: BaseConsumer = self.config().create()?;
        let metadata =
            consumer.fetch_metadata(Some(topic), ANSWER_MAX).with_context(|| format!("asking {}", self.brokers))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic).context("topic not listed")?;
        Ok(found.partitions().iter().map(|one| (one.id(), (one.leader(), one.isr().len()))).collect())
    }

    /// The high watermark of each partition.
    pub fn ends(&self, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let consumer: BaseConsumer = self.config().create()?;
        self.ends_by(&consumer, topic)
    }

    fn ends_by(&self, consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let metadata =
            consumer.fetch_metadata(Some(topic), ANSWER_MAX).with_context(|| format!("asking {}", self.brokers))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic).context("topic not listed")?;
        if let Some(error) = found.error() {
            bail!("topic {topic}: {error:?}");
        }
        let end = |partition: i32| Ok((partition, consumer.fetch_watermarks(topic, partition, ANSWER_MAX)?.1));
        found.partitions().iter().map(|partition| end(partition.id())).collect()
    }

    /// Records in `topic`, by watermarks.
    pub fn count(&self, topic: &str) -> Result<u64> {
        Ok(self.ends(topic)?.values().map(|&end| end.unsigned_abs()).sum())
    }

    /// The watermarks once they no longer move: where a killed producer's last requests have ended.
    pub fn settled_ends(&self, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let consumer: BaseConsumer = self.config().create()?;
        let mut before = self.ends_by(&consumer, topic)?;
        let (ends, _) = wait::wait_for("watermarks at rest", ANSWER_MAX, || {
            let now = self.ends_by(&consumer, topic).map_err(|error| error.to_string())?;
            let rest = now == before;
            before.clone_from(&now);
            if rest { Ok(now) } else { Err("still moving".to_owned()) }
        });
        Ok(ends)
    }

    /// Every record of every partition, raw, in the order of the offsets within each.
    pub fn read_all(&self, topic: &str) -> Result<Vec<Stored>> {
        self.read(topic, "read_uncommitted")
    }

    /// The same without those of transactions that are open or were aborted.
    pub fn read_committed(&self, topic: &str) -> Result<Vec<Stored>> {
        self.read(topic, "read_committed")
    }

    fn read(&self, topic: &str, isolation: &str) -> Result<Vec<Stored>> {
        let consumer: BaseConsumer = self
            .config()
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .set("isolation.level", isolation)
            .set("fetch.message.max.bytes", "8388608")
            .create()?;
        let ends = self.ends_by(&consumer, topic)?;
        let mut from = TopicPartitionList::new();
        for &partition in ends.keys() {
            from.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&from)?;
        let (mut records, mut ended, begun) = (Vec::new(), HashSet::new(), wait::now());
        let expected = ends.values().sum::<i64>();
        while ended.len() < ends.len() {
            anyhow::ensure!(
                begun.elapsed() < Duration::from_secs(180),
                "reading {topic}: {} of {expected} records after 180 s",
                records.len()
            );
            match consumer.poll(Duration::from_millis(200)) {
                None => (),
                // The end of a partition comes after all that stood there when it was fetched.
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
                // One of several brokers is away.
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
                ))) => (),
                Some(Err(error)) => bail!("reading {topic}: {error}"),
                Some(Ok(message)) => {
                    // While others write the end may never be seen: what stood there at the start is enough.
                    if ends.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                        ended.insert(message.partition());
                    }
                    records.push(Stored::of(&message));
                }
            }
        }
        Ok(records)
    }

    /// A consumer at offset 0 of each of the first `partitions` of `topic`, to read while records come.
    ///
    /// Errors while it polls: the broker is away, for now; offsets that are gone, for good.
    pub fn reader(&self, topic: &str, partitions: i32) -> Result<BaseConsumer> {
        let consumer: BaseConsumer = self
            .config()
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.message.max.bytes", "8388608")
            .set("reconnect.backoff.max.ms", "500")
            .set("log_level", "0")
            .create()?;
        let mut from = TopicPartitionList::new();
        for partition in 0..partitions {
            from.add_partition_offset(topic, partition, Offset::Offset(0))?;
        }
        consumer.assign(&from)?;
        Ok(consumer)
    }

    /// The offsets that `group` has committed for `topic`; a partition without one is left out.
    pub fn committed(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let consumer: BaseConsumer = self.config().set("group.id", group).create()?;
        let mut asked = TopicPartitionList::new();
        for partition in self.ends_by(&consumer, topic)?.keys() {
            asked.add_partition(topic, *partition);
        }
        let committed = consumer.committed_offsets(asked, ANSWER_MAX)?;
        let offsets = committed.elements().into_iter().filter_map(|e| Some((e.partition(), e.offset().to_raw()?)));
        Ok(offsets.filter(|(_, offset)| *offset >= 0).collect())
    }

    /// Commits `offset` for a group that has no member.
    pub fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let consumer: BaseConsumer =
            self.config().set("group.id", group).set("enable.auto.commit", "false").create()?;
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        consumer.commit(&offsets, CommitMode::Sync).with_context(|| format!("committing {topic} for {group}"))
    }

    /// Produces `value` with `headers` to `topic`, and waits for the broker's word.
    pub fn produce_with(&self, topic: &str, partition: i32, value: &[u8], headers: &[(&str, &str)]) -> Result<()> {
        let producer: BaseProducer = self.config().set("acks", "all").create()?;
        let headers = headers.iter().fold(OwnedHeaders::new(), |list, (key, value)| {
            list.insert(Header { key, value: Some(&value.to_string()) })
        });
        let record = BaseRecord::<[u8], [u8]>::to(topic).payload(value).partition(partition).headers(headers);
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(ANSWER_MAX).with_context(|| format!("producing to {topic}"))
    }

    /// Produces `values` in a transaction, which is committed or aborted.
    pub fn transact(&self, topic: &str, partition: i32, values: &[&[u8]], commit: bool) -> Result<()> {
        let id = format!("tests-{:016x}", fastrand::u64(..));
        let producer: BaseProducer = self.config().set("transactional.id", id).create()?;
        producer.init_transactions(ANSWER_MAX)?;
        producer.begin_transaction()?;
        for value in values {
            let record = BaseRecord::<[u8], [u8]>::to(topic).payload(value).partition(partition);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(ANSWER_MAX).with_context(|| format!("producing to {topic}"))?;
        let ended = match commit {
            true => producer.commit_transaction(ANSWER_MAX),
            false => producer.abort_transaction(ANSWER_MAX),
        };
        ended.with_context(|| format!("ending a transaction on {topic}"))
    }

    /// Produces `values` that were written at `timestamp_ms`, milliseconds since 1970, and waits for the broker's word.
    pub fn produce_at(&self, topic: &str, partition: i32, values: &[&[u8]], timestamp_ms: i64) -> Result<()> {
        let producer: BaseProducer = self.config().set("acks", "all").create()?;
        for value in values {
            let record = BaseRecord::<[u8], [u8]>::to(topic).payload(value).partition(partition);
            producer.send(record.timestamp(timestamp_ms)).map_err(|(error, _)| error)?;
        }
        producer.flush(ANSWER_MAX).with_context(|| format!("producing to {topic}"))
    }

    /// Produces `values` to `topic`, one record each, and waits for the broker's word.
    pub fn produce(&self, topic: &str, partition: i32, values: &[&[u8]]) -> Result<()> {
        let producer: BaseProducer = self.config().set("acks", "all").set("message.max.bytes", "8388608").create()?;
        for value in values {
            let mut record = BaseRecord::<[u8], [u8]>::to(topic).payload(value).partition(partition);
            while let Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) = producer.send(record) {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
        }
        producer.flush(ANSWER_MAX).with_context(|| format!("producing to {topic}"))
    }
}
