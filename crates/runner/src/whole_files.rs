//! Files that are replaced as a whole.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Largest login file.
pub(crate) const LOGIN_BYTES_MAX: usize = 1 << 20;
/// Longest token.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Replaces the file to which links lead, and keeps its mode.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<fs::Metadata> {
    let path = fs::canonicalize(path)?;
    let mode = fs::metadata(&path)?.mode() & 0o777;
    let temporary = path.with_extension(format!("stockade-{:016x}", random()?));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    file.metadata()
}

/// Returns a number that no session can predict.
pub(crate) fn random() -> io::Result<u64> {
    getrandom::u64().map_err(|error| io::Error::other(error.to_string()))
}
