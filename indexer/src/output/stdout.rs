//! Copies → lines on standard output. The program's own log goes to standard error.

use super::{Copies, Copy, Writing, all_or_none, lines};
use std::io::Write as _;

/// Standard output.
#[derive(Debug)]
pub struct Stdout;

impl Copies for Stdout {
    fn part(&self) -> &'static str {
        "stdout"
    }

    fn write<'c>(&'c self, copies: &'c [Copy<'c>]) -> Writing<'c> {
        Box::pin(async move {
            let text = lines(copies);
            // A reader may be slow, and these threads serve requests.
            let written = tokio::task::spawn_blocking(move || {
                let mut out = std::io::stdout().lock();
                out.write_all(&text).and_then(|()| out.flush())
            });
            let written = written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            all_or_none(copies.len(), written, || "standard output".to_owned())
        })
    }
}
