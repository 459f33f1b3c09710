//! Bytes from outside, stored without loss and displayed safely.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A byte string from Linux (path, argument), which need not be UTF-8.
///
/// In JSON it is a string in which a backslash is doubled and every byte that is not part of
/// valid UTF-8 is `\xHH`, so the text is readable and the bytes come back exactly.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RawText(Vec<u8>);

impl RawText {
    /// Wraps bytes.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Copies an OS string.
    pub fn from_os(text: &OsStr) -> Self {
        Self(text.as_bytes().to_vec())
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes as an OS string.
    pub fn to_os(&self) -> OsString {
        OsString::from_vec(self.0.clone())
    }

    /// Returns the text for a terminal or a page: control, bidirectional, zero-width and other
    /// invisible characters become `\u{…}`, bytes that are not UTF-8 become `\xHH`.
    pub fn display(&self) -> String {
        let mut text = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                push_visible(&mut text, c);
            }
            push_invalid(&mut text, chunk.invalid());
        }
        text
    }

    /// Returns whether [`Self::display`] escaped anything, which deserves a warning.
    pub fn has_hidden(&self) -> bool {
        self.0
            .utf8_chunks()
            .any(|chunk| !chunk.invalid().is_empty() || chunk.valid().chars().any(is_hidden))
    }

    fn encode(&self) -> String {
        let mut text = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c == '\\' {
                    text.push('\\');
                }
                text.push(c);
            }
            push_invalid(&mut text, chunk.invalid());
        }
        text
    }

    fn decode(text: &str) -> Option<Self> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((plain, escape)) = rest.split_once('\\') {
            bytes.extend_from_slice(plain.as_bytes());
            if let Some(after) = escape.strip_prefix('\\') {
                bytes.push(b'\\');
                rest = after;
            } else {
                let hex = escape.strip_prefix('x')?;
                let digits = hex.get(..2)?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = hex.get(2..)?;
            }
        }
        bytes.extend_from_slice(rest.as_bytes());
        Some(Self(bytes))
    }
}

/// Adds bytes that are not UTF-8, all of them above 0x7f, as `\xHH`.
fn push_invalid(text: &mut String, bytes: &[u8]) {
    text.extend(
        bytes
            .iter()
            .flat_map(|byte| byte.escape_ascii())
            .map(char::from),
    );
}

fn push_visible(text: &mut String, c: char) {
    if is_hidden(c) {
        text.extend(c.escape_unicode());
    } else {
        text.push(c);
    }
}

/// Characters that a reader cannot see or that change how others are shown (UTS 39, Trojan Source
/// CVE-2021-42574): controls, bidirectional controls, joiners and other default-ignorables,
/// separators that break a line, tags, variation selectors, private use and non-characters.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0xAD | 0x34F | 0x61C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F
            | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0x3164
            | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB
            | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE000..=0xF8FF
            | 0xE0000..=0xE0FFF | 0xF0000..=0x0010_FFFF)
        || (c.is_whitespace() && c != ' ')
}

impl From<&str> for RawText {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Debug for RawText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.display())
    }
}

impl fmt::Display for RawText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display())
    }
}

impl Serialize for RawText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            // The common case: nearly every path is plain text.
            Ok(plain) if !plain.contains('\\') => serializer.serialize_str(plain),
            Ok(_) | Err(_) => serializer.serialize_str(&self.encode()),
        }
    }
}

impl<'de> Deserialize<'de> for RawText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::decode(&text).ok_or_else(|| {
            serde::de::Error::custom("a backslash must be followed by `\\` or `xHH`")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::RawText;

    #[test]
    fn every_byte_comes_back_from_json() {
        let bytes: Vec<u8> = (0..=255).chain(*b"\\x41 \xe2\x80\xae").collect();
        let raw = RawText::from_bytes(bytes);
        let json = serde_json::to_string(&raw).unwrap();
        assert!(!json.contains('\n'), "{json}");
        assert_eq!(serde_json::from_str::<RawText>(&json).unwrap(), raw);
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        let raw = RawText::from_bytes(b"rm\x1b[2K\xff \xe2\x80\xaecod".to_vec());
        assert_eq!(raw.display(), "rm\\u{1b}[2K\\xff \\u{202e}cod");
        assert!(raw.has_hidden());
        for hidden in [
            "\u{200b}",
            "\u{e0041}",
            "\u{e0100}",
            "\u{1d173}",
            "\u{1bca0}",
            "\u{2028}",
        ] {
            assert!(RawText::from(hidden).has_hidden(), "{hidden:?}");
        }
        assert!(!RawText::from("git push größe 漢字").has_hidden());
    }
}
