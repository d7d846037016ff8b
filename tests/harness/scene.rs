//! One test's own corner of a stack: folder, topics, index, group, names, seed.

use crate::audit::{self, LifeEnd, Report};
use crate::daemon::{Daemon, Half, Start};
use crate::kafka::Cluster;
use crate::lines::Recipe;
use crate::search::Node;
use crate::writer::{Load, Written};
use crate::{read_back, stack, wait};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// Bytes that the agents of tests may hold in flight.
pub const AGENT_MEMORY: u64 = 16 << 20;

/// One test's corner. Its folder is kept if the test fails.
#[derive(Debug)]
pub struct Scene {
    /// Unique: the test's name and a number.
    pub run: String,
    /// Everything on disk.
    pub folder: PathBuf,
    /// Printed; `TAILRACE_TEST_SEED` repeats it.
    pub seed: u64,
    /// The broker.
    pub cluster: Cluster,
    /// The search node.
    pub node: Node,
    /// Fresh, with the partitions asked for.
    pub topic: String,
    /// Fresh, one partition.
    pub dead_topic: String,
    /// Fresh, one shard.
    pub index: String,
    /// The indexer's group.
    pub group: String,
}

impl Scene {
    /// A corner of the shared stack.
    #[track_caller]
    pub fn shared(name: &str, partitions: i32) -> Self {
        let shared = stack::shared();
        Self::on(name, partitions, shared.cluster, shared.node)
    }

    /// A corner of the given broker and node.
    #[track_caller]
    pub fn on(name: &str, partitions: i32, cluster: Cluster, node: Node) -> Self {
        let scene = Self::without_node(name, partitions, cluster, node);
        scene
            .node
            .create_index(&scene.index, &json!({"message": {"type": "text", "index": false}}))
            .expect("the index is made");
        scene
    }

