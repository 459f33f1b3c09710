//! Changes in a read-only mount of the session, made at a path where no mount of the session lies.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{Supervision, changes::Deed, git::is_read_only, locate::Place};

impl Supervision {
    /// Changes files that the session made, if its own mount is read-only; `false` if nothing was
    /// done.
    ///
    /// # Errors
    /// With the kernel's own answer.
    pub(crate) fn change_in_read_only(&self, deed: &Deed, place: &Place) -> io::Result<bool> {
        if let (Some(object), Deed::Mode { mode }) = (place.object(), deed) {
            if !is_read_only(&object) {
                return Ok(false);
            }
            let outside = open_outside(&place.path, OFlags::RDONLY | OFlags::NONBLOCK)?;
            if !same_file(&outside, &object)? {
                return Err(Errno::ROFS.into());
            }
            rustix::fs::fchmod(&outside, Mode::from_raw_mode(mode & 0o777))?;
            return Ok(true);
        }
        if place.stat.is_none() || !is_read_only(&place.parent()) {
            return Ok(false);
        }
        let parent = writable(place)?;
        match deed {
            Deed::Remove { directory } => {
                self.note_replaced(place);
                let how = if *directory {
                    AtFlags::REMOVEDIR
                } else {
                    AtFlags::empty()
                };
                rustix::fs::unlinkat(&parent, place.name(), how)?;
                Ok(true)
            }
            Deed::Mode { mode } => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&parent, place.name(), flags, Mode::empty())?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
                Ok(true)
            }
            Deed::Open { .. }
            | Deed::Directory { .. }
            | Deed::Node { .. }
            | Deed::Symlink { .. }
            | Deed::Link
            | Deed::Rename { .. }
            | Deed::Truncate { .. }
            | Deed::Bind { .. }
            | Deed::Nothing => Ok(false),
        }
    }
}

/// Returns a writable descriptor of a place's directory: a path that is protected as a whole is in
/// a read-only mount of the session, and in none outside.
pub(super) fn writable(place: &Place) -> io::Result<OwnedFd> {
    if !is_read_only(&place.parent()) {
        return place.parent().try_clone_to_owned();
    }
    let path = place.path.parent().ok_or(Errno::NOENT)?;
    let outside = open_outside(path, OFlags::PATH | OFlags::DIRECTORY)?;
    let same = same_file(&outside, &place.parent())?;
    same.then_some(outside).ok_or_else(|| Errno::ROFS.into())
}

/// Opens a path as it is outside, without mounts of the session over it, through no link.
fn open_outside(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(
        rustix::fs::CWD,
        path,
        flags,
        Mode::empty(),
        how,
    )?)
}

/// Whether two descriptors refer to the same file.
pub(super) fn same_file(one: &impl AsFd, other: &impl AsFd) -> io::Result<bool> {
    let (one, other) = (rustix::fs::fstat(one)?, rustix::fs::fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}
