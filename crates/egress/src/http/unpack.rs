//! Bodies in a content coding, unpacked as they come into somebody who takes a bounded part of them.

use std::io::{self, Write};

use flate2::write::{MultiGzDecoder, ZlibDecoder};

use crate::{gate::count, limits::CALL_UNPACKED_BYTES_MAX};

/// Somebody who takes bytes.
pub(crate) trait Take {
    /// Takes the next ones.
    fn take(&mut self, bytes: &[u8]);
}

/// A body on its way to who takes it.
pub(crate) enum Unpack<R: Take> {
    /// As it is.
    Plain(R),
    /// Gzip (RFC 1952).
    Gzip(Box<MultiGzDecoder<Bounded<R>>>),
    /// Deflate, which is the zlib format (RFC 9110 section 8.4.1.2).
    Deflate(Box<ZlibDecoder<Bounded<R>>>),
    /// It could not be unpacked further.
    Failed(R),
}

/// Takes no more than a bound.
pub(crate) struct Bounded<R> {
    to: Option<R>,
    bytes: u64,
}

impl<R: Take> Write for Bounded<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes = self.bytes.saturating_add(count(bytes.len()));
        if self.bytes > CALL_UNPACKED_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if let Some(to) = &mut self.to {
            to.take(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<R: Take> Unpack<R> {
    /// Begins a body with these values of `Content-Encoding`.
    ///
    /// # Errors
    /// For a coding that is not known, or several.
    pub(crate) fn new<'f>(
        codings: impl Iterator<Item = &'f [u8]>,
        to: R,
    ) -> Result<Self, &'static str> {
        let mut named =
            codings.filter(|value| !value.is_empty() && !value.eq_ignore_ascii_case(b"identity"));
        let Some(coding) = named.next() else {
            return Ok(Self::Plain(to));
        };
        if named.next().is_some() {
            return Err("several codings");
        }
        let to = Bounded {
            to: Some(to),
            bytes: 0,
        };
        match coding.to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(to)))),
            b"deflate" => Ok(Self::Deflate(Box::new(ZlibDecoder::new(to)))),
            _ => Err("a coding that is not known"),
        }
    }

    /// Unpacks the next bytes.
    ///
    /// # Errors
    /// When they are not of the coding, or more than is unpacked; nothing more is taken then.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let (written, inner) = match self {
            Self::Plain(to) => {
                to.take(bytes);
                return Ok(());
            }
            Self::Failed(_) => return Ok(()),
            Self::Gzip(decoder) => (pass(&mut **decoder, bytes), decoder.get_mut()),
            Self::Deflate(decoder) => (pass(&mut **decoder, bytes), decoder.get_mut()),
        };
        let Err(error) = written else {
            return Ok(());
        };
        if let Some(to) = inner.to.take() {
            *self = Self::Failed(to);
        }
        Err(match error.kind() {
            io::ErrorKind::FileTooLarge => "more than is unpacked",
            _ => "its coding is not valid",
        })
    }

    /// Returns who took it; what was still to come is lost.
    pub(crate) fn into_inner(self) -> Option<R> {
        match self {
            Self::Plain(to) | Self::Failed(to) => Some(to),
            Self::Gzip(mut decoder) => decoder.get_mut().to.take(),
            Self::Deflate(mut decoder) => decoder.get_mut().to.take(),
        }
    }
}

/// Has bytes unpacked so that what comes of them is there at once.
fn pass(decoder: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    decoder.write_all(bytes)?;
    decoder.flush()
}
