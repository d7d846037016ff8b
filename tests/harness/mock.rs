//! A broker inside the test that fails on demand: librdkafka's mock cluster.
//!
//! A double for faults, never storage: it keeps 5 MiB of a partition and silently forgets the rest.

use crate::kafka::Cluster;
use anyhow::{Context as _, Result};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

/// Bytes of one partition above which the mock forgets.
pub const PARTITION_BYTES_MAX: usize = 5 << 20;

/// A mock cluster of one broker. Ends when dropped.
pub struct MockBroker {
    /// How to reach it.
    pub cluster: Cluster,
    mock: MockCluster<'static, DefaultProducerContext>,
}

impl MockBroker {
    /// Starts one broker with `topic` of `partitions`.
    pub fn start(topic: &str, partitions: i32) -> Result<Self> {
        let mock = MockCluster::new(1).context("starting a mock cluster")?;
        mock.create_topic(topic, partitions, 1).with_context(|| format!("making {topic}"))?;
        Ok(Self { cluster: Cluster { brokers: mock.bootstrap_servers() }, mock })
    }

    /// Makes another topic of one partition.
    pub fn create_topic(&self, topic: &str) -> Result<()> {
        self.mock.create_topic(topic, 1, 1).with_context(|| format!("making {topic}"))
    }

    /// The next requests of this kind fail with these codes, one each.
    pub fn fail(&self, kind: RDKafkaApiKey, codes: &[RDKafkaRespErr]) {
        self.mock.request_errors(kind, codes);
    }

    /// The next produce requests fail with these codes, one each.
    pub fn fail_produce(&self, codes: &[RDKafkaRespErr]) {
        self.mock.request_errors(RDKafkaApiKey::Produce, codes);
    }

    /// The broker hangs up and takes no connection until [`MockBroker::up`].
    pub fn down(&self) -> Result<()> {
        self.mock.broker_down(1).context("taking the mock down")
    }

    /// Takes connections again.
    pub fn up(&self) -> Result<()> {
        self.mock.broker_up(1).context("bringing the mock up")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_produced_reads_back_and_errors_are_retried() {
        let mock = MockBroker::start("logs", 2).expect("the mock starts");
        mock.fail_produce(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 2]);
        mock.cluster.produce("logs", 1, &[b"one", b"two"]).expect("retried until the broker takes them");
        let read = mock.cluster.read_all("logs").expect("the mock answers");
        let values: Vec<_> =
            read.iter().map(|record| (record.partition, record.offset, record.value.as_slice())).collect();
        assert_eq!(values, [(1, 0, &b"one"[..]), (1, 1, b"two")]);
    }
}
