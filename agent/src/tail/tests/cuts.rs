//! Where time finishes an event: that place is written down before the event is sent, and holds whatever is read again.

use super::*;

/// Lines that begin with a blank go on with the one before, as long as the file goes on.
fn joining(input: &mut FileInput) {
    let parsers = "[{multiline: {pattern: '^ ', match: after, timeout: 0s}}]";
    let yaml = format!("[{{id: a, type: file, paths: [/a], parsers: {parsers}}}]");
    input.recipe = crate::config::files_of(&yaml)[0].recipe.clone();
}

/// The next cut that is to be made durable: of which stream, at which offset, and who waits for it.
async fn next_cut(bench: &mut Bench) -> (StreamId, u64, UnboundedSender<StreamId>) {
    loop {
        let told = tokio::time::timeout(PATIENCE, bench._kept.0.recv()).await.expect("a cut in time");
        if let Control::Cut { stream, at, done } = told.expect("the stage runs") {
            return (stream, at, done);
        }
    }
}

#[tokio::test]
async fn what_is_given_back_while_a_cut_is_made_durable_is_cut_there_again() {
    let mut bench = Bench::start_with(tempfile::tempdir().expect("a temporary folder"), BTreeMap::new(), joining);
    fs::write(bench.path("a.log"), "one\n").expect("written");
    bench.list().await;
    let (stream, at, done) = next_cut(&mut bench).await;
    assert_eq!(at, 4);
    let progress = Progress { offset: 0, anchor: event::Anchor::default() };
    bench._kept.2.send(Rewind { stream, epoch: 1, progress }).expect("the stage runs");
    fs::write(bench.path("a.log"), "one\n more\n").expect("written");
    done.send(stream).expect("the stage runs");
    bench.list().await;
    let group = tokio::time::timeout(PATIENCE, bench.groups.recv()).await;
    let group = group.expect("the first event needs no other cut").expect("the stage runs");
    let texts: Vec<_> = group.records.iter().map(|record| group.bytes_of(record)).collect();
    assert_eq!(texts, [b"one"], "the next start reads it so, too");
}
