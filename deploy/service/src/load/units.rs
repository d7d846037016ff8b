//! `30s` becomes a duration, `64MiB` becomes bytes.
//!
//! Whole numbers only, and a duration never without its unit: `30` has been read as milliseconds by one half of the world
//! and as seconds by the other.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

/// Bytes. YAML: `65536`, `64MiB` (powers of 1024: KiB, MiB, GiB, TiB) or `20MB` (powers of 1000: kB, MB, GB, TB).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

const BYTE_UNITS: [(&str, u64); 11] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const TIME_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        scaled(text, &BYTE_UNITS).map(Self).ok_or_else(|| format!("`{text}` is not a size: expected {SIZE}"))
    }
}

/// Reads `100ms`, `30s`, `5m`, `1h` or `7d`.
///
/// Errors: anything else, a number without a unit among it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let ms = scaled(text, &TIME_UNITS);
    ms.map(Duration::from_millis).ok_or_else(|| format!("`{text}` is not a duration: expected {DURATION}"))
}

const SIZE: &str = "bytes as a whole number, with a unit or without: 65536, 64MiB, 20MB";
const DURATION: &str = "a whole number with its unit: 100ms, 30s, 5m, 1h, 7d";

/// `None` if the text is not digits and a unit of the table, or the product does not fit.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

impl fmt::Display for ByteSize {
    /// In the largest unit that leaves a whole number: `64MiB`, `1000B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, factor): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*factor);
        let binary = BYTE_UNITS.iter().filter(|(name, _)| name.ends_with("iB"));
        let (unit, factor) = binary.rev().find(whole).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Bytes)
    }
}

struct Bytes;

impl de::Visitor<'_> for Bytes {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SIZE)
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
        match u64::try_from(bytes) {
            Ok(bytes) => Ok(ByteSize(bytes)),
            Err(_) => self.visit_str(&bytes.to_string()),
        }
    }

    // Errors that come from here are placed at the value; serde's own "invalid type" would be placed at the key.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<ByteSize, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
        text.parse().map_err(E::custom)
    }
}

/// A duration or null in YAML, for a field of type `Option<Duration>`, which also wants `default`:
/// `#[serde(default, with = "service::load::optional_duration")]`.
pub mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer};

    #[derive(Deserialize)]
    struct Given(#[serde(with = "super::duration")] Duration);

    /// Reads `null` or what [`super::duration`] reads.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Given>::deserialize(deserializer)?.map(|given| given.0))
    }
}

/// A duration in YAML, for a field of type `Duration`: `#[serde(with = "service::load::duration")]`.
pub mod duration {
    use std::{fmt, time::Duration};

    use serde::{Deserializer, de};

    /// Reads `100ms`, `30s`, `5m`, `1h` or `7d`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(Text)
    }

    struct Text;

    impl de::Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(super::DURATION)
        }

        // Errors that come from here are placed at the value; serde's own "invalid type" would be placed at the key.
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Duration, E> {
            self.visit_str(&number.to_string())
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Duration, E> {
            self.visit_str(&number.to_string())
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<Duration, E> {
            self.visit_str(&number.to_string())
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            super::parse_duration(text).map_err(E::custom)
        }
    }
}
