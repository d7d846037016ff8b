//! The document a pipeline works on.
#![allow(missing_docs)]
#[derive(Debug, Default)]
pub struct Metadata;
#[derive(Debug, Default)]
pub struct Object;
#[derive(Debug)]
pub enum Value {
    Null,
}
#[derive(Debug, Default)]
pub struct Event {
    pub source: Object,
    pub metadata: Metadata,
}
