//! The shared stack of a test run, and brokers or search nodes of a test's own that it may stop.

use crate::http;
use crate::kafka::Cluster;
use crate::search::Node;
use crate::wait;
use anyhow::{Context as _, Result, bail};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Attempts to find ports that nobody takes between the look and the start.
const PORT_TRIES: usize = 5;

/// What `make test` started and told in the environment.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The broker that is never stopped.
    pub cluster: Cluster,
    /// The OpenSearch node that is never stopped.
    pub node: Node,
    /// Folder of the run; everything a test leaves behind is below it.
    pub home: PathBuf,
}

/// The run's stack. Panics with what to do if there is none: a promise is never skipped quietly.
#[track_caller]
pub fn shared() -> Shared {
    let cluster = Cluster { brokers: variable("TAILRACE_TEST_BROKERS") };
    Shared { cluster, node: Node { url: variable("TAILRACE_TEST_SEARCH") }, home: home() }
}

/// Folder of the run.
#[track_caller]
pub fn home() -> PathBuf {
    PathBuf::from(variable("TAILRACE_TEST_HOME"))
}

/// The program under test.
#[track_caller]
pub fn program() -> PathBuf {
    PathBuf::from(variable("TAILRACE_TEST_BIN"))
}

/// The project's folder.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Reference data beside the project, if it is there; says so on stderr if not.
pub fn reference_data() -> Option<PathBuf> {
    let beside = project().parent().map(|parent| parent.join("shared/data"));
    let folder = std::env::var_os("TAILRACE_SHARED_DATA").map(PathBuf::from).or(beside)?;
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no reference data at {} (set TAILRACE_SHARED_DATA)", folder.display());
    None
}

#[track_caller]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: promises need a real broker and search node. Run `make test`, or `tests/run cargo test …` for some of them.")
    })
}

/// A broker of a test's own. Stopped and wiped when dropped.
#[derive(Debug)]
pub struct OwnKafka {
    /// How to reach it.
    pub cluster: Cluster,
    script: Script,
}

/// A search node of a test's own. Stopped and wiped when dropped.
#[derive(Debug)]
pub struct OwnSearch {
    /// How to reach it.
    pub node: Node,
    kind: &'static str,
    up: Vec<&'static str>,
    script: Script,
}

/// The password of the node's first user.
pub const SEARCH_PASSWORD: &str = "Tester-secret-1";

/// One of the stack's scripts with its folder, its port and what else stands in its environment.
#[derive(Debug)]
pub(crate) struct Script {
    name: &'static str,
    pub(crate) home: PathBuf,
    pub(crate) port: u16,
    env: Vec<(&'static str, String)>,
}

impl OwnKafka {
    /// Starts one broker, with its data in `home`.
    pub fn start(home: &Path) -> Result<Self> {
        Self::start_with(home, "")
    }

    /// The same with `more` lines of settings.
    pub fn start_with(home: &Path, more: &str) -> Result<Self> {
        let script = Script::start("kafka", home, &["up"], &[("KAFKA_MORE", more.to_owned())])?;
        Ok(Self { cluster: Cluster { brokers: format!("127.0.0.1:{}", script.port) }, script })
    }

    /// Stops the broker as an operator would, and waits until it is gone. Its data stays.
    pub fn stop(&self) -> Result<()> {
        self.script.run(&["stop-node", "1"]).map(drop)
    }

    /// Starts the stopped broker again; returns when it says that it has started.
    pub fn start_again(&self) -> Result<()> {
        self.script.run(&["up"]).map(drop)
    }
}

impl OwnSearch {
    /// Starts one node of `kind`, `opensearch` or `elasticsearch`, with its data in `home`.
    pub fn start(home: &Path, kind: &'static str) -> Result<Self> {
        let script = Script::start("search", home, &["up", kind], &[])?;
        let url = format!("http://127.0.0.1:{}", script.port);
        Ok(Self { node: Node { url }, kind, up: vec!["up", kind], script })
    }

    /// The same with https by a CA of its own, and logins; tests reach it as its first user.
    pub fn start_secure(home: &Path, kind: &'static str) -> Result<Self> {
        let env = [("ES_PASSWORD", SEARCH_PASSWORD.to_owned()), ("ES_HEAP", "768m".to_owned())];
        let up = vec!["up", kind, "--secure"];
        let script = Script::start("search", home, &up, &env)?;
        let own = Self { node: Node { url: format!("https://127.0.0.1:{}", script.port) }, kind, up, script };
        http::log_in(&format!("127.0.0.1:{}", own.script.port), &own.tls("ca.crt"), &own.login());
        Ok(own)
    }

