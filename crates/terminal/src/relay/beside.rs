//! A terminal that a session has beside its standard streams: the session gets the person's keys
//! only while one of its programs reads from the terminal.

use std::{
    fmt,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use rustix::{process::getpgrp, termios::tcgetpgrp};

use super::{Loop, Stream};
use crate::filter::Direction;

/// Time from the opening of a terminal to the search for its opener: the descriptor exists only
/// afterwards.
const OPENING: Duration = Duration::from_millis(10);
/// Time between two checks whether a program still reads.
const LOOK: Duration = Duration::from_secs(1);

/// The readers of such a terminal; the watcher of the session's processes reports them.
pub trait Readers: fmt::Debug + Send {
    /// Returns a descriptor that becomes readable when another check is due.
    fn events(&self) -> BorrowedFd<'_>;
    /// Clears that descriptor.
    fn forget(&self);
    /// Whether a program could read from the terminal now, or has changed its read mode.
    fn are_there(&self) -> bool;
    /// Whether a program reads key by key, or unseen.
    fn changed_modes(&self) -> bool;
}

/// The relay's state for such a terminal.
#[derive(Debug)]
pub(super) struct Beside {
    readers: Box<dyn Readers>,
    /// Whether the session has the keys now.
    has_keys: bool,
    /// Whether its programs have changed any setting of the terminal.
    has_set: bool,
    look_at: Option<Instant>,
    look_at_modes_at: Option<Instant>,
}

impl Beside {
    pub(super) fn new(readers: Box<dyn Readers>) -> Self {
        Self {
            readers,
            has_keys: false,
            has_set: false,
            // The command may have opened it already.
            look_at: Some(Instant::now()),
            look_at_modes_at: None,
        }
    }

    pub(super) fn readers(&self) -> &dyn Readers {
        self.readers.as_ref()
    }

    pub(super) const fn has_set(&self) -> bool {
        self.has_set
    }

    /// Returns the time until the next check, if one is due.
    pub(super) fn until_look(&self, now: Instant) -> Option<Duration> {
        let looks = self.look_at.into_iter().chain(self.look_at_modes_at);
        looks.min().map(|at| at.saturating_duration_since(now))
    }

    /// Notes that a process, here or elsewhere on the machine, has opened a terminal.
    pub(super) fn opened(&mut self) {
        self.readers.forget();
        self.look_at.get_or_insert(Instant::now() + OPENING);
    }

    /// Notes output for the terminal. Until the session has the keys, this makes the line ends.
    pub(super) fn note_output(&mut self, bytes: &mut Vec<u8>) {
        self.has_set |= bytes.iter().any(|byte| matches!(byte, 0x0e | 0x1b));
        if !self.has_keys {
            let ends = bytes.windows(2).map(|pair| pair == b"\r\n");
            let ends: Vec<bool> = ends.chain([false]).collect();
            let mut ends = ends.into_iter();
            bytes.retain(|_| !ends.next().unwrap_or_default());
        }
        // A program that reads key by key shows something first.
        if !self.has_keys {
            self.look_at_modes_at
                .get_or_insert(Instant::now() + OPENING);
        }
    }
}

impl Loop {
    /// Takes the keys for a program that reads, and returns them when there is none any more.
    pub(super) fn look_at_readers(&mut self) {
        let now = Instant::now();
        let Some(beside) = &mut self.beside else {
            return;
        };
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if due(beside.look_at_modes_at) {
            beside.look_at_modes_at = None;
            if beside.readers.changed_modes() {
                beside.look_at = Some(now);
            }
        }
        if !due(beside.look_at) {
            return;
        }
        let wanted = beside.readers.are_there() && is_ours(&self.tty);
        beside.look_at = wanted.then_some(now + LOOK);
        if wanted == beside.has_keys {
            return;
        }
        if wanted {
            if self.tty.make_raw().is_err() {
                return;
            }
            self.input = Stream::Open;
            self.filter.turn(Direction::Both);
        } else {
            self.tty.restore();
            self.input = Stream::Closed;
            self.filter.turn(Direction::Out);
        }
        if let Some(beside) = &mut self.beside {
            beside.has_keys = wanted;
        }
    }
}

/// Whether we may change the terminal: a background job would be stopped.
fn is_ours(tty: &crate::tty::Tty) -> bool {
    tcgetpgrp(tty.input()).is_ok_and(|group| group == getpgrp())
}
