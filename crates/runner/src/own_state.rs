//! The one check of the state directory: `run` refuses a directory that fails it, `doctor` reports
//! it.

use std::{fs::File, io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use stockade_journal::layout::SESSIONS_DIR;

/// Why a directory cannot hold our state.
#[derive(Debug)]
pub enum StateProblem {
    /// It does not exist.
    Missing,
    /// Another user could read or change it; the text is what is wrong, and the fix.
    Unsafe(String),
    /// It cannot be examined.
    Io(io::Error),
}

/// Checks a state directory and the folder of sessions in it, which need not exist.
///
/// # Errors
/// The problem; a missing directory is one too.
pub fn check(path: &Path) -> Result<(), (std::path::PathBuf, StateProblem)> {
    let sessions = path.join(SESSIONS_DIR);
    directory(path).map_err(|problem| (path.to_owned(), problem))?;
    match directory(&sessions) {
        Ok(()) | Err(StateProblem::Missing) => Ok(()),
        Err(problem) => Err((sessions, problem)),
    }
}

/// Checks that a directory is not a link, belongs to this user and is closed to others.
fn directory(path: &Path) -> Result<(), StateProblem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(Errno::NOENT) => return Err(StateProblem::Missing),
        // With O_DIRECTORY a link is ENOTDIR and not ELOOP (open(2)).
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let what = "is not a directory, or is a symbolic link".to_owned();
            return Err(StateProblem::Unsafe(what));
        }
        Err(error) => return Err(StateProblem::Io(error.into())),
    };
    let meta = directory.metadata().map_err(StateProblem::Io)?;
    let us = rustix::process::geteuid().as_raw();
    if meta.uid() != us {
        let what = format!("belongs to user {}, not to {us}", meta.uid());
        return Err(StateProblem::Unsafe(what));
    }
    if meta.mode() & 0o077 != 0 {
        let mode = meta.mode() & 0o7777;
        let what = format!("has mode {mode:04o}; run chmod 700 on it");
        return Err(StateProblem::Unsafe(what));
    }
    Ok(())
}
