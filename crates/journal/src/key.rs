//! The key that signs journals.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::Signer as _;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use stockade_types::Digest;
use zeroize::Zeroizing;

/// First line of a key file; another version of the format has another line.
const KEY_HEADER: &str = "stockade signing key v1";
/// Longest key file: header, 44 characters and room for line ends.
const KEY_FILE_BYTES_MAX: u64 = 256;
/// Length of an Ed25519 seed and of a public key (RFC 8032 section 5.1.5).
const SEED_BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It does not exist.
    #[error("there is no signing key at `{path}`; the first `stockade run` creates it")]
    Missing {
        /// Where it was expected.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("cannot {act} the signing key `{path}`")]
    Io {
        /// `read`, `create`, …
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another user could read or replace the file, or it is not a plain file.
    #[error("the signing key `{path}` {what}; expected a plain file of yours with mode 0600")]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The file is not a key.
    #[error(
        "`{path}` is not a signing key; move it away and a new one is created, but the journals \
         that it signed can then not be verified without its public key"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no random bytes.
    #[error("no random bytes for a signing key: {0}")]
    Random(getrandom::Error),
    /// The text is not a public key.
    #[error("`{0}` is not a public key; expected 64 lower-case hexadecimal digits of a valid key")]
    PublicKey(String),
}

/// An Ed25519 key that signs journals; its bytes are wiped when it is dropped and never printed.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Reads the key at `path`.
    ///
    /// # Errors
    /// When there is none, it is not a plain file of this user with mode 0600 (a link is not
    /// followed), or it is not a key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(descriptor) => File::from(descriptor),
            Err(Errno::NOENT) => {
                return Err(KeyError::Missing {
                    path: path.to_owned(),
                });
            }
            Err(Errno::LOOP) => return Err(unsafe_file(path, "is a symbolic link")),
            Err(error) => return Err(io_error("read", path, error.into())),
        };
        let meta = file
            .metadata()
            .map_err(|source| io_error("read", path, source))?;
        if !meta.is_file() {
            return Err(unsafe_file(path, "is not a plain file"));
        }
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(unsafe_file(
                path,
                &format!("belongs to user {}", meta.uid()),
            ));
        }
        if meta.mode() & 0o077 != 0 {
            return Err(unsafe_file(
                path,
                &format!("has mode {:04o}", meta.mode() & 0o7777),
            ));
        }
        let mut text = Zeroizing::new(String::new());
        // One byte more than allowed, so that a longer file is noticed.
        file.take(KEY_FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(|source| io_error("read", path, source))?;
        Self::parse(&text).ok_or_else(|| KeyError::Malformed {
            path: path.to_owned(),
        })
    }

    /// Reads the key at `path`, or creates it if there is none. If two processes create it at the
    /// same time, one wins and both get its key.
    ///
    /// # Errors
    /// As [`Self::load`], and when the file cannot be created.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Missing { .. }) => {}
            found => return found,
        }
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        getrandom::fill(seed.as_mut_slice()).map_err(KeyError::Random)?;
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix).map_err(KeyError::Random)?;
        let new = path.with_extension(format!("{:016x}.new", u64::from_ne_bytes(suffix)));
        let created = Self::write_new(&new, &seed).and_then(|()| publish(&new, path));
        // Also after a failure, so that no half-written file stays behind.
        match rustix::fs::unlink(&new) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(io_error("tidy up after", &new, error.into())),
        }
        created?;
        Self::load(path)
    }

    /// Returns the public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    fn write_new(path: &Path, seed: &[u8; SEED_BYTES]) -> Result<(), KeyError> {
        let failed = |source| io_error("create", path, source);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let descriptor =
            rustix::fs::open(path, flags, mode).map_err(|error| failed(error.into()))?;
        let encoded = Zeroizing::new(STANDARD.encode(seed));
        let text = Zeroizing::new(format!("{KEY_HEADER}\n{}\n", *encoded));
        let mut file = File::from(descriptor);
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)
    }

    fn parse(text: &str) -> Option<Self> {
        let encoded = text
            .strip_prefix(KEY_HEADER)?
            .strip_prefix('\n')?
            .strip_suffix('\n')?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).ok()?);
        let seed = Zeroizing::new(<[u8; SEED_BYTES]>::try_from(bytes.as_slice()).ok()?);
        Some(Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }
}

/// Gives the finished file its name, unless another process was first.
fn publish(new: &Path, path: &Path) -> Result<(), KeyError> {
    match rustix::fs::linkat(CWD, new, CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(io_error("create", path, error.into())),
    }
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| io_error("create", path, source))
}

fn io_error(act: &'static str, path: &Path, source: io::Error) -> KeyError {
    KeyError::Io {
        act,
        path: path.to_owned(),
        source,
    }
}

fn unsafe_file(path: &Path, what: &str) -> KeyError {
    KeyError::Unsafe {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(<secret>, public {})", self.verifying_key())
    }
}

/// The public half of a [`SigningKey`], written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Returns the first 12 digits, for people.
    pub fn short(&self) -> String {
        Digest::from_bytes(self.0.to_bytes()).short()
    }

    /// Returns whether `signature` is one of `message` by this key, in the strict sense in which a
    /// signature has no second valid form (RFC 8032 section 5.1.7, cofactorless).
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Digest::from_bytes(self.0.to_bytes()).fmt(f)
    }
}

impl TryFrom<String> for VerifyingKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<VerifyingKey> for String {
    fn from(key: VerifyingKey) -> Self {
        key.to_string()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

impl FromStr for VerifyingKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError::PublicKey(text.chars().take(80).collect());
        let bytes: Digest = text.parse().map_err(|_| wrong())?;
        ed25519_dalek::VerifyingKey::from_bytes(bytes.as_bytes())
            .map(Self)
            .map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::{KeyError, SigningKey, VerifyingKey};

    #[test]
    fn a_key_is_created_once_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(matches!(
            SigningKey::load(&path),
            Err(KeyError::Missing { .. })
        ));
        let first = SigningKey::load_or_create(&path).unwrap();
        let again = SigningKey::load_or_create(&path).unwrap();
        assert_eq!(first.verifying_key(), again.verifying_key());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let text = first.verifying_key().to_string();
        assert_eq!(text.parse::<VerifyingKey>().unwrap(), first.verifying_key());
    }

    #[test]
    fn a_key_does_not_print() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = SigningKey::load_or_create(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let seed = text.lines().nth(1).unwrap();
        assert!(!format!("{key:?}").contains(seed));
    }

    #[test]
    fn a_key_that_others_could_have_touched_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        SigningKey::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o666, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = SigningKey::load_or_create(&path).unwrap_err();
            assert!(matches!(error, KeyError::Unsafe { .. }), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        SigningKey::load(&path).unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(
            SigningKey::load_or_create(&link),
            Err(KeyError::Unsafe { .. })
        ));
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        assert!(matches!(
            SigningKey::load(&folder),
            Err(KeyError::Unsafe { .. })
        ));
    }

    #[test]
    fn what_is_not_a_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for text in [
            "",
            "stockade signing key v1\nAAAA\n",
            "other\n",
            &"x".repeat(9_999),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = SigningKey::load_or_create(&path).unwrap_err();
            assert!(matches!(error, KeyError::Malformed { .. }), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn processes_that_create_at_once_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let keys: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| SigningKey::load_or_create(&path).unwrap()))
                .collect();
            threads
                .into_iter()
                .map(|t| t.join().unwrap().verifying_key().to_string())
                .collect()
        });
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "{keys:?}");
    }
}
