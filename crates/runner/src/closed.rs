//! What others cannot read in the system directories that a session sees. An ordinary user is kept
//! from it by the kernel; root, who owns it, is not.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use stockade_types::AbsPath;

/// Where the machine keeps what it configures and what was added to it. `/usr` itself is what
/// packages install, and the same on every machine.
const SEARCHED: [&str; 3] = ["/etc", "/opt", "/usr/local"];
/// Directories whose entries are looked at; those beyond are covered as a whole.
const DIRECTORIES_MAX: usize = 20_000;

/// Finds the outermost files and directories that others cannot read or enter, but for those on the
/// way to what is `named`.
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
            // A link says nothing of what it leads to.
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

/// Whether a path lies in what is named: all of that is meant.
fn is_within(path: &Path, named: &[PathBuf]) -> bool {
    named.iter().any(|named| path.starts_with(named))
}
