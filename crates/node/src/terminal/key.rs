//! The approver key of a person: a file for its owner alone, sealed with a passphrase if the person wants.

use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use stockade_api::terminal::key_message;
use stockade_trust::{PublicKey, SecretKey, UserId};
use zeroize::Zeroizing;

use super::{Login, TERMINAL_DIR};
use crate::files::{self, FileError};

/// Bytes of a seed.
const SEED_BYTES: usize = 32;
/// Bytes of the salt of a passphrase.
const SALT_BYTES: usize = 16;
/// Argon2id for the passphrase: memory in KiB, passes, lanes. About a quarter of a second.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is one already.
    #[error(
        "there is an approver key here already ({0}); remove it first with `stockade approvals key remove`"
    )]
    Exists(String),
    /// There is none.
    #[error("there is no approver key here; make one with `stockade approvals key create`")]
    Missing,
    /// The passphrase is wrong, or the file was changed.
    #[error("the passphrase is wrong, or the file of the key was changed")]
    Passphrase,
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// No random bytes, or no key of a passphrase.
    #[error("cannot make a key: {0}")]
    Make(String),
}

/// An approver key, as its file has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproverKey {
    /// The public key.
    pub key: PublicKey,
    /// The organisation.
    pub org: String,
    /// Whose it is.
    pub user: UserId,
    seed: Seed,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Seed {
    /// In base64url.
    Plain(String),
    /// Sealed by ChaCha20-Poly1305 with a key of Argon2id; each part in base64url.
    Sealed {
        salt: String,
        nonce: String,
        seed: String,
    },
}

impl std::fmt::Debug for Seed {
    /// Shows nothing of the seed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Sealed { .. } => "Sealed",
        })
    }
}

impl ApproverKey {
    /// Makes the key of who is signed in, and keeps it; with a passphrase it is sealed. Returns it with the
    /// line by which the person registers it.
    ///
    /// # Errors
    /// When there is one already, or it cannot be made or kept.
    pub fn create(
        state: &Path,
        login: &Login,
        passphrase: Option<&str>,
    ) -> Result<(Self, String), KeyError> {
        if let Some(known) = files::read_json::<Self>(&place(state))? {
            return Err(KeyError::Exists(known.key.to_string()));
        }
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        random(&mut *seed)?;
        let secret = SecretKey::from_seed(&seed);
        let (key, org, user) = (secret.public(), login.org.clone(), login.user.clone());
        let kept = match passphrase {
            None => Seed::Plain(URL_SAFE_NO_PAD.encode(*seed)),
            Some(passphrase) => seal(&seed, passphrase, &context(&key, &org, &user))?,
        };
        let made = Self {
            key,
            org,
            user,
            seed: kept,
        };
        files::make_dir(&state.join(TERMINAL_DIR))?;
        files::replace_json(&place(state), &made)?;
        let line = made.line(&secret);
        Ok((made, line))
    }

    /// Reads the key.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn read(state: &Path) -> Result<Self, KeyError> {
        files::read_json(&place(state))?.ok_or(KeyError::Missing)
    }

    /// Removes the key.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(self, state: &Path) -> Result<(), KeyError> {
        Ok(files::remove(&place(state))?)
    }

    /// Tells whether it is sealed.
    pub const fn is_sealed(&self) -> bool {
        matches!(self.seed, Seed::Sealed { .. })
    }

    /// Tells whether it is of who is signed in.
    pub fn is_of(&self, login: &Login) -> bool {
        self.org == login.org && self.user == login.user
    }

    /// Opens the key; a passphrase is needed if it is sealed.
    ///
    /// # Errors
    /// When the passphrase is wrong, or the file was changed.
    pub fn open(&self, passphrase: Option<&str>) -> Result<SecretKey, KeyError> {
        let seed = match &self.seed {
            Seed::Plain(text) => Zeroizing::new(decode(text)?),
            Seed::Sealed { salt, nonce, seed } => {
                let context = context(&self.key, &self.org, &self.user);
                let key = key_of(passphrase.unwrap_or_default(), &decode(salt)?)?;
                let nonce = <[u8; NONCE_LEN]>::try_from(decode(nonce)?);
                let nonce = nonce.map_err(|_| KeyError::Passphrase)?;
                let mut bytes = Zeroizing::new(decode(seed)?);
                let opened = key.open_in_place(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(context),
                    &mut bytes,
                );
                let opened = opened.map_err(|_| KeyError::Passphrase)?;
                Zeroizing::new(opened.to_vec())
            }
        };
        let seed = <&[u8; SEED_BYTES]>::try_from(seed.as_slice());
        let secret = SecretKey::from_seed(seed.map_err(|_| KeyError::Passphrase)?);
        if secret.public() != self.key {
            return Err(KeyError::Passphrase);
        }
        Ok(secret)
    }

    /// Returns the line by which the person registers the key: the public key, and its signature over whose
    /// it is.
    pub fn line(&self, secret: &SecretKey) -> String {
        let message = key_message(&self.org, &self.user, &self.key);
        let signature = URL_SAFE_NO_PAD.encode(secret.sign(&message));
        format!("{} {signature}", self.key)
    }
}

