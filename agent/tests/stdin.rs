//! Standard input, read by an agent in this test's own binary, which the test starts with a pipe.

mod whole;

use agent::Ended;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use whole::folder;
use whole::streams::{balance, got, start};

/// What the test binary does as a child: an agent on its standard input. It prints what it read, and how it ended.
#[tokio::test]
async fn child() {
    let Some(folder) = std::env::var_os("TAILRACE_STDIN_CHILD") else { return };
    let mut running = start(Path::new(&folder), "[{id: in, type: stdin, fields: {a: 1}}]");
    let delivers = std::env::var_os("TAILRACE_STDIN_DELIVERS").is_some();
    let (mut held, mut is_first) = (Vec::new(), true);
    while let Some(group) = running.groups.recv().await {
        got(&group).iter().for_each(|got| println!("\nline: {}", got.text));
        match delivers {
            true if std::mem::take(&mut is_first) => drop(group), // Given back once: it must come again.
            true => group.ack.settle(),
            false => held.push(group),
        }
        if !delivers {
            break;
        }
    }
    let left = tokio::task::spawn_blocking(|| running.agent.join()).await.expect("ends");
    drop((held, running.groups));
    let ended = left.ended;
    assert!(left.by_itself);
    println!("\nended: {ended:?}");
    if ended == Ended::Delivered {
        balance(&running.metrics);
    }
}

/// What the child printed.
fn run_child(delivers: bool, input: &[u8]) -> (Vec<String>, String) {
    let (folder, _) = folder();
    let mut command = Command::new(std::env::current_exe().expect("the test binary has a path"));
    command.args(["--exact", "child", "--nocapture"]).env("TAILRACE_STDIN_CHILD", folder.path());
    if delivers {
        command.env("TAILRACE_STDIN_DELIVERS", "1");
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the test binary starts");
    child.stdin.take().expect("piped").write_all(input).expect("written"); // And closed.
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let (mut lines, mut ended) = (Vec::new(), String::new());
    for said in output.lines().map_while(Result::ok) {
        lines.extend(said.strip_prefix("line: ").map(str::to_owned));
        ended = said.strip_prefix("ended: ").map_or(ended, str::to_owned);
    }
    assert!(child.wait().expect("a child").success());
    (lines, ended)
}

#[test]
fn standard_input_is_read_to_its_end_and_then_the_agent_ends() {
    let (lines, ended) = run_child(true, b"one\n\ntwo\r\nlast without a newline");
    let whole = ["one", "two", "last without a newline"];
    assert!(lines.ends_with(&whole.map(str::to_owned)), "what was given back comes again: {lines:?}");
    assert_eq!(ended, "Delivered");
    assert_eq!(run_child(true, b""), (vec![], "Delivered".into()), "nothing came");
}

#[test]
fn an_agent_whose_output_takes_nothing_ends_at_the_end_of_standard_input_and_says_so() {
    let (lines, ended) = run_child(false, b"one\n");
    assert_eq!((lines, ended.as_str()), (vec!["one".to_owned()], "Undelivered"));
}
