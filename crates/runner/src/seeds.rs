//! What the user configured, copied into the directory that an agent keeps between its sessions.
//!
//! The agent may have left anything there. Every step is by descriptor, what is in the way is put
//! aside and never removed, and what was copied last is known from a list that no session sees: if
//! the user's own file has changed since, it wins; if only the agent's has, that stays.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt as _},
            fs::{MetadataExt, OpenOptionsExt as _, PermissionsExt},
        },
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use stockade_types::Digest;

use crate::facts::Caller;

/// Largest file that is copied as a seed; configuration is small.
const SEED_BYTES_MAX: u64 = 16 << 20;
/// Deepest seed directory.
const SEED_DEPTH_MAX: usize = 8;
/// Largest list of what was copied.
const LIST_BYTES_MAX: u64 = 16 << 20;
/// Follows the name of what was put aside, before its number.
const ASIDE: &str = ".stockade-kept-";

/// What was copied last, by the path below the directory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seeded(BTreeMap<String, Original>);

/// A file of the user as it was when it was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Original {
    digest: Digest,
    /// Size, inode and change time in nanoseconds: as long as they are the same, so is the content.
    size: u64,
    inode: u64,
    changed: i128,
}

impl Seeded {
    /// Reads a list; one that is not there or damaged is empty, and then the user's files win.
    pub(crate) fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        let read =
            fs::File::open(path).and_then(|file| file.take(LIST_BYTES_MAX).read_to_end(&mut bytes));
        read.ok()
            .and_then(|_| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Writes the list, as a whole.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        let temporary = path.with_extension(format!("{}", std::process::id()));
        fs::write(&temporary, bytes)?;
        fs::rename(&temporary, path)
    }
}

/// A directory that the agent may have filled with anything.
pub(crate) struct Directory {
    fd: OwnedFd,
    owner: (u32, u32),
    /// Path below the agent's directory, which names its entries in the list.
    below: String,
}

