//! `tailrace dlq`: the letters of the dead-letter topic, listed, shown, replayed, removed.

use crate::table::{print, table};
use anyhow::Context as _;
use indexer::IndexerConfig;
use indexer::dlq::{self, Grave, Groups, Place, Rehearsed, Replay};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

/// Letters that are replayed at once: so many, or of so many bytes.
const CHUNK: (usize, usize) = (500, 8 << 20);
/// Longest cause in a table, in characters.
const CAUSE_CHARS: usize = 100;

/// Lists dead letters by cause, shows them, replays them once the cause is mended, and removes them.
///
/// Only `purge` takes letters away. `replay` creates documents by the same ids as before, so it may be run twice; with an
/// edited pipeline that moves documents to another index, a copy in the old one stays.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 done; 1 letters fail again (replay), or it failed; 2 the command line, the configuration \
    or a pipeline is wrong."
)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// A line for each cause, with a fingerprint and one letter of it
    List {
        #[command(flatten)]
        config: Config,
        /// One JSON array instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Whole letters: headers and bytes
    Show {
        #[command(flatten)]
        config: Config,
        #[command(flatten)]
        which: Which,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 10)]
        limit: usize,
        /// One JSON object a line instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Sends letters through the pipelines as they are now, and to the index
    Replay {
        #[command(flatten)]
        config: Config,
        #[command(flatten)]
        which: Which,
        /// Stands in for the pipeline of its name; only letters of that pipeline are replayed.
        #[arg(long, value_name = "FILE")]
        pipeline: Option<PathBuf>,
        /// Only tell what would be sent: one JSON object a line.
        #[arg(long)]
        dry_run: bool,
    },
    /// Removes letters for good
    Purge {
        #[command(flatten)]
        config: Config,
        /// Only those written longer ago than this, such as 7d.
        #[arg(long, value_name = "TIME")]
        older_than: Option<String>,
        /// Do it. Without it, only what would be removed is told.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Config {
    /// The indexer's configuration; its `dead_letter.topic` is meant.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

impl Config {
    fn load(&self) -> anyhow::Result<IndexerConfig> {
        Ok(service::load::read_config(&self.config)?)
    }
}

/// Which letters; all of them if nothing is said.
#[derive(Debug, clap::Args)]
struct Which {
    /// Fingerprints as `list` shows them, or places of letters, such as 0:17.
    #[arg(value_name = "FINGERPRINT|PARTITION:OFFSET")]
    which: Vec<String>,
}

impl Which {
    fn matcher(&self) -> anyhow::Result<impl Fn(&Grave) -> bool> {
        let (places, fingerprints): (Vec<_>, Vec<_>) = self.which.iter().cloned().partition(|text| text.contains(':'));
        let places: Vec<Place> =
            places.iter().map(|text| text.parse()).collect::<Result<_, String>>().map_err(anyhow::Error::msg)?;
        Ok(move |grave: &Grave| dlq::is_meant(grave, &fingerprints, &places))
    }
}

/// Runs the command. Exit codes: see [`Options`].
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    match &options.what {
        What::List { config, json } => list(&config.load()?, *json)?,
        What::Show { config, which, limit, json } => show(&config.load()?, which, *limit, *json)?,
        What::Replay { config, which, pipeline, dry_run } => {
            let config = config.load()?;
            let replay = Replay::new(&config, pipeline.as_deref())
                .map_err(|error| crate::check::Unusable::error(&format!("{error:#}")))?;
            let again = if *dry_run { rehearse(&config, &replay, which)? } else { send(&config, &replay, which)? };
            return Ok(if again == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        What::Purge { config, older_than, yes } => purge(&config.load()?, older_than.as_deref(), *yes)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(config: &IndexerConfig, json: bool) -> anyhow::Result<()> {
    let mut groups = Groups::default();
    dlq::read(config, |grave| {
        groups.add(&grave);
        ControlFlow::Continue(())
    })?;
    let groups = groups.sorted();
    if json {
        return print(&format!("{:#}\n", json!(groups)));
    }
    let rows: Vec<_> = groups
        .into_iter()
        .map(|group| {
            let cause = group.pattern.chars().take(CAUSE_CHARS).collect();
            [group.fingerprint, group.letters.to_string(), group.times.1, group.sample, group.pipeline, cause]
        })
        .collect();
    print(&table(["FINGERPRINT", "LETTERS", "LAST", "SAMPLE", "PIPELINE", "CAUSE"], &rows))
}

fn show(config: &IndexerConfig, which: &Which, limit: usize, json: bool) -> anyhow::Result<()> {
    let (is_meant, mut shown, mut problem) = (which.matcher()?, 0, None);
    dlq::read(config, |grave| {
        if shown >= limit {
            return ControlFlow::Break(());
        }
        if is_meant(&grave) {
            shown += 1;
            let text = if json { format!("{}\n", as_json(&grave)) } else { as_text(&grave) };
            problem = print(&text).err();
        }
        if problem.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    problem.map_or(Ok(()), Err)?;
    anyhow::ensure!(
        shown > 0 || which.which.is_empty(),
        "there is no such letter: `tailrace dlq list` shows which there are"
    );
    Ok(())
}

fn as_json(grave: &Grave) -> Value {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    json!({
        "place": grave.place.to_string(), "fingerprint": dlq::fingerprint(grave), "headers": grave.headers,
        "key": text(&grave.key), "value": text(&grave.value),
    })
}

fn as_text(grave: &Grave) -> String {
    let mut text = format!("letter {}, fingerprint {}\n", grave.place, dlq::fingerprint(grave));
    for (name, value) in grave.headers.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(text, "  {name}: {value}").ok(); // Writing to a string does not fail.
    }
    let value = grave.value.as_deref().map_or("(null value)".into(), String::from_utf8_lossy);
    format!("{text}{value}\n\n")
}

/// Tells what would be sent. Returns how many letters still make no document, or one whose pipeline fails.
fn rehearse(config: &IndexerConfig, replay: &Replay, which: &Which) -> anyhow::Result<usize> {
    let (is_meant, mut again, mut problem) = (which.matcher()?, 0, None);
    dlq::read(config, |grave| {
        if is_meant(&grave) && replay.concerns(&grave) {
            let place = grave.place.to_string();
            let line = match replay.rehearse(&grave) {
                Rehearsed::Dropped => json!({"place": place, "dropped": true}),
                Rehearsed::Dead(cause) => {
                    again += 1;
                    json!({"place": place, "dead": cause})
                }
                Rehearsed::Document { action, document, failed } => {
                    again += usize::from(failed.is_some());
                    json!({"place": place, "action": action, "doc": document, "failed": failed})
                }
            };
            problem = print(&format!("{line}\n")).err();
        }
        if problem.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    problem.map_or(Ok(again), Err)
}

/// Sends letters. Returns how many of them fail again.
fn send(config: &IndexerConfig, replay: &Replay, which: &Which) -> anyhow::Result<usize> {
    let runtime = tokio::runtime::Runtime::new().context("starting threads")?;
    let cluster = runtime.block_on(replay.connect())?;
    let (is_meant, mut chunk, mut sent, mut again) = (which.matcher()?, Vec::new(), 0, 0);
    let mut flush = |chunk: &mut Vec<Grave>| -> anyhow::Result<()> {
        for replayed in runtime.block_on(replay.send(&cluster, chunk)) {
            sent += 1;
            if let Some(cause) = replayed.cause {
                again += 1;
                print(&format!("{}  {cause}\n", replayed.place))?;
            }
        }
        chunk.clear();
        Ok(())
    };
    let mut problem = None;
    dlq::read(config, |grave| {
        if is_meant(&grave) && replay.concerns(&grave) {
            chunk.push(grave);
        }
        let bytes: usize = chunk.iter().map(|grave| grave.value.as_ref().map_or(0, Vec::len)).sum();
        if chunk.len() >= CHUNK.0 || bytes >= CHUNK.1 {
            problem = flush(&mut chunk).err();
        }
        if problem.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    problem.map_or(Ok(()), Err)?;
    flush(&mut chunk)?;
    eprintln!(
        "tailrace: {sent} letters were replayed, {again} of them fail again; they stay in the topic until `tailrace dlq purge`"
    );
    Ok(again)
}

fn purge(config: &IndexerConfig, older_than: Option<&str>, yes: bool) -> anyhow::Result<()> {
    let before_ms = match older_than {
        None => None,
        Some(text) => {
            let age = service::load::parse_duration(text).map_err(|error| anyhow::anyhow!("--older-than: {error}"))?;
            Some(service::clock::wall_ms().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
        }
    };
    let purges = dlq::purgeable(config, before_ms)?;
    let offsets: i64 = purges.iter().map(|purge| (purge.end - purge.first).max(0)).sum();
    if !yes {
        return print(&format!(
            "{offsets} letters would be removed from {}; with --yes they are\n",
            dlq::topic(config)?
        ));
    }
    let runtime = tokio::runtime::Runtime::new().context("starting threads")?;
    runtime.block_on(dlq::purge(config, &purges))?;
    print(&format!("{offsets} letters removed from {}\n", dlq::topic(config)?))
}
