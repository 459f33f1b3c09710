//! Processes: namespaces, forks of single-threaded roles, execution and waiting.

use std::{
    convert::Infallible,
    ffi::{CString, OsStr},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use crate::{Outcome, SysError};

/// A namespace that a session gets for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// User and group ids, capabilities.
    User,
    /// Mounts.
    Mount,
    /// Process ids; takes effect for the next child.
    Pid,
    /// Network.
    Network,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// View of the cgroup tree.
    Cgroup,
}

/// Moves the calling, single-threaded process into new namespaces.
///
/// # Errors
/// EPERM or ENOSPC if user namespaces are forbidden or used up (user_namespaces(7)).
pub fn unshare(namespaces: &[Namespace]) -> Outcome<()> {
    let flags = namespaces
        .iter()
        .fold(UnshareFlags::empty(), |flags, namespace| {
            flags
                | match namespace {
                    Namespace::User => UnshareFlags::NEWUSER,
                    Namespace::Mount => UnshareFlags::NEWNS,
                    Namespace::Pid => UnshareFlags::NEWPID,
                    Namespace::Network => UnshareFlags::NEWNET,
                    Namespace::Ipc => UnshareFlags::NEWIPC,
                    Namespace::Uts => UnshareFlags::NEWUTS,
                    Namespace::Cgroup => UnshareFlags::NEWCGROUP,
                }
        });
    // SAFETY: rustix marks unshare unsafe because CLONE_FILES could give threads different
    // descriptor tables; none of the flags above is CLONE_FILES.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(|e| SysError::new("unshare", e))
}

/// Which process a fork returned in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The caller, with the id of its child.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Whose child the new process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parentage {
    /// The caller's.
    Own,
    /// The caller's parent's (CLONE_PARENT), so that the caller can end.
    Sibling,
}

/// Forks the calling process, which must have only one thread, so that the child may use the heap.
///
/// # Errors
/// EAGAIN at the process limit; EINVAL when a second thread exists (checked, not assumed).
pub fn fork(parentage: Parentage) -> Outcome<Fork> {
    if thread_count()? != 1 {
        let source = std::io::Error::from_raw_os_error(libc::EINVAL);
        return Err(SysError::on(
            "fork",
            "a process with several threads",
            source,
        ));
    }
    let extra = match parentage {
        Parentage::Own => 0,
        Parentage::Sibling => libc::CLONE_PARENT,
    };
    let flags = libc::c_long::from(libc::SIGCHLD | extra);
    // SAFETY: clone without CLONE_VM or a new stack behaves as fork: the child has a copy of
    // everything. The process is single-threaded (checked above), so no lock is held by a thread
    // that the child lacks. The C library does not see this clone, so its cached facts about the
    // thread (its id, for instance) are still the parent's in the child: our children neither start
    // threads nor use locks that depend on them. The argument order of flags and stack is the same
    // on x86-64 and arm64.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match result {
        0 => Ok(Fork::Child),
        _ => i32::try_from(result)
            .ok()
            .and_then(Pid::from_raw)
            .filter(|_| result > 0)
            .map(Fork::Parent)
            .ok_or_else(|| SysError::last("clone")),
    }
}

fn thread_count() -> Outcome<usize> {
    std::fs::read_dir("/proc/self/task")
        .map(Iterator::count)
        .map_err(|e| SysError::on("list", "/proc/self/task", e))
}

/// Replaces the process image.
///
/// # Errors
/// Only returns on failure: ENOENT, EACCES, ENOEXEC, E2BIG as execve(2).
pub fn execute<A: AsRef<OsStr>>(
    program: &OsStr,
    argv: &[A],
    environment: &[(A, A)],
) -> Outcome<Infallible> {
    let shown = || program.to_string_lossy().into_owned();
    let nul = || SysError::on("execve", shown(), std::io::ErrorKind::InvalidInput);
    let path = CString::new(program.as_bytes()).map_err(|_| nul())?;
    let argv = argv
        .iter()
        .map(|a| CString::new(a.as_ref().as_bytes()).map_err(|_| nul()))
        .collect::<Outcome<Vec<_>>>()?;
    let environment = environment
        .iter()
        .map(|(name, value)| {
            let text = [name.as_ref().as_bytes(), b"=", value.as_ref().as_bytes()].concat();
            CString::new(text).map_err(|_| nul())
        })
        .collect::<Outcome<Vec<_>>>()?;
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let argv_pointers = pointers(&argv);
    let environment_pointers = pointers(&environment);
    // SAFETY: path, both arrays and the strings they point to are NUL- and NULL-terminated and
    // outlive the call.
    unsafe {
        libc::execve(
            path.as_ptr(),
            argv_pointers.as_ptr(),
            environment_pointers.as_ptr(),
        )
    };
    Err(SysError::on(
        "execve",
        shown(),
        std::io::Error::last_os_error(),
    ))
}

