//! Walking a directory tree, without following links.

use std::{
    ffi::OsStr,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawDir, RawDirEntry},
    io::Errno,
};

/// Bytes of directory entries that one call returns: about 2,000 names.
const LISTING_BYTES: usize = 64 * 1024;

/// An entry to be inspected.
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// Its path below the top.
    pub(crate) below: Vec<u8>,
    pub(crate) kind: FileType,
}

/// How a directory is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// Not at all.
    Nothing,
    /// For names that begin a name of interest, at any depth.
    Beginnings,
    /// Every entry in it is inspected.
    Everything,
}

/// The tree has more entries than are visited.
#[derive(Debug)]
pub(crate) struct TooMany;

/// Unreadable directories of our own: readable as long as this lives. It holds descriptors, since
/// programs of another session may put a link at any path meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Unlocked(Vec<(OwnedFd, Mode)>);

impl Unlocked {
    /// Returns how many there are.
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    fn unlock(&mut self, path: &Path) -> rustix::io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&directory)?.st_mode);
        if mode.contains(Mode::RWXU) {
            // Another cause than its mode keeps it closed.
            return Err(Errno::ACCESS);
        }
        set_mode(&directory, mode | Mode::RWXU)?;
        self.0.push((directory, mode));
        Ok(())
    }
}

impl Drop for Unlocked {
    fn drop(&mut self) {
        for (directory, mode) in &self.0 {
            // It may be gone.
            set_mode(directory, *mode).unwrap_or_default();
        }
    }
}

/// Sets the mode of the object of an `O_PATH` descriptor.
fn set_mode(directory: &OwnedFd, mode: Mode) -> rustix::io::Result<()> {
    rustix::fs::chmod(format!("/proc/self/fd/{}", directory.as_raw_fd()), mode)
}

/// Visits every entry whose name `begins` a name of interest; `visit` returns how to search below a
/// directory. Returns the number of directories that could not be read. With `unlocked`, unreadable
/// directories of our own are made readable first.
///
/// # Errors
/// When there are more than `entries_max` entries.
pub(crate) fn walk(
    top: &Path,
    entries_max: usize,
    unlocked: Option<&mut Unlocked>,
    begins: impl Fn(&[u8]) -> bool,
    visit: impl FnMut(&Entry) -> Search,
) -> Result<usize, TooMany> {
    walk_telling(top, entries_max, unlocked, begins, visit, |_| {})
}

/// As [`walk`]; calls `opened` for each directory before its entries are read.
///
/// # Errors
/// As [`walk`].
pub(crate) fn walk_telling(
    top: &Path,
    entries_max: usize,
    mut unlocked: Option<&mut Unlocked>,
    begins: impl Fn(&[u8]) -> bool,
    mut visit: impl FnMut(&Entry) -> Search,
    opened: impl Fn(&OwnedFd),
) -> Result<usize, TooMany> {
    let top = Entry {
        path: top.to_owned(),
        below: Vec::new(),
        kind: FileType::Directory,
    };
    let mut todo: Vec<(Entry, Search)> = vec![(top, Search::Beginnings)];
    let mut buffer = vec![MaybeUninit::uninit(); LISTING_BYTES];
    let (mut seen, mut unread) = (0_usize, 0_usize);
    while let Some((directory, search)) = todo.pop() {
        let open = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::open(&directory.path, flags, Mode::empty())
        };
        let found = open().or_else(|error| {
            let unlocked = unlocked.as_mut().map(|all| all.unlock(&directory.path));
            if matches!(unlocked, Some(Ok(()))) {
                open()
            } else {
                Err(error)
            }
        });
        let Ok(fd) = found else {
            unread += 1;
            continue;
        };
        opened(&fd);
        let mut listing = RawDir::new(&fd, &mut buffer);
        while let Some(entry) = listing.next() {
            let Ok(entry) = entry else {
                unread += 1;
                break;
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            seen += 1;
            if seen > entries_max {
                return Err(TooMany);
            }
            let counts = search == Search::Everything || begins(name);
            let kind = kind_of(&fd, &entry);
            if !counts && kind != FileType::Directory {
                continue;
            }
            let entry = directory.child(name, kind);
            let further = if counts {
                visit(&entry)
            } else {
                Search::Beginnings
            };
            if kind == FileType::Directory && further != Search::Nothing {
                todo.push((entry, further));
            }
        }
    }
    Ok(unread)
}

/// Returns the kind of an entry; some file systems report it only on request.
fn kind_of(directory: impl AsFd, entry: &RawDirEntry<'_>) -> FileType {
    match entry.file_type() {
        FileType::Unknown => {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::statat(directory, entry.file_name(), flags)
                .map_or(FileType::Unknown, |stat| {
                    FileType::from_raw_mode(stat.st_mode)
                })
        }
        known => known,
    }
}

impl Entry {
    fn child(&self, name: &[u8], kind: FileType) -> Self {
        let mut below = Vec::with_capacity(self.below.len() + 1 + name.len());
        below.extend_from_slice(&self.below);
        if !below.is_empty() {
            below.push(b'/');
        }
        below.extend_from_slice(name);
        Self {
            path: self.path.join(OsStr::from_bytes(name)),
            below,
            kind,
        }
    }
}
