//! `tailrace indexer`: Kafka → pipelines → Elasticsearch or OpenSearch, until it is told to stop.

use crate::check::Unusable;
use anyhow::Context as _;
use indexer::config::PipelinesConfig;
use indexer::{Ended, Indexer, IndexerConfig, Reloader, Shell};
use serde::de::DeserializeOwned;
use service::health::Health;
use service::http::Pages;
use service::metrics::Registry;
use service::stop::Stop;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code when time ran out before everything in flight was settled; it is read again after the next start.
const UNFINISHED: u8 = 3;
/// Threads for bulk requests and the metrics endpoint; parsing has threads of its own.
const IO_THREADS: usize = 2;

/// Reads Kafka, runs pipelines, writes to Elasticsearch or OpenSearch.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The configuration file (see deploy/indexer.example.yaml).
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the daemon. Exit codes: 0 drained, 3 not drained in time; an error otherwise.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config: IndexerConfig = service::load::read_config(&options.config)?;
    indexer::check(&config).map_err(|error| Unusable::error(&format!("{}: {error:#}", options.config.display())))?;
    service::logs::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("io")
        .enable_all()
        .build()
        .context("starting threads")?;
    let ended = runtime.block_on(serve(&config, &options.config));
    runtime.shutdown_background(); // A reader of standard output that stands still is not waited for.
    let ended = ended?;
    Ok(match ended {
        Ended::Clean => {
            tracing::info!("drained");
            ExitCode::SUCCESS
        }
        Ended::Unfinished(records) => {
            tracing::error!(records, "not drained in time; these records are read again after the next start");
            ExitCode::from(UNFINISHED)
        }
    })
}

async fn serve(config: &IndexerConfig, path: &Path) -> anyhow::Result<Ended> {
    let shell = Shell { registry: Registry::default(), health: Health::new(), stop: Stop::on_signals() };
    let (registry, health, stop) = (shell.registry.clone(), shell.health.clone(), shell.stop.clone());
    service::http::serve(&config.metrics.listen, registry, health, Pages::default(), stop)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), librdkafka = service::kafka::version(), "indexer starts");
    let stop = shell.stop.clone();
    let indexer = Indexer::new(config, shell)?;
    reload_on_hangup::<IndexerConfig>(path.to_owned(), indexer.reloader(), stop)?;
    indexer.run().await
}

/// A configuration with `pipelines`.
pub(crate) trait HasPipelines: DeserializeOwned + 'static {
    /// That section.
    fn pipelines(self) -> PipelinesConfig;
}

impl HasPipelines for IndexerConfig {
    fn pipelines(self) -> PipelinesConfig {
        self.pipelines
    }
}

/// SIGHUP → `pipelines` of the file and the pipelines in its folder anew. What is wrong changes nothing but the log and the
/// health.
pub(crate) fn reload_on_hangup<F: HasPipelines>(path: PathBuf, reloader: Reloader, stop: Stop) -> anyhow::Result<()> {
    let mut hangups = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.stopped() => return,
                Some(()) = hangups.recv() => {}
            }
            let (path, reloader) = (path.clone(), reloader.clone());
            // Compiling takes a while, and these threads serve requests.
            let reloading = tokio::task::spawn_blocking(move || {
                let written = service::load::read_config(&path).map(|written: F| written.pipelines());
                match reloader.reload(written.map_err(anyhow::Error::from)) {
                    Ok(pipelines) => tracing::info!(pipelines, "pipelines reloaded"),
                    Err(error) => {
                        let told = crate::told(&error);
                        tracing::error!(error = told, "not reloaded, the pipelines stay as they are");
                    }
                }
            });
            if let Err(error) = reloading.await {
                tracing::error!(%error, "not reloaded, the pipelines stay as they are");
            }
        }
    });
    Ok(())
}
