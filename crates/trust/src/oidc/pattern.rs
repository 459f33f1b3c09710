//! Patterns of claims in rules of enrolment: which jobs of a platform may enrol a machine.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Bytes of a pattern.
const PATTERN_BYTES_MAX: usize = 512;
/// Wildcards of a pattern, so that a match takes little time.
const WILDCARDS_MAX: usize = 8;

/// `NAME=PATTERN`: a claim that a token must have. In the pattern `*` stands for any characters but `/` and
/// `:`, which divide what platforms write; `**`, at the end alone, stands for everything that follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClaimPattern {
    name: String,
    pattern: String,
}

/// Why a text is no pattern of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is not `NAME=PATTERN`.
    #[error("expected NAME=PATTERN, for example `repository=acme/shop`")]
    Form,
    /// It is too long.
    #[error("a pattern has at most {PATTERN_BYTES_MAX} bytes and {WILDCARDS_MAX} wildcards")]
    TooLong,
    /// `**` is not at its end.
    #[error("`**` stands only at the end of a pattern")]
    Inside,
}

impl ClaimPattern {
    /// Returns which claim it is about.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells whether it excludes anything: a pattern of wildcards alone does not.
    pub fn excludes(&self) -> bool {
        self.pattern.bytes().any(|byte| byte != b'*')
    }

    /// Tells whether a value matches.
    pub fn matches(&self, value: &str) -> bool {
        let (pattern, is_open) = match self.pattern.strip_suffix("**") {
            Some(pattern) => (pattern, true),
            None => (self.pattern.as_str(), false),
        };
        matches(pattern.as_bytes(), value.as_bytes(), is_open)
    }
}

/// Tells whether a value begins with a pattern and, unless it `is_open`, ends with it.
fn matches(pattern: &[u8], value: &[u8], is_open: bool) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where the last wildcard stands, and up to where it was tried.
    let mut last: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(at), value.get(from)) {
            (None, None) => return true,
            (None, Some(_)) if is_open => return true,
            (Some(b'*'), _) => {
                at += 1;
                last = Some((at, from));
                continue;
            }
            (Some(wanted), Some(found)) if wanted == found => {
                at += 1;
                from += 1;
                continue;
            }
            (None | Some(_), _) => {}
        }
        // The last wildcard takes one character more, if it may.
        let Some((again, taken)) = last else {
            return false;
        };
        match value.get(taken) {
            Some(byte) if !b"/:".contains(byte) => {
                last = Some((again, taken + 1));
                (at, from) = (again, taken + 1);
            }
            Some(_) | None => return false,
        }
    }
}

impl FromStr for ClaimPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (name, pattern) = text.split_once('=').ok_or(PatternError::Form)?;
        if name.is_empty() || pattern.is_empty() || text.chars().any(char::is_control) {
            return Err(PatternError::Form);
        }
        let wildcards = pattern.bytes().filter(|byte| *byte == b'*').count();
        if text.len() > PATTERN_BYTES_MAX || wildcards > WILDCARDS_MAX {
            return Err(PatternError::TooLong);
        }
        if pattern.find("**").is_some_and(|at| at + 2 != pattern.len()) {
            return Err(PatternError::Inside);
        }
        Ok(Self {
            name: name.to_owned(),
            pattern: pattern.to_owned(),
        })
    }
}

impl fmt::Display for ClaimPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.pattern)
    }
}

impl TryFrom<String> for ClaimPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<ClaimPattern> for String {
    fn from(pattern: ClaimPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{ClaimPattern, PatternError};

    fn pattern(text: &str) -> ClaimPattern {
        text.parse().expect("it is one")
    }

    #[test]
    fn a_wildcard_does_not_cross_what_divides_a_claim() {
        for (text, yes, no) in [
            (
                "sub=acme",
                &["acme"][..],
                &["acme2", "", "xacme", "ACME"][..],
            ),
            (
                "sub=repo:acme/*:ref:refs/heads/main",
                &[
                    "repo:acme/shop:ref:refs/heads/main",
                    "repo:acme/:ref:refs/heads/main",
                ],
                &[
                    "repo:acme/shop:environment:x:ref:refs/heads/main",
                    "repo:acme/a/b:ref:refs/heads/main",
                    "repo:acme/shop:ref:refs/heads/main2",
                    "repo:evil/shop:ref:refs/heads/main",
                ],
            ),
            (
                "sub=repo:acme/**",
                &["repo:acme/", "repo:acme/a:b/c"],
                &["repo:acme", "repo:acmeX/"],
            ),
            (
                "sub=a*b*c",
                &["abc", "axxbyyc", "abbcc", "abcbc"],
                &["ab", "abcx", "a/bc"],
            ),
            ("sub=*", &["", "anything"], &["a/b"]),
        ] {
            let pattern = pattern(text);
            assert_eq!(pattern.to_string(), text);
            for value in yes {
                assert!(pattern.matches(value), "{text} {value}");
            }
            for value in no {
                assert!(!pattern.matches(value), "{text} {value}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let read = |text: &str| text.parse::<ClaimPattern>().err();
        for wrong in ["", "sub", "=x", "sub=", "sub=a\nb"] {
            assert_eq!(read(wrong), Some(PatternError::Form), "{wrong:?}");
        }
        assert_eq!(read("sub=**x"), Some(PatternError::Inside));
        assert_eq!(read("sub=***"), Some(PatternError::Inside));
        assert_eq!(
            read(&format!("sub={}", "*a".repeat(9))),
            Some(PatternError::TooLong)
        );
        assert_eq!(
            read(&format!("sub={}", "a".repeat(600))),
            Some(PatternError::TooLong)
        );
        assert!(!pattern("sub=**").excludes() && !pattern("sub=*").excludes());
        assert!(pattern("sub=a*").excludes());
        // A match takes little time, however the value looks.
        let hard = pattern(&format!("sub={}b", "*a".repeat(8)));
        assert!(!hard.matches(&"a".repeat(16_384)));
    }
}
