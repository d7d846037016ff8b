//! The calls of librdkafka that its Rust wrapper lacks, or makes another way: a header by its name, and a commit that is answered.
#![allow(unsafe_code)]

use rdkafka::TopicPartitionList;
use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{IsError as _, KafkaError};
use rdkafka::message::BorrowedHeaders;
use std::ffi::{CStr, c_void};
use std::ptr;

/// The last value of the header `name`. `None` if there is none, or it is null.
pub(crate) fn header<'m>(headers: &'m BorrowedHeaders, name: &CStr) -> Option<&'m [u8]> {
    let (mut start, mut bytes) = (ptr::null::<c_void>(), 0);
    // SAFETY: the wrapper's reference is the address of librdkafka's own list, which it lends for as long as the message
    // lives; the name ends with a zero byte.
    let error = unsafe {
        let list = ptr::from_ref(headers).cast::<native::rd_kafka_headers_t>();
        native::rd_kafka_header_get_last(list, name.as_ptr(), &raw mut start, &raw mut bytes)
    };
    if error.is_error() || start.is_null() {
        return None;
    }
    // SAFETY: librdkafka tells where the value lies and how long it is; it lives as long as the message.
    Some(unsafe { std::slice::from_raw_parts(start.cast(), bytes) })
}

/// Commits `offsets` of the client's group. The broker's answer comes to the context's `commit_callback` by one of the next polls.
///
/// The wrapper's own commit is answered to nobody: librdkafka tells its callback only, and the wrapper sets none, as it reads events.
pub(crate) fn commit<C: ClientContext>(client: &Client<C>, offsets: &TopicPartitionList) -> Result<(), KafkaError> {
    // SAFETY: the client's pointer is valid while `client` is borrowed. The queue is a handle of our own, null if the client takes
    // part in no group, which the commit then says; librdkafka copies the offsets and counts its own use of the queue, so that the
    // handle is given back once, right after.
    let error = unsafe {
        let client = client.native_ptr();
        let queue = native::rd_kafka_queue_get_consumer(client);
        if queue.is_null() {
            native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__UNKNOWN_GROUP
        } else {
            let error = native::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut());
            native::rd_kafka_queue_destroy(queue);
            error
        }
    };
    if error.is_error() { Err(KafkaError::ConsumerCommit(error.into())) } else { Ok(()) }
}
