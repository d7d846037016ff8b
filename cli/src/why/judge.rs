//! What a running agent says of a file → reasons, beside those of its configuration. Pure.

use agent::{Effect, FileInput, Reason, Shown, told};
use service::clock::wall_ms;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What there is to say of the agent itself.
#[derive(Debug)]
pub(super) enum Agent {
    /// Nothing answers, and nobody holds the state folder.
    NotRunning { listen: String, state_dir: String },
    /// Nothing answers, but a process holds the state folder.
    Held { listen: String, state_dir: String, process: u32 },
    /// What answers has another state folder.
    Another { listen: String, process: u32, state_dir: String },
    /// It answers.
    Answers { problems: BTreeMap<String, String>, is_config_newer: bool },
}

/// A file under an input, as it is followed or not.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) input: &'a FileInput,
    pub(super) path: &'a Path,
    pub(super) followed: Option<&'a Shown>,
    /// If the file is closed and has something to read.
    pub(super) open_files: Option<OpenFiles>,
}

/// How many files are open.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenFiles {
    pub(super) of_input: usize,
    pub(super) of_all: usize,
    /// As many as the process may have.
    pub(super) max: usize,
}

/// Reasons that have to do with the agent as a whole.
pub(super) fn of_agent(agent: &Agent) -> Vec<Reason> {
    match agent {
        Agent::NotRunning { listen, state_dir } => {
            let text = format!("the agent does not run: nothing answers at {listen}, and nobody holds {state_dir}");
            vec![Reason::waits("agent", text)]
        }
        Agent::Held { listen, state_dir, process } => {
            let text = format!(
                "process {process} holds {state_dir}, but nothing answers at {listen}: it is another agent, or one whose \
                 metrics.listen is another"
            );
            vec![Reason::waits("state_dir", text)]
        }
        Agent::Another { listen, process, state_dir } => {
            let text = format!(
                "what answers at {listen} is another agent: process {process}, with state_dir {state_dir}; that of this \
                 configuration cannot run beside it"
            );
            vec![Reason::waits("agent", text)]
        }
        Agent::Answers { problems, .. } => {
            let of_problem = |(part, problem): (&String, &String)| match part.as_str() {
                "config" => Reason::tells("reload", format!("the agent goes on with its former inputs: {problem}")),
                _ => Reason::tells("health", format!("the agent says of {part}: {problem}")),
            };
            problems.iter().map(of_problem).collect()
        }
    }
}

/// Adds to the `reasons` of the configuration what the agent says of the file.
pub(super) fn judge(case: &Case<'_>, agent: &Agent, reasons: &mut Vec<Reason>) {
    let Agent::Answers { problems, is_config_newer } = agent else { return };
    match case.followed {
        Some(file) => {
            for reason in reasons.iter_mut().filter(|reason| reason.effect == Effect::Stops) {
                reason.effect = Effect::Tells;
                reason.text = format!("it is followed, though {}", reason.text);
            }
            of_followed(case, file, problems, reasons);
        }
        None if reasons.iter().any(|reason| reason.effect == Effect::Stops) => {}
        None if problems.contains_key("config") => {
            let text = "the agent does not follow it: its last reload failed, so this configuration does not count yet";
            reasons.push(Reason::stops("reload", text.to_owned()));
        }
        None if *is_config_newer => {
            let text = "the agent does not follow it: the configuration was changed after it started; SIGHUP makes it read its inputs";
            reasons.push(Reason::waits("reload", text.to_owned()));
        }
        None => {
            let interval = told(case.input.scan_interval);
            let text = format!(
                "the agent does not follow it yet; it looks every {interval}, and its log says what it cannot read"
            );
            reasons.push(Reason::waits("not_followed", text));
        }
    }
}

/// `former` had this name, and is followed on.
pub(super) fn of_former(former: &Shown) -> Reason {
    let Shown { inode, offset, size, .. } = former;
    let text =
        format!("the file that had this name before (inode {inode}) is read to its end: {offset} of {size} bytes");
    Reason::tells("former", text)
}

fn of_followed(case: &Case<'_>, file: &Shown, problems: &BTreeMap<String, String>, reasons: &mut Vec<Reason>) {
    if file.path != case.path {
        let text = format!(
            "it is followed as {} (inode {}): a hard link to it, a link, or its former name",
            file.path.display(),
            file.inode
        );
        reasons.push(Reason::tells("followed_elsewhere", text));
    }
    for waits_for in &file.waits_for {
        match waits_for.strip_prefix("memory: ") {
            Some(how) => {
                let kafka = problems.get("kafka").map_or("its output does not acknowledge", String::as_str);
                reasons.push(Reason::waits("memory", format!("reading waits for memory: {how}; {kafka}")));
            }
            None if waits_for.starts_with("rate plan: ") => reasons.push(Reason::waits("rate_plan", waits_for.clone())),
            None => reasons.push(Reason::stops("problem", waits_for.clone())),
        }
    }
    reasons.extend(file.at_risk.iter().map(|risk| Reason::tells("at_risk", risk.clone())));
    if let Some(OpenFiles { of_input, of_all, max }) = case.open_files {
        if let Some(limit) = case.input.harvester_limit.filter(|limit| of_input >= *limit) {
            let text = format!(
                "it is closed: {of_input} files of this input are open, and harvester_limit is {limit}; its turn comes"
            );
            reasons.push(Reason::waits("harvester_limit", text));
        } else if of_all >= max {
            let text = format!(
                "it is closed: {of_all} files are open, as many as the process may have (ulimit -n); its turn comes"
            );
            reasons.push(Reason::waits("open_files", text));
        }
    }
    if file.offset > file.acknowledged {
        let last = match file.acknowledged_ms {
            Some(ms) => format!("the last acknowledgement came {} ago", ago(ms)),
            None => "nothing of it was acknowledged since the agent started".to_owned(),
        };
        let bytes = file.offset - file.acknowledged;
        let kafka = problems.get("kafka").map(|problem| format!(" (kafka: {problem})")).unwrap_or_default();
        reasons.push(Reason::tells(
            "not_acknowledged",
            format!("{bytes} bytes are read and not acknowledged; {last}{kafka}"),
        ));
    }
    if file.generation > 0 {
        let text = format!("it was truncated {} time(s) while it was followed", file.generation);
        reasons.push(Reason::tells("truncated", text));
    }
}

/// The time since then, for people.
pub(super) fn ago(ms: i64) -> String {
    told(Duration::from_secs(u64::try_from((wall_ms() - ms) / 1_000).unwrap_or(0)))
}
