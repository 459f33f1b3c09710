//! What somebody said: its length and digest, and the text as long as there is room for it.

use std::fmt;

use sha2::{Digest as _, Sha256};
use stockade_types::{Digest, RawText};

use crate::limits::{NAME_BYTES_MAX, SHORT_BYTES_MAX, TEXT_BYTES_MAX};

/// A text that was said. It is not written by `Debug`, and by nothing else of this crate: what of it is
/// stored is for who records it to decide.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    bytes: u64,
    digest: Digest,
    text: Option<Vec<u8>>,
}

impl Content {
    /// Takes a text that is whole.
    pub fn of(text: &[u8]) -> Self {
        let mut growing = Growing::default();
        let mut room = usize::MAX;
        growing.push(text, &mut room);
        growing.content()
    }

    /// Returns its length in bytes, escapes of JSON resolved.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns its SHA-256.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the text itself, if there was room for it; it need not be UTF-8.
    pub fn text(&self) -> Option<&[u8]> {
        self.text.as_deref()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes, {})", self.bytes, self.digest.short())
    }
}

/// A text whose pieces come one after the other. However it is cut, the same comes of it.
#[derive(Clone)]
pub(crate) struct Growing {
    kept: Vec<u8>,
    /// Bytes up to which it is kept.
    max: usize,
    bytes: u64,
    /// Bytes of the room for all texts that it takes.
    charged: usize,
    /// Hashes a text that is not kept.
    hash: Option<Sha256>,
}

impl Default for Growing {
    fn default() -> Self {
        Self::up_to(TEXT_BYTES_MAX)
    }
}

impl Growing {
    /// Begins a text that is kept up to so many bytes.
    pub(crate) const fn up_to(max: usize) -> Self {
        Self {
            kept: Vec::new(),
            max,
            bytes: 0,
            charged: 0,
            hash: None,
        }
    }

    /// Adds a piece; `room` is what all longer texts together may still take.
    pub(crate) fn push(&mut self, piece: &[u8], room: &mut usize) {
        if piece.is_empty() {
            return;
        }
        let more = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(more);
        if let Some(hash) = &mut self.hash {
            hash.update(piece);
            return;
        }
        let length = self.kept.len().saturating_add(piece.len());
        let charge = if length <= SHORT_BYTES_MAX { 0 } else { length };
        let added = charge - self.charged;
        if length <= self.max && added <= *room {
            *room -= added;
            self.charged = charge;
            self.kept.extend_from_slice(piece);
            return;
        }
        let mut hash = Sha256::new();
        hash.update(&self.kept);
        hash.update(piece);
        self.hash = Some(hash);
        *room += self.charged;
        self.charged = 0;
        self.kept = Vec::new();
    }

    /// Returns the bytes of the room for all texts that it takes.
    pub(crate) const fn charged(&self) -> usize {
        self.charged
    }

    /// Returns its length in bytes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the text, if it is kept.
    pub(crate) fn text(&self) -> Option<&[u8]> {
        self.hash.is_none().then_some(&self.kept)
    }

    /// Says what was said.
    pub(crate) fn content(&self) -> Content {
        let digest = match &self.hash {
            Some(hash) => Digest::from_bytes(hash.clone().finalize().into()),
            None => Digest::of(&self.kept),
        };
        Content {
            bytes: self.bytes,
            digest,
            text: self.text().map(<[u8]>::to_vec),
        }
    }
}

impl fmt::Debug for Growing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Growing({} bytes)", self.bytes)
    }
}

/// Makes a name of a text, cut to its bound.
pub(crate) fn name(text: &[u8]) -> RawText {
    let mut end = text.len().min(NAME_BYTES_MAX);
    // A character is not cut in two.
    while end > 0 && text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    RawText::from_bytes(text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{Content, Growing, name};
    use crate::limits::{NAME_BYTES_MAX, SHORT_BYTES_MAX, TEXT_BYTES_MAX};

    /// Cutting changes nothing, at each bound and with little room.
    #[test]
    fn however_a_text_is_cut_the_same_comes_of_it() {
        for length in [
            0,
            SHORT_BYTES_MAX,
            SHORT_BYTES_MAX + 1,
            1000,
            TEXT_BYTES_MAX,
            TEXT_BYTES_MAX + 1,
        ] {
            let text = vec![b'x'; length];
            for room in [0, 1000, usize::MAX / 2] {
                let (mut one, mut many) = (Growing::default(), Growing::default());
                let (mut left, mut other) = (room, room);
                one.push(&text, &mut left);
                text.chunks(77)
                    .for_each(|piece| many.push(piece, &mut other));
                assert_eq!(one.content(), many.content(), "{length} {room}");
                assert_eq!((left, one.charged()), (other, many.charged()));
                assert_eq!(one.content().digest(), stockade_types::Digest::of(&text));
            }
        }
    }

    #[test]
    fn a_text_is_not_in_its_debug_form() {
        assert!(!format!("{:?}", Content::of(b"said")).contains("said"));
    }

    #[test]
    fn a_name_is_cut_between_characters() {
        let long = "é".repeat(NAME_BYTES_MAX);
        assert_eq!(name(long.as_bytes()).as_bytes().len(), NAME_BYTES_MAX);
        let odd = format!("x{long}");
        assert_eq!(name(odd.as_bytes()).as_bytes().len(), NAME_BYTES_MAX - 1);
        assert_eq!(name(b"\xff\xfe").as_bytes(), b"\xff\xfe");
    }
}
