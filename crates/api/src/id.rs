//! Names of machines.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const PREFIX: &str = "n-";
const DIGITS: usize = 16;

/// A machine of an organisation: `n-` and 16 lower-case hexadecimal digits, drawn by the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(String);

/// Why a text is no name of a machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no machine; expected `{PREFIX}` and {DIGITS} lower-case hexadecimal digits")]
pub struct NodeIdError(String);

impl NodeId {
    /// Makes a name of 64 random bits.
    pub fn from_random(bits: u64) -> Self {
        Self(format!("{PREFIX}{bits:016x}"))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let digits = text.strip_prefix(PREFIX);
        if digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(is_digit)) {
            return Ok(Self(text.to_owned()));
        }
        Err(NodeIdError(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for NodeId {
    type Error = NodeIdError;

    fn try_from(text: String) -> Result<Self, NodeIdError> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