fn place(state: &Path) -> PathBuf {
    state.join(TERMINAL_DIR).join("approver-key.json")
}

fn decode(text: &str) -> Result<Vec<u8>, KeyError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| KeyError::Passphrase)
}

fn random(bytes: &mut [u8]) -> Result<(), KeyError> {
    getrandom::fill(bytes).map_err(|error| KeyError::Make(error.to_string()))
}

/// What a sealed seed belongs to: it is opened for nothing else.
fn context(key: &PublicKey, org: &str, user: &UserId) -> Vec<u8> {
    key_message(org, user, key)
}

/// Makes the key that seals of a passphrase.
fn key_of(passphrase: &str, salt: &[u8]) -> Result<LessSafeKey, KeyError> {
    let made = |error: argon2::Error| KeyError::Make(error.to_string());
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(made)?;
    let mut bytes = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut *bytes)
        .map_err(made)?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &*bytes);
    let key = key.map_err(|error| KeyError::Make(error.to_string()))?;
    Ok(LessSafeKey::new(key))
}

fn seal(seed: &[u8; SEED_BYTES], passphrase: &str, context: &[u8]) -> Result<Seed, KeyError> {
    let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_LEN]);
    random(&mut salt)?;
    random(&mut nonce)?;
    let key = key_of(passphrase, &salt)?;
    let mut bytes = seed.to_vec();
    let unique = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(unique, Aad::from(context), &mut bytes)
        .map_err(|error| KeyError::Make(error.to_string()))?;
    Ok(Seed::Sealed {
        salt: URL_SAFE_NO_PAD.encode(salt),
        nonce: URL_SAFE_NO_PAD.encode(nonce),
        seed: URL_SAFE_NO_PAD.encode(bytes),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use stockade_trust::UserId;
    use stockade_types::{Digest, UnixMillis};

    use super::{ApproverKey, KeyError, place};
    use crate::terminal::{Known, Login, Place};

    fn login() -> Login {
        Login {
            place: Place {
                origin: "https://stockade.test".to_owned(),
                known: Known::Digest(Digest::of(b"authority")),
            },
            org: "shop".to_owned(),
            user: UserId("u-ann".to_owned()),
            name: "Ann".to_owned(),
            token: "stkp_x".to_owned(),
            expires: UnixMillis(u64::MAX),
        }
    }

    fn text(state: &Path) -> String {
        fs::read_to_string(place(state)).unwrap()
    }

    #[test]
    fn a_key_is_kept_for_its_owner_alone_and_made_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            ApproverKey::read(dir.path()),
            Err(KeyError::Missing)
        ));
        let (made, line) = ApproverKey::create(dir.path(), &login(), None).unwrap();
        let mode = fs::metadata(place(dir.path()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = ApproverKey::create(dir.path(), &login(), None);
        assert!(matches!(again, Err(KeyError::Exists(key)) if key == made.key.to_string()));
        let read = ApproverKey::read(dir.path()).unwrap();
        let secret = read.open(None).unwrap();
        assert_eq!(read.line(&secret), line);
        assert!(read.is_of(&login()) && !read.is_sealed());
        read.remove(dir.path()).unwrap();
        assert!(matches!(
            ApproverKey::read(dir.path()),
            Err(KeyError::Missing)
        ));
    }

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_alone_and_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let (made, line) = ApproverKey::create(dir.path(), &login(), Some("four words")).unwrap();
        assert!(made.is_sealed());
        let secret = made.open(Some("four words")).unwrap();
        assert_eq!(made.line(&secret), line);
        for wrong in [None, Some(""), Some("four word"), Some("four words ")] {
            assert!(
                matches!(made.open(wrong), Err(KeyError::Passphrase)),
                "{wrong:?}"
            );
        }
        // Nothing of the file can be exchanged: whose it is, the public key, the seed.
        let file = text(dir.path());
        let changed = |from: &str, to: &str| {
            let other = file.replacen(from, to, 1);
            assert_ne!(other, file);
            let read = serde_json::from_str::<ApproverKey>(&other);
            read.is_ok_and(|read| read.open(Some("four words")).is_ok())
        };
        assert!(!changed("u-ann", "u-eve"));
        assert!(!changed("shop", "other"));
        let seed = file.split("\"seed\":\"").nth(1).unwrap();
        let first = &seed[..4];
        assert!(!changed(
            first,
            if first == "AAAA" { "BBBB" } else { "AAAA" }
        ));
        let text = format!("{made:?}");
        assert!(text.contains("Sealed") && !text.contains(first), "{text}");
    }
}
