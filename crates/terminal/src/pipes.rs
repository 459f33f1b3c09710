//! Input and output without a terminal inside: copied through pipes of our own, so that the agent
//! inherits no descriptor of the caller (which it could reopen, change or read from).
//!
//! Bytes for a pipe or a file pass unchanged. A stream that is a terminal outside passes the
//! filter, whatever the other streams are.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read, Write},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};
use stockade_types::ignored;

use rustix::event::{EventfdFlags, eventfd};

use super::{
    filter::{Filter, Forward},
    input::Input,
    overlay::Alternate,
    tty::size_of,
};

/// Bytes between a read and its write: the capacity of a pipe, so that each side runs ahead of the
/// other by at most this much.
const COPY_BYTES: usize = 64 << 10;

/// Our ends of the agent's pipes; `None` if that stream is not a pipe.
#[derive(Debug, Default)]
pub struct PipeEnds {
    /// Write end of the agent's standard input.
    pub stdin: Option<OwnedFd>,
    /// Read end of its standard output.
    pub stdout: Option<OwnedFd>,
    /// Read end of its standard error.
    pub stderr: Option<OwnedFd>,
}

/// Threads that copy between the caller's streams and the agent's pipes.
#[derive(Debug)]
pub struct PipeRelay {
    outputs: Vec<JoinHandle<io::Result<()>>>,
    input: Option<JoinHandle<io::Result<()>>>,
    bell: Arc<OwnedFd>,
}

impl PipeRelay {
    /// Starts copying.
    ///
    /// # Errors
    /// When a stream cannot be copied or a thread cannot be started.
    pub fn start(ends: PipeEnds) -> io::Result<Self> {
        let caller = PipeEnds {
            stdin: ends
                .stdin
                .is_some()
                .then(|| io::stdin().as_fd().try_clone_to_owned())
                .transpose()?,
            stdout: ends
                .stdout
                .is_some()
                .then(|| io::stdout().as_fd().try_clone_to_owned())
                .transpose()?,
            stderr: ends
                .stderr
                .is_some()
                .then(|| io::stderr().as_fd().try_clone_to_owned())
                .transpose()?,
        };
        Self::between(caller, ends)
    }

    /// Starts copying between the caller's descriptors and the agent's.
    ///
    /// # Errors
    /// When a descriptor cannot be copied or a thread cannot be made.
    pub fn between(caller: PipeEnds, agent: PipeEnds) -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let turn = Arc::new(Mutex::new(()));
        let mut outputs = Vec::new();
        let pairs = [
            ("stdout", agent.stdout, caller.stdout),
            ("stderr", agent.stderr, caller.stderr),
        ];
        for (name, from, to) in pairs {
            if let (Some(from), Some(to)) = (from, to) {
                let thread = std::thread::Builder::new().name(name.to_owned());
                let turn = Arc::clone(&turn);
                outputs.push(thread.spawn(move || {
                    let (from, to) = (File::from(from), File::from(to));
                    if to.is_terminal() {
                        copy_filtered(&from, &to, &turn)
                    } else {
                        copy(&from, &to)
                    }
                })?);
            }
        }
        let input = match (caller.stdin, agent.stdin) {
            (Some(from), Some(to)) => {
                let ear = Arc::clone(&bell);
                let thread = std::thread::Builder::new().name("stdin".to_owned());
                let input = Input::new(from, to, ear);
                Some(thread.spawn(move || input.feed())?)
            }
            _ => None,
        };
        Ok(Self {
            outputs,
            input,
            bell,
        })
    }

    /// Waits until all output of the agent is written, then stops reading input. Blocking: it
    /// returns when every process that has the agent's output open has closed it.
    ///
    /// # Errors
    /// When the caller's output could not be written, except if it has no reader any more.
    pub fn finish(self) -> io::Result<()> {
        let mut result = Ok(());
        for thread in self.outputs {
            let copied = thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a copy failed")));
            result = result.and(copied);
        }
        // It fails only if it has rung already.
        ignored(
            rustix::io::write(&*self.bell, &1_u64.to_ne_bytes()),
            "the write fails only if the bell has rung already",
        );
        if let Some(input) = self.input {
            ignored(
                input.join(),
                "input that the agent did not take is not an error of the run",
            );
        }
        result
    }
}

/// Copies to the end. If the reader is gone this ends quietly: the agent gets a broken pipe in
/// turn.
fn copy(mut from: &File, mut to: &File) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match to.write_all(buffer.get(..count).unwrap_or_default()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Copies the permitted output to a terminal, and resets the terminal's settings at the end.
///
/// Both streams can be the same terminal: `turn` is held for each write, so that the bytes of one
/// never split and change a sequence of the other.
fn copy_filtered(mut from: &File, to: &File, turn: &Mutex<()>) -> io::Result<()> {
    let mut filter = Filter::one_way();
    let mut has_set = false;
    let mut buffer = vec![0; COPY_BYTES];
    let write = |bytes: &[u8]| {
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut to = to;
        to.write_all(bytes)
    };
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let mut forward = Forward::default();
        filter.push(buffer.get(..count).unwrap_or_default(), &mut forward);
        has_set |= forward
            .terminal
            .iter()
            .any(|byte| matches!(byte, 0x0e | 0x1b));
        write(&forward.terminal)?;
    }
    let term = std::env::var("TERM").unwrap_or_default();
    if has_set && Alternate::of(&term) != Alternate::Dumb {
        let last_row = size_of(to.as_fd()).rows.saturating_sub(1);
        write(&filter.tracker().reset((last_row, 0)))?;
    }
    Ok(())
}