/// Asks the kernel to kill the calling process when the thread that started it ends.
///
/// # Errors
/// When the kernel refuses.
pub fn die_with_parent() -> Outcome<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| SysError::new("prctl(PR_SET_PDEATHSIG)", e))
}

/// Opens a descriptor that refers to `pid` and becomes readable when it ends.
///
/// # Errors
/// ESRCH when the process is gone.
pub fn pidfd(pid: Pid) -> Outcome<OwnedFd> {
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(|e| SysError::on("pidfd_open", pid, e))
}

/// Copies a descriptor of `thread`, even if the process forbids inspection (`PR_SET_DUMPABLE`,
/// prctl(2)) and its `/proc/PID/fd` therefore belongs to root.
///
/// # Errors
/// EBADF when it has no descriptor of that number; EINVAL for a thread that is not the first of its
/// process before Linux 6.9; EPERM when the kernel protects the process from us.
pub fn descriptor_of(thread: Pid, descriptor: i32) -> Outcome<OwnedFd> {
    if descriptor < 0 {
        return Err(SysError::on(
            "pidfd_getfd",
            descriptor,
            std::io::Error::from_raw_os_error(libc::EBADF),
        ));
    }
    let flags = if is_leader(thread) {
        PidfdFlags::empty()
    } else {
        PIDFD_THREAD
    };
    let pidfd = rustix::process::pidfd_open(thread, flags)
        .map_err(|e| SysError::on("pidfd_open", thread, e))?;
    rustix::process::pidfd_getfd(&pidfd, descriptor, PidfdGetfdFlags::empty())
        .map_err(|e| SysError::on("pidfd_getfd", descriptor, e))
}

/// Refers to the thread itself and not to its process (linux/pidfd.h).
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(0o200);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// What a wait found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// This child ended.
    Child(Pid, Ended),
    /// Children exist, none has ended.
    NoneEnded,
    /// There are no children.
    NoChildren,
}

/// Reaps one ended child: `pid`, or any. `wait` says whether it waits for one to end.
///
/// # Errors
/// When waiting fails for another reason than having no children.
pub fn reap(pid: Option<Pid>, wait: WaitMode) -> Outcome<Waited> {
    let options = match wait {
        WaitMode::Poll => WaitOptions::NOHANG,
        WaitMode::Block => WaitOptions::empty(),
    };
    loop {
        let result = match pid {
            Some(pid) => rustix::process::waitpid(Some(pid), options),
            None => rustix::process::wait(options),
        };
        return match result {
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::CHILD) => Ok(Waited::NoChildren),
            Err(errno) => Err(SysError::new("waitpid", errno)),
            Ok(None) => Ok(Waited::NoneEnded),
            Ok(Some((pid, status))) => {
                let ended = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Ended::Code(code),
                    (None, Some(signal)) => Ended::Signal(signal),
                    (None, None) => continue,
                };
                Ok(Waited::Child(pid, ended))
            }
        };
    }
}

/// Whether [`reap`] returns at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitMode {
    /// Return at once.
    Poll,
    /// Wait for the next end.
    Block,
}

/// Sends `signal` to `pid`; a process that is gone already is not an error.
///
/// # Errors
/// EPERM, or EINVAL for a number that is not a signal.
pub fn kill(pid: Pid, signal: i32) -> Outcome<()> {
    // SAFETY: kill takes two integers; `pid` is positive, so no group or broadcast is meant.
    let result = unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
    if result == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) {
        return Ok(());
    }
    Err(SysError::on("kill", pid, std::io::Error::last_os_error()))
}

/// Returns whether `thread` is the first thread of its process, whose id is the id of the process.
pub fn is_leader(thread: Pid) -> bool {
    let id = thread.as_raw_nonzero().get();
    // SAFETY: tgkill takes three integers; signal 0 only checks that the thread is in the group.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, id, id, 0) };
    // EPERM means that the process exists but belongs to another user.
    result == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Returns whether two threads certainly share one table of descriptors (kcmp(2)).
pub fn shares_descriptors(one: Pid, other: Pid) -> bool {
    /// `KCMP_FILES`.
    const FILES: libc::c_int = 2;
    let (one, other) = (one.as_raw_nonzero().get(), other.as_raw_nonzero().get());
    // SAFETY: kcmp takes five integers; this comparison reads the first three.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, one, other, FILES, 0, 0) };
    result == 0
}

/// Sends `signal` to the process group that `leader` leads; a group that is gone is not an error.
///
/// # Errors
/// As [`kill`].
pub fn kill_group(leader: Pid, signal: i32) -> Outcome<()> {
    // SAFETY: killpg takes two integers; `leader` is positive.
    let result = unsafe { libc::killpg(leader.as_raw_nonzero().get(), signal) };
    if result == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) {
        return Ok(());
    }
    Err(SysError::on(
        "killpg",
        leader,
        std::io::Error::last_os_error(),
    ))
}

