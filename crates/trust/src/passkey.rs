//! Assertions of WebAuthn (W3C, level 3, section 7.2), as far as a vote needs them: the machine that asked
//! has its own challenge, so it needs no state of a server.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::{Deserialize, Serialize};
use stockade_types::Digest;

use crate::{
    base64url::{self, Bytes},
    key::PublicKey,
};

/// Bytes of what the browser says; it has some hundred.
const CLIENT_DATA_BYTES_MAX: usize = 4 * 1024;
/// Bytes of what the authenticator says; without extensions it has 37.
const AUTHENTICATOR_DATA_BYTES_MAX: usize = 4 * 1024;
/// Bytes in front of the signature counter: the hash of the party, and the flags.
const FLAGS_AT: usize = 32;
const AUTHENTICATOR_DATA_BYTES_MIN: usize = FLAGS_AT + 5;
/// The person touched it.
const USER_PRESENT: u8 = 0x01;
/// The authenticator has checked who the person is.
const USER_VERIFIED: u8 = 0x04;
/// A copy of the key exists elsewhere; only a key that may be copied can say so.
const BACKUP_ELIGIBLE: u8 = 0x08;
const BACKED_UP: u8 = 0x10;

/// How a passkey signs, by the numbers of COSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSA with PKCS #1 v1.5 and SHA-256.
    Rs256,
}

/// A passkey of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passkey {
    id: Bytes,
    alg: Algorithm,
    spki: Bytes,
}

/// What a browser returns for a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    id: Bytes,
    authenticator_data: Bytes,
    client_data: Bytes,
    signature: Bytes,
}

/// Where people vote: the machine pins it when it is enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelyingParty {
    /// The name that passkeys are bound to, for example `stockade.example.org`.
    pub id: String,
    /// The page's origin, for example `https://stockade.example.org:7444`.
    pub origin: String,
}

/// Why an assertion is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasskeyError {
    /// What the browser said cannot be read.
    #[error("what the browser said cannot be read")]
    ClientData,
    /// It was made for something else than signing in.
    #[error("it is not an assertion")]
    Type,
    /// It was made for another ballot.
    #[error("it is for another ballot")]
    Challenge,
    /// It was made on another page.
    #[error("it was made on another page than the pinned one")]
    Origin,
    /// What the authenticator said cannot be read.
    #[error("what the authenticator said cannot be read")]
    AuthenticatorData,
    /// It is bound to another name.
    #[error("it is bound to another name than the pinned one")]
    Party,
    /// Nobody touched it.
    #[error("nobody confirmed it on the authenticator")]
    Presence,
    /// The authenticator did not check who confirmed it.
    #[error("the authenticator has not checked who confirmed it")]
    Verification,
    /// The public key cannot be read.
    #[error("its public key cannot be read")]
    Key,
    /// The signature is not by this passkey.
    #[error("its signature is wrong")]
    Signature,
}

/// What a browser says about itself. Members that are not named may be there, as the standard demands.
#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(rename = "crossOrigin", default)]
    cross_origin: bool,
}

impl Passkey {
    /// Makes a passkey of its id, and its public key as a browser gives it (SubjectPublicKeyInfo, DER).
    ///
    /// # Errors
    /// When the public key cannot be read.
    pub fn new(id: &[u8], alg: Algorithm, spki: &[u8]) -> Result<Self, PasskeyError> {
        public_key(alg, spki).ok_or(PasskeyError::Key)?;
        Ok(Self {
            id: Bytes(id.to_vec()),
            alg,
            spki: Bytes(spki.to_vec()),
        })
    }

    /// Tells whether an assertion says that it is by this passkey.
    pub(crate) fn is(&self, assertion: &Assertion) -> bool {
        self.id == assertion.id
    }

