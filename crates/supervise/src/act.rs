//! Does what a call asks for, on the objects that were judged, in the caller's name.
//!
//! Every operation is relative to descriptors of the session's own mounts, has one component, and
//! follows no link. The thread acts in the identity of the session ([`FileIdentity`]), so the
//! kernel applies read-only mounts, owners, modes, quotas and the rest by itself. Three checks depend
//! on the calling process, so this module makes them: whether a mount lies at a name, which terminal
//! `/dev/tty` means, and whose memory a file of `/proc` is.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{Access, AtFlags, FileType, Mode, OFlags, RawMode, RenameFlags, ResolveFlags},
    io::Errno,
    pipe::{PipeFlags, SpliceFlags},
    process::Pid,
};
use stockade_sys::{proc_text::Status, thread::without_tracing};

use super::changes::{Deed, FLAG_CREATE, FLAG_NO_FOLLOW, FLAG_TRUNCATE};
use crate::{
    Caller,
    locate::{Place, own_link},
    procfs,
    resolve::Resolver,
};

/// Flags that openat2(2) knows (`VALID_OPEN_FLAGS`, linux/fcntl.h); open(2) ignores others.
const OPEN_FLAGS: u32 = 0o37_777_703;
/// Bits of a mode that count (`S_IALLUGO`, linux/stat.h).
const MODE_BITS: u32 = 0o7777;
/// `O_ACCMODE`, and two of its values.
const ACCESS_MODE: u32 = 3;
const READ_ONLY: u32 = 0;
const READ_AND_WRITE: u32 = 2;
/// `O_CLOEXEC`.
const FLAG_CLOSE_ON_EXEC: u32 = 0o2_000_000;
/// `O_TMPFILE` without `O_DIRECTORY`.
const FLAG_TEMPORARY: u32 = 0o20_000_000;
/// `O_NONBLOCK`.
const FLAG_NO_WAIT: u32 = 0o4000;
/// Device number of `/dev/tty`, major and minor (linux/major.h).
const TERMINAL_DEVICE: (u32, u32) = (5, 0);
/// Major numbers of pseudo-terminals (`UNIX98_PTY_SLAVE_MAJOR`, linux/major.h): eight of them.
const TERMINAL_MAJORS: std::ops::Range<u32> = 136..144;

/// The outcome of a deed.
#[derive(Debug)]
pub(super) enum Done {
    /// It happened; the call returns zero.
    Finished,
    /// It happened; the call returns this descriptor.
    Opened { file: OwnedFd, close_on_exec: bool },
    /// The other end of a pipe is not open yet; the task that waits for it answers.
    Waits,
}

/// Does `deed` at `places`, in the order of the call's paths.
///
/// # Errors
/// With the kernel's own answer.
pub(super) fn carry_out(
    deed: &Deed,
    places: &[Place],
    resolver: &Resolver,
    thread: Pid,
) -> io::Result<Done> {
    let first = || places.first().ok_or(io::Error::from(Errno::INVAL));
    let second = || places.get(1).ok_or(io::Error::from(Errno::INVAL));
    match deed {
        Deed::Open { flags, mode } => {
            // The kernel looks for a place for the descriptor before it touches the file.
            let touches = flags & (FLAG_CREATE | FLAG_TRUNCATE | FLAG_TEMPORARY) != 0;
            if touches && procfs::descriptors_are_used_up(thread) {
                return Err(Errno::MFILE.into());
            }
            return open(first()?, *flags, *mode, resolver);
        }
        Deed::Directory { mode } => {
            let at = named(first()?)?;
            rustix::fs::mkdirat(at.parent(), at.name(), mode_of(*mode))?;
        }
        Deed::Node { mode, device } => make_node(named(first()?)?, *mode, *device)?,
        Deed::Symlink { text } => {
            let at = named(first()?)?;
            rustix::fs::symlinkat(text.as_slice(), at.parent(), at.name())?;
        }
        Deed::Link => link(first()?, named(second()?)?)?,
        Deed::Rename { flags } => rename(named(first()?)?, named(second()?)?, *flags)?,
        Deed::Remove { directory } => remove(named(first()?)?, *directory)?,
        Deed::Truncate { length } => truncate(first()?, *length, thread)?,
        Deed::Mode { mode } => change_mode(first()?, *mode)?,
        // The first process gives addresses, and nothing is left to do for the others.
        Deed::Bind { .. } | Deed::Nothing => return Err(Errno::INVAL.into()),
    }
    Ok(Done::Finished)
}

