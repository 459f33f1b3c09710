//! Files in the system directories that other users cannot read. The kernel keeps them from an
//! ordinary user, but not from root, who owns them.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use stockade_types::AbsPath;

/// Directories with the machine's configuration and additions. `/usr` itself contains only what
/// packages install, and that is the same on every machine.
const SEARCHED: [&str; 3] = ["/etc", "/opt", "/usr/local"];
/// Directories whose entries are examined; any further one is covered as a whole.
const DIRECTORIES_MAX: usize = 20_000;

/// Finds the outermost files and directories that others cannot read or enter, except those on the
/// path to a `named` one.
pub(crate) fn find(named: &[PathBuf]) -> Vec<AbsPath> {
    let mut found = Vec::new();
    let mut todo: Vec<PathBuf> = SEARCHED.map(PathBuf::from).into();
    let mut directories = 0;
    while let Some(directory) = todo.pop() {
        directories += 1;
        if directories > DIRECTORIES_MAX {
            found.extend(AbsPath::new(&directory).ok());
            continue;
        }
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            // The mode of a link says nothing about its target.
            if kind.is_symlink() {
                continue;
            }
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let needed = if kind.is_dir() { 0o005 } else { 0o004 };
            let is_open = metadata.mode() & needed == needed;
            let is_named = named
                .iter()
                .any(|named| named.starts_with(&path) || path.starts_with(named));
            if !is_open && !is_named {
                found.extend(AbsPath::new(&path).ok());
            } else if kind.is_dir() && !is_within(&path, named) {
                todo.push(path);
            }
        }
    }
    found
}

/// Whether a path is in a named directory, which includes everything in it.
fn is_within(path: &Path, named: &[PathBuf]) -> bool {
    named.iter().any(|named| path.starts_with(named))
}
