//! The caller's input, consumed only as the command reads it.
//!
//! A command that reads nothing leaves all input to the next program: `while read line; do stockade
//! run -- CMD; done < list` reads every line. So the relay peeks at the bytes, offers them in the
//! command's pipe, and takes them from the caller's input once the command has read them. Bytes
//! left in the pipe at the end were never read.
//!
//! A terminal or another device does not support peeking; its input is taken at once.

use std::{
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
    sync::Arc,
    time::{Duration, Instant},
};
use stockade_types::ignored;

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, OFlags, SeekFrom},
    io::Errno,
    net::RecvFlags,
    pipe::{PipeFlags, SpliceFlags},
    termios::LocalModes,
};

/// Most bytes that are offered at a time: the capacity of a pipe.
const OFFER_BYTES_MAX: usize = 64 << 10;
/// Size of the pipe for smaller input: one page, so that the input fills the pipe and the kernel
/// reports when it was read. For a pipe with room it reports nothing.
const SMALL_OFFER_BYTES: usize = 4 << 10;
/// First and longest pause between two checks of a pipe for which the kernel reports nothing, since
/// the command has changed its size.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LAST: Duration = Duration::from_millis(50);

/// How long a line of a terminal is left to a program of the session that reads from the terminal
/// itself: the time in which the relay notices that, with some margin.
const LINE_PAUSE: Duration = Duration::from_millis(100);

/// The source of the input.
#[derive(Debug)]
enum Source {
    /// A file with an offset, which it shares with other processes.
    File(File),
    /// A pipe; its content is duplicated into one of ours for peeking.
    Pipe {
        from: File,
        read: File,
        write: OwnedFd,
    },
    /// A stream socket.
    Socket(OwnedFd),
    /// Anything else.
    Device(File),
}

/// The connection from the caller's input to the command's.
#[derive(Debug)]
pub(super) struct Input {
    source: Source,
    to: OwnedFd,
    ear: Arc<OwnedFd>,
    /// Bytes of the source that lie in the command's pipe.
    offered: usize,
    /// Whether the source is a terminal that gives whole lines.
    gives_lines: bool,
    /// The time at which the last of them was taken.
    line_taken: Option<Instant>,
}

impl Input {
    /// Joins the caller's descriptor `from` with `to`, the write end of the command's pipe, which
    /// is ours alone; `ear` becomes readable when the session is over.
    pub(super) fn new(from: OwnedFd, to: OwnedFd, ear: Arc<OwnedFd>) -> Self {
        Self {
            gives_lines: is_canonical(from.as_fd()),
            source: Source::of(from),
            to,
            ear,
            offered: 0,
            line_taken: None,
        }
    }

    /// Feeds the command until the input ends, the command closes its input, or the bell rings.
    /// Blocking.
    ///
    /// # Errors
    /// When either side cannot be used.
    pub(super) fn feed(mut self) -> io::Result<()> {
        // The command's end has its own flags, so its reads block as usual.
        rustix::fs::fcntl_setfl(&self.to, OFlags::NONBLOCK)?;
        let mut buffer = vec![0; OFFER_BYTES_MAX];
        let mut pause = LOOK_FIRST;
        loop {
            let taken = self.settle()?;
            if self.offered == 0 {
                pause = LOOK_FIRST;
                if !self.offer(&mut buffer)? {
                    break;
                }
                continue;
            }
            if taken > 0 {
                pause = LOOK_FIRST;
            }
            let full = (self.to.as_fd(), PollFlags::OUT);
            let goes_on = if !self.has_room()? {
                self.wait(&[full], None)?
            } else if self.add(&mut buffer)? {
                true
            } else {
                // It has room and no input comes: the kernel would report that without end.
                pause = (pause * 2).min(LOOK_LAST);
                self.wait(&[], Some(pause))?
            };
            if !goes_on {
                break;
            }
        }
        self.settle().map(drop)
    }

    /// Takes from the source the bytes that the command has read; returns their number.
    fn settle(&mut self) -> io::Result<usize> {
        if self.offered == 0 {
            return Ok(0);
        }
        let left = rustix::io::ioctl_fionread(&self.to)?;
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        // A command can write into its own input; then the count is too low, never too high.
        let taken = self.offered.saturating_sub(left);
        self.source.take(taken)?;
        self.offered -= taken;
        Ok(taken)
    }