    /// The first user's name.
    pub fn user(&self) -> &'static str {
        if self.kind == "opensearch" { "admin" } else { "elastic" }
    }

    fn login(&self) -> String {
        format!("{}:{SEARCH_PASSWORD}", self.user())
    }

    /// The file of that name among the certificates that `deploy/stack` made.
    pub fn tls(&self, name: &str) -> PathBuf {
        self.script.home.join("tls").join(name)
    }

    /// Stops the node, and waits until it is gone. Its data stays.
    pub fn stop(&self) -> Result<()> {
        self.script.run(&["down", self.kind]).map(drop)
    }

    /// Starts the stopped node again; returns when it is healthy.
    pub fn start_again(&self) -> Result<()> {
        self.script.run(&self.up).map(drop)
    }

    /// True if the node answers.
    pub fn answers(&self) -> bool {
        http::request("GET", &self.node.url, None).is_ok()
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        self.script.wipe(&["down", "--wipe"]);
    }
}

impl Drop for OwnSearch {
    fn drop(&mut self) {
        self.script.wipe(&["down", self.kind, "--wipe"]);
    }
}

impl Script {
    pub(crate) fn start(name: &'static str, home: &Path, up: &[&str], env: &[(&'static str, String)]) -> Result<Self> {
        let mut last = None;
        for _ in 0..PORT_TRIES {
            let script = Self { name, home: home.to_owned(), port: free_base()?, env: env.to_owned() };
            match script.run(up) {
                Ok(_) => return Ok(script),
                Err(error) if error.to_string().contains("is taken") => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no free ports for {name}")))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output> {
        let path = project().join("deploy/stack").join(self.name);
        let output = Command::new(&path)
            .args(arguments)
            .env("STACK_HOME", &self.home)
            .env("KAFKA_PORT", self.port.to_string())
            .env("ES_PORT", self.port.to_string())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .output()
            .with_context(|| format!("running {}", path.display()))?;
        if !output.status.success() {
            bail!("{} {}: {}", self.name, arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(output)
    }

    pub(crate) fn wipe(&self, arguments: &[&str]) {
        if let Err(error) = self.run(arguments) {
            eprintln!("{} in {} was not stopped: {error}", self.name, self.home.display());
        }
    }
}

/// Runs one of Kafka's own tools to its end, with `input` as its standard input. `words`: its class and its arguments, as
/// `kafka tool` takes them.
pub fn kafka_tool(words: &[&str], input: &[u8]) -> Result<Output> {
    let mut child = Command::new(project().join("deploy/stack/kafka"))
        .arg("tool")
        .args(words)
        .env("STACK_HOME", home().join("stack"))
        .env("KAFKA_TOOL_HEAP", "256m")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running deploy/stack/kafka")?;
    // It reads all of it before it says anything of length.
    child.stdin.take().context("it has a standard input")?.write_all(input)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("kafka tool {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(output)
}

/// A port below the range that the system gives out, free now together with those that three secure brokers take beside it
/// (see deploy/stack/README.md).
fn free_base() -> Result<u16> {
    for _ in 0..200 {
        let base = fastrand::u16(20_000..32_000);
        let mut ports = [0, 10, 20, 30, 100].into_iter().flat_map(|of| (0..3).map(move |broker| base + of + broker));
        if ports.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return Ok(base);
        }
    }
    bail!("no free ports between 20000 and 32100")
}

/// Ports that [`free_port`] gives out: below those that Linux gives to clients, and below those of the stacks.
const FREE_PORTS: std::ops::Range<u16> = 10_000..20_000;

/// A port that is free now and that this process is given once: two daemons of a test never meet on it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = FREE_PORTS.end - FREE_PORTS.start;
    // Processes begin at different places, so that two runs at once rarely try the same.
    let first = (std::process::id() % u32::from(count)) as u16;
    let (port, _) = wait::wait_for("a free port", Duration::from_secs(5), || {
        let port = FREE_PORTS.start + (first + NEXT.fetch_add(1, Ordering::Relaxed) % count) % count;
        TcpListener::bind(("127.0.0.1", port)).map(|_| port).map_err(|error| error.to_string())
    });
    port
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_port_is_given_once() {
        let given: std::collections::BTreeSet<_> = (0..50).map(|_| super::free_port()).collect();
        assert_eq!(given.len(), 50);
    }
}
