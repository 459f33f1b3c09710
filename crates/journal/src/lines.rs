//! The lines of a journal as bytes, for those who keep a copy of it.

use std::{
    io::{self, BufRead as _, Read as _},
    path::Path,
};

use stockade_types::Digest;

use crate::{
    format::{Header, LINE_BYTES_MAX, Line, genesis, parse},
    pack::Journaled,
};

/// Read buffer, as that of a verification.
const BUFFER_BYTES: usize = 64 * 1024;

/// Whole lines of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Their bytes; each line has its end.
    pub bytes: Vec<u8>,
    /// Bytes of the whole journal, with a last line that has no end.
    pub journal_bytes: u64,
}

/// Reads whole lines of the journal in the session directory `dir`, from byte `from` on, which is the
/// beginning of a line, and at most `bytes_max` of them. There are none if no line is whole there, or if
/// the next one is longer than that. Blocks; it reads a compressed journal like any other.
///
/// # Errors
/// When there is no journal, it cannot be read, or it is shorter than `from`.
pub fn lines(dir: &Path, from: u64, bytes_max: u64) -> io::Result<Lines> {
    let mut journal = Journaled::open(dir, BUFFER_BYTES)?;
    let journal_bytes = journal.size()?;
    if from > journal_bytes {
        let what = format!("the journal has {journal_bytes} bytes; there is no byte {from}");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
    }
    journal.skip_to(from)?;
    let mut bytes = Vec::new();
    journal.take(bytes_max).read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n');
    bytes.truncate(whole.map_or(0, |at| at + 1));
    Ok(Lines {
        bytes,
        journal_bytes,
    })
}

/// Returns the bytes of the journal in the session directory `dir`, in either of its forms.
///
/// # Errors
/// When there is no journal, or it cannot be read.
pub fn journal_bytes(dir: &Path) -> io::Result<u64> {
    Journaled::open(dir, 0)?.size()
}

impl Journaled {
    /// Goes on at byte `offset`, which is not before the present one.
    fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        let Self::Packed(unpacker) = self else {
            return self.go_back(offset);
        };
        let mut left = unpacker.skip_frames(offset)?;
        while left > 0 {
            let piece = unpacker.fill_buf()?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let used = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            unpacker.consume(used);
            left -= u64::try_from(used).unwrap_or(u64::MAX);
        }
        Ok(())
    }
}

/// Returns the chain value of the line of the journal in `dir` that ends at byte `offset`, as the line
/// itself states it; `None` if no line ends there. Only a verification says whether it is right.
///
/// # Errors
/// When there is no journal, or it cannot be read.
pub fn chain_at(dir: &Path, offset: u64) -> io::Result<Option<Digest>> {
    let mut journal = Journaled::open(dir, BUFFER_BYTES)?;
    if offset == 0 || offset > journal.size()? {
        return Ok(None);
    }
    let longest = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let from = offset.saturating_sub(longest);
    journal.skip_to(from)?;
    let mut bytes = Vec::new();
    journal.take(offset - from).read_to_end(&mut bytes)?;
    let Some(whole) = bytes.strip_suffix(b"\n") else {
        return Ok(None);
    };
    let before = whole.iter().rposition(|byte| *byte == b'\n');
    let line = match before {
        Some(at) => whole.get(at + 1..).unwrap_or_default(),
        None if from == 0 => return Ok(chain_of_first(whole)),
        None => return Ok(None),
    };
    Ok(chain_of(line))
}

/// Returns the chain value that a line states, which is not the first one of its journal.
fn chain_of(line: &[u8]) -> Option<Digest> {
    let (Line::Event { chain, .. } | Line::Checkpoint { chain, .. }) = parse(line)?;
    chain.digest(chain.version())
}

/// Returns the chain value after the first line.
fn chain_of_first(line: &[u8]) -> Option<Digest> {
    serde_json::from_slice::<Header>(line).ok()?;
    Some(genesis(line))
}
