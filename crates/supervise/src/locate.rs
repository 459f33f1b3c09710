//! Resolves a path of a call to descriptors: a directory and a name in it.
//!
//! The walk follows the kernel's rules (path_resolution(7)), once, in the session's mounts, with
//! the caller's working directory and descriptors. Later operations are relative to the
//! descriptors, so no change by the caller can redirect them. The root of the walk is the session's
//! root; links of `/proc` that depend on the reading process are read for the caller.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags},
    io::Errno,
};

use crate::{
    procfs,
    resolve::{AT_FDCWD, LINKS_MAX, Last, Resolver, on_proc},
};

/// Inode of the top directory of every process file system (`PROC_ROOT_INO`, linux/proc_fs.h).
const PROC_ROOT_INODE: u64 = 1;

/// The place that a path of a call resolves to.
#[derive(Debug)]
pub(crate) struct Place {
    /// The directory, as a path.
    parent: OwnedFd,
    /// The last component: a name, `.` or `..`.
    name: OsString,
    /// Whether slashes follow it, which only a directory may have.
    slashes: bool,
    /// The target of a link of a process (`/proc/PID/fd/N`), which need not have a name.
    object: Option<OwnedFd>,
    /// Canonical path inside; empty if it has none.
    pub(crate) path: PathBuf,
    /// What is there, if anything is.
    pub(crate) stat: Option<Seen>,
}

impl Place {
    /// Returns the kind of the file there, if any.
    pub(crate) fn kind(&self) -> Option<FileType> {
        self.stat.map(|seen| seen.kind)
    }

    /// Returns the directory that contains the name.
    pub(crate) fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    /// Returns the name as the call gives it: the kernel judges slashes after it itself.
    pub(crate) fn name(&self) -> OsString {
        let mut name = self.name.clone();
        if self.slashes {
            name.push("/");
        }
        name
    }

    /// Returns the target of a link of a process; it has no name that could be used instead.
    pub(crate) fn object(&self) -> Option<BorrowedFd<'_>> {
        self.object.as_ref().map(AsFd::as_fd)
    }

    /// Whether slashes follow a name that is not a directory.
    pub(crate) fn is_no_directory_with_slashes(&self) -> bool {
        self.slashes && self.kind().is_some_and(|kind| kind != FileType::Directory)
    }

    /// The kernel's answer to a call that needs an existing file.
    pub(crate) fn missing(&self) -> io::Error {
        match rustix::fs::statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Errno::NOENT.into(),
            Err(errno) => errno.into(),
        }
    }

    /// Opens the object there as a path, without following a link.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        match &self.object {
            Some(object) => object.try_clone(),
            None => open_path(&self.parent, &self.name, OFlags::NOFOLLOW),
        }
    }

    /// As [`Self::open`], with the slashes that the call has after the name.
    pub(crate) fn open_whole(&self) -> io::Result<OwnedFd> {
        match &self.object {
            None if self.slashes => open_path(&self.parent, self.name(), OFlags::DIRECTORY),
            Some(_) | None => self.open(),
        }
    }

    /// Whether a mount of the session lies at the name: it can be neither moved nor removed. The
    /// kernel checks this in the namespace of the calling process, which here is not the session's.
    pub(crate) fn is_mount_point(&self) -> bool {
        self.name != "." && self.name != ".." && self.stat.is_some_and(|seen| seen.is_mount_root)
    }
}

/// A directory on the way, and the names from the last root to it.
struct Walk {
    here: OwnedFd,
    todo: VecDeque<OsString>,
    trail: Vec<OsString>,
    links: usize,
}

