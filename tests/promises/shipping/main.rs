//! Promise: whatever becomes of brokers, topics and logins, no acknowledged line is missing and none is there twice; and each half
//! of Tailrace works with the other half of what it replaces.

mod access;
mod acks;
mod brokers;
mod codecs;
mod interop;
mod outputs;

use std::path::PathBuf;
use std::time::Duration;
use tests::daemon::Daemon;
use tests::stack;
use tests::wait;
use tests::writer::Writer;

/// Longest wait for what should come soon: three brokers share a small machine with the tests beside them.
const LIMIT: Duration = Duration::from_secs(120);

/// A folder for brokers of a test's own.
fn home(name: &str) -> PathBuf {
    stack::home().join(format!("{name}-{:08x}", fastrand::u32(..)))
}

fn is_full() -> bool {
    std::env::var_os("TAILRACE_TEST_FULL").is_some()
}

/// Lines that the agent says are acknowledged.
fn acknowledged(agent: &Daemon) -> Result<u64, String> {
    Ok(agent.metrics().map_err(|error| error.to_string())?.agent("acknowledged"))
}

/// Waits until a second's worth of what is written from now on is acknowledged, and all before it, and all but the last
/// second's of what is written at `rate` lines a second. Returns how long that took.
#[track_caller]
fn caught_up(agent: &Daemon, writer: &Writer, rate: u64, limit: Duration) -> Duration {
    let soon = writer.lines() + rate;
    let (_, waited) = wait::wait_for("all that is written is acknowledged", limit, || {
        let written = writer.lines();
        let acknowledged = acknowledged(agent)?;
        wait::met(acknowledged >= soon && acknowledged + rate >= written, || {
            format!("{acknowledged} of {written} lines; log:\n{}", agent.log_tail())
        })
    });
    waited
}
