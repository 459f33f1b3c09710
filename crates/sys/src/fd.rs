//! Descriptors: anonymous files, and which descriptors a child may keep.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    process::{Child, Command},
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::{MemfdFlags, SealFlags},
    io::FdFlags,
};

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

/// Makes the next `execve` close every descriptor of the calling process except the standard
/// streams, whichever code opened it.
///
/// # Errors
/// When `close_range` does not offer this (Linux before 5.11) or fails.
pub fn close_on_exec() -> Outcome<()> {
    // SAFETY: close_range takes three integers; with CLOSE_RANGE_CLOEXEC it closes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST_UNNAMED,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(SysError::last("close_range(CLOSE_RANGE_CLOEXEC)"))
    }
}

/// The first descriptor that is not a standard stream.
const FIRST_UNNAMED: RawFd = 3;

/// Held while a descriptor may survive an `execve` of this process's children, and while an
/// inherited one is taken over.
static SURVIVING: Mutex<()> = Mutex::new(());

/// Starts `command`. It inherits `handed` under their numbers, which are appended to its arguments
/// in this order, and its standard streams, but nothing else, not even what our own caller left
/// open.
///
/// # Errors
/// When one of them is a standard stream, or nothing can be started.
pub fn spawn_with(command: &mut Command, handed: &[BorrowedFd<'_>]) -> Outcome<Child> {
    let _one_at_a_time = SURVIVING.lock().unwrap_or_else(PoisonError::into_inner);
    close_on_exec()?;
    for fd in handed {
        let number = fd.as_raw_fd();
        if number < FIRST_UNNAMED {
            let source = std::io::Error::from_raw_os_error(libc::EINVAL);
            return Err(SysError::on("hand down a standard stream", number, source));
        }
        command.arg(number.to_string());
        set_flags(*fd, FdFlags::empty())?;
    }
    let spawned = command.spawn();
    for fd in handed {
        set_flags(*fd, FdFlags::CLOEXEC)?;
    }
    spawned.map_err(|e| SysError::on("start", command.get_program().display(), e))
}

fn set_flags(fd: BorrowedFd<'_>, flags: FdFlags) -> Outcome<()> {
    rustix::io::fcntl_setfd(fd, flags)
        .map_err(|e| SysError::on("fcntl(F_SETFD)", fd.as_raw_fd(), e))
}

/// Points the standard streams that `which` names (input, output, error) to `fd`.
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

/// Points the standard streams of the calling process to `/dev/null`.
///
/// # Errors
/// When `/dev/null` cannot be opened.
pub fn replace_standard_streams() -> Outcome<()> {
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|e| SysError::on("open", "/dev/null", e))?;
    set_standard_streams(null.as_fd(), [true; 3])
}

/// Takes over the descriptor `number` that the parent declared on our command line. Each can be
/// taken once.
///
/// # Errors
/// When no such descriptor is open, it is a standard stream, or it did not come from the parent.
pub fn take_inherited(number: RawFd) -> Outcome<OwnedFd> {
    let refused = |source| Err(SysError::on("take descriptor", number, source));
    if number < FIRST_UNNAMED {
        return refused(std::io::Error::from_raw_os_error(libc::EINVAL));
    }
    let _one_at_a_time = SURVIVING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: F_GETFD only reads the flags of a descriptor number, valid or not.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return refused(std::io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        // Opened by this program, or taken before.
        return refused(std::io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: the descriptor is open, and it came through execve: execve closes every descriptor
    // that this program opens, except those from which `spawn_with` lifts the flag for a moment,
    // and the lock keeps that apart from this. No other value owns an inherited descriptor: the
    // next line sets the flag, and the check above refuses a descriptor that has it.
    let fd = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) };
    set_flags(fd.as_fd(), FdFlags::CLOEXEC)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::fd::{AsFd as _, AsRawFd as _},
        process::{Command, Stdio},
    };

    use super::{sealed_memory, spawn_with, take_inherited};

    #[test]
    fn a_child_inherits_what_it_is_handed_and_nothing_else() {
        let (handed, kept) = (
            sealed_memory("handed", b"text").unwrap(),
            sealed_memory("kept", b"").unwrap(),
        );
        // A caller may leave us a descriptor like this one.
        let left = rustix::io::dup(&kept).unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", "cat <&$1; ls -l /proc/self/fd", "sh"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = spawn_with(&mut command, &[handed.as_fd()]).unwrap();
        let mut text = String::new();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(text.starts_with("text"), "{text}");
        assert!(text.contains("memfd:handed"), "{text}");
        assert!(!text.contains("memfd:kept"), "{text}");
        drop(left);
    }

    #[test]
    fn what_has_an_owner_is_not_taken() {
        let owned = sealed_memory("owned", b"").unwrap();
        let refused = |number| take_inherited(number).unwrap_err().errno();
        assert_eq!(refused(owned.as_raw_fd()), Some(libc::EBUSY));
        for standard in [-1, 0, 1, 2] {
            assert_eq!(refused(standard), Some(libc::EINVAL));
        }
        drop(owned);
        assert_eq!(refused(9_999), Some(libc::EBADF));
    }

    #[test]
    fn what_came_through_an_execution_is_taken_once() {
        // The state after an execution; no other value owns the copy.
        let copy = std::os::fd::IntoRawFd::into_raw_fd(
            rustix::io::dup(sealed_memory("given", b"").unwrap()).unwrap(),
        );
        let taken = take_inherited(copy).unwrap();
        assert_eq!(take_inherited(copy).unwrap_err().errno(), Some(libc::EBUSY));
        drop(taken);
        assert_eq!(take_inherited(copy).unwrap_err().errno(), Some(libc::EBADF));
    }
}
