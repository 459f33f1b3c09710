//! A connection or a request on it, taken apart once, so that each rule looks at it cheaply.

use stockade_types::{Host, RawText};

use super::Meaning;
use crate::request_path::RequestPath;

#[derive(Debug)]
pub(crate) struct NetFeatures<'r> {
    pub(crate) host: &'r Host,
    pub(crate) port: u16,
    pub(crate) program: Programs<'r>,
    pub(crate) http: Option<HttpFeatures<'r>>,
}

/// Who connects.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Programs<'r> {
    /// This executable.
    Known(&'r RawText),
    /// Nobody could say.
    Unknown,
    /// It is only asked whether anybody may.
    Any,
}

impl<'r> Programs<'r> {
    pub(crate) fn of(exe: &'r RawText) -> Self {
        // What was removed says nothing of what has its name now.
        let removed = exe.as_bytes().ends_with(b" (deleted)");
        if exe.as_bytes().is_empty() || removed {
            Self::Unknown
        } else {
            Self::Known(exe)
        }
    }
}

/// Path and method of a request, and what its body says.
#[derive(Debug)]
pub(crate) struct HttpFeatures<'r> {
    pub(crate) method: &'r str,
    pub(crate) path: RequestPath<'r>,
    pub(crate) meaning: &'r [Meaning],
}

impl<'r> HttpFeatures<'r> {
    pub(crate) fn new(method: &'r str, path: &'r [u8], meaning: &'r [Meaning]) -> Self {
        Self {
            method,
            path: RequestPath::new(path),
            meaning,
        }
    }
}

#[cfg(test)]
mod tests {
    use stockade_types::RawText;

    use super::Programs;

    #[test]
    fn a_removed_program_is_unknown() {
        let of = |exe: &str| matches!(Programs::of(&RawText::from(exe)), Programs::Known(_));
        assert!(of("/usr/bin/curl"));
        assert!(!of("/usr/bin/curl (deleted)"));
        assert!(!of(""));
    }
}
