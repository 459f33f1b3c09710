//! Sizes, spans of time and points in time, as people write them in a policy.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}; write for example \"{example}\"")]
pub struct QuantityError {
    /// `size` or `time span`.
    pub what: &'static str,
    /// What was given.
    pub text: String,
    /// A correct one.
    pub example: &'static str,
}

/// A number of bytes, written `4GiB`, `512MiB`, `10kB` or `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl ByteSize {
    /// Makes a size from a number of bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        scaled(text, &SIZE_UNITS, 1)
            .map(Self)
            .ok_or_else(|| QuantityError {
                what: "size",
                text: text.chars().take(80).collect(),
                example: "4GiB",
            })
    }
}

/// Reads a whole number and a unit; `None` for anything else or an overflow.
fn scaled(text: &str, units: &[(&str, u64)], bare: u64) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let unit = text.get(digits..)?.trim_start();
    let factor = if unit.is_empty() {
        bare
    } else {
        units
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor)?
    };
    number.checked_mul(factor)
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS
            .iter()
            .filter(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
            .max_by_key(|(_, factor)| *factor);
        match unit {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A span of time, written `15m`, `4h`, `90s`, `250ms` or `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    millis: u64,
}

const SPAN_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

impl Span {
    /// Makes a span from milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// Returns the number of milliseconds.
    pub const fn millis(self) -> u64 {
        self.millis
    }

    /// Returns the span as a value of the standard library.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.millis)
    }
}

impl FromStr for Span {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let bare_number = text.trim().bytes().all(|b| b.is_ascii_digit());
        let millis = if bare_number {
            None
        } else {
            scaled(text, &SPAN_UNITS, 1)
        };
        millis.map(Self::from_millis).ok_or_else(|| QuantityError {
            what: "time span",
            text: text.chars().take(80).collect(),
            example: "15m",
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SPAN_UNITS
            .iter()
            .filter(|(_, factor)| self.millis != 0 && self.millis.is_multiple_of(*factor))
            .max_by_key(|(_, factor)| *factor);
        match unit {
            Some((name, factor)) => write!(f, "{}{name}", self.millis / factor),
            None => f.write_str("0s"),
        }
    }
}

macro_rules! serde_by_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = QuantityError;
            fn try_from(text: String) -> Result<Self, QuantityError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(quantity: $name) -> Self {
                quantity.to_string()
            }
        }
    )*};
}
serde_by_text!(ByteSize, Span);

/// A point in time: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

#[cfg(test)]
mod tests {
    use super::{ByteSize, Span};

    #[test]
    fn quantities_read_as_people_write_them() {
        assert_eq!("4GiB".parse(), Ok(ByteSize::from_bytes(4 << 30)));
        assert_eq!("10 kB".parse(), Ok(ByteSize::from_bytes(10_000)));
        assert_eq!("15m".parse(), Ok(Span::from_millis(900_000)));
        assert_eq!(ByteSize::from_bytes(4 << 30).to_string(), "4GiB");
        assert_eq!(Span::from_millis(14_400_000).to_string(), "4h");
    }

    #[test]
    fn nonsense_and_overflow_are_errors() {
        for text in ["lots", "", "-1", "1.5GiB", "99999999999TiB", "4gib"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        for text in ["soon", "", "15", "1y", "-1s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