    /// [`Scene::on`] for a node that makes its indices itself, such as a fake one.
    #[track_caller]
    pub fn without_node(name: &str, partitions: i32, cluster: Cluster, node: Node) -> Self {
        let run = format!("{name}-{:08x}", fastrand::u32(..));
        let seed =
            std::env::var("TAILRACE_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        let folder = stack::home().join(&run);
        std::fs::create_dir_all(folder.join("logs")).expect("the run's folder takes folders");
        let name = |suffix: &str| format!("t-{run}{suffix}");
        let scene = Self {
            topic: name(""),
            dead_topic: name("-dead"),
            index: name(""),
            group: name(""),
            run,
            folder,
            seed,
            cluster,
            node,
        };
        eprintln!("scene {}: seed {}, folder {}", scene.run, scene.seed, scene.folder.display());
        scene.cluster.create_topic(&scene.topic, partitions).expect("the topic is made");
        scene.cluster.create_topic(&scene.dead_topic, 1).expect("the dead-letter topic is made");
        scene
    }

    /// What this scene's lines are.
    pub fn recipe(&self) -> Recipe {
        Recipe::new(&self.run, self.seed)
    }

    /// A load into this scene's log folder.
    pub fn load(&self, files: usize, lines: u64, rate: u64, renames: u64) -> Load {
        Load { recipe: self.recipe(), folder: self.folder.join("logs"), files, lines, rate, renames }
    }

    /// An agent that ships this scene's log folder to its topic.
    pub fn agent(&self) -> Start {
        let config = json!({
            "name": format!("host-{}", self.run),
            "state_dir": self.folder.join("state"),
            "memory": AGENT_MEMORY,
            "inputs": [{"id": "app", "type": "file", "paths": [self.folder.join("logs/app-*.log*")], "start": "beginning"}],
            "kafka": {"brokers": self.cluster.list(), "topic": self.topic},
            "metrics": {"listen": format!("127.0.0.1:{}", stack::free_port())},
        });
        self.start(Half::Agent, config)
    }

    /// An indexer from this scene's topic to its index.
    pub fn indexer(&self) -> Start {
        let config = json!({
            "kafka": {
                "brokers": self.cluster.list(), "group": self.group, "topics": [self.topic], "static_id": "one",
            },
            "memory": 64 << 20,
            "elasticsearch": {"hosts": [self.node.url], "index": self.index},
            "dead_letter": {"topic": self.dead_topic},
            "metrics": {"listen": format!("127.0.0.1:{}", stack::free_port())},
        });
        self.start(Half::Indexer, config)
    }

    fn start(&self, half: Half, config: Value) -> Start {
        Start { half, config, folder: self.folder.clone(), env: Vec::new(), through: Vec::new() }
    }

    /// Waits until the index holds at least `lines` documents; if it stops growing for `stall`, says so and goes on, so that
    /// the audit can name what is missing. Returns the time that took.
    pub fn wait_indexed(&self, lines: u64, stall: Duration) -> Duration {
        let (count, elapsed) = wait::grows_to(lines, stall, || self.node.count(&self.index).ok());
        if count < lines {
            eprintln!("scene {}: {count} of {lines} documents, and no more for {stall:?}", self.run);
        }
        elapsed
    }

    /// Waits until the topic holds at least `lines` records.
    #[track_caller]
    pub fn wait_shipped(&self, lines: u64, limit: Duration) {
        wait::wait_for("all lines in Kafka", limit, || {
            let count = self.cluster.count(&self.topic).map_err(|error| error.to_string())?;
            wait::met(count >= lines, || format!("{count} of {lines} records"))
        });
    }

    /// Waits until the group has committed everything in the topic.
    #[track_caller]
    pub fn wait_committed(&self, limit: Duration) {
        wait::wait_for("everything committed by the group", limit, || {
            let look =
                || anyhow::Ok((self.cluster.ends(&self.topic)?, self.cluster.committed(&self.group, &self.topic)?));
            let (ends, committed) = look().map_err(|error| error.to_string())?;
            let behind = ends.iter().filter(|(partition, end)| **end > committed.get(partition).copied().unwrap_or(0));
            let behind = behind.count();
            wait::met(behind == 0, || format!("{behind} partitions behind: ends {ends:?}, committed {committed:?}"))
        });
    }

    /// What stands in the topic. `lives`: where each killed life of the agent ended.
    pub fn audit_topic(&self, written: &Written, lives: &[LifeEnd]) -> Result<Report> {
        let copies = read_back::topic(&self.cluster, &self.topic, &self.recipe())?;
        Ok(audit::records(written, &copies, lives))
    }

    /// What a consumer of committed records sees in the topic.
    pub fn audit_committed(&self, written: &Written) -> Result<Report> {
        Ok(audit::records(written, &read_back::committed(&self.cluster, &self.topic, &self.recipe())?, &[]))
    }

    /// What stands in the index.
    pub fn audit_index(&self, written: &Written) -> Result<Report> {
        Ok(audit::documents(written, &read_back::index(&self.node, &self.index, &self.recipe())?))
    }

    /// Both equations, at rest: each must hold, with nothing in flight, within a few seconds of the last event.
    #[track_caller]
    pub fn check_equations(&self, agent: Option<&Daemon>, indexer: Option<&Daemon>) {
        let limit = Duration::from_secs(10);
        if let Some(agent) = agent {
            wait::wait_for("the agent's equation", limit, || {
                let metrics = agent.metrics().map_err(|error| error.to_string())?;
                metrics.agent_balances()?;
                idle(metrics.in_flight())
            });
        }
        if let Some(indexer) = indexer {
            wait::wait_for("the indexer's equation", limit, || {
                let metrics = indexer.metrics().map_err(|error| error.to_string())?;
                metrics.indexer_balances()?;
                idle(metrics.in_flight())
            });
        }
    }

    /// Writes `lines` to one of the scene's log files, as they are, appending.
    pub fn append(&self, file: &str, bytes: &[u8]) -> Result<PathBuf> {
        use std::io::Write as _;
        let path = self.folder.join("logs").join(file);
        let mut out = std::fs::File::options().create(true).append(true).open(&path)?;
        out.write_all(bytes).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

fn idle(in_flight: Option<f64>) -> Result<(), String> {
    wait::met(in_flight == Some(0.0), || format!("{in_flight:?} events in flight"))
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("scene {}: kept in {}", self.run, self.folder.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("scene {}: {} stays: {error}", self.run, self.folder.display());
        }
    }
}
