//! What a script throws: an exception's class and message.

use super::class::Class;

/// Class of what no script can catch.
const FATAL: &str = "painless_error";

/// What is said of something that holds itself.
pub(super) const SELF_REFERENCE: &str = "Iterable object is self-referencing itself";

/// An exception on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Thrown {
    /// Its class, with the package.
    pub(super) class: &'static str,
    pub(super) message: Option<String>,
    /// A limit was reached: no script can catch this.
    pub(super) fatal: bool,
}

impl Thrown {
    pub(super) fn new(class: Class, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { class: class.full_name(), message: Some(message.into()), fatal: false })
    }

    pub(super) fn silent(class: Class) -> Box<Self> {
        Box::new(Self { class: class.full_name(), message: None, fatal: false })
    }

    pub(super) fn named(class: &'static str, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { class, message: Some(message.into()), fatal: false })
    }

    /// A limit of ours was reached.
    pub(super) fn fatal(message: impl Into<String>) -> Box<Self> {
        Box::new(Self { class: FATAL, message: Some(message.into()), fatal: true })
    }

    /// Something was changed while it was gone through.
    pub(super) fn concurrent() -> Box<Self> {
        Box::new(Self { class: "java.util.ConcurrentModificationException", message: None, fatal: false })
    }

    pub(super) fn null(name: &str) -> Box<Self> {
        Self::new(Class::NullPointerException, format!("cannot access method/field [{name}] from a null def reference"))
    }

    /// Elasticsearch's name of the class: `null_pointer_exception`.
    pub(super) fn kind(&self) -> String {
        let name = self.class.rsplit(['.', '$']).next().unwrap_or(self.class);
        let mut kind = String::with_capacity(name.len() + 4);
        for (at, c) in name.char_indices() {
            if c.is_ascii_uppercase() && at > 0 {
                kind.push('_');
            }
            kind.push(c.to_ascii_lowercase());
        }
        kind
    }
}

/// An error of `class` with `message`.
pub(super) fn throw<T>(class: Class, message: impl Into<String>) -> Result<T, Box<Thrown>> {
    Err(Thrown::new(class, message))
}