/// Whether open(2) with these flags gives a descriptor that an execution closes.
pub(super) const fn closes_on_exec(flags: u32) -> bool {
    flags & FLAG_CLOSE_ON_EXEC != 0
}

/// Whether a deed makes something whose mode the caller's mask cuts.
pub(super) const fn uses_mask(deed: &Deed) -> bool {
    match deed {
        Deed::Open { flags, .. } => *flags & (FLAG_CREATE | FLAG_TEMPORARY) != 0,
        Deed::Directory { .. } | Deed::Node { .. } | Deed::Bind { .. } => true,
        Deed::Symlink { .. }
        | Deed::Link
        | Deed::Rename { .. }
        | Deed::Remove { .. }
        | Deed::Truncate { .. }
        | Deed::Mode { .. }
        | Deed::Nothing => false,
    }
}

/// An object without a name cannot be named: the kernel reports that links of processes exist.
fn named(place: &Place) -> io::Result<&Place> {
    if place.object().is_some() {
        return Err(Errno::EXIST.into());
    }
    Ok(place)
}

fn mode_of(mode: u32) -> Mode {
    Mode::from_raw_mode(RawMode::from(mode & MODE_BITS))
}

fn open(place: &Place, flags: u32, mode: u32, resolver: &Resolver) -> io::Result<Done> {
    let close_on_exec = closes_on_exec(flags);
    let opened = |file| {
        Ok(Done::Opened {
            file,
            close_on_exec,
        })
    };
    match place.kind() {
        Some(FileType::CharacterDevice) if is_own_terminal(place) => {
            return opened(own_terminal(flags, resolver)?);
        }
        Some(FileType::Fifo)
            if flags & FLAG_NO_WAIT == 0 && flags & ACCESS_MODE != READ_AND_WRITE =>
        {
            return match open_file(place, flags | FLAG_NO_WAIT, mode) {
                // A reader waits for a writer, which no descriptor shows.
                Ok(_) if flags & ACCESS_MODE == READ_ONLY => Ok(Done::Waits),
                Ok(file) => {
                    let_wait(&file)?;
                    opened(file)
                }
                Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                    Ok(Done::Waits)
                }
                Err(error) => Err(error),
            };
        }
        _ => {}
    }
    // Another session or an outside process may put a pipe there at this moment: do not block on
    // it.
    let at_once = flags | FLAG_NO_WAIT;
    let file = if place.path.starts_with("/proc") {
        as_anybody(|| open_file(place, at_once, mode))?
    } else {
        open_file(place, at_once, mode)?
    };
    if flags & FLAG_NO_WAIT == 0 {
        let_wait(&file)?;
    }
    opened(file)
}

/// Makes reads and writes block again.
fn let_wait(file: &OwnedFd) -> io::Result<()> {
    let kept = rustix::fs::fcntl_getfl(file)?.difference(OFlags::NONBLOCK);
    Ok(rustix::fs::fcntl_setfl(file, kept)?)
}

/// Does `work` without the right to look into processes that forbid it.
fn as_anybody<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    without_tracing(work).unwrap_or_else(|_| Err(Errno::ACCESS.into()))
}

/// Opens an existing file, or makes it. A terminal does not become our controlling terminal.
fn open_file(place: &Place, flags: u32, mode: u32) -> io::Result<OwnedFd> {
    let ours = OFlags::CLOEXEC | OFlags::NOCTTY;
    if let Some(object) = place.object() {
        // It exists, so nothing is made; for directories the kernel returns that error itself.
        let flags = OFlags::from_bits_retain(flags & !FLAG_NO_FOLLOW & OPEN_FLAGS) | ours;
        return Ok(rustix::fs::open(own_link(&object), flags, mode_of(mode))?);
    }
    let makes = flags & (FLAG_CREATE | FLAG_TEMPORARY) != 0;
    let mode = if makes { mode_of(mode) } else { Mode::empty() };
    let flags = OFlags::from_bits_retain(flags & OPEN_FLAGS) | ours;
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(place.parent(), place.name(), flags, mode, how);
    Ok(opened?)
}

