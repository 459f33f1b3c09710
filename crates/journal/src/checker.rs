//! Checking a journal as its bytes arrive.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use memchr::memchr;
use serde::{Deserialize, Serialize};
use stockade_types::SessionId;

use crate::{
    Position, VerifyingKey,
    check::{Check, Checked},
    format::LINE_BYTES_MAX,
    recording::{Recorded, RecordingState},
    report::{Fault, Verification},
};

/// The version of a stored state: of another one a journal is checked from its beginning.
const STATE_VERSION: u32 = 1;

/// Checks a journal in pieces of any size, in constant memory.
///
/// Whoever keeps a copy of a journal that is still being written feeds it the bytes as they come, and
/// stores [`Self::state`] with the copy: after a restart it goes on from there. What it says at the end is
/// what [`crate::verify`] says of the whole.
#[derive(Clone, Debug)]
pub struct Checker {
    check: Check,
    /// Bytes so far.
    fed: u64,
    /// Whole lines so far.
    lines: u64,
    /// The beginning of a line whose end has not come; empty once it is longer than any of ours.
    tail: Vec<u8>,
    /// Bytes of that line.
    tail_bytes: u64,
    /// What the recording of the terminal is, where there could be one.
    recording: Option<RecordingState>,
}

/// What a checker has to know to go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckerState {
    version: u32,
    check: Check,
    fed: u64,
    lines: u64,
    /// In base64.
    tail: String,
    tail_bytes: u64,
}

/// Why a checker cannot go on from a state: check the journal from its beginning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// Another version of this program stored it.
    #[error("the state of the check has version {0}; this program knows {STATE_VERSION}")]
    Version(u32),
    /// Its parts do not fit each other.
    #[error("the state of the check is damaged")]
    Damaged,
}

impl Checker {
    /// Begins to check the journal of `session`, which is signed with `key`.
    pub fn new(session: SessionId, key: VerifyingKey) -> Self {
        Self {
            check: Check::new(session, key),
            fed: 0,
            lines: 0,
            tail: Vec::new(),
            tail_bytes: 0,
            recording: None,
        }
    }

    /// Goes on from a stored state.
    ///
    /// # Errors
    /// When it is one of another version, or was damaged.
    pub fn resume(state: CheckerState) -> Result<Self, ResumeError> {
        if state.version != STATE_VERSION {
            return Err(ResumeError::Version(state.version));
        }
        let tail = STANDARD.decode(&state.tail).ok();
        let tail = tail.ok_or(ResumeError::Damaged)?;
        let length = u64::try_from(tail.len()).unwrap_or(u64::MAX);
        let is_whole = length == state.tail_bytes && tail.len() < LINE_BYTES_MAX;
        let is_dropped = tail.is_empty() && state.tail_bytes >= LINE_BYTES_MAX_U64;
        if !(is_whole || is_dropped) || state.tail_bytes > state.fed {
            return Err(ResumeError::Damaged);
        }
        Ok(Self {
            check: state.check,
            fed: state.fed,
            lines: state.lines,
            tail,
            tail_bytes: state.tail_bytes,
            recording: None,
        })
    }

    /// Returns what has to be stored to go on later.
    pub fn state(&self) -> CheckerState {
        CheckerState {
            version: STATE_VERSION,
            check: self.check.clone(),
            fed: self.fed,
            lines: self.lines,
            tail: STANDARD.encode(&self.tail),
            tail_bytes: self.tail_bytes,
        }
    }

    /// Checks the bytes that follow those before.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(at) = memchr(b'\n', bytes) {
            let (end, rest) = bytes.split_at(at);
            self.line(end);
            bytes = rest.get(1..).unwrap_or_default();
        }
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.fed = self.fed.saturating_add(length);
        self.tail_bytes = self.tail_bytes.saturating_add(length);
        if self.tail_bytes < LINE_BYTES_MAX_U64 {
            self.tail.extend_from_slice(bytes);
        } else {
            self.tail = Vec::new();
        }
    }

    /// Checks a line, of which `end` is what comes after the bytes before.
    fn line(&mut self, end: &[u8]) {
        let length = u64::try_from(end.len()).unwrap_or(u64::MAX);
        self.fed = self.fed.saturating_add(length).saturating_add(1);
        self.lines += 1;
        let tail = std::mem::take(&mut self.tail);
        let bytes = std::mem::take(&mut self.tail_bytes).saturating_add(length);
        if bytes >= LINE_BYTES_MAX_U64 {
            self.check.foreign_line(self.lines);
            return;
        }
        let whole = if tail.is_empty() {
            end
        } else {
            &[tail.as_slice(), end].concat()
        };
        if self.lines == 1 {
            self.check.header(whole);
        } else {
            self.check.line(self.lines, whole);
        }
    }

    /// Returns how many bytes it was fed: where those that it expects next begin.
    pub const fn fed(&self) -> u64 {
        self.fed
    }

    /// Returns the end of the last whole line.
    pub const fn position(&self) -> Position {
        Position::after(self.fed.saturating_sub(self.tail_bytes))
    }

    /// Returns how many whole lines there were.
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// Returns what the whole lines came to.
    pub const fn so_far(&self) -> Checked {
        self.check.so_far()
    }

    /// Returns the faults so far. Missing events are among them only at the end, because they may still
    /// come in another place; see [`Self::is_broken`].
    pub fn faults(&self) -> &[Fault] {
        self.check.faults()
    }

    /// Returns whether anything is wrong so far.
    pub fn is_broken(&self) -> bool {
        self.check.is_broken()
    }

    /// Records that the rest cannot be read, because the compressed file was changed.
    pub(crate) fn not_unpacked(&mut self, detail: &str) {
        self.tail = Vec::new();
        self.tail_bytes = 0;
        self.check.not_unpacked(detail);
    }

    /// Returns what the journal says of the recording of the terminal.
    pub(crate) const fn recorded(&self) -> Option<&Recorded> {
        self.check.recorded()
    }

    /// Records what that recording is.
    pub(crate) fn recording(&mut self, state: RecordingState) {
        self.recording = Some(state);
    }

    /// Determines the result: `head` is the content of the head file, if there is one, and `left` how many
    /// decisions are beside the journal that it does not have.
    pub fn finish(mut self, head: Option<&[u8]>, left: usize) -> Verification {
        if self.tail_bytes > 0 {
            self.check.torn(self.lines + 1, self.tail_bytes);
        }
        if let Some(head) = head {
            self.check.head_file(head);
        }
        self.check.left(left);
        if let Some(recording) = self.recording {
            self.check.recording(recording);
        }
        self.check.finish()
    }
}

/// The same as [`LINE_BYTES_MAX`], with which lengths of streams are compared.
const LINE_BYTES_MAX_U64: u64 = LINE_BYTES_MAX as u64;
