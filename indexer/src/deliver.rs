//! Batches → documents in the index or letters in the dead-letter topic; each until every document has its end.
//!
//! [`settle`] decides, this carries out: what failed for now is sent again after a wait with full jitter, and only that;
//! what is too large or malformed is halved until the culprit stands alone. A batch is never given up: while the node is
//! down the batches in flight wait here, the stages before fill up, and the consumer pauses.

use crate::batch::{Batch, Origin};
use crate::breaker::Breaker;
use crate::bulk::Cluster;
use crate::dead_letter::{DeadLetters, Letter};
use crate::metrics::Metrics;
use crate::settle::{Cause, Fate, Verdict, settle};
use service::backoff::Backoff;
use service::failpoint;
use service::health::Health;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

/// Shortest and longest wait before a resend (R9).
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Waits while a person is needed: wrong credentials, a wrong address, the breaker.
const ALARM_WAIT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// Name of the search cluster in the health report.
const PART: &str = "elasticsearch";

/// What all deliveries share.
pub struct Delivery {
    /// Where documents go.
    pub cluster: Cluster,
    /// Where documents go that can never be indexed.
    pub dead_letters: Box<dyn DeadLetters>,
    /// Judges whether too many do; `None`: switched off.
    pub breaker: Option<Mutex<Breaker>>,
    /// Documents are created by id, so that a conflict is a success.
    pub named: bool,
    /// Counts how each record ended.
    pub metrics: Metrics,
    /// Told when the cluster does not take documents.
    pub health: Health,
    /// Waits before a resend; tests make them short.
    pub waits: Waits,
}

/// Shortest and longest waits of both kinds.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// Before a resend.
    pub retry: (Duration, Duration),
    /// While a person is needed.
    pub alarm: (Duration, Duration),
}

impl Default for Waits {
    fn default() -> Self {
        Self { retry: RETRY_WAIT, alarm: ALARM_WAIT }
    }
}

