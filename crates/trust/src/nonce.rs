//! What makes one asking of a question different from all others.

use serde::{Deserialize, Serialize};

use crate::base64url;

/// 16 bytes that a machine draws for one question alone; in texts 22 digits of base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce([u8; 16]);

impl Nonce {
    /// Takes 16 random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<String> for Nonce {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = base64url::decode(&text).and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or("not a nonce: expected 22 digits of base64url")?;
        Ok(Self(bytes))
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        base64url::encode(&nonce.0)
    }
}
