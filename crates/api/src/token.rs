//! What a person copies from the server to a machine: one line, good for one enrolment.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use stockade_types::{Digest, UnixMillis};

use crate::NodeId;

/// What a token begins with: scanners for secrets find it by that.
const PREFIX: &str = "stk1.";
/// Bytes of a token; a URL is its longest part.
const TOKEN_BYTES_MAX: usize = 4_096;
/// What stands first in what a machine signs when it enrols.
const CONTEXT: &[u8] = b"stockade enrol 1\0";
/// The same when its certificate is over and it asks for another one.
const RENEWAL_CONTEXT: &[u8] = b"stockade renew 1\0";

/// A token for one enrolment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolToken {
    /// Where machines reach the server, for example `https://stockade.example.org:7443`.
    pub url: String,
    /// SHA-256 of the certificate of the server's authority, DER. A machine compares it before it sends
    /// the secret.
    pub ca: Digest,
    /// 32 random bytes, in base64url.
    pub secret: String,
    /// After this the server refuses it.
    pub expires: UnixMillis,
}

/// Why a text is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not look like one.
    #[error("not a token for enrolment: expected one line that begins with `{PREFIX}`")]
    Form,
    /// It is cut, or something was added.
    #[error("the token for enrolment cannot be read; copy the whole line again")]
    Content,
}

impl fmt::Display for EnrolToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl FromStr for EnrolToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let body = text.strip_prefix(PREFIX).ok_or(TokenError::Form)?;
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Form);
        }
        let json = URL_SAFE_NO_PAD.decode(body);
        let json = json.map_err(|_| TokenError::Content)?;
        serde_json::from_slice(&json).map_err(|_| TokenError::Content)
    }
}

impl fmt::Debug for EnrolToken {
    /// Shows nothing of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolToken")
            .field("url", &self.url)
            .field("ca", &self.ca)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Returns what a machine signs with its key when it enrols: the token is good once, so the signature is.
pub fn proof_message(secret: &str) -> Vec<u8> {
    let mut message = CONTEXT.to_vec();
    message.extend_from_slice(Digest::of(secret.as_bytes()).as_bytes());
    message
}

/// Returns what a machine signs with its key to get a certificate when its last one is over.
pub fn renewal_message(org: &str, node: &NodeId, at: UnixMillis) -> Vec<u8> {
    let mut message = RENEWAL_CONTEXT.to_vec();
    for part in [org, node.as_str()] {
        message.extend_from_slice(part.as_bytes());
        message.push(0);
    }
    message.extend_from_slice(&at.0.to_be_bytes());
    message
}
