//! Rotated files that were packed (gzip, zstd), by a whole agent whose output is this test.

mod whole;

use event::{Group, Incarnation};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use whole::packing::{gzip, log, zstd};
use whole::{Running, append, folder, one, start};

const YAML: &str = "[{id: a, type: file, paths: ['DIR/a.log*'], scan_interval: 20ms}]";

fn texts(group: &Group) -> Vec<String> {
    group.records.iter().map(|record| String::from_utf8_lossy(group.bytes_of(record)).into_owned()).collect()
}

/// Lines up to `count`, in order, each with its offset; acknowledged. All must be of one incarnation, which is returned.
async fn read(running: &mut Running, count: usize) -> (String, Incarnation) {
    let (mut all, mut got, mut of) = (String::new(), 0, None);
    while got < count {
        let group = running.group().await;
        assert!(of.is_none_or(|of| of == group.source.incarnation), "one incarnation");
        of = Some(group.source.incarnation);
        got += group.records.len();
        texts(&group).iter().for_each(|line| all.extend([line, "\n"]));
        group.ack.settle();
    }
    (all, of.expect("at least one group"))
}

/// Waits until the file at `path` is read to its end, and returns how many bytes it unpacks to.
async fn at_rest(running: &Running, path: &Path, end: u64) {
    running
        .until("read to its end", |files| {
            files.iter().any(|file| file.path == path && file.acknowledged == end && file.size == end)
        })
        .await;
}

/// Nothing comes before what is written to another file.
async fn nothing_but(running: &mut Running, folder: &Path) {
    append(&folder.join("a.log.last"), "the last\n");
    assert_eq!(running.lines(1).await, one("a.log.last", &["the last"]));
}

