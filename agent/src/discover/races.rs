//! Scans of folders in which much happens at once, and of very many files. Tests only.

use super::scan;
use crate::config::FileInput;
use crate::identity::Inode;
use service::clock::monotonic;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn inputs(folder: &Path) -> Arc<Vec<FileInput>> {
    Arc::new(crate::config::files_of(&format!("[{{id: a, type: file, paths: ['{}/**/*.log']}}]", folder.display())))
}

/// Makes, renames and removes files and folders until told to end.
fn churn(folder: PathBuf, end: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut rounds = 0;
        fs::create_dir_all(&folder).expect("made");
        while !end.load(Ordering::Relaxed) {
            let (sub, path) = (folder.join("sub"), folder.join("sub/new.log"));
            fs::create_dir(&sub).expect("made");
            fs::write(&path, "x\n").expect("written");
            fs::rename(&path, folder.join("renamed.log")).expect("renamed");
            fs::remove_dir(&sub).expect("removed");
            fs::remove_file(folder.join("renamed.log")).expect("removed");
            rounds += 1;
        }
        rounds
    })
}

#[test]
fn files_that_stay_are_in_every_scan_while_others_come_and_go() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stay: BTreeMap<_, _> = (0..300)
        .map(|n| {
            let path = folder.path().join(format!("{}/stay-{n}.log", n % 3));
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(&path, "x\n").expect("written");
            let inode = Inode::of(&fs::metadata(&path).expect("there"));
            (path, inode)
        })
        .collect();
    let (inputs, end) = (inputs(folder.path()), Arc::new(AtomicBool::new(false)));
    let churns: Vec<_> = (0..3).map(|n| churn(folder.path().join(n.to_string()), end.clone())).collect();
    for _ in 0..200 {
        let mut listing = scan(&inputs);
        listing.files.retain(|seen| stay.contains_key(&seen.path));
        let found: BTreeMap<_, _> = listing.files.into_iter().map(|seen| (seen.path, seen.inode)).collect();
        assert!(found == stay, "{} of {} found", found.len(), stay.len());
    }
    end.store(true, Ordering::Relaxed);
    let rounds: Vec<_> = churns.into_iter().map(|churn| churn.join().expect("ends")).collect();
    assert!(rounds.iter().all(|rounds| *rounds > 0), "they were at work: {rounds:?}");
}

#[test]
fn the_time_of_a_scan_grows_with_the_files_and_not_with_their_square() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for n in 0..20_000 {
        fs::write(folder.path().join(format!("{n}.log")), "x\n").expect("written");
    }
    let inputs = inputs(folder.path());
    let begun = monotonic();
    let listing = scan(&inputs);
    let took = begun.elapsed();
    eprintln!("figures scan: {} files in {took:?}", listing.files.len());
    assert_eq!(listing.files.len(), 20_000);
    assert!(took < Duration::from_secs(5), "{took:?}"); // A fiftieth of it is usual; the square would take minutes.
}
