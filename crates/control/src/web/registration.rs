//! Registration of a passkey (W3C WebAuthn level 3, section 7.1) with attestation `none`: which model the
//! authenticator is does not matter here, so the public key is taken from what the browser read
//! (`getPublicKey()`), and must be the one in the authenticator's own words.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use stockade_trust::{Algorithm, Passkey, PasskeyError, RelyingParty};
use stockade_types::Digest;

/// Bytes of each part; a key of RSA with 4096 bits is the longest.
const PART_BYTES_MAX: usize = 4 * 1024;
/// Bytes of the name of a passkey (the standard's own limit).
const ID_BYTES_MAX: usize = 1023;
/// Where the flags are in what the authenticator says, and what comes before the name of the key.
const FLAGS_AT: usize = 32;
const ID_LENGTH_AT: usize = 32 + 1 + 4 + 16;
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const HAS_CREDENTIAL: u8 = 0x40;

/// What the page sends after `navigator.credentials.create`; each part in base64url.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Registered {
    id: String,
    client_data: String,
    authenticator_data: String,
    public_key: String,
    algorithm: i32,
}

/// Why it is no registration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegistrationError {
    /// It cannot be read.
    #[error("what the browser sent cannot be read")]
    Form,
    /// It was made for something else.
    #[error("it is not the registration of a passkey")]
    Type,
    /// It was made on another page.
    #[error("it was made on another page than `{0}`")]
    Origin(String),
    /// It is bound to another name.
    #[error("it is bound to another name than `{0}`")]
    Party(String),
    /// Nobody confirmed it, or the authenticator did not check who.
    #[error("the authenticator has not checked who confirmed it")]
    Verification,
    /// It is not the key that the authenticator made.
    #[error("the key is not the one that the authenticator made")]
    OtherKey,
    /// The key is of no kind that is known here.
    #[error("the kind of its key is not one of ES256, EdDSA and RS256")]
    Algorithm,
    /// The key cannot be read.
    #[error("its key: {0}")]
    Key(#[from] PasskeyError),
}

/// What a browser says about itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
}

/// A passkey that a person has just made, and the challenge that it answers. The caller checks the
/// challenge.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) passkey: Passkey,
    pub(crate) id: Vec<u8>,
    pub(crate) challenge: Vec<u8>,
}

fn part(text: &str) -> Result<Vec<u8>, RegistrationError> {
    let bytes = URL_SAFE_NO_PAD.decode(text);
    let bytes = bytes.map_err(|_| RegistrationError::Form)?;
    let fits = bytes.len() <= PART_BYTES_MAX;
    fits.then_some(bytes).ok_or(RegistrationError::Form)
}

impl Registered {
    /// Checks everything but the challenge.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub(crate) fn check(&self, party: &RelyingParty) -> Result<Fresh, RegistrationError> {
        let said: ClientData = serde_json::from_slice(&part(&self.client_data)?)
            .map_err(|_| RegistrationError::Form)?;
        if said.kind != "webauthn.create" {
            return Err(RegistrationError::Type);
        }
        if said.origin != party.origin || said.cross_origin {
            return Err(RegistrationError::Origin(party.origin.clone()));
        }
        let data = part(&self.authenticator_data)?;
        let (hash, rest) = data
            .split_at_checked(FLAGS_AT)
            .ok_or(RegistrationError::Form)?;
        let flags = rest.first().copied().ok_or(RegistrationError::Form)?;
        if hash != Digest::of(party.id.as_bytes()).as_bytes() {
            return Err(RegistrationError::Party(party.id.clone()));
        }
        if flags & USER_PRESENT == 0 || flags & USER_VERIFIED == 0 {
            return Err(RegistrationError::Verification);
        }
        if flags & HAS_CREDENTIAL == 0 {
            return Err(RegistrationError::OtherKey);
        }
        let id = part(&self.id)?;
        let (told, cose) = credential(&data).ok_or(RegistrationError::Form)?;
        if told != id || id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(RegistrationError::OtherKey);
        }
        let algorithm =
            Algorithm::try_from(self.algorithm).map_err(|_| RegistrationError::Algorithm)?;
        let spki = part(&self.public_key)?;
        if !is_key_in(algorithm, &spki, cose) {
            return Err(RegistrationError::OtherKey);
        }
        Ok(Fresh {
            passkey: Passkey::new(&id, algorithm, &spki)?,
            id,
            challenge: part(&said.challenge)?,
        })
    }
}

/// Returns the name of the key, and the key in the authenticator's form.
fn credential(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, rest) = data.split_at_checked(ID_LENGTH_AT)?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Tells whether the numbers that make the key stand in the authenticator's form of it (COSE). A script on
/// the page could send another key of its own beside a real registration; with this the authenticator
/// itself must have said it.
fn is_key_in(algorithm: Algorithm, spki: &[u8], cose: &[u8]) -> bool {
    let has = |part: Option<&[u8]>| {
        part.is_some_and(|part| cose.windows(part.len()).any(|window| window == part))
    };
    match algorithm {
        // The point: x and y, 32 bytes each, at the end.
        Algorithm::Es256 => {
            let point = spki.last_chunk::<64>();
            let halves = point.map(|point| point.split_at(32));
            has(halves.map(|(x, _)| x)) && has(halves.map(|(_, y)| y))
        }
        Algorithm::EdDsa => has(spki.last_chunk::<32>().map(<[u8; 32]>::as_slice)),
        // The modulus ends before the exponent, which is 65537 (three bytes with two in front).
        Algorithm::Rs256 => {
            let modulus = spki.len().checked_sub(5).and_then(|end| {
                let start = end.checked_sub(256)?;
                spki.get(start..end)
            });
            has(modulus)
        }
    }
}

#[cfg(test)]
mod tests;
