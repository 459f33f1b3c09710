//! The changes that a call would make to paths: read once from its registers and its caller's
//! memory.
//!
//! No part of it is read again: this value is judged, and this value is carried out.

use rustix::process::Pid;
use stockade_policy::Access;
use stockade_sys::{
    memory::{self, ReadError},
    notifier::Notification,
};

use super::{ERRNO_NOT_JUDGED, descriptor};
use crate::resolve::{AT_FDCWD, Last};

#[cfg(test)]
mod tests;

/// `O_CREAT`.
pub(super) const FLAG_CREATE: u32 = 0o100;
/// `O_EXCL`.
pub(super) const FLAG_EXCLUSIVE: u32 = 0o200;
/// `O_TRUNC`.
pub(super) const FLAG_TRUNCATE: u32 = 0o1000;
/// `O_APPEND`.
pub(super) const FLAG_APPEND: u32 = 0o2000;
/// `O_PATH`: the other flags that matter here mean nothing with it.
const FLAG_PATH: u32 = 0o10_000_000;
/// The bit of `O_TMPFILE` beside `O_DIRECTORY`: a file without a name in the directory.
const FLAG_TEMPORARY: u32 = 0o20_000_000;
/// `O_NOFOLLOW` on x86-64 and arm64 as the generic interface has it.
#[cfg(target_arch = "x86_64")]
pub(super) const FLAG_NO_FOLLOW: u32 = 0o400_000;
#[cfg(not(target_arch = "x86_64"))]
pub(super) const FLAG_NO_FOLLOW: u32 = 0o100_000;
/// `AT_SYMLINK_FOLLOW`.
const SYMLINK_FOLLOW: u32 = 0x400;
/// `AT_SYMLINK_NOFOLLOW`.
const SYMLINK_NO_FOLLOW: u32 = 0x100;
/// `AT_EMPTY_PATH`: the descriptor itself is meant.
const EMPTY_PATH: u32 = 0x1000;
/// `AT_REMOVEDIR`.
const REMOVE_DIRECTORY: u32 = 0x200;
/// `RENAME_NOREPLACE`.
pub(super) const NO_REPLACE: u32 = 1;
/// `RENAME_EXCHANGE`; it cannot be combined.
const EXCHANGE: u32 = 2;
/// `RENAME_WHITEOUT`.
const WHITEOUT: u32 = 4;
/// `S_ISUID`.
const SETUID: u32 = 0o4000;
/// `AF_UNIX`.
const FAMILY_UNIX: u16 = 1;
/// Bytes of an address (`sockaddr_storage`, socket(7)); the kernel refuses longer ones.
const SOCKET_ADDRESS_BYTES: usize = 128;

/// `ENOENT`.
const ERRNO_NO_ENTRY: i32 = 2;
/// `EFAULT`: the kernel's own answer to an unreadable path.
const ERRNO_FAULT: i32 = 14;
/// `EINVAL`.
const ERRNO_INVALID: i32 = 22;
/// `ENAMETOOLONG`.
const ERRNO_NAME_TOO_LONG: i32 = 36;

/// One call that changes paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) deed: Deed,
    /// The paths, in the order of the call's arguments.
    pub(super) changes: Vec<Change>,
}

/// The operation on the paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// The path is opened; the descriptor is the result.
    Open { flags: u32, mode: u32 },
    /// A directory is made.
    Directory { mode: u32 },
    /// A file, pipe, socket or device is made.
    Node { mode: u32, device: u64 },
    /// A symbolic link with this text is made.
    Symlink { text: Vec<u8> },
    /// The first path gets the second one as a further name.
    Link,
    /// The first path is renamed to the second one.
    Rename { flags: u32 },
    /// The path is removed.
    Remove { directory: bool },
    /// The file gets this length.
    Truncate { length: u64 },
    /// The file gets these permission bits.
    Mode { mode: u32 },
    /// A socket gets an address, which can be a path.
    Bind { socket: i32, address: Vec<u8> },
    /// The kernel does the call: it changes no path.
    Nothing,
}

/// How a call names a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A path, relative to a directory of the caller.
    Path { directory: i32, path: Vec<u8> },
    /// The descriptor itself.
    Descriptor(i32),
}

