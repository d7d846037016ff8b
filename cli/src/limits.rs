//! `tailrace limits`: what rate plans do now, and what they would do with a log.

mod arrivals;
mod stamp;

use crate::agent::AgentFile;
use crate::check::Unusable;
use crate::inputs::{Configured, configured};
use crate::outputs::{chosen, outputs};
use crate::table::{print, table};
use crate::why::ask;
use agent::told;
use anyhow::Context as _;
use event::Input;
use service::load::{ByteSize, parse_duration};
use shipper::limit::{Minute, ShownPlan, Simulated, SimulatedSource, simulate};
use stamp::Stamps;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Shows what rate plans do now, or would do with a log.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 done; 1 no agent answers, or a log cannot be read or has no times; 2 the command line or the \
                        configuration is wrong."
)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// How far the plans of a running agent are used up
    Status {
        /// The agent's configuration.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// The output that is meant, if there are several: each has limits of its own
        #[arg(long, value_name = "ID")]
        output: Option<String>,
        /// One JSON array instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// What of a log would pass, wait, be diverted and be dropped, minute by minute
    ///
    /// Lines count when they were written: by the times in them, or, with --growth, as the file grows now. Nothing is sent.
    Simulate(Simulate),
}

#[derive(Debug, clap::Args)]
struct Simulate {
    /// Logs; each is a source of its own.
    #[arg(value_name = "LOG", required = true)]
    logs: Vec<PathBuf>,
    /// The agent's configuration.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The input that reads them. Default: for each the one whose paths match it.
    #[arg(long, value_name = "ID")]
    input: Option<String>,
    /// Form of the time in a line, as strptime takes it (`%d/%b/%Y:%H:%M:%S %z`). Default: the usual forms.
    #[arg(long, value_name = "FORMAT", conflicts_with = "growth")]
    time_format: Option<String>,
    /// Zone of times that name none. Default: the host's.
    #[arg(long, value_name = "ZONE", conflicts_with = "growth")]
    timezone: Option<String>,
    /// Watch for so long how the logs grow, in place of times in lines (`60s`).
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    growth: Option<Duration>,
    /// One JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

/// Exit codes: see `after_help`.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    match &options.what {
        What::Status { config, output, json } => status(config, output.as_deref(), *json)?,
        What::Simulate(options) => run_simulation(options)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn status(config: &Path, output: Option<&str>, json: bool) -> anyhow::Result<()> {
    let file = AgentFile::read(config)?;
    let address = file.listen();
    let outputs = outputs(config, &file)?;
    let is_one = outputs.len() == 1;
    let target =
        if is_one { "/limits".to_owned() } else { format!("/limits?output={}", chosen(config, outputs, output)?.id) };
    let plans: Vec<ShownPlan> = ask::json(address, &target)
        .with_context(|| format!("no agent answers at {address} (metrics.listen of {})", config.display()))?;
    if json {
        return print(&format!("{:#}\n", serde_json::to_value(&plans)?));
    }
    if plans.is_empty() {
        return print("no rate plans\n");
    }
    print(&status_text(&plans))
}

fn status_text(plans: &[ShownPlan]) -> String {
    let rows: Vec<_> = plans.iter().map(plan_row).collect();
    let head = ["PLAN", "SCOPE", "EXCESS", "IN FORCE", "RATE", "PASSED", "DIVERTED", "DROPPED", "HOLDS"];
    let mut text = table(head, &rows);
    let limits: Vec<_> = plans.iter().flat_map(|plan| plan.limits.iter().map(move |limit| (plan, limit))).collect();
    if !limits.is_empty() {
        let room = |room: Option<i64>, most: Option<u64>| match (room, most) {
            (Some(room), Some(most)) => format!("{room} of {most}"),
            _ => "-".to_owned(),
        };
        let row = |(plan, limit): &(&ShownPlan, &shipper::limit::ShownLimit)| {
            let opens =
                if limit.opens_in_ms == 0 { "now".to_owned() } else { told(Duration::from_millis(limit.opens_in_ms)) };
            let key = if limit.key.is_empty() { "-".to_owned() } else { limit.key.clone() };
            let (bytes, events) =
                (room(limit.bytes_room, limit.bytes_room_max), room(limit.events_room, limit.events_room_max));
            [plan.plan.clone(), key, bytes, events, opens]
        };
        text.push('\n');
        let rows: Vec<_> = limits.iter().map(row).collect();
        text.push_str(&table(["PLAN", "OF", "ROOM IN BYTES", "ROOM IN EVENTS", "OPENS IN"], &rows));
    }
    text
}

fn plan_row(plan: &ShownPlan) -> [String; 9] {
    let bytes = plan.bytes_per_second.map(|rate| format!("{}/s", ByteSize(rate as u64)));
    let rates = [bytes, plan.events_per_second.map(|rate| format!("{rate}/s"))];
    let rate = rates.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let is_active = if plan.is_active { "yes" } else { "no" };
    let ShownPlan { plan: name, scope, excess, passed_events, diverted_events, dropped_events, holds, .. } = plan;
    let numbers = [passed_events, diverted_events, dropped_events, holds].map(ToString::to_string);
    let [passed, diverted, dropped, holds] = numbers;
    [name.clone(), scope.clone(), excess.clone(), is_active.into(), rate, passed, diverted, dropped, holds]
}

fn run_simulation(options: &Simulate) -> anyhow::Result<()> {
    let file = AgentFile::read(&options.config)?;
    let inputs = configured(&options.config, &file)?;
    // Each output has limits of its own, all alike; where they divert to does not matter here.
    let plans = file.plans(&options.config, &outputs(&options.config, &file)?[0].kafka, &inputs)?;
    if plans.is_empty() {
        return Err(Unusable::error(&format!("{}: limits: there is no plan to simulate", options.config.display())));
    }
    let inputs_of_logs: Vec<_> =
        options.logs.iter().map(|log| input_of(log, options, &inputs)).collect::<anyhow::Result<_>>()?;
    let arrivals = match options.growth {
        Some(time) => arrivals::of_growth(&options.logs, time)?,
        None => {
            let stamps = Stamps::new(options.time_format.as_deref(), options.timezone.as_deref())
                .map_err(|error| Unusable::error(&error))?;
            options.logs.iter().map(|log| arrivals::of_lines(log, stamps.clone())).collect::<anyhow::Result<_>>()?
        }
    };
    let source = |((log, input), arrivals): ((&PathBuf, Arc<Input>), Vec<_>)| SimulatedSource {
        input,
        path: log.display().to_string(),
        arrivals,
    };
    let sources: Vec<_> = options.logs.iter().zip(inputs_of_logs).zip(arrivals).map(source).collect();
    let simulated = simulate(&plans, &sources);
    print(&if options.json {
        format!("{:#}\n", serde_json::to_value(&simulated.minutes)?)
    } else {
        simulated_text(&simulated)
    })
}

/// The input that reads `log`: the one that is named, or whose paths match.
fn input_of(log: &Path, options: &Simulate, inputs: &[Configured]) -> anyhow::Result<Arc<Input>> {
    let known = || inputs.iter().map(|input| input.config.id.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(id) = &options.input {
        let named = inputs.iter().find(|input| input.config.id == *id);
        return named
            .map(|input| input.input.shared().clone())
            .ok_or_else(|| Unusable::error(&format!("--input: there is no input {id:?}; there are {}", known())));
    }
    let path = std::path::absolute(log)?;
    let is_match =
        |input: &&Configured| input.input.clone().into_files().is_some_and(|files| agent::covers(&files, &path));
    inputs.iter().find(is_match).map(|input| input.input.shared().clone()).ok_or_else(|| {
        Unusable::error(&format!("no input reads {}; say whose it is with --input: {}", path.display(), known()))
    })
}

fn simulated_text(simulated: &Simulated) -> String {
    let mut all = Minute::default();
    let mut rows = Vec::new();
    for minute in &simulated.minutes {
        rows.push(minute_row(stamp::minute_text(minute.start_ms), minute));
        all.events += minute.events;
        all.bytes += minute.bytes;
        all.passed_events += minute.passed_events;
        all.waited_events += minute.waited_events;
        all.diverted_events += minute.diverted_events;
        all.dropped_events += minute.dropped_events;
        all.wait_ms_max = all.wait_ms_max.max(minute.wait_ms_max);
    }
    rows.push(minute_row("in all".into(), &all));
    table(["MINUTE", "LINES", "BYTES", "PASS", "WAIT", "DIVERT", "DROP", "LONGEST WAIT"], &rows)
}

fn minute_row(name: String, minute: &Minute) -> [String; 8] {
    let Minute { events, bytes, passed_events, waited_events, diverted_events, dropped_events, wait_ms_max, .. } =
        minute;
    let numbers = [events, bytes, passed_events, waited_events, diverted_events, dropped_events];
    let [events, bytes, passed, waited, diverted, dropped] = numbers.map(ToString::to_string);
    let longest = if *wait_ms_max == 0 { "-".to_owned() } else { told(Duration::from_millis(*wait_ms_max)) };
    [name, events, bytes, passed, waited, diverted, dropped, longest]
}

#[cfg(test)]
mod tests;
