//! Batches → documents in the index or letters in the dead-letter topic; each until every document has its end.
//!
//! [`settle`] decides, this carries out: what failed for now is sent again after a wait with full jitter, and only that;
//! what is too large or malformed is halved until the culprit stands alone. A batch is never given up: while the node is
//! down the batches in flight wait here, the stages before fill up, and the consumer pauses.

mod job;
mod progress;
mod slots;

use crate::batch::{Batch, Origin};
use crate::breaker::Breaker;
use crate::bulk::Cluster;
use crate::ceiling::Ceiling;
use crate::dead_letter::{DeadLetters, Letter};
use crate::latency::Latencies;
use crate::metrics::Metrics;
use crate::output::{Action, Copies, Copy, Output};
use crate::pace::{Pace, Sign};
use crate::parcel::Parcel;
use crate::retry::{self, Later, Next, Note};
use crate::settle::{Cause, Fate, Verdict, settle};
use job::{Dying, Job};
pub use progress::Progress;
use service::backoff::Backoff;
use service::failpoint;
use service::health::Health;
use slots::{Slot, Slots};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info, warn};

/// Shortest and longest wait before a resend (R9).
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Waits while a person is needed: wrong credentials, a wrong address, the breaker.
const ALARM_WAIT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// No document taken for so many of the shortest waits: the cluster was away.
const AWAY_WAITS: u32 = 10;

