//! Takes values out of what servers answer: whatever has a value, in the forms in which programs
//! usually write one, gets something else of the same length in its place.
//!
//! What was not passed on is held back only where it could be the beginning of a value, so that a
//! stream stays one.

use std::{borrow::Cow, ops::Range};

use aho_corasick::{AhoCorasick, BuildError, MatchKind};
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};

/// Bytes that base64 puts into four letters.
const GROUP: usize = 3;

/// What is searched for, for one host.
#[derive(Debug)]
pub(crate) struct Scrubber {
    search: AhoCorasick,
    /// By the number of the pattern: what is searched for, and what takes its place.
    forms: Vec<(Vec<u8>, Vec<u8>)>,
    longest: usize,
}

impl Scrubber {
    /// Prepares it for placeholders and their values.
    pub(crate) fn new(pairs: &[(&str, &str)]) -> Result<Self, BuildError> {
        let mut forms: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (placeholder, value) in pairs {
            for (form, other) in self::forms(value).into_iter().zip(self::forms(placeholder)) {
                if !form.is_empty() && !forms.iter().any(|(old, _)| *old == form) {
                    let other = fitted(&other, form.len());
                    forms.push((form, other));
                }
            }
        }
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(forms.iter().map(|(form, _)| form))?;
        let longest = forms.iter().map(|(form, _)| form.len()).max();
        Ok(Self {
            search,
            forms,
            longest: longest.unwrap_or_default(),
        })
    }

    /// Takes values out of bytes that are complete.
    pub(crate) fn clean(&self, bytes: &mut [u8]) {
        let whole = 0..bytes.len();
        self.replace(bytes, &[whole]);
    }

    /// Replaces all values in the parts of `bytes` that `ranges` are, read one after the other; returns
    /// where the last one ends there.
    fn replace(&self, bytes: &mut [u8], ranges: &[Range<usize>]) -> usize {
        let text = joined(bytes, ranges).into_owned();
        let mut end = 0;
        for found in self.search.find_iter(&text) {
            end = found.end();
            let Some((_, other)) = self.forms.get(found.pattern().as_usize()) else {
                continue;
            };
            let places = ranges.iter().cloned().flatten();
            let places = places.skip(found.start()).take(other.len());
            for (place, byte) in places.zip(other) {
                if let Some(old) = bytes.get_mut(place) {
                    *old = *byte;
                }
            }
        }
        end
    }

    /// Returns how many bytes at the end of `text`, none before `from`, could be the beginning of a
    /// value.
    fn open(&self, text: &[u8], from: usize) -> usize {
        let first = text.len().saturating_sub(self.longest.saturating_sub(1));
        let mut starts = first.max(from)..text.len();
        let begins = |rest: &[u8]| {
            let mut forms = self.forms.iter();
            forms.any(|(form, _)| form.len() > rest.len() && form.starts_with(rest))
        };
        let start = starts.find(|start| text.get(*start..).is_some_and(begins));
        start.map_or(0, |start| text.len() - start)
    }
}

/// The body of one answer, on its way through a [`Scrubber`].
#[derive(Debug, Default)]
pub(crate) struct Passage {
    /// What is held back.
    bytes: Vec<u8>,
    /// Which parts of it are content; the rest says how the content is split up.
    content: Vec<Range<usize>>,
}

impl Passage {
    /// Takes bytes whose parts `content` are content, and returns what can be passed on: everything,
    /// where `is_last`.
    pub(crate) fn push(
        &mut self,
        scrubber: &Scrubber,
        bytes: &[u8],
        content: &[Range<usize>],
        is_last: bool,
    ) -> Vec<u8> {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let moved = content
            .iter()
            .map(|part| part.start + before..part.end + before);
        self.content.extend(moved);
        let end = scrubber.replace(&mut self.bytes, &self.content);
        let open = if is_last {
            0
        } else {
            scrubber.open(&joined(&self.bytes, &self.content), end)
        };
        if open == 0 {
            self.content.clear();
            return std::mem::take(&mut self.bytes);
        }
        let places = self.content.iter().cloned().flatten();
        let length: usize = self.content.iter().map(ExactSizeIterator::len).sum();
        let mut held = places.skip(length - open);
        let from = held.next().unwrap_or(self.bytes.len());
        let rest = self.bytes.split_off(from);
        let parts = self.content.iter().filter(|part| part.end > from);
        self.content = parts
            .map(|part| part.start.max(from) - from..part.end - from)
            .collect();
        std::mem::replace(&mut self.bytes, rest)
    }
}

/// Returns the parts of `bytes` one after the other.
fn joined<'b>(bytes: &'b [u8], parts: &[Range<usize>]) -> Cow<'b, [u8]> {
    if let [one] = parts {
        return Cow::Borrowed(bytes.get(one.clone()).unwrap_or_default());
    }
    let parts = parts.iter().filter_map(|part| bytes.get(part.clone()));
    Cow::Owned(parts.collect::<Vec<_>>().concat())
}

