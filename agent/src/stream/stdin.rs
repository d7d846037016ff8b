//! Standard input → lines, until it ends. It cannot be read again: a fresh incarnation for each life, and no checkpoint.

use super::batch::{Batch, Mouth};
use super::frames::{Frames, Framing};
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes of one read.
const CHUNK_BYTES: usize = 128 * 1024;
/// Longest wait, after a stop, for what the thread has taken from the pipe and not yet handed over.
const LAST_CHUNK_WAIT: Duration = Duration::from_millis(100);

/// Reads until the end or a stop. A last line without a newline is a line.
pub(super) async fn run(line_bytes_max: usize, mouth: Mouth) {
    let (chunks_tx, mut chunks) = mpsc::channel(1);
    let ends = Arc::new(AtomicBool::new(false));
    let thread = {
        let ends = ends.clone();
        // A read cannot be broken off: the thread is left alone, and ends with the process if nothing comes any more.
        std::thread::Builder::new().name("stdin".into()).spawn(move || read(&chunks_tx, &ends))
    };
    if let Err(error) = thread {
        tracing::error!(%error, "no thread to read standard input with");
        return;
    }
    let mut frames = Frames::new(Framing::Newline, line_bytes_max);
    loop {
        let chunk = tokio::select! {
            chunk = chunks.recv() => chunk,
            () = mouth.stop.stopped() => {
                ends.store(true, Ordering::Release);
                tokio::time::timeout(LAST_CHUNK_WAIT, chunks.recv()).await.ok().flatten()
            }
        };
        let mut batch = Batch::default();
        let mut add = |frame: super::frames::Frame<'_>| batch.push(frame.text, None, None, frame.bytes, frame.cut);
        match &chunk {
            Some(chunk) => frames.push(chunk, &mut add),
            None => frames.finish(&mut add),
        }
        if !mouth.ship(batch).await || chunk.is_none() {
            return;
        }
    }
}

fn read(chunks: &mpsc::Sender<Vec<u8>>, ends: &AtomicBool) {
    let mut stdin = std::io::stdin().lock();
    let mut buffer = vec![0; CHUNK_BYTES];
    while !ends.load(Ordering::Acquire) {
        match stdin.read(&mut buffer) {
            Ok(0) => return,
            Ok(bytes) => {
                if chunks.blocking_send(buffer[..bytes].to_vec()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::error!(%error, "standard input cannot be read, taken for its end");
                return;
            }
        }
    }
}
