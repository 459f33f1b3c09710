//! The options of a relay, and the reasons why it cannot be started.

use std::{fmt, io};

use rustix::process::Pid;

use crate::{dialog::Keep, layout::Color};

/// Why the relay could not be started.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Standard input or output is not a terminal, or cannot be made raw.
    #[error("cannot use the terminal")]
    Terminal(#[source] io::Error),
    /// A descriptor, signal handler or thread could not be made.
    #[error("cannot {step} for the terminal relay")]
    System {
        /// The operation that failed.
        step: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// Records what the session shows on the terminal.
pub trait Recording: fmt::Debug + Send {
    /// Takes what passes to the terminal: whole characters and whole control sequences. Questions are
    /// not among it.
    fn output(&mut self, bytes: &[u8]);
    /// Takes the terminal's new size.
    fn resized(&mut self, rows: u16, columns: u16);
}

/// The options of a relay.
#[derive(Debug)]
pub struct RelayOptions {
    /// Whether questions have colours.
    pub color: Color,
    /// `TERM` of the person's terminal.
    pub term: String,
    /// The process whose stop suspends us, by its id here; `None` for the session leader of the
    /// pty.
    pub agent: Option<Pid>,
    /// Keeps an answer for later sessions.
    pub keep: Keep,
}
