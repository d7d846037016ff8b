//! The search cluster: a bulk body → the [`Answer`] of one of its hosts.
//!
//! The choice of the host is ours: the least busy of those that are alive. One that gives no answer is left alone for a
//! while, then asked what it is before it gets documents again. Other nodes of the cluster are not looked for (no sniffing).

mod version;
mod wire;

pub use version::{Greeting, Version, greeting};
pub use wire::{Http, Sending, Wire};

use crate::config::{Compression, ElasticsearchConfig};
use crate::metrics::Metrics;
use crate::settle::Answer;
use bytes::Bytes;
use flate2::write::GzEncoder;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// A host that gave no answer is left alone for so long, if there is another.
const DEAD_FOR: Duration = Duration::from_secs(5);

/// The search cluster: its hosts, and how to talk to them.
#[derive(Debug)]
pub struct Cluster {
    hosts: Vec<Arc<Host>>,
    /// Among hosts that are equally busy the choice goes round.
    turn: AtomicUsize,
    compression: Compression,
    metrics: Metrics,
}

/// A host of the cluster.
#[derive(Debug)]
pub struct Host {
    url: String,
    wire: Box<dyn Wire>,
    busy: AtomicUsize,
    life: Mutex<Life>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Alive,
    /// Left alone until then.
    Dead(Instant),
    /// Is being asked what it is.
    Asked,
}

impl Host {
    /// A host that has done no wrong yet.
    pub fn new(url: &str, wire: Box<dyn Wire>) -> Self {
        Self { url: url.to_owned(), wire, busy: AtomicUsize::new(0), life: Mutex::new(Life::Alive) }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, well: bool) {
        *self.life() = if well { Life::Alive } else { Life::Dead(Instant::now() + DEAD_FOR) };
    }

    /// Asks what it is, and marks it by the answer.
    async fn greet(&self) -> Greeting {
        let greeting = greeting(&self.wire.root().await);
        self.mark(matches!(greeting, Greeting::Known(_) | Greeting::Hidden));
        greeting
    }
}

impl Cluster {
    /// Prepares the connections; nothing is sent yet.
    ///
    /// Errors: a host that is no http(s) URL.
    pub fn new(config: &ElasticsearchConfig, metrics: Metrics) -> anyhow::Result<Self> {
        let host =
            |url: &String| Ok(Host::new(url, Box::new(Http::new(url, &config.auth, &config.tls, config.timeout)?)));
        let hosts = config.hosts.iter().map(host).collect::<anyhow::Result<_>>()?;
        Ok(Self::of(hosts, config.compression, metrics))
    }

    /// A cluster of `hosts`, of which there must be one at least.
    pub fn of(hosts: Vec<Host>, compression: Compression, metrics: Metrics) -> Self {
        assert!(!hosts.is_empty(), "the configuration names at least one host");
        let hosts = hosts.into_iter().map(Arc::new).collect();
        Self { hosts, turn: AtomicUsize::new(0), compression, metrics }
    }

    /// Sends `body` and waits for the whole answer. Returns the URL that was asked and what came back.
    pub async fn bulk(&self, body: Bytes) -> (&str, Answer) {
        let host = self.choose();
        self.metrics.bulk_bytes.inc_by(body.len() as u64);
        let (body, packed) = match self.compression {
            Compression::None => (body, false),
            // Megabytes take long enough to hold up others of this thread.
            Compression::Gzip => match tokio::task::spawn_blocking(move || gzip(&body)).await {
                Ok(body) => (body, true),
                Err(error) => return (&host.url, Answer::Nothing(format!("compressing the request: {error}"))),
            },
        };
        let started = Instant::now();
        let busy = Busy::new(&host.busy);
        let answer = host.wire.bulk(body, packed).await;
        drop(busy);
        self.metrics.bulk_seconds.observe(started.elapsed().as_secs_f64());
        let mut status = itoa::Buffer::new();
        let label = match &answer {
            Answer::Http { status: code, .. } => status.format(*code),
            Answer::Nothing(_) => "none",
        };
        self.metrics.bulk_requests.with_label_values(&[label]).inc();
        // A proxy in front of a host that is gone says so with one of these.
        let gone = matches!(&answer, Answer::Nothing(_) | Answer::Http { status: 502..=504, .. });
        host.mark(!gone);
        (&host.url, answer)
    }

    /// Asks all hosts for their versions.
    ///
    /// Errors: one is of a version that we do not speak to. `Ok(Err(problem))`: none answered as a search node does.
    pub async fn greet(&self) -> anyhow::Result<Result<(), String>> {
        let asked: Vec<_> = self
            .hosts
            .iter()
            .map(|host| {
                let host = host.clone();
                tokio::spawn(async move { (host.greet().await, host) })
            })
            .collect();
        let (mut found, mut problems) = (false, Vec::new());
        for answered in asked {
            match answered.await? {
                (Greeting::Known(version), host) => {
                    let (url, distribution) = (&host.url, version.distribution);
                    info!(url, distribution, version = version.number, "search node found");
                    found = true;
                }
                (Greeting::Hidden, host) => {
                    let url = &host.url;
                    warn!(url, "the search node does not tell its version to this user, going on without it");
                    found = true;
                }
                (Greeting::Foreign(version), host) => anyhow::bail!(
                    "{}: {} {} is not supported: Elasticsearch 7.10 to 9 and OpenSearch 1 to 3 are",
                    host.url,
                    version.distribution,
                    version.number
                ),
                (Greeting::Problem(problem), host) => problems.push(format!("{}: {problem}", host.url)),
            }
        }
        for problem in &problems {
            warn!(problem, "the search node does not answer, trying on");
        }
        Ok(if found { Ok(()) } else { Err(problems.join("; ")) })
    }

    /// The least busy host that is alive; if none is, the one that has been left alone for longest.
    fn choose(&self) -> &Host {
        self.revive();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..self.hosts.len()).map(|at| &self.hosts[(turn.wrapping_add(at)) % self.hosts.len()]);
        let alive = in_turn().filter(|host| *host.life() == Life::Alive);
        alive
            .min_by_key(|host| host.busy.load(Ordering::Relaxed))
            .or_else(|| {
                in_turn().min_by_key(|host| match *host.life() {
                    Life::Alive => None,
                    Life::Dead(until) => Some(until),
                    Life::Asked => Some(Instant::now()),
                })
            })
            .expect("there is at least one host")
    }

    /// Asks hosts that were left alone long enough what they are. Documents go to the others meanwhile.
    fn revive(&self) {
        if self.hosts.len() == 1 {
            return; // There is no other: documents are the question.
        }
        let now = Instant::now();
        for host in &self.hosts {
            let mut life = host.life();
            if matches!(*life, Life::Dead(until) if until <= now) {
                *life = Life::Asked;
                drop(life);
                let host = host.clone();
                tokio::spawn(async move {
                    match host.greet().await {
                        Greeting::Known(_) | Greeting::Hidden => info!(url = host.url, "the search node is back"),
                        Greeting::Foreign(version) => {
                            warn!(url = host.url, ?version, "this version is not supported, leaving the node alone");
                        }
                        Greeting::Problem(problem) => warn!(url = host.url, problem, "the search node is still away"),
                    }
                });
            }
        }
    }
}

/// Counts a host's request for as long as it is under way, also when the request is given up.
struct Busy<'h>(&'h AtomicUsize);

impl<'h> Busy<'h> {
    fn new(count: &'h AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The `elasticsearch` crate's own compression is level 6, three times as slow for a tenth fewer bytes.
fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing to memory does not fail").into()
}

#[cfg(test)]
mod tests;
