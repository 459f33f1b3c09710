//! The directory of one session on the host: its journal, its lock, its mount point.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use stockade_event::layout;
use stockade_types::{AbsPath, SessionId};

use crate::RunError;

/// A session's directory, locked for as long as this value lives.
#[derive(Debug)]
pub(crate) struct SessionDir {
    path: AbsPath,
    _lock: File,
}

impl SessionDir {
    /// Makes the directory and takes its lock.
    pub(crate) fn create(state_dir: &Path, session: &SessionId) -> Result<Self, RunError> {
        let path = layout::session_dir(state_dir, session);
        let wrong = |source: io::Error| RunError::SessionDirectory {
            path: path.clone(),
            source,
        };
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(wrong)?;
        }
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(wrong)?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(path.join("root"))
            .map_err(wrong)?;
        let lock = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path.join(layout::LOCK_FILE))
            .map_err(wrong)?;
        lock.lock().map_err(wrong)?;
        let path = AbsPath::new(&path).map_err(|_| RunError::Path(path.clone()))?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) const fn path(&self) -> &AbsPath {
        &self.path
    }

    /// Returns a path below.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.as_path().join(name)
    }

    /// Takes the mount point and, for a session that never ran, everything away.
    pub(crate) fn clean(&self, what: Clean) {
        // What cannot be removed is empty or ours alone; the session's end does not depend on it.
        match what {
            Clean::MountPoint => {
                drop(fs::remove_dir(self.join("root")));
                drop(fs::remove_dir_all(self.join("inside")));
            }
            Clean::Everything => drop(fs::remove_dir_all(self.path.as_path())),
        }
    }
}

/// How much of a session's directory is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clean {
    /// The record stays.
    MountPoint,
    /// There is no record: the journal could not even begin.
    Everything,
}
