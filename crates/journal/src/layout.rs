//! The places of a session's files, defined once so that the writer and every reader agree.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};
use stockade_types::SessionId;

/// The signing key, in the state directory.
pub const KEY_FILE: &str = "key";
/// The folder of all sessions, in the state directory.
pub const SESSIONS_DIR: &str = "sessions";
/// The folder of what running sessions would leave behind if their supervisor was killed, in the
/// state directory: one file per session, with the path of one directory per line.
pub const RUNNING_DIR: &str = "running";
/// The index of sessions, in the state directory; it can always be deleted.
pub const INDEX_FILE: &str = "index.db";
/// The journal, in the session directory.
pub const JOURNAL_FILE: &str = "journal.jsonl";
/// The journal of an ended session after it is compressed, in its place.
pub const PACKED_FILE: &str = "journal.jsonl.zst";
/// The signed end of a closed journal, in the session directory.
pub const HEAD_FILE: &str = "head";
/// Decisions that took effect before they are in the journal, in the session directory; empty or gone
/// once it is closed.
pub const SPOOL_FILE: &str = "spool";
/// What the session's terminal showed, as asciicast, in the session directory, if policy asks for it.
pub const RECORDING_FILE: &str = "terminal.cast";
/// The file on which the supervisor of a running session holds an exclusive `flock(2)`.
pub const LOCK_FILE: &str = "lock";

/// Returns the directory of `session` below `state_dir`.
pub fn session_dir(state_dir: &Path, session: &SessionId) -> PathBuf {
    state_dir.join(SESSIONS_DIR).join(session.as_str())
}

/// Returns whether a supervisor still holds the lock of the session in `dir`.
///
/// The check takes a shared lock and releases it at once, so a supervisor must take its own lock
/// with a blocking call.
///
/// # Errors
/// When the lock file exists but cannot be opened or queried.
pub fn is_live(dir: &Path) -> io::Result<bool> {
    let path = dir.join(LOCK_FILE);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{LOCK_FILE, is_live};

    #[test]
    fn a_session_is_live_while_its_lock_is_held() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_live(dir.path()).unwrap());
        let lock = std::fs::File::create(dir.path().join(LOCK_FILE)).unwrap();
        assert!(!is_live(dir.path()).unwrap());
        lock.lock().unwrap();
        assert!(is_live(dir.path()).unwrap());
        drop(lock);
        assert!(!is_live(dir.path()).unwrap());
    }
}
