//! Agent and indexer as processes: started, killed, stopped, measured. Never outlives its handle.

use crate::equations::Metrics;
use crate::{http, stack, wait};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Ticks of /proc/PID/stat in a second, on every Linux that Rust supports.
const TICKS_PER_S: u64 = 100;

/// Which half of Tailrace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// `tailrace agent`.
    Agent,
    /// `tailrace indexer`.
    Indexer,
    /// `tailrace standalone`: both.
    Standalone,
}

impl Half {
    /// The command's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Indexer => "indexer",
            Self::Standalone => "standalone",
        }
    }
}

/// How to start it.
#[derive(Debug, Clone)]
pub struct Start {
    /// Which half.
    pub half: Half,
    /// Its configuration; JSON is YAML.
    pub config: Value,
    /// Folder for the configuration and the log.
    pub folder: PathBuf,
    /// Environment beside the test's own, such as `FAILPOINTS`.
    pub env: Vec<(String, String)>,
    /// A command to start it through, such as `setpriv …`.
    pub through: Vec<String>,
}

/// A running process. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    half: Half,
    log: PathBuf,
    /// Where the log stood at the start: it is shared by all lives.
    log_from: u64,
    metrics_url: Option<String>,
    pid_file: PathBuf,
}

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Resident memory now, bytes.
    pub rss: u64,
    /// Resident memory at its highest, bytes.
    pub rss_max: u64,
    /// Processor time of all threads.
    pub cpu: Duration,
}

impl Start {
    /// Starts the process with its configuration written to `folder`, its log appended to `folder`/HALF.log.
    pub fn spawn(&self) -> Result<Daemon> {
        let name = self.half.name();
        let config = self.folder.join(format!("{name}.yaml"));
        fs::write(&config, serde_json::to_string_pretty(&self.config)?)?;
        let listen = self.config["metrics"]["listen"].as_str();
        self.spawn_with(&config, listen.map(|listen| format!("http://{listen}")))
    }

    /// Starts the process with the configuration file `config`, whatever stands in it.
    pub fn spawn_with(&self, config: &Path, metrics_url: Option<String>) -> Result<Daemon> {
        let name = self.half.name();
        let log = self.folder.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let log_from = out.metadata()?.len();
        let program = stack::program();
        let mut words = self.through.iter().map(PathBuf::from).chain([
            program.clone(),
            name.into(),
            "-c".into(),
            config.to_owned(),
        ]);
        let mut command = Command::new(words.next().context("a command has a first word")?);
        command.args(words).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        // For the run's own clean-up, should this process die before it can stop its children.
        let pids = stack::home().join("pids");
        fs::create_dir_all(&pids)?;
        let pid_file = pids.join(child.id().to_string());
        fs::write(&pid_file, config.as_os_str().as_encoded_bytes())?;
        Ok(Daemon { child, half: self.half, log, log_from, metrics_url, pid_file })
    }
}

impl Daemon {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once, as the kernel or the power would, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        fs::remove_file(&self.pid_file).ok(); // Only a note for the run's clean-up.
        Ok(())
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        self.signal("TERM")
    }

    /// Sends a signal by name, such as `STOP`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status()?;
        if !status.success() {
            bail!("kill -{name} {}: {status}", self.pid());
        }
        Ok(())
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the end. Panics at the deadline, with the end of the log.
    #[track_caller]
    pub fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("end of the {}", self.half.name());
        wait::wait_for(&what, limit, || self.ended().ok_or_else(|| format!("still running; log:\n{}", self.log_tail())))
            .0
    }

    /// SIGTERM, then the exit status. Panics at the deadline.
    #[track_caller]
    pub fn stop(&mut self, limit: Duration) -> ExitStatus {
        self.terminate().expect("the process takes signals");
        self.wait_end(limit)
    }

    /// Waits until it says that it is ready. Panics at the deadline or when it ends, with the end of the log.
    #[track_caller]
    pub fn wait_ready(&mut self, limit: Duration) -> Duration {
        let what = format!("ready {}", self.half.name());
        let (_, waited) = wait::wait_for(&what, limit, || {
            if let Some(status) = self.ended() {
                panic!("{} ended with {status}; log:\n{}", self.half.name(), self.log_tail());
            }
            match self.get("/readyz") {
                Ok((200, _)) => Ok(()),
                other => Err(format!("{other:?}; log:\n{}", self.log_tail())),
            }
        });
        waited
    }

    /// A page of its loopback endpoint.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let url = self.metrics_url.as_deref().context("started without metrics")?;
        http::request("GET", &format!("{url}{path}"), None)
    }

    /// Its metrics.
    pub fn metrics(&self) -> Result<Metrics> {
        let (status, text) = self.get("/metrics")?;
        if status != 200 {
            bail!("/metrics: status {status}: {text}");
        }
        Metrics::parse(&text)
    }

    /// What it has used up to now.
    pub fn usage(&self) -> Result<Usage> {
        usage(self.pid())
    }

    /// Bytes that it has read of files and peers up to now, from /proc.
    pub fn read_bytes(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/io", self.pid()))?;
        let read = text.lines().find_map(|line| line.strip_prefix("rchar:")).context("no rchar")?;
        Ok(read.trim().parse()?)
    }

    /// What this life has written to its log.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(self.log_from).unwrap_or(0).min(bytes.len());
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }

    /// The last lines of the log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Waits until this life's log holds all of `words` in one line (upper or lower case). Returns that line.
    #[track_caller]
    pub fn wait_log(&self, words: &[&str], limit: Duration) -> String {
        self.wait_log_from(0, words, limit)
    }

    /// [`Daemon::wait_log`] for what comes behind the first `from` bytes of this life's log.
    #[track_caller]
    pub fn wait_log_from(&self, from: usize, words: &[&str], limit: Duration) -> String {
        let what = format!("{words:?} in the {}'s log", self.half.name());
        let holds = |line: &str| {
            let line = line.to_lowercase();
            words.iter().all(|word| line.contains(&word.to_lowercase()))
        };
        wait::wait_for(&what, limit, || {
            let log = self.log();
            let new = log.get(from..).unwrap_or_default();
            new.lines().find(|line| holds(line)).map(str::to_owned).ok_or_else(|| self.log_tail())
        })
        .0
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.ended().is_none()
            && let Err(error) = self.kill()
        {
            eprintln!("{} {} was not stopped: {error}", self.half.name(), self.pid());
        }
        fs::remove_file(&self.pid_file).ok(); // Only a note for the run's clean-up.
    }
}

/// What the process `pid` has used, from /proc.
pub fn usage(pid: u32) -> Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).map_or(0, |n| n << 10)
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit_once(") ").context("no name in stat")?.1.split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let cpu = Duration::from_millis((ticks(11) + ticks(12)) * 1_000 / TICKS_PER_S);
    Ok(Usage { rss: kib("VmRSS:"), rss_max: kib("VmHWM:"), cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_this_process_is_plausible() {
        let used = usage(std::process::id()).expect("this process has a /proc entry");
        assert!(used.rss > 1 << 20 && used.rss_max >= used.rss, "{used:?}");
    }
}
