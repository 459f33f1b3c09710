//! What of the caller's terminal and standard streams a session gets.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _},
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{process::getpgrp, termios::tcgetpgrp};
use stockade_plan::{Stream, Streams};

use stockade_terminal::tty::{CONTROLLING, size_of};

/// How much of the caller's terminal a session gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Standard input and output are one, and its keys are the session's.
    Whole,
    /// It is there beside standard streams that go elsewhere, as `/dev/tty` and as those of the
    /// outputs that are it.
    Beside,
    /// There is none, or it is not ours to use: a job in the background would be stopped by the
    /// kernel where it sets the terminal or reads from it (tcsetattr(3)).
    Nothing,
}

impl Hold {
    /// Finds out what the caller has.
    pub(crate) fn of_caller() -> Self {
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            return if is_in_background() {
                Self::Nothing
            } else {
                Self::Whole
            };
        }
        match controlling() {
            Some(terminal) if is_ours(terminal.as_fd()) => Self::Beside,
            Some(_) | None => Self::Nothing,
        }
    }

    /// Returns rows and columns for the session's terminal, where it gets one; 24 by 80 where the
    /// caller's does not know.
    pub(crate) fn size(self) -> Option<(u16, u16)> {
        let size = match self {
            Self::Whole => size_of(io::stdout().as_fd()),
            Self::Beside => size_of(controlling()?.as_fd()),
            Self::Nothing => return None,
        };
        Some((size.rows, size.columns))
    }

    /// Returns what the command's standard streams are to be, after what ours are.
    pub(crate) fn streams(self) -> Streams {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let is_one = is_same_file(stdout.as_fd(), stderr.as_fd());
        let output = |fd: BorrowedFd<'_>| match self {
            Self::Beside if is_ours(fd) => Stream::Terminal,
            Self::Whole | Self::Beside | Self::Nothing => Stream::Pipe,
        };
        match self {
            Self::Whole if is_one => Streams::TERMINAL,
            Self::Whole => Streams {
                stderr: Stream::Pipe,
                ..Streams::TERMINAL
            },
            Self::Beside | Self::Nothing => {
                let stdout = output(stdout.as_fd());
                let stderr = match stdout {
                    Stream::Pipe if is_one => Stream::Output,
                    Stream::Pipe | Stream::Output | Stream::Terminal => output(stderr.as_fd()),
                };
                Streams {
                    stdin: Stream::Pipe,
                    stdout,
                    stderr,
                }
            }
        }
    }
}

/// Opens the terminal that controls us, if there is one.
fn controlling() -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).open(CONTROLLING).ok()
}

/// Whether a descriptor is the terminal that controls us, and our job is the one in front.
fn is_ours(fd: BorrowedFd<'_>) -> bool {
    tcgetpgrp(fd).is_ok_and(|group| group == getpgrp())
}

/// Whether standard input is a terminal whose foreground job is another one.
pub(super) fn is_in_background() -> bool {
    // It fails where that is no terminal of ours.
    tcgetpgrp(io::stdin()).is_ok_and(|group| group != getpgrp())
}

/// Whether what is written to both ends up in one place, in the order in which it is written.
fn is_same_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let place = |fd| {
        let stat = rustix::fs::fstat(fd).ok()?;
        Some((stat.st_dev, stat.st_ino, stat.st_rdev))
    };
    place(one).is_some_and(|place_of_one| Some(place_of_one) == place(other))
}
