//! The chunked transfer coding (RFC 9112 section 7.1), checked while it passes.

use std::ops::Range;

use super::{Malformed, lines};
use crate::{
    http::Field,
    limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX},
};

/// How much is forgiven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Requests: digits and nothing else.
    Strict,
    /// Responses: extensions and padding, which old servers send and which only the client reads.
    Tolerant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { digits: u8, value: u64 },
    Extension { length: usize, value: u64 },
    SizeEnd { value: u64 },
    Data { left: u64 },
    DataReturn,
    DataEnd,
    Trailer,
    TrailerEnd,
    Done,
}

/// What the coding carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    /// Bytes of the body.
    Data(&'a [u8]),
    /// A field after the body.
    Trailer(Field<'a>),
}

/// Follows the coding byte by byte and says where it ends.
#[derive(Debug)]
pub(crate) struct Chunked {
    manner: Manner,
    state: State,
    line: Vec<u8>,
    trailer_bytes: usize,
}

/// Hexadecimal digits of a chunk size: 60 bits, so that nothing overflows.
const SIZE_DIGITS_MAX: u8 = 15;

impl Chunked {
    pub(crate) const fn new(manner: Manner) -> Self {
        Self {
            manner,
            state: State::Size {
                digits: 0,
                value: 0,
            },
            line: Vec::new(),
            trailer_bytes: 0,
        }
    }

    /// Tells whether the last byte was seen.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes bytes and returns how many of them belong to the body.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        self.read(bytes, |_| {})
    }

    /// The same; `take` is given what the coding carries.
    pub(crate) fn read(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Piece<'_>),
    ) -> Result<usize, Malformed> {
        self.walk(bytes, |_, piece| {
            if let Some(piece) = piece {
                take(piece);
            }
        })
    }

    /// The same; `content` is given the places of data and trailers.
    pub(crate) fn feed_parts(
        &mut self,
        bytes: &[u8],
        mut content: impl FnMut(Range<usize>),
    ) -> Result<usize, Malformed> {
        self.walk(bytes, |place, _| content(place))
    }

    fn walk(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Range<usize>, Option<Piece<'_>>),
    ) -> Result<usize, Malformed> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.is_done() {
                break;
            }
            if let State::Data { left } = self.state {
                let here = u64::try_from(bytes.len() - at)
                    .unwrap_or(u64::MAX)
                    .min(left);
                let end = at + usize::try_from(here).unwrap_or(bytes.len() - at);
                let data = Piece::Data(bytes.get(at..end).unwrap_or_default());
                take(at..end, Some(data));
                at = end;
                self.state = match left - here {
                    0 => State::DataReturn,
                    left => State::Data { left },
                };
                continue;
            }
            if self.state == State::TrailerEnd && *byte == b'\n' && !self.line.is_empty() {
                take(at..at, Some(Piece::Trailer(lines::field(&self.line)?)));
            }
            if self.state == State::Trailer {
                take(at..at + 1, None);
            }
            self.state = self.step(*byte)?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        match (self.state, byte) {
            (State::Size { digits, value }, digit) if digit.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS_MAX {
                    return Err(Malformed("a chunk size is too long"));
                }
                let digit = char::from(digit).to_digit(16).map_or(0, u64::from);
                Ok(State::Size {
                    digits: digits + 1,
                    value: (value << 4) | digit,
                })
            }
            (State::Size { digits: 1.., value } | State::Extension { value, .. }, b'\r') => {
                Ok(State::SizeEnd { value })
            }
            (State::Size { digits: 1.., value }, b';' | b' ' | b'\t')
                if self.manner == Manner::Tolerant =>
            {
                Ok(State::Extension { length: 0, value })
            }
            (State::Size { .. }, _) => Err(Malformed("a chunk size is not a hexadecimal number")),
            (State::Extension { .. }, 0 | b'\n') => {
                Err(Malformed("a control character in a chunk extension"))
            }
            (State::Extension { length, value }, _) if length < CHUNK_LINE_BYTES_MAX => {
                Ok(State::Extension {
                    length: length + 1,
                    value,
                })
            }
            (State::Extension { .. }, _) => Err(Malformed("a chunk extension is too long")),
            (State::SizeEnd { value: 0 }, b'\n') => Ok(State::Trailer),
            (State::SizeEnd { value }, b'\n') => Ok(State::Data { left: value }),
            (State::DataReturn, b'\r') => Ok(State::DataEnd),
            (State::DataEnd, b'\n') => Ok(State::Size {
                digits: 0,
                value: 0,
            }),
            (State::Trailer, b'\r') => Ok(State::TrailerEnd),
            (State::Trailer, b'\n') => Err(Malformed("a trailer line ends without `\\r`")),
            (State::Trailer, byte) => self.trailer_byte(byte),
            (State::TrailerEnd, b'\n') => self.trailer_end(),
            _ => Err(Malformed("a chunk does not end where its size says")),
        }
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<State, Malformed> {
        self.trailer_bytes += 1;
        if self.line.len() >= CHUNK_LINE_BYTES_MAX || self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(Malformed("the trailers are too long"));
        }
        self.line.push(byte);
        Ok(State::Trailer)
    }

    fn trailer_end(&mut self) -> Result<State, Malformed> {
        if self.line.is_empty() {
            return Ok(State::Done);
        }
        let line = std::mem::take(&mut self.line);
        let field = lines::field(&line)?;
        let framing = ["content-length", "transfer-encoding", "host", "trailer"];
        if self.manner == Manner::Strict && framing.iter().any(|name| field.is(name)) {
            return Err(Malformed(
                "a trailer that would change what the message means",
            ));
        }
        Ok(State::Trailer)
    }
}