impl Directory {
    /// Opens an agent's directory, which is ours to enter whatever mode the agent gave it.
    pub(crate) fn open(path: &Path, caller: &Caller) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::open(path, flags, Mode::empty())?;
        let owner = (caller.uid, caller.gid);
        Self::entered(&place, owner, String::new())
    }

    /// Opens a directory that is held by its place, with all rights for its owner.
    fn entered(place: &OwnedFd, owner: (u32, u32), below: String) -> io::Result<Self> {
        let mode = Mode::from_raw_mode(rustix::fs::fstat(place)?.st_mode);
        if !mode.contains(Mode::RWXU) {
            rustix::fs::chmod(by_descriptor(place), mode | Mode::RWXU)?;
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(by_descriptor(place), flags, Mode::empty())?;
        let directory = Self { fd, owner, below };
        directory.give(&directory.fd)?;
        Ok(directory)
    }

    /// Hands a new entry to the identity that the command runs as, where that is not ours.
    fn give(&self, fd: &OwnedFd) -> io::Result<()> {
        if stockade_sys::identity::own() == self.owner {
            return Ok(());
        }
        let (uid, gid) = self.owner;
        std::os::unix::fs::fchown(fd, Some(uid), Some(gid))
    }

    fn kind(&self, name: &OsStr) -> io::Result<Option<FileType>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives what has the name `name` another one beside it.
    fn set_aside(&self, name: &OsStr) -> io::Result<()> {
        let number = random()?;
        let suffix = format!("{ASIDE}{number:016x}");
        // A long name leaves no room for more.
        let kept = name.as_bytes();
        let kept = kept.get(..kept.len().min(200)).unwrap_or(kept);
        let aside = OsString::from_vec([kept, suffix.as_bytes()].concat());
        Ok(rustix::fs::renameat(&self.fd, name, &self.fd, aside)?)
    }

    /// Opens or makes the directory `name`; anything else of that name is put aside.
    fn enter(&self, name: &OsStr) -> io::Result<Self> {
        match self.kind(name)? {
            Some(FileType::Directory) => {}
            other => {
                if other.is_some() {
                    self.set_aside(name)?;
                }
                rustix::fs::mkdirat(&self.fd, name, Mode::RWXU)?;
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        Self::entered(&place, self.owner, self.path_of(name))
    }

    fn path_of(&self, name: &OsStr) -> String {
        let name = name.to_string_lossy();
        if self.below.is_empty() {
            return name.into_owned();
        }
        format!("{}/{name}", self.below)
    }

    /// Copies a file or directory of the user, as far as it has changed since the last time.
    pub(crate) fn seed(
        &self,
        name: &OsStr,
        from: &Path,
        seeded: &mut Seeded,
        depth: usize,
    ) -> io::Result<()> {
        let metadata = match fs::metadata(from) {
            Ok(metadata) => metadata,
            Err(e) if is_absent(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        if metadata.is_dir() && depth < SEED_DEPTH_MAX {
            let below = self.enter(name)?;
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                below.seed(&entry.file_name(), &entry.path(), seeded, depth + 1)?;
            }
            return Ok(());
        }
        if !metadata.is_file() || metadata.len() > SEED_BYTES_MAX {
            return Ok(());
        }
        let path = self.path_of(name);
        let known = seeded.0.get(&path);
        let there = self.kind(name)?;
        let unchanged = known.is_some_and(|known| known.is(&metadata));
        if unchanged && there == Some(FileType::RegularFile) {
            return Ok(());
        }
        let contents = match read(from) {
            Ok(contents) => contents,
            Err(e) if is_absent(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        let original = Original::of(&metadata, &contents);
        let copy = there
            .filter(|kind| *kind == FileType::RegularFile)
            .and_then(|_| self.digest(name));
        let same = known.is_some_and(|known| known.digest == original.digest);
        let is_file = there == Some(FileType::RegularFile);
        // Only the agent has changed it; or both have the same.
        if !(same && is_file) && copy != Some(original.digest) {
            // What the agent wrote since the last copy is kept.
            let was_ours = copy.is_some() && copy == known.map(|known| known.digest);
            if there.is_some() && !was_ours {
                self.set_aside(name)?;
            }
            self.replace(name, &contents, metadata.permissions().mode())?;
        }
        seeded.0.insert(path, original);
        Ok(())
    }

    /// Returns the digest of a small regular file that can be read.
    fn digest(&self, name: &OsStr) -> Option<Digest> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).ok()?;
        let file = fs::File::from(fd);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(SEED_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
        Some(Digest::of(&bytes))
    }

    /// Puts a file in place as a whole.
    fn replace(&self, name: &OsStr, contents: &[u8], mode: u32) -> io::Result<()> {
        let number = random()?;
        let temporary = format!(".stockade-new-{number:016x}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(mode & 0o700 | 0o600);
        let fd = rustix::fs::openat(&self.fd, &temporary, flags | OFlags::CLOEXEC, mode)?;
        self.give(&fd)?;
        fs::File::from(fd).write_all(contents)?;
        Ok(rustix::fs::renameat(&self.fd, &temporary, &self.fd, name)?)
    }
}

impl Original {
    fn of(metadata: &fs::Metadata, contents: &[u8]) -> Self {
        Self {
            digest: Digest::of(contents),
            size: metadata.len(),
            inode: metadata.ino(),
            changed: changed(metadata),
        }
    }

    fn is(&self, metadata: &fs::Metadata) -> bool {
        let same = (metadata.len(), metadata.ino(), changed(metadata));
        (self.size, self.inode, self.changed) == same
    }
}

/// Returns when a file was last changed, in nanoseconds; nobody sets this time at will.
fn changed(metadata: &fs::Metadata) -> i128 {
    i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec())
}

/// Returns a number that no session can foresee.
pub(crate) fn random() -> io::Result<u64> {
    getrandom::u64().map_err(|error| io::Error::other(error.to_string()))
}

fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Reads a file of the user; one that became something else meanwhile does not keep us.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(SEED_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What the user does not have or we may not read is not copied.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
#[path = "tests/seeds.rs"]
mod tests;
