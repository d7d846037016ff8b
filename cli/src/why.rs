//! `tailrace why PATH`: which input matches a file, how far it is read, and every reason why it is not.

pub(crate) mod ask;
mod judge;
#[cfg(test)]
mod tests;

use crate::agent::AgentFile;
use crate::inputs::{Configured, configured, of_files};
use crate::outputs::{Output, chosen, inputs_of, outputs};
use crate::table::print;
use agent::{Effect, Explained, FileInput, Known, Reason, Shown, State, User, explain, told};
use ask::Running;
use judge::{Agent, Case, OpenFiles, ago};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

/// Says why a file is or is not read.
///
/// Asks the running agent (at `metrics.listen`), and looks at the configuration, the checkpoint and the file itself. Without
/// an agent it says what one would do. It takes no lock and writes nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 it is read, or will be as soon as what it waits for has come (a running agent, say); 1 it is \
    not; 2 the command line or the configuration is wrong."
)]
pub(crate) struct Options {
    /// The file, whether it is there or not.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The agent's configuration.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Only for this output. Default: for each
    #[arg(long, value_name = "ID")]
    output: Option<String>,
    /// One JSON object instead of text, for several outputs an array of them.
    #[arg(long)]
    json: bool,
}

/// Everything there is to say of one file.
#[derive(Debug, Serialize)]
struct Report {
    /// Of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    path: PathBuf,
    /// It is read, or will be.
    is_read: bool,
    verdict: &'static str,
    /// Of the agent as a whole.
    reasons: Vec<Reason>,
    /// Those that match it or follow it; if none does, all.
    inputs: Vec<OfInput>,
}

/// The file under one input.
#[derive(Debug, Serialize)]
struct OfInput {
    input: String,
    /// `file:line:column`.
    place: String,
    /// The entry of `paths` that matches.
    glob: Option<String>,
    is_read: bool,
    incarnation: Option<String>,
    /// The next byte to read; without an agent, as the checkpoint has it.
    offset: Option<u64>,
    acknowledged: Option<u64>,
    size: Option<u64>,
    lag_bytes: Option<u64>,
    /// Only a running agent knows these two.
    lag_seconds: Option<u64>,
    acknowledged_ms: Option<i64>,
    /// The file as the running agent has it.
    followed: Option<Shown>,
    reasons: Vec<Reason>,
}

