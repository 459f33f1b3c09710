//! Host names, addresses and ports in the one canonical form that policy, DNS, SNI, `Host` and
//! configuration share.

use std::{fmt, net::IpAddr, num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest host name in its text form (RFC 1035 section 2.3.4, without the root label).
const NAME_BYTES_MAX: usize = 253;
/// Longest label (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// Why a text is not a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing was given.
    #[error("a host name cannot be empty")]
    Empty,
    /// Longer than DNS can carry.
    #[error("`{0}` is longer than {NAME_BYTES_MAX} bytes")]
    TooLong(String),
    /// A label is empty, too long or has a character that host names do not have.
    #[error("`{name}` has a label that is not valid: `{label}`")]
    Label {
        /// The whole text.
        name: String,
        /// The offending label.
        label: String,
    },
    /// IDNA processing refused it (UTS 46, non-transitional).
    #[error("`{0}` is not a valid internationalised name")]
    Idna(String),
    /// It reads as an address in one of the historic spellings (`2130706433`, `0x7f.1`).
    #[error("`{0}` is a number, not a name; write addresses in dotted or colon form")]
    Numeric(String),
}

/// A host name as lower-case A-labels without a trailing dot.
///
/// A name is never an address: text whose last label is numeric is refused (WHATWG URL, "ends in
/// a number"), so `127.1` or `0x7f.0.0.1` cannot slip through as a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// Returns the canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Iterates over the labels from the top-level domain down, as a label trie needs them.
    pub fn labels_rev(&self) -> impl Iterator<Item = &str> {
        self.0.rsplit('.')
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let bare = text.strip_suffix('.').unwrap_or(text);
        if bare.is_empty() {
            return Err(HostError::Empty);
        }
        if bare.len() > 4 * NAME_BYTES_MAX {
            return Err(HostError::TooLong(text.chars().take(64).collect()));
        }
        let ascii = if bare.is_ascii() {
            bare.to_ascii_lowercase()
        } else {
            bare.to_owned()
        };
        let name = idna::domain_to_ascii_strict(&ascii).or_else(|_| underscored(&ascii, text))?;
        if name.len() > NAME_BYTES_MAX {
            return Err(HostError::TooLong(name));
        }
        for label in name.split('.') {
            let valid = !label.is_empty()
                && label.len() <= LABEL_BYTES_MAX
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !valid {
                return Err(HostError::Label {
                    name: text.to_owned(),
                    label: label.to_owned(),
                });
            }
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        let hexadecimal = last
            .strip_prefix("0x")
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
        if hexadecimal || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(HostError::Numeric(text.to_owned()));
        }
        Ok(Self(name))
    }
}

/// Accepts the underscore in service names (`_dmarc.example`), which strict IDNA refuses.
fn underscored(ascii: &str, original: &str) -> Result<String, HostError> {
    let plain = ascii.is_ascii() && !ascii.split('.').any(|label| label.starts_with("xn--"));
    if plain && ascii.contains('_') {
        return Ok(ascii.to_owned());
    }
    if plain {
        // Make the label check below name the wrong label.
        let label = ascii
            .split('.')
            .find(|l| {
                l.is_empty()
                    || l.len() > LABEL_BYTES_MAX
                    || l.starts_with('-')
                    || l.ends_with('-')
                    || !l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            })
            .map(str::to_owned);
        return label.map_or_else(
            || Ok(ascii.to_owned()),
            |label| {
                Err(HostError::Label {
                    name: original.to_owned(),
                    label,
                })
            },
        );
    }
    Err(HostError::Idna(original.to_owned()))
}

impl TryFrom<String> for HostName {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name or an address that a program wants to reach.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// A canonical name.
    Name(HostName),
    /// An address; IPv4-mapped IPv6 is folded to IPv4.
    Address(IpAddr),
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let inner = text
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(address) = inner.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        text.parse().map(Self::Name)
    }
}

impl TryFrom<String> for Host {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.to_string()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A TCP or UDP port, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(NonZeroU16);

impl Port {
    /// Returns the port, or `None` for zero.
    pub const fn new(port: u16) -> Option<Self> {
        match NonZeroU16::new(port) {
            Some(port) => Some(Self(port)),
            None => None,
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Host, HostError, HostName};

    fn canonical(text: &str) -> Result<String, HostError> {
        text.parse::<HostName>().map(String::from)
    }

    #[test]
    fn equal_names_have_one_form() {
        for text in [
            "GOOD.test",
            "good.test.",
            "good.test",
            "ｇｏｏｄ.test",
            "good。test",
        ] {
            assert_eq!(canonical(text).as_deref(), Ok("good.test"), "{text}");
        }
        assert_eq!(
            canonical("bücher.test").as_deref(),
            Ok("xn--bcher-kva.test")
        );
        assert_eq!(
            canonical("XN--BCHER-KVA.test").as_deref(),
            Ok("xn--bcher-kva.test")
        );
    }

    #[test]
    fn lookalikes_stay_different() {
        // Cyrillic "о": a different A-label, so no rule for the Latin name can match it.
        let cyrillic = canonical("g\u{43e}od.test").unwrap();
        assert!(cyrillic.starts_with("xn--"), "{cyrillic}");
    }

    #[test]
    fn broken_names_are_refused() {
        let long = format!("{}.test", "a".repeat(64));
        for text in [
            "",
            ".",
            ".good.test",
            "good..test",
            "-a.test",
            "a b.test",
            "a\0.test",
            &long,
        ] {
            assert!(canonical(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_not_names() {
        for text in [
            "2130706433",
            "0x7f.1",
            "0177.1",
            "127.1",
            "0",
            "1.2.3.4.5",
            "0x7f000001",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_folded() {
        let mapped: Host = "[::ffff:127.0.0.1]".parse().unwrap();
        assert_eq!(mapped, "127.0.0.1".parse().unwrap());
    }
}
