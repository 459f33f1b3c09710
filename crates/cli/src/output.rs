//! The one place that prints: data on standard output, messages on standard error.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};
use stockade_types::ignored;

use anyhow::Context;
use serde::Serialize;

/// Returns the columns of the terminal on standard output, if it is one.
pub(crate) fn columns() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    // A terminal that does not report its width has the usual one.
    Some(match size.ws_col {
        0 => 80,
        columns => usize::from(columns),
    })
}

/// The form in which a command prints its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// One line of JSON for each value.
    Json,
}

/// The output of a command; colour only on a terminal that supports it and never with `NO_COLOR`.
#[derive(Debug)]
pub(crate) struct Output {
    color: bool,
    form: Form,
    /// Standard output has no reader any more.
    closed: bool,
}

impl Output {
    /// Examines standard output, `NO_COLOR` and `TERM`.
    pub(crate) fn detect() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            color: !no_color && !is_dumb && io::stdout().is_terminal(),
            form: Form::Text,
            closed: false,
        }
    }

    /// Prints values as JSON from now on, if the caller wants that (`--json`).
    pub(crate) const fn set_json(&mut self, wanted: bool) {
        if wanted {
            self.form = Form::Json;
        }
    }

    /// Returns the form in which values are printed.
    pub(crate) const fn form(&self) -> Form {
        self.form
    }

    /// Prints one value in the form that the caller wants: as a line of JSON, or as the lines that
    /// `text` makes of the same value, if there are any.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn value<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        match self.form {
            Form::Json => self.json(value),
            Form::Text => match text(value).as_str() {
                "" => Ok(()),
                text => self.line(text),
            },
        }
    }

    /// Returns whether colour may be used on standard output.
    pub(crate) const fn color(&self) -> bool {
        self.color
    }

    /// Returns the columns of the terminal on standard output, if it is one.
    #[expect(
        clippy::unused_self,
        reason = "whoever prints must have been given the output"
    )]
    pub(crate) fn columns(&self) -> Option<usize> {
        columns()
    }

    /// Returns whether standard output has no reader any more, so that work that only prints can
    /// end.
    pub(crate) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Prints one line of data on standard output. If its reader stops reading (`| head`), that is
    /// not a failure, and the command still reaches its own verdict.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn line(&mut self, text: impl Display) -> anyhow::Result<()> {
        self.raw(format_args!("{text}\n"))
    }

    /// Prints data on standard output as it is, without a newline.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn raw(&mut self, text: impl Display) -> anyhow::Result<()> {
        if self.closed {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        match write!(out, "{text}").and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            result => result.context("cannot write to standard output"),
        }
    }

    /// Prints one message line on standard error. It is not our error if standard error is closed.
    #[expect(
        clippy::unused_self,
        reason = "whoever prints must have been given the output"
    )]
    pub(crate) fn note(&mut self, text: impl Display) {
        ignored(
            writeln!(io::stderr().lock(), "{text}"),
            "a closed standard error is not an error of ours",
        );
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
