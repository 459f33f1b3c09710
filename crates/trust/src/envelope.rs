//! Signed bytes: the Dead Simple Signing Envelope (DSSE, version 1). What is signed are the exact bytes of
//! the statement and its type, so no form of JSON has to be the only one.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::key::{KeyId, PublicKey, SecretKey};

/// Bytes of a statement: a bundle with its policy is the largest.
const PAYLOAD_BYTES_MAX: usize = 8 << 20;
/// Signatures of one envelope; each is checked.
const SIGNATURES_MAX: usize = 16;

/// Something that is said under a signature.
pub trait Statement: Serialize + DeserializeOwned {
    /// Its media type, with its version.
    const TYPE: &'static str;
}

/// Signed bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    payload_type: String,
    /// The statement, in base64.
    payload: String,
    signatures: Vec<Signed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    keyid: KeyId,
    /// In base64.
    sig: String,
}

/// Which keys may sign, and how many of them must.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The keys.
    pub keys: Vec<PublicKey>,
    /// How many different ones must have signed.
    pub threshold: usize,
}

impl Keys {
    /// Tells whether there are between one and `most` different keys, and the threshold can be met.
    pub(crate) fn make_sense(&self, most: usize) -> bool {
        let ids: BTreeSet<KeyId> = self.keys.iter().map(PublicKey::id).collect();
        let is_one_each = ids.len() == self.keys.len() && ids.len() <= most;
        is_one_each && (1..=ids.len()).contains(&self.threshold)
    }
}

/// Why an envelope says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It is too long.
    #[error("it has {bytes} bytes; at most {PAYLOAD_BYTES_MAX} are read")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// There are too many signatures.
    #[error("it has {count} signatures; at most {SIGNATURES_MAX} are checked")]
    TooManySignatures {
        /// How many there are.
        count: usize,
    },
    /// It is about something else.
    #[error("it is `{found}`; expected `{expected}`")]
    Type {
        /// What it says it is.
        found: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// Too few of the keys have signed it.
    #[error("{valid} of the {threshold} signatures that it needs are valid")]
    Signatures {
        /// How many keys have.
        valid: usize,
        /// How many must have.
        threshold: usize,
    },
    /// What was signed is not such a statement.
    #[error("what was signed cannot be read: {0}")]
    Statement(String),
}

impl Envelope {
    /// Signs a statement.
    ///
    /// # Errors
    /// When the statement cannot be written as JSON.
    pub fn seal<S: Statement>(statement: &S, keys: &[&SecretKey]) -> Result<Self, EnvelopeError> {
        let bytes = serde_json::to_vec(statement);
        let bytes = bytes.map_err(|error| EnvelopeError::Statement(error.to_string()))?;
        let message = message(S::TYPE, &bytes);
        let signed = |key: &&SecretKey| Signed {
            keyid: key.public().id(),
            sig: STANDARD.encode(key.sign(&message)),
        };
        Ok(Self {
            payload_type: S::TYPE.to_owned(),
            payload: STANDARD.encode(&bytes),
            signatures: keys.iter().map(signed).collect(),
        })
    }

    /// Returns the statement without looking at its signatures: only to learn which keys must have made
    /// them.
    pub(crate) fn unverified<S: Statement>(&self) -> Result<S, EnvelopeError> {
        let bytes = self.bytes(S::TYPE)?;
        serde_json::from_slice(&bytes).map_err(|error| EnvelopeError::Statement(error.to_string()))
    }

    /// Returns the signed bytes of a statement of this type.
    fn bytes(&self, expected: &'static str) -> Result<Vec<u8>, EnvelopeError> {
        if self.payload.len() / 4 * 3 > PAYLOAD_BYTES_MAX {
            let bytes = self.payload.len() / 4 * 3;
            return Err(EnvelopeError::TooLong { bytes });
        }
        if self.payload_type != expected {
            return Err(EnvelopeError::Type {
                found: self.payload_type.chars().take(80).collect(),
                expected,
            });
        }
        let bytes = STANDARD.decode(&self.payload);
        bytes.map_err(|error| EnvelopeError::Statement(error.to_string()))
    }

    /// Returns the statement if enough of the keys have signed it.
    ///
    /// # Errors
    /// When it is another kind of statement, too few of `keys` have signed it, or it cannot be read.
    pub fn open<S: Statement>(&self, keys: &Keys) -> Result<S, EnvelopeError> {
        if self.signatures.len() > SIGNATURES_MAX {
            let count = self.signatures.len();
            return Err(EnvelopeError::TooManySignatures { count });
        }
        let bytes = self.bytes(S::TYPE)?;
        let message = message(S::TYPE, &bytes);
        let valid: BTreeSet<KeyId> = self
            .signatures
            .iter()
            .filter(|signed| signed.is_by_one_of(&keys.keys, &message))
            .map(|signed| signed.keyid)
            .collect();
        if keys.threshold == 0 || valid.len() < keys.threshold {
            return Err(EnvelopeError::Signatures {
                valid: valid.len(),
                threshold: keys.threshold,
            });
        }
        serde_json::from_slice(&bytes).map_err(|error| EnvelopeError::Statement(error.to_string()))
    }
}

impl Signed {
    fn is_by_one_of(&self, keys: &[PublicKey], message: &[u8]) -> bool {
        let key = keys.iter().find(|key| key.id() == self.keyid);
        let signature = STANDARD.decode(&self.sig);
        key.zip(signature.ok())
            .is_some_and(|(key, signature)| key.has_signed(message, &signature))
    }
}

/// Returns what is signed: the pre-authentication encoding of DSSE.
fn message(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}
