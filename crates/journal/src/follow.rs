//! Following a journal while its session runs: one journal, any number of followers.
//!
//! A follower only reads, so followers do not affect each other or delay the writer. Each has its
//! [`Position`], from which another process can continue.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    fs::inotify,
};
use serde::{Deserialize, Serialize};
use stockade_event::{Envelope, Event};

use crate::{
    layout::{LOCK_FILE, is_live},
    read::{ReadError, Reader, read_from},
};

/// How often a follower checks if the kernel cannot notify it of changes: soon enough for a person.
const POLL: Duration = Duration::from_millis(200);
/// How often it checks if the kernel can: for the end of the supervisor, which another holder of
/// the lock's descriptor could hide.
const LOOK: Duration = Duration::from_secs(1);

/// A place in a journal: how many of its bytes were read, at the end of a line. A reader that
/// stores it gets every later event once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(u64);

impl Position {
    /// The beginning of a journal.
    pub const START: Self = Self(0);

    /// The place after so many bytes.
    pub(crate) const fn after(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes before it.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Position {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The result of a step.
#[derive(Debug)]
pub enum Followed {
    /// The next event.
    Event(Box<Envelope>),
    /// A line that cannot be read; the lines after it can.
    Unreadable(ReadError),
    /// Nothing was new within the given time.
    Nothing,
    /// The session has ended, and all of its events were returned.
    Ended,
    /// The supervisor is gone without having written the end of the session, and everything that it
    /// wrote was returned.
    Abandoned,
}

/// Why a journal cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It cannot be read.
    #[error("cannot read the events")]
    Read(#[source] ReadError),
    /// It cannot be determined whether the supervisor is running.
    #[error("cannot ask whether the session runs, by its lock `{path}`")]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The place from which to continue is not one of this journal's.
    #[error(
        "no line ends at byte {wanted} of the journal, from where to go on; the next one ends at byte {found}, and byte 0 is its beginning"
    )]
    Position {
        /// The place.
        wanted: u64,
        /// Where a line ends, at or after it, or the end of the journal.
        found: u64,
    },
}

/// Follows the journal of one session.
pub struct Follower {
    reader: Reader,
    dir: PathBuf,
    watch: Watch,
    /// Whether the end of the session was returned.
    ended: bool,
    /// Whether the supervisor was gone before the file was last read to its end.
    gone: bool,
    /// The line without an end that the file ended with.
    torn: Option<ReadError>,
}

/// Starts to follow the journal in the session directory `dir`, after `position`. Waits up to
/// `patience` for a journal, because that of a starting session may not exist yet. Blocks; the part
/// before `position` is read too, because later events refer to it.
///
/// # Errors
/// When there is no journal after that time, it cannot be read, or no line ends at `position`.
pub fn follow(dir: &Path, position: Position, patience: Duration) -> Result<Follower, FollowError> {
    // Watch before reading, so that no change is missed in between.
    let watch = Watch::new(dir);
    let until = Instant::now() + patience;
    let reader = loop {
        match read_from(dir, position.0) {
            Err(ReadError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && Instant::now() < until =>
            {
                watch.wait(until.saturating_duration_since(Instant::now()));
            }
            result => break result.map_err(FollowError::Read)?,
        }
    };
    if reader.offset() != position.0 {
        return Err(FollowError::Position {
            wanted: position.0,
            found: reader.offset(),
        });
    }
    Ok(Follower {
        ended: reader.has_ended(),
        reader,
        dir: dir.to_owned(),
        watch,
        gone: false,
        torn: None,
    })
}

impl Follower {
    /// Returns the next event, or its substitute, after waiting for it up to `wait`; blocks that
    /// long. After [`Followed::Ended`] and [`Followed::Abandoned`] it only repeats them.
    ///
    /// # Errors
    /// When the journal or the lock of the session cannot be read.
    pub fn next(&mut self, wait: Duration) -> Result<Followed, FollowError> {
        let until = Instant::now() + wait;
        loop {
            if let Some(found) = self.look()? {
                return Ok(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Followed::Nothing);
            }
            self.watch.wait(left);
        }
    }

    /// Returns the place after everything that was returned; see [`follow`].
    pub const fn position(&self) -> Position {
        Position::after(self.reader.offset())
    }

    /// Returns whether the supervisor of the session was still running at the last check.
    pub const fn is_live(&self) -> bool {
        !self.ended && !self.gone
    }

    /// Takes the line without an end, if the file still ends with it.
    fn unfinished(&mut self) -> Option<ReadError> {
        let end = self.reader.offset();
        let torn = self.torn.take();
        torn.filter(|torn| matches!(torn, ReadError::Torn { offset, .. } if *offset == end))
    }

    /// Returns what is available, without waiting.
    fn look(&mut self) -> Result<Option<Followed>, FollowError> {
        loop {
            match self.reader.next() {
                Some(Ok(envelope)) => {
                    self.ended |= matches!(envelope.event, Event::SessionEnded { .. });
                    return Ok(Some(Followed::Event(Box::new(envelope))));
                }
                // It may be being written now; the code below finds out.
                Some(Err(error @ ReadError::Torn { .. })) => self.torn = Some(error),
                Some(Err(error @ ReadError::Line { .. })) => {
                    return Ok(Some(Followed::Unreadable(error)));
                }
                Some(Err(error @ ReadError::Io { .. })) => return Err(FollowError::Read(error)),
                None if self.gone => {
                    let torn = self.unfinished().map(Followed::Unreadable);
                    let end = if self.ended {
                        Followed::Ended
                    } else {
                        Followed::Abandoned
                    };
                    return Ok(Some(torn.unwrap_or(end)));
                }
                None if self.ended && self.torn.is_none() => return Ok(Some(Followed::Ended)),
                None => {
                    let live = is_live(&self.dir).map_err(|source| FollowError::Lock {
                        path: self.dir.join(LOCK_FILE),
                        source,
                    })?;
                    if live {
                        return Ok(None);
                    }
                    // Everything that it wrote is in the file by now, so one more check finds it.
                    self.gone = true;
                }
            }
        }
    }
}

/// How a follower learns of changes in a session directory.
enum Watch {
    /// The kernel reports them (`inotify(7)`).
    Kernel(OwnedFd),
    /// It checks repeatedly, if the kernel has no watch left for this user.
    Again,
}

impl Watch {
    fn new(dir: &Path) -> Self {
        Self::of(dir).map_or(Self::Again, Self::Kernel)
    }

    fn of(dir: &Path) -> rustix::io::Result<OwnedFd> {
        use inotify::WatchFlags;
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let descriptor = inotify::init(flags)?;
        // The supervisor opened its lock for writing, and processes that query it open it
        // read-only: so the supervisor's end is noticed, and followers do not wake each other.
        let changes = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW;
        inotify::add_watch(&descriptor, dir, changes)?;
        Ok(descriptor)
    }

    /// Blocks until something changed or `most` has passed, but at most for the interval between
    /// two checks.
    fn wait(&self, most: Duration) {
        match self {
            Self::Again => thread::sleep(most.min(POLL)),
            Self::Kernel(descriptor) => {
                let most = Timespec::try_from(most.min(LOOK)).ok();
                let mut ready = [PollFd::new(descriptor, PollFlags::IN)];
                // An interrupted wait is a short one.
                if poll(&mut ready, most.as_ref()).is_ok_and(|ready| ready > 0) {
                    let mut changes = [0; 4096];
                    // The kind of change does not matter, so the rest can be read at the next wait.
                    while rustix::io::read(descriptor, &mut changes).is_ok_and(|bytes| bytes > 0) {}
                }
            }
        }
    }
}
