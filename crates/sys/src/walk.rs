//! Opening files that another party controls: never through a link, never outside the tree.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Opens `path` below `root` without following any link and without leaving `root` (openat2(2)).
///
/// # Errors
/// ELOOP if a link is met, EXDEV if the path would leave the tree, and the usual ones.
pub fn open_beneath(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(
        root,
        path,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?)
}

/// Resolves `path` as a process whose root directory is `root` would, links included, to an
/// `O_PATH` descriptor; the result cannot lie outside `root`.
///
/// # Errors
/// As openat2(2) with `RESOLVE_IN_ROOT`; magic links (`/proc/self/exe`) are refused with ELOOP.
pub fn resolve_in_root(root: impl AsFd, path: &Path, follow_last: bool) -> io::Result<OwnedFd> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if !follow_last {
        flags |= OFlags::NOFOLLOW;
    }
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        resolve,
    )?)
}
