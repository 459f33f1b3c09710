//! Notices when a mount of the session disappears because an outside process replaced the file
//! below it.
//!
//! A mount holds a protected file that existed at the start. If the owner's editor or git replaces
//! that file by a rename, the kernel removes the mount in every namespace. From then on only the
//! change notifier protects the name, as it protects names that did not exist at the start.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read as _, Seek as _},
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::Mutex,
};

use stockade_sys::proc_text::mounts;

use crate::recorder::lock;

/// The mounts of one session.
#[derive(Debug)]
pub struct MountWatch {
    file: File,
    known: BTreeMap<u64, PathBuf>,
}

impl MountWatch {
    /// Reads the mounts of the namespace that process `pid` is in.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn new(pid: u32) -> io::Result<Self> {
        let mut file = File::open(format!("/proc/{pid}/mountinfo"))?;
        let known = read(&mut file)?;
        Ok(Self { file, known })
    }

    /// Returns the descriptor that has an exceptional condition when mounts have changed (proc(5),
    /// `/proc/PID/mounts`).
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Returns the places of mounts that disappeared since the last call; empty once the session
    /// ends.
    pub fn gone(&mut self) -> Vec<PathBuf> {
        let Ok(now) = read(&mut self.file) else {
            return Vec::new();
        };
        if now.is_empty() {
            return Vec::new();
        }
        let gone = self.known.iter().filter(|(id, _)| !now.contains_key(id));
        let gone = gone.map(|(_, path)| path.clone()).collect();
        self.known = now;
        gone
    }
}

/// Protected files that the supervisor replaces on behalf of the session: their mounts go too.
#[derive(Debug, Default)]
pub struct Replaced(Mutex<BTreeSet<PathBuf>>);

impl Replaced {
    /// Notes that the file at this path is about to be replaced.
    pub fn note(&self, path: &Path) {
        lock(&self.0).insert(path.to_owned());
    }

    /// Tells, once, whether a removed mount was removed by us.
    pub fn takes(&self, path: &Path) -> bool {
        lock(&self.0).remove(path)
    }
}

fn read(file: &mut File) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    let mounts = mounts(&text)?.into_iter();
    Ok(mounts.map(|mount| (mount.id, mount.at)).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::MountWatch;

    #[test]
    fn nothing_goes_where_nothing_happens() {
        let mut watch = MountWatch::new(std::process::id()).unwrap();
        assert!(watch.known.values().any(|path| path == Path::new("/")));
        assert!(watch.gone().is_empty());
    }
}
