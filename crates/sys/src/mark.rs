//! A number that the kernel keeps with a process and gives to each child of it.
//!
//! It is the hard limit `RLIMIT_RTTIME` (setrlimit(2)), which bounds the processor time of real-time
//! tasks only. It survives fork, exec, setsid and the death of parents. The kernel lets nobody raise it
//! without a privilege, and the filter of a session lets nobody change it; so what is read here is what
//! the supervisor has set.

use std::{io, ptr};

use rustix::process::Pid;

use crate::{Outcome, SysError};

/// The limit of a process with mark 0. As processor time in microseconds it has no effect: it is more
/// than 140,000 years.
const HIGHEST: u64 = 1 << 62;

/// Returns the mark of a process; `None` if it has none.
///
/// # Errors
/// When the process is gone, or belongs to somebody else.
pub fn read(process: u32) -> Outcome<Option<u32>> {
    let set = exchange(process, None)?;
    let below = HIGHEST.checked_sub(set.rlim_max);
    Ok(below.and_then(|below| u32::try_from(below).ok()))
}

/// Tells whether the calling process, and so each child, can be marked: its limit is not lower already.
pub fn is_possible() -> bool {
    exchange(std::process::id(), None).is_ok_and(|set| set.rlim_max == libc::RLIM_INFINITY)
}

/// Marks a process; a mark can only be replaced by a higher one.
///
/// # Errors
/// When the process is gone or belongs to somebody else, or the mark is lower than the present one.
pub fn set(process: u32, mark: u32) -> Outcome<()> {
    let limit = HIGHEST - u64::from(mark);
    let limit = libc::rlimit64 {
        rlim_cur: limit,
        rlim_max: limit,
    };
    exchange(process, Some(limit)).map(drop)
}

fn exchange(process: u32, new: Option<libc::rlimit64>) -> Outcome<libc::rlimit64> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| SysError::new("prlimit", rustix::io::Errno::SRCH))?;
    let mut before = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let new = new.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `new` is null or points to a limit that lives through the call, and `before` is one.
    let result = unsafe {
        libc::prlimit64(
            pid.as_raw_nonzero().get(),
            libc::RLIMIT_RTTIME,
            new,
            &raw mut before,
        )
    };
    if result == 0 {
        return Ok(before);
    }
    Err(SysError::on("prlimit", pid, io::Error::last_os_error()))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{is_possible, read, set};

    /// Children inherit it, whatever becomes of their parents.
    #[test]
    fn a_mark_is_inherited_and_only_grows() {
        assert!(is_possible(), "this process has no limit on real-time work");
        let mut child = Command::new("sh")
            .args(["-c", "read line; exec setsid sh -c '(sleep 60 & echo $!)'"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(read(child.id()).unwrap(), None);
        set(child.id(), 7).unwrap();
        assert_eq!(read(child.id()).unwrap(), Some(7));
        drop(child.stdin.take());
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        let orphan: u32 = line.trim().parse().unwrap();
        child.wait().unwrap();
        assert_eq!(read(orphan).unwrap(), Some(7));
        set(orphan, 9).unwrap();
        assert_eq!(read(orphan).unwrap(), Some(9));
        let pid = rustix::process::Pid::from_raw(i32::try_from(orphan).unwrap());
        rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::KILL).unwrap();
        assert!(read(0).is_err());
    }
}
