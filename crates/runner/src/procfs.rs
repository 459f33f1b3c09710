//! Reading what the kernel says of a process (proc(5)).

use std::{
    fs,
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::{fs::Stat, io::Errno, process::Pid};
use stockade_types::{ProcessId, RawText};

/// Bytes of a command line that a subject keeps.
const COMMAND_LINE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of `/proc/PID/stat` that are read: a name of up to 64 bytes and 21 numbers fit twice.
const STAT_BYTES: usize = 1024;

/// The identity and parent of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Process (thread group) and start time.
    pub(crate) id: ProcessId,
    /// Parent process.
    pub(crate) parent: u32,
    /// Address where its stack begins: every execution draws a new one.
    pub(crate) stack: u64,
}

/// Reads the identity of the process that thread `tid` belongs to.
pub(crate) fn identity(tid: u32) -> io::Result<Identity> {
    let thread = i32::try_from(tid).ok().and_then(Pid::from_raw);
    let pid = if thread.is_some_and(stockade_sys::process::is_leader) {
        tid
    } else {
        group(tid)?
    };
    of_process(pid)
}

fn group(tid: u32) -> io::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("/proc/PID/status has another form"))
}

/// Reads fields 4, 22 and 28 of `/proc/PID/stat`; the name in field 2 may contain anything, so the
/// fields are counted from its closing parenthesis.
pub(crate) fn of_process(pid: u32) -> io::Result<Identity> {
    // One read: the kernel makes the whole line at once, and the fields come early in it.
    let mut buffer = [0; STAT_BYTES];
    let count = fs::File::open(format!("/proc/{pid}/stat"))?.read(&mut buffer)?;
    let stat = buffer.get(..count).unwrap_or_default();
    let after = stat
        .iter()
        .rposition(|b| *b == b')')
        .and_then(|at| stat.get(at + 1..));
    after
        .and_then(|rest| std::str::from_utf8(rest).ok())
        .and_then(|rest| {
            let mut fields = rest.split_ascii_whitespace();
            let parent = fields.nth(1)?.parse().ok()?;
            let start = fields.nth(17)?.parse().ok()?;
            let stack = fields.nth(5)?.parse().ok()?;
            Some(Identity {
                id: ProcessId { pid, start },
                parent,
                stack,
            })
        })
        .ok_or_else(|| io::Error::other("/proc/PID/stat has another form"))
}

/// Reads a magic link of a process; empty when it is gone.
pub(crate) fn link(pid: u32, name: &str) -> RawText {
    fs::read_link(format!("/proc/{pid}/{name}"))
        .map(|path| RawText::from_os(path.as_os_str()))
        .unwrap_or_default()
}

/// Reads the argument vector of a process; empty when it is gone.
pub(crate) fn command_line(pid: u32) -> Vec<RawText> {
    let mut bytes = Vec::with_capacity(4096);
    if let Ok(file) = fs::File::open(format!("/proc/{pid}/cmdline")) {
        // What was read before an error counts: the process is going.
        drop(
            file.take(COMMAND_LINE_BYTES_MAX as u64)
                .read_to_end(&mut bytes),
        );
    }
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|b| *b == 0).map(RawText::from_bytes).collect()
}

/// Compares a command line that was read from `/proc`, which is cut, with the whole one.
pub(crate) fn same_command_line(read: &[RawText], whole: &[RawText]) -> bool {
    if read == whole {
        return true;
    }
    let bytes = |argv: &[RawText]| argv.iter().map(|a| a.as_bytes().len() + 1).sum::<usize>();
    let cut = bytes(read) >= COMMAND_LINE_BYTES_MAX;
    let (Some((last, read)), true) = (read.split_last(), cut) else {
        return false;
    };
    let (same, rest) = whole.split_at_checked(read.len()).unwrap_or((whole, &[]));
    same == read
        && rest
            .first()
            .is_some_and(|next| next.as_bytes().starts_with(last.as_bytes()))
}

/// Lists the processes below `root`, nearest first, up to `processes_max`.
pub(crate) fn descendants(root: u32, processes_max: usize) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_ascii_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
        }
        if found.len() > processes_max {
            found.truncate(processes_max);
            break;
        }
    }
    found
}

/// Tells whether a descriptor of `pid` is the socket with this inode.
pub(crate) fn has_socket(pid: u32, inode: u32) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.as_os_str() == wanted.as_str())
}

/// Reads the path behind a descriptor of ours, as the mount namespace it belongs to has it.
pub(crate) fn path_of(fd: &impl std::os::fd::AsRawFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Reads the path behind a descriptor of `tid`.
pub(crate) fn path_behind(tid: u32, descriptor: i32) -> io::Result<PathBuf> {
    match fs::read_link(format!("/proc/{tid}/fd/{descriptor}")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            path_of(&copy_of(tid, descriptor)?)
        }
        path => path,
    }
}

/// Tells what a descriptor of `tid` stands for.
pub(crate) fn stat_behind(tid: u32, descriptor: i32) -> io::Result<Stat> {
    match rustix::fs::stat(format!("/proc/{tid}/fd/{descriptor}")) {
        Err(Errno::ACCESS) => Ok(rustix::fs::fstat(copy_of(tid, descriptor)?)?),
        stat => Ok(stat?),
    }
}

/// Takes a copy of a descriptor of `tid`.
pub(crate) fn copy_of(tid: u32, descriptor: i32) -> io::Result<OwnedFd> {
    let thread = i32::try_from(tid).ok().and_then(Pid::from_raw);
    let thread = thread.ok_or(io::ErrorKind::NotFound)?;
    stockade_sys::process::descriptor_of(thread, descriptor).map_err(io::Error::other)
}

/// Tells whether a path read from a magic link names something that was removed.
pub(crate) fn is_deleted(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b" (deleted)")
}
