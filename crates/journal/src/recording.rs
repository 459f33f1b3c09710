//! The recording of a session's terminal, beside its journal.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use stockade_types::Digest;

use crate::{format::open_plain, layout::RECORDING_FILE, report::FaultKind};

/// Read buffer.
const BUFFER_BYTES: usize = 64 * 1024;

/// What a journal says of the recording beside it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recorded {
    line: u64,
    seq: u64,
    bytes: u64,
    /// Absent if there is no file.
    digest: Option<Digest>,
}

/// The event that ends a recording, as it is written.
#[derive(Deserialize)]
struct Ended {
    seq: u64,
    data: EndedData,
}

#[derive(Deserialize)]
struct EndedData {
    bytes: u64,
    digest: Option<Digest>,
}

impl Recorded {
    /// Reads a record, if it is of the end of a recording. Numbers alone stand before its kind: such an
    /// event has no process, command or decision.
    pub(super) fn read(line: u64, body: &[u8]) -> Option<Self> {
        const NUMBERS_BYTES_MAX: usize = 96;
        let numbers = body.iter().take(NUMBERS_BYTES_MAX);
        let end = numbers.into_iter().position(|byte| *byte == b']')?;
        let kind = body.get(end..)?;
        if !kind.starts_with(b"],\"kind\":\"terminal.recorded\"") {
            return None;
        }
        let Ended { seq, data } = serde_json::from_slice(body).ok()?;
        Some(Self {
            line,
            seq,
            bytes: data.bytes,
            digest: data.digest,
        })
    }

    /// Returns its line and the number of its event.
    pub(super) const fn place(&self) -> (u64, Option<u64>) {
        (self.line, Some(self.seq))
    }
}

/// A recording, compared with what the journal says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordingState {
    /// There is none.
    None,
    /// It is what was written.
    Same,
    /// It is something else.
    Changed,
    /// The journal says nothing of it.
    Unnamed,
}

impl RecordingState {
    /// Compares the recording in `dir` with what the journal says of it, if it does.
    pub(super) fn of(dir: &Path, recorded: Option<&Recorded>) -> io::Result<Self> {
        let bytes = recorded.map_or(0, |recorded| recorded.bytes);
        Ok(match (recording_digest(dir, bytes)?, recorded) {
            (RecordingFound::None, _) => Self::None,
            (RecordingFound::Other | RecordingFound::File(_), None) => Self::Unnamed,
            (RecordingFound::File(found), Some(recorded)) if recorded.digest == Some(found) => {
                Self::Same
            }
            (RecordingFound::Other | RecordingFound::File(_), Some(_)) => Self::Changed,
        })
    }

    /// Returns what is wrong with it, if anything. While a session runs, and where its supervisor was
    /// killed, the journal says nothing of it yet.
    pub(super) fn fault(
        self,
        recorded: Option<&Recorded>,
        is_closed: bool,
    ) -> Option<(FaultKind, String)> {
        let is_named = recorded.is_some_and(|recorded| recorded.digest.is_some());
        let (what, detail) = match self {
            Self::None if is_named => (FaultKind::Missing, "is gone"),
            Self::Changed => (FaultKind::Changed, "is not what was recorded"),
            Self::Unnamed if is_closed => (
                FaultKind::Changed,
                "is there, and the journal does not name it",
            ),
            Self::None | Self::Same | Self::Unnamed => return None,
        };
        let detail = format!("the recording of the terminal, `{RECORDING_FILE}`, {detail}");
        Some((what, detail))
    }
}

/// What is in the place of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingFound {
    /// Nothing.
    None,
    /// A file of another length, or no file at all.
    Other,
    /// A file of that length, with this digest.
    File(Digest),
}

/// Opens the recording of the session in the directory `dir` for reading.
///
/// # Errors
/// When there is none, or it cannot be opened; a link or a device in its place is an error.
pub fn open_recording(dir: &Path) -> io::Result<File> {
    open_plain(dir, RECORDING_FILE)
}

/// Hashes the recording in `dir`, which should have exactly so many bytes, in constant memory.
///
/// # Errors
/// When it cannot be read.
pub fn recording_digest(dir: &Path, bytes: u64) -> io::Result<RecordingFound> {
    let is_link =
        |error: &io::Error| error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    let file = match open_recording(dir) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RecordingFound::None),
        // What `open_plain` says of what is no file.
        Err(error) if is_link(&error) || error.kind() == io::ErrorKind::Other => {
            return Ok(RecordingFound::Other);
        }
        Err(error) => return Err(error),
    };
    // One byte more shows that it is longer; by how much does not matter.
    let mut from = file.take(bytes.saturating_add(1));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut all = 0_u64;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hash.update(buffer.get(..count).unwrap_or_default());
                all = all.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let digest = Digest::from_bytes(hash.finalize().into());
    Ok(if all == bytes {
        RecordingFound::File(digest)
    } else {
        RecordingFound::Other
    })
}
