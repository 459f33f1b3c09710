//! Errors, as RFC 9457 has them: `application/problem+json`.

use serde::{Deserialize, Serialize};

/// Why a request was refused, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Names the kind, for programs: `enrol-token-used`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status of HTTP.
    pub status: u16,
    /// What is wrong, for people.
    pub title: String,
    /// The one next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Where the piece of a journal has to begin, in bytes (status 409).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
    /// When to try again, in milliseconds (status 429).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u64>,
}

impl Problem {
    /// The media type.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// Makes one.
    pub fn new(status: u16, kind: &str, title: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            status,
            title: title.into(),
            remedy: None,
            expected: None,
            retry_ms: None,
        }
    }

    /// Adds the next step.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}
