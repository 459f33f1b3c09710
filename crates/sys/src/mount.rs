//! Mounts of the caller's own mount namespace.

use std::{
    ffi::{CStr, CString},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::CWD,
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount,
        open_tree,
    },
};

use crate::{Outcome, SysError};

/// How a bind mount may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindAccess {
    /// Nothing below it can be changed.
    pub read_only: bool,
    /// Device nodes below it work; only for the few devices of `/dev`.
    pub devices: bool,
}

fn shown(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}

/// Stops mount events in both directions for the whole tree.
///
/// # Errors
/// When the caller has no `CAP_SYS_ADMIN` in its user namespace.
pub fn make_private() -> Outcome<()> {
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(|e| SysError::on("make mounts private", "/", e))
}

/// Terminals of one instance; the machine has 4,096 (kernel.pty.max) and reserves 1,024 for itself.
const TERMINALS_MAX: u32 = 256;

/// Mounts a fresh tmpfs that holds at most `percent` of the machine's memory, and one file for each
/// 8 KiB of half of the memory (the kernel's own rule).
///
/// # Errors
/// When `at` is missing or the options are refused.
pub fn tmpfs(at: &Path, mode: u32, percent: u8) -> Outcome<()> {
    let options = CString::new(format!("mode={mode:o},size={percent}%")).unwrap_or_default();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", at, "tmpfs", flags, options.as_c_str())
        .map_err(|e| SysError::on("mount tmpfs at", shown(at), e))
}

/// Binds the directory `from` of a tmpfs at `at`, as a mount of its own.
///
/// # Errors
/// When either path is missing.
pub fn bind_private(from: &Path, at: &Path, executable: bool) -> Outcome<()> {
    rustix::mount::mount_bind(from, at)
        .map_err(|e| SysError::on("bind", format!("{} at {}", shown(from), shown(at)), e))?;
    let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let no_programs = if executable {
        0
    } else {
        libc::MOUNT_ATTR_NOEXEC
    };
    set_attribute_bits(at, set | no_programs, 0)
}

/// Mounts the directory `upper` as an overlay over `lower` at `at`: reads see both, writes go only
/// to `upper`. `work` is an empty directory on the file system of `upper` that nothing else uses
/// (overlayfs in a user namespace, `userxattr`).
///
/// # Errors
/// When a directory is missing, when the kernel has no overlayfs for user namespaces (before 5.11),
/// when the file system of `upper` does not support one, or when a path is too long for the options
/// of a mount.
pub fn overlay(lower: &Path, upper: &Path, work: &Path, at: &Path) -> Outcome<()> {
    let wrong = |e: std::io::Error| SysError::on("lay over", shown(lower), e);
    let mut options = Vec::new();
    for (name, path) in [("lowerdir", lower), ("upperdir", upper), ("workdir", work)] {
        options.extend([name.as_bytes(), b"="].concat());
        options.extend(escaped(path));
        options.push(b',');
    }
    options.extend(b"userxattr");
    if options.len() >= OPTIONS_BYTES_MAX {
        return Err(wrong(std::io::Error::from_raw_os_error(libc::ENAMETOOLONG)));
    }
    let options = CString::new(options).map_err(|e| wrong(e.into()))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("overlay", at, "overlay", flags, options.as_c_str())
        .map_err(|e| wrong(e.into()))
}

/// Bytes of the options of one mount: one page (mount(2)).
const OPTIONS_BYTES_MAX: usize = 4096;

/// Writes a path as an option of overlayfs, for which `:` and `,` are separators.
fn escaped(path: &Path) -> Vec<u8> {
    let mut escaped = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

/// Detaches the mount at `at`; bind mounts made from it stay.
///
/// # Errors
/// When `at` is not a mount.
pub fn detach(at: &Path) -> Outcome<()> {
    rustix::mount::unmount(at, UnmountFlags::DETACH)
        .map_err(|e| SysError::on("detach", shown(at), e))
}

/// Mounts the `proc` of the caller's pid namespace.
///
/// # Errors
/// EPERM inside containers that mask parts of their own `/proc`, because the kernel does not let a
/// new mount reveal them (mount_too_revealing).
pub fn proc(at: &Path) -> Outcome<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", at, "proc", flags, None)
        .map_err(|e| SysError::on("mount proc at", shown(at), e))
}

/// Mounts a new instance of devpts, so that no terminal of the host can be opened.
///
/// # Errors
/// When the options are refused.
pub fn devpts(at: &Path) -> Outcome<()> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let options = CString::new(format!(
        "newinstance,ptmxmode=0666,mode=0620,max={TERMINALS_MAX}"
    ))
    .unwrap_or_default();
    rustix::mount::mount("devpts", at, "devpts", flags, options.as_c_str())
        .map_err(|e| SysError::on("mount devpts at", shown(at), e))
}