    /// Waits for input and puts it into the empty pipe; `false` if no more will come.
    fn offer(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let both = [
            (self.source.descriptor(), PollFlags::IN),
            (self.to.as_fd(), PollFlags::empty()),
        ];
        if !self.wait(&both, None)? {
            return Ok(false);
        }
        if let Source::Device(from) = &self.source {
            let goes_on = |at: Instant| at.elapsed() < LINE_PAUSE * 2;
            if self.gives_lines
                && !self.line_taken.is_some_and(goes_on)
                && !self.wait(&[], Some(LINE_PAUSE))?
            {
                return Ok(false);
            }
            self.line_taken = Some(Instant::now());
            if self.gives_lines && !is_canonical(from.as_fd()) {
                // Another program has taken the terminal's keys, such as the pager behind us.
                return self.wait(&[], Some(LOOK_LAST));
            }
            return pass_on(from, &self.to, &self.ear, buffer);
        }
        let Some(count) = self.source.look(0, buffer)? else {
            return Ok(true);
        };
        let size = if count < OFFER_BYTES_MAX {
            SMALL_OFFER_BYTES
        } else {
            OFFER_BYTES_MAX
        };
        // If it cannot be set, the pipe is checked from time to time.
        ignored(
            rustix::pipe::fcntl_setpipe_size(&self.to, size),
            "the usual size works too",
        );
        let bytes = buffer.get(..count.min(size)).unwrap_or_default();
        Ok(self.write(bytes)? && count > 0)
    }

    /// Adds input to a pipe that was partly read; `false` if there is no more yet.
    fn add(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match self.source.look(self.offered, buffer)? {
            None | Some(0) => Ok(false),
            Some(count) => {
                let before = self.offered;
                let is_open = self.write(buffer.get(..count).unwrap_or_default())?;
                Ok(is_open && self.offered > before)
            }
        }
    }

    /// Writes as much as the pipe takes now; `false` if the command closed its input.
    fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        match rustix::io::write(&self.to, bytes) {
            Ok(count) => self.offered += count,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::PIPE) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    fn has_room(&self) -> io::Result<bool> {
        let mut room = [PollFd::new(&self.to, PollFlags::OUT)];
        poll(&mut room, Some(&rustix::time::Timespec::default()))?;
        Ok(room.iter().any(|fd| fd.revents().contains(PollFlags::OUT)))
    }

