//! The cache in the state directory: the addresses in clients' files, by the identity of the file,
//! and the places in which sessions have written.

use std::{
    fs::{self, Metadata, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use stockade_types::RawText;

/// The addresses in clients' files.
const CLIENTS_FILE: &str = "clients.json";
/// The workspaces of all sessions, one per line.
const WORKSPACES_FILE: &str = "workspaces";
/// Longest list that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The addresses in one client's file.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    client: String,
    path: RawText,
    size: u64,
    changed_s: i64,
    changed_ns: i64,
    device: u64,
    inode: u64,
    pub(super) addresses: Vec<String>,
}

impl Entry {
    pub(super) fn new(client: &str, path: &Path, file: &Metadata, addresses: Vec<String>) -> Self {
        Self {
            client: client.to_owned(),
            path: RawText::from_os(path.as_os_str()),
            size: file.len(),
            changed_s: file.mtime(),
            changed_ns: file.mtime_nsec(),
            device: file.dev(),
            inode: file.ino(),
            addresses,
        }
    }
}

/// The addresses in clients' files, as loaded and as they are now.
#[derive(Debug, Default)]
pub(super) struct Memory {
    found: Vec<Entry>,
    pub(super) now: Vec<Entry>,
}

impl Memory {
    /// Reads the cache; if the file is not a valid list, everything is determined again.
    pub(super) fn load(state: Option<&Path>) -> Self {
        let text = state.and_then(|state| small(&state.join(CLIENTS_FILE)).ok());
        let found = text.and_then(|text| serde_json::from_str(&text).ok());
        Self {
            found: found.unwrap_or_default(),
            now: Vec::new(),
        }
    }

    /// Returns the entry for a client's file, if it is still the same file.
    pub(super) fn of(&self, client: &str, path: &Path, file: &Metadata) -> Option<&Entry> {
        self.found.iter().find(|entry| {
            let now = Entry::new(client, path, file, entry.addresses.clone());
            **entry == now
        })
    }

    /// Writes the cache if it has changed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn save(&self, state: &Path) -> io::Result<()> {
        if self.found == self.now {
            return Ok(());
        }
        let text = serde_json::to_vec(&self.now).map_err(io::Error::other)?;
        let beside = state.join(format!("{CLIENTS_FILE}.{}.new", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&beside)?.write_all(&text)?;
        fs::rename(&beside, state.join(CLIENTS_FILE))
    }
}

/// Returns the workspaces of all sessions; `None` if there are too many to list.
pub(super) fn workspaces(state: &Path) -> Option<Vec<PathBuf>> {
    let text = match small(&state.join(WORKSPACES_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(Vec::new()),
        Err(_) => return None,
    };
    let lines = text.lines().map(serde_json::from_str::<RawText>);
    lines
        .map(|line| line.ok().map(|path| PathBuf::from(path.to_os())))
        .collect()
}

/// Adds a workspace to those of all sessions.
///
/// # Errors
/// When it cannot be written.
pub(super) fn add_workspace(state: &Path, workspace: &Path) -> io::Result<()> {
    // If there are too many, no settings are trusted.
    let Some(known) = workspaces(state) else {
        return Ok(());
    };
    if known.iter().any(|known| known == workspace) {
        return Ok(());
    }
    let line = serde_json::to_string(&RawText::from_os(workspace.as_os_str()));
    let line = format!("{}\n", line.map_err(io::Error::other)?);
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    let mut file = options.open(state.join(WORKSPACES_FILE))?;
    file.write_all(line.as_bytes())
}

fn small(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    fs::read_to_string(path)
}