/// Returns the forms of a value: as it is, as in JSON, as in addresses, in hexadecimal digits, and as
/// base64 has it wherever it begins.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let hex = |letters: Letters| -> Vec<u8> {
        let digits = letters.digits();
        let digit = |at: u8| digits.get(usize::from(at)).copied().unwrap_or_default();
        value
            .bytes()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect()
    };
    let json = value.replace('\\', "\\\\").replace('"', "\\\"");
    let mut forms = vec![
        value.as_bytes().to_vec(),
        json.clone().into_bytes(),
        json.replace('/', "\\/").into_bytes(),
        percent_encoded(value, Letters::Lower).into_bytes(),
        percent_encoded(value, Letters::Upper).into_bytes(),
        hex(Letters::Lower),
        hex(Letters::Upper),
    ];
    forms.extend((0..GROUP).map(|before| base64_within(value, before)));
    forms
}

/// Returns the letters of base64 that a value alone decides, where `before` bytes of its first group
/// are something else's.
fn base64_within(value: &str, before: usize) -> Vec<u8> {
    let padded = [vec![0; before], value.as_bytes().to_vec()].concat();
    let text = BASE64_STANDARD_NO_PAD.encode(&padded);
    let skipped = if before == 0 { 0 } else { before + 1 };
    let whole = padded.len() / GROUP * (GROUP + 1);
    text.as_bytes()
        .get(skipped..whole)
        .unwrap_or_default()
        .to_vec()
}

/// Makes a text of another one that has `length` bytes.
fn fitted(text: &[u8], length: usize) -> Vec<u8> {
    if text.is_empty() {
        return vec![b'*'; length];
    }
    text.iter().copied().cycle().take(length).collect()
}

/// How hexadecimal digits are written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Letters {
    Upper,
    Lower,
}

impl Letters {
    const fn digits(self) -> &'static [u8; 16] {
        match self {
            Self::Upper => b"0123456789ABCDEF",
            Self::Lower => b"0123456789abcdef",
        }
    }
}

/// Writes a value as a query has it (RFC 3986 section 2.1).
pub(crate) fn percent_encoded(value: &str, letters: Letters) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            let digits = letters.digits();
            let digit = |at: u8| digits.get(usize::from(at)).copied().map_or('0', char::from);
            text.extend([digit(byte >> 4), digit(byte & 15)]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use base64::{Engine as _, prelude::BASE64_STANDARD};

    use super::{Passage, Scrubber};

    const VALUE: &str = "s3cr3t/value+0123456789";
    const PLACEHOLDER: &str = "placeholder-0123456789ab";

    fn whole(bytes: &[u8]) -> [Range<usize>; 1] {
        let all = 0..bytes.len();
        [all]
    }

    fn scrubber() -> Scrubber {
        Scrubber::new(&[(PLACEHOLDER, VALUE)]).unwrap()
    }

    /// However an answer is cut into pieces, no form of the value comes out, nothing changes its
    /// length, and nothing else changes.
    #[test]
    fn no_form_of_a_value_passes_however_it_is_cut() {
        let scrubber = scrubber();
        let hex = VALUE
            .bytes()
            .fold(String::new(), |all, byte| format!("{all}{byte:02x}"));
        for form in [
            VALUE.to_owned(),
            VALUE.replace('/', "\\/"),
            VALUE.replace('/', "%2F").replace('+', "%2B"),
            VALUE.replace('/', "%2f").replace('+', "%2b"),
            hex.to_uppercase(),
            hex,
        ] {
            let text = format!("begin {form} s3cr3t {form}");
            for cut in 0..=text.len() {
                let (one, two) = text.as_bytes().split_at(cut);
                let mut passage = Passage::default();
                let mut out = passage.push(&scrubber, one, &whole(one), false);
                out.extend(passage.push(&scrubber, two, &whole(two), true));
                let out = String::from_utf8(out).unwrap();
                assert_eq!(out.len(), text.len());
                assert!(!out.contains(&form), "{cut}: {out}");
                assert!(
                    out.starts_with("begin ") && out.contains(" s3cr3t "),
                    "{out}"
                );
            }
        }
    }

    #[test]
    fn a_value_inside_base64_does_not_pass_wherever_it_begins() {
        let scrubber = scrubber();
        for user in ["", "a", "ab", "abc", "lab:"] {
            let mut text = BASE64_STANDARD
                .encode(format!("{user}{VALUE}"))
                .into_bytes();
            scrubber.clean(&mut text);
            let plain = BASE64_STANDARD.decode(&text).unwrap();
            let plain = String::from_utf8_lossy(&plain).into_owned();
            assert!(!plain.contains(&VALUE[2..VALUE.len() - 2]), "{plain}");
        }
    }

    /// What says how content is split up stays, and does not hide a value.
    #[test]
    fn a_value_that_chunks_cut_does_not_pass() {
        let scrubber = scrubber();
        let (one, two) = VALUE.split_at(7);
        let text = format!("7\r\n{one}\r\n10\r\n{two}\r\n");
        let parts = [3..10, 16..32];
        let mut passage = Passage::default();
        let out = passage.push(&scrubber, text.as_bytes(), &parts, true);
        assert_eq!(out, b"7\r\nplaceho\r\n10\r\nlder-0123456789a\r\n");
    }

    /// Only what could be the beginning of a value is held back.
    #[test]
    fn a_stream_stays_one() {
        let scrubber = scrubber();
        let mut passage = Passage::default();
        let mut push =
            |text: &str| passage.push(&scrubber, text.as_bytes(), &whole(text.as_bytes()), false);
        assert_eq!(push("data: one\n\n"), b"data: one\n\n");
        assert_eq!(push("data: s3cr"), b"data: ");
        assert_eq!(push("et\n\n"), b"s3cret\n\n");
    }
}
