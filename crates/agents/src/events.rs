//! Server-sent events (WHATWG HTML, section 9.2), each of whose data is JSON.

use memchr::memchr2;

use crate::{
    json::{Extent, Json, Shape},
    tree::Tree,
};

/// Bytes of the name of a field that are looked at.
const NAME_BYTES_MAX: usize = 5;
/// What ends a stream of chat completions, and is no JSON.
const LAST: &[u8] = b"[DONE]";

/// A stream while it is read.
#[derive(Debug)]
pub(crate) struct Events {
    shape: Shape,
    line: Line,
    /// The last byte ended a line with a carriage return, so that a line feed is a part of it.
    after_return: bool,
    /// The event has data so far.
    has_data: bool,
    /// Its first bytes.
    first: Vec<u8>,
    data: Json,
}

/// Where in a line it is.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Name(Vec<u8>),
    /// Behind the colon of data, where one space is none of it.
    Space,
    Data,
    Other,
}

impl Events {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            line: Line::Name(Vec::new()),
            after_return: false,
            has_data: false,
            first: Vec::new(),
            data: Json::new(shape),
        }
    }

    /// Reads on; `take` is given each event once it is whole.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Option<Tree>, Extent)) {
        while let Some((&byte, rest)) = bytes.split_first() {
            let after_return = std::mem::take(&mut self.after_return);
            if after_return && byte == b'\n' {
                bytes = rest;
                continue;
            }
            if matches!(byte, b'\n' | b'\r') {
                bytes = rest;
                self.after_return = byte == b'\r';
                self.end_line(take);
                continue;
            }
            match &mut self.line {
                Line::Name(name) => {
                    bytes = rest;
                    if byte == b':' {
                        self.line = if name == b"data" {
                            self.begin_data();
                            Line::Space
                        } else {
                            Line::Other
                        };
                    } else if name.len() < NAME_BYTES_MAX {
                        name.push(byte);
                    }
                }
                Line::Space => {
                    self.line = Line::Data;
                    if byte == b' ' {
                        bytes = rest;
                    }
                }
                Line::Data => {
                    let end = memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
                    let (part, after) = bytes.split_at(end);
                    bytes = after;
                    let room = LAST.len().saturating_sub(self.first.len());
                    self.first.extend(part.iter().take(room));
                    self.data.feed(part);
                }
                Line::Other => {
                    let end = memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
                    bytes = bytes.split_at(end).1;
                }
            }
        }
    }

    fn begin_data(&mut self) {
        if std::mem::replace(&mut self.has_data, true) {
            self.data.feed(b"\n");
        }
    }

    fn end_line(&mut self, take: &mut impl FnMut(Option<Tree>, Extent)) {
        let line = std::mem::replace(&mut self.line, Line::Name(Vec::new()));
        if line != Line::Name(Vec::new()) || !std::mem::take(&mut self.has_data) {
            return;
        }
        let data = std::mem::replace(&mut self.data, Json::new(self.shape));
        let first = std::mem::take(&mut self.first);
        if first != LAST && !data.is_empty() {
            let (tree, extent) = data.finish();
            take(tree, extent);
        }
    }

    /// Tells whether the stream ended between two events.
    pub(crate) fn is_between(&self) -> bool {
        !self.has_data && self.line == Line::Name(Vec::new())
    }
}
