//! The two equations: everything read or consumed is accounted for, by the daemons' own metrics.

use anyhow::{Context as _, Result};

/// The numbers of one `/metrics` page.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: String,
    value: f64,
}

/// What the agent has read must stand in one of these, or be in flight.
const AGENT: (&str, &str, &[&str]) =
    ("tailrace_agent_events", "read", &["acknowledged", "filtered", "dropped", "dead_lettered", "returned"]);

/// The same in bytes of the files.
const AGENT_BYTES: (&str, &str, &[&str]) =
    ("tailrace_agent_bytes", "read", &["acknowledged", "filtered", "skipped", "dropped", "dead_lettered", "returned"]);

/// What the indexer has consumed must stand in one of these, or be in flight.
const INDEXER: (&str, &str, &[&str]) =
    ("tailrace_indexer", "consumed", &["indexed", "duplicate", "dead_lettered", "dropped", "put_off", "returned"]);

impl Metrics {
    /// Reads the Prometheus text format.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| sample(line).with_context(|| format!("metrics line {line:?}")));
        Ok(Self { samples: samples.collect::<Result<_>>()? })
    }

    /// The sum of all samples called `name`; `None` if there is none.
    pub fn sum(&self, name: &str) -> Option<f64> {
        self.sum_where(name, "")
    }

    /// The sum of the samples called `name` whose labels contain `label`, such as `reason="oversize"`.
    pub fn sum_where(&self, name: &str, label: &str) -> Option<f64> {
        let mut found = self.samples.iter().filter(|s| s.name == name && s.labels.contains(label)).peekable();
        found.peek()?;
        Some(found.map(|sample| sample.value).sum())
    }

    /// [`Metrics::sum`] where a family without samples means none yet.
    pub fn total(&self, name: &str) -> u64 {
        // Counters are whole and far below 2^53.
        self.sum(name).map_or(0, |value| value as u64)
    }

    /// How many events the agent counted as `what`: `acknowledged`, `returned` …
    pub fn agent(&self, what: &str) -> u64 {
        self.total(&format!("{}_{what}_total", AGENT.0))
    }

    /// How many events the indexer counted as `what`: `indexed`, `duplicate` …
    pub fn indexer(&self, what: &str) -> u64 {
        self.total(&format!("{}_{what}_total", INDEXER.0))
    }

    /// Events between input and outcome now, in the process that has either family.
    pub fn in_flight(&self) -> Option<f64> {
        [AGENT.0, INDEXER.0].iter().find_map(|family| self.sum(&format!("{family}_in_flight")))
    }

    /// The agent's equation; `Err` shows both sides.
    pub fn agent_balances(&self) -> Result<(), String> {
        self.balances(AGENT)?;
        self.balances(AGENT_BYTES)
    }

    /// The indexer's equation; `Err` shows both sides.
    pub fn indexer_balances(&self) -> Result<(), String> {
        self.balances(INDEXER)
    }

    fn balances(&self, (family, input, outcomes): (&str, &str, &[&str])) -> Result<(), String> {
        let sum = |what: &str| self.sum(&format!("{family}_{what}"));
        let must = |what: &str| sum(what).ok_or_else(|| format!("no metric {family}_{what}"));
        let (taken, in_flight) = (must(&format!("{input}_total"))?, must("in_flight")?);
        // Families with a label have no sample before the first event of their kind.
        let parts: Vec<_> = outcomes.iter().map(|what| (*what, sum(&format!("{what}_total")).unwrap_or(0.0))).collect();
        let accounted = parts.iter().map(|(_, value)| value).sum::<f64>() + in_flight;
        if taken == accounted {
            Ok(())
        } else {
            Err(format!("{input} {taken} is not {accounted}: {parts:?}, in flight {in_flight}"))
        }
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.trim_end().rsplit_once(' ')?;
    let (name, labels) = head.split_once('{').unwrap_or((head, ""));
    Some(Sample { name: name.to_owned(), labels: labels.trim_end_matches('}').to_owned(), value: value.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP tailrace_agent_events_read_total Events read.
# TYPE tailrace_agent_events_read_total counter
tailrace_agent_events_read_total 10
tailrace_agent_events_acknowledged_total{target="main"} 6
tailrace_agent_events_acknowledged_total{target="over {flow}"} 1
tailrace_agent_events_dead_lettered_total{reason="oversize"} 1
tailrace_agent_events_in_flight 2
tailrace_agent_bytes_read_total 100
tailrace_agent_bytes_acknowledged_total 70
tailrace_agent_bytes_skipped_total{reason="zeros"} 30
tailrace_agent_bytes_in_flight 0
"#;

    #[test]
    fn labels_are_summed() {
        let metrics = Metrics::parse(PAGE).expect("a sound page");
        assert_eq!(metrics.total("tailrace_agent_events_acknowledged_total"), 7);
        assert_eq!(metrics.sum_where("tailrace_agent_events_acknowledged_total", "main"), Some(6.0));
        assert_eq!(metrics.sum("tailrace_agent_events_dropped_total"), None);
    }

    #[test]
    fn the_equation_holds_only_if_every_event_is_somewhere() {
        assert_eq!(Metrics::parse(PAGE).expect("a sound page").agent_balances(), Ok(()));
        let lost = PAGE.replace("in_flight 2", "in_flight 1");
        let broken = Metrics::parse(&lost).expect("a sound page").agent_balances().expect_err("one event is nowhere");
        assert!(broken.contains("read 10 is not 9"), "{broken}");
        let lost = PAGE.replace("bytes_read_total 100", "bytes_read_total 101");
        let broken = Metrics::parse(&lost).expect("a sound page").agent_balances().expect_err("one byte is nowhere");
        assert!(broken.contains("read 101 is not 100"), "{broken}");
    }

    #[test]
    fn an_equation_without_its_metrics_does_not_hold() {
        assert!(Metrics::default().agent_balances().is_err());
        assert!(Metrics::parse(PAGE).expect("a sound page").indexer_balances().is_err());
    }
}
