//! Whose turn it is while the output is slower than the writers, and what is said before bytes are lost.

use super::*;
use crate::discover::Glob;
use service::clock::wall_ms;
use std::time::SystemTime;

/// Content of a few turns each.
const FILE_LINES: usize = 20_000;
/// More than the stage takes from one group to the next: both run on one thread, step by step.
const STEPS: usize = 20;
const NAMES: [&str; 5] = ["aaa.log", "app.log", "app.log.1", "app.log.2", "app.log.3"];

/// `app.log` was rotated three times, every 10 s, the last time 5 s ago; `aaa.log` never was.
fn start() -> Bench {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(wall_ms()).expect("after 1970"));
    for (name, seconds) in NAMES.into_iter().zip([0, 0, 5, 15, 25]) {
        let path = folder.path().join(name);
        fs::write(&path, numbered(name, FILE_LINES).join("\n") + "\n").expect("written");
        let file = File::options().append(true).open(&path).expect("opens");
        file.set_modified(now - Duration::from_secs(seconds)).expect("set");
    }
    let glob = Glob::new(&format!("{}/*", folder.path().display())).expect("compiles");
    Bench::start_with(folder, BTreeMap::new(), |input| input.globs = vec![glob])
}

impl Bench {
    /// Waits until the stage has a group to give, and waits itself with the one after it.
    async fn is_full(&self) {
        while self.groups.is_empty() {
            tokio::task::yield_now().await;
        }
        for _ in 0..STEPS {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn the_file_that_is_deleted_first_is_read_first_and_no_other_starves() {
    let mut bench = start();
    bench.list().await;
    let (mut left, mut turns) = (NAMES.len() * FILE_LINES, Vec::new());
    while left > 0 {
        tokio::time::timeout(PATIENCE, bench.is_full()).await.expect("more comes");
        let group = bench.groups.recv().await.expect("the stage runs");
        left -= group.records.len();
        turns.push(group.source.path.rsplit('/').next().unwrap_or_default().to_owned());
        group.ack.settle();
    }
    let last = |name: &str| turns.iter().rposition(|turn| turn == name).expect("it had turns");
    let mut ended = NAMES;
    ended.sort_by_key(|name| last(name));
    assert_eq!(ended[..3], ["app.log.3", "app.log.2", "app.log.1"], "{turns:?}");
    let until_first_end = &turns[..last("app.log.3")];
    assert!(NAMES.iter().all(|name| until_first_end.iter().any(|turn| turn == name)), "all move on: {turns:?}");
    // Of a round each had before the output was seen to be slow; from then on it has every other turn.
    let own = until_first_end.iter().filter(|turn| *turn == "app.log.3").count();
    assert!(2 * own + NAMES.len() >= until_first_end.len(), "{own} of {}: {turns:?}", until_first_end.len());
}

#[tokio::test]
async fn bytes_that_will_be_lost_are_told_of_once_while_the_output_takes_nothing() {
    let bench = start();
    bench.list().await;
    bench.is_full().await;
    let said = |name: &str| bench.board.files(Some(&bench.path(name))).pop().and_then(|shown| shown.at_risk);
    let late = async {
        while bench.metrics.loss_warnings.get() < 4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE * 3, late).await.expect("each that is rotated is said to be at risk");
    let unread = |name: &str| {
        let shown = bench.board.files(Some(&bench.path(name))).pop().expect("followed");
        fs::metadata(bench.path(name)).expect("there").len() - shown.offset
    };
    let told = format!("its {} unread bytes", unread("app.log.3"));
    assert!(said("app.log.3").is_some_and(|said| said.contains(&told)), "{told}: {:?}", said("app.log.3"));
    assert_eq!(said("aaa.log"), None, "nobody deletes it");
    let at_risk: u64 = NAMES[1..].iter().map(|name| unread(name)).sum();
    assert_eq!(bench.metrics.at_risk.get(), i64::try_from(at_risk).expect("small"));
    // Another look says the same, and warns of none again.
    fs::remove_file(bench.path("app.log.3")).expect("removed");
    let deleted = async {
        while !said("app.log.3").is_some_and(|told| told.contains("is deleted")) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, deleted).await.expect("that is said too");
    assert_eq!(bench.metrics.loss_warnings.get(), 4);
}