    /// Checks an assertion. Its counter is not looked at: passkeys that are synchronised have none.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check(
        &self,
        assertion: &Assertion,
        challenge: &[u8],
        party: &RelyingParty,
    ) -> Result<(), PasskeyError> {
        let client = &assertion.client_data.0;
        if client.len() > CLIENT_DATA_BYTES_MAX {
            return Err(PasskeyError::ClientData);
        }
        let said: ClientData =
            serde_json::from_slice(client).map_err(|_| PasskeyError::ClientData)?;
        if said.kind != "webauthn.get" {
            return Err(PasskeyError::Type);
        }
        if said.challenge != base64url::encode(challenge) {
            return Err(PasskeyError::Challenge);
        }
        if said.origin != party.origin || said.cross_origin {
            return Err(PasskeyError::Origin);
        }
        let data = &assertion.authenticator_data.0;
        let sizes = AUTHENTICATOR_DATA_BYTES_MIN..=AUTHENTICATOR_DATA_BYTES_MAX;
        let (hash, flags) = data
            .split_at_checked(FLAGS_AT)
            .and_then(|(hash, rest)| Some((hash, *rest.first()?)))
            .filter(|_| sizes.contains(&data.len()))
            .ok_or(PasskeyError::AuthenticatorData)?;
        if hash != Digest::of(party.id.as_bytes()).as_bytes() {
            return Err(PasskeyError::Party);
        }
        if flags & USER_PRESENT == 0 {
            return Err(PasskeyError::Presence);
        }
        if flags & USER_VERIFIED == 0 {
            return Err(PasskeyError::Verification);
        }
        if flags & BACKED_UP != 0 && flags & BACKUP_ELIGIBLE == 0 {
            return Err(PasskeyError::AuthenticatorData);
        }
        let mut message = data.clone();
        message.extend_from_slice(Digest::of(client).as_bytes());
        self.verify(&message, &assertion.signature.0)
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), PasskeyError> {
        let key = public_key(self.alg, &self.spki.0).ok_or(PasskeyError::Key)?;
        let by_ring = |algorithm: &'static dyn VerificationAlgorithm| {
            let key = UnparsedPublicKey::new(algorithm, key);
            key.verify(message, signature).is_ok()
        };
        let is_right = match self.alg {
            Algorithm::Es256 => by_ring(&ECDSA_P256_SHA256_ASN1),
            Algorithm::Rs256 => by_ring(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::EdDsa => {
                let key = PublicKey::of_bytes(key).ok_or(PasskeyError::Key)?;
                key.has_signed(message, signature)
            }
        };
        is_right.then_some(()).ok_or(PasskeyError::Signature)
    }
}

impl Assertion {
    /// Takes what a browser returned.
    pub fn new(id: &[u8], authenticator_data: &[u8], client_data: &[u8], signature: &[u8]) -> Self {
        Self {
            id: Bytes(id.to_vec()),
            authenticator_data: Bytes(authenticator_data.to_vec()),
            client_data: Bytes(client_data.to_vec()),
            signature: Bytes(signature.to_vec()),
        }
    }
}

/// What stands in front of the key in a SubjectPublicKeyInfo for P-256: the key is a point that is not
/// compressed.
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The same for Ed25519.
const ED25519_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// The algorithm in one for RSA.
const RSA_ALGORITHM: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

/// Returns the key within a SubjectPublicKeyInfo, in the form that verifying takes.
fn public_key(alg: Algorithm, spki: &[u8]) -> Option<&[u8]> {
    match alg {
        Algorithm::Es256 => spki
            .strip_prefix(&P256_HEAD)
            .filter(|point| point.len() == 65 && point.first() == Some(&0x04)),
        Algorithm::EdDsa => spki
            .strip_prefix(&ED25519_HEAD)
            .filter(|key| key.len() == 32),
        Algorithm::Rs256 => {
            let (body, rest) = der(0x30, spki)?;
            let (bits, after) = der(0x03, body.strip_prefix(&RSA_ALGORITHM)?)?;
            // No bits of the last byte are unused.
            let key = bits.strip_prefix(&[0])?;
            (rest.is_empty() && after.is_empty()).then_some(key)
        }
    }
}

/// Reads one element of DER with this tag; returns what is in it, and what comes after it.
fn der(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match head {
        [found, _] if *found != tag => return None,
        [_, short @ 0..=0x7f] => (usize::from(*short), rest),
        [_, 0x81] => {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length), rest)
        }
        [_, 0x82] => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        [..] => return None,
    };
    rest.split_at_checked(length)
}

impl TryFrom<i32> for Algorithm {
    type Error = String;

    fn try_from(number: i32) -> Result<Self, String> {
        match number {
            -7 => Ok(Self::Es256),
            -8 => Ok(Self::EdDsa),
            -257 => Ok(Self::Rs256),
            other => Err(format!(
                "{other} is not one of -7 (ES256), -8 (EdDSA), -257 (RS256)"
            )),
        }
    }
}

impl From<Algorithm> for i32 {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Es256 => -7,
            Algorithm::EdDsa => -8,
            Algorithm::Rs256 => -257,
        }
    }
}
