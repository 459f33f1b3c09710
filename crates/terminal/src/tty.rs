//! The person's terminal as a device: raw mode that is always undone, size, non-blocking output.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    termios::{self, OptionalActions, QueueSelector, Termios, Winsize},
    time::Timespec,
};
use stockade_types::ignored;

use super::screen::Size;

/// The controlling terminal of the process that opens it (tty(4)).
pub const CONTROLLING: &str = "/dev/tty";
/// How long a stopped or slow terminal may delay our exit.
const RESET_PATIENCE: Duration = Duration::from_millis(300);
/// Pause between two attempts to write to a full terminal.
const RETRY: Duration = Duration::from_millis(5);

/// The terminal in raw mode. [`Self::restore`], drop and a panic undo it.
#[derive(Debug)]
pub struct Tty {
    input: OwnedFd,
    output: OwnedFd,
    /// Whether `output` is our own opening, which may be non-blocking without harm to others.
    is_own: bool,
    /// `input` as our own opening, for reads that never block; `None` if it cannot be opened.
    own_input: Option<OwnedFd>,
    original: Termios,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_raw: bool,
    /// The reset of the agent's modes on the terminal.
    reset: Vec<u8>,
}

impl Tty {
    /// Takes the terminal of standard input and output; it is not raw yet.
    ///
    /// # Errors
    /// When either is not a terminal.
    pub fn open() -> io::Result<Self> {
        Self::of(io::stdin().as_fd(), io::stdout().as_fd())
    }

    /// Takes the controlling terminal of this process; it is not raw yet.
    ///
    /// # Errors
    /// When there is none.
    pub fn controlling() -> io::Result<Self> {
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .open(CONTROLLING)?;
        Self::of(terminal.as_fd(), terminal.as_fd())
    }

    /// Takes the terminal behind these descriptors.
    ///
    /// # Errors
    /// When one of them is not a terminal.
    pub fn of(input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> io::Result<Self> {
        let original = termios::tcgetattr(input)?;
        termios::tcgetattr(output)?;
        let own_input = reopen(input).ok().map(OwnedFd::from);
        let input = input.try_clone_to_owned()?;
        let own = reopen(output);
        let is_own = own.is_ok();
        let output = own.map_or_else(|_| output.try_clone_to_owned(), |file| Ok(file.into()))?;
        Ok(Self {
            input,
            output,
            is_own,
            own_input,
            original,
            state: Mutex::default(),
        })
    }

    /// Makes the terminal raw, and ensures that a panic undoes that before the process ends.
    ///
    /// # Errors
    /// When the kernel refuses it; the terminal is then unchanged.
    pub fn make_raw(self: &Arc<Self>) -> io::Result<()> {
        self.enter()?;
        let tty = Arc::downgrade(self);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if let Some(tty) = tty.upgrade() {
                tty.restore();
            }
            before(panic);
        }));
        Ok(())
    }

    /// Makes the terminal raw again after a [`Self::restore`].
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn enter(&self) -> io::Result<()> {
        let mut raw = self.original.clone();
        raw.make_raw();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        termios::tcsetattr(&self.input, OptionalActions::Now, &raw)?;
        state.is_raw = true;
        Ok(())
    }

    /// Notes the reset of the agent's modes, for a session that ends now.
    pub fn note_reset(&self, bytes: Vec<u8>) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .reset = bytes;
    }

    /// Restores the terminal's earlier state, now and from any thread; the second call does
    /// nothing.
    pub fn restore(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_within(&std::mem::take(&mut state.reset), RESET_PATIENCE);
        if !std::mem::take(&mut state.is_raw) {
            return;
        }
        // The terminal's answers to the agent's last queries are not for the shell.
        let flushed = termios::tcflush(&self.input, QueueSelector::IFlush);
        ignored(flushed, "only a terminal that is gone refuses it");
        let restored = termios::tcsetattr(&self.input, OptionalActions::Now, &self.original);
        ignored(restored, "only a terminal that is gone refuses it");
    }

    /// Returns the current size of the terminal.
    pub fn size(&self) -> Size {
        size_of(self.output.as_fd())
    }

    /// Returns the descriptor to wait on before [`Self::read`].
    pub fn input(&self) -> BorrowedFd<'_> {
        self.own_input.as_ref().unwrap_or(&self.input).as_fd()
    }

    /// Reads typed input, without waiting for it: `None` if there is none (also if another reader
    /// of this terminal was faster), zero if the terminal is gone.
    ///
    /// # Errors
    /// When the terminal cannot be read.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if self.own_input.is_none() {
            // The non-blocking flag would affect every process that shares this opening.
            let mut ready = [PollFd::new(&self.input, PollFlags::IN)];
            if !matches!(poll(&mut ready, Some(&Timespec::default())), Ok(1..)) {
                return Ok(None);
            }
        }
        match rustix::io::read(self.input(), buffer) {
            Ok(count) => Ok(Some(count)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the descriptor that output goes to.
    pub fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Writes as much as the terminal takes now; on a shared descriptor a write may block, so it is
    /// kept small there.
    ///
    /// # Errors
    /// The answer of write(2).
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        /// Fits the smallest kernel buffer of a terminal that reports room.
        const SHARED_WRITE_BYTES: usize = 256;
        let most = if self.is_own {
            bytes.len()
        } else {
            bytes.len().min(SHARED_WRITE_BYTES)
        };
        match rustix::io::write(&self.output, bytes.get(..most).unwrap_or(bytes)) {
            Ok(count) => Ok(count),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

impl Tty {
    /// Writes as much as the terminal takes within a time; the rest is lost, and a terminal that is
    /// gone takes nothing.
    pub fn write_within(&self, bytes: &[u8], patience: Duration) {
        let begun = Instant::now();
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.write(rest) {
                Ok(0) if begun.elapsed() < patience => std::thread::sleep(RETRY),
                Ok(count @ 1..) => rest = rest.get(count..).unwrap_or_default(),
                Ok(_) | Err(_) => return,
            }
        }
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Returns the size that the terminal reports, or the default one if it reports none.
pub fn size_of(terminal: BorrowedFd<'_>) -> Size {
    match termios::tcgetwinsize(terminal) {
        Ok(Winsize {
            ws_row: rows @ 1..,
            ws_col: columns @ 1..,
            ..
        }) => Size { rows, columns },
        _ => Size::DEFAULT,
    }
}

/// Sets the size of a pty; the kernel signals its foreground processes.
///
/// # Errors
/// When it is not a pty.
pub fn set_size(master: BorrowedFd<'_>, size: Size) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(termios::tcsetwinsize(master, size)?)
}

/// Opens the terminal once more, so that non-blocking mode is ours alone: the flag belongs to the
/// opening, and the shell shares the inherited one (fcntl(2)).
fn reopen(output: BorrowedFd<'_>) -> io::Result<File> {
    let name = termios::ttyname(output, Vec::new())?;
    let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)?;
    let (ours, theirs) = (rustix::fs::fstat(&file)?, rustix::fs::fstat(output)?);
    if (ours.st_dev, ours.st_ino, ours.st_rdev) == (theirs.st_dev, theirs.st_ino, theirs.st_rdev) {
        return Ok(file);
    }
    Err(io::ErrorKind::NotFound.into())
}
