//! The bytes of a line, for the writer and all readers.

use std::{
    fs::File,
    io::{self, BufRead, Read},
    path::Path,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use stockade_types::{Digest, SessionId, ignored};

use crate::{VerifyingKey, bound::RECORD_BYTES_MAX};

/// Version of the line format that is written.
const JOURNAL_VERSION: u32 = 2;
/// Longest line: the largest record and its frame. We never write a longer one.
pub(super) const LINE_BYTES_MAX: usize = RECORD_BYTES_MAX + 1024;

/// Tags that separate the three uses of the hash and the signature.
const GENESIS_TAG: &[u8] = b"stockade journal v1 genesis\n";
const EVENT_TAG: &[u8] = b"stockade journal v1 event\n";
const CHECKPOINT_TAG: &[u8] = b"stockade journal v1 checkpoint\n";
const SIGNATURE_TAG: &[u8] = b"stockade journal v1 signature\n";

const CHAIN_OPEN: &[u8] = b"{\"chain\":\"";
const EVENT_OPEN: &[u8] = b"\",\"event\":";
const CHECKPOINT_OPEN: &[u8] = b"\",\"checkpoint\":";
const SIGNATURE_OPEN: &[u8] = b",\"signature\":\"";
const SIGNATURE_CLOSE: &[u8] = b"\"}";
const EVENT_CLOSE: &[u8] = b"}";
/// Digits of a hexadecimal digest, as in journals of version 1.
const CHAIN_DIGITS_1: usize = 64;
/// Digits of a base64 digest without padding.
const CHAIN_DIGITS: usize = 43;
/// Digits of 64 bytes in base64 with padding.
const SIGNATURE_DIGITS: usize = 88;

/// First line of a journal.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// The version.
    pub(super) journal: u32,
    pub(super) session: SessionId,
    pub(super) key: String,
}

impl Header {
    pub(super) fn new(session: &SessionId, key: &VerifyingKey) -> Self {
        Self::of_version(JOURNAL_VERSION, session, key)
    }

    pub(super) fn of_version(journal: u32, session: &SessionId, key: &VerifyingKey) -> Self {
        Self {
            journal,
            session: session.clone(),
            key: key.to_string(),
        }
    }

    /// Whether this program can read journals of its version.
    pub(super) const fn is_known(&self) -> bool {
        matches!(self.journal, 1 | JOURNAL_VERSION)
    }

    pub(super) fn line(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// The content of a signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkpoint {
    pub(super) session: SessionId,
    /// The last event it covers; 0 before the first.
    pub(super) seq: u64,
    pub(super) time_unix_ns: u64,
    pub(super) mono_ns: u64,
    /// Whether this is the end of the journal.
    pub(super) closed: bool,
    pub(super) key: String,
}

/// A chain value as it is written in a line.
#[derive(Clone, Copy)]
pub(super) struct ChainText<'a>(&'a [u8]);

impl<'a> ChainText<'a> {
    /// Reads it from the beginning of `rest`, up to its closing quote.
    fn split(rest: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = [CHAIN_DIGITS, CHAIN_DIGITS_1]
            .into_iter()
            .find(|length| rest.get(*length) == Some(&b'"'))?;
        let (text, rest) = rest.split_at_checked(length)?;
        Some((Self(text), rest))
    }

    /// The version of the format that writes chain values like this.
    pub(super) const fn version(self) -> u32 {
        if self.0.len() == CHAIN_DIGITS_1 {
            1
        } else {
            JOURNAL_VERSION
        }
    }

    /// Whether it is exactly what a journal of `version` writes for `digest`.
    pub(super) fn is(self, digest: &Digest, version: u32) -> bool {
        match version {
            1 => self.0 == hexadecimal(digest),
            _ => self.0 == encoded(digest),
        }
    }

    /// Decodes it; `None` if it is not in the form of `version`.
    pub(super) fn digest(self, version: u32) -> Option<Digest> {
        let digest = match version {
            1 => std::str::from_utf8(self.0).ok()?.parse().ok()?,
            _ => Digest::from_bytes(STANDARD_NO_PAD.decode(self.0).ok()?.try_into().ok()?),
        };
        self.is(&digest, version).then_some(digest)
    }
}

/// One line, parsed but not yet trusted.
pub(super) enum Line<'a> {
    Event {
        chain: ChainText<'a>,
        body: &'a [u8],
    },
    Checkpoint {
        chain: ChainText<'a>,
        body: &'a [u8],
        signature: [u8; 64],
    },
}

/// Parses a line; `None` if it is not exactly an event or a checkpoint.
pub(super) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let rest = line.strip_prefix(CHAIN_OPEN)?;
    let (chain, rest) = ChainText::split(rest)?;
    if let Some(rest) = rest.strip_prefix(EVENT_OPEN) {
        let body = rest.strip_suffix(EVENT_CLOSE)?;
        return Some(Line::Event { chain, body });
    }
    let rest = rest
        .strip_prefix(CHECKPOINT_OPEN)?
        .strip_suffix(SIGNATURE_CLOSE)?;
    let (rest, signature) = rest.split_last_chunk::<SIGNATURE_DIGITS>()?;
    let body = rest.strip_suffix(SIGNATURE_OPEN)?;
    let signature = STANDARD.decode(signature).ok()?.try_into().ok()?;
    Some(Line::Checkpoint {
        chain,
        body,
        signature,
    })
}

