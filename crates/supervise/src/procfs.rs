//! Reads the kernel's information about a process (proc(5)).

use std::{
    collections::HashSet,
    fs,
    io::{self, Read as _},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Dir, Mode, OFlags, Stat},
    io::Errno,
    process::Pid,
};
use stockade_sys::proc_text::{self, Status};
use stockade_types::{ProcessId, RawText, ignored};

/// Bytes of variables that are read; the kernel's usual limit is 2 MiB for these and the arguments.
pub(crate) const ENVIRONMENT_BYTES_MAX: usize = 4 << 20;
/// Bytes of a command line that a subject keeps.
pub(crate) const COMMAND_LINE_BYTES_MAX: usize = 16 * 1024;
/// Descriptors that are tried one by one, of a process that forbids inspection.
const HIDDEN_DESCRIPTORS_MAX: i32 = 4096;
/// With fewer descriptors than this, the limits of a process are not read.
const FEW_DESCRIPTORS: u64 = 64;
/// Processes of a session that are searched for one.
const PROCESSES_MAX: usize = 100_000;
/// Bytes of `/proc/PID/stat` that are read: a name of up to 64 bytes and 52 numbers of 20 digits fit
/// less often than they occur, but most have few digits.
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
    let pid = if thread(tid).is_some_and(stockade_sys::process::is_leader) {
        tid
    } else {
        group(tid)?
    };
    of_process(pid)
}

fn thread(tid: u32) -> Option<Pid> {
    i32::try_from(tid).ok().and_then(Pid::from_raw)
}

/// Reads which process a thread belongs to.
pub(crate) fn group(tid: u32) -> io::Result<u32> {
    Ok(Status::new(&status(tid)?).process()?)
}

/// Reads the text of `/proc/TID/status`.
pub(crate) fn status(tid: u32) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/{tid}/status"))
}

/// Reads the current identity of a process.
pub(crate) fn of_process(pid: u32) -> io::Result<Identity> {
    let stat = stat(pid)?;
    Ok(Identity {
        id: ProcessId {
            pid,
            start: stat.start,
        },
        parent: stat.parent,
        stack: stat.stack,
    })
}

fn stat(id: u32) -> io::Result<proc_text::Stat> {
    let mut buffer = [0; STAT_BYTES];
    Ok(proc_text::stat(stat_text(id, &mut buffer)?)?)
}

/// Reads the text with one call: the kernel makes the whole line at once.
fn stat_text(id: u32, buffer: &mut [u8; STAT_BYTES]) -> io::Result<&[u8]> {
    let count = fs::File::open(format!("/proc/{id}/stat"))?.read(buffer)?;
    Ok(buffer.get(..count).unwrap_or_default())
}

/// Reads how a process ended that its parent has not waited for (wait(2)).
///
/// # Errors
/// When it runs, or is gone, or it is unknown: the kernel writes 0 for a process that forbids inspection
/// (`PR_SET_DUMPABLE`, prctl(2)).
pub(crate) fn exit_status(process: ProcessId) -> io::Result<i32> {
    let mut buffer = [0; STAT_BYTES];
    let text = stat_text(process.pid, &mut buffer)?;
    let stat = proc_text::stat(text)?;
    if stat.start != process.start || !matches!(stat.state, b'Z' | b'X') {
        return Err(io::ErrorKind::NotFound.into());
    }
    let status = proc_text::exit_status(text)?;
    if status == 0 {
        // The kernel asks the same of who reads this one, and says so.
        fs::read(format!("/proc/{}/io", process.pid))?;
    }
    Ok(status)
}

/// Reads the device of the terminal that controls the process of thread `tid`.
///
/// # Errors
/// ENXIO if there is none.
pub(crate) fn terminal(tid: u32) -> io::Result<u64> {
    match stat(tid)?.terminal {
        0 => Err(Errno::NXIO.into()),
        device => Ok(device),
    }
}

/// Reads the file mode creation mask of the process of thread `tid`.
pub(crate) fn creation_mask(tid: u32) -> io::Result<Mode> {
    let mask = Status::new(&status(tid)?).mask()?;
    Ok(Mode::from_raw_mode(mask))
}

/// Reads the limit for the length of a file that a thread writes (`RLIMIT_FSIZE`), in bytes.
pub(crate) fn file_size_limit(thread: Pid) -> u64 {
    limit(thread, b"Max file size")
}

/// Whether a thread has no free number for a further descriptor (`RLIMIT_NOFILE`). Before Linux 6.2
/// the kernel does not count descriptors; then the answer is always no.
pub(crate) fn descriptors_are_used_up(thread: Pid) -> bool {
    let table = format!("/proc/{}/fd", thread.as_raw_nonzero());
    let count = rustix::fs::stat(&table).map_or(0, |stat| stat.st_size);
    let count = u64::try_from(count).unwrap_or_default();
    if count < FEW_DESCRIPTORS {
        return false;
    }
    let limit = limit(thread, b"Max open files");
    if count < limit {
        return false;
    }
    // The limit may have been lowered since: the question is whether a number below it is free.
    let entries = fs::read_dir(table).into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
    let below = numbers.filter(|number| *number < limit).count();
    u64::try_from(below).is_ok_and(|below| below >= limit)
}

