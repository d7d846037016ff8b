//! Events become lines on standard error, as text or JSON; what repeats without end becomes a count.
//!
//! Standard error because the journal, a container runtime or a shell keeps it: a log shipper that wrote a log file would have to
//! ship it. A WARN or ERROR from one place in the code is let through 5 times in 10 s; how many more there were is told
//! when the 10 s are over.

mod repeats;

use std::{str::FromStr, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Deserializer, de};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt};

use repeats::Repeats;

/// How the daemon speaks of itself. YAML: `log`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// One line of text, or one JSON object, for each event. Default `text`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, also by crate: `info,indexer=debug`. Default `info`.
    #[serde(deserialize_with = "level")]
    pub level: String,
}

/// What a log line looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: `timestamp`, `level`, `target`, and the event's fields beside them.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// From here on every event of the process is logged. Call it once.
///
/// Errors: a `level` that cannot be read, or a second call.
pub fn init(config: &LogConfig) -> anyhow::Result<()> {
    init_with(config, repeats::WINDOW)
}

fn init_with(config: &LogConfig, window: Duration) -> anyhow::Result<()> {
    let repeats = Repeats::start(window).context("starting the thread that tells suppressed events")?;
    let layers = tracing_subscriber::registry().with(filter(&config.level)?).with(repeats);
    match config.format {
        LogFormat::Text => layers.with(text(std::io::stderr)).try_init(),
        LogFormat::Json => layers.with(json(std::io::stderr)).try_init(),
    }
    .context("logs are already set up")
}

fn text<S, W>(writer: W) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false)
}

fn json<S, W>(writer: W) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer)
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    let filter = EnvFilter::try_new(level).with_context(|| format!("log.level: `{level}` cannot be read"))?;
    // Whatever is shown, the counts of what was held back are.
    Ok(filter.add_directive(format!("{}=warn", repeats::TARGET).parse().context("a constant directive")?))
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let level = String::deserialize(deserializer)?;
    let is_known = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        tracing_subscriber::filter::LevelFilter::from_str(level.trim()).is_ok()
    };
    if EnvFilter::try_new(&level).is_err() || !level.split(',').all(is_known) {
        return Err(de::Error::custom(format!(
            "`{level}` is not a log level: expected error, warn, info, debug or trace, also by crate: info,indexer=debug"
        )));
    }
    Ok(level)
}

#[cfg(test)]
mod tests;