/// One path that a call changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at: Named,
    pub(super) last: Last,
    pub(super) access: Access,
    /// Whether it makes or changes a file that is not a directory.
    pub(super) file: bool,
    /// Whether the kernel refuses it if the path exists.
    pub(super) fresh: bool,
    pub(super) part: Part,
}

/// The role of a path in the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It is changed.
    Changed,
    /// A rename removes it.
    Leaves,
    /// It is unchanged, and can be changed through another name afterwards.
    Shared,
}

impl Call {
    /// Whether a rename swaps its two paths.
    pub(super) fn exchanges(&self) -> bool {
        matches!(self.deed, Deed::Rename { flags } if flags & EXCHANGE != 0)
    }

    fn one(deed: Deed, change: Change) -> Self {
        Self {
            deed,
            changes: vec![change],
        }
    }

    fn nothing() -> Self {
        Self {
            deed: Deed::Nothing,
            changes: Vec::new(),
        }
    }
}

impl Change {
    /// Whether a rename removes this path.
    pub(super) fn leaves(&self) -> bool {
        self.part == Part::Leaves
    }

    /// A change of the named object itself.
    const fn of(at: Named, access: Access) -> Self {
        Self {
            at,
            last: Last::Keep,
            access,
            file: false,
            fresh: false,
            part: Part::Changed,
        }
    }

    /// A file that must not exist yet.
    fn fresh_file(at: Named, access: Access) -> Self {
        Self {
            file: matches!(access, Access::Create),
            fresh: true,
            ..Self::of(at, access)
        }
    }
}

/// Reads paths and numbers of one call.
struct Reader<'c>(&'c Notification);

impl Reader<'_> {
    /// Reads the path whose address is in argument `path`; its directory is in `directory`, or it
    /// is the working directory.
    fn path(&self, directory: Option<usize>, path: usize) -> Result<Named, i32> {
        Ok(Named::Path {
            directory: self.directory(directory),
            path: string(self.0.thread, self.word(path))?,
        })
    }

    fn directory(&self, index: Option<usize>) -> i32 {
        index.map_or(AT_FDCWD, |index| descriptor(self.word(index)))
    }

    fn text(&self, index: usize) -> Result<Vec<u8>, i32> {
        let text = string(self.0.thread, self.word(index))?;
        if text.is_empty() {
            return Err(ERRNO_NO_ENTRY);
        }
        Ok(text)
    }

    fn word(&self, index: usize) -> u64 {
        self.0.arguments.get(index).copied().unwrap_or_default()
    }

    /// Reads a flag word or a mode: the kernel uses the lower half of the register.
    fn flags(&self, index: usize) -> u32 {
        u32::try_from(self.word(index) & 0xFFFF_FFFF).unwrap_or_default()
    }
}

fn string(thread: Pid, address: u64) -> Result<Vec<u8>, i32> {
    memory::read_string(thread, address, memory::PATH_BYTES_MAX).map_err(|error| match error {
        ReadError::TooLong(_) | ReadError::TooMany(_) => ERRNO_NAME_TOO_LONG,
        ReadError::Sys(_) => ERRNO_FAULT,
    })
}

