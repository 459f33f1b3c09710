//! Determines whether a program of the session could read from its terminal now.
//!
//! A session whose standard streams are redirected still has a terminal, as its programs have
//! outside. But the person's keys may be meant for a program outside the session: the pager after a
//! pipe, or a program in front of it that asks for a passphrase. The session gets them from the
//! moment when a program in it opens the terminal to read from it, or changes how the terminal
//! reads.

use std::{
    ffi::OsStr,
    fs::{self, Metadata},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    pty::{OpenptFlags, ioctl_tiocgptpeer},
    termios::{LocalModes, tcgetattr},
};
use stockade_plan::{Stream, Streams};

use stockade_supervise::descendants;

/// The device that means the terminal of the process that opens it.
const OWN_TERMINAL: &str = "/dev/tty";
/// Processes that are examined; one that reads from a terminal does not come after thousands of
/// others.
const PROCESSES_MAX: usize = 4096;
/// Bytes of events that are read at once: a few dozen events, and then more reads follow.
const EVENTS_BYTES: usize = 1024;
/// The descriptors with which a program starts.
const STANDARD: [&str; 3] = ["0", "1", "2"];
/// Bits of the flags of an open file (open(2)).
const ACCESS_MODE: u32 = 0o3;
const WRITE_ONLY: u32 = 0o1;
const PATH_ONLY: u32 = 0o10_000_000;

/// Watches which programs open the terminal of a session.
#[derive(Debug)]
pub struct TerminalReaders {
    /// The session's first process, by its number here.
    first: u32,
    master: OwnedFd,
    events: OwnedFd,
    /// The device of the session's side of its terminal, and the device by which programs refer to
    /// it.
    slave: u64,
    own: u64,
    /// The standard streams of the command that are the terminal.
    streams: Streams,
}

impl TerminalReaders {
    /// Watches the terminal behind `master`.
    pub(crate) fn watch(first: u32, master: BorrowedFd<'_>, streams: Streams) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(master, flags)?;
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // The supervisor opens it by its own name for programs that open it for writing too.
        let by_name = format!("/proc/self/fd/{}", slave.as_raw_fd());
        for path in [OWN_TERMINAL, &by_name] {
            inotify::add_watch(&events, path, WatchFlags::OPEN)?;
        }
        Ok(Self {
            first,
            master: master.try_clone_to_owned()?,
            events,
            slave: rustix::fs::fstat(&slave)?.st_rdev,
            own: fs::metadata(OWN_TERMINAL)?.rdev(),
            streams,
        })
    }

    /// Returns a descriptor that becomes readable when it is time to check again.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Discards the pending events.
    pub fn forget(&self) {
        let mut space = [MaybeUninit::uninit(); EVENTS_BYTES];
        let mut reader = inotify::Reader::new(&self.events, &mut space);
        while reader.next().is_ok() {}
    }

    /// Returns whether a program could read from the terminal now, or has changed how it reads.
    pub fn are_there(&self) -> bool {
        self.changed_modes()
            || descendants(self.first, PROCESSES_MAX)
                .into_iter()
                .any(|pid| self.reads(pid))
    }

    /// Returns whether a program reads single keys, or without echo.
    pub fn changed_modes(&self) -> bool {
        tcgetattr(&self.master).is_ok_and(|modes| {
            !modes
                .local_modes
                .contains(LocalModes::ICANON | LocalModes::ECHO)
        })
    }

    fn reads(&self, pid: u32) -> bool {
        // The process that becomes the command has more descriptors open until then.
        if is_ourselves(pid) {
            return false;
        }
        let descriptors = PathBuf::from(format!("/proc/{pid}/fd"));
        // A process that is gone, or that we may not examine, does not read as far as we know.
        let Ok(entries) = fs::read_dir(&descriptors) else {
            return false;
        };
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            self.is_terminal(&entry.path(), &name) && can_read(pid, &name)
        })
    }

    /// Returns whether a descriptor is the terminal, other than as one of the standard streams that
    /// the command was given.
    fn is_terminal(&self, path: &Path, name: &OsStr) -> bool {
        let Ok(metadata) = fs::metadata(path) else {
            return false;
        };
        let all = [self.streams.stdin, self.streams.stdout, self.streams.stderr];
        let is_given =
            STANDARD.iter().any(|standard| *standard == name) && all.contains(&Stream::Terminal);
        metadata.rdev() == self.own || (metadata.rdev() == self.slave && !is_given)
    }
}

/// Returns whether a process runs this program.
fn is_ourselves(pid: u32) -> bool {
    let program = |process: &str| fs::metadata(format!("/proc/{process}/exe"));
    let same =
        |one: Metadata, other: Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
    match (program("self"), program(&pid.to_string())) {
        (Ok(ours), Ok(theirs)) => same(ours, theirs),
        // The process is gone.
        (Ok(_) | Err(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

/// Returns whether a descriptor is open for reading.
fn can_read(pid: u32, name: &OsStr) -> bool {
    let path = Path::new("/proc")
        .join(pid.to_string())
        .join("fdinfo")
        .join(name);
    let text = fs::read_to_string(path).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & PATH_ONLY == 0 && flags & ACCESS_MODE != WRITE_ONLY)
}