/// Waits until the other end of a pipe is open, as open(2) does.
///
/// No thread blocks in such an open: only a signal or the other end would end it, and the caller
/// can forbid us that end (mode 0222). So this polls.
///
/// # Errors
/// With the kernel's answer, and [`RESTART`] when the caller has something else to do.
pub(super) async fn wait_for_other_end(
    place: &Place,
    flags: u32,
    caller: &Caller,
) -> io::Result<OwnedFd> {
    let pipe = place.open()?;
    let link = own_link(&pipe);
    let kept = flags & !(FLAG_CREATE | FLAG_NO_FOLLOW);
    let ours = OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let flags = OFlags::from_bits_retain(kept & OPEN_FLAGS) | ours;
    let reads = kept & ACCESS_MODE == READ_ONLY;
    let mut file = None;
    let (since, mut pause) = (std::time::Instant::now(), PIPE_LOOK_FIRST);
    loop {
        if file.is_none() {
            match rustix::fs::open(&link, flags, Mode::empty()) {
                Ok(opened) => file = Some(opened),
                Err(Errno::NXIO) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        // A reader counts as the other end for writers from its first open on.
        if let Some(end) = file.take_if(|end| !reads || has_writer(end)) {
            let_wait(&end)?;
            return Ok(end);
        }
        if !caller.is_waiting() || has_signal(caller.call.tid()) {
            return Err(io::Error::from_raw_os_error(RESTART));
        }
        caller.shared.lanes.pause(pause).await;
        // Hundreds may wait for long: polling takes a small part of the waiting time.
        pause = (since.elapsed() / 8).clamp(PIPE_LOOK_FIRST, PIPE_LOOK);
    }
}

/// Whether a pipe that we read has, or had, a writer; takes no data out of it.
fn has_writer(end: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(end, PollFlags::IN)];
    if !matches!(
        rustix::event::poll(&mut ready, Some(&Timespec::default())),
        Ok(0)
    ) {
        return true;
    }
    let Ok((_kept, into)) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC) else {
        return false;
    };
    // Without a writer an empty pipe is at its end; with one it may fill (tee(2), EAGAIN).
    let copied = rustix::pipe::tee(end, &into, 1, SpliceFlags::NONBLOCK);
    !matches!(copied, Ok(0))
}

/// `ERESTARTSYS` (linux/errno.h): the kernel turns it into EINTR, or repeats the call after the
/// signal handler, as the handler was set up (`SA_RESTART`).
const RESTART: i32 = 512;

/// How often a wait for the other end of a pipe polls, at first and at last.
const PIPE_LOOK_FIRST: std::time::Duration = std::time::Duration::from_micros(200);
const PIPE_LOOK: std::time::Duration = std::time::Duration::from_millis(100);

/// Whether a signal with a handler is pending for a thread: the kernel would interrupt its call. A
/// signal for the whole process is this thread's only if no other thread can take it.
fn has_signal(tid: u32) -> bool {
    let waits = || -> io::Result<bool> {
        let text = procfs::status(tid)?;
        let status = Status::new(&text);
        let shared = match status.threads()? {
            1 => status.signals(b"ShdPnd:")?,
            _ => 0,
        };
        let pending = status.signals(b"SigPnd:")? | shared;
        let caught = !status.signals(b"SigBlk:")? & status.signals(b"SigCgt:")?;
        Ok(pending & caught != 0)
    };
    waits().unwrap_or(true)
}

fn is_own_terminal(place: &Place) -> bool {
    place
        .stat
        .is_some_and(|stat| stat.stands_for == TERMINAL_DEVICE)
}

/// Opens the caller's controlling terminal: `/dev/tty` depends on the process that opens it.
fn own_terminal(flags: u32, resolver: &Resolver) -> io::Result<OwnedFd> {
    let device = procfs::terminal(resolver.tid())?;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    if !TERMINAL_MAJORS.contains(&major) {
        return Err(Errno::NXIO.into());
    }
    let number = (major - TERMINAL_MAJORS.start) * 0x10_0000 + minor;
    let path = Path::new("dev/pts").join(number.to_string());
    let kept = flags & !(FLAG_CREATE | FLAG_NO_FOLLOW);
    let flags = OFlags::from_bits_retain(kept & OPEN_FLAGS) | OFlags::CLOEXEC | OFlags::NOCTTY;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let opened = rustix::fs::openat2(resolver.root(), path, flags, Mode::empty(), how);
    Ok(opened?)
}

/// A file of a process for which the kernel checks and remembers the opener. The supervisor has
/// more rights than the caller, so the session's first process opens it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GuardedFile {
    pub(super) name: &'static str,
    /// The process, by its id in the session.
    pub(super) process: String,
    /// Whether it is the process's memory: the map files only contain its ids.
    pub(super) memory: bool,
    /// How it is to be opened.
    pub(super) flags: u32,
}

