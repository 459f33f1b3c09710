//! The files of the agent: each is replaced as a whole, for its owner alone.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, process::Pid};
use serde::{Serialize, de::DeserializeOwned};
use stockade_types::ignored;

/// Bytes of the largest file that is read: a bundle.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a file of the agent cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system did not do it.
    #[error("cannot {what} `{path}`")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not what was written there.
    #[error("`{path}` cannot be read: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { what, path, source }
}

/// Makes a directory for its owner alone, if it is not there.
pub(crate) fn make_dir(path: &Path) -> Result<(), FileError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("make the directory", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Replaces a file, or makes it: after a crash either the old or the new content is there, on the disk.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let new = path.with_extension("new");
    let write = || {
        // What an interrupted run has left.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(content)?;
        file.sync_data()?;
        fs::rename(&new, path)?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        File::open(dir)?.sync_all()
    };
    write().map_err(failed("write", path))
}

/// Replaces a file with a value, as JSON.
pub(crate) fn replace_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let mut content = serde_json::to_vec(value).map_err(|error| FileError::Content {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    content.push(b'\n');
    replace(path, &content)
}

/// Reads a file, which is no link; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let open = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match open {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let mut content = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content);
    read.map_err(failed("read", path))?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(FileError::Content {
            path: path.to_owned(),
            why: format!("it is longer than {FILE_BYTES_MAX} bytes"),
        });
    }
    Ok(Some(content))
}

/// Reads a value from a file; `None` if there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let Some(content) = read(path)? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&content);
    value.map(Some).map_err(|error| FileError::Content {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

/// Removes a file, if it is there, and what an interrupted [`replace`] has left of it.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    for path in [path, &path.with_extension("new")] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", path)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Takes the lock at `path` for this process, until it ends, and writes there which process that is; `None`
/// if another one has it.
pub(crate) fn lock(path: &Path) -> Result<Option<File>, FileError> {
    let mut options = OpenOptions::new();
    let open = options.read(true).write(true).create(true).truncate(false);
    let mut file = open.mode(0o600).open(path).map_err(failed("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(failed("lock", path)(error)),
    }
    let mut write = || {
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())
    };
    write().map_err(failed("write", path))?;
    Ok(Some(file))
}

/// Returns the process that has the lock at `path`, if one has it.
pub(crate) fn locked_by(path: &Path) -> Result<Option<Pid>, FileError> {
    if !is_locked(path) {
        return Ok(None);
    }
    let content = read(path)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let id = text.trim().parse().ok().and_then(Pid::from_raw);
    id.map(Some).ok_or_else(|| FileError::Content {
        path: path.to_owned(),
        why: "it names no process".to_owned(),
    })
}

/// Returns whether a process has the lock at `path`.
pub(crate) fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    match file.try_lock_shared() {
        Ok(()) => {
            ignored(file.unlock(), "it is released with the descriptor too");
            false
        }
        Err(fs::TryLockError::WouldBlock) => true,
        Err(fs::TryLockError::Error(_)) => false,
    }
}
