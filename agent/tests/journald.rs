//! A journal that a script plays, read by a whole agent whose output is this test.

mod whole;

use agent::Ended;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use whole::streams::{got, start, texts};
use whole::{Running, folder};

/// A journal in a folder, and a script that plays `journalctl` on it: entry `n` is the file `n`, its cursor `c=n`. It ends
/// without a word behind each entry for which there is a file `dies-n`, once.
struct Journal {
    folder: tempfile::TempDir,
}

const SCRIPT: &str = r#"#!/bin/sh
n=0
echo "$@" >> DIR/calls
for arg in "$@"; do case "$arg" in --after-cursor=c=*) n="${arg#--after-cursor=c=}";; esac; done
while :; do
  n=$((n + 1))
  while [ ! -f DIR/$n ]; do sleep 0.02; done
  if [ -f DIR/dies-$n ]; then rm DIR/dies-$n; head -c 20 DIR/$n; exit 1; fi
  cat DIR/$n
done
"#;

impl Journal {
    fn new() -> Self {
        let (folder, _) = folder();
        let script = folder.path().join("journalctl");
        fs::write(&script, SCRIPT.replace("DIR", &folder.path().display().to_string())).expect("written");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).expect("is set");
        Self { folder }
    }

    fn add(&self, n: usize, fields: &[u8]) {
        let head = format!("__CURSOR=c={n}\n__REALTIME_TIMESTAMP=17953416000{n:05}\n_SYSTEMD_UNIT=a.service\n");
        let path = self.folder.path().join(n.to_string());
        fs::write(path.with_extension("new"), [head.as_bytes(), fields, b"\n"].concat()).expect("written");
        fs::rename(path.with_extension("new"), path).expect("renamed");
    }

    fn yaml(&self) -> String {
        "[{id: j, type: journald, journalctl: DIR/journalctl, units: [a.service]}]".into()
    }

    fn start(&self) -> Running {
        start(self.folder.path(), &self.yaml())
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn the_journal_is_read_on_behind_the_last_acknowledged_entry() {
    let journal = Journal::new();
    (1..=3).for_each(|n| journal.add(n, format!("MESSAGE=entry {n}\n").as_bytes()));
    let mut running = journal.start();
    let first = running.records(2).await;
    assert_eq!(texts(&first)[..2], ["entry 1", "entry 2"]);
    assert_eq!(first[0].fields["systemd"]["unit"], "a.service");
    assert_eq!(first[0].timestamp_ms, Some(1_795_341_600_000));
    let mut all = first;
    if all.len() < 3 {
        all.extend(running.records(3 - all.len()).await);
    }
    journal.add(4, b"MESSAGE=entry 4\n");
    let fourth = running.group().await;
    let lost = got(&fourth);
    running.trigger.stop();
    assert!(running.groups.recv().await.is_none(), "the later stages drain");
    drop(fourth); // Not delivered: it is read again after the next start.
    assert_eq!(running.end().await, (vec![], Ended::Delivered), "a journal can be read again");

    journal.add(5, b"MESSAGE=entry 5\n");
    let mut running = journal.start();
    let mut again = running.records(2).await;
    assert_eq!(texts(&again), ["entry 4", "entry 5"]);
    assert!(again[0].reread);
    again[0].reread = false;
    assert_eq!(again[0], lost[0], "under the same id");
    running.end().await;
    let calls = journal.calls();
    assert_eq!(calls[0], "--output=export --follow --no-tail --no-pager --unit=a.service");
    assert_eq!(calls[1], "--output=export --follow --no-tail --no-pager --after-cursor=c=3 --unit=a.service");
    assert_eq!(calls.len(), 2);
}

#[tokio::test]
async fn a_journalctl_that_ends_is_started_again_behind_what_was_read() {
    let journal = Journal::new();
    for n in 1..=40 {
        journal.add(n, format!("MESSAGE=entry {n}\n").as_bytes());
        if n % 10 == 0 {
            fs::write(journal.folder.path().join(format!("dies-{n}")), "").expect("written");
        }
    }
    let mut running = journal.start();
    let records = running.records(40).await;
    assert_eq!(texts(&records), (1..=40).map(|n| format!("entry {n}")).collect::<Vec<_>>());
    assert_eq!(records.iter().map(|got| &got.id).collect::<BTreeSet<_>>().len(), 40);
    assert_eq!(running.metrics.journal_starts.with_label_values(&["ok"]).get(), 5);
    assert_eq!(running.end().await, (vec![], Ended::Delivered));
}

#[tokio::test]
async fn entries_with_binary_huge_and_missing_fields_are_shipped() {
    let journal = Journal::new();
    let binary =
        |name: &str, value: &[u8]| [name.as_bytes(), b"\n", &(value.len() as u64).to_le_bytes(), value, b"\n"].concat();
    journal.add(1, &binary("MESSAGE", b"two\nlines \xff"));
    journal.add(2, b"PRIORITY=3\nSHOP_ID=7\n");
    journal.add(3, &[binary("COREDUMP", &vec![0; 2_000_000]), b"MESSAGE=dumped\n".to_vec()].concat());
    journal.add(4, format!("MESSAGE={}\n", "m".repeat(600_000)).as_bytes());
    let mut running = journal.start();
    let records = running.records(4).await;
    assert_eq!(texts(&records)[..3], ["two\nlines \u{fffd}", "", "dumped"]);
    assert_eq!(
        (&records[1].fields["syslog"]["priority"], &records[1].fields["journald"]["custom"]["shop_id"]),
        (&3.into(), &"7".into())
    );
    assert_eq!(records[2].fields["journald"]["custom"]["coredump"].as_str().map(str::len), Some(32 * 1024));
    assert_eq!((records[3].text.len(), records[3].truncated), (512 * 1024, true));
    assert_eq!(running.end().await, (vec![], Ended::Delivered));
}

#[tokio::test]
async fn a_journalctl_that_cannot_be_started_is_said_and_tried_again() {
    let (folder, _) = folder();
    let yaml = "[{id: j, type: journald, journalctl: DIR/journalctl, start: end}]";
    let running = start(folder.path(), yaml);
    let board = running.board.clone();
    running
        .met("said", || board.inputs().iter().any(|shown| shown.waits_for.concat().contains("cannot be started")))
        .await;
    running.end().await;
}

/// A real journal, made of the entries `from..to` by the program that takes journals over the network. False if it is not there.
fn write_journal(folder: &Path, from: u64, to: u64) -> bool {
    let program = Path::new("/usr/lib/systemd/systemd-journal-remote");
    if !program.exists() || Command::new("journalctl").arg("--version").output().is_err() {
        return false;
    }
    let journal = folder.join("journal").join(format!("from-{from}.journal"));
    fs::create_dir_all(folder.join("journal")).expect("made");
    let mut child = Command::new(program)
        .args([&OsString::from("-o"), journal.as_os_str(), &OsString::from("-")])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("piped");
    for n in from..to {
        let entry = format!(
            "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={n}\n_BOOT_ID={:032x}\n_MACHINE_ID={:032x}\n_SYSTEMD_UNIT=a.service\n\
             MESSAGE=entry {n}\n\n",
            1_795_341_600_000_000 + n,
            1,
            2
        );
        input.write_all(entry.as_bytes()).expect("written");
    }
    drop(input);
    assert!(child.wait().expect("ends").success(), "the journal is written");
    true
}

#[tokio::test]
async fn a_real_journal_is_read_on_behind_the_last_acknowledged_entry() {
    let (folder, _) = folder();
    if !write_journal(folder.path(), 0, 300) {
        return eprintln!("skipped: journalctl or systemd-journal-remote is not installed");
    }
    let script = format!("#!/bin/sh\nexec journalctl --directory={}/journal \"$@\"\n", folder.path().display());
    fs::write(folder.path().join("journalctl"), script).expect("written");
    fs::set_permissions(folder.path().join("journalctl"), fs::Permissions::from_mode(0o700)).expect("is set");
    let yaml = "[{id: j, type: journald, journalctl: DIR/journalctl, units: [a.service]}]";
    let named = |numbers: Range<u64>| numbers.map(|n| format!("entry {n}")).collect::<Vec<_>>();
    let mut running = start(folder.path(), yaml);
    let mut all = running.records(300).await;
    assert_eq!(texts(&all), named(0..300));
    assert_eq!(
        (all[7].timestamp_ms, &all[7].fields["systemd"]["unit"]),
        (Some(1_795_341_600_000), &"a.service".into())
    );
    assert!(write_journal(folder.path(), 300, 350), "it was there before");
    all.extend(running.records(50).await);
    assert_eq!(running.end().await, (vec![], Ended::Delivered));
    assert!(write_journal(folder.path(), 350, 400), "it was there before");
    let mut running = start(folder.path(), yaml);
    all.extend(running.records(50).await);
    assert_eq!(texts(&all), named(0..400));
    assert_eq!(all.iter().map(|got| &got.id).collect::<BTreeSet<_>>().len(), 400);
    assert_eq!(running.end().await, (vec![], Ended::Delivered));
}