/// Exit codes: see [`Options`].
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let file = AgentFile::read(&options.config)?;
    let (path, mut outputs) = (std::path::absolute(&options.path)?, outputs(&options.config, &file)?);
    let is_one = outputs.len() == 1;
    if options.output.is_some() {
        outputs = vec![chosen(&options.config, outputs, options.output.as_deref())?];
    }
    let told = |output: &Output| {
        Ok(Report {
            output: (!is_one).then(|| output.id.clone()),
            ..report(&options.config, &file, output, is_one, &path)?
        })
    };
    let reports = outputs.iter().map(told).collect::<anyhow::Result<Vec<_>>>()?;
    print(&match (options.json, &*reports) {
        (true, [report]) => format!("{:#}\n", serde_json::to_value(report)?),
        (true, reports) => format!("{:#}\n", serde_json::to_value(reports)?),
        (false, reports) => reports.iter().map(text).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(if reports.iter().any(|report| report.is_read) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The state of `path` for one output. `is_one`: there is no other.
fn report(config: &Path, file: &AgentFile, output: &Output, is_one: bool, path: &Path) -> anyhow::Result<Report> {
    let inputs = inputs_of(&of_files(configured(config, file)?), output);
    let place = Place { listen: file.listen(), state_dir: &output.state_dir, output: (!is_one).then_some(&*output.id) };
    let found = std::fs::metadata(path).map(|found| found.ino()).map_err(|error| error.kind());
    let (inode, is_hidden) = (found.ok(), found == Err(ErrorKind::PermissionDenied));
    let (agent, running) = agent_of(config, place, path, inode);
    let mut reasons = judge::of_agent(&agent);
    let state = agent::read_state(place.state_dir).unwrap_or_else(|error| {
        if place.state_dir.exists() {
            reasons.push(Reason::tells("checkpoint", format!("the checkpoint cannot be read: {error:#}")));
        }
        State { entries: Vec::new(), damage: Vec::new(), is_there: false }
    });
    reasons.extend(state.damage.iter().map(|damage| Reason::tells("checkpoint", format!("damaged: {damage}"))));
    let process = running.as_ref().and_then(|running| Some(running.about.as_ref()?.process));
    let user =
        process.or_else(|| agent::holder(place.state_dir)).and_then(|process| User::of_process(&process.to_string()));
    let user = user.or_else(|| User::owner_of(place.state_dir));
    let open_files_max = process.map_or(usize::MAX, |process| agent::open_files_max(&process.to_string()));
    let files = running.map(|running| running.files).unwrap_or_default();
    let scene = Scene { place, path, agent, inode, is_hidden, files, state, user, open_files_max };
    let mut inputs: Vec<_> = inputs.iter().map(|configured| scene.of_input(configured)).collect();
    if inputs.iter().any(OfInput::is_concerned) {
        inputs.retain(OfInput::is_concerned);
    }
    tell_of_several(&mut inputs);
    let is_read = inputs.iter().any(|input| input.is_read);
    let is_followed = inputs.iter().any(|input| input.is_read && input.followed.is_some());
    let verdict = match (is_read, is_followed) {
        (true, true) => "it is read",
        (true, false) => "it will be read",
        (false, _) => "it is not read",
    };
    Ok(Report { output: None, path: path.to_owned(), is_read, verdict, reasons, inputs })
}

/// Where the agent of an output is to be found.
#[derive(Clone, Copy)]
struct Place<'a> {
    listen: &'a str,
    state_dir: &'a Path,
    /// Of several.
    output: Option<&'a str>,
}

/// What there is to know of the agent that this configuration is for.
fn agent_of(config: &Path, place: Place<'_>, path: &Path, inode: Option<u64>) -> (Agent, Option<Running>) {
    let (listen, state_dir) = (place.listen.to_owned(), place.state_dir.display().to_string());
    let Ok(running) = ask::ask(place, path, inode) else {
        let agent = match agent::holder(place.state_dir) {
            Some(process) => Agent::Held { listen, state_dir, process },
            None => Agent::NotRunning { listen, state_dir },
        };
        return (agent, None);
    };
    if let Some(about) = running.about.as_ref().filter(|about| about.state_dir != place.state_dir) {
        let state_dir = about.state_dir.display().to_string();
        return (Agent::Another { listen, process: about.process, state_dir }, None);
    }
    let changed = std::fs::metadata(config).and_then(|found| found.modified()).ok();
    let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let started =
        running.about.as_ref().and_then(|about| u64::try_from(about.started_ms).ok()).map(Duration::from_millis);
    let is_config_newer = changed.zip(started).is_some_and(|(changed, started)| changed > started);
    (Agent::Answers { problems: running.problems.clone(), is_config_newer }, Some(running))
}

/// All that is known, for each input to be judged by.
struct Scene<'a> {
    place: Place<'a>,
    path: &'a Path,
    agent: Agent,
    /// The file at `path`, if it can be looked at.
    inode: Option<u64>,
    /// It may be there, but not for this user to see.
    is_hidden: bool,
    files: Vec<Shown>,
    state: State,
    user: Option<User>,
    open_files_max: usize,
}

impl Scene<'_> {
    fn of_input(&self, configured: &Configured<FileInput>) -> OfInput {
        let Configured { config, input, place } = configured;
        let of_input = || self.files.iter().filter(|file| file.input == config.id);
        let (own, others): (Vec<_>, Vec<_>) = of_input().partition(|file| file.path == self.path);
        // The name may be another file's now. Where this user may not look, the agent is believed.
        let (own, former): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|file| self.inode.map_or(self.is_hidden, |inode| inode == file.inode));
        let followed = own.into_iter().chain(others).next();
        let known = Known {
            entries: &self.state.entries,
            has_checkpoint: self.state.is_there,
            user: self.user.as_ref(),
            offset: followed.map(|file| file.offset),
        };
        let Explained { glob, mut reasons, entry, size } = explain(input, config, self.path, &known);
        let is_waiting = followed.is_some_and(|file| !file.is_open && size.unwrap_or(0) > file.offset);
        let open_files = if is_waiting { ask::open_files(self.place, &config.id).ok() } else { None };
        let open_files = open_files.map(|(of_input, of_all)| OpenFiles { of_input, of_all, max: self.open_files_max });
        judge::judge(&Case { input, path: self.path, followed, open_files }, &self.agent, &mut reasons);
        reasons.extend(former.into_iter().map(judge::of_former));
        let acknowledged = followed.map(|file| file.acknowledged).or(entry.as_ref().map(|entry| entry.offset()));
        let size = size.or(followed.map(|file| file.size));
        OfInput {
            input: config.id.clone(),
            place: place.clone(),
            glob: glob.map(|index| format!("paths[{index}] {}", config.paths[index])),
            is_read: !reasons.iter().any(|reason| reason.effect == Effect::Stops),
            incarnation: followed
                .and_then(|file| file.incarnation.clone())
                .or(entry.as_ref().map(|entry| entry.incarnation().to_string())),
            offset: followed.map(|file| file.offset).or(acknowledged),
            acknowledged,
            size,
            lag_bytes: size.map(|size| size.saturating_sub(acknowledged.unwrap_or(0))),
            lag_seconds: followed.map(|file| file.lag_seconds),
            acknowledged_ms: followed.and_then(|file| file.acknowledged_ms),
            followed: followed.cloned(),
            reasons,
        }
    }
}

