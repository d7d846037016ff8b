//! Named points in the code at which a test ends the process, as SIGKILL would.
//!
//! Only with the cargo feature `failpoints`; a release build has empty functions here. The environment variable FAILPOINTS
//! says where: `agent::checkpoint=3*off->1*return` passes three times and aborts at the fourth. Several are separated by `;`.
//! The grammar is that of the crate `fail`; its `sleep(ms)` is of use too, to widen a window between two steps.

/// The environment variable that says where to fail.
pub const VARIABLE: &str = "FAILPOINTS";

/// Arms the points that FAILPOINTS names. Call it once, first thing in `main`.
///
/// Errors: a malformed action; or FAILPOINTS is set and this build has no failpoints, for then a kill test would pass
/// without having killed anything.
#[cfg(feature = "failpoints")]
pub fn setup() -> anyhow::Result<()> {
    arm(&std::env::var(VARIABLE).unwrap_or_default())
}

/// Refuses to start if failpoints are asked for: this build has none.
///
/// Errors: FAILPOINTS is set; a kill test would pass without having killed anything.
#[cfg(not(feature = "failpoints"))]
pub fn setup() -> anyhow::Result<()> {
    anyhow::ensure!(
        std::env::var_os(VARIABLE).is_none_or(|value| value.is_empty()),
        "{VARIABLE} is set, but this build has no failpoints: unset it, or build with `--features failpoints`"
    );
    Ok(())
}

/// Aborts the process here if FAILPOINTS says so: no destructor runs, no buffer is flushed, nothing is committed.
#[cfg(feature = "failpoints")]
pub fn hit(name: &'static str) {
    let fired = || {
        fail::fail_point!(name, |_| true);
        false
    };
    if fired() {
        eprintln!("failpoint {name}: aborting");
        std::process::abort();
    }
}

/// Does nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_name: &'static str) {}

#[cfg(feature = "failpoints")]
fn arm(points: &str) -> anyhow::Result<()> {
    for point in points.split(';').map(str::trim).filter(|point| !point.is_empty()) {
        let armed = match point.split_once('=') {
            Some((name, actions)) => fail::cfg(name.trim(), actions.trim()),
            None => Err("there is no `=`".to_owned()),
        };
        armed.map_err(|why| anyhow::anyhow!("{VARIABLE}: `{point}`: {why}; write `name=3*off->1*return`"))?;
    }
    Ok(())
}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Command};

    use super::*;

    /// The test binary runs itself, as the abort must end a process of its own.
    fn passes_before_abort(points: &str) -> (Option<i32>, usize) {
        let myself = std::env::current_exe().expect("the test binary has a path");
        let child = Command::new(myself)
            .args(["--exact", "failpoint::tests::child", "--nocapture"])
            .env("TAILRACE_FAILPOINT_CHILD", "1")
            .env(VARIABLE, points)
            .output()
            .expect("the test binary starts");
        let output = String::from_utf8_lossy(&child.stderr).into_owned();
        (child.status.signal(), output.matches("passed;").count())
    }

    #[test]
    fn child() {
        if std::env::var_os("TAILRACE_FAILPOINT_CHILD").is_some() {
            setup().expect("the points are well formed");
            for _ in 0..5 {
                hit("here");
                eprintln!("passed;"); // Standard output is buffered, and an abort flushes nothing.
            }
        }
    }

    #[test]
    fn the_process_aborts_where_and_when_it_was_told_to() {
        const SIGABRT: Option<i32> = Some(6);
        assert_eq!(passes_before_abort("here=3*off->1*return"), (SIGABRT, 3));
        assert_eq!(passes_before_abort("there=return; here=return"), (SIGABRT, 0));
        assert_eq!(passes_before_abort("there=return"), (None, 5));
        assert_eq!(passes_before_abort(""), (None, 5));
    }

    #[test]
    fn a_malformed_point_is_told() {
        let told = |points: &str| arm(points).expect_err("malformed").to_string();
        assert!(told("here").contains("`here`: there is no `=`"), "{}", told("here"));
        assert!(told("a=off;b=explode").contains("`b=explode`"), "{}", told("a=off;b=explode"));
    }
}

#[cfg(all(test, not(feature = "failpoints")))]
mod tests {
    #[test]
    fn without_the_feature_a_point_is_nothing() {
        super::hit("anywhere");
        assert!(super::setup().is_ok(), "tests run without FAILPOINTS");
    }
}
