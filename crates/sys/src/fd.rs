//! Descriptors: anonymous files and what a child may keep.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::{Outcome, SysError};

/// Makes a sealed anonymous file with `contents`, positioned at its start, closed on exec.
///
/// # Errors
/// When memory or descriptors run out.
pub fn sealed_memory(name: &str, contents: &[u8]) -> Outcome<OwnedFd> {
    let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|e| SysError::on("memfd_create", name, e))?;
    let mut file = File::from(fd);
    file.write_all(contents)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .map_err(|e| SysError::on("write memfd", name, e))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(|e| SysError::on("seal memfd", name, e))?;
    Ok(file.into())
}

/// Closes every descriptor of the calling process except those in `keep`.
///
/// # Errors
/// When `close_range` is missing (Linux before 5.9) or fails.
pub fn close_all_except(keep: &[RawFd]) -> Outcome<()> {
    let mut keep: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(*fd).ok())
        .collect();
    keep.sort_unstable();
    keep.dedup();
    let mut first = 0;
    for kept in keep {
        if kept > first {
            close_range(first, kept - 1)?;
        }
        first = kept + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Outcome<()> {
    // SAFETY: close_range takes three integers. Descriptors closed here may be owned by Rust
    // values, which this crate's callers accept: they run right before execve or only use `keep`.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(SysError::last("close_range"))
    }
}

/// Lets `fd` survive `execve`.
///
/// # Errors
/// When the descriptor is not open.
pub fn keep_on_exec(fd: BorrowedFd<'_>) -> Outcome<()> {
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())
        .map_err(|e| SysError::on("fcntl(F_SETFD)", fd.as_raw_fd(), e))
}

/// Makes `fd` those standard streams of the calling process that `which` names: input, output,
/// error.
///
/// # Errors
/// When the descriptor cannot be duplicated.
pub fn set_standard_streams(fd: BorrowedFd<'_>, which: [bool; 3]) -> Outcome<()> {
    let [stdin, stdout, stderr] = which;
    if stdin {
        rustix::stdio::dup2_stdin(fd).map_err(|e| SysError::on("dup2", "stdin", e))?;
    }
    if stdout {
        rustix::stdio::dup2_stdout(fd).map_err(|e| SysError::on("dup2", "stdout", e))?;
    }
    if stderr {
        rustix::stdio::dup2_stderr(fd).map_err(|e| SysError::on("dup2", "stderr", e))?;
    }
    Ok(())
}

/// Takes over the descriptor `number` that the parent declared on our command line.
///
/// # Errors
/// When no such descriptor is open.
pub fn adopt(number: RawFd) -> Outcome<OwnedFd> {
    // SAFETY: F_GETFD only reads the flags of a descriptor number, valid or not.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 || number <= 2 {
        return Err(SysError::on(
            "adopt descriptor",
            number,
            std::io::Error::last_os_error(),
        ));
    }
    // SAFETY: the descriptor is open (checked above) and was handed to this process by its parent
    // under this number; no other value in this process owns it.
    let fd = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) };
    rustix::io::fcntl_setfd(fd.as_fd(), rustix::io::FdFlags::CLOEXEC)
        .map_err(|e| SysError::on("fcntl(F_SETFD)", number, e))?;
    Ok(fd)
}
