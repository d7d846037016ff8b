//! The calls of librdkafka that its Rust wrapper lacks: producing many records at once, with headers or without, and their
//! reports.
//!
//! Payloads are not copied: a batch owns them and lives until the last of its delivery reports has come.
#![allow(unsafe_code)]

use crate::encode::Headers;
use crate::token::Token;
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

/// A topic of one client. It must not outlive the client: [`crate::produce`] keeps both in one struct, this one first.
#[derive(Debug)]
pub(crate) struct Topic {
    topic: *mut native::rd_kafka_topic_t,
    client: *mut native::rd_kafka_t,
}

// SAFETY: librdkafka's topic and client handles may be used from any thread (rdkafka.h, "librdkafka is thread safe").
unsafe impl Send for Topic {}

impl Topic {
    /// Errors: a name with a NUL byte, or librdkafka's own reason.
    pub(crate) fn new<C: ClientContext>(client: &Client<C>, name: &str) -> anyhow::Result<Self> {
        let c_name = CString::new(name)?;
        // SAFETY: the client's pointer is valid while `client` is borrowed; the name is copied by the call; a null
        // configuration means the client's default.
        let client = client.native_ptr();
        let topic = unsafe { native::rd_kafka_topic_new(client, c_name.as_ptr(), ptr::null_mut()) };
        anyhow::ensure!(!topic.is_null(), "librdkafka refuses topic {name:?}");
        Ok(Self { topic, client })
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_topic_new`, destroyed once.
        unsafe { native::rd_kafka_topic_destroy(self.topic) };
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

/// Gives `client` a token to log in with.
///
/// Errors: librdkafka's own reason, which never holds the token.
pub(crate) fn set_token<C: ClientContext>(client: &Client<C>, token: &Token) -> anyhow::Result<()> {
    let (text, principal) = (CString::new(token.text.expose())?, CString::new(token.principal.as_str())?);
    let mut reason = [0; 256];
    // SAFETY: the client's pointer is valid while `client` is borrowed; texts are copied by the call and end with a zero byte,
    // and so does the reason that it writes, of at most the given length.
    let code = unsafe {
        native::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            text.as_ptr(),
            token.expires_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            reason.as_mut_ptr(),
            reason.len(),
        )
    };
    let code: RDKafkaErrorCode = code.into();
    if code != RDKafkaErrorCode::NoError {
        let reason: Vec<u8> = reason.iter().map(|c| c.cast_unsigned()).take_while(|byte| *byte != 0).collect();
        anyhow::bail!("kafka.oauth_token: {code}: {}", String::from_utf8_lossy(&reason));
    }
    Ok(())
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

/// Keys of records that are handed over together. An empty one is none.
#[derive(Debug)]
pub(crate) enum Keys {
    /// All have the same.
    One(Box<[u8]>),
    /// Each its own: a range of the text.
    Each(Vec<u8>, Vec<Range<u32>>),
}

impl Keys {
    /// Key of the record at `place`.
    pub(crate) fn of(&self, place: usize) -> &[u8] {
        match self {
            Self::One(key) => key,
            Self::Each(text, ranges) => &text[ranges[place].start as usize..ranges[place].end as usize],
        }
    }

    /// What they take of a request, with `records` records.
    pub(crate) fn bytes(&self, records: usize) -> usize {
        match self {
            Self::One(key) => key.len() * records,
            Self::Each(text, _) => text.len(),
        }
    }
}

/// Records that are handed over together: their keys, payloads and headers.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) keys: Keys,
    /// What `spans` refer to.
    pub(crate) payloads: Bytes,
    /// One a record, in order.
    pub(crate) spans: Vec<Range<u32>>,
    pub(crate) headers: Headers,
}

/// Hands `records` over to librdkafka for `partition`, in order.
///
/// Every record gets a report, which carries the returned batch's address to [`report`]; a record that librdkafka did
/// not take is reported right here. Returns the batch if that was its last report.
pub(crate) fn produce<T: Send>(
    topic: &Topic,
    partition: i32,
    records: Records,
    owed: T,
    scratch: &mut Scratch,
) -> Option<Finished<T>> {
    let Records { keys, payloads, spans, headers } = records;
    assert!(!spans.is_empty(), "a batch without records would never be reported");
    let base = payloads.as_ptr();
    let open = AtomicUsize::new(spans.len());
    let batch = Box::into_raw(Box::new(Batch { _payloads: payloads, owed, open, failure: OnceLock::new() }));
    scratch.0.extend(spans.iter().enumerate().map(|(place, span)| {
        let key = keys.of(place);
        native::rd_kafka_message_t {
            err: native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: topic.topic,
            partition,
            // SAFETY: spans lie in `payloads`, whose bytes do not move while the batch owns them.
            payload: unsafe { base.add(span.start as usize) }.cast_mut().cast::<c_void>(),
            len: (span.end - span.start) as usize,
            key: if key.is_empty() { ptr::null_mut() } else { key.as_ptr().cast_mut().cast() },
            key_len: key.len(),
            offset: 0,
            _private: batch.cast(),
        }
    }));
    if headers.is_empty() {
        let count = i32::try_from(scratch.0.len()).expect("a group has fewer than 2^31 records");
        // SAFETY: the topic is alive; the array has `count` messages; without RD_KAFKA_MSG_F_COPY or _FREE payloads are only
        // read, and only until their report; keys are copied by the call.
        unsafe {
            native::rd_kafka_produce_batch(topic.topic, partition, 0, scratch.0.as_mut_ptr(), count);
        }
    } else {
        for (message, headers) in scratch.0.iter_mut().zip(headers.of_each(spans.len())) {
            message.err = produce_one(topic.client, message, headers);
        }
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

/// Hands over one message with `headers`, as [`produce`] describes it.
fn produce_one<'h>(
    client: *mut native::rd_kafka_t,
    message: &native::rd_kafka_message_t,
    headers: impl Iterator<Item = (&'h str, &'h [u8])> + Clone,
) -> native::rd_kafka_resp_err_t {
    type Union = native::rd_kafka_vu_s__bindgen_ty_1;
    use native::rd_kafka_vtype_t as vtype;
    let no_error = native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    // SAFETY: a new list; names and values are copied by the calls, their lengths are given.
    let list = unsafe {
        let list = native::rd_kafka_headers_new(headers.clone().count());
        for (name, value) in headers {
            let (name_bytes, value_bytes) = (name.len() as isize, value.len() as isize); // Of memory: below 2^63.
            native::rd_kafka_header_add(list, name.as_ptr().cast(), name_bytes, value.as_ptr().cast(), value_bytes);
        }
        list
    };
    let memory = |ptr, size| Union { mem: native::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size } };
    let arguments = [
        (vtype::RD_KAFKA_VTYPE_RKT, Union { rkt: message.rkt }),
        (vtype::RD_KAFKA_VTYPE_PARTITION, Union { i32_: message.partition }),
        (vtype::RD_KAFKA_VTYPE_MSGFLAGS, Union { i: 0 }),
        (vtype::RD_KAFKA_VTYPE_VALUE, memory(message.payload, message.len)),
        (vtype::RD_KAFKA_VTYPE_KEY, memory(message.key, message.key_len)),
        (vtype::RD_KAFKA_VTYPE_OPAQUE, Union { ptr: message._private }),
        (vtype::RD_KAFKA_VTYPE_HEADERS, Union { headers: list }),
    ]
    .map(|(vtype, u)| native::rd_kafka_vu_t { vtype, u });
    // SAFETY: the client and its topic are alive; each union has the member that its type says; payload and key as in
    // `produce`; the list is the message's from here on, unless the call fails: then it is still ours to destroy.
    unsafe {
        let error = native::rd_kafka_produceva(client, arguments.as_ptr(), arguments.len());
        if error.is_null() {
            return no_error;
        }
        let code = native::rd_kafka_error_code(error);
        native::rd_kafka_error_destroy(error);
        native::rd_kafka_headers_destroy(list);
        code
    }
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

/// All error codes that librdkafka has a name for.
#[cfg(test)]
pub(crate) fn all_codes() -> Vec<RDKafkaErrorCode> {
    let (mut descriptions, mut count) = (ptr::null(), 0);
    // SAFETY: the call fills in an array that is a constant of the library, and its length.
    let all = unsafe {
        native::rd_kafka_get_err_descs(&raw mut descriptions, &raw mut count);
        std::slice::from_raw_parts(descriptions, count)
    };
    // Gaps between the codes have no name, and two names mark where the library's own codes begin and end.
    let named = all.iter().filter(|known| !known.name.is_null()).map(|known| known.code.into());
    named.filter(|code| !matches!(code, RDKafkaErrorCode::Begin | RDKafkaErrorCode::End)).collect()
}
