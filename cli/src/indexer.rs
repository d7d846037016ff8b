//! `tailrace indexer`: Kafka → pipelines → Elasticsearch or OpenSearch, until it is told to stop.

use crate::check::Unusable;
use anyhow::Context as _;
use indexer::{Ended, IndexerConfig, Shell};
use service::health::Health;
use service::http::Pages;
use service::metrics::Registry;
use service::stop::Stop;
use std::path::PathBuf;
use std::process::ExitCode;

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
    let ended = runtime.block_on(serve(&config))?;
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

async fn serve(config: &IndexerConfig) -> anyhow::Result<Ended> {
    let shell = Shell { registry: Registry::default(), health: Health::new(), stop: Stop::on_signals() };
    let (registry, health, stop) = (shell.registry.clone(), shell.health.clone(), shell.stop.clone());
    service::http::serve(&config.metrics.listen, registry, health, Pages::default(), stop)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), librdkafka = service::kafka::version(), "indexer starts");
    indexer::run(config, shell).await
}
