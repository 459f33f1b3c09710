//! Patterns of protected paths.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Glob, glob::Case};

/// A pattern of protected paths, `name/x` or `dir/**`, taken apart once, because it is compared
/// with every name in a workspace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(from = "String", into = "String")]
pub struct ProtectedPattern {
    text: String,
    parts: Vec<Part>,
}

impl ProtectedPattern {
    /// Returns the pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl From<String> for ProtectedPattern {
    fn from(text: String) -> Self {
        let parts = text.split('/').map(Part::of).collect();
        Self { text, parts }
    }
}

impl From<ProtectedPattern> for String {
    fn from(pattern: ProtectedPattern) -> Self {
        pattern.text
    }
}

impl fmt::Display for ProtectedPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One part of a pattern; ASCII case never matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// `**`: any number of components.
    Many,
    /// A name without a star.
    Name(String),
    /// `*` and the end of a name.
    End(String),
    /// Any other; a text that is not a glob matches nothing.
    Glob(Option<Glob>),
}

impl Part {
    pub(crate) fn of(text: &str) -> Self {
        let special = |text: &str| text.contains(['*', '{', '}', '\\']);
        match text.strip_prefix('*') {
            Some("*") => Self::Many,
            None if !text.contains('*') => Self::Name(text.to_owned()),
            Some(end) if !special(end) => Self::End(end.to_owned()),
            _ => Self::Glob(Glob::parse(text).ok()),
        }
    }

    /// Returns the first byte of every name that it matches, in either case; `None` if that is not
    /// fixed.
    pub(crate) fn first_byte(&self) -> Option<u8> {
        match self {
            Self::Name(name) => name.bytes().next(),
            Self::Many | Self::End(_) | Self::Glob(_) => None,
        }
    }

    pub(crate) fn fits(&self, component: &[u8]) -> bool {
        match self {
            Self::Many => true,
            Self::Name(name) => name.as_bytes().eq_ignore_ascii_case(component),
            Self::End(end) => component
                .len()
                .checked_sub(end.len())
                .and_then(|at| component.get(at..))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(end.as_bytes())),
            Self::Glob(glob) => {
                let glob = glob.as_ref();
                glob.is_some_and(|glob| glob.matches(component, Case::Ignore))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, Glob, Part};

    #[test]
    fn wildcards_by_hand_are_globs() {
        for pattern in ["*.x", "*", "*a*", "a*", "*{a,b}", "**x", "plain"] {
            let glob = Glob::parse(pattern).unwrap();
            for name in ["", "x", ".x", "a.X", "A", "ba", "bab", "plain", "{a,b}"] {
                let expected = glob.matches(name.as_bytes(), Case::Ignore);
                assert_eq!(
                    Part::of(pattern).fits(name.as_bytes()),
                    expected,
                    "{pattern} {name}"
                );
            }
        }
    }
}
