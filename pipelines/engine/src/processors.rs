//! The processors, one file each: its options as written become a [`crate::Step`].

pub(crate) mod convert;
pub(crate) mod date;
pub(crate) mod grok;
pub(crate) mod json;
pub(crate) mod lowercase;
pub(crate) mod remove;
pub(crate) mod rename;
pub(crate) mod set;