#[tokio::test]
async fn packed_files_are_read_and_not_again_after_a_restart() {
    let (folder, log_path) = folder();
    let (first, second) = (log(0, 9_000), log(9_000, 20));
    let (gz, zst) = (log_path.with_extension("log.gz"), log_path.with_extension("log.named-anyhow"));
    fs::write(&gz, [gzip(first.as_bytes()), gzip(b""), gzip(second.as_bytes())].concat()).expect("written");
    let mut running = start(folder.path(), YAML);
    let all = first + &second;
    assert!(read(&mut running, 9_020).await.0 == all, "concatenated members are one file");
    at_rest(&running, &gz, all.len() as u64).await;
    fs::write(&zst, zstd(b"one\ntwo\n")).expect("written");
    assert_eq!(running.lines(2).await, one("a.log.named-anyhow", &["one", "two"]));
    at_rest(&running, &zst, 8).await;
    running.stop().await;

    let mut running = start(folder.path(), YAML);
    nothing_but(&mut running, folder.path()).await;
    assert_eq!(running.metrics.read.get(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_half_written_file_is_read_as_it_grows_also_after_a_restart() {
    let (folder, log_path) = folder();
    let gz = log_path.with_extension("log.1.gz");
    let plain = log(0, 30_000);
    let packed = [gzip(&plain.as_bytes()[..400_000]), gzip(&plain.as_bytes()[400_000..])].concat();
    let pieces = [0, 5, packed.len() / 4, packed.len() / 2, packed.len() - 3, packed.len()];
    let mut file = File::create(&gz).expect("made");
    let (mut got, mut of) = (String::new(), None);
    let mut running = start(folder.path(), YAML);
    for (n, piece) in pieces.windows(2).enumerate() {
        file.write_all(&packed[piece[0]..piece[1]]).expect("written");
        let whole = plain.len() as u64;
        while n >= 1 && (got.len() as u64) < (whole * n as u64 / 5).min(whole) {
            let (more, incarnation) = read(&mut running, 1).await;
            assert!(of.is_none_or(|of| of == incarnation), "one incarnation");
            of = Some(incarnation);
            got += &more;
        }
        if n % 2 == 1 {
            for lines in running.stop().await.into_values().flatten() {
                got += &lines;
                got.push('\n');
            }
            running = start(folder.path(), YAML);
        }
    }
    while got.len() < plain.len() {
        got += &read(&mut running, 1).await.0;
    }
    assert!(got == plain, "every line once and in order");
    nothing_but(&mut running, folder.path()).await;
    running.stop().await;
}

#[tokio::test]
async fn a_packed_copy_waits_for_its_original_and_is_read_in_its_place() {
    let (folder, log_path) = folder();
    let old = log_path.with_extension("log.1");
    let gz = log_path.with_extension("log.1.gz");
    let first = log(0, 100);
    append(&log_path, &first);
    let mut running = start(folder.path(), YAML);
    let (_, incarnation) = read(&mut running, 100).await;
    fs::rename(&log_path, &old).expect("renamed");
    append(&log_path, "new\n");
    assert_eq!(running.lines(1).await, one("a.log", &["new"]));
    fs::write(&gz, gzip(first.as_bytes())).expect("written");
    running
        .until("it waits", |files| {
            files.iter().any(|file| file.path == gz && format!("{file:?}").contains("still there"))
        })
        .await;
    fs::remove_file(&old).expect("removed");
    running.until("taken over", |files| files.len() == 2 && files.iter().any(|file| file.path == gz)).await;
    at_rest(&running, &gz, first.len() as u64).await;
    let name = |file: &agent::Shown| file.path == gz && file.incarnation == Some(incarnation.to_string());
    running.until("one identity", |files| files.iter().any(name)).await;
    running.stop().await;

    // Rotated once more, and a second member: it goes on in it.
    let next = log_path.with_extension("log.2.gz");
    fs::rename(&gz, &next).expect("renamed");
    let mut running = start(folder.path(), YAML);
    nothing_but(&mut running, folder.path()).await;
    File::options().append(true).open(&next).expect("opens").write_all(&gzip(b"late\n")).expect("written");
    let group = running.group().await;
    assert_eq!((group.source.incarnation, group.records[0].offset), (incarnation, first.len() as u64));
    group.ack.settle();
    running.stop().await;
}

#[tokio::test]
async fn a_copy_made_and_its_original_removed_between_two_looks_is_not_shipped() {
    for pack in [gzip, zstd] {
        let (folder, log_path) = folder();
        append(&log_path, "one\ntwo\n");
        let mut running = start(folder.path(), YAML);
        let (_, incarnation) = read(&mut running, 2).await;
        fs::write(log_path.with_extension("log.1.packed"), pack(b"one\ntwo\n")).expect("written");
        fs::remove_file(&log_path).expect("removed");
        let name = incarnation.to_string();
        running
            .until("taken over", |files| {
                files.len() == 1
                    && files[0].incarnation == Some(name.clone())
                    && files[0].path.ends_with("a.log.1.packed")
            })
            .await;
        nothing_but(&mut running, folder.path()).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn rotated_and_packed_while_stopped_with_half_of_it_unread() {
    for (pack, is_one_read) in [(gzip as fn(&[u8]) -> Vec<u8>, true), (zstd, true), (gzip, false)] {
        let (folder, log_path) = folder();
        let all = log(0, 20_000);
        append(&log_path, &all);
        let mut running = start(folder.path(), YAML);
        let group = running.group().await;
        let (incarnation, mut got) = (group.source.incarnation, 0);
        if is_one_read {
            got = group.records.len();
            group.ack.settle();
        } else {
            drop(group);
        }
        let name = incarnation.to_string();
        running.until("acknowledged", |files| !is_one_read || files.iter().any(|file| file.acknowledged > 0)).await;
        running.trigger.stop();
        drop(running.groups); // What else was read is given back.
        tokio::task::spawn_blocking(|| running.agent.join()).await.expect("ends");
        fs::write(log_path.with_extension("log.1.gz"), pack(all.as_bytes())).expect("written");
        fs::remove_file(&log_path).expect("removed");
        append(&log_path, "new, and not packed\n");

        let mut running = start(folder.path(), YAML);
        let (mut lines, mut is_new_read) = (String::new(), false);
        while got < 20_000 || !is_new_read {
            let group = running.group().await;
            if texts(&group) == ["new, and not packed"] {
                is_new_read = true;
            } else {
                assert_eq!(group.source.incarnation.to_string(), name);
                let start = usize::try_from(group.records[0].offset).expect("small");
                texts(&group).iter().for_each(|line| lines.extend([line, "\n"]));
                assert!(lines.len() <= all.len() && start < all.len());
                got += group.records.len();
            }
            group.ack.settle();
        }
        assert!(all.ends_with(&lines), "from the acknowledged offset on, every line once and in order");
        assert_eq!(got, 20_000);
        running.stop().await;
        let mut running = start(folder.path(), YAML);
        nothing_but(&mut running, folder.path()).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn what_is_given_back_is_unpacked_again() {
    let (folder, log_path) = folder();
    let all = log(0, 20_000);
    fs::write(log_path.with_extension("log.gz"), gzip(all.as_bytes())).expect("written");
    let mut running = start(folder.path(), YAML);
    let first = running.group().await;
    let mut lines: String = texts(&first).into_iter().map(|line| line + "\n").collect();
    first.ack.settle();
    drop(running.group().await);
    while lines.len() < all.len() {
        let group = running.group().await;
        let offset = usize::try_from(group.records[0].offset).expect("small");
        if group.epoch > 0 {
            assert!(offset == lines.len() && group.reread, "at {offset}, {} expected", lines.len());
            texts(&group).iter().for_each(|line| lines.extend([line, "\n"]));
        }
        group.ack.settle();
    }
    assert!(lines == all);
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_checksum_is_told_and_what_was_unpacked_is_kept() {
    for (from_end, name) in [(8, "checksum"), (1, "length")] {
        let (folder, log_path) = folder();
        let gz = log_path.with_extension("log.1.gz");
        let mut packed = gzip(log(0, 500).as_bytes());
        let at = packed.len() - from_end;
        packed[at] ^= 1;
        fs::write(&gz, &packed).expect("written");
        let mut running = start(folder.path(), YAML);
        assert!(read(&mut running, 500).await.0 == log(0, 500), "{name}");
        running.until("told", |files| files[0].waits_for.iter().any(|why| why.contains("checksum"))).await;
        assert_eq!(running.metrics.unpack_failures.with_label_values(&["damaged"]).get(), 1, "{name}");
        running.stop().await;
        let mut running = start(folder.path(), YAML);
        nothing_but(&mut running, folder.path()).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn files_with_the_same_start_are_no_copies() {
    let (folder, log_path) = folder();
    let header = "#Fields: date time method\n";
    append(&log_path, header);
    fs::write(log_path.with_extension("log.1.gz"), gzip(format!("{header}{}", log(0, 100)).as_bytes()))
        .expect("written");
    fs::write(log_path.with_extension("log.2.gz"), gzip(format!("{header}{}", log(500, 100)).as_bytes()))
        .expect("written");
    let mut running = start(folder.path(), YAML);
    let lines = running.lines(203).await;
    assert_eq!(lines.into_values().map(|lines| lines.len()).collect::<Vec<_>>(), [1, 101, 101]);
    nothing_but(&mut running, folder.path()).await;
    running.stop().await;
}

#[tokio::test]
async fn many_packed_files_are_read_in_turn() {
    let (folder, log_path) = folder();
    for n in 0..20 {
        let plain = format!("file {n}\n{}", log(0, 5_000));
        fs::write(log_path.with_extension(format!("log.{n}.gz")), gzip(plain.as_bytes())).expect("written");
    }
    let mut running = start(folder.path(), YAML);
    let lines = running.lines(20 * 5_001).await;
    assert!(lines.len() == 20 && lines.values().all(|lines| lines.len() == 5_001), "each whole");
    running.stop().await;
}

#[tokio::test]
async fn nothing_is_unpacked_if_that_is_not_wanted() {
    let (folder, log_path) = folder();
    fs::write(log_path.with_extension("log.gz"), gzip(b"one\n")).expect("written");
    append(&log_path, "plain\n");
    let mut running = start(folder.path(), &YAML.replace("type: file", "type: file, compression: none"));
    assert_eq!(running.lines(1).await, one("a.log", &["plain"]));
    running.stop().await;
    let (folder, log_path) = whole::folder();
    fs::write(log_path.with_extension("log.gz"), gzip(b"one\n")).expect("written");
    let mut running = start(folder.path(), &YAML.replace("type: file", "type: file, compression: gzip"));
    assert_eq!(running.lines(1).await, one("a.log.gz", &["one"]));
    running.stop().await;
}
