//! What the C library is told at the start.
#![allow(unsafe_code)]

/// Keeps up to this much of freed memory at the top of a heap, in bytes.
#[cfg(target_env = "gnu")]
const TRIM_THRESHOLD: libc::c_int = 8 << 20;
/// Allocations from here on, in bytes, are mapped one by one. Well above a request to Kafka.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD: libc::c_int = 4 << 20;

/// Has freed memory kept for the next request to Kafka.
///
/// By default glibc gives it back to the kernel whenever what lies at the top of a heap is free, and librdkafka frees a request's
/// buffers of a megabyte or two each time: 250,000 page faults for 2,000,000 lines, and half as much processor time again, in
/// some runs and not in others (`make bench-limits` tells).
pub(crate) fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: two settings with values in their range, made before threads of ours begin; a refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
    }
}
