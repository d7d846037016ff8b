//! Field paths.
#![allow(missing_docs)]
#[derive(Debug)]
pub struct FieldPath;