impl OfInput {
    fn is_concerned(&self) -> bool {
        self.glob.is_some() || self.followed.is_some()
    }
}

/// Under several inputs a file is read and shipped once for each.
fn tell_of_several(inputs: &mut [OfInput]) {
    let readers: Vec<_> = inputs.iter().filter(|input| input.is_read).map(|input| input.input.clone()).collect();
    if readers.len() < 2 {
        return;
    }
    for input in inputs.iter_mut().filter(|input| input.is_read) {
        let others: Vec<_> = readers.iter().filter(|other| **other != input.input).map(String::as_str).collect();
        let text = format!("input {} reads it too: its lines are shipped once for each", others.join(", "));
        input.reasons.push(Reason::tells("several_inputs", text));
    }
}

fn text(report: &Report) -> String {
    let mut text = report.output.as_ref().map(|output| format!("output {output}\n")).unwrap_or_default();
    writeln!(text, "{}: {}", report.path.display(), report.verdict).ok();
    for reason in &report.reasons {
        writeln!(text, "  - {}", reason.text).ok(); // A string takes all.
    }
    for input in &report.inputs {
        writeln!(text, "\ninput {} ({})", input.input, input.place).ok();
        let bytes = |bytes: Option<u64>| bytes.map_or("?".to_owned(), |bytes| bytes.to_string());
        let lag = |lag: u64| match input.lag_seconds {
            Some(seconds) if lag > 0 => format!("{lag} bytes, {}", told(Duration::from_secs(seconds))),
            _ => format!("{lag} bytes"),
        };
        let facts = [
            ("matches", input.glob.clone()),
            ("incarnation", input.incarnation.clone()),
            ("offset", input.offset.map(|offset| format!("{offset} of {} bytes", bytes(input.size)))),
            ("acknowledged", input.acknowledged.map(|bytes| format!("{bytes} bytes"))),
            ("lag", input.offset.and(input.lag_bytes).map(lag)),
            ("last acknowledgement", input.acknowledged_ms.map(|ms| format!("{} ago", ago(ms)))),
        ];
        for (name, fact) in facts.into_iter().filter_map(|(name, fact)| Some((name, fact?))) {
            writeln!(text, "  {name:<21} {fact}").ok();
        }
        for reason in &input.reasons {
            writeln!(text, "  - {}", reason.text).ok();
        }
    }
    text
}
