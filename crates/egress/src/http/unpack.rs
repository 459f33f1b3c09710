//! Bodies in a content coding, unpacked as they come into somebody who takes a bounded part of them.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicUsize, Ordering},
};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use zstd::stream::write::Decoder;

use crate::{
    gate::count,
    limits::{
        CALL_UNPACKED_BYTES_MAX, CALLS_UNPACKED_MAX, UNPACK_PIECE_BYTES, ZSTD_WINDOW_LOG_MAX,
    },
};

/// Bodies in codings that take much memory, which are unpacked now.
static UNPACKED: AtomicUsize = AtomicUsize::new(0);

/// How a stream of brotli begins that wants a window of more than 16 MiB, in the last seven bits
/// (RFC 7932 section 9.1 has no such; it is an extension).
const LARGE_WINDOW: u8 = 0x11;

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
    /// Brotli (RFC 7932).
    Brotli(Box<DecompressorWriter<Bounded<R>>>, Place),
    /// Zstandard (RFC 8878).
    Zstd(
        Box<Decoder<'static, Bounded<R>>>,
        #[expect(dead_code, reason = "it counts until it is dropped")] Place,
    ),
    /// It could not be unpacked further.
    Failed(R),
}

/// Room for one body in such a coding.
pub(crate) struct Place {
    /// Some of it was unpacked.
    begun: bool,
}

impl Place {
    fn take() -> Result<Self, &'static str> {
        let before = UNPACKED.fetch_add(1, Ordering::Relaxed);
        // It is given back when this is dropped.
        let place = Self { begun: false };
        if before >= CALLS_UNPACKED_MAX {
            return Err("too many such codings at a time");
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        UNPACKED.fetch_sub(1, Ordering::Relaxed);
    }
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
            b"br" => {
                let decoder = DecompressorWriter::new(to, UNPACK_PIECE_BYTES);
                Ok(Self::Brotli(Box::new(decoder), Place::take()?))
            }
            b"zstd" => {
                const NONE: &str = "its coding cannot be prepared";
                let mut decoder = Decoder::new(to).map_err(|_| NONE)?;
                let bounded = decoder.window_log_max(ZSTD_WINDOW_LOG_MAX);
                bounded.map_err(|_| NONE)?;
                Ok(Self::Zstd(Box::new(decoder), Place::take()?))
            }
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
            Self::Brotli(decoder, place) => {
                let first = bytes.first().filter(|_| !place.begun);
                let is_large = first.is_some_and(|first| first & 0x7f == LARGE_WINDOW);
                place.begun |= !bytes.is_empty();
                let passed = if is_large {
                    Err(io::ErrorKind::InvalidData.into())
                } else {
                    pass(&mut **decoder, bytes)
                };
                (passed, decoder.get_mut())
            }
            Self::Zstd(decoder, _) => (pass(&mut **decoder, bytes), decoder.get_mut()),
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

    /// Returns who takes it.
    pub(crate) fn get_ref(&self) -> Option<&R> {
        match self {
            Self::Plain(to) | Self::Failed(to) => Some(to),
            Self::Gzip(decoder) => decoder.get_ref().to.as_ref(),
            Self::Deflate(decoder) => decoder.get_ref().to.as_ref(),
            Self::Brotli(decoder, _) => decoder.get_ref().to.as_ref(),
            Self::Zstd(decoder, _) => decoder.get_ref().to.as_ref(),
        }
    }

    /// Returns who takes it, to be asked.
    pub(crate) fn get_mut(&mut self) -> Option<&mut R> {
        match self {
            Self::Plain(to) | Self::Failed(to) => Some(to),
            Self::Gzip(decoder) => decoder.get_mut().to.as_mut(),
            Self::Deflate(decoder) => decoder.get_mut().to.as_mut(),
            Self::Brotli(decoder, _) => decoder.get_mut().to.as_mut(),
            Self::Zstd(decoder, _) => decoder.get_mut().to.as_mut(),
        }
    }

    /// Tells whether a body in gzip has its end; of other codings that is not asked.
    pub(crate) fn has_end(&mut self) -> bool {
        match self {
            Self::Gzip(decoder) => decoder.try_finish().is_ok(),
            Self::Plain(_) | Self::Deflate(_) | Self::Brotli(..) | Self::Zstd(..) => true,
            Self::Failed(_) => false,
        }
    }

    /// Returns who took it; what was still to come is lost.
    pub(crate) fn into_inner(self) -> Option<R> {
        match self {
            Self::Plain(to) | Self::Failed(to) => Some(to),
            Self::Gzip(mut decoder) => decoder.get_mut().to.take(),
            Self::Deflate(mut decoder) => decoder.get_mut().to.take(),
            Self::Brotli(mut decoder, _) => decoder.get_mut().to.take(),
            Self::Zstd(mut decoder, _) => decoder.get_mut().to.take(),
        }
    }
}

