//! Symbolic links to log files and to their folders, by a whole agent whose output is this test.

mod whole;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use whole::{Running, all, append, entries, folder, one, start};

/// `a.log` of the folder is a link to `real/1.txt`, which no glob names.
const LINKED: &str = "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, symlinks: true}]";
/// The same; a file is closed as soon as it is read.
const CLOSED: &str =
    "[{id: a, type: file, paths: [DIR/*.log], scan_interval: 20ms, symlinks: true, close_inactive: 1ms}]";

/// A folder with a link, the link, and what it leads to.
fn linked() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let (folder, link) = folder();
    fs::create_dir(folder.path().join("real")).expect("made");
    let target = folder.path().join("real/1.txt");
    append(&target, "one\n");
    symlink("real/1.txt", &link).expect("linked");
    (folder, link, target)
}

fn lead(link: &Path, target: &str) {
    fs::remove_file(link).expect("removed");
    symlink(target, link).expect("linked");
}

async fn until_closed(running: &Running) {
    running.until("closed", |files| files.iter().all(|file| !file.is_open)).await;
}

fn lost(running: &Running) -> u64 {
    ["deleted", "truncated", "unfinished_line"]
        .iter()
        .map(|reason| running.metrics.lost_bytes.with_label_values(&[reason]).get())
        .sum()
}

#[tokio::test]
async fn a_file_and_a_link_to_it_are_read_once_also_when_it_is_truncated() {
    for (yaml, is_closed) in [(LINKED, false), (CLOSED, true)] {
        let (folder, log) = folder();
        append(&log, "one\n");
        symlink("a.log", folder.path().join("b.log")).expect("linked");
        let mut running = start(folder.path(), yaml);
        assert_eq!(running.lines(1).await, one("a.log", &["one"]));
        for content in ["new\n", "newer, and longer than what stood there before\n"] {
            if is_closed {
                until_closed(&running).await;
            }
            fs::write(&log, content).expect("truncated and written");
            assert_eq!(running.lines(1).await, one("a.log", &[content.trim_end()]), "closed: {is_closed}");
        }
        assert_eq!(running.stop().await, all(&[]), "nothing twice");
        let offsets: Vec<_> = entries(folder.path()).iter().map(agent::StateEntry::offset).collect();
        assert_eq!(offsets, [47], "closed: {is_closed}");
    }
}