/// Stage: delivers batches, `concurrency` at once, until `input` closes and all are done.
///
/// Errors: the search node is of a version we do not speak.
pub async fn run(delivery: Arc<Delivery>, concurrency: usize, mut input: mpsc::Receiver<Batch>) -> anyhow::Result<()> {
    delivery.wait_for_cluster().await?;
    let (slots, mut tasks) = (Arc::new(Semaphore::new(concurrency)), JoinSet::new());
    // The slot is taken before the batch, so that at most `concurrency` batches have left the channel.
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let Some(batch) = input.recv().await else { break };
        let delivery = delivery.clone();
        tasks.spawn(async move {
            delivery.deliver(batch).await;
            drop(slot);
        });
        while let Some(ended) = tasks.try_join_next() {
            ended?;
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}

impl Delivery {
    /// Waits until a node answers, and checks that we speak its version.
    async fn wait_for_cluster(&self) -> anyhow::Result<()> {
        let mut wait = Backoff::new(self.waits.retry.0, self.waits.retry.1);
        loop {
            match self.cluster.version().await {
                Ok(version) if version.is_supported() => {
                    info!(distribution = version.distribution, version = version.number, "search node found");
                    self.health.set(PART, None);
                    return Ok(());
                }
                Ok(version) => anyhow::bail!(
                    "{} {} is not supported: Elasticsearch 7.10 to 9 and OpenSearch 1 to 3 are",
                    version.distribution,
                    version.number
                ),
                Err(problem) => {
                    warn!(problem, "the search node does not answer, trying on");
                    self.health.set(PART, Some(problem));
                    tokio::time::sleep(wait.next()).await;
                }
            }
        }
    }

    /// Ends only when every document of `batch` has its end.
    pub async fn deliver(&self, batch: Batch) {
        let dead = batch.dead.iter().map(|(origin, cause)| self.letter(&batch, *origin, cause, None, 0)).collect();
        self.bury(&batch, dead).await;
        let mut job = Job {
            work: if batch.items.is_empty() { vec![] } else { vec![(0..batch.items.len() as u32).collect()] },
            attempts: 0,
            retry: Backoff::new(self.waits.retry.0, self.waits.retry.1),
            alarm: Backoff::new(self.waits.alarm.0, self.waits.alarm.1),
        };
        while let Some(chosen) = job.work.pop() {
            job.attempts += 1;
            failpoint::hit("indexer-bulk-before-send");
            let (url, answer) = self.cluster.bulk(batch.body_of(&chosen)).await;
            failpoint::hit("indexer-bulk-after-answer");
            match settle(&answer, chosen.len(), self.named) {
                Verdict::Items(fates) => self.settle_items(&batch, chosen, fates, &mut job).await,
                Verdict::Resend { cause, reason, after } => {
                    warn!(url, documents = chosen.len(), reason, cause, "bulk request failed, sending it again");
                    self.health.set(PART, Some(format!("{url}: {cause}")));
                    self.metrics.retried.with_label_values(&[reason]).inc_by(chosen.len() as u64);
                    job.work.push(chosen);
                    let wait = job.retry.next();
                    tokio::time::sleep(after.map_or(wait, |after| after.max(wait))).await;
                }
                Verdict::Halve(cause) | Verdict::Bisect(cause) => {
                    if let [single] = chosen[..] {
                        let item = batch.items[single as usize];
                        let letter = self.letter(&batch, item.origin, &cause, Some(single), job.attempts);
                        self.bury(&batch, vec![letter]).await;
                    } else {
                        warn!(url, documents = chosen.len(), cause = cause.reason, "bulk request refused, halving it");
                        self.metrics.retried.with_label_values(&["halved"]).inc_by(chosen.len() as u64);
                        let (first, second) = chosen.split_at(chosen.len() / 2);
                        job.work.push(second.to_vec());
                        job.work.push(first.to_vec());
                    }
                }
                Verdict::Alarm(cause) => {
                    error!(
                        url,
                        status = cause.status,
                        cause = cause.reason,
                        "the search node refuses us; nothing is dropped, mend it: trying on"
                    );
                    self.health.set(PART, Some(format!("{url} answers {}: {}", cause.status, cause.reason)));
                    self.metrics.retried.with_label_values(&["alarm"]).inc_by(chosen.len() as u64);
                    job.work.push(chosen);
                    tokio::time::sleep(job.alarm.next()).await;
                }
            }
        }
    }

    async fn settle_items(&self, batch: &Batch, chosen: Vec<u32>, fates: Vec<Fate>, job: &mut Job) {
        let sent = chosen.len();
        let (mut indexed, mut duplicate, mut stored) = (0_u64, 0_u64, 0_u64);
        let (mut again, mut dead): (Vec<u32>, Vec<(u32, Cause)>) = (Vec::new(), Vec::new());
        let mut safe = Vec::with_capacity(sent);
        for (at, fate) in chosen.into_iter().zip(fates) {
            match fate {
                Fate::Done(failure_store) => {
                    indexed += 1;
                    stored += u64::from(failure_store);
                    safe.push(batch.items[at as usize].origin);
                }
                Fate::Duplicate => {
                    duplicate += 1;
                    safe.push(batch.items[at as usize].origin);
                }
                Fate::Retry(reason) => {
                    self.metrics.retried.with_label_values(&[reason]).inc();
                    again.push(at);
                }
                Fate::Dead(cause) => dead.push((at, *cause)),
            }
        }
        self.metrics.indexed.inc_by(indexed);
        self.metrics.duplicate.inc_by(duplicate);
        if stored > 0 {
            warn!(documents = stored, "documents went into a failure store: look at its error field");
            self.metrics.failure_stored.inc_by(stored);
        }
        let progress = !safe.is_empty();
        batch.done(safe.into_iter());
        if progress {
            job.retry.reset();
            job.alarm.reset();
        }
        let busy = !again.is_empty();
        let held = self.hold(sent, &dead);
        if held {
            again.extend(dead.drain(..).map(|(at, _)| at));
            again.sort_unstable();
        } else {
            self.health.set(PART, busy.then(|| "some documents are refused for now".to_owned()));
            let letters = dead
                .into_iter()
                .map(|(at, cause)| self.letter(batch, batch.items[at as usize].origin, &cause, Some(at), job.attempts))
                .collect();
            self.bury(batch, letters).await;
        }
        if !again.is_empty() {
            job.work.push(again);
            tokio::time::sleep(if held { job.alarm.next() } else { job.retry.next() }).await;
        }
    }

    /// Asks the breaker whether the `dead` of `sent` documents are to be held back.
    fn hold(&self, sent: usize, dead: &[(u32, Cause)]) -> bool {
        let Some(breaker) = &self.breaker else { return false };
        let mut breaker = breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let was_open = breaker.is_open();
        let held = breaker.judge(sent, dead.len());
        self.metrics.breaker_open.set(i64::from(breaker.is_open()));
        if held {
            let cause = dead.first().map_or("", |(_, cause)| cause.reason.as_str());
            error!(
                sent,
                failed = dead.len(),
                cause,
                "most documents fail for good: holding them instead of writing dead letters"
            );
            self.metrics.retried.with_label_values(&["breaker"]).inc_by(dead.len() as u64);
            let remedy = "mend the mapping or the pipeline, or set dead_letter.breaker: false";
            self.health
                .set(PART, Some(format!("{} of {sent} documents fail for good ({cause}): {remedy}", dead.len())));
        } else if was_open && !breaker.is_open() {
            info!("documents pass again, the breaker is closed");
        }
        held
    }

    fn letter<'b>(
        &self,
        batch: &'b Batch,
        origin: Origin,
        cause: &Cause,
        item: Option<u32>,
        attempts: u32,
    ) -> Letter<'b> {
        let parcel = batch.parcel(origin);
        let pipeline = item.map_or("", |at| batch.pipelines[batch.items[at as usize].pipeline as usize].as_str());
        let index = item.map(|at| index_of(&batch.document(at))).unwrap_or_default();
        Letter { parcel, record: origin.record, origin, cause: cause.clone(), pipeline, index, attempts }
    }

    /// Writes dead letters and settles their records once the broker has them. Ends only when it has.
    async fn bury(&self, batch: &Batch, mut letters: Vec<Letter<'_>>) {
        let mut wait = Backoff::new(self.waits.retry.0, self.waits.retry.1);
        while !letters.is_empty() {
            let failed = self.dead_letters.write(&letters).await;
            let (mut next, mut kept) = (failed.iter().peekable(), Vec::new());
            for (at, letter) in letters.into_iter().enumerate() {
                if next.next_if(|(failed, _)| *failed == at).is_some() {
                    kept.push(letter);
                    continue;
                }
                failpoint::hit("indexer-dead-letter-acked");
                self.metrics.dead_lettered.with_label_values(&[letter.cause.kind.as_str()]).inc();
                batch.done(std::iter::once(letter.origin));
            }
            letters = kept;
            if let Some((_, problem)) = failed.first() {
                error!(letters = letters.len(), problem, "dead letters could not be written, trying on");
                self.health.set("dead_letter", Some(problem.clone()));
                tokio::time::sleep(wait.next()).await;
            } else {
                self.health.set("dead_letter", None);
            }
        }
    }
}

/// One batch's way through its attempts.
struct Job {
    /// What is still to be sent, last first.
    work: Vec<Vec<u32>>,
    attempts: u32,
    retry: Backoff,
    alarm: Backoff,
}

/// The index named in a document's action line, which is our own writing.
fn index_of(document: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Action {
        create: Create,
    }
    #[derive(serde::Deserialize)]
    struct Create {
        #[serde(rename = "_index")]
        index: String,
    }
    let line = document.split(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice::<Action>(line).map(|action| action.create.index).unwrap_or_default()
}

#[cfg(test)]
mod tests;
