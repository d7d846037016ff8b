//! `tailrace take-over`: another agent's offsets become this agent's, so that nothing is sent twice and nothing left out.

use crate::agent::AgentFile;
use crate::table::{print, table};
use agent::{Outcome, TakeOver, TakeOverRow, TakenOver};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Takes over what another agent knows of files.
///
/// Stop the other agent first, and start this one afterwards. Each entry of the registry is told, and each file that is read
/// from its start. An offset is believed only if the file bears it out.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 done, also if files are read from their start; 1 no readable registry, the other \
    agent or this one is running, or the checkpoint has entries (see --merge) or cannot be written: then nothing is \
    changed; 2 the command line or the configuration is wrong."
)]
pub(crate) struct Options {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, clap::Subcommand)]
enum From {
    /// From Filebeat 7.9 to 9: its log and filestream inputs
    Filebeat(Filebeat),
}

#[derive(Debug, clap::Args)]
struct Filebeat {
    /// Filebeat's registry, such as /var/lib/filebeat/registry/filebeat.
    #[arg(value_name = "REGISTRY_DIR")]
    registry: PathBuf,
    /// The agent's configuration: its `name`, `state_dir` and `inputs` are used.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Add to a checkpoint that has entries; what it knows of a file stays.
    #[arg(long)]
    merge: bool,
    /// Filebeat's prospector.scanner.fingerprint offset and length, if they are set.
    #[arg(long, value_name = "OFFSET,LENGTH", default_value = "0,1024", value_parser = span)]
    fingerprint: (u64, usize),
    /// The output that goes on where Filebeat was, if there are several
    #[arg(long, value_name = "ID")]
    output: Option<String>,
    /// One JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

fn span(text: &str) -> Result<(u64, usize), String> {
    let (offset, length) = text.split_once(',').ok_or("write it as OFFSET,LENGTH, such as 0,1024")?;
    let wrong = |error: std::num::ParseIntError| error.to_string();
    let (offset, length) = (offset.trim().parse().map_err(wrong)?, length.trim().parse().map_err(wrong)?);
    // Filebeat takes no shorter ones; the bound keeps a typing error from reading whole files.
    if !(64..=1 << 20).contains(&length) {
        return Err(format!("the length {length} is not between 64 and 1048576"));
    }
    Ok((offset, length))
}

/// Runs the command. Exit codes: see [`Options`].
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let From::Filebeat(filebeat) = &options.from;
    let file = AgentFile::read(&filebeat.config)?;
    let outputs = crate::outputs::outputs(&filebeat.config, &file)?;
    let output = crate::outputs::chosen(&filebeat.config, outputs, filebeat.output.as_deref())?.id;
    let compiled = file.compile(&filebeat.config)?.into_iter().find(|compiled| compiled.output == output);
    let config = compiled.expect("each output is compiled").agent;
    let how = TakeOver { dry_run: filebeat.dry_run, merge: filebeat.merge, fingerprint: filebeat.fingerprint };
    let taken = agent::take_over_filebeat(&config, &filebeat.registry, how)?;
    for damage in &taken.damage {
        eprintln!("tailrace: damaged: {damage}");
    }
    if taken.filebeat_runs {
        eprintln!("tailrace: Filebeat is running: stop it before you take over, its registry still moves on");
    }
    print(&if filebeat.json { as_json(&taken.rows) } else { as_table(&taken, filebeat.dry_run) })?;
    Ok(ExitCode::SUCCESS)
}

/// The word for an outcome, in the table and in JSON.
fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::TakenOver => "taken over",
        Outcome::Kept => "kept",
        Outcome::FromStart => "from start",
        Outcome::Skipped => "skipped",
    }
}

fn as_json(rows: &[TakeOverRow]) -> String {
    let row = |row: &TakeOverRow| {
        json!({"outcome": word(row.outcome), "input": row.input, "path": row.path, "offset": row.offset,
            "size": row.size, "reason": row.reason})
    };
    format!("{:#}\n", json!(rows.iter().map(row).collect::<Vec<_>>()))
}

fn as_table(taken: &TakenOver, dry_run: bool) -> String {
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let cells = |row: &TakeOverRow| {
        let input = row.input.clone().unwrap_or_else(|| "-".to_owned());
        [word(row.outcome).into(), input, row.path.clone(), number(row.offset), number(row.size), row.reason.clone()]
    };
    let rows: Vec<_> = taken.rows.iter().map(cells).collect();
    let mut text = table(["OUTCOME", "INPUT", "PATH", "OFFSET", "SIZE", "REASON"], &rows);
    let of = |outcome| taken.rows.iter().filter(move |row| row.outcome == outcome);
    let count = |outcome| of(outcome).count();
    let shipped: u64 = of(Outcome::TakenOver).filter_map(|row| row.offset).sum();
    let again: u64 = of(Outcome::FromStart).filter_map(|row| row.size).sum();
    text += &format!(
        "\n{} taken over ({shipped} bytes are not sent again), {} kept, {} read from the start ({again} bytes), {} skipped\n",
        count(Outcome::TakenOver),
        count(Outcome::Kept),
        count(Outcome::FromStart),
        count(Outcome::Skipped)
    );
    if dry_run {
        text += "Nothing is written: --dry-run.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: Outcome, offset: Option<u64>, reason: &str) -> TakeOverRow {
        let (path, input) = ("/var/log/a.log".to_owned(), offset.map(|_| "nginx".to_owned()));
        TakeOverRow { outcome, input, path, offset, size: Some(100), reason: reason.to_owned() }
    }

    #[test]
    fn what_became_of_each_is_told_and_counted() {
        let rows = vec![
            row(Outcome::TakenOver, Some(90), "read on from 90"),
            row(Outcome::FromStart, None, "no line ends at offset 7"),
        ];
        let taken = TakenOver { rows, damage: Vec::new(), filebeat_runs: false };
        let text = "\
            OUTCOME     INPUT  PATH            OFFSET  SIZE  REASON\n\
            taken over  nginx  /var/log/a.log      90   100  read on from 90\n\
            from start  -      /var/log/a.log       -   100  no line ends at offset 7\n\n\
            1 taken over (90 bytes are not sent again), 0 kept, 1 read from the start (100 bytes), 0 skipped\n";
        assert_eq!(as_table(&taken, false), text);
        assert!(as_table(&taken, true).ends_with("Nothing is written: --dry-run.\n"));
        let back: Vec<serde_json::Value> = serde_json::from_str(&as_json(&taken.rows)).expect("an array");
        assert_eq!((&back[0]["outcome"], &back[1]["offset"]), (&json!("taken over"), &json!(null)));
    }

    #[test]
    fn a_fingerprint_is_an_offset_and_a_length() {
        assert_eq!(span("0, 1024"), Ok((0, 1024)));
        for (text, reason) in [("1024", "OFFSET,LENGTH"), ("0,1", "between"), ("x,1024", "invalid digit")] {
            assert!(span(text).expect_err("is refused").contains(reason));
        }
    }
}