/// Has bytes unpacked so that what comes of them is there at once.
fn pass(decoder: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    decoder.write_all(bytes)?;
    decoder.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };
    use stockade_fuzz::{TRIES, Target};

    use super::{Take, Unpack};
    use crate::limits::CALL_UNPACKED_BYTES_MAX;

    #[derive(Default)]
    struct All(Vec<u8>);

    impl Take for All {
        fn take(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
    }

    /// Counts, where there would be too much to keep.
    #[derive(Default)]
    struct Counted(u64);

    impl Take for Counted {
        fn take(&mut self, bytes: &[u8]) {
            self.0 += u64::try_from(bytes.len()).unwrap();
        }
    }

    /// `{"a":"aaaa…"}` with 40 letters, in brotli (quality 11).
    const BROTLI: &[u8] = &[
        0x1b, 0x2f, 0x00, 0xf8, 0x8d, 0xd4, 0x62, 0xcd, 0x19, 0xee, 0x94, 0x22, 0x61, 0x7b, 0xa5,
        0xd3, 0x57, 0x92, 0xd8, 0x13, 0x08, 0x1c, 0x0b, 0x11,
    ];

    fn text() -> Vec<u8> {
        format!("{{\"a\":\"{}\"}}", "a".repeat(40)).into_bytes()
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn samples() -> Vec<(&'static str, Vec<u8>)> {
        let text = text();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&text).unwrap();
        let frame = zstd::encode_all(text.as_slice(), 3).unwrap();
        vec![
            ("identity", text.clone()),
            ("", text.clone()),
            ("gzip", gzip(&text)),
            ("X-Gzip", gzip(&text)),
            ("deflate", zlib.finish().unwrap()),
            ("br", BROTLI.to_vec()),
            ("zstd", frame),
        ]
    }

    fn unpacked(coding: &str, pieces: &[&[u8]]) -> (Vec<u8>, Result<(), &'static str>) {
        let mut unpack = Unpack::new([coding.as_bytes()].into_iter(), All::default())
            .ok()
            .unwrap();
        let fed = pieces.iter().try_for_each(|piece| unpack.feed(piece));
        (
            unpack.into_inner().map(|all| all.0).unwrap_or_default(),
            fed,
        )
    }

    /// However a body is coded and cut, the same comes of it, as soon as it is there.
    #[test]
    fn bodies_are_unpacked_as_they_come() {
        for (coding, body) in samples() {
            for cut in 0..=body.len() {
                let (one, two) = body.split_at(cut);
                assert_eq!(
                    unpacked(coding, &[one, two]),
                    (text(), Ok(())),
                    "{coding} {cut}"
                );
            }
        }
        for codings in [["gzip", "gzip"], ["gzip", "br"]] {
            let codings = codings.iter().map(|coding| coding.as_bytes());
            assert!(Unpack::new(codings, All::default()).is_err());
        }
        assert!(Unpack::new([&b"gzip, br"[..]].into_iter(), All::default()).is_err());
    }

    /// What is not of the coding, or unpacks to more than is read, ends it, and what came before counts.
    #[test]
    fn what_cannot_be_unpacked_ends_it() {
        for (coding, body) in samples().into_iter().skip(2) {
            let (_, fed) = unpacked(coding, &[b"no such coding at all", &body]);
            assert!(fed.is_err(), "{coding}");
        }
        let large = [0x11, 0x1e, 0, 0];
        assert!(unpacked("br", &[&large]).1.is_err());
        let zeros = vec![0; 1 << 20];
        let frame = zstd::encode_all(zeros.as_slice(), 1).unwrap();
        for (coding, bomb) in [("gzip", gzip(&zeros)), ("zstd", frame)] {
            let codings = [coding.as_bytes()].into_iter();
            let mut unpack = Unpack::new(codings, Counted::default()).ok().unwrap();
            let fed = (0..100).try_for_each(|_| unpack.feed(&bomb));
            assert_eq!(fed, Err("more than is unpacked"), "{coding}");
            let taken = unpack.into_inner().unwrap().0;
            assert!(taken > CALL_UNPACKED_BYTES_MAX / 2 && taken <= CALL_UNPACKED_BYTES_MAX);
        }
        // A window that is larger than what is held for one.
        let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
        wide.window_log(27).unwrap();
        wide.write_all(&vec![7; 1 << 24]).unwrap();
        assert!(unpacked("zstd", &[&wide.finish().unwrap()]).1.is_err());
    }

    #[test]
    fn fuzz_codings() {
        let samples = samples().into_iter().skip(2).map(|(_, body)| body);
        let target = Target {
            name: "codings",
            samples: samples.collect(),
            words: &[
                b"\x28\xb5\x2f\xfd",
                b"\x1f\x8b\x08",
                b"\x78\x9c",
                b"\0",
                b"\xff",
            ],
            tries: TRIES,
        };
        stockade_fuzz::target(&target, |body| {
            for coding in ["gzip", "deflate", "br", "zstd"] {
                let read = |size| {
                    let codings = [coding.as_bytes()].into_iter();
                    let mut unpack = Unpack::new(codings, Counted::default()).ok().unwrap();
                    let fed = body.chunks(size).try_for_each(|piece| unpack.feed(piece));
                    (fed, unpack.into_inner().unwrap().0)
                };
                let (fed, taken) = read(usize::MAX);
                assert!(taken <= CALL_UNPACKED_BYTES_MAX);
                if fed.is_ok() {
                    assert_eq!(read(3), (fed, taken), "{coding}");
                }
            }
        });
    }
}
