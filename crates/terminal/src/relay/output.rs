//! The agent's output: read, filtered, drawn into our picture, and written to the terminal.

use std::time::Instant;

use super::{CLOSED_PAUSE, INPUT_BYTES_MAX, Loop, READ_BYTES, Stream};
use crate::{filter::Forward, overlay::Alternate};

/// Output that is read in one go if it is there: keys are read after it, a millisecond later.
const BATCH_BYTES: usize = 64 << 10;

impl Loop {
    pub(super) fn read_output(&mut self) {
        let mut batch = Vec::with_capacity(BATCH_BYTES);
        while batch.len() + READ_BYTES <= BATCH_BYTES {
            let begin = batch.len();
            batch.resize(begin + READ_BYTES, 0);
            let room = batch.get_mut(begin..).unwrap_or_default();
            let read = rustix::io::read(&self.master, room);
            batch.truncate(begin + read.unwrap_or(0));
            match read {
                Ok(1..) => {
                    self.output = Stream::Open;
                    self.last_output = Instant::now();
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                // EIO: no process has the agent's side open (pty(7)).
                Ok(_) | Err(_) => {
                    self.output = Stream::Pausing(Instant::now() + CLOSED_PAUSE);
                    break;
                }
            }
        }
        if self.holds() {
            self.held.extend_from_slice(&batch);
            batch.clear();
        }
        self.show(&batch);
    }

    /// Sends output to the terminal and to our picture of it.
    pub(super) fn show(&mut self, bytes: &[u8]) {
        let mut forward = Forward::default();
        self.filter.push(bytes, &mut forward);
        if self.filter.tracker().was_bounded() {
            self.screen.feed(&forward.screen);
        } else {
            self.screen.flow(&forward.screen);
        }
        if let Some(beside) = &mut self.beside {
            beside.note_output(&mut forward.terminal);
        }
        if let Some(recording) = &mut self.recording {
            recording.output(&forward.terminal);
        }
        self.to_terminal.extend_from_slice(&forward.terminal);
        if self.to_agent.len() < INPUT_BYTES_MAX {
            self.to_agent.extend_from_slice(&forward.answer);
        }
        self.note_reset();
    }

    /// Notes the reset of the agent's modes; a terminal that supports no sequences gets none of
    /// ours.
    pub(super) fn note_reset(&self) {
        let place = match &self.beside {
            None => self.screen.cursor(),
            Some(beside) if !beside.has_set() => return,
            // The cursor's position at the start is unknown.
            Some(_) => (self.size.rows.saturating_sub(1), 0),
        };
        if self.alternate != Alternate::Dumb {
            self.tty.note_reset(self.filter.tracker().reset(place));
        }
    }

    pub(super) fn write_out(&mut self) {
        let mut written = 0;
        while let Some(rest @ [_, ..]) = self.to_terminal.get(written..) {
            match self.tty.write(rest) {
                Ok(0) => break,
                Ok(count) => written += count.min(rest.len()),
                // The terminal is gone: the agent continues, and the runner receives a hang-up.
                Err(_) => return self.to_terminal.clear(),
            }
        }
        self.to_terminal.drain(..written);
        if self.to_terminal.is_empty() {
            self.witness.write(Instant::now());
        }
    }
}
