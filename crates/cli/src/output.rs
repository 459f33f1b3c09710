//! The one place that prints: data on standard output, messages on standard error.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use anyhow::Context;
use serde::Serialize;

/// Where a command writes; colour only on a terminal and never with `NO_COLOR`.
#[derive(Debug)]
pub(crate) struct Output {
    color: bool,
}

#[expect(
    clippy::unused_self,
    reason = "whoever prints must have been given the output"
)]
impl Output {
    /// Looks at standard output and `NO_COLOR`.
    pub(crate) fn detect() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self {
            color: !no_color && io::stdout().is_terminal(),
        }
    }

    /// Tells whether colour may be used on standard output.
    pub(crate) const fn color(&self) -> bool {
        self.color
    }

    /// Prints one line of data on standard output.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn line(&mut self, text: impl Display) -> anyhow::Result<()> {
        writeln!(io::stdout().lock(), "{text}").context("cannot write to standard output")
    }

    /// Prints data on standard output as it is, without a newline.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn raw(&mut self, text: impl Display) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        write!(out, "{text}")
            .and_then(|()| out.flush())
            .context("cannot write to standard output")
    }

    /// Prints one message line on standard error. A closed standard error is not an error of ours.
    pub(crate) fn note(&mut self, text: impl Display) {
        drop(writeln!(io::stderr().lock(), "{text}"));
    }

    /// Prints `value` as one line of JSON on standard output.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> anyhow::Result<()> {
        let text = serde_json::to_string(value).context("cannot render as JSON")?;
        self.line(text)
    }
}