/// Reads what a call would do.
///
/// # Errors
/// With the error number that the kernel would answer.
pub(super) fn read(call: &Notification, name: &str) -> Result<Call, i32> {
    let reader = Reader(call);
    match name {
        "openat" => open(reader.path(Some(0), 1)?, reader.flags(2), reader.flags(3)),
        "open" => open(reader.path(None, 0)?, reader.flags(1), reader.flags(2)),
        "creat" => open(
            reader.path(None, 0)?,
            FLAG_CREATE | FLAG_TRUNCATE | 1,
            reader.flags(1),
        ),
        "truncate" => truncate(&reader),
        "rename" => Ok(renamed(reader.path(None, 0)?, reader.path(None, 1)?, 0)),
        "renameat" | "renameat2" => {
            let flags = if name == "renameat2" {
                reader.flags(4)
            } else {
                0
            };
            let both = EXCHANGE | NO_REPLACE;
            if flags & !(both | WHITEOUT) != 0 || flags & EXCHANGE != 0 && flags != EXCHANGE {
                return Err(ERRNO_INVALID);
            }
            let (from, to) = (reader.path(Some(0), 1)?, reader.path(Some(2), 3)?);
            Ok(renamed(from, to, flags))
        }
        "link" => Ok(linked(
            reader.path(None, 0)?,
            Last::Keep,
            reader.path(None, 1)?,
        )),
        "linkat" => link_at(&reader),
        "symlink" => Ok(symlink(reader.text(0)?, reader.path(None, 1)?)),
        "symlinkat" => Ok(symlink(reader.text(0)?, reader.path(Some(1), 2)?)),
        "mkdir" => Ok(directory(reader.path(None, 0)?, reader.flags(1))),
        "mkdirat" => Ok(directory(reader.path(Some(0), 1)?, reader.flags(2))),
        "mknod" => Ok(node(reader.path(None, 0)?, reader.flags(1), reader.word(2))),
        "mknodat" => Ok(node(
            reader.path(Some(0), 1)?,
            reader.flags(2),
            reader.word(3),
        )),
        "bind" => bind(&reader),
        "unlink" => Ok(removed(reader.path(None, 0)?, false)),
        "rmdir" => Ok(removed(reader.path(None, 0)?, true)),
        "unlinkat" => {
            let flags = reader.flags(2);
            if flags & !REMOVE_DIRECTORY != 0 {
                return Err(ERRNO_INVALID);
            }
            let at = reader.path(Some(0), 1)?;
            Ok(removed(at, flags & REMOVE_DIRECTORY != 0))
        }
        "chmod" => Ok(mode(reader.path(None, 0)?, reader.flags(1), Last::Follow)),
        "fchmodat" => Ok(mode(
            reader.path(Some(0), 1)?,
            reader.flags(2),
            Last::Follow,
        )),
        "fchmodat2" => mode_at(&reader),
        _ => Err(ERRNO_NOT_JUDGED),
    }
}

fn open(at: Named, flags: u32, mode: u32) -> Result<Call, i32> {
    if flags & FLAG_PATH != 0 {
        return Ok(Call::nothing());
    }
    let creates = flags & FLAG_CREATE != 0;
    let temporary = flags & FLAG_TEMPORARY != 0;
    // The filter closes the other ways to set this bit; here the mode matters only for a new file.
    if (creates || temporary) && mode & SETUID != 0 {
        return Err(ERRNO_NOT_JUDGED);
    }
    let exclusive = creates && flags & FLAG_EXCLUSIVE != 0;
    let last = if exclusive {
        Last::Keep
    } else if flags & FLAG_NO_FOLLOW != 0 {
        followed(&at, Last::Keep)
    } else {
        Last::Follow
    };
    let access = if creates {
        Access::Create
    } else {
        Access::Write
    };
    let change = Change {
        last,
        file: !temporary,
        fresh: exclusive,
        ..Change::of(at, access)
    };
    Ok(Call::one(Deed::Open { flags, mode }, change))
}

fn truncate(reader: &Reader<'_>) -> Result<Call, i32> {
    let length = reader.word(1);
    // Negative, since the kernel reads the length as signed.
    if i64::try_from(length).is_err() {
        return Err(ERRNO_INVALID);
    }
    let change = Change {
        last: Last::Follow,
        file: true,
        ..Change::of(reader.path(None, 0)?, Access::Write)
    };
    Ok(Call::one(Deed::Truncate { length }, change))
}

/// A rename from one path to another.
fn renamed(from: Named, to: Named, flags: u32) -> Call {
    let from = Change {
        part: Part::Leaves,
        ..Change::of(from, Access::Rename)
    };
    Call {
        deed: Deed::Rename { flags },
        changes: vec![from, Change::of(to, Access::Rename)],
    }
}

/// The kernel follows a link with a slash after it, if the call inspects the target.
fn followed(at: &Named, last: Last) -> Last {
    match at {
        Named::Path { path, .. } if path.ends_with(b"/") => Last::Follow,
        Named::Path { .. } | Named::Descriptor(_) => last,
    }
}

