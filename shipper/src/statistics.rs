//! What librdkafka tells of itself every few seconds → metrics.

use prometheus::{IntCounterVec, IntGaugeVec};
use rdkafka::statistics::{Broker, Statistics as Told};
use service::metrics::Registry;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The option that says how often librdkafka tells, in milliseconds; 0: never.
pub(crate) const OPTION: &str = "statistics.interval.ms";
/// How often librdkafka tells, unless `statistics.interval.ms` says otherwise.
pub(crate) const INTERVAL_MS: &str = "5000";
/// The client that sends what no rate plan diverts.
const MAIN: &str = "main";

/// Metrics made of the statistics of one client. Units: records, bytes, microseconds.
#[derive(Debug, Clone)]
pub struct Statistics {
    client: Arc<str>,
    /// Records that wait in the client, by client: not sent, or without answer.
    pub queue_records: IntGaugeVec,
    /// Their bytes.
    pub queue_bytes: IntGaugeVec,
    /// Time from a request to its answer, by client, broker and quantile.
    pub round_trip: IntGaugeVec,
    /// Requests without answer, by client and broker.
    pub requests_in_flight: IntGaugeVec,
    /// Errors of connections, by client, broker and kind.
    pub errors: IntCounterVec,
    /// What librdkafka said of its counters the last time, by broker: a client made anew begins at zero.
    counted: Arc<Mutex<HashMap<String, [u64; KINDS.len()]>>>,
}

/// Kinds of `errors`, as [`counts`] orders them.
const KINDS: [&str; 4] = ["transmit", "receive", "timeout", "retry"];

fn counts(broker: &Broker) -> [u64; KINDS.len()] {
    [broker.txerrs, broker.rxerrs, broker.req_timeouts, broker.txretries]
}

impl Statistics {
    /// Those of the main client.
    pub(crate) fn new(registry: &Registry) -> Self {
        let name = |name: &str| format!("tailrace_shipper_{name}");
        let gauges = |n: &str, help: &str, labels: &[&str]| registry.gauges(&name(n), help, labels);
        let counters = |n: &str, help: &str, labels: &[&str]| registry.counters(&name(n), help, labels);
        let (of_broker, of_quantile) = (["broker", "client"], ["broker", "client", "quantile"]);
        Self {
            client: MAIN.into(),
            queue_records: gauges("client_queue_records", "Records that wait in the Kafka client.", &["client"]),
            queue_bytes: gauges("client_queue_bytes", "Bytes that wait in the Kafka client.", &["client"]),
            round_trip: gauges("broker_round_trip_microseconds", "Until the answer.", &of_quantile),
            requests_in_flight: gauges("broker_requests_in_flight", "Requests without answer.", &of_broker),
            errors: counters("broker_errors_total", "Errors of connections.", &["broker", "client", "kind"]),
            counted: Arc::default(),
        }
    }

    /// Those of another client.
    pub(crate) fn of_client(&self, client: &str) -> Self {
        Self { client: client.into(), counted: Arc::default(), ..self.clone() }
    }

    /// Takes what librdkafka told.
    pub(crate) fn take(&self, told: &Told) {
        let client = &*self.client;
        self.queue_records.with_label_values(&[client]).set(told.msg_cnt.cast_signed());
        self.queue_bytes.with_label_values(&[client]).set(told.msg_size.cast_signed());
        // A logical broker (a coordinator) is one of the others under another name.
        for broker in told.brokers.values().filter(|broker| !broker.nodename.is_empty()) {
            self.take_broker(broker);
        }
    }

    fn take_broker(&self, broker: &Broker) {
        let (client, name) = (&*self.client, &*broker.nodename);
        self.requests_in_flight.with_label_values(&[name, client]).set(broker.waitresp_cnt);
        if let Some(window) = broker.rtt.as_ref().filter(|window| window.cnt > 0) {
            for (quantile, microseconds) in [("0.5", window.p50), ("0.99", window.p99)] {
                self.round_trip.with_label_values(&[name, client, quantile]).set(microseconds);
            }
        }
        let now = counts(broker);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = counted.insert(name.to_owned(), now).unwrap_or_default();
        for ((kind, now), before) in KINDS.into_iter().zip(now).zip(before) {
            let is_anew = now < before;
            self.errors.with_label_values(&[name, client, kind]).inc_by(if is_anew { now } else { now - before });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(records: u64, errors: u64) -> Told {
        let window = rdkafka::statistics::Window { p50: 700, p99: 9_000, cnt: 3, ..Default::default() };
        let broker = |nodename: &str| Broker {
            nodename: nodename.to_owned(),
            waitresp_cnt: 2,
            txerrs: errors,
            rtt: Some(window.clone()),
            ..Broker::default()
        };
        let brokers = [("a:1/1", broker("a:1")), ("GroupCoordinator", broker(""))];
        let brokers = brokers.map(|(name, broker)| (name.to_owned(), broker)).into();
        Told { msg_cnt: records, msg_size: 10 * records, brokers, ..Told::default() }
    }

    #[test]
    fn queues_round_trips_and_errors_are_those_of_the_last_statistics() {
        let statistics = Statistics::new(&Registry::default());
        statistics.of_client("late").take(&told(1, 1));
        statistics.take(&told(7, 2));
        for (client, records) in [("main", 7), ("late", 1)] {
            assert_eq!(statistics.queue_records.with_label_values(&[client]).get(), records);
            assert_eq!(statistics.queue_bytes.with_label_values(&[client]).get(), 10 * records);
            assert_eq!(statistics.requests_in_flight.with_label_values(&["a:1", client]).get(), 2);
        }
        let round_trip = |quantile| statistics.round_trip.with_label_values(&["a:1", "main", quantile]).get();
        assert_eq!((round_trip("0.5"), round_trip("0.99")), (700, 9_000));
    }

    #[test]
    fn errors_are_counted_once_and_go_on_when_a_client_is_made_anew() {
        let statistics = Statistics::new(&Registry::default());
        let mut expected = 0;
        for (told_errors, more) in [(2, 2), (2, 0), (5, 3), (1, 1), (4, 3)] {
            statistics.take(&told(0, told_errors));
            expected += more;
            assert_eq!(statistics.errors.with_label_values(&["a:1", "main", "transmit"]).get(), expected);
        }
    }
}