/// What all deliveries share.
pub struct Delivery {
    /// Where documents go.
    pub output: Output,
    /// How many requests go there at once.
    pub pace: Pace,
    /// How large they may be.
    pub ceiling: Mutex<Ceiling>,
    /// Where documents go that can never be indexed.
    pub dead_letters: Box<dyn DeadLetters>,
    /// Where records wait that are refused for now, or come too early; `None`: nowhere but here.
    pub later: Option<Box<dyn Later>>,
    /// When documents were last taken.
    pub progress: Progress,
    /// The clock on the wall, milliseconds since 1970.
    pub wall_ms: fn() -> i64,
    /// Judges whether too many do; `None`: switched off.
    pub breaker: Option<Mutex<Breaker>>,
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

/// Stage: delivers batches, `batches_max` at once, until `input` closes and all are done.
///
/// Errors: a search node is of a version we do not speak.
pub async fn run(delivery: Arc<Delivery>, batches_max: usize, mut input: mpsc::Receiver<Batch>) -> anyhow::Result<()> {
    delivery.wait_for_cluster().await?;
    let (slots, mut tasks) = (Arc::new(Slots::new(batches_max)), JoinSet::new());
    // The slot is taken before the batch, so that at most `batches_max` batches have left the channel.
    loop {
        let slot = slots.slot().await;
        let Some(batch) = input.recv().await else { break };
        let delivery = delivery.clone();
        tasks.spawn(async move { delivery.deliver_in(Some(slot), batch).await });
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
        let Output::Search { cluster, .. } = &self.output else { return Ok(()) };
        while let Err(problem) = cluster.greet().await? {
            self.set_health(Some(problem));
            tokio::time::sleep(wait.next()).await;
        }
        self.set_health(None);
        Ok(())
    }

    /// How what takes the documents is.
    fn set_health(&self, problem: Option<String>) {
        self.health.set(self.output.part(), problem);
    }

    /// Ends only when every document of `batch` has its end.
    pub async fn deliver(&self, batch: Batch) {
        self.deliver_in(None, batch).await;
    }

    async fn deliver_in(&self, mut slot: Option<Slot>, batch: Batch) {
        let mut job = Job::new(batch, self.waits);
        self.put_off_early(&job.batch).await;
        while !job.is_done() {
            while let Some(chosen) = job.work.pop() {
                match &self.output {
                    Output::Search { cluster, named } => self.send(&mut job, chosen, cluster, *named).await,
                    Output::Copies(copies) => self.copy(&mut job, chosen, copies.as_ref()).await,
                }
            }
            self.put_off_stuck(&mut job, slot.as_mut()).await;
            let wait = self.end_pass(&mut job).await;
            self.rest(&mut job, wait).await;
        }
    }

    /// Waits before a resend. If the cluster comes back meanwhile, that is at once, and the next waits are short again.
    async fn rest(&self, job: &mut Job, wait: Duration) {
        if self.progress.rest(wait).await {
            job.retry.reset();
            job.alarm.reset();
        }
    }

    /// Writes copies, and what that means for the job.
    async fn copy(&self, job: &mut Job, chosen: Vec<u32>, copies: &dyn Copies) {
        job.attempts += 1;
        let written = copies.write(&Copy::of(&job.batch, &chosen)).await;
        if let Some(problem) = &written.problem {
            warn!(output = copies.part(), documents = chosen.len(), problem, "copies were not written, trying on");
        }
        self.set_health(written.problem);
        self.settle_items(job, chosen, written.fates);
    }

    /// One request, and what its answer means for the job.
    async fn send(&self, job: &mut Job, chosen: Vec<u32>, cluster: &Cluster, named: bool) {
        let bytes = job.batch.bytes_of(&chosen);
        if chosen.len() > 1 && self.ceiling(|ceiling| ceiling.bytes_max(Instant::now())).is_some_and(|max| bytes > max)
        {
            return job.halve(&chosen);
        }
        let place = self.pace.place().await;
        job.attempts += 1;
        failpoint::hit("indexer-bulk-before-send");
        let started = Instant::now();
        let (url, answer) = cluster.bulk(job.batch.body_of(&chosen)).await;
        failpoint::hit("indexer-bulk-after-answer");
        let verdict = settle(&answer, chosen.len(), named);
        place.ended(sign(&verdict), bytes, started.elapsed());
        match verdict {
            Verdict::Items(fates) => {
                self.ceiling(|ceiling| ceiling.passed(bytes));
                self.settle_items(job, chosen, fates);
            }
            Verdict::Resend { cause, reason, after } => {
                warn!(url, documents = chosen.len(), reason, cause, "bulk request failed, sending it again");
                self.set_health(Some(format!("{url}: {cause}")));
                self.metrics.retried.with_label_values(&[reason]).inc_by(chosen.len() as u64);
                job.again.extend(chosen);
                let wait = job.retry.next();
                match after {
                    // The node knows best when it wants to be asked again.
                    Some(after) => tokio::time::sleep(after.max(wait)).await,
                    None => self.rest(job, wait).await,
                }
                job.rested = true;
            }
            Verdict::Halve(cause) => {
                self.ceiling(|ceiling| ceiling.refused(bytes, Instant::now()));
                self.part(job, url, &chosen, cause);
            }
            Verdict::Bisect(cause) => self.part(job, url, &chosen, cause),
            Verdict::Alarm(cause) => {
                error!(
                    url,
                    status = cause.status,
                    cause = cause.reason,
                    "the search node refuses us; nothing is dropped, mend it: trying on"
                );
                self.set_health(Some(format!("{url} answers {}: {}", cause.status, cause.reason)));
                self.metrics.retried.with_label_values(&["alarm"]).inc_by(chosen.len() as u64);
                job.again.extend(chosen);
                let wait = job.alarm.next();
                self.rest(job, wait).await;
                job.rested = true;
            }
        }
    }

    fn ceiling<T>(&self, work: impl FnOnce(&mut Ceiling) -> T) -> T {
        work(&mut self.ceiling.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A request that was refused as a whole: halved until the culprit stands alone.
    fn part(&self, job: &mut Job, url: &str, chosen: &[u32], cause: Cause) {
        if let [single] = *chosen {
            return job.doom(single, cause);
        }
        let (documents, bytes) = (chosen.len(), job.batch.bytes_of(chosen));
        warn!(url, documents, bytes, cause = cause.reason, "bulk request refused, halving it");
        self.metrics.retried.with_label_values(&["halved"]).inc_by(chosen.len() as u64);
        job.halve(chosen);
    }

    fn settle_items(&self, job: &mut Job, chosen: Vec<u32>, fates: Vec<Fate>) {
        let (mut indexed, mut duplicate, mut stored) = (0_u64, 0_u64, 0_u64);
        let (mut safe, mut latencies) = (Vec::with_capacity(chosen.len()), Latencies::new((self.wall_ms)()));
        for (at, fate) in chosen.into_iter().zip(fates) {
            match fate {
                Fate::Done(failure_store) => {
                    indexed += 1;
                    stored += u64::from(failure_store);
                    if let Some(moments) = job.batch.moments(at) {
                        latencies.add(moments);
                    }
                    safe.push(job.batch.items[at as usize].origin);
                }
                Fate::Duplicate => {
                    duplicate += 1;
                    safe.push(job.batch.items[at as usize].origin);
                }
                Fate::Retry(reason) => {
                    self.metrics.retried.with_label_values(&[reason]).inc();
                    job.refuse(at, reason);
                }
                Fate::Dead(cause) => job.doom(at, *cause),
            }
        }
        latencies.tell(&self.metrics);
        self.metrics.indexed.inc_by(indexed);
        self.metrics.duplicate.inc_by(duplicate);
        if stored > 0 {
            warn!(documents = stored, "documents went into a failure store: look at its error field");
            self.metrics.failure_stored.inc_by(stored);
        }
        if !safe.is_empty() {
            self.progress.taken(Instant::now(), self.waits.retry.0 * AWAY_WAITS);
        }
        job.settled(safe.into_iter());
    }

    /// All of the job was sent once: buries what failed for good, or holds it, and makes ready what is to be sent again.
    /// Returns how long to wait before that.
    async fn end_pass(&self, job: &mut Job) -> Duration {
        let busy = job.is_refused();
        let held = self.hold(job.decided(), &job.dead);
        if !held {
            if !busy || matches!(self.output, Output::Search { .. }) {
                self.set_health(busy.then(|| "documents are refused for now".to_owned()));
            }
            let dead = std::mem::take(&mut job.dead);
            let letters = dead.into_iter().map(|dying| letter(&job.batch, dying)).collect();
            self.bury(&job.batch, letters).await;
        }
        job.next_pass(held)
    }

    /// Puts off what was refused for long enough while others were taken; after the last wait it fails for good. While no other is
    /// taken it waits here, and makes way.
    async fn put_off_stuck(&self, job: &mut Job, slot: Option<&mut Slot>) {
        let Some(later) = &self.later else { return };
        let progress = self.progress.last();
        let stuck = progress.map(|progress| job.take_stuck(later.after(), progress)).unwrap_or_default();
        let (mut notes, now_ms) = (Vec::new(), (self.wall_ms)());
        for (at, reason) in stuck {
            let origin = job.batch.items[at as usize].origin;
            let refusals = refusals_before(job.batch.parcel(origin), origin);
            match retry::after_refusal(later.waits(), refusals, now_ms) {
                Some(next) => notes.push((origin, next, reason)),
                None => {
                    let reason = format!("refused for now ({reason}), and still after it was put off {refusals} times");
                    job.doom(at, Cause { status: 503, kind: "put_off_too_often".to_owned(), reason });
                }
            }
        }
        if job.is_stuck(later.after()) && slot.is_some_and(|slot| slot.must_leave(later.after(), Instant::now())) {
            for (at, reason) in job.take_stuck(later.after(), Instant::now()) {
                let origin = job.batch.items[at as usize].origin;
                let refusals = refusals_before(job.batch.parcel(origin), origin);
                notes.push((origin, retry::aside(later.waits(), refusals, now_ms), reason));
            }
        }
        let note = |&(origin, next, reason)| Self::note(&job.batch, origin, next, reason, job.attempts);
        self.put_off(&job.batch, later.as_ref(), notes.iter().map(note).collect()).await;
    }

    /// Puts off records that are not to be indexed yet.
    async fn put_off_early(&self, batch: &Batch) {
        let Some(later) = self.later.as_ref().filter(|_| !batch.later.is_empty()) else { return };
        let now_ms = (self.wall_ms)();
        let note = |&(origin, due_ms): &(Origin, i64)| {
            let next = retry::until(later.waits(), refusals_before(batch.parcel(origin), origin), due_ms, now_ms);
            Self::note(batch, origin, next, "not_before", 0)
        };
        self.put_off(batch, later.as_ref(), batch.later.iter().map(note).collect()).await;
    }

    fn note<'b>(batch: &'b Batch, origin: Origin, next: Next, reason: &'static str, attempts: u32) -> Note<'b> {
        let parcel = &**batch.parcel(origin);
        let attempts = attempts.saturating_add(attempts_before(parcel, origin));
        Note { parcel, origin, next, attempts, reason }
    }

    /// Writes `notes` and settles their records once the broker has them. Ends only when it has.
    async fn put_off(&self, batch: &Batch, later: &dyn Later, mut notes: Vec<Note<'_>>) {
        let mut wait = Backoff::new(self.waits.retry.0, self.waits.retry.1);
        while !notes.is_empty() {
            let failed = later.write(&notes).await;
            let (mut next, mut kept) = (failed.iter().peekable(), Vec::new());
            for (at, note) in notes.into_iter().enumerate() {
                if next.next_if(|(failed, _)| *failed == at).is_some() {
                    kept.push(note);
                    continue;
                }
                self.metrics.put_off.with_label_values(&[note.reason]).inc();
                batch.done(std::iter::once(note.origin));
            }
            notes = kept;
            self.health.set("retry", failed.first().map(|(_, problem)| problem.clone()));
            if let Some((_, problem)) = failed.first() {
                error!(records = notes.len(), problem, "records could not be put off, trying on");
                tokio::time::sleep(wait.next()).await;
            }
        }
    }

    /// Asks the breaker whether the `dead` of `decided` documents are to be held back.
    fn hold(&self, decided: usize, dead: &[Dying]) -> bool {
        let Some(breaker) = self.breaker.as_ref().filter(|_| decided > 0) else { return false };
        let mut breaker = breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let was_open = breaker.is_open();
        let held = breaker.judge(decided, dead.len());
        self.metrics.breaker_open.set(i64::from(breaker.is_open()));
        if held {
            let cause = dead.first().map_or("", |dying| dying.cause.reason.as_str());
            error!(
                decided,
                failed = dead.len(),
                cause,
                "most documents fail for good: holding them instead of writing dead letters"
            );
            self.metrics.retried.with_label_values(&["breaker"]).inc_by(dead.len() as u64);
            let remedy = "mend the mapping or the pipeline, or set dead_letter.breaker: false";
            self.set_health(Some(format!("{} of {decided} documents fail for good ({cause}): {remedy}", dead.len())));
        } else if was_open && !breaker.is_open() {
            info!("documents pass again, the breaker is closed");
        }
        held
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

/// What an answer says about the load of the cluster.
fn sign(verdict: &Verdict) -> Sign {
    let is_load = |reason: &str| matches!(reason, "busy" | "server_error" | "no_answer");
    match verdict {
        Verdict::Items(fates) if fates.iter().any(|fate| matches!(fate, Fate::Retry(reason) if is_load(reason))) => {
            Sign::Busy
        }
        Verdict::Items(_) => Sign::Taken,
        Verdict::Resend { reason, .. } if is_load(reason) => Sign::Busy,
        Verdict::Resend { .. } | Verdict::Halve(_) | Verdict::Bisect(_) | Verdict::Alarm(_) => Sign::Neither,
    }
}

fn letter(batch: &Batch, dying: Dying) -> Letter<'_> {
    let Dying { origin, item, cause, attempts } = dying;
    let pipeline = item.map_or("", |at| batch.pipelines[batch.items[at as usize].pipeline as usize].as_str());
    let processor = item.map_or("", |at| batch.processor(at));
    let index = item.map(|at| Action::read(&batch.document(at)).0.index()).unwrap_or_default();
    let attempts = attempts.saturating_add(attempts_before(batch.parcel(origin), origin));
    Letter { parcel: batch.parcel(origin), origin, cause, pipeline, processor, index, attempts }
}

/// Requests that were made with a record before it was put off.
fn attempts_before(parcel: &Parcel, origin: Origin) -> u32 {
    parcel.put_off(origin.record).map_or(0, |put_off| put_off.attempts)
}

/// How often a record was refused for now, and put off.
fn refusals_before(parcel: &Parcel, origin: Origin) -> u32 {
    parcel.put_off(origin.record).map_or(0, |put_off| put_off.refusals)
}

#[cfg(test)]
mod tests;