/// Binds `from` (a file or a whole tree) at `at` and restricts it.
///
/// `mount_setattr` sets the restriction on the whole tree, so that no submount stays writable;
/// flags that the host's mounts carry (a locked `noexec`, `nodev`) are kept.
///
/// # Errors
/// When either path is missing, or the kernel is older than 5.12.
pub fn bind(from: &Path, at: &Path, access: BindAccess) -> Outcome<()> {
    rustix::mount::mount_bind_recursive(from, at)
        .map_err(|e| SysError::on("bind", format!("{} at {}", shown(from), shown(at)), e))?;
    set_attributes(at, access)
}

/// Binds `from` (a file or a whole tree) at the place that `at` holds open, and restricts it before
/// any process can see it. `at` is a descriptor, so no change of a path can redirect the mount.
///
/// # Errors
/// When `from` is missing, when one is a directory and the other is not, or when the kernel is
/// older than 5.12.
pub fn bind_at(from: &Path, at: BorrowedFd<'_>, access: BindAccess) -> Outcome<()> {
    let tree = open_tree(CWD, from, TREE).map_err(|e| SysError::on("bind", shown(from), e))?;
    place(&tree, at, access).map_err(|e| SysError::on("bind", shown(from), e))
}

/// Binds the file or tree that `from` holds open, as [`bind_at`] does.
///
/// # Errors
/// As [`bind_at`].
pub fn bind_open(from: BorrowedFd<'_>, at: BorrowedFd<'_>, access: BindAccess) -> Outcome<()> {
    let flags = TREE | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(from, c"", flags)
        .map_err(std::io::Error::from)
        .and_then(|tree| place(&tree, at, access))
        .map_err(|e| SysError::on("bind", "what is open", e))
}

/// The flags for cloning a tree that is then mounted elsewhere.
const TREE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE
    .union(OpenTreeFlags::OPEN_TREE_CLOEXEC)
    .union(OpenTreeFlags::AT_RECURSIVE);

/// Restricts a tree that no process sees yet, and mounts it.
fn place(tree: &OwnedFd, at: BorrowedFd<'_>, access: BindAccess) -> std::io::Result<()> {
    let recursive = libc::AT_RECURSIVE | libc::AT_EMPTY_PATH;
    set_bits(tree.as_fd(), c"", bits_of(access), recursive)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", at, "", flags)?)
}

fn bits_of(access: BindAccess) -> u64 {
    let mut set = libc::MOUNT_ATTR_NOSUID;
    if access.read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    if !access.devices {
        set |= libc::MOUNT_ATTR_NODEV;
    }
    set
}

/// Restricts the whole mount tree at `at`.
///
/// # Errors
/// When `at` is not a mount or the kernel is older than 5.12.
pub fn set_attributes(at: &Path, access: BindAccess) -> Outcome<()> {
    set_attribute_bits(at, bits_of(access), libc::AT_RECURSIVE)
}

/// Makes the one mount at `at` read-only, but no mount below it.
///
/// # Errors
/// As [`set_attributes`].
pub fn make_read_only(at: &Path) -> Outcome<()> {
    set_attribute_bits(at, libc::MOUNT_ATTR_RDONLY, 0)
}

fn set_attribute_bits(at: &Path, set: u64, flags: libc::c_int) -> Outcome<()> {
    let path = CString::new(at.as_os_str().as_bytes())
        .map_err(|_| SysError::on("mount_setattr", shown(at), std::io::ErrorKind::InvalidInput))?;
    set_bits(CWD, &path, set, flags).map_err(|e| SysError::on("mount_setattr", shown(at), e))
}

fn set_bits(
    directory: BorrowedFd<'_>,
    path: &CStr,
    set: u64,
    flags: libc::c_int,
) -> std::io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: `directory` is open for the call, `path` is a NUL-terminated string and `attributes`
    // a fully initialised mount_attr, both alive for the call; the size passed is that of the
    // struct.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Makes `root` the root of the mount namespace and detaches everything else (pivot_root(2),
/// "pivot_root(\".\", \".\")").
///
/// # Errors
/// When `root` is not a mount.
pub fn pivot_into(root: &Path) -> Outcome<()> {
    rustix::process::chdir(root).map_err(|e| SysError::on("chdir", shown(root), e))?;
    rustix::process::pivot_root(".", ".")
        .map_err(|e| SysError::on("pivot_root", shown(root), e))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)
        .map_err(|e| SysError::on("detach", "the old root", e))?;
    rustix::process::chdir("/").map_err(|e| SysError::on("chdir", "/", e))
}
