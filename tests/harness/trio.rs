//! Three brokers of a test's own, each of which can be killed, frozen and started again, by its pid.

use crate::kafka::Cluster;
use crate::stack::Script;
use crate::wait;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The brokers' numbers.
pub const ALL: [i32; 3] = [1, 2, 3];

/// Memory of each one's heap: three of them and a search node share a small machine.
const HEAP: &str = "256m";

/// Longest wait until a broker that was killed is gone.
const GONE_MAX: Duration = Duration::from_secs(10);

/// Longest wait until all replicas are in sync again.
const IN_SYNC_MAX: Duration = Duration::from_secs(180);

/// Three brokers, with three replicas of each partition of which two must be in sync. Stopped and wiped when dropped.
#[derive(Debug)]
pub struct Trio {
    /// How to reach them without a login.
    pub cluster: Cluster,
    script: Script,
    up: Vec<&'static str>,
}

impl Trio {
    /// Starts them, with their data in `home`.
    pub fn start(home: &Path) -> Result<Self> {
        Self::start_with(home, vec!["up", "--brokers", "3"], "")
    }

    /// Starts them with listeners for logins and TLS as well, and `more` lines of settings.
    pub fn start_secure(home: &Path, more: &str) -> Result<Self> {
        Self::start_with(home, vec!["up", "--brokers", "3", "--secure"], more)
    }

    fn start_with(home: &Path, up: Vec<&'static str>, more: &str) -> Result<Self> {
        let env = [("KAFKA_HEAP", HEAP.to_owned()), ("KAFKA_MORE", more.to_owned())];
        let script = Script::start("kafka", home, &up, &env)?;
        let brokers = addresses(script.port).join(",");
        Ok(Self { cluster: Cluster { brokers }, script, up })
    }

    /// Where they listen for logins over TLS.
    pub fn sasl_ssl(&self) -> Vec<String> {
        addresses(self.script.port + 30)
    }

    /// The file of that name among the certificates that `deploy/stack` made.
    pub fn tls(&self, name: &str) -> PathBuf {
        self.script.home.join("tls").join(name)
    }

    /// Kills one at once, and waits until it is gone.
    pub fn kill(&self, broker: i32) -> Result<()> {
        self.signal(broker, "KILL")?;
        wait::wait_for("the end of a killed broker", GONE_MAX, || {
            wait::met(self.pid(broker).is_err(), || format!("broker {broker} is there"))
        });
        Ok(())
    }

    /// Stops one where it stands: its connections stay, and nobody answers.
    pub fn freeze(&self, broker: i32) -> Result<()> {
        self.signal(broker, "STOP")
    }

    /// Lets a frozen one go on.
    pub fn thaw(&self, broker: i32) -> Result<()> {
        self.signal(broker, "CONT")
    }

    /// Starts those that were killed; returns when they say that they have started.
    pub fn start_again(&self) -> Result<()> {
        self.script.run(&self.up).map(drop)
    }

    /// Waits until each partition of `topic` has all its replicas in sync. Returns how long that took.
    #[track_caller]
    pub fn wait_in_sync(&self, topic: &str) -> Duration {
        self.wait_isr(topic, ALL.len())
    }

    /// Waits until each partition of `topic` has a leader and so many replicas in sync. Returns how long that took.
    #[track_caller]
    pub fn wait_isr(&self, topic: &str, replicas: usize) -> Duration {
        let (_, waited) = wait::wait_for("replicas in sync", IN_SYNC_MAX, || {
            let leaders = self.cluster.leaders(topic).map_err(|error| error.to_string())?;
            let is_so = leaders.values().all(|(leader, isr)| *leader > 0 && *isr == replicas);
            wait::met(is_so && !leaders.is_empty(), || format!("partition: (leader, in sync): {leaders:?}"))
        });
        waited
    }

    /// Who leads this partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<i32> {
        let leaders = self.cluster.leaders(topic)?;
        leaders.get(&partition).map(|(leader, _)| *leader).with_context(|| format!("no partition {partition}"))
    }

    fn signal(&self, broker: i32, name: &str) -> Result<()> {
        let pid = self.pid(broker)?;
        let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status()?;
        if !status.success() {
            bail!("kill -{name} {pid} (broker {broker}): {status}");
        }
        Ok(())
    }

    /// Its process, if it still is the one that the script started.
    fn pid(&self, broker: i32) -> Result<u32> {
        let file = self.script.home.join(format!("kafka/node-{broker}/pid"));
        let pid: u32 = fs::read_to_string(&file)?.trim().parse().with_context(|| file.display().to_string())?;
        let command = fs::read(format!("/proc/{pid}/cmdline"))?;
        let mark = format!("-Dstack.pidfile={}", file.display());
        let is_ours = command.split(|byte| *byte == 0).any(|word| word == mark.as_bytes());
        if is_ours { Ok(pid) } else { bail!("process {pid} is not broker {broker}") }
    }
}

fn addresses(first: u16) -> Vec<String> {
    (first..first + 3).map(|port| format!("127.0.0.1:{port}")).collect()
}

impl Drop for Trio {
    fn drop(&mut self) {
        for broker in ALL {
            self.thaw(broker).ok(); // A frozen one takes no other signal; one that is gone needs none.
        }
        self.script.wipe(&["down", "--wipe"]);
    }
}
