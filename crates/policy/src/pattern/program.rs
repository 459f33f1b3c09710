//! Conditions on programs and variables.

use stockade_types::{Digest, RawText};

use super::{
    PathPattern, PatternError,
    glob::{Case, Glob},
};

/// An entry of a rule's `programs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProgramPattern {
    /// An absolute path glob.
    Path(PathPattern),
    /// `sha256:` and the digest of the file.
    Digest(Digest),
}

impl ProgramPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        if let Some(digest) = text.strip_prefix("sha256:") {
            return digest
                .parse()
                .map(Self::Digest)
                .map_err(|error: stockade_types::IdError| PatternError::new(error.to_string()));
        }
        let path = PathPattern::parse(text)?;
        if !path.is_rooted() {
            return Err(PatternError::new(format!(
                "`{text}` is not an absolute path or `sha256:` and a digest; a bare name proves \
                 nothing"
            )));
        }
        Ok(Self::Path(path))
    }

    pub(crate) fn matches(&self, path: &RawText, digest: Option<&Digest>) -> bool {
        match self {
            Self::Path(pattern) => pattern.matches(path.as_bytes(), Case::Exact),
            Self::Digest(own) => digest == Some(own),
        }
    }

    /// Returns a path that it matches; `None` for a digest.
    pub(crate) fn sample(&self) -> Option<String> {
        match self {
            Self::Path(pattern) => Some(pattern.sample()),
            Self::Digest(_) => None,
        }
    }

    pub(crate) fn contains(&self, inner: &Self) -> bool {
        match (self, inner) {
            (Self::Path(a), Self::Path(b)) => a.contains(b),
            (a, b) => a == b,
        }
    }
}

/// An entry of a rule's `environment`: `NAME` or `NAME=glob`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VariablePattern {
    name: Glob,
    value: Option<Glob>,
}

impl VariablePattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(Glob::parse(value)?)),
            None => (text, None),
        };
        if name.is_empty() {
            return Err(PatternError::new(format!(
                "`{text}` has no variable name; write `NAME` or `NAME=value`"
            )));
        }
        Ok(Self {
            name: Glob::parse(name)?,
            value,
        })
    }

    /// Returns a variable that it matches.
    pub(crate) fn sample(&self) -> (String, String) {
        let value = self.value.as_ref().map(Glob::sample);
        (self.name.sample(), value.unwrap_or_default())
    }

    pub(crate) fn matches(&self, name: &RawText, value: &RawText) -> bool {
        self.name.matches(name.as_bytes(), Case::Exact)
            && self
                .value
                .as_ref()
                .is_none_or(|glob| glob.matches(value.as_bytes(), Case::Exact))
    }
}