impl Resolver {
    /// Resolves `path` from the directory behind `directory`, or (`AT_FDCWD`) from the working
    /// directory.
    ///
    /// # Errors
    /// With the error number that the kernel would answer, and EACCES for a place outside the
    /// session's view.
    pub(crate) fn locate(&self, directory: i32, path: &[u8], last: Last) -> io::Result<Place> {
        if path.is_empty() {
            return Err(Errno::NOENT.into());
        }
        let trimmed = trim_slashes(path);
        let slashes = trimmed.len() < path.len();
        let (front, name) = match trimmed.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (
                trimmed.get(..at).unwrap_or_default(),
                trimmed.get(at + 1..).unwrap_or_default(),
            ),
            None => (&b""[..], trimmed),
        };
        // `/` alone: the root itself.
        let name = if name.is_empty() { &b"."[..] } else { name };
        let absolute = path.first() == Some(&b'/');
        let base = if absolute {
            None
        } else {
            Some(self.base(directory)?)
        };
        let name = OsStr::from_bytes(name);
        let base = match self.straight(base, front, name, slashes, last)? {
            Straight::Found(place) => return Ok(place),
            Straight::Links(base) => base,
        };
        let walk = Walk {
            here: base,
            todo: components(front),
            trail: Vec::new(),
            links: 0,
        };
        self.walk_on(walk, name.to_owned(), slashes, last)
    }

    /// Finds the object of the caller's descriptor `directory` itself.
    pub(crate) fn locate_descriptor(&self, directory: i32) -> io::Result<Place> {
        let object = if directory == AT_FDCWD {
            self.working_directory()?
        } else {
            self.behind(directory)?
        };
        self.at_object(object)
    }

    /// Opens the working directory of the caller.
    pub(crate) fn working_directory(&self) -> io::Result<OwnedFd> {
        self.base(AT_FDCWD)
    }

    /// Opens the directory from which a relative path starts.
    fn base(&self, directory: i32) -> io::Result<OwnedFd> {
        if directory == AT_FDCWD {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let path = format!("/proc/{}/cwd", self.tid());
            return Ok(rustix::fs::open(path, flags, Mode::empty())?);
        }
        let base = self.behind(directory)?;
        match own(&base)?.kind {
            FileType::Directory => Ok(base),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    /// Opens, as a path, the object of a descriptor of the caller.
    fn behind(&self, descriptor: i32) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let path = format!("/proc/{}/fd/{descriptor}", self.tid());
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(found) => Ok(found),
            Err(Errno::ACCESS) => reopen_path(&procfs::copy_of(self.tid(), descriptor)?),
            Err(Errno::NOENT) => Err(Errno::BADF.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The usual case in one call: the path has no link.
    fn straight(
        &self,
        base: Option<OwnedFd>,
        front: &[u8],
        name: &OsStr,
        slashes: bool,
        last: Last,
    ) -> io::Result<Straight> {
        let mut how = ResolveFlags::NO_SYMLINKS;
        let mut front = front;
        let base = if let Some(base) = base {
            base
        } else {
            how |= ResolveFlags::IN_ROOT;
            let start = front.iter().position(|byte| *byte != b'/');
            front = start.and_then(|at| front.get(at..)).unwrap_or_default();
            open_path(self.root(), ".", OFlags::DIRECTORY)?
        };
        let (parent, base) = if front.is_empty() {
            (base, None)
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let front = OsStr::from_bytes(front);
            match rustix::fs::openat2(&base, front, flags, Mode::empty(), how) {
                Ok(parent) => (parent, Some(base)),
                // A link, or a mount or rename somewhere on the machine while `..` was walked
                // (openat2(2), EAGAIN): the long way needs neither.
                Err(Errno::LOOP | Errno::AGAIN) => return Ok(Straight::Links(base)),
                Err(errno) => return Err(errno.into()),
            }
        };
        let stat = look(&parent, name)?;
        let link = stat.is_some_and(|stat| stat.kind == FileType::Symlink);
        if link && (last == Last::Follow || slashes) {
            return Ok(Straight::Links(base.unwrap_or(parent)));
        }
        self.named(parent, name.to_owned(), slashes, stat)
            .map(Straight::Found)
    }

    fn named(
        &self,
        parent: OwnedFd,
        name: OsString,
        slashes: bool,
        stat: Option<Seen>,
    ) -> io::Result<Place> {
        // The object lies in the same mount as its directory, if no mount lies on it.
        match stat.filter(|stat| name != ".." && !stat.is_mount_root) {
            Some(stat) => self.mounts().require(stat.mount)?,
            None => self.mounts().require(own(&parent)?.mount)?,
        }
        let mut path = procfs::path_of(&parent)?;
        if procfs::is_deleted(&path) && own(&parent)?.links == 0 {
            // A removed directory has no place: nothing can be made in it.
            path = PathBuf::new();
        }
        if name == ".." {
            path = procfs::path_of(&open_path(&parent, "..", OFlags::DIRECTORY)?)?;
        } else if name != "." && path.is_absolute() {
            path.push(&name);
        }
        Ok(Place {
            parent,
            name,
            slashes,
            object: None,
            path,
            stat,
        })
    }

    fn walk_on(
        &self,
        mut walk: Walk,
        mut name: OsString,
        slashes: bool,
        last: Last,
    ) -> io::Result<Place> {
        loop {
            while let Some(part) = walk.todo.pop_front() {
                self.step(&mut walk, part)?;
            }
            if name == "." || name == ".." {
                let stat = look(&walk.here, &name)?;
                return self.named(walk.here, name, slashes, stat);
            }
            let stat = look(&walk.here, &name)?;
            let link = stat.is_some_and(|stat| stat.kind == FileType::Symlink);
            if !link || last == Last::Keep {
                return self.named(walk.here, name, slashes, stat);
            }
            match self.follow(&mut walk, &name)? {
                Followed::Object(object) => return self.at_object(object),
                Followed::Text => {}
            }
            // The link's text ends in a name of its own, which is resolved in turn.
            let Some(next) = walk.todo.pop_back() else {
                name = OsString::from(".");
                continue;
            };
            name = next;
        }
    }

    /// Walks one component further.
    fn step(&self, walk: &mut Walk, part: OsString) -> io::Result<()> {
        if part == "." {
            return Ok(());
        }
        if part == ".." {
            walk.trail.pop();
            if !self.is_root(&walk.here)? {
                walk.here = open_path(&walk.here, "..", OFlags::DIRECTORY)?;
            }
            return Ok(());
        }
        let next = open_path(&walk.here, &part, OFlags::NOFOLLOW)?;
        match own(&next)?.kind {
            FileType::Directory => {
                walk.here = next;
                walk.trail.push(part);
                Ok(())
            }
            FileType::Symlink => match self.follow(walk, &part)? {
                Followed::Text => Ok(()),
                Followed::Object(object) => {
                    if own(&object)?.kind != FileType::Directory {
                        return Err(Errno::NOTDIR.into());
                    }
                    walk.here = object;
                    walk.trail.clear();
                    Ok(())
                }
            },
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    /// Follows the link `name` in the current directory of the walk.
    fn follow(&self, walk: &mut Walk, name: &OsStr) -> io::Result<Followed> {
        walk.links += 1;
        if walk.links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        let link = open_path(&walk.here, name, OFlags::NOFOLLOW)?;
        self.may_follow(&walk.here, &link)?;
        let text = if on_proc(&link) {
            match self.process_link(walk, name)? {
                Followed::Object(object) => return Ok(Followed::Object(object)),
                Followed::Text => self.own_process(name)?,
            }
        } else {
            None
        };
        let text = if let Some(text) = text {
            text
        } else {
            let text = rustix::fs::readlinkat(&link, "", Vec::new())?;
            OsString::from_vec(text.into_bytes())
        };
        if text.is_empty() {
            return Err(Errno::NOENT.into());
        }
        if text.as_bytes().first() == Some(&b'/') {
            walk.here = self.root().try_clone_to_owned()?;
            walk.trail.clear();
        }
        let mut todo = components(text.as_bytes());
        if text.as_bytes().last() == Some(&b'/') {
            // The kernel takes slashes behind a link's text for "this is a directory".
            todo.push_back(OsString::from("."));
        }
        todo.append(&mut walk.todo);
        walk.todo = todo;
        Ok(Followed::Text)
    }

    /// Follows a link of a process, which refers to an object and not to a path.
    fn process_link(&self, walk: &Walk, name: &OsStr) -> io::Result<Followed> {
        if own(&walk.here)?.inode == PROC_ROOT_INODE {
            return Ok(Followed::Text);
        }
        let opened =
            stockade_sys::thread::without_tracing(|| open_path(&walk.here, name, OFlags::empty()));
        match opened.unwrap_or_else(|_| Err(Errno::ACCESS.into())) {
            Ok(object) => Ok(Followed::Object(object)),
            // A process that forbids others to inspect it may inspect itself.
            Err(error) if error.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {
                let own = self.own_descriptor(&walk.trail, name)?;
                let descriptor = own.ok_or(Errno::ACCESS)?;
                let copy = procfs::copy_of(self.tid(), descriptor)?;
                reopen_path(&copy).map(Followed::Object)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the number in a path like `/proc/PID/fd/NUMBER`, if that process is the caller's.
    fn own_descriptor(&self, trail: &[OsString], name: &OsStr) -> io::Result<Option<i32>> {
        let own = self.inner_process()?;
        let of_own = trail.iter().any(|part| part == own.as_str())
            && trail.last().is_some_and(|part| part == "fd");
        Ok(if of_own {
            name.to_str().and_then(|name| name.parse().ok())
        } else {
            None
        })
    }

    /// The text of `/proc/self` and `/proc/thread-self` for the caller; `None` for other links.
    fn own_process(&self, name: &OsStr) -> io::Result<Option<OsString>> {
        if name == "self" {
            Ok(Some(self.inner_process()?.into()))
        } else if name == "thread-self" {
            let (group, thread) = (self.inner_process()?, self.inner_thread()?);
            Ok(Some(format!("{group}/task/{thread}").into()))
        } else {
            Ok(None)
        }
    }

    fn at_object(&self, object: OwnedFd) -> io::Result<Place> {
        let stat = own(&object)?;
        if !is_nobodys(&object, &stat)? {
            self.mounts().require(stat.mount)?;
        }
        let path = procfs::path_of(&object)?;
        Ok(Place {
            parent: self.root().try_clone_to_owned()?,
            name: OsString::from("."),
            slashes: false,
            object: Some(object),
            path,
            stat: Some(stat),
        })
    }

    /// The kernel's check before it follows a link in a world-writable directory
    /// (`fs.protected_symlinks`, proc(5)).
    fn may_follow(&self, directory: &OwnedFd, link: &OwnedFd) -> io::Result<()> {
        let (directory, link) = (own(directory)?, own(link)?);
        let shared = Mode::SVTX | Mode::WOTH;
        if !directory.mode.contains(shared)
            || link.user == directory.user
            || link.user == self.user()
        {
            return Ok(());
        }
        Err(Errno::ACCESS.into())
    }

    fn is_root(&self, here: &OwnedFd) -> io::Result<bool> {
        let (here, root) = (own(here)?, own(self.root())?);
        Ok((here.device, here.inode) == (root.device, root.inode))
    }
}

/// The outcome of a walk without links.
enum Straight {
    Found(Place),
    /// There is a link: the walk by hand starts here.
    Links(OwnedFd),
}

/// The target of a link.
enum Followed {
    /// A path, whose components are still to be walked.
    Text,
    /// An object.
    Object(OwnedFd),
}

/// Whether an object is in no tree at all: a pipe, a socket, or memory that only descriptors reach.
/// A holder of its descriptor may open it again, and it lies in no visible mount.
fn is_nobodys(object: &OwnedFd, stat: &Seen) -> io::Result<bool> {
    let shown = procfs::path_of(object)?;
    let text = shown.as_os_str().as_bytes();
    Ok(match stat.kind {
        FileType::Fifo => text.starts_with(b"pipe:["),
        FileType::Socket => text.starts_with(b"socket:["),
        // Its name begins at the root of a file system that is mounted nowhere, and it has no link.
        FileType::RegularFile => text.starts_with(b"/memfd:") && stat.links == 0,
        _ => false,
    })
}

/// The metadata of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) kind: FileType,
    mode: Mode,
    links: u32,
    user: u32,
    /// Major and minor number of its file system.
    device: (u32, u32),
    inode: u64,
    /// Major and minor number, if it is a device.
    pub(crate) stands_for: (u32, u32),
    /// The mount it lies in; `None` if the kernel does not report it.
    mount: Option<u64>,
    is_mount_root: bool,
}

impl Seen {
    fn of(found: &Statx) -> Self {
        let mode = u32::from(found.stx_mode);
        let told = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        Self {
            kind: FileType::from_raw_mode(mode),
            mode: Mode::from_raw_mode(mode),
            links: found.stx_nlink,
            user: found.stx_uid,
            device: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            stands_for: (found.stx_rdev_major, found.stx_rdev_minor),
            mount: told.then_some(found.stx_mnt_id),
            is_mount_root: found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        }
    }
}

/// The requested metadata: enough to judge a file, and its mount.
const ASKED: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::NLINK)
    .union(StatxFlags::UID)
    .union(StatxFlags::INO)
    .union(StatxFlags::MNT_ID);

fn look(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<Seen>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
    match rustix::fs::statx(parent, name, flags, ASKED) {
        Ok(found) => Ok(Some(Seen::of(&found))),
        // The kernel reports a bad name when it is used.
        Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Reads the metadata of a descriptor's object.
fn own(descriptor: impl AsFd) -> io::Result<Seen> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    Ok(Seen::of(&rustix::fs::statx(descriptor, "", flags, ASKED)?))
}

fn open_path(
    parent: impl AsFd,
    name: impl rustix::path::Arg,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Opens as a path the object of a descriptor of ours.
pub(crate) fn reopen_path(descriptor: &impl AsRawFd) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let link = own_link(descriptor);
    Ok(rustix::fs::open(link, flags, Mode::empty())?)
}

/// The path by which the kernel reaches the object of a descriptor of ours.
pub(crate) fn own_link(descriptor: &impl AsRawFd) -> PathBuf {
    Path::new("/proc/self/fd").join(descriptor.as_raw_fd().to_string())
}

fn trim_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/');
    path.get(..end.map_or(0, |at| at + 1)).unwrap_or_default()
}

fn components(path: &[u8]) -> VecDeque<OsString> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| OsString::from_vec(part.to_owned()))
        .collect()
}