#[tokio::test]
async fn a_file_that_only_a_link_leads_to_is_read_from_its_start_when_it_is_truncated() {
    for (yaml, is_closed) in [(LINKED, false), (CLOSED, true)] {
        let (folder, link, target) = linked();
        let mut running = start(folder.path(), yaml);
        running.lines(1).await;
        if is_closed {
            until_closed(&running).await;
        }
        fs::write(&target, "new\n").expect("truncated and written");
        assert_eq!(running.lines(1).await, one("a.log", &["new"]), "closed: {is_closed}");
        lead(&link, "real/1.txt"); // The same link, made anew.
        append(&target, "more\n");
        assert_eq!(running.lines(1).await, one("a.log", &["more"]), "closed: {is_closed}");
        assert_eq!(running.stop().await, all(&[]), "nothing twice");
    }
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_followed_there_and_what_it_left_is_read_to_its_end() {
    for (yaml, is_closed) in [(LINKED, false), (CLOSED, true)] {
        let (folder, link, target) = linked();
        let mut running = start(folder.path(), yaml);
        running.lines(1).await;
        if is_closed {
            until_closed(&running).await;
        }
        append(&folder.path().join("real/2.txt"), "two\n");
        lead(&link, "real/2.txt");
        assert_eq!(running.lines(1).await, one("a.log", &["two"]), "closed: {is_closed}");
        append(&target, "late\n");
        assert_eq!(running.lines(1).await, one("a.log", &["late"]), "closed: {is_closed}");
        lead(&link, "real/1.txt"); // And back.
        append(&target, "later\n");
        assert_eq!(running.lines(1).await, one("a.log", &["later"]), "closed: {is_closed}");
        assert_eq!(lost(&running), 0);
        assert_eq!(running.stop().await, all(&[]), "nothing twice");
    }
}

#[tokio::test]
async fn the_target_of_a_link_that_is_removed_is_read_on_until_it_is_gone() {
    for (yaml, is_closed) in [(LINKED, false), (CLOSED, true)] {
        let (folder, link, target) = linked();
        let mut running = start(folder.path(), yaml);
        running.lines(1).await;
        if is_closed {
            until_closed(&running).await;
        }
        fs::remove_file(&link).expect("removed");
        running.until("not listed", |files| files.iter().all(|file| !file.is_listed)).await;
        append(&target, "two\n");
        assert_eq!(running.lines(1).await, one("a.log", &["two"]), "closed: {is_closed}");
        fs::remove_file(&target).expect("removed");
        running.until("let go", <[_]>::is_empty).await;
        assert_eq!(lost(&running), 0);
        running.stop().await;
        assert!(entries(folder.path()).is_empty());
    }
}

/// As the runtime of a container does it: the link has the container's name, and its target is rotated by rename.
#[tokio::test]
async fn a_target_that_is_rotated_behind_its_link_is_read_to_its_end_also_after_a_restart() {
    for is_stopped in [false, true] {
        let (folder, _, target) = linked();
        let mut running = start(folder.path(), CLOSED);
        running.lines(1).await;
        until_closed(&running).await;
        let rotate = || {
            append(&target, "last\n");
            fs::rename(&target, target.with_extension("txt.20261123")).expect("renamed");
            append(&target, "first\n");
        };
        if is_stopped {
            running.stop().await;
            rotate();
            running = start(folder.path(), CLOSED);
        } else {
            rotate();
        }
        let mut lines = running.lines(2).await.remove("a.log").unwrap_or_default();
        lines.sort();
        assert_eq!(lines, ["first", "last"], "stopped: {is_stopped}");
        assert_eq!(lost(&running), 0);
        assert_eq!(running.stop().await, all(&[]), "nothing twice");
    }
}

#[tokio::test]
async fn links_to_folders_are_entered_level_by_level_if_asked_and_a_file_is_read_once_by_many_ways() {
    let (folder, _) = folder();
    let at = folder.path();
    fs::create_dir_all(at.join("disk/shop/web")).expect("made");
    fs::create_dir(at.join("apps")).expect("made");
    append(&at.join("disk/shop/web/a.log"), "one\n");
    symlink("web", at.join("disk/shop/links-web")).expect("linked"); // A link in a linked folder …
    symlink("../disk/shop", at.join("disk/mid")).expect("linked");
    symlink("../disk/mid", at.join("apps/shop")).expect("linked"); // … that a link to a link leads to.
    symlink(at, at.join("apps/circle")).expect("linked");
    for (asked, paths) in
        [("true", "DIR/apps/*/*/*.log"), ("true", "DIR/apps/shop/links-*/*.log"), ("true", "DIR/apps/*/links-web/*")]
    {
        let id = paths.len();
        let yaml = format!("[{{id: i{id}, type: file, paths: ['{paths}'], scan_interval: 20ms, symlinks: {asked}}}]");
        let mut running = start(at, &yaml);
        assert_eq!(running.lines(1).await, one("a.log", &["one"]), "{paths}");
        running.until("read", |files| files.len() == 1 && files[0].lag_bytes == 0).await;
        assert_eq!(running.stop().await, all(&[]), "once: {paths}");
    }
    append(&at.join("apps/plain.log"), "plain\n");
    // Not asked for, and below `**` never: a link may lead in a circle.
    for (id, paths, asked) in [("no", "DIR/apps/*/*/*.log", "false"), ("any", "DIR/apps/**/a.log", "true")] {
        let yaml = format!(
            "[{{id: {id}, type: file, paths: ['{paths}', DIR/apps/plain.log], scan_interval: 20ms, symlinks: {asked}}}]"
        );
        let mut running = start(at, &yaml);
        assert_eq!(running.lines(1).await, one("plain.log", &["plain"]));
        assert_eq!(running.stop().await, all(&[]), "{paths}");
    }
}
