//! Identifiers: short, printable and safe to put into a path, a log line or a terminal.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}; expected {expected}")]
pub struct IdError {
    /// Which identifier was expected.
    pub what: &'static str,
    /// What was given.
    pub text: String,
    /// The form it must have.
    pub expected: &'static str,
}

/// Longest rule id; long enough for a sentence in kebab case, short enough for one column.
const RULE_ID_BYTES_MAX: usize = 64;

/// The id of a rule: letters, digits, `-`, `_`, `.` and `:`, 1 to 64 of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuleId(String);

impl RuleId {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RuleId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fits = (1..=RULE_ID_BYTES_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
        if fits {
            return Ok(Self(text.to_owned()));
        }
        Err(IdError {
            what: "rule id",
            text: text.chars().take(80).collect(),
            expected: "1 to 64 of the characters A-Z a-z 0-9 - _ . :",
        })
    }
}

/// Number of lower-case hexadecimal digits of a session id (64 random bits).
const SESSION_ID_DIGITS: usize = 16;
/// Number of lower-case hexadecimal digits of an approval id (32 random bits).
const APPROVAL_ID_DIGITS: usize = 8;

/// The id of a session: 16 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

impl SessionId {
    /// Makes an id from 64 random bits.
    pub fn from_random(bits: u64) -> Self {
        Self(format!("{bits:016x}"))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first four digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..4).unwrap_or(&self.0)
    }
}

impl FromStr for SessionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        hexadecimal(
            text,
            SESSION_ID_DIGITS,
            "session id",
            "16 lower-case hexadecimal digits",
        )
        .map(Self)
    }
}

/// The id of one request for approval: 8 lower-case hexadecimal digits, random.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApprovalId(String);

impl ApprovalId {
    /// Makes an id from 32 random bits.
    pub fn from_random(bits: u32) -> Self {
        Self(format!("{bits:08x}"))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ApprovalId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        hexadecimal(
            text,
            APPROVAL_ID_DIGITS,
            "approval id",
            "8 lower-case hexadecimal digits",
        )
        .map(Self)
    }
}

fn hexadecimal(
    text: &str,
    digits: usize,
    what: &'static str,
    expected: &'static str,
) -> Result<String, IdError> {
    let fits = text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if fits {
        return Ok(text.to_owned());
    }
    Err(IdError {
        what,
        text: text.chars().take(80).collect(),
        expected,
    })
}

/// The number of a decision within its session, written `d-19`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DecisionId(u64);

impl DecisionId {
    /// Makes the id of the `number`-th decision.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for DecisionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.strip_prefix("d-")
            .and_then(|n| n.parse().ok())
            .map(Self)
            .ok_or_else(|| IdError {
                what: "decision id",
                text: text.chars().take(80).collect(),
                expected: "`d-` and a number, for example `d-19`",
            })
    }
}

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Wraps a digest that was computed elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first 12 digits, for people.
    pub fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

impl FromStr for Digest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError {
            what: "digest",
            text: text.chars().take(80).collect(),
            expected: "64 lower-case hexadecimal digits",
        };
        let lower = text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if text.len() != 64 || !lower {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d-{}", self.0)
    }
}

macro_rules! text_identifier {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text_identifier!(RuleId, SessionId, ApprovalId);

macro_rules! serde_by_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    )*};
}
serde_by_text!(RuleId, SessionId, ApprovalId, DecisionId, Digest);

#[cfg(test)]
mod tests {
    use super::{DecisionId, Digest, RuleId, SessionId};

    #[test]
    fn identifiers_round_trip_through_text() {
        let digest = Digest::of(b"abc");
        assert_eq!(
            digest.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!("d-19".parse(), Ok(DecisionId::new(19)));
        let session = SessionId::from_random(0x3f2a);
        assert_eq!(session.to_string().parse(), Ok(session));
    }

    #[test]
    fn nothing_that_could_leave_a_path_is_a_session_id() {
        for text in [
            "../../etc/passwd",
            "",
            "3F2A3F2A3F2A3F2A",
            "3f2a",
            "3f2a3f2a3f2a3f2g",
        ] {
            assert!(text.parse::<SessionId>().is_err(), "{text}");
        }
    }

    #[test]
    fn rule_ids_have_no_spaces_or_controls() {
        assert!("unfamiliar-host".parse::<RuleId>().is_ok());
        for text in ["", "a b", "a\n", "a\u{202e}", &"x".repeat(65)] {
            assert!(text.parse::<RuleId>().is_err(), "{text:?}");
        }
    }
}
