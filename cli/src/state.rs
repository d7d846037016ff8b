//! `tailrace state`: what an agent's checkpoint remembers, shown, exported, forgotten.

use crate::agent::AgentFile;
use crate::outputs::{chosen, outputs};
use crate::table::{print, table};
use agent::{OnDisk, State, StateEntry};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Shows what an agent remembers of its files, or makes it forget some.
///
/// `list`, `show` and `export` take no lock and write nothing: they may be used while the agent runs. A damaged checkpoint
/// is told on standard error; what is sound of it is shown.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 done; 1 no such entry, an agent holds the folder (its process id is told), or the folder \
    cannot be read or written; 2 the command line or the configuration is wrong."
)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// A table of all entries
    List {
        #[command(flatten)]
        place: Place,
        /// One JSON array instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Everything of one file, and whether the disk still has it
    Show {
        /// An incarnation, or a path as `list` shows it.
        #[arg(value_name = "INCARNATION|PATH")]
        which: String,
        #[command(flatten)]
        place: Place,
        /// One JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Removes entries: their files are read from their start again
    Forget {
        /// Incarnations, or paths as `list` shows them.
        #[arg(value_name = "INCARNATION|PATH", required = true)]
        which: Vec<String>,
        #[command(flatten)]
        place: Place,
        /// Do it. Without it, only what would be done is told.
        #[arg(long)]
        yes: bool,
    },
    /// All entries as JSON lines, in the form of the checkpoint's own
    Export {
        #[command(flatten)]
        place: Place,
        /// JSON lines are the only form; here so that every listing takes it.
        #[arg(long, hide = true)]
        json: bool,
    },
}

/// Which state folder.
#[derive(Debug, clap::Args)]
struct Place {
    /// The agent's configuration; its `state_dir` is meant.
    #[arg(short, long, value_name = "FILE", required_unless_present = "state_dir", conflicts_with = "state_dir")]
    config: Option<PathBuf>,
    /// The output of the configuration that is meant, if it has several
    #[arg(long, value_name = "ID", requires = "config")]
    output: Option<String>,
    /// The state folder itself.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl Place {
    fn folder(&self) -> anyhow::Result<PathBuf> {
        match (&self.state_dir, &self.config) {
            (Some(folder), _) => Ok(folder.clone()),
            (None, Some(config)) => {
                let outputs = outputs(config, &AgentFile::read(config)?)?;
                Ok(chosen(config, outputs, self.output.as_deref())?.state_dir)
            }
            (None, None) => anyhow::bail!("give --config or --state-dir"),
        }
    }
}

/// Runs the command. Exit codes: see [`Options`].
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    match &options.what {
        What::List { place, json } => print(&list(&read(&place.folder()?)?, *json))?,
        What::Show { which, place, json } => print(&show(&place.folder()?, which, *json)?)?,
        What::Forget { which, place, yes } => print(&forget(&place.folder()?, which, *yes)?)?,
        What::Export { place, .. } => print(&export(&read(&place.folder()?)?))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(folder: &Path) -> anyhow::Result<State> {
    let state = agent::read_state(folder)?;
    for damage in &state.damage {
        eprintln!("tailrace: damaged: {damage}");
    }
    if !state.is_there {
        eprintln!("tailrace: there is no checkpoint in {}: has an agent run with it?", folder.display());
    }
    Ok(state)
}

fn list(state: &State, json: bool) -> String {
    if json {
        return format!("{:#}\n", json!(state.entries));
    }
    let row = |entry: &StateEntry| {
        let numbers = [entry.inode(), entry.offset(), entry.generation().into()].map(|number| number.to_string());
        let [inode, offset, generation] = numbers;
        [entry.input().into(), entry.path().into(), inode, offset, generation, entry.incarnation().to_string()]
    };
    let rows: Vec<_> = state.entries.iter().map(row).collect();
    table(["INPUT", "PATH", "INODE", "OFFSET", "GENERATION", "INCARNATION"], &rows)
}

fn export(state: &State) -> String {
    state.entries.iter().map(|entry| format!("{}\n", json!(entry))).collect()
}

fn show(folder: &Path, which: &str, json: bool) -> anyhow::Result<String> {
    let found: Vec<Value> = pick(&read(folder)?, folder, which)?.iter().map(whole).collect();
    if json {
        return Ok(format!("{:#}\n", Value::Array(found)));
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let lines = |entry: &Value| {
        let members = entry.as_object().into_iter().flatten();
        members.map(|(name, value)| format!("{name:<18}{}\n", text(value))).collect::<String>()
    };
    Ok(found.iter().map(lines).collect::<Vec<_>>().join("\n"))
}

/// Everything of an entry, and what the disk has of its file.
fn whole(entry: &StateEntry) -> Value {
    let on_disk = match entry.on_disk() {
        OnDisk::Matches { path, size } => json!({"on_disk": "matches", "on_disk_path": path, "on_disk_bytes": size,
            "lag_bytes": size.saturating_sub(entry.offset())}),
        OnDisk::Differs { path, size } => {
            json!({"on_disk": "another file", "on_disk_path": path, "on_disk_bytes": size})
        }
        OnDisk::Gone => json!({"on_disk": "gone"}),
        OnDisk::Unknown(why) => json!({"on_disk": format!("unknown: {why}")}),
    };
    let mut all = json!(entry);
    if let (Value::Object(all), Value::Object(on_disk)) = (&mut all, on_disk) {
        all.extend(on_disk);
    }
    all
}

fn forget(folder: &Path, which: &[String], yes: bool) -> anyhow::Result<String> {
    let state = read(folder)?;
    let mut entries = Vec::<StateEntry>::new();
    for which in which {
        let found = pick(&state, folder, which)?;
        entries.extend(found.into_iter().filter(|entry| !entries.contains(entry)).collect::<Vec<_>>());
    }
    if yes {
        agent::forget(folder, &entries)?;
    }
    let done = if yes { "forgotten" } else { "would be forgotten" };
    let told = |entry: &StateEntry| {
        format!("{done}: {} {} of {}, offset {}\n", entry.incarnation(), entry.path(), entry.input(), entry.offset())
    };
    let mut text: String = entries.iter().map(told).collect();
    if !yes {
        text.push_str("Nothing is changed. With --yes these files are read from their start again.\n");
    }
    Ok(text)
}

/// The entries with this incarnation or path; a path can have had several lives.
fn pick(state: &State, folder: &Path, which: &str) -> anyhow::Result<Vec<StateEntry>> {
    let is_meant = |entry: &&StateEntry| entry.path() == which || entry.incarnation().to_string() == which;
    let found: Vec<_> = state.entries.iter().filter(is_meant).cloned().collect();
    if found.is_empty() {
        anyhow::bail!(
            "{} has no entry {which:?}; `tailrace state list --state-dir {}` shows what there is",
            folder.display(),
            folder.display()
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LINE: &str = r#"{"input":"nginx","incarnation":"00000000000000ab","path":"/var/log/none/a.log","device":1,
        "inode":7,"birth_ns":null,"generation":2,"offset":4096,"head_bytes":1024,"head":18446744073709551615,"tail":3}"#;

    fn state() -> State {
        let entry = |line: &str| serde_json::from_str(line).expect("an entry");
        let other = LINE.replace("ab", "cd").replace("4096", "5");
        State { entries: vec![entry(LINE), entry(&other)], damage: Vec::new(), is_there: true }
    }

    #[test]
    fn a_list_is_a_table_or_an_array() {
        let lines = "\
            INPUT  PATH                 INODE  OFFSET  GENERATION  INCARNATION\n\
            nginx  /var/log/none/a.log      7    4096           2  00000000000000ab\n\
            nginx  /var/log/none/a.log      7       5           2  00000000000000cd\n";
        assert_eq!(list(&state(), false), lines);
        let back: Vec<StateEntry> = serde_json::from_str(&list(&state(), true)).expect("an array of entries");
        assert_eq!(back, state().entries);
    }

    #[test]
    fn an_export_is_read_back_line_by_line() {
        let text = export(&state());
        let back: Vec<StateEntry> = text.lines().map(|line| serde_json::from_str(line).expect("an entry")).collect();
        assert_eq!(back, state().entries);
    }

    #[test]
    fn an_entry_is_meant_by_incarnation_or_path() {
        let meant = |which: &str| pick(&state(), Path::new("/s"), which).map(|found| found.len());
        assert_eq!(meant("00000000000000cd").expect("is there"), 1);
        assert_eq!(meant("/var/log/none/a.log").expect("both lives"), 2);
        let error = meant("a.log").expect_err("a part of a path is none").to_string();
        assert!(error.contains("/s has no entry \"a.log\"") && error.contains("state list --state-dir /s"), "{error}");
    }

    #[test]
    fn all_of_an_entry_is_shown_with_what_the_disk_has() {
        let all = whole(&state().entries[0]);
        assert_eq!((&all["head"], &all["on_disk"]), (&json!(u64::MAX), &json!("gone")));
        assert_eq!(all.as_object().map(serde_json::Map::len), Some(12));
    }

    #[test]
    fn a_folder_without_a_checkpoint_has_nothing_to_forget_and_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = forget(folder.path(), &["/a.log".to_owned()], true).expect_err("nothing is there").to_string();
        assert!(error.contains("no entry \"/a.log\""), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0);
    }
}
