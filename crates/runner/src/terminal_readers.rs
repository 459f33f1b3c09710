//! Whether a program of the session could read from its terminal now.
//!
//! A session whose standard streams go elsewhere has a terminal all the same, as its programs have
//! outside. But the person's keys may be for somebody beside the session: the pager behind a pipe,
//! the one who asks for a passphrase in front of it. They are the session's from when a program in
//! it opens the terminal to read from it, or changes how the terminal reads.

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

/// The device that means the terminal of whoever opens it.
const OWN_TERMINAL: &str = "/dev/tty";
/// Processes that are looked at; one that reads from a terminal is not behind thousands of others.
const PROCESSES_MAX: usize = 4096;
/// Bytes of events that are read at once: some dozen, and more follow.
const EVENTS_BYTES: usize = 1024;
/// Descriptors that a program starts with.
const STANDARD: [&str; 3] = ["0", "1", "2"];
/// Bits of an opening's flags (open(2)).
const ACCESS_MODE: u32 = 0o3;
const WRITE_ONLY: u32 = 0o1;
const PATH_ONLY: u32 = 0o10_000_000;

/// Watches who opens the terminal of a session.
#[derive(Debug)]
pub struct TerminalReaders {
    /// The session's first process, by its number here.
    first: u32,
    master: OwnedFd,
    events: OwnedFd,
    /// What the session's side of its terminal is, and what means it to its programs.
    slave: u64,
    own: u64,
    /// Which standard streams of the command are the terminal.
    streams: Streams,
}

impl TerminalReaders {
    /// Watches the terminal behind `master`.
    pub(crate) fn watch(first: u32, master: BorrowedFd<'_>, streams: Streams) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(master, flags)?;
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // The supervisor opens it by its own name for who opens it to write as well.
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

    /// Returns what becomes readable when it is time for another look.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Forgets what has become readable.
    pub fn forget(&self) {
        let mut space = [MaybeUninit::uninit(); EVENTS_BYTES];
        let mut reader = inotify::Reader::new(&self.events, &mut space);
        while reader.next().is_ok() {}
    }

    /// Tells whether a program could read from the terminal now, or has changed how it reads.
    pub fn are_there(&self) -> bool {
        self.changed_modes()
            || descendants(self.first, PROCESSES_MAX)
                .into_iter()
                .any(|pid| self.reads(pid))
    }

    /// Tells whether a program reads key by key, or unseen.
    pub fn changed_modes(&self) -> bool {
        tcgetattr(&self.master).is_ok_and(|modes| {
            !modes
                .local_modes
                .contains(LocalModes::ICANON | LocalModes::ECHO)
        })
    }

    fn reads(&self, pid: u32) -> bool {
        // What becomes the command has more open until it does.
        if is_ourselves(pid) {
            return false;
        }
        let descriptors = PathBuf::from(format!("/proc/{pid}/fd"));
        // A process that is gone, or not for us to look at, reads nothing that we know.
        let Ok(entries) = fs::read_dir(&descriptors) else {
            return false;
        };
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            self.is_terminal(&entry.path(), &name) && can_read(pid, &name)
        })
    }

    /// Tells whether a descriptor is the terminal, and not because the command got it as one of its
    /// standard streams.
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

/// Tells whether a process runs this program.
fn is_ourselves(pid: u32) -> bool {
    let program = |process: &str| fs::metadata(format!("/proc/{process}/exe"));
    let same =
        |one: Metadata, other: Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
    match (program("self"), program(&pid.to_string())) {
        (Ok(ours), Ok(theirs)) => same(ours, theirs),
        // It is gone.
        (Ok(_) | Err(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

/// Tells whether a descriptor is open for reading.
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
