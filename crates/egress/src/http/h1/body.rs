//! How long a body is, followed while it passes.

use std::ops::Range;

use super::{
    Malformed,
    chunked::{Chunked, Manner, Piece},
};

/// The length of a body as its head states it (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body.
    Empty,
    /// This many bytes.
    Length(u64),
    /// Chunked coding.
    Chunked,
    /// Everything until the connection ends; responses only.
    UntilClose,
}

/// A body on its way.
#[derive(Debug)]
pub(crate) enum Body {
    /// So many bytes are missing.
    Counted(u64),
    /// Chunked coding says when.
    Chunked(Box<Chunked>),
    /// The end of the connection says when.
    UntilClose,
}

impl Body {
    pub(crate) fn new(framing: Framing, manner: Manner) -> Self {
        match framing {
            Framing::Empty => Self::Counted(0),
            Framing::Length(bytes) => Self::Counted(bytes),
            Framing::Chunked => Self::Chunked(Box::new(Chunked::new(manner))),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Tells whether nothing is missing.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Counted(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::UntilClose => false,
        }
    }

    /// The same, and adds which of the bytes are content rather than say how it is split up.
    pub(crate) fn feed_parts(
        &mut self,
        bytes: &[u8],
        content: &mut Vec<Range<usize>>,
    ) -> Result<usize, Malformed> {
        if let Self::Chunked(chunked) = self {
            return chunked.feed_parts(bytes, |part| content.push(part));
        }
        let ours = self.feed(bytes)?;
        content.push(0..ours);
        Ok(ours)
    }

    /// Takes bytes and returns how many of them belong to the body.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Counted(left) => {
                let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(*left);
                *left -= here;
                Ok(usize::try_from(here).unwrap_or(bytes.len()))
            }
            Self::Chunked(chunked) => chunked.feed(bytes),
            Self::UntilClose => Ok(bytes.len()),
        }
    }

    /// The same; `take` is given what the body carries.
    pub(crate) fn read(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Piece<'_>),
    ) -> Result<usize, Malformed> {
        if let Self::Chunked(chunked) = self {
            return chunked.read(bytes, take);
        }
        let ours = self.feed(bytes)?;
        take(Piece::Data(bytes.get(..ours).unwrap_or_default()));
        Ok(ours)
    }
}
