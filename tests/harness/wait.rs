//! Waiting for a condition, with a deadline; never for a fixed time.

use std::time::{Duration, Instant};

/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The time, for measuring.
pub fn now() -> Instant {
    service::clock::monotonic()
}

/// Waits until `look` gives a value and returns it with the time that took; `Err` says why not yet.
///
/// Panics at the deadline with `what` and the last reason.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> (T, Duration) {
    let begun = now();
    loop {
        match look() {
            Ok(value) => return (value, begun.elapsed()),
            Err(reason) if begun.elapsed() >= limit => panic!("{what}: not within {limit:?}: {reason}"),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Waits until `holds`, and tells whether it came to that before the deadline.
pub fn reached(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let begun = now();
    while !holds() {
        if begun.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}

/// Waits until `count` reaches `target`; how long that takes is not limited, but gives up when it has not grown for `stall`.
/// Returns the last count and the time that took.
pub fn grows_to(target: u64, stall: Duration, mut count: impl FnMut() -> Option<u64>) -> (u64, Duration) {
    let begun = now();
    let (mut last, mut grown) = (0, begun);
    loop {
        if let Some(now_is) = count().filter(|&now_is| now_is > last) {
            (last, grown) = (now_is, now());
        }
        if last >= target || grown.elapsed() >= stall {
            return (last, begun.elapsed());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// `Ok` if `holds`, else the reason for [`wait_for`].
pub fn met(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}

/// Watches for `span` that `holds` stays true, looking every 20 ms; for promises of the kind "nothing happens meanwhile".
#[track_caller]
pub fn stays(what: &str, span: Duration, mut holds: impl FnMut() -> Result<(), String>) {
    let begun = now();
    while begun.elapsed() < span {
        if let Err(reason) = holds() {
            panic!("{what}: broken after {:?}: {reason}", begun.elapsed());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_comes_as_soon_as_it_is_there() {
        let mut looks = 0;
        let (value, _) = wait_for("three looks", Duration::from_secs(5), || {
            looks += 1;
            if looks < 3 { Err(format!("{looks} looks")) } else { Ok(looks) }
        });
        assert_eq!(value, 3);
    }

    #[test]
    fn what_grows_is_waited_for_and_what_stalls_is_not() {
        let mut counts = 0..;
        assert_eq!(grows_to(4, Duration::from_secs(5), || counts.next()).0, 4);
        assert_eq!(grows_to(4, Duration::from_millis(1), || Some(3)).0, 3);
    }

    #[test]
    fn a_missed_deadline_names_what_and_why() {
        let missed = std::panic::catch_unwind(|| {
            wait_for::<()>("the moon", Duration::from_millis(1), || Err("still day".to_owned()));
        });
        let message = missed.expect_err("the deadline passes");
        let text = message.downcast_ref::<String>().expect("a text");
        assert!(text.contains("the moon") && text.contains("still day"), "{text}");
    }
}