/// Reads a soft limit of a thread; the largest number if there is no limit, or no thread any more.
fn limit(thread: Pid, name: &[u8]) -> u64 {
    let path = format!("/proc/{}/limits", thread.as_raw_nonzero());
    let text = fs::read(path).unwrap_or_default();
    proc_text::soft_limit(&text, name).unwrap_or(u64::MAX)
}

/// Reads a magic link of a process; empty if the process is gone.
pub(crate) fn link(pid: u32, name: &str) -> RawText {
    fs::read_link(format!("/proc/{pid}/{name}"))
        .map(|path| RawText::from_os(path.as_os_str()))
        .unwrap_or_default()
}

/// Reads the argument vector of a process; empty if the process is gone.
pub(crate) fn command_line(pid: u32) -> Vec<RawText> {
    as_arguments(&command_line_bytes(pid))
}

/// Takes the bytes of [`command_line_bytes`] apart.
pub(crate) fn as_arguments(bytes: &[u8]) -> Vec<RawText> {
    let arguments = proc_text::arguments(bytes).into_iter();
    arguments.map(RawText::from_bytes).collect()
}

/// Reads the arguments of a process, each with a zero byte at its end; empty if the process is gone.
pub(crate) fn command_line_bytes(pid: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4096);
    if let Ok(file) = fs::File::open(format!("/proc/{pid}/cmdline")) {
        ignored(
            file.take(COMMAND_LINE_BYTES_MAX as u64)
                .read_to_end(&mut bytes),
            "an error means that the process is going, and the bytes before it count",
        );
    }
    bytes
}

/// Reads the variables that a process was started with, unless it overwrote them.
pub(crate) fn environment(pid: u32) -> io::Result<Vec<(RawText, RawText)>> {
    let mut bytes = Vec::new();
    fs::File::open(format!("/proc/{pid}/environ"))?
        .take(ENVIRONMENT_BYTES_MAX as u64)
        .read_to_end(&mut bytes)?;
    let variables = proc_text::variables(&bytes);
    Ok(variables.map(as_texts).collect())
}

/// Splits `NAME=value`; an entry without `=` is not a variable.
pub(crate) fn variable(entry: &[u8]) -> Option<(RawText, RawText)> {
    proc_text::variable(entry).map(as_texts)
}

fn as_texts((name, value): (&[u8], &[u8])) -> (RawText, RawText) {
    (RawText::from_bytes(name), RawText::from_bytes(value))
}

/// Cuts an argument vector as [`command_line`] does.
pub(crate) fn cut_command_line(argv: &[RawText]) -> Vec<RawText> {
    let mut left = COMMAND_LINE_BYTES_MAX;
    let mut kept = Vec::new();
    for argument in argv {
        let bytes = argument.as_bytes();
        kept.push(RawText::from_bytes(bytes.get(..left).unwrap_or(bytes)));
        if bytes.len() >= left {
            break;
        }
        left -= bytes.len() + 1;
        if left == 0 {
            break;
        }
    }
    kept
}

/// Compares a command line from `/proc`, which is cut, with the whole one.
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
pub fn descendants(root: u32, processes_max: usize) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children = fs::read(task.path().join("children")).unwrap_or_default();
            found.extend(proc_text::children(&children).unwrap_or_default());
        }
        if found.len() > processes_max {
            found.truncate(processes_max);
            break;
        }
    }
    found
}

/// Returns the thread that traces thread `tid`, zero if none does; `None` if it is unknown.
pub(crate) fn tracer(tid: u32) -> Option<u32> {
    Status::new(&status(tid).ok()?).tracer().ok()
}

/// Returns the id that a thread has in its session.
pub(crate) fn session_id(tid: u32) -> Option<i32> {
    thread_ids(tid)?.get(1).copied()
}

/// Counts the pid namespaces, from ours on, that a thread is in.
pub(crate) fn pid_namespaces(tid: u32) -> Option<usize> {
    thread_ids(tid).map(|ids| ids.len())
}

/// Reads the ids of a thread, the one in our namespace first.
fn thread_ids(tid: u32) -> Option<Vec<i32>> {
    Status::new(&status(tid).ok()?).thread_ids().ok()
}

/// Finds the thread below `first` that has this id in the session.
pub(crate) fn with_session_id(first: u32, id: i32) -> Option<u32> {
    let processes = descendants(first, PROCESSES_MAX);
    let has_it = |tid: &u32| session_id(*tid) == Some(id);
    let threads = || processes.iter().flat_map(|pid| tasks(*pid));
    processes
        .iter()
        .copied()
        .find(has_it)
        .or_else(|| threads().find(has_it))
}

