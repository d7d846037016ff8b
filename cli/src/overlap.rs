//! Inputs and the files there are now → warnings: what is shipped twice, what feeds on itself, what matches nothing.
//!
//! A warning is no error: two inputs may mean it, and files may still come.

use crate::inputs::Configured;
use agent::FileInput;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One line each, with the place of the input that it is about. `state_dir` is the agent's.
pub(crate) fn warnings(inputs: &[Configured<FileInput>], state_dir: &Path) -> Vec<String> {
    let found: Vec<_> = inputs.iter().map(|configured| agent::matching(&configured.input)).collect();
    let (own_log, mut warnings) = (own_log(state_dir), Vec::new());
    // The first input of each file, and the files that a pair of inputs shares.
    let (mut first, mut shared) = (BTreeMap::new(), BTreeMap::<_, Vec<&PathBuf>>::new());
    for (index, files) in found.iter().enumerate() {
        for (path, inode) in files {
            let other = *first.entry(*inode).or_insert(index);
            if other != index {
                shared.entry((index, other)).or_default().push(path);
            }
        }
    }
    for (index, Configured { config, input, place }) in inputs.iter().enumerate() {
        let mut warn = |what: String| warnings.push(format!("{place}: warning: input {:?} {what}", config.id));
        for ((_, other), paths) in shared.range((index, 0)..(index + 1, 0)) {
            let (other, path) = (&inputs[*other], paths[0].display());
            let more = if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() };
            let (id, at) = (&other.config.id, &other.place);
            warn(format!("matches {path}{more}, as input {id:?} ({at}) does: each of them ships its lines"));
        }
        if ["lock", "checkpoint.1", "checkpoint.new"].iter().any(|name| agent::covers(input, &state_dir.join(name))) {
            let dir = state_dir.display();
            warn(format!(
                "matches files in state_dir {dir}: the agent would ship its own checkpoint; exclude \"{dir}\""
            ));
        }
        if let Some(log) = own_log.as_deref().filter(|log| agent::covers(input, log)) {
            let log = log.display();
            warn(format!("matches the agent's own log {log}: what it logs it would ship, and log again; exclude it"));
        }
        for (at, pattern) in config.paths.iter().enumerate() {
            let glob = agent::Glob::new(pattern).ok();
            let is_used = |(path, _): &(PathBuf, _)| glob.as_ref().is_none_or(|glob| glob.is_match(path));
            if !found[index].iter().any(is_used) {
                warn(format!("finds no file for paths[{at}] {pattern} now: `tailrace why PATH` says why"));
            }
        }
    }
    warnings
}

/// The file that the running agent logs to. It logs to standard error, and where that leads only a running one knows.
fn own_log(state_dir: &Path) -> Option<PathBuf> {
    let process = agent::holder(state_dir)?;
    let log = fs::read_link(format!("/proc/{process}/fd/2")).ok()?;
    fs::metadata(&log).is_ok_and(|found| found.is_file()).then_some(log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::AgentFile;

    /// The warnings of these inputs in a folder with two logs, a rotated one and a state folder; `DIR` stands for it.
    #[track_caller]
    fn check(inputs: &str, expected: &[&str]) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (at, dir) = (folder.path(), folder.path().display().to_string());
        fs::create_dir(at.join("state")).expect("made");
        for name in ["a.log", "b.log", "a.log.1", "state/lock"] {
            fs::write(at.join(name), "x\n").expect("written");
        }
        let text = format!("state_dir: DIR/state\nkafka: {{brokers: ['b:1'], topic: t}}\ninputs:\n{inputs}");
        let path = at.join("agent.yaml");
        fs::write(&path, text.replace("DIR", &dir)).expect("written");
        let file: AgentFile = service::load::read_config(&path).expect("valid");
        let inputs = crate::inputs::of_files(crate::inputs::configured(&path, &file).expect("usable"));
        let told: Vec<_> = warnings(&inputs, file.state_dir()).iter().map(|told| told.replace(&dir, "DIR")).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn files_of_two_inputs_are_told_with_both_places() {
        let both = "DIR/agent.yaml:5:10: warning: input \"b\" matches DIR/a.log and 1 more, as input \"a\" (DIR/agent.yaml:4:10) \
            does: each of them ships its lines";
        check(
            "  - {id: a, type: file, paths: ['DIR/*.log']}\n  - {id: b, type: file, paths: ['DIR/*.log*']}\n",
            &[both],
        );
        check("  - {id: a, type: file, paths: [DIR/a.log]}\n  - {id: b, type: file, paths: [DIR/b.log]}\n", &[]);
    }

    #[test]
    fn the_agents_own_folder_is_told() {
        let own = "DIR/agent.yaml:4:10: warning: input \"a\" matches files in state_dir DIR/state: the agent would ship its own \
            checkpoint; exclude \"DIR/state\"";
        check("  - {id: a, type: file, paths: ['DIR/**/*']}\n", &[own]);
        check("  - {id: a, type: file, paths: ['DIR/**/*'], exclude: [DIR/state]}\n", &[]);
    }

    #[test]
    fn a_glob_that_finds_nothing_now_is_told() {
        let nothing = "DIR/agent.yaml:4:10: warning: input \"a\" finds no file for paths[1] DIR/none/*.log now: `tailrace why PATH` \
            says why";
        check("  - {id: a, type: file, paths: ['DIR/*.log', 'DIR/none/*.log']}\n", &[nothing]);
    }

    #[test]
    fn the_log_of_a_running_agent_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(own_log(folder.path()), None, "no agent runs with it");
        let log = folder.path().join("agent.log");
        let lock = folder.path().join("lock");
        let mut agent = std::process::Command::new("flock")
            .arg(&lock)
            .args(["--command", "read line"])
            .stdin(std::process::Stdio::piped())
            .stderr(fs::File::create(&log).expect("made"))
            .spawn()
            .expect("flock runs");
        let begun = service::clock::monotonic();
        while agent::holder(folder.path()).is_none() && begun.elapsed() < std::time::Duration::from_secs(10) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(own_log(folder.path()), Some(log));
        drop(agent.stdin.take());
        agent.wait().expect("ends");
    }
}
