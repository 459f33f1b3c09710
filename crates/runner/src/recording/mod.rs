//! What the terminal of a session showed, recorded beside its journal as asciicast version 2
//! (<https://docs.asciinema.org/manual/asciicast/v2/>).
//!
//! Only what the session's programs showed is in it, as it passed to the person's terminal: no key that
//! was typed, and no question of ours. It stops at [`RECORDING_BYTES_MAX`], or where it cannot be
//! written; the session goes on, and the journal says so. The journal has the digest of the finished
//! file.

mod cast;
mod redact;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use ring::digest::{Context, SHA256};
use stockade_event::Event;
use stockade_journal::layout::RECORDING_FILE;
use stockade_supervise::lock;
use stockade_types::{Digest, ignored};

use self::{
    cast::{header, marker, output, resized},
    redact::Redactor,
};

/// Bytes of a recording: hours of a full-screen program, and no more than a flood of output may take of
/// the disk.
const RECORDING_BYTES_MAX: u64 = 64 << 20;
/// Bytes that are kept free for the last line.
const LAST_LINE_BYTES: u64 = 256;

/// Why a session has no recording.
const NO_TERMINAL: &str = "the session had no terminal";

/// The facts of the person's terminal that a recording begins with.
#[derive(Clone, Debug)]
pub struct RecordedTerminal {
    /// Rows and columns.
    pub size: (u16, u16),
    /// `TERM`.
    pub term: String,
    /// `SHELL`.
    pub shell: String,
}

/// A recording that goes on; all clones are the same one.
#[derive(Clone)]
pub struct TerminalRecording(Arc<Mutex<Tape>>);

impl fmt::Debug for TerminalRecording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = lock(&self.0).bytes;
        f.debug_struct("TerminalRecording")
            .field("bytes", &bytes)
            .finish_non_exhaustive()
    }
}

struct Tape {
    file: File,
    digest: Context,
    bytes: u64,
    bytes_max: u64,
    started: Instant,
    redactor: Redactor,
    /// Why no more is recorded.
    stopped: Option<String>,
}

impl TerminalRecording {
    /// Begins the recording of a session in its directory.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub(crate) fn begin(directory: &Path, terminal: &RecordedTerminal) -> io::Result<Self> {
        Self::begin_within(directory, terminal, RECORDING_BYTES_MAX)
    }

    fn begin_within(
        directory: &Path,
        terminal: &RecordedTerminal,
        bytes_max: u64,
    ) -> io::Result<Self> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(directory.join(RECORDING_FILE))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut tape = Tape {
            file,
            digest: Context::new(&SHA256),
            bytes: 0,
            bytes_max,
            started: Instant::now(),
            redactor: Redactor::default(),
            stopped: None,
        };
        tape.write(&header(terminal, now.unwrap_or_default().as_secs()))?;
        Ok(Self(Arc::new(Mutex::new(tape))))
    }

    /// Records what passes to the terminal: whole characters and whole control sequences.
    pub fn output(&self, bytes: &[u8]) {
        let mut tape = lock(&self.0);
        let at = tape.started.elapsed();
        tape.output(bytes, at);
    }

    /// Records that the terminal has another size.
    pub fn resized(&self, rows: u16, columns: u16) {
        let mut tape = lock(&self.0);
        let at = tape.started.elapsed();
        tape.flush();
        tape.line(&resized(at, rows, columns), at);
    }

    /// Ends the recording; returns the event that says what is in it.
    pub(crate) fn finish(&self) -> Event {
        let mut tape = lock(&self.0);
        tape.flush();
        if let Err(error) = tape.file.sync_data() {
            let why = || format!("it is not on the disk: {error}");
            tape.stopped.get_or_insert_with(why);
        }
        let digest = tape.digest.clone().finish();
        let digest = digest.as_ref().try_into().ok().map(Digest::from_bytes);
        let event = Event::TerminalRecorded {
            bytes: tape.bytes,
            digest,
            hidden: tape.redactor.hidden(),
            missing: tape.stopped.clone(),
        };
        // What comes after the digest is in no recording.
        tape.stopped.get_or_insert_default();
        event
    }
}

/// Returns the event of a session that was to be recorded and had no terminal.
pub(crate) fn without_terminal() -> Event {
    Event::TerminalRecorded {
        bytes: 0,
        digest: None,
        hidden: 0,
        missing: Some(NO_TERMINAL.to_owned()),
    }
}

/// Returns what a person is told of a recording that has not all.
pub(crate) fn told(event: &Event) -> Option<String> {
    let Event::TerminalRecorded { missing, .. } = event else {
        return None;
    };
    let missing = missing.as_ref()?;
    Some(format!(
        "the terminal is not recorded, or not to the end (`record.terminal`): {missing}"
    ))
}

impl Tape {
    fn output(&mut self, bytes: &[u8], at: Duration) {
        if self.stopped.is_some() {
            return;
        }
        let mut ready = Vec::new();
        self.redactor.push(at, bytes, &mut ready);
        self.outputs(ready);
    }

    /// Writes what was kept because more could have belonged to it.
    fn flush(&mut self) {
        let mut ready = Vec::new();
        self.redactor.flush(&mut ready);
        self.outputs(ready);
    }

    fn outputs(&mut self, ready: Vec<(Duration, Vec<u8>)>) {
        for (at, bytes) in ready {
            self.line(&output(at, &bytes), at);
        }
    }

    /// Writes a line, or the last one where there is no room.
    fn line(&mut self, line: &str, at: Duration) {
        if self.stopped.is_some() {
            return;
        }
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let room = self.bytes_max.saturating_sub(LAST_LINE_BYTES);
        if self.bytes.saturating_add(length) > room {
            let why = format!("it reached {} bytes", self.bytes_max);
            let last = marker(at, &format!("stockade: the recording stops here: {why}"));
            ignored(
                self.write(&last),
                "the event of the recording says where it stopped",
            );
            self.stopped.get_or_insert(why);
            return;
        }
        if let Err(error) = self.write(line) {
            self.stopped = Some(format!("it could not be written: {error}"));
        }
    }

    /// Writes a line as a whole, or nothing of it.
    fn write(&mut self, line: &str) -> io::Result<()> {
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            ignored(
                self.file.set_len(self.bytes),
                "a torn line is not what the digest says, and `log verify` reports it",
            );
            return Err(error);
        }
        self.digest.update(line.as_bytes());
        self.bytes += u64::try_from(line.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}
