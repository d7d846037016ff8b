//! A log → when its lines were written: by the times in them, or by watching it grow.

use super::stamp::Stamps;
use anyhow::{Context as _, bail};
use service::clock::{monotonic, wall_ms};
use shipper::limit::Arrival;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lines of one time are taken together up to so many bytes.
const ARRIVAL_BYTES_MAX: u64 = 64 * 1024;
/// How often a growing file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// By the times in the lines. A line without one was written with the one before it; the order is that of the file.
///
/// Errors: it cannot be read, or no line has a time.
pub(super) fn of_lines(log: &Path, mut stamps: Stamps) -> anyhow::Result<Vec<Arrival>> {
    let file = File::open(log).with_context(|| format!("{} cannot be opened", log.display()))?;
    let (mut lines, mut line, mut arrivals) = (BufReader::with_capacity(1 << 20, file), Vec::new(), Vec::new());
    let (mut time, mut before_first) = (None::<i64>, Arrival { wall_ms: 0, events: 0, bytes: 0 });
    loop {
        line.clear();
        let bytes = lines.read_until(b'\n', &mut line).with_context(|| format!("reading {}", log.display()))? as u64;
        if bytes == 0 {
            break;
        }
        if let Some(found) = stamps.find(&line) {
            time = Some(time.map_or(found, |before| before.max(found)));
        }
        match time {
            Some(wall_ms) => add(&mut arrivals, Arrival { wall_ms, events: 1, bytes }),
            None => {
                before_first.events += 1;
                before_first.bytes += bytes;
            }
        }
    }
    let Some(first) = arrivals.first().map(|first: &Arrival| first.wall_ms) else {
        bail!(
            "{}: no line has a time that is known: give its form with --time-format, or watch the file with --growth",
            log.display()
        );
    };
    if before_first.events > 0 {
        arrivals.insert(0, Arrival { wall_ms: first, ..before_first });
    }
    Ok(arrivals)
}

/// As the files grow from now on, for `time`. Errors: one cannot be read.
pub(super) fn of_growth(logs: &[PathBuf], time: Duration) -> anyhow::Result<Vec<Vec<Arrival>>> {
    let end = monotonic() + time;
    let mut files = Vec::new();
    for log in logs {
        let mut file = File::open(log).with_context(|| format!("{} cannot be opened", log.display()))?;
        file.seek(SeekFrom::End(0)).with_context(|| format!("reading {}", log.display()))?;
        files.push(file);
    }
    let mut arrivals = vec![Vec::new(); logs.len()];
    let mut chunk = vec![0; 1 << 16];
    while monotonic() < end {
        std::thread::sleep(LOOK_EVERY.min(end.saturating_duration_since(monotonic())));
        let wall_ms = wall_ms();
        for ((file, arrivals), log) in files.iter_mut().zip(&mut arrivals).zip(logs) {
            loop {
                let read = file.read(&mut chunk).with_context(|| format!("reading {}", log.display()))?;
                if read == 0 {
                    break;
                }
                let events = chunk[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
                add(arrivals, Arrival { wall_ms, events, bytes: read as u64 });
            }
        }
    }
    if arrivals.iter().all(Vec::is_empty) {
        bail!("nothing was written within {time:?}: watch it for longer, or leave --growth out");
    }
    Ok(arrivals)
}

fn add(arrivals: &mut Vec<Arrival>, next: Arrival) {
    match arrivals.last_mut() {
        Some(last) if last.wall_ms == next.wall_ms && last.bytes + next.bytes <= ARRIVAL_BYTES_MAX => {
            last.events += next.events;
            last.bytes += next.bytes;
        }
        _ => arrivals.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn stamps() -> Stamps {
        Stamps::new(None, Some("UTC")).expect("a zone")
    }

    #[test]
    fn lines_without_a_time_belong_to_those_before_them_and_time_does_not_go_back() {
        let mut log = tempfile::NamedTempFile::new().expect("a file");
        let text = "no time yet\n2026-11-22T00:00:02Z a\n  b\n2026-11-22T00:00:01Z c\n2026-11-22T00:00:03Z d";
        log.write_all(text.as_bytes()).expect("written");
        let arrivals = of_lines(log.path(), stamps()).expect("times");
        let first = arrivals[0].wall_ms;
        let told: Vec<_> = arrivals.iter().map(|one| (one.wall_ms - first, one.events, one.bytes)).collect();
        assert_eq!(told, [(0, 1, 12), (0, 3, 50), (1_000, 1, 22)]);
    }

    #[test]
    fn a_log_without_times_says_what_to_do() {
        let mut log = tempfile::NamedTempFile::new().expect("a file");
        log.write_all(b"a\nb\n").expect("written");
        let error = of_lines(log.path(), stamps()).expect_err("is refused").to_string();
        assert!(error.contains("--time-format") && error.contains("--growth"), "{error}");
    }

    #[test]
    fn a_growing_log_is_watched() {
        let mut log = tempfile::NamedTempFile::new().expect("a file");
        log.write_all(b"before\n").expect("written");
        let (path, mut writer) = (log.path().to_owned(), log.reopen().expect("opens"));
        writer.seek(SeekFrom::End(0)).expect("at the end");
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let writing = std::thread::spawn(move || {
            // Until the watcher has seen enough: it says so by going away.
            while is_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                writer.write_all(b"line\n").expect("written");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let arrivals = of_growth(&[path], Duration::from_millis(700));
        drop(done);
        writing.join().expect("ends");
        let arrivals = arrivals.expect("it grew");
        let (events, bytes) = arrivals[0].iter().fold((0, 0), |sum, one| (sum.0 + one.events, sum.1 + one.bytes));
        assert!(events > 0 && bytes == events * 5, "{arrivals:?}");
        assert!(arrivals[0].windows(2).all(|two| two[0].wall_ms <= two[1].wall_ms));
    }
}
