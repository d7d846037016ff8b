//! Why a step could not do its work: the type and text that Elasticsearch's ingest node would give.

use event::path::PathError;
use std::fmt;

/// Type name of most failures: what Elasticsearch calls Java's `IllegalArgumentException`.
pub const ILLEGAL_ARGUMENT: &str = "illegal_argument_exception";
/// Type name of a text that is no number.
pub const NUMBER_FORMAT: &str = "number_format_exception";

/// Type name of values of another class, which Java does not take for it.
pub const CLASS_CAST: &str = "class_cast_exception";
/// Type name of a null where Java wants an object.
pub const NULL_POINTER: &str = "null_pointer_exception";

/// What went wrong in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Elasticsearch's type name.
    pub kind: &'static str,
    /// Elasticsearch's text.
    pub reason: String,
    /// Text of the innermost cause, where it is another: `_ingest.on_failure_message` shows that one.
    pub cause: Option<Box<str>>,
}

impl Problem {
    /// An [`ILLEGAL_ARGUMENT`] without a deeper cause. Boxed: failures are rare, results are many.
    pub fn new(reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { kind: ILLEGAL_ARGUMENT, reason: reason.into(), cause: None })
    }

    /// A [`NULL_POINTER`]: what Java says of the variable that is null.
    pub fn null(reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { kind: NULL_POINTER, reason: reason.into(), cause: None })
    }

    /// An [`ILLEGAL_ARGUMENT`] that wraps another exception.
    pub fn caused(reason: impl Into<String>, cause: impl Into<Box<str>>) -> Box<Self> {
        Box::new(Self { kind: ILLEGAL_ARGUMENT, reason: reason.into(), cause: Some(cause.into()) })
    }
}

impl From<PathError> for Box<Problem> {
    fn from(error: PathError) -> Self {
        let text = error.to_string();
        match error {
            PathError::NoIndex { key, .. } => Problem::caused(text, format!("For input string: \"{key}\"")),
            _ => Problem::new(text),
        }
    }
}

/// A document that a pipeline could not finish, and nothing handled that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Elasticsearch's type name, such as `illegal_argument_exception`.
    pub kind: &'static str,
    /// What was wrong, with the value that was wrong.
    pub reason: String,
    /// Text of the innermost cause, where it is another.
    pub cause: Option<Box<str>>,
    /// Type of the processor that failed.
    pub processor: &'static str,
    /// True if it stands behind an `if` and has no handlers: the original then says `conditional` to those outside.
    pub conditional: bool,
    /// True if no list of processors has seen it yet: a `foreach` around it then tells handlers its own type and tag.
    pub(crate) bare: bool,
    /// Its tag.
    pub tag: Option<Box<str>>,
    /// The pipeline it belongs to.
    pub pipeline: String,
}

impl Failure {
    /// What `_ingest.on_failure_message` says: the innermost cause.
    pub fn message(&self) -> &str {
        self.cause.as_deref().unwrap_or(&self.reason)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in processor {} of pipeline {}: {}", self.kind, self.processor, self.pipeline, self.reason)?;
        match &self.cause {
            // A script's reason is `runtime error` and no more.
            Some(cause) => write!(f, " ({cause})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
