//! Checks whether a journal is what was written.

use std::{
    io::{self, BufRead as _, Read as _},
    path::{Path, PathBuf},
};

use stockade_types::SessionId;

use crate::{
    VerifyingKey,
    checker::Checker,
    format::{LINE_BYTES_MAX, open_plain},
    layout::{HEAD_FILE, JOURNAL_FILE, RECORDING_FILE, SPOOL_FILE},
    pack::Journaled,
    read::left_events,
    recording::RecordingState,
    report::Verification,
};

/// How many lines are read between two reports of progress: about ten milliseconds of work.
const LINES_PER_REPORT: u64 = 8192;
/// Read buffer; larger ones were not faster.
const BUFFER_BYTES: usize = 64 * 1024;

/// Why nothing can be said about a journal.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is neither a journal nor a signed end.
    #[error("there is no journal at `{path}`")]
    NoJournal {
        /// Where it was expected.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("cannot read `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The progress of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read so far.
    pub bytes: u64,
    /// Bytes of the journal when it was opened.
    pub bytes_total: u64,
}

/// Verifies the journal of `session` in its directory `dir`, in constant memory.
///
/// # Errors
/// When nothing can be said: there is no journal, or it cannot be read.
pub fn verify(
    dir: &Path,
    session: &SessionId,
    key: &VerifyingKey,
) -> Result<Verification, VerifyError> {
    verify_with(dir, session, key, &mut |_| {})
}

/// Verifies as [`verify`] does and reports progress every few thousand lines.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(
    dir: &Path,
    session: &SessionId,
    key: &VerifyingKey,
    report: &mut dyn FnMut(Progress),
) -> Result<Verification, VerifyError> {
    let path = dir.join(JOURNAL_FILE);
    let head = read_head(dir)?;
    let mut checker = Checker::new(session.clone(), *key);
    let read =
        Journaled::open(dir, BUFFER_BYTES).and_then(|from| lines(from, &mut checker, report));
    if let Err(source) = read {
        let kind = source.kind();
        if kind == io::ErrorKind::InvalidData {
            // Only a compressed file has such errors: its bytes are not those that were written.
            checker.not_unpacked(&source.to_string());
        } else if kind != io::ErrorKind::NotFound {
            return Err(VerifyError::Io { path, source });
        } else if head.is_none() {
            return Err(VerifyError::NoJournal { path });
        }
        // Otherwise the signed end shows below what is missing.
    }
    let left = left_events(dir).map_err(|source| VerifyError::Io {
        path: dir.join(SPOOL_FILE),
        source,
    })?;
    let recording = RecordingState::of(dir, checker.recorded());
    checker.recording(recording.map_err(|source| VerifyError::Io {
        path: dir.join(RECORDING_FILE),
        source,
    })?);
    Ok(checker.finish(head.as_deref(), left.len()))
}

fn lines(
    mut from: Journaled,
    checker: &mut Checker,
    report: &mut dyn FnMut(Progress),
) -> io::Result<()> {
    let bytes_total = from.size()?;
    let mut reported = 0;
    loop {
        let read = match from.fill_buf() {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if read.is_empty() {
            break;
        }
        checker.feed(read);
        let count = read.len();
        from.consume(count);
        if checker.lines() / LINES_PER_REPORT > reported {
            reported = checker.lines() / LINES_PER_REPORT;
            let bytes = checker.fed();
            report(Progress { bytes, bytes_total });
        }
    }
    report(Progress {
        bytes: bytes_total,
        bytes_total,
    });
    Ok(())
}

/// Reads the head file, if there is one; one that is too long is cut, and then fails to parse.
fn read_head(dir: &Path) -> Result<Option<Vec<u8>>, VerifyError> {
    let path = dir.join(HEAD_FILE);
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    match open_plain(dir, HEAD_FILE).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(VerifyError::Io { path, source }),
    }
}