/// Returns which guarded file an open is about, if it is about one.
pub(super) fn guarded_file(deed: &Deed, place: &Place) -> Option<GuardedFile> {
    const GUARDED: [(&str, bool); 6] = [
        ("mem", true),
        ("clear_refs", true),
        ("uid_map", false),
        ("gid_map", false),
        ("projid_map", false),
        ("setgroups", false),
    ];
    let Deed::Open { flags, .. } = deed else {
        return None;
    };
    let below = place.path.strip_prefix("/proc").ok()?;
    let last = below.file_name()?;
    let (name, memory) = GUARDED.into_iter().find(|(name, _)| last == *name)?;
    Some(GuardedFile {
        name,
        process: below.iter().next()?.to_str()?.to_owned(),
        memory,
        flags: flags & OPEN_FLAGS & !(FLAG_CREATE | FLAG_TEMPORARY),
    })
}

fn make_node(at: &Place, mode: u32, device: u64) -> io::Result<()> {
    let kind = match FileType::from_raw_mode(RawMode::from(mode)) {
        // No kind at all is a regular file (mknod(2)).
        FileType::Unknown if mode & 0o170_000 == 0 => FileType::RegularFile,
        kind => kind,
    };
    rustix::fs::mknodat(at.parent(), at.name(), kind, mode_of(mode), device)?;
    Ok(())
}

fn link(from: &Place, to: &Place) -> io::Result<()> {
    match from.object() {
        None => {
            let (old, new) = (from.parent(), to.parent());
            rustix::fs::linkat(old, from.name(), new, to.name(), AtFlags::empty())?;
        }
        Some(object) => {
            let link = own_link(&object);
            let follow = AtFlags::SYMLINK_FOLLOW;
            rustix::fs::linkat(rustix::fs::CWD, link, to.parent(), to.name(), follow)?;
        }
    }
    Ok(())
}

fn rename(from: &Place, to: &Place, flags: u32) -> io::Result<()> {
    free(from)?;
    free(to)?;
    let flags = RenameFlags::from_bits_retain(flags);
    rustix::fs::renameat_with(from.parent(), from.name(), to.parent(), to.name(), flags)?;
    Ok(())
}

/// Refuses a place that has a mount of the session on it, after the kernel's own earlier checks.
fn free(at: &Place) -> io::Result<()> {
    if !at.is_mount_point() {
        return Ok(());
    }
    let access = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(at.parent(), ".", access, AtFlags::EACCESS)?;
    Err(Errno::BUSY.into())
}

/// The answer to an open whose path does not resolve: the kernel checks the flags before the path.
pub(super) fn flags_error(deed: &Deed, resolver: &Resolver) -> Option<io::Error> {
    let Deed::Open { flags, .. } = deed else {
        return None;
    };
    let flags = OFlags::from_bits_retain(*flags & OPEN_FLAGS) | OFlags::CLOEXEC;
    let how = ResolveFlags::NO_SYMLINKS;
    let probe = rustix::fs::openat2(resolver.root(), "", flags, Mode::empty(), how);
    (probe.err() == Some(Errno::INVAL)).then(|| Errno::INVAL.into())
}

fn remove(at: &Place, directory: bool) -> io::Result<()> {
    free(at)?;
    let flags = if directory {
        AtFlags::REMOVEDIR
    } else {
        AtFlags::empty()
    };
    rustix::fs::unlinkat(at.parent(), at.name(), flags)?;
    Ok(())
}

fn truncate(place: &Place, length: u64, thread: Pid) -> io::Result<()> {
    if place.is_no_directory_with_slashes() {
        return Err(Errno::NOTDIR.into());
    }
    match place.kind() {
        None => return Err(place.missing()),
        Some(FileType::RegularFile) => {}
        Some(FileType::Directory) => return Err(Errno::ISDIR.into()),
        Some(_) => return Err(Errno::INVAL.into()),
    }
    let file = open_file(place, 1 | FLAG_NO_WAIT, 0)?;
    if length > procfs::file_size_limit(thread) {
        return Err(Errno::FBIG.into());
    }
    rustix::fs::ftruncate(&file, length)?;
    Ok(())
}

fn change_mode(place: &Place, mode: u32) -> io::Result<()> {
    if place.kind() == Some(FileType::Symlink) {
        return Err(Errno::OPNOTSUPP.into());
    }
    let file = place.open_whole()?;
    rustix::fs::chmod(own_link(&file.as_fd()), mode_of(mode))?;
    Ok(())
}
