//! The one error of this crate: which operation, on what, and the kernel's answer.

use std::{fmt::Display, io};

/// An operation that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{operation}{} failed", target.as_ref().map(|t| format!(" `{t}`")).unwrap_or_default())]
pub struct SysError {
    /// The system call or procedure.
    pub operation: &'static str,
    /// What it was applied to, for people.
    pub target: Option<String>,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

impl SysError {
    /// Makes an error of `operation` without a target.
    pub fn new(operation: &'static str, source: impl Into<io::Error>) -> Self {
        Self {
            operation,
            target: None,
            source: source.into(),
        }
    }

    /// Makes an error of `operation` on `target`.
    pub fn on(operation: &'static str, target: impl Display, source: impl Into<io::Error>) -> Self {
        Self {
            operation,
            target: Some(target.to_string()),
            source: source.into(),
        }
    }

    /// Makes an error from `errno` of the calling thread, right after a libc call.
    pub(crate) fn last(operation: &'static str) -> Self {
        Self::new(operation, io::Error::last_os_error())
    }

    /// Returns the error number, if the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// The result of an operation on the kernel.
pub type Outcome<T> = Result<T, SysError>;