/// A limit of setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `RLIMIT_NOFILE`, number of open descriptors.
    OpenFiles,
    /// `RLIMIT_NPROC`, processes of the user in its user namespace.
    Processes,
    /// `RLIMIT_SIGPENDING`, signals queued for the user in its user namespace, and timers.
    PendingSignals,
    /// `RLIMIT_CORE`, bytes of a core dump.
    Core,
    /// `RLIMIT_FSIZE`, bytes of a file that is written; a longer one ends the process.
    FileSize,
    /// `RLIMIT_MSGQUEUE`, bytes in POSIX message queues.
    MessageQueues,
}

const fn resource(limit: Limit) -> Resource {
    match limit {
        Limit::OpenFiles => Resource::Nofile,
        Limit::Processes => Resource::Nproc,
        Limit::PendingSignals => Resource::Sigpending,
        Limit::Core => Resource::Core,
        Limit::FileSize => Resource::Fsize,
        Limit::MessageQueues => Resource::Msgqueue,
    }
}

/// Returns the soft limit of the calling process, `u64::MAX` if there is none.
pub fn present_limit(limit: Limit) -> u64 {
    rustix::process::getrlimit(resource(limit))
        .current
        .unwrap_or(u64::MAX)
}

/// Limits the caller's user namespace to `most` of the count `name` of `/proc/sys/user`. Objects
/// made in the namespace also count for the user who made the namespace (namespaces(7)).
///
/// # Errors
/// Without `CAP_SYS_RESOURCE` in the namespace, or if `/proc/sys` is read-only.
pub fn share_at_most(name: &str, most: u64) -> Outcome<()> {
    let path = std::path::Path::new("/proc/sys/user").join(name);
    std::fs::write(&path, most.to_string()).map_err(|e| SysError::on("write", path.display(), e))
}

/// Sets soft and hard limit of the calling process to `value`, or to the present hard limit if that
/// is lower.
///
/// # Errors
/// Never because of privileges: it only lowers.
pub fn limit(limit: Limit, value: u64) -> Outcome<()> {
    let resource = resource(limit);
    let hard = rustix::process::getrlimit(resource)
        .maximum
        .unwrap_or(u64::MAX);
    let value = value.min(hard);
    rustix::process::setrlimit(
        resource,
        Rlimit {
            current: Some(value),
            maximum: Some(value),
        },
    )
    .map_err(|e| SysError::new("setrlimit", e))
}

/// Restores the default action of every signal and unblocks all, as a fresh program expects.
///
/// # Errors
/// When the signal mask cannot be set.
pub fn reset_signals() -> Outcome<()> {
    for signal in 1..=64 {
        // Signals 32 and 33 belong to libc, KILL and STOP cannot be set: their errors do not count.
        // SAFETY: SIG_DFL installs no handler; the call touches no memory of ours.
        let _previous = unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero sigset_t is the empty set on Linux.
    let empty: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `empty` is a valid signal set that lives through the call; no old set is asked for.
    let result =
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()) };
    if result == 0 {
        Ok(())
    } else {
        Err(SysError::last("sigprocmask"))
    }
}

/// Ignores SIGTTOU.
///
/// # Errors
/// Never on Linux for this signal.
pub(crate) fn ignore_background_output() -> Outcome<()> {
    // SAFETY: SIG_IGN installs no handler; the call touches no memory of ours.
    let previous = unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    if previous == libc::SIG_ERR {
        Err(SysError::last("signal(SIGTTOU)"))
    } else {
        Ok(())
    }
}

/// Blocks SIGCHLD in the calling thread and returns a descriptor that reports it.
///
/// # Errors
/// When descriptors run out.
pub fn child_signal_fd() -> Outcome<OwnedFd> {
    // SAFETY: an all-zero sigset_t is the empty set on Linux.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is an exclusively borrowed signal set and SIGCHLD a valid signal.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    // SAFETY: `set` is initialised and lives through the call; no old set is asked for.
    if unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } != 0 {
        return Err(SysError::last("sigprocmask"));
    }
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: -1 asks for a new descriptor; `set` is initialised and lives through the call.
    let fd = unsafe { libc::signalfd(-1, &raw const set, flags) };
    if fd < 0 {
        return Err(SysError::last("signalfd"));
    }
    // SAFETY: the kernel just returned this descriptor to us alone.
    Ok(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) })
}

/// Sets the host name of the caller's UTS namespace.
///
/// # Errors
/// When the caller has no capability there.
pub fn set_host_name(name: &str) -> Outcome<()> {
    rustix::system::sethostname(name.as_bytes()).map_err(|e| SysError::on("sethostname", name, e))
}

/// Ends the calling process at once, without running destructors: for forked children whose
/// destructors belong to the parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(code) }
}
