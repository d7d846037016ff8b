//! The two clocks: wall time for what people and peers read, monotonic time for what is measured.
//!
//! The only callers of `Instant::now` and `SystemTime::now` (`.clippy.toml` bans them elsewhere), so that one place can be
//! looked at when a time is wrong. Rates and waits use monotonic time: the wall clock jumps.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The wall clock.
///
/// Unit: milliseconds since 1970-01-01T00:00:00Z, negative before.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn wall_ms() -> i64 {
    let whole = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => whole(since),
        Err(before) => -whole(before.duration()),
    }
}

/// The monotonic clock: never jumps, means nothing outside this process.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn monotonic() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_in_milliseconds_of_this_century() {
        let (y2020, y2100) = (1_577_836_800_000, 4_102_444_800_000);
        assert!((y2020..y2100).contains(&wall_ms()), "{}", wall_ms());
    }

    #[test]
    fn monotonic_time_does_not_go_back() {
        let first = monotonic();
        assert!(monotonic() >= first);
    }
}
