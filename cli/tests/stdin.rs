//! `some-program | tailrace agent`: how it ends when there is no Kafka.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Exit code of an agent on this standard input.
fn exit_code(input: &[u8]) -> Option<i32> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = format!(
        "{{name: web-01, state_dir: '{}', inputs: [{{id: in, type: stdin}}], drain_timeout: 300ms, \
         kafka: {{brokers: ['127.0.0.1:1'], topic: t}}, metrics: {{listen: '127.0.0.1:0'}}}}",
        folder.path().join("state").display()
    );
    let path = folder.path().join("agent.yaml");
    std::fs::write(&path, config).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tailrace"));
    command.arg("agent").arg("-c").arg(&path).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(input).expect("written"); // And closed.
    child.wait().expect("a child").code()
}

#[test]
fn what_is_not_acknowledged_in_time_is_told_by_the_exit_code() {
    assert_eq!(exit_code(b"one line\n"), Some(3));
}

#[test]
fn nothing_to_deliver_is_delivered() {
    assert_eq!(exit_code(b""), Some(0));
}
