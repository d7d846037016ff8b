//! Steps that the work on documents takes: bytes and members looked at. Tests of linear time compare them, since the
//! clock of a busy machine tells nothing. They are counted in builds with debug assertions only.

use std::cell::Cell;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

/// Counts `steps` of this thread.
#[inline]
pub fn count(steps: usize) {
    if cfg!(debug_assertions) {
        TAKEN.with(|taken| taken.set(taken.get().wrapping_add(steps as u64)));
    }
}

/// Steps that this thread has taken so far; `None` where they are not counted.
pub fn taken() -> Option<u64> {
    cfg!(debug_assertions).then(|| TAKEN.with(Cell::get))
}
