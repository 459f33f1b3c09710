//! The mounts of a namespace as the kernel lists them (`/proc/PID/mountinfo`, proc(5)).

use std::{collections::HashSet, fs, io};

use rustix::io::Errno;
pub use stockade_sys::proc_text::Mount;
use stockade_sys::proc_text::mounts;

/// The mounts that a session sees. They are fixed before its command starts.
#[derive(Debug)]
pub struct SessionMounts(HashSet<u64>);

impl SessionMounts {
    /// Reads the mounts of the namespace that thread `tid` is in.
    ///
    /// # Errors
    /// When it is gone or cannot be read.
    pub fn of(tid: u32) -> io::Result<Self> {
        let mounts = read(&format!("/proc/{tid}/mountinfo"))?;
        Ok(Self(mounts.into_iter().map(|mount| mount.id).collect()))
    }

    /// Refuses an object outside the session's view: the supervisor does nothing there in anybody's
    /// name, however the path got there. `None` is a mount that the kernel does not report.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn require(&self, mount: Option<u64>) -> io::Result<()> {
        if mount.is_some_and(|id| self.0.contains(&id)) {
            Ok(())
        } else {
            Err(Errno::ACCESS.into())
        }
    }
}

/// Reads the list in a file of that kind.
///
/// # Errors
/// When it cannot be read or is not what proc(5) says.
pub fn read(path: &str) -> io::Result<Vec<Mount>> {
    Ok(mounts(&fs::read(path)?)?)
}
