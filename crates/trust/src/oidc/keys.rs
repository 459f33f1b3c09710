//! The keys of a provider: a JSON Web Key Set (RFC 7517) with the algorithms of RFC 7518 and RFC 8037 that
//! are accepted here.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use super::json::Members;
use crate::base64url;

/// Bytes of a set.
const SET_BYTES_MAX: usize = 256 << 10;
/// Keys of a set; large providers have some ten.
const KEYS_MAX: usize = 64;
/// Bytes of a number of RSA: 8192 bits, and a zero in front.
const RSA_BYTES_MAX: usize = 1025;
/// Bytes of a coordinate on P-256, and of a key of Ed25519.
const CURVE_BYTES: usize = 32;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// RSA with PKCS #1 v1.5 and SHA-256.
    Rs256,
    /// RSA with PSS and SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Returns the one of this name; every other name, `none` and the symmetric ones too, is refused.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "ES256" => Some(Self::Es256),
            // RFC 9864 has a second name for it.
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A key of a provider, and the one way in which it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Its name.
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    parts: Parts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Parts {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point that is not compressed, or 32 bytes of Ed25519.
    Point(Vec<u8>),
}

impl Key {
    /// Tells whether this key has signed these bytes.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match (&self.parts, self.algorithm) {
            (Parts::Rsa { n, e }, Algorithm::Rs256) => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            (Parts::Rsa { n, e }, Algorithm::Ps256) => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PSS_2048_8192_SHA256, message, signature)
                .is_ok(),
            (Parts::Point(key), Algorithm::Es256) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key);
                key.verify(message, signature).is_ok()
            }
            (Parts::Point(key), Algorithm::EdDsa) => {
                let key = UnparsedPublicKey::new(&ED25519, key);
                key.verify(message, signature).is_ok()
            }
            (Parts::Rsa { .. }, Algorithm::Es256 | Algorithm::EdDsa)
            | (Parts::Point(_), Algorithm::Rs256 | Algorithm::Ps256) => false,
        }
    }

    /// Reads one of a set; `None` for a key of another purpose or kind, which a set may also have.
    fn read(members: &Members) -> Option<Self> {
        if members.text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        if let Some(operations) = members.0.get("key_ops") {
            let mut operations = operations.as_array()?.iter();
            if !operations.any(|operation| operation == "verify") {
                return None;
            }
        }
        let named = match members.0.get("alg") {
            None => None,
            Some(name) => Some(name.as_str().and_then(Algorithm::named)?),
        };
        let bytes = |name: &str, most: usize| {
            let bytes = members.text(name).and_then(base64url::decode)?;
            (!bytes.is_empty() && bytes.len() <= most).then_some(bytes)
        };
        let curve = |name: &str| bytes(name, CURVE_BYTES).filter(|all| all.len() == CURVE_BYTES);
        let (algorithm, parts) = match (members.text("kty")?, members.text("crv")) {
            ("RSA", None) => {
                let (n, e) = (bytes("n", RSA_BYTES_MAX)?, bytes("e", 8)?);
                (named.unwrap_or(Algorithm::Rs256), Parts::Rsa { n, e })
            }
            ("EC", Some("P-256")) => {
                let point = [&[0x04], &curve("x")?[..], &curve("y")?[..]].concat();
                (named.unwrap_or(Algorithm::Es256), Parts::Point(point))
            }
            ("OKP", Some("Ed25519")) => {
                let key = Parts::Point(curve("x")?);
                (named.unwrap_or(Algorithm::EdDsa), key)
            }
            _ => return None,
        };
        let fits = match (&parts, members.text("kty")?, algorithm) {
            (Parts::Rsa { .. }, _, Algorithm::Rs256 | Algorithm::Ps256)
            | (Parts::Point(_), "EC", Algorithm::Es256)
            | (Parts::Point(_), "OKP", Algorithm::EdDsa) => true,
            (Parts::Rsa { .. } | Parts::Point(_), _, _) => false,
        };
        let kid = match members.0.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str()?.to_owned()),
        };
        fits.then_some(Self {
            kid,
            algorithm,
            parts,
        })
    }
}

/// The keys of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet(Vec<Key>);

/// Why a set of keys is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is too long.
    #[error("it has more than {SET_BYTES_MAX} bytes, or more than {KEYS_MAX} keys")]
    TooLong,
    /// It is no set of keys.
    #[error("it cannot be read: {0}")]
    Content(String),
    /// Two keys have the same name.
    #[error("two of its keys have the same `kid`")]
    Doubled,
    /// There is no key that is accepted.
    #[error("it has no key for RS256, PS256, ES256 or EdDSA")]
    Empty,
}

impl KeySet {
    /// Reads a set. Keys for other purposes, and of kinds that are not accepted, are passed over.
    ///
    /// # Errors
    /// When it cannot be read, two keys have one name, or no key is left.
    pub fn read(bytes: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        if bytes.len() > SET_BYTES_MAX {
            return Err(KeySetError::TooLong);
        }
        let set: Set = serde_json::from_slice(bytes)
            .map_err(|error| KeySetError::Content(error.to_string()))?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeySetError::TooLong);
        }
        let members = |value: Value| serde_json::from_value::<Members>(value).ok();
        let keys = set.keys.into_iter().filter_map(members);
        let keys: Vec<Key> = keys.filter_map(|members| Key::read(&members)).collect();
        let mut names: Vec<&String> = keys.iter().filter_map(|key| key.kid.as_ref()).collect();
        names.sort();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(KeySetError::Doubled);
        }
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(Self(keys))
    }

    /// Returns the key of this name. Without a name there must be only one key that signs so.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let Some(kid) = kid else {
            let mut fitting = self.0.iter().filter(|key| key.algorithm == algorithm);
            let only = fitting.next()?;
            return fitting.next().is_none().then_some(only);
        };
        self.0.iter().find(|key| key.kid.as_deref() == Some(kid))
    }
}