/// A signed line, parsed but not yet trusted.
pub(super) struct SignedLine<'a> {
    pub(super) chain: ChainText<'a>,
    pub(super) body: &'a [u8],
    pub(super) checkpoint: Checkpoint,
    pub(super) signature: [u8; 64],
}

/// Parses a signed line; `None` if it is not one.
pub(super) fn parse_signed(line: &[u8]) -> Option<SignedLine<'_>> {
    let Line::Checkpoint {
        chain,
        body,
        signature,
    } = parse(line)?
    else {
        return None;
    };
    let checkpoint = serde_json::from_slice(body).ok()?;
    Some(SignedLine {
        chain,
        body,
        checkpoint,
        signature,
    })
}

/// Appends the line of an event to `into`.
pub(super) fn event_line(into: &mut Vec<u8>, chain: &Digest, body: &[u8]) {
    into.extend_from_slice(CHAIN_OPEN);
    into.extend_from_slice(&encoded(chain));
    into.extend_from_slice(EVENT_OPEN);
    into.extend_from_slice(body);
    into.extend_from_slice(EVENT_CLOSE);
}

/// Appends the line of a checkpoint to `into`.
pub(super) fn checkpoint_line(into: &mut Vec<u8>, chain: &Digest, body: &[u8], sign: &[u8; 64]) {
    into.extend_from_slice(CHAIN_OPEN);
    into.extend_from_slice(&encoded(chain));
    into.extend_from_slice(CHECKPOINT_OPEN);
    into.extend_from_slice(body);
    into.extend_from_slice(SIGNATURE_OPEN);
    into.extend_from_slice(STANDARD.encode(sign).as_bytes());
    into.extend_from_slice(SIGNATURE_CLOSE);
}

/// Returns the chain value before the first line after the header.
pub(super) fn genesis(header_line: &[u8]) -> Digest {
    chained(GENESIS_TAG, &Digest::from_bytes([0; 32]), header_line)
}

/// Returns the chain value of an event.
pub(super) fn event_chain(before: &Digest, body: &[u8]) -> Digest {
    chained(EVENT_TAG, before, body)
}

/// Returns the chain value of a checkpoint.
pub(super) fn checkpoint_chain(before: &Digest, body: &[u8]) -> Digest {
    chained(CHECKPOINT_TAG, before, body)
}

fn chained(tag: &[u8], before: &Digest, body: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(tag);
    hash.update(before.as_bytes());
    hash.update(body);
    Digest::from_bytes(hash.finalize().into())
}

/// Returns the message that is signed. Fixed-size fields come first, so that two messages never
/// differ only in where one field ends.
pub(super) fn signed_message(chain: &Digest, body: &[u8]) -> Vec<u8> {
    [SIGNATURE_TAG, chain.as_bytes(), body].concat()
}

/// Writes a digest in base64 without allocating.
fn encoded(digest: &Digest) -> [u8; CHAIN_DIGITS] {
    let mut text = [b'A'; CHAIN_DIGITS];
    ignored(
        STANDARD_NO_PAD.encode_slice(digest.as_bytes(), &mut text),
        "it has room for exactly what 32 bytes become",
    );
    text
}

/// Writes a digest in lower-case hexadecimal without allocating.
fn hexadecimal(digest: &Digest) -> [u8; CHAIN_DIGITS_1] {
    let mut text = [b'0'; CHAIN_DIGITS_1];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest.as_bytes()) {
        if let [high, low] = pair {
            *high = digit(byte >> 4);
            *low = digit(byte & 15);
        }
    }
    text
}

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'a' + nibble - 10
    }
}

/// Opens the plain file `name` in the directory `dir`. Neither may be a link: the target of a link
/// is not what was recorded here.
pub(super) fn open_plain(dir: &Path, name: &str) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    Ok(file)
}

/// How the next line was found.
pub(super) enum Found {
    /// A whole line is in the buffer, without its line feed.
    Whole,
    /// The line is longer than any of ours; the buffer has its beginning, and the file is past its
    /// `bytes`.
    TooLong { bytes: u64 },
    /// The file ends with bytes that have no line feed; the buffer has (the beginning of) them.
    Torn { bytes: u64 },
    /// Nothing is left.
    End,
}

/// Reads one line into `buffer`, never more than the longest line that we write.
pub(super) fn next_line(from: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<Found> {
    buffer.clear();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let read = from.by_ref().take(limit).read_until(b'\n', buffer)?;
    if read == 0 {
        return Ok(Found::End);
    }
    if buffer.last() == Some(&b'\n') {
        buffer.pop();
        return Ok(Found::Whole);
    }
    let mut bytes = u64::try_from(read).unwrap_or(u64::MAX);
    if bytes < limit {
        return Ok(Found::Torn { bytes });
    }
    // Skip the rest of a foreign line in pieces, so that memory use stays constant.
    loop {
        let available = from.fill_buf()?;
        if available.is_empty() {
            return Ok(Found::Torn { bytes });
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(available.len(), |at| at + 1);
        from.consume(used);
        bytes = bytes.saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
        if end.is_some() {
            return Ok(Found::TooLong { bytes });
        }
    }
}
