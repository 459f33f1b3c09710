//! Frames of AWS's event streams (`application/vnd.amazon.eventstream`), each of whose payloads is JSON.
//!
//! A frame has its length, that of its headers and a checksum, four bytes each, then headers, payload, and
//! another checksum. Checksums are not looked at: a client that sees a wrong one ends the call.

use crate::{
    json::{Extent, Json, Shape},
    limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES_MAX},
    tree::Tree,
};

/// Bytes before the headers.
const PRELUDE: usize = 12;
/// Bytes behind the payload.
const CHECKSUM: u32 = 4;
/// The header that says what an event is.
const EVENT: &[u8] = b":event-type";
/// The header that says what an error is.
const EXCEPTION: &[u8] = b":exception-type";

/// A stream while it is read.
#[derive(Debug)]
pub(crate) struct Frames {
    shape: Shape,
    part: Part,
    /// Bytes of the part so far.
    bytes: Vec<u8>,
    payload: Json,
}

/// Where in a frame it is.
#[derive(Clone, Debug)]
enum Part {
    Prelude,
    /// So many bytes of headers, and of payload behind them.
    Headers(usize, u32),
    /// So many bytes are missing of the payload of an event.
    Payload(Vec<u8>, u32),
    /// So many bytes are missing of what is not looked at.
    Rest(u32),
    /// It is no such stream.
    Broken,
}

impl Frames {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            part: Part::Prelude,
            bytes: Vec::new(),
            payload: Json::new(shape),
        }
    }

    /// Reads on; `take` is given each event once it is whole: an object with its kind as the only member.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Option<Tree>, Extent)) {
        while !bytes.is_empty() {
            match std::mem::replace(&mut self.part, Part::Broken) {
                Part::Prelude => {
                    self.part = match self.collect(&mut bytes, PRELUDE) {
                        None => Part::Prelude,
                        Some(prelude) => lengths(&prelude),
                    };
                }
                Part::Headers(length, payload) => {
                    self.part = match self.collect(&mut bytes, length) {
                        None => Part::Headers(length, payload),
                        Some(headers) => Part::Payload(kind(&headers).unwrap_or_default(), payload),
                    };
                }
                Part::Payload(kind, left) => {
                    let (part, rest) = split(bytes, left);
                    bytes = rest;
                    self.payload.feed(part);
                    let left = left - u32::try_from(part.len()).unwrap_or(left);
                    self.part = if left > 0 {
                        Part::Payload(kind, left)
                    } else {
                        self.end(kind, take);
                        Part::Rest(CHECKSUM)
                    };
                }
                Part::Rest(left) => {
                    let (part, rest) = split(bytes, left);
                    bytes = rest;
                    let left = left - u32::try_from(part.len()).unwrap_or(left);
                    self.part = if left > 0 {
                        Part::Rest(left)
                    } else {
                        Part::Prelude
                    };
                }
                Part::Broken => return,
            }
        }
    }

    /// Collects so many bytes; `None` as long as they are not all there.
    fn collect(&mut self, bytes: &mut &[u8], length: usize) -> Option<Vec<u8>> {
        let missing = length.saturating_sub(self.bytes.len());
        let (part, rest) = bytes.split_at(missing.min(bytes.len()));
        *bytes = rest;
        self.bytes.extend_from_slice(part);
        (self.bytes.len() >= length).then(|| std::mem::take(&mut self.bytes))
    }

    fn end(&mut self, kind: Vec<u8>, take: &mut impl FnMut(Option<Tree>, Extent)) {
        let payload = std::mem::replace(&mut self.payload, Json::new(self.shape));
        let (tree, extent) = payload.finish();
        take(tree.map(|tree| Tree::Object(vec![(kind, tree)])), extent);
    }

    /// Tells whether the stream ended between two events.
    pub(crate) fn is_between(&self) -> bool {
        matches!(self.part, Part::Prelude) && self.bytes.is_empty()
    }
}

fn split(bytes: &[u8], length: u32) -> (&[u8], &[u8]) {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    bytes.split_at(length.min(bytes.len()))
}

/// Reads the lengths of a frame.
fn lengths(prelude: &[u8]) -> Part {
    let number = |at: usize| {
        let bytes = prelude.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    };
    let (Some(whole), Some(headers)) = (number(0), number(4)) else {
        return Part::Broken;
    };
    let around = u32::try_from(PRELUDE).unwrap_or_default() + CHECKSUM;
    let inner = whole
        .checked_sub(around)
        .filter(|_| whole <= FRAME_BYTES_MAX);
    let payload = inner.and_then(|inner| inner.checked_sub(headers));
    match (payload, usize::try_from(headers)) {
        (Some(0), Ok(_)) => Part::Rest(headers + CHECKSUM),
        (Some(payload), Ok(0)) => Part::Payload(Vec::new(), payload),
        (Some(payload), Ok(headers)) if headers <= FRAME_HEADER_BYTES_MAX => {
            Part::Headers(headers, payload)
        }
        _ => Part::Broken,
    }
}

/// Finds what an event is among the headers.
fn kind(mut headers: &[u8]) -> Option<Vec<u8>> {
    loop {
        let (length, rest) = headers.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (sort, rest) = rest.split_first()?;
        let (value, rest) = match sort {
            0 | 1 => (&[][..], rest),
            2 => rest.split_at_checked(1)?,
            3 => rest.split_at_checked(2)?,
            4 => rest.split_at_checked(4)?,
            5 | 8 => rest.split_at_checked(8)?,
            6 | 7 => {
                let (length, rest) = rest.split_at_checked(2)?;
                let length = u16::from_be_bytes(length.try_into().ok()?);
                rest.split_at_checked(usize::from(length))?
            }
            9 => rest.split_at_checked(16)?,
            _ => return None,
        };
        if name == EVENT || name == EXCEPTION {
            return Some(value.to_vec());
        }
        headers = rest;
    }
}