/// Returns those of `wanted`, inodes of sockets, that a process holds. Its newest descriptors are
/// checked first.
///
/// # Errors
/// When the process hides its descriptors from us. A process that is gone holds nothing.
#[expect(clippy::implicit_hasher, reason = "both ends are ours")]
pub fn sockets(pid: u32, wanted: &HashSet<u32>) -> io::Result<HashSet<u32>> {
    let mut found = HashSet::new();
    let mut look = |task: u32| -> io::Result<()> {
        match listed_sockets(pid, task, wanted, &mut found) {
            Err(Errno::NOENT | Errno::SRCH) => Ok(()),
            Err(Errno::ACCESS) => hidden_sockets(task, wanted, &mut found),
            listed => listed.map_err(io::Error::from),
        }
    };
    look(pid)?;
    // Threads can have descriptors of their own (unshare(2)), and outlive the first thread.
    for task in tasks(pid).filter(|task| *task != pid) {
        let shared = match (thread(pid), thread(task)) {
            (Some(first), Some(other)) => stockade_sys::process::shares_descriptors(first, other),
            _ => false,
        };
        if !shared {
            look(task)?;
        }
    }
    Ok(found)
}

pub(crate) fn tasks(pid: u32) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
}

fn listed_sockets(
    pid: u32,
    task: u32,
    wanted: &HashSet<u32>,
    found: &mut HashSet<u32>,
) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(format!("/proc/{pid}/task/{task}/fd"), flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        names.push(entry?.file_name().to_owned());
    }
    let mut buffer = Vec::new();
    for name in names.iter().rev() {
        if found.len() == wanted.len() {
            break;
        }
        // It was closed meanwhile, or is not a descriptor: the names include `.` and `..`.
        let Ok(target) = rustix::fs::readlinkat(&directory, name, buffer) else {
            buffer = Vec::new();
            continue;
        };
        found.extend(
            proc_text::socket_inode(target.as_bytes()).filter(|inode| wanted.contains(inode)),
        );
        buffer = target.into_bytes();
    }
    Ok(())
}

/// As [`listed_sockets`], of a thread that forbids inspection (`PR_SET_DUMPABLE`): its descriptors
/// can still be copied.
fn hidden_sockets(task: u32, wanted: &HashSet<u32>, found: &mut HashSet<u32>) -> io::Result<()> {
    // A thread that is gone holds nothing.
    let status = status(task).unwrap_or_default();
    let slots = Status::new(&status).descriptor_slots().unwrap_or_default();
    let slots = i32::try_from(slots).ok();
    let Some(slots) = slots.filter(|slots| *slots <= HIDDEN_DESCRIPTORS_MAX) else {
        return Err(io::ErrorKind::PermissionDenied.into());
    };
    for descriptor in (0..slots).rev() {
        if found.len() == wanted.len() {
            break;
        }
        let copy = match copy_of(task, descriptor) {
            Ok(copy) => copy,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // There is no such descriptor, or no such process any more.
            Err(_) => continue,
        };
        let link = path_of(&copy)?;
        let inode = proc_text::socket_inode(link.as_os_str().as_bytes());
        found.extend(inode.filter(|inode| wanted.contains(inode)));
    }
    Ok(())
}

/// Reads the path behind a descriptor of ours, as its own mount namespace has it.
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

/// Reads the metadata of the object behind a descriptor of `tid`.
pub(crate) fn stat_behind(tid: u32, descriptor: i32) -> io::Result<Stat> {
    match rustix::fs::stat(format!("/proc/{tid}/fd/{descriptor}")) {
        Err(Errno::ACCESS) => Ok(rustix::fs::fstat(copy_of(tid, descriptor)?)?),
        stat => Ok(stat?),
    }
}

/// A copy of a descriptor of a process.
///
/// This may be the last one when it is closed. Closing a connection waits for unsent data as long
/// as its owner set (`SO_LINGER`, socket(7)): the owner may wait, but not the supervisor.
#[derive(Debug)]
pub(crate) struct Copied(OwnedFd);

impl AsFd for Copied {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Copied {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        if rustix::net::getpeername(&self.0).is_ok() {
            // Families without this option do not wait either.
            let _none = rustix::net::sockopt::set_socket_linger(&self.0, None);
        }
    }
}

/// Takes a copy of a descriptor of `tid`.
pub(crate) fn copy_of(tid: u32, descriptor: i32) -> io::Result<Copied> {
    let thread = thread(tid).ok_or(io::ErrorKind::NotFound)?;
    let copy = stockade_sys::process::descriptor_of(thread, descriptor);
    copy.map(Copied).map_err(|error| match error.errno() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error),
    })
}

/// Whether a path read from a magic link names a removed file.
pub(crate) fn is_deleted(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b" (deleted)")
}
