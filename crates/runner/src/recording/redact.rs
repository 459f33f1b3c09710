//! Secrets in what a terminal shows, replaced before it is recorded.
//!
//! Output comes in pieces of any size, and a program can change colours within a word. So what follows
//! each other on one line is kept until the line ends, or the cursor moves elsewhere, and is looked at
//! as one text, without the sequences that show nothing. A secret that a program itself breaks into
//! lines, or draws in pieces, is not found.

use std::time::Duration;

use stockade_secrets::hide;
use stockade_types::RawText;

/// Bytes of output that are kept at most while nothing ends a line.
const KEPT_BYTES_MAX: usize = 32 << 10;
/// Bytes of those that stay for what follows: more than a secret has that the rules know.
const KEPT_BYTES_MIN: usize = 4 << 10;
/// Fewer bytes are no secret.
const SECRET_BYTES_MIN: usize = 12;
/// Bytes of the lines of a private key that are left out, for a key whose end is never shown.
const KEY_BYTES_MAX: usize = 16 << 10;
/// The lines around a private key.
const KEY_BEGINS: &[u8] = b"-----BEGIN ";
const KEY_LABEL: &[u8] = b"PRIVATE KEY";
const KEY_ENDS: &[u8] = b"-----END ";
/// Stands for a private key.
const KEY_HIDDEN: &[u8] = b"[private-key]";
/// Fields between the first line of a private key and its content (RFC 1421).
const KEY_FIELDS: [&[u8]; 2] = [b"Proc-Type: ", b"DEK-Info: "];

/// Output and when it came.
pub(super) type Shown = (Duration, Vec<u8>);

#[derive(Debug, Default)]
pub(super) struct Redactor {
    /// What is on the line so far.
    pieces: Vec<Piece>,
    /// Bytes of all pieces.
    bytes: usize,
    /// Set within a private key: so many bytes of it were left out.
    key: Option<usize>,
    hidden: u64,
}

#[derive(Debug)]
struct Piece {
    at: Duration,
    bytes: Vec<u8>,
    is_text: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Text,
    /// Shows nothing and moves nothing.
    Still,
    /// Ends a line, or moves the cursor or what is on the screen.
    Moves,
}

impl Redactor {
    /// Takes output, which ends with a whole sequence; adds what can be recorded to `ready`.
    pub(super) fn push(&mut self, at: Duration, bytes: &[u8], ready: &mut Vec<Shown>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (part, length) = first_part(rest);
            let (own, after) = rest.split_at(length.clamp(1, rest.len()));
            rest = after;
            match part {
                Part::Text => self.keep(at, own.to_vec(), true, ready),
                Part::Still => {
                    let shown = without_secrets(own);
                    self.hidden += u64::from(shown.is_some());
                    self.keep(at, shown.unwrap_or_else(|| own.to_vec()), false, ready);
                }
                Part::Moves => {
                    self.flush(ready);
                    show(ready, at, own);
                }
            }
        }
    }

    /// Adds all that is kept to `ready`.
    pub(super) fn flush(&mut self, ready: &mut Vec<Shown>) {
        self.redact();
        self.bytes = 0;
        for piece in self.pieces.drain(..) {
            show(ready, piece.at, &piece.bytes);
        }
    }

    /// Returns how many places were replaced.
    pub(super) const fn hidden(&self) -> u64 {
        self.hidden
    }

    fn keep(&mut self, at: Duration, bytes: Vec<u8>, is_text: bool, ready: &mut Vec<Shown>) {
        self.bytes += bytes.len();
        self.pieces.push(Piece { at, bytes, is_text });
        if self.bytes > KEPT_BYTES_MAX {
            self.flush_first(ready);
        }
    }

    /// Adds what is kept to `ready`, except for its last bytes: a secret can begin in them.
    fn flush_first(&mut self, ready: &mut Vec<Shown>) {
        self.redact();
        let (mut kept, mut first) = (0, self.pieces.len());
        while kept < KEPT_BYTES_MIN && first > 0 {
            first -= 1;
            kept += self.pieces.get(first).map_or(0, |piece| piece.bytes.len());
        }
        let mut last = self.pieces.split_off(first);
        for piece in self.pieces.drain(..) {
            show(ready, piece.at, &piece.bytes);
        }
        if let Some(piece) = last.first_mut().filter(|piece| piece.is_text) {
            let mut cut = kept.saturating_sub(KEPT_BYTES_MIN).min(piece.bytes.len());
            // Not within a character of UTF-8.
            while cut > 0 && piece.bytes.get(cut).is_some_and(|b| b & 0xc0 == 0x80) {
                cut -= 1;
            }
            let own: Vec<u8> = piece.bytes.drain(..cut).collect();
            kept -= own.len();
            show(ready, piece.at, &own);
        }
        self.pieces = last;
        self.bytes = kept;
    }

    /// Replaces the secrets of what is kept.
    fn redact(&mut self) {
        // A sequence can stand between a word and a secret: then they are apart.
        if self.pieces.len() > 1 {
            for piece in self.pieces.iter_mut().filter(|piece| piece.is_text) {
                if let Some(shown) = without_secrets(&piece.bytes) {
                    self.hidden += 1;
                    piece.bytes = shown;
                }
            }
        }
        let texts = self.pieces.iter().filter(|piece| piece.is_text);
        let text: Vec<u8> = texts.flat_map(|p| p.bytes.iter().copied()).collect();
        let without_key = self.without_key(&text);
        let shown = without_secrets(without_key.as_deref().unwrap_or(&text));
        self.hidden += u64::from(shown.is_some());
        if let Some(shown) = shown.or(without_key) {
            self.replace(shown);
        }
    }

    /// Puts a text in the place of all that is kept; the sequences stay.
    fn replace(&mut self, text: Vec<u8>) {
        let mut text = Some(text);
        for piece in self.pieces.iter_mut().filter(|piece| piece.is_text) {
            piece.bytes = text.take().unwrap_or_default();
        }
        self.bytes = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
    }

    /// Returns a line without what it has of a private key, if it has any.
    fn without_key(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        if let Some(left_out) = self.key {
            let all = left_out + line.len();
            if let Some(end) = find(line, KEY_ENDS) {
                self.key = None;
                let rest = line.get(end + KEY_ENDS.len()..).unwrap_or_default();
                let after = find(rest, b"-----").and_then(|at| rest.get(at + 5..));
                return Some(after.unwrap_or_default().to_vec());
            }
            if all <= KEY_BYTES_MAX && is_of_key(line) {
                self.key = Some(all);
                return Some(Vec::new());
            }
            self.key = None;
        }
        let begin = find(line, KEY_BEGINS)?;
        let (before, key) = line.split_at(begin);
        find(key, KEY_LABEL)?;
        if find(key, KEY_ENDS).is_none() {
            self.key = Some(0);
            self.hidden += 1;
            return Some([before, KEY_HIDDEN].concat());
        }
        None
    }
}