    fn wait(
        &self,
        fds: &[(BorrowedFd<'_>, PollFlags)],
        longest: Option<Duration>,
    ) -> io::Result<bool> {
        wait(fds, &self.ear, longest)
    }
}

impl Source {
    fn of(from: OwnedFd) -> Self {
        let kind = rustix::fs::fstat(&from).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            Ok(FileType::RegularFile) if rustix::fs::seek(&from, SeekFrom::Current(0)).is_ok() => {
                Self::File(from.into())
            }
            Ok(FileType::Fifo) => match rustix::pipe::pipe_with(PipeFlags::CLOEXEC) {
                Ok((read, write)) => Self::Pipe {
                    from: from.into(),
                    read: read.into(),
                    write,
                },
                Err(_) => Self::Device(from.into()),
            },
            Ok(FileType::Socket) => Self::Socket(from),
            _ => Self::Device(from.into()),
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::File(from) | Self::Pipe { from, .. } | Self::Device(from) => from.as_fd(),
            Self::Socket(from) => from.as_fd(),
        }
    }

    /// Peeks after the first `skip` bytes and leaves them there; zero at the end, `None` if another
    /// reader was faster.
    fn look(&mut self, skip: usize, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let found = match self {
            Self::File(from) => {
                let offset = rustix::fs::seek(&*from, SeekFrom::Current(0))?;
                from.read_at(
                    buffer,
                    offset.saturating_add(u64::try_from(skip).unwrap_or(u64::MAX)),
                )
            }
            Self::Pipe { from, read, write } => {
                match rustix::pipe::tee(&*from, &*write, buffer.len(), SpliceFlags::NONBLOCK) {
                    Ok(0) => Ok(0),
                    Ok(count) => {
                        let bytes = buffer.get_mut(..count).unwrap_or_default();
                        read.read_exact(bytes).map(|()| after(buffer, skip, count))
                    }
                    Err(errno) => Err(errno.into()),
                }
            }
            Self::Socket(from) => {
                let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
                match rustix::net::recv(&*from, &mut *buffer, flags) {
                    Ok((count, _)) => Ok(after(buffer, skip, count)),
                    Err(errno) => Err(errno.into()),
                }
            }
            Self::Device(from) => from.read(buffer),
        };
        match found {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes `count` bytes that were peeked at.
    fn take(&mut self, count: usize) -> io::Result<()> {
        match self {
            Self::File(from) => {
                let count = i64::try_from(count).map_err(io::Error::other)?;
                rustix::fs::seek(&*from, SeekFrom::Current(count))?;
            }
            Self::Pipe { from, .. } => {
                let mut reader: &File = from;
                discard(from.as_fd(), count, |buffer| reader.read(buffer))?;
            }
            Self::Socket(from) => discard(from.as_fd(), count, |buffer| {
                let received = rustix::net::recv(&*from, buffer, RecvFlags::DONTWAIT);
                received.map(|(count, _)| count).map_err(Into::into)
            })?,
            Self::Device(_) => {}
        }
        Ok(())
    }
}

/// Moves the bytes after the first `skip` of `count` to the front; returns their number.
fn after(buffer: &mut [u8], skip: usize, count: usize) -> usize {
    let count = count.min(buffer.len());
    let skip = skip.min(count);
    buffer.copy_within(skip..count, 0);
    count - skip
}

/// Whether it is a terminal whose lines the kernel edits.
fn is_canonical(fd: BorrowedFd<'_>) -> bool {
    rustix::termios::tcgetattr(fd).is_ok_and(|modes| modes.local_modes.contains(LocalModes::ICANON))
}

/// Discards `count` bytes, without waiting for bytes that another reader has taken meanwhile.
fn discard(
    from: BorrowedFd<'_>,
    mut count: usize,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut buffer = vec![0; count.min(OFFER_BYTES_MAX)];
    while count > 0 {
        let mut ready = [PollFd::from_borrowed_fd(from, PollFlags::IN)];
        if poll(&mut ready, Some(&rustix::time::Timespec::default()))? == 0 {
            return Ok(());
        }
        let most = count.min(buffer.len());
        match read(buffer.get_mut(..most).unwrap_or_default())? {
            0 => return Ok(()),
            taken => count -= taken,
        }
    }
    Ok(())
}

/// Reads once and writes all of it; `false` at the end, and if the command closed its input.
fn pass_on(mut from: &File, to: &OwnedFd, ear: &OwnedFd, buffer: &mut [u8]) -> io::Result<bool> {
    let count = match from.read(buffer) {
        Ok(0) => return Ok(false),
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
        Err(error) => return Err(error),
    };
    let mut rest = buffer.get(..count).unwrap_or_default();
    while !rest.is_empty() {
        if !wait(&[(to.as_fd(), PollFlags::OUT)], ear, None)? {
            return Ok(false);
        }
        match rustix::io::write(to, rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Waits for one of `fds`, or for `longest`; `false` if the bell rings or the other side is gone.
fn wait(
    fds: &[(BorrowedFd<'_>, PollFlags)],
    ear: &OwnedFd,
    longest: Option<Duration>,
) -> io::Result<bool> {
    let mut ready: Vec<PollFd<'_>> = fds
        .iter()
        .map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
        .collect();
    ready.push(PollFd::from_borrowed_fd(ear.as_fd(), PollFlags::IN));
    let longest = longest
        .map(rustix::time::Timespec::try_from)
        .transpose()
        .map_err(io::Error::other)?;
    loop {
        match poll(&mut ready, longest.as_ref()) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let rings = ready.last().is_some_and(|fd| !fd.revents().is_empty());
    let is_gone = ready.iter().any(|fd| fd.revents().contains(PollFlags::ERR));
    Ok(!rings && !is_gone)
}
