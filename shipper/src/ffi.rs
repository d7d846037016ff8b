//! The calls of librdkafka that its Rust wrapper lacks: producing many records at once, and their reports.
//!
//! Payloads are not copied: a batch owns them and lives until the last of its delivery reports has come.
#![allow(unsafe_code)]

use bytes::Bytes;
use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use std::ffi::{CString, c_void};
use std::ops::Range;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;

/// `RD_KAFKA_PARTITION_UA`: the partitioner chooses.
const PARTITION_UNASSIGNED: i32 = -1;

/// A topic of one client. It must not outlive the client: [`crate::produce`] keeps both in one struct, this one first.
#[derive(Debug)]
pub(crate) struct Topic(*mut native::rd_kafka_topic_t);

// SAFETY: librdkafka's topic handles may be used from any thread (rdkafka.h, "librdkafka is thread safe").
unsafe impl Send for Topic {}

impl Topic {
    /// Errors: a name with a NUL byte, or librdkafka's own reason.
    pub(crate) fn new<C: ClientContext>(client: &Client<C>, name: &str) -> anyhow::Result<Self> {
        let c_name = CString::new(name)?;
        // SAFETY: the client's pointer is valid while `client` is borrowed; the name is copied by the call; a null
        // configuration means the client's default.
        let topic = unsafe { native::rd_kafka_topic_new(client.native_ptr(), c_name.as_ptr(), ptr::null_mut()) };
        anyhow::ensure!(!topic.is_null(), "librdkafka refuses topic {name:?}");
        Ok(Self(topic))
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_topic_new`, destroyed once.
        unsafe { native::rd_kafka_topic_destroy(self.0) };
    }
}

/// A client's queue of events, which wakes a thread when it is no longer empty.
#[derive(Debug)]
pub(crate) struct Events {
    queue: *mut native::rd_kafka_queue_t,
    _thread: Box<Thread>,
}

// SAFETY: librdkafka's queues may be used from any thread; `Thread` is `Send`.
unsafe impl Send for Events {}

impl Events {
    /// Wakes the calling thread (see [`std::thread::park`]) whenever an event comes into the empty queue of `client`,
    /// which must outlive the result.
    pub(crate) fn wake_me<C: ClientContext>(client: &Client<C>) -> Self {
        extern "C" fn wake(_client: *mut native::rd_kafka_t, thread: *mut c_void) {
            // SAFETY: the box that `wake_me` registers, which lives until the callback is taken away in `drop`.
            unsafe { &*thread.cast::<Thread>() }.unpark();
        }
        let thread = Box::new(std::thread::current());
        // SAFETY: the client's pointer is valid while `client` is borrowed; the queue is a reference of our own.
        let queue = unsafe { native::rd_kafka_queue_get_main(client.native_ptr()) };
        let opaque = ptr::from_ref::<Thread>(&thread).cast_mut().cast::<c_void>();
        // SAFETY: the queue is alive; the boxed thread does not move and outlives the registration.
        unsafe { native::rd_kafka_queue_cb_event_enable(queue, Some(wake), opaque) };
        Self { queue, _thread: thread }
    }

    pub(crate) fn is_empty(&self) -> bool {
        // SAFETY: the queue is alive until `drop`.
        unsafe { native::rd_kafka_queue_length(self.queue) == 0 }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // SAFETY: the queue is alive; after the first call the callback no longer runs, so the thread's box may go.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            native::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// What is owed for records that were handed over together, and where their bytes lie.
struct Batch<T> {
    _payloads: Bytes,
    owed: T,
    /// Reports that have not come.
    open: AtomicUsize,
    /// The first failed report.
    failure: OnceLock<RDKafkaErrorCode>,
}

/// The end of a batch: every report has come.
#[derive(Debug)]
pub(crate) struct Finished<T> {
    pub(crate) owed: T,
    /// Why, if any record was not delivered.
    pub(crate) failure: Option<RDKafkaErrorCode>,
}

/// Messages of one call, kept to spare allocations.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Vec<native::rd_kafka_message_t>);

// SAFETY: between calls the vector is empty, so no pointer goes to another thread.
unsafe impl Send for Scratch {}

/// Hands `spans` of `payloads` over to librdkafka, all with `key`, in order.
///
/// Every record gets a report, which carries the returned batch's address to [`report`]; a record that librdkafka did
/// not take is reported right here. Returns the batch if that was its last report.
pub(crate) fn produce<T: Send>(
    topic: &Topic,
    key: &[u8],
    payloads: Bytes,
    spans: &[Range<u32>],
    owed: T,
    scratch: &mut Scratch,
) -> Option<Finished<T>> {
    assert!(!spans.is_empty(), "a batch without records would never be reported");
    let base = payloads.as_ptr();
    let open = AtomicUsize::new(spans.len());
    let batch = Box::into_raw(Box::new(Batch { _payloads: payloads, owed, open, failure: OnceLock::new() }));
    scratch.0.extend(spans.iter().map(|span| native::rd_kafka_message_t {
        err: native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
        rkt: ptr::null_mut(),
        partition: PARTITION_UNASSIGNED,
        // SAFETY: spans lie in `payloads`, whose bytes do not move while the batch owns them.
        payload: unsafe { base.add(span.start as usize) }.cast_mut().cast::<c_void>(),
        len: (span.end - span.start) as usize,
        key: key.as_ptr().cast_mut().cast(),
        key_len: key.len(),
        offset: 0,
        _private: batch.cast(),
    }));
    let count = i32::try_from(scratch.0.len()).expect("a group has fewer than 2^31 records");
    // SAFETY: the topic is alive; the array has `count` messages; without RD_KAFKA_MSG_F_COPY or _FREE payloads are only
    // read, and only until their report; keys are copied by the call.
    unsafe {
        native::rd_kafka_produce_batch(topic.0, PARTITION_UNASSIGNED, 0, scratch.0.as_mut_ptr(), count);
    }
    let mut finished = None;
    for message in scratch.0.drain(..) {
        if message.err != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            // It was not taken, so this report is the only one it gets.
            finished = report::<T>(batch as usize, Some(message.err.into())).or(finished);
        }
    }
    finished
}

/// Takes one delivery report of the batch at `address`; `T` is that of the [`produce`] call. Returns the batch with its
/// last report.
pub(crate) fn report<T>(address: usize, failure: Option<RDKafkaErrorCode>) -> Option<Finished<T>> {
    let batch = address as *mut Batch<T>;
    // SAFETY: `address` comes from `produce` of the same `T`, and each of a batch's records is reported once: the batch
    // lives until `open` reaches zero, below.
    let shared = unsafe { &*batch };
    if let Some(code) = failure {
        shared.failure.get_or_init(|| code);
    }
    if shared.open.fetch_sub(1, Ordering::AcqRel) > 1 {
        return None;
    }
    // SAFETY: this was the last report, nobody else has the address; it came from `Box::into_raw`.
    let Batch { owed, failure, .. } = *unsafe { Box::from_raw(batch) };
    Some(Finished { owed, failure: failure.into_inner() })
}