/// Returns a text without its secrets, if it has any.
fn without_secrets(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() < SECRET_BYTES_MIN {
        return None;
    }
    let shown = hide(&RawText::from_bytes(text))?;
    Some(shown.as_bytes().to_vec())
}

/// Adds output, to what came at the same time if it is the last.
fn show(ready: &mut Vec<Shown>, at: Duration, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    match ready.last_mut().filter(|(last, _)| *last == at) {
        Some((_, all)) => all.extend_from_slice(bytes),
        None => ready.push((at, bytes.to_vec())),
    }
}

/// Returns what output begins with, and its length; sequences as the filter of the terminal passes them
/// (ECMA-48).
fn first_part(bytes: &[u8]) -> (Part, usize) {
    match bytes {
        [0x1b, b'[', rest @ ..] => {
            let last = rest.iter().position(|byte| (0x40..=0x7e).contains(byte));
            let is_look = last.and_then(|at| rest.get(at)) == Some(&b'm');
            let part = if is_look { Part::Still } else { Part::Moves };
            (part, last.map_or(bytes.len(), |at| at + 3))
        }
        [0x1b, b']' | b'P', rest @ ..] => {
            let end = find(rest, b"\x1b\\");
            (Part::Still, end.map_or(bytes.len(), |at| at + 4))
        }
        [0x1b, rest @ ..] => {
            let last = rest.iter().position(|byte| (0x30..=0x7e).contains(byte));
            // Those with a byte between choose characters.
            let part = if last == Some(0) {
                Part::Moves
            } else {
                Part::Still
            };
            (part, last.map_or(bytes.len(), |at| at + 2))
        }
        [0x07 | 0x0e | 0x0f, ..] => (Part::Still, 1),
        [0x00..=0x08 | 0x0a..=0x1f, ..] => (Part::Moves, 1),
        _ => {
            let ends = |byte: &u8| *byte < 0x20 && *byte != b'\t';
            (
                Part::Text,
                bytes.iter().position(ends).unwrap_or(bytes.len()),
            )
        }
    }
}

/// Whether a line can be one of a private key, also with something drawn beside it.
fn is_of_key(line: &[u8]) -> bool {
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    if KEY_FIELDS.iter().any(|field| find(line, field).is_some()) {
        return true;
    }
    let words = line
        .split(|byte| !is_key(byte))
        .filter(|word| !word.is_empty());
    // The number of the line stands before it.
    words.count() <= 2
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
