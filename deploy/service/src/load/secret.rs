//! `${env:NAME}` or `${file:PATH}` becomes a value that is used, and never shown.

use std::{fmt, fs::File, io::Read, path::PathBuf};

use serde::{Deserialize, Deserializer, de};
use zeroize::{Zeroize, Zeroizing};

/// What errors call a secret; such errors show no line of the file.
pub(super) const WHAT: &str = "a secret written as ${env:NAME} or ${file:PATH}";

/// Largest secret in a file, in bytes: room for a chain of certificates with its key.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A password, key or token. Its text is gone from memory when it is dropped.
///
/// YAML: only a reference, `${env:NAME}` or `${file:PATH}`, never the value itself; in `{…}` put it in quotes. Resolved once, at load.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a secret cannot be used. Never holds its value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The value stands in the config itself.
    #[error("expected {WHAT}, found a literal: put the value in a variable or a file of its own and refer to it")]
    Literal,
    /// `${…}` with something else than `env:` or `file:`, or with nothing after it.
    #[error("expected {WHAT}, found another reference")]
    Unknown,
    /// No such variable, or its value is not text.
    #[error("{WHAT}: environment variable {name} is {problem}")]
    Variable {
        /// The variable.
        name: String,
        /// Unset, empty, or not UTF-8.
        problem: &'static str,
    },
    /// The file is missing, unreadable, empty, too large or not text.
    #[error("{WHAT}: file {} {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Secret {
    /// Resolves `${env:NAME}` or `${file:PATH}`; of a file, the newline at its end is not part of the secret.
    ///
    /// Errors: a literal, or nothing usable behind the reference. They name the variable or path, never the content.
    pub fn resolve(reference: &str) -> Result<Self, SecretError> {
        let inner = reference.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        match inner.map(|inner| inner.split_once(':')) {
            None => Err(SecretError::Literal),
            Some(Some(("env", name))) if !name.is_empty() => from_variable(name),
            Some(Some(("file", path))) if !path.is_empty() => from_file(PathBuf::from(path)),
            Some(_) => Err(SecretError::Unknown),
        }
    }

    /// Text that is no secret in itself, but shares a way with some that are.
    pub fn from_plain(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// True if `text` is written as a reference, whether or not it can be resolved.
    pub fn is_reference(text: &str) -> bool {
        text.ends_with('}') && (text.starts_with("${env:") || text.starts_with("${file:"))
    }

    /// The text itself, for the one place that sends it. Keep it out of errors, logs and metrics.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn from_variable(name: &str) -> Result<Secret, SecretError> {
    let wrong = |problem| SecretError::Variable { name: name.to_owned(), problem };
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Err(wrong("empty")),
        Ok(value) => Ok(Secret(value)),
        Err(std::env::VarError::NotPresent) => Err(wrong("not set")),
        Err(std::env::VarError::NotUnicode(_)) => Err(wrong("not UTF-8")),
    }
}

fn from_file(path: PathBuf) -> Result<Secret, SecretError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(&path).and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes));
    let wrong = |problem: String| SecretError::File { path, problem };
    if let Err(error) = read {
        return Err(wrong(format!("cannot be read: {error}")));
    }
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(wrong(format!("is larger than {SECRET_BYTES_MAX} bytes")));
    }
    let Ok(text) = std::str::from_utf8(&bytes) else { return Err(wrong("is not UTF-8".into())) };
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() { Err(wrong("is empty".into())) } else { Ok(Secret(text.to_owned())) }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reference)
    }
}

struct Reference;

impl<'de> de::Visitor<'de> for Reference {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WHAT)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Secret::resolve(text).map_err(E::custom)
    }

    // Serde's own "invalid type" errors quote the value: each scalar that is not text is refused here, without it.
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::custom(SecretError::Literal))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::custom(SecretError::Literal))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::custom(SecretError::Literal))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Secret, E> {
        Err(E::custom(SecretError::Literal))
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Secret, E> {
        Err(E::custom(SecretError::Literal))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom(SecretError::Literal))
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Secret, E> {
        Err(E::custom(SecretError::Literal))
    }
}
