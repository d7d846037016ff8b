//! An output that keeps offsets: what it has committed counts more than the checkpoint.

mod whole;

use event::{Committed, Group, Incarnation, Keeper, Progress};
use std::path::Path;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use whole::{Running, append, config, run_kept};

const INPUT: &str = "[{id: app, type: file, paths: [DIR/*.log], scan_interval: 10ms}]";

/// An agent, what tells it the committed offsets, and what it forgets.
#[expect(clippy::disallowed_methods, reason = "as the shipper makes it")]
fn start(folder: &Path) -> (Running, oneshot::Sender<Vec<Committed>>, mpsc::UnboundedReceiver<(String, Incarnation)>) {
    let (tell, committed) = oneshot::channel();
    let (forgotten, told) = mpsc::unbounded_channel();
    (run_kept(config(folder, INPUT), Some(Keeper { committed, forgotten })), tell, told)
}

fn lines(group: &Group) -> Vec<String> {
    group.records.iter().map(|record| String::from_utf8_lossy(group.bytes_of(record)).into_owned()).collect()
}

fn committed(group: &Group) -> Committed {
    let progress: Progress = group.ack.progress().expect("nothing is reserved");
    let entry = group.source.entry().expect("it is a file").to_owned();
    Committed { input: "app".into(), incarnation: group.source.incarnation, progress, entry }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_counts_more_than_a_checkpoint_that_is_further_or_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.log");
    append(&path, "one\n");
    let (mut agent, tell, _told) = start(dir.path());
    assert!(
        tokio::time::timeout(Duration::from_millis(200), agent.groups.recv()).await.is_err(),
        "nothing is told yet"
    );
    tell.send(Vec::new()).expect("it waits");
    let group = agent.group().await;
    assert_eq!(lines(&group), ["one"]);
    let after_one = committed(&group);
    group.ack.settle();
    append(&path, "two\n");
    assert_eq!(agent.lines(1).await.into_values().flatten().collect::<Vec<_>>(), ["two"]);
    agent.stop().await;
    assert_eq!(whole::entries(dir.path())[0].offset(), 8, "the checkpoint has both");

    for is_lost in [false, true] {
        if is_lost {
            std::fs::remove_dir_all(dir.path().join("state")).expect("it is there");
        }
        let (mut agent, tell, _told) = start(dir.path());
        tell.send(vec![after_one.clone()]).expect("it waits");
        let group = agent.group().await;
        assert_eq!(lines(&group), ["two"]);
        assert_eq!(group.source.incarnation, after_one.incarnation);
        group.ack.settle();
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_is_forgotten_by_the_output_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.log");
    append(&path, "one\n");
    let (mut agent, tell, mut told) = start(dir.path());
    tell.send(Vec::new()).expect("it waits");
    let group = agent.group().await;
    let incarnation = group.source.incarnation;
    group.ack.settle();
    std::fs::remove_file(&path).expect("it is there");
    let forgotten = tokio::time::timeout(whole::PATIENCE, told.recv()).await.expect("in time");
    assert_eq!(forgotten, Some(("app".to_owned(), incarnation)));
    agent.stop().await;
}
