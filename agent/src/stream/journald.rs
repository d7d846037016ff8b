//! The journal, as `journalctl --follow --output=export` gives it → records.
//!
//! The cursor of the last acknowledged entry is in the checkpoint; the next start goes on behind it. An entry that is read
//! again gets the same document id: its incarnation is made of the agent's and the input's names, its offset is 48 bits of
//! its cursor's hash. The program is started again whenever it ends, behind the last entry that was read.

mod export;
mod fields;

use super::batch::{Batch, Mouth};
use super::lock;
use crate::config::{JournaldInput, Start};
use event::Incarnation;
use export::{Entry, Export};
use service::backoff::Backoff;
use service::clock::wall_ms;
use service::health::Health;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of one read.
const CHUNK_BYTES: usize = 128 * 1024;
/// What a document id holds of an offset.
const OFFSET_MASK: u64 = (1 << 48) - 1;
/// A program that has run for so long is well, also if the journal is quiet.
const WELL_AFTER: Duration = Duration::from_secs(2);
/// Most of what the program says on its way out that is told.
const LAST_WORDS_BYTES: usize = 512;
/// Longest wait for them.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);

/// The same for an input in every life of the agent.
pub(super) fn incarnation(agent: &str, input: &str) -> Incarnation {
    Incarnation::new(agent, 0, None, format!("journald {input}").as_bytes(), 0)
}

/// Reads until stopped. `cursor` is that of the last entry that needs not be read again, and is kept up to date.
pub(super) async fn run(config: JournaldInput, cursor: Arc<Mutex<Option<String>>>, mouth: Mouth, health: Health) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let started_ms = wall_ms();
    // What was there at this start may have been shipped before it, if there is a cursor at all.
    let reread_before_ms = lock(&cursor).as_ref().map_or(i64::MIN, |_| started_ms);
    let mut journal = Journal { config, cursor, mouth, reread_before_ms };
    loop {
        let arguments = journal.arguments(started_ms);
        let ended = match Journalctl::start(&journal.config, &arguments) {
            Ok(program) => {
                journal.mouth.wires.metrics.journal_starts.with_label_values(&["ok"]).inc();
                journal.follow(program, &mut backoff, &health).await
            }
            Err(error) => {
                journal.mouth.wires.metrics.journal_starts.with_label_values(&["failed"]).inc();
                Some(format!("cannot be started: {error}"))
            }
        };
        let Some(reason) = ended else { return };
        let (input, program) = (journal.mouth.plate.input(), journal.config.program.display());
        tracing::warn!(input, %program, reason, "the journal is not read; the program is started again");
        let problem = Some(format!("{program} {reason}"));
        journal.mouth.plate.problem(problem.clone());
        health.set("journald", problem);
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = journal.mouth.stop.stopped() => return,
        }
    }
}

struct Journal {
    config: JournaldInput,
    cursor: Arc<Mutex<Option<String>>>,
    mouth: Mouth,
    reread_before_ms: i64,
}

impl Journal {
    /// The first start begins where the configuration says, every other behind the last entry.
    fn arguments(&self, started_ms: i64) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["--output=export", "--follow", "--no-tail", "--no-pager"].map(Into::into).into();
        match (&*lock(&self.cursor), &self.config.since, self.config.start) {
            (Some(cursor), ..) => arguments.push(format!("--after-cursor={cursor}")),
            (None, Some(since), _) => arguments.push(format!("--since={since}")),
            (None, None, Start::End) => arguments.push(format!("--since=@{}", started_ms.div_euclid(1_000))),
            (None, None, Start::Beginning) => {}
        }
        arguments.extend(self.config.filters.iter().cloned());
        arguments
    }

    /// Reads one run of the program. Returns why it ended; `None` if it was told to.
    async fn follow(&mut self, mut program: Journalctl, backoff: &mut Backoff, health: &Health) -> Option<String> {
        let mut export = Export::new(self.config.message_bytes_max);
        let mut buffer = vec![0; CHUNK_BYTES];
        let well = tokio::time::sleep(WELL_AFTER);
        tokio::pin!(well);
        let mut is_well = false;
        loop {
            tokio::select! {
                read = program.output.read(&mut buffer) => match read {
                    Ok(0) => return Some(program.last_words().await),
                    Ok(bytes) => {
                        let (mut batch, mut cursor) = (Batch::default(), lock(&self.cursor).clone());
                        export.push(&buffer[..bytes], &mut |entry| self.add(&entry, &mut batch, &mut cursor));
                        if batch.is_empty() {
                            continue;
                        }
                        batch.cursor = Some(cursor.clone().unwrap_or_default());
                        if !self.mouth.ship(batch).await {
                            return None;
                        }
                        *lock(&self.cursor) = cursor;
                        backoff.reset();
                    }
                    Err(error) => return Some(format!("cannot be read: {error}")),
                },
                () = &mut well, if !is_well => {}
                () = self.mouth.stop.stopped() => return None,
            }
            if !std::mem::replace(&mut is_well, true) {
                self.mouth.plate.problem(None);
                health.set("journald", None);
            }
        }
    }

    fn add(&self, entry: &Entry, batch: &mut Batch, cursor: &mut Option<String>) {
        let name = entry.get("__CURSOR").map(String::from_utf8_lossy);
        let text = entry.get("MESSAGE").unwrap_or_default();
        let extra = fields::extra(entry);
        batch.reread |= extra.timestamp_ms.is_none_or(|ms| ms < self.reread_before_ms);
        let offset = xxh3_64(name.as_ref().map_or(text, |name| name.as_bytes())) & OFFSET_MASK;
        batch.push(text, Some(extra), Some(offset), entry.bytes, entry.cut);
        if let Some(name) = name {
            *cursor = Some(name.into_owned());
        }
    }
}

/// The running program; ended when dropped.
struct Journalctl {
    child: std::process::Child,
    output: pipe::Receiver,
    errors: tokio::task::JoinHandle<Vec<u8>>,
}

impl Journalctl {
    fn start(config: &JournaldInput, arguments: &[String]) -> std::io::Result<Self> {
        let mut command = Command::new(&config.program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pipes = child.stdout.take().zip(child.stderr.take());
        let (output, errors) = pipes.expect("both are piped");
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))?;
        let errors = pipe::Receiver::from_owned_fd(OwnedFd::from(errors))?;
        Ok(Self { child, output, errors: tokio::spawn(keep_last(errors)) })
    }

    /// How it ended, and what it said.
    async fn last_words(&mut self) -> String {
        self.child.kill().ok(); // It closed its output: it has ended, or will never say anything again.
        let status = self.child.wait();
        let said = tokio::time::timeout(LAST_WORDS_WAIT, &mut self.errors).await;
        let said = said.ok().and_then(Result::ok).unwrap_or_default();
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        // What it says goes to the log and to a page: in one line, and nothing a terminal would act on.
        let said: String = String::from_utf8_lossy(&said).trim().escape_debug().collect();
        if said.is_empty() { format!("ended: {status}") } else { format!("ended: {status}: {said}") }
    }
}

impl Drop for Journalctl {
    fn drop(&mut self) {
        self.child.kill().ok(); // It may have ended by itself.
        self.child.wait().ok();
    }
}

/// Reads to the end and keeps the last bytes.
async fn keep_last(mut pipe: pipe::Receiver) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(bytes @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..bytes]);
        kept.drain(..kept.len().saturating_sub(LAST_WORDS_BYTES));
    }
    kept
}
