//! Settings with a secret, each in a file of its own among the keys.

use std::{fs, io, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    ControlError,
    keys::{read_private, write_private},
};

/// Bytes of a file.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Keeps settings in `dir`, in place of those that are there.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn write(dir: &Path, file: &str, settings: &impl Serialize) -> Result<(), ControlError> {
    let text = serde_json::to_vec_pretty(settings).map_err(|error| ControlError::Stored {
        what: "settings",
        why: error.to_string(),
    })?;
    let new = dir.join(format!("{file}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(ControlError::file("remove", new)(error));
        }
        Ok(()) | Err(_) => {}
    }
    write_private(&new, &text)?;
    let path = dir.join(file);
    fs::rename(&new, &path).map_err(ControlError::file("write", path))
}

/// Forgets settings.
///
/// # Errors
/// When they cannot be removed. `Ok(false)` if there were none.
pub(crate) fn remove(dir: &Path, file: &str) -> Result<bool, ControlError> {
    let path = dir.join(file);
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ControlError::file("remove", path)(error)),
    }
}

/// Reads settings, unchecked.
///
/// # Errors
/// When others could have read or written them, or they are none of these. `Ok(None)` if there are none.
pub(crate) fn read<T: DeserializeOwned>(dir: &Path, file: &str) -> Result<Option<T>, ControlError> {
    let path = dir.join(file);
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(_) | Err(_) => {}
    }
    let bytes = read_private(&path, FILE_BYTES_MAX)?;
    let settings = serde_json::from_slice(&bytes).map_err(|error| ControlError::Wrong {
        path,
        what: format!("cannot be read: {error}"),
    })?;
    Ok(Some(settings))
}
