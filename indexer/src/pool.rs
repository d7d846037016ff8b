//! Buffers that come back: what was one bulk body or one parcel is the next one, with its memory already paged in.
//!
//! A fresh buffer of megabytes costs a page fault and a cleared page for every 4 KiB of it, more than writing the
//! documents into it does.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that wait for their next use. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub struct Pool {
    shelf: Arc<Shelf>,
}

#[derive(Debug)]
struct Shelf {
    free: Mutex<Free>,
    kept_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Pool {
    /// A pool that keeps buffers of up to `kept_bytes_max` bytes in all; what comes back beyond that is freed.
    pub fn new(kept_bytes_max: usize) -> Self {
        Self { shelf: Arc::new(Shelf { free: Mutex::default(), kept_bytes_max }) }
    }

    /// An empty buffer: the one that came back last, which the processor's cache still knows best; else a new one with
    /// room for `capacity` bytes, whose pages cost nothing before they are written to.
    pub fn take(&self, capacity: usize) -> Vec<u8> {
        let mut free = self.shelf.free.lock().unwrap_or_else(PoisonError::into_inner);
        match free.buffers.pop() {
            Some(buffer) => {
                free.bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(capacity),
        }
    }

    /// Takes `buffer` back for its next use; its content is forgotten.
    pub fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut free = self.shelf.free.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.capacity() > 0 && free.bytes + buffer.capacity() <= self.shelf.kept_bytes_max {
            free.bytes += buffer.capacity();
            free.buffers.push(buffer);
        }
    }

    /// The content of `buffer`, which comes back here when the last view of it is gone.
    pub fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, pool: self.clone() })
    }
}

/// A buffer that others read.
struct Lent {
    buffer: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(buffer: &[u8]) -> *const u8 {
        buffer.as_ptr()
    }

    #[test]
    fn a_lent_buffer_comes_back_with_its_last_view() {
        let pool = Pool::new(1024);
        let mut buffer = pool.take(100);
        buffer.extend_from_slice(b"documents");
        let place = at(&buffer);
        let whole = pool.lend(buffer);
        let part = whole.slice(2..5);
        drop(whole);
        assert_eq!(part.as_ref(), b"cum");
        assert_ne!(at(&pool.take(100)), place, "a view of it is still there");
        drop(part);
        let again = pool.take(100);
        assert_eq!((at(&again), again.len()), (place, 0));
    }

    #[test]
    fn no_more_is_kept_than_was_allowed() {
        let pool = Pool::new(250);
        let buffers: Vec<_> = (0..4).map(|_| pool.take(100)).collect();
        buffers.into_iter().for_each(|buffer| pool.give(buffer));
        let kept = |pool: &Pool| pool.shelf.free.lock().expect("nothing panicked").buffers.len();
        assert_eq!(kept(&pool), 2);
        pool.give(Vec::with_capacity(1000));
        pool.give(Vec::new());
        assert_eq!(kept(&pool), 2);
        drop(pool.take(1));
        assert_eq!((kept(&pool), pool.shelf.free.lock().expect("nothing panicked").bytes), (1, 100));
    }
}
