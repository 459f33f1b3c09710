//! The keys by which the server signs, each a file that only its owner reads.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::fs::{Mode, OFlags};
use stockade_trust::{Keys, SecretKey};
use zeroize::Zeroizing;

use crate::{ControlError, random};

/// First line of a file with a key.
const HEADER: &str = "stockade server key v1";
/// Bytes of such a file; it has 68.
const FILE_BYTES_MAX: u64 = 128;

/// All keys of a server in managed mode: one machine holds them.
pub struct SigningKeys {
    /// Says who may sign what.
    pub root: SecretKey,
    /// Signs bundles.
    pub policy: SecretKey,
    /// Signs the directory of people.
    pub people: SecretKey,
    /// Signs grants, receipts and orders.
    pub server: SecretKey,
}

const NAMES: [&str; 4] = ["root", "policy", "people", "server"];

impl SigningKeys {
    /// Makes all keys in `dir`, which is there and empty.
    ///
    /// # Errors
    /// When one cannot be drawn or written.
    pub(crate) fn create(dir: &Path) -> Result<(), ControlError> {
        for name in NAMES {
            let seed = Zeroizing::new(random::bytes::<32>()?);
            let text = Zeroizing::new(format!("{HEADER}\n{}\n", STANDARD.encode(*seed)));
            write_private(&dir.join(name), text.as_bytes())?;
        }
        Ok(())
    }

    /// Reads all keys.
    ///
    /// # Errors
    /// When one is not there, others could have read it, or it is no key.
    pub(crate) fn load(dir: &Path) -> Result<Self, ControlError> {
        let key = |name: &str| -> Result<SecretKey, ControlError> {
            let path = dir.join(name);
            let text = Zeroizing::new(read_private(&path, FILE_BYTES_MAX)?);
            let text = Zeroizing::new(String::from_utf8_lossy(&text).into_owned());
            let seed = text
                .strip_prefix(HEADER)
                .and_then(|rest| STANDARD.decode(rest.trim()).ok())
                .and_then(|seed| <[u8; 32]>::try_from(seed).ok())
                .map(Zeroizing::new);
            let seed = seed.ok_or_else(|| ControlError::Wrong {
                path: path.clone(),
                what: "is no key; take it from a backup".to_owned(),
            })?;
            Ok(SecretKey::from_seed(&seed))
        };
        let [root, policy, people, server] = NAMES;
        Ok(Self {
            root: key(root)?,
            policy: key(policy)?,
            people: key(people)?,
            server: key(server)?,
        })
    }

    /// Returns by whose signature grants, receipts and orders count.
    pub fn servers(&self) -> Keys {
        only(&self.server)
    }
}

/// Returns that one key must have signed.
pub(crate) fn only(key: &SecretKey) -> Keys {
    Keys {
        keys: vec![key.public()],
        threshold: 1,
    }
}

/// Writes a new file that only its owner reads, and waits until it is on the disk.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), ControlError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR);
    let mut file = File::from(opened.map_err(|error| failed("create", path, error.into()))?);
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| failed("write", path, error))
}

/// Reads a file of at most `bytes_max` bytes that nobody else can read or write.
pub(crate) fn read_private(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ControlError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let file = File::from(opened.map_err(|error| failed("open", path, error.into()))?);
    let meta = file
        .metadata()
        .map_err(|error| failed("read", path, error))?;
    let is_own = meta.uid() == rustix::process::geteuid().as_raw();
    if !meta.is_file() || !is_own || meta.mode() & 0o077 != 0 {
        return Err(ControlError::Wrong {
            path: path.to_owned(),
            what: "is not safe; expected a plain file of yours with mode 0600".to_owned(),
        });
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a longer file is noticed.
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed("read", path, error))?;
    if u64::try_from(bytes.len()).is_ok_and(|read| read > bytes_max) {
        return Err(ControlError::Wrong {
            path: path.to_owned(),
            what: format!("is longer than {bytes_max} bytes"),
        });
    }
    Ok(bytes)
}

fn failed(act: &'static str, path: &Path, source: std::io::Error) -> ControlError {
    ControlError::File {
        act,
        path: path.to_owned(),
        source,
    }
}
