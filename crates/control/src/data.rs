//! The directory of a server.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use stockade_trust::RelyingParty;

use crate::{
    ControlError,
    authority::Authority,
    keys::{SigningKeys, read_private, write_private},
};

/// Bytes of a file with settings.
const SETTINGS_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of the name of an organisation.
const ORG_BYTES_MAX: usize = 64;
/// The port of HTTPS, which an origin does not name.
const HTTPS_PORT: u16 = 443;

/// What `serve init` was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Names the organisation: letters, digits, `-` and `_`.
    pub org: String,
    /// The name by which people and machines reach the server; passkeys are bound to it.
    pub host: String,
    /// Where pages are served.
    pub listen: SocketAddr,
    /// Where machines are served.
    pub node_listen: SocketAddr,
}

impl Settings {
    /// Checks what was given.
    ///
    /// # Errors
    /// When a name is not accepted.
    pub fn check(&self) -> Result<(), ControlError> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let org = &self.org;
        if org.is_empty() || org.len() > ORG_BYTES_MAX || !org.bytes().all(is_word) {
            return Err(ControlError::Value {
                what: "the organisation",
                value: org.chars().take(80).collect(),
                expected: "1 to 64 of the characters A-Z a-z 0-9 - _",
            });
        }
        if self.host.parse::<stockade_types::HostName>().is_err() {
            return Err(ControlError::Value {
                what: "the host",
                value: self.host.chars().take(80).collect(),
                expected: "a name such as stockade.example.org or localhost; passkeys need a name, not an address",
            });
        }
        Ok(())
    }

    /// Returns the origin of the pages when they are served on `port`.
    pub fn origin(&self, port: u16) -> String {
        match port {
            HTTPS_PORT => format!("https://{}", self.host),
            port => format!("https://{}:{port}", self.host),
        }
    }

    /// Returns where machines reach the server when they are served on `port`.
    pub fn node_url(&self, port: u16) -> String {
        format!("https://{}:{port}", self.host)
    }

    /// Returns where people vote when pages are served on `port`.
    pub fn party(&self, port: u16) -> RelyingParty {
        RelyingParty {
            id: self.host.clone(),
            origin: self.origin(port),
        }
    }
}

/// The directory of a server.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// Shows that this process is the server of the directory, as long as it is there.
#[derive(Debug)]
pub struct Lease(
    #[expect(dead_code, reason = "the lock is held as long as the file is open")] File,
);

impl DataDir {
    /// Makes the directory of a new server: its keys and its authority.
    ///
    /// # Errors
    /// When there is something already, or it cannot be made.
    pub fn init(path: &Path, settings: &Settings) -> Result<Self, ControlError> {
        settings.check()?;
        let data = Self {
            path: path.to_owned(),
        };
        make_dir(path)?;
        if data.settings_path().exists() {
            return Err(ControlError::Wrong {
                path: path.to_owned(),
                what: "holds a server already".to_owned(),
            });
        }
        for dir in [data.keys_path(), data.evidence_path(), data.record_path()] {
            make_dir(&dir)?;
        }
        // A try that failed half way has left keys that nothing was signed with.
        for entry in fs::read_dir(data.keys_path())
            .map_err(ControlError::file("read", data.keys_path()))?
            .flatten()
        {
            fs::remove_file(entry.path()).map_err(ControlError::file("remove", entry.path()))?;
        }
        SigningKeys::create(&data.keys_path())?;
        Authority::create(&data.keys_path(), &settings.org)?;
        let text = serde_json::to_vec_pretty(settings).map_err(|error| ControlError::Stored {
            what: "settings",
            why: error.to_string(),
        })?;
        // Last: a directory with settings is whole.
        write_private(&data.settings_path(), &text)?;
        Ok(data)
    }

    /// Opens the directory of a server.
    ///
    /// # Errors
    /// When there is none, or others can write it.
    pub fn open(path: &Path) -> Result<(Self, Settings), ControlError> {
        let data = Self {
            path: path.to_owned(),
        };
        if !data.settings_path().exists() {
            return Err(ControlError::NotInitialised {
                path: path.to_owned(),
            });
        }
        private_dir(path)?;
        let bytes = read_private(&data.settings_path(), SETTINGS_BYTES_MAX)?;
        let settings: Settings =
            serde_json::from_slice(&bytes).map_err(|error| ControlError::Wrong {
                path: data.settings_path(),
                what: format!("cannot be read: {error}"),
            })?;
        settings.check()?;
        Ok((data, settings))
    }

    /// Becomes the one server of the directory.
    ///
    /// # Errors
    /// When there is another one.
    pub fn lease(&self) -> Result<Lease, ControlError> {
        let path = self.path.join("lock");
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(ControlError::file("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Lease(file)),
            Err(TryLockError::WouldBlock) => Err(ControlError::InUse {
                path: self.path.clone(),
            }),
            Err(TryLockError::Error(source)) => Err(ControlError::file("lock", path)(source)),
        }
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the file of the state.
    pub fn state_path(&self) -> PathBuf {
        self.path.join("state.db")
    }

    /// Returns the index of the journals, which can be removed while no server runs.
    pub fn index_path(&self) -> PathBuf {
        self.path.join("index.db")
    }

    /// Returns the directory of the keys.
    pub fn keys_path(&self) -> PathBuf {
        self.path.join("keys")
    }

    /// Returns the directory of the journals of machines.
    pub fn evidence_path(&self) -> PathBuf {
        self.path.join("evidence")
    }

    /// Returns the state directory of the server's own record: `stockade log verify` reads it.
    pub fn record_path(&self) -> PathBuf {
        self.path.join("server-journal")
    }

    fn settings_path(&self) -> PathBuf {
        self.path.join("server.json")
    }

    fn running_path(&self) -> PathBuf {
        self.path.join("running.json")
    }

    /// Notes where the server listens, for commands beside it.
    pub(crate) fn note_running(&self, running: &Running) -> Result<(), ControlError> {
        let path = self.running_path();
        let new = self.path.join("running.json.new");
        let text = serde_json::to_vec(running).map_err(|error| ControlError::Stored {
            what: "addresses",
            why: error.to_string(),
        })?;
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ControlError::file("remove", new)(error));
            }
            _ => {}
        }
        write_private(&new, &text)?;
        fs::rename(&new, &path).map_err(ControlError::file("write", path))
    }

    /// Returns where the server listens, or listened last.
    pub fn running(&self) -> Option<Running> {
        let bytes = read_private(&self.running_path(), SETTINGS_BYTES_MAX).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// For pages.
    pub web: SocketAddr,
    /// For machines.
    pub node: SocketAddr,
}

/// Makes a directory that only its owner enters; it may be there.
pub(crate) fn make_dir(path: &Path) -> Result<(), ControlError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(ControlError::file("create", path))?;
    private_dir(path)
}

fn private_dir(path: &Path) -> Result<(), ControlError> {
    let meta = fs::metadata(path).map_err(ControlError::file("read", path))?;
    let is_own = meta.uid() == rustix::process::geteuid().as_raw();
    let others = meta.mode() & 0o077;
    if meta.is_dir() && is_own && others == 0 {
        return Ok(());
    }
    Err(ControlError::Wrong {
        path: path.to_owned(),
        what: "is not safe; expected a directory of yours with mode 0700".to_owned(),
    })
}