/// A second name for a file. A change through one name changes the other, so the caller needs the
/// right to write it.
fn linked(from: Named, last: Last, to: Named) -> Call {
    let last = followed(&from, last);
    let source = Change {
        last,
        part: Part::Shared,
        ..Change::of(from, Access::Write)
    };
    Call {
        deed: Deed::Link,
        changes: vec![source, Change::fresh_file(to, Access::Create)],
    }
}

fn link_at(reader: &Reader<'_>) -> Result<Call, i32> {
    let flags = reader.flags(4);
    if flags & !(SYMLINK_FOLLOW | EMPTY_PATH) != 0 {
        return Err(ERRNO_INVALID);
    }
    let (from, to) = (reader.path(Some(0), 1)?, reader.path(Some(2), 3)?);
    let empty = matches!(&from, Named::Path { path, .. } if path.is_empty());
    // Only newer kernels do this for ordinary users, so no program relies on it; a path is clearer.
    if empty {
        return Err(ERRNO_NO_ENTRY);
    }
    let last = if flags & SYMLINK_FOLLOW == 0 {
        Last::Keep
    } else {
        Last::Follow
    };
    Ok(linked(from, last, to))
}

fn symlink(text: Vec<u8>, at: Named) -> Call {
    Call::one(
        Deed::Symlink { text },
        Change::fresh_file(at, Access::Rename),
    )
}

fn directory(at: Named, mode: u32) -> Call {
    let change = Change {
        fresh: true,
        ..Change::of(at, Access::Create)
    };
    Call::one(Deed::Directory { mode }, change)
}

fn node(at: Named, mode: u32, device: u64) -> Call {
    Call::one(
        Deed::Node { mode, device },
        Change::fresh_file(at, Access::Create),
    )
}

fn removed(at: Named, directory: bool) -> Call {
    Call::one(Deed::Remove { directory }, Change::of(at, Access::Remove))
}

fn mode(at: Named, mode: u32, last: Last) -> Call {
    let change = Change {
        last: followed(&at, last),
        ..Change::of(at, Access::Mode)
    };
    Call::one(Deed::Mode { mode }, change)
}

fn mode_at(reader: &Reader<'_>) -> Result<Call, i32> {
    let flags = reader.flags(3);
    if flags & !(SYMLINK_NO_FOLLOW | EMPTY_PATH) != 0 {
        return Err(ERRNO_INVALID);
    }
    let last = if flags & SYMLINK_NO_FOLLOW == 0 {
        Last::Follow
    } else {
        Last::Keep
    };
    let at = match reader.path(Some(0), 1)? {
        Named::Path { directory, path } if path.is_empty() && flags & EMPTY_PATH != 0 => {
            Named::Descriptor(directory)
        }
        at => at,
    };
    Ok(mode(at, reader.flags(2), last))
}

/// The path in an address, if its family has one.
fn socket_path(address: &[u8]) -> Option<&[u8]> {
    let (family, path) = address.split_first_chunk::<2>()?;
    let path = path.split(|byte| *byte == 0).next()?;
    (u16::from_ne_bytes(*family) == FAMILY_UNIX && !path.is_empty()).then_some(path)
}

/// A socket with a path makes a file there (unix(7), "Address format"); other addresses make none.
/// All are bound on the caller's behalf, since the kind of the socket could change meanwhile.
fn bind(reader: &Reader<'_>) -> Result<Call, i32> {
    let length = usize::try_from(reader.flags(2)).unwrap_or(usize::MAX);
    if length > SOCKET_ADDRESS_BYTES {
        return Err(ERRNO_INVALID);
    }
    let mut address = vec![0; length];
    if length > 0 {
        let count =
            memory::read(reader.0.thread, reader.word(1), &mut address).map_err(|_| ERRNO_FAULT)?;
        if count < length {
            return Err(ERRNO_FAULT);
        }
    }
    let path = socket_path(&address).map(|path| Named::Path {
        directory: AT_FDCWD,
        path: path.to_vec(),
    });
    let socket = descriptor(reader.word(0));
    Ok(Call {
        deed: Deed::Bind { socket, address },
        changes: path
            .map(|at| Change::fresh_file(at, Access::Create))
            .into_iter()
            .collect(),
    })
}
