//! The one place that prints: data on standard output, messages on standard error.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Prints one line of data on standard output.
pub(crate) fn line(text: impl Display) {
    // A closed pipe (`| head`) is the reader's choice and not a failure of the command.
    drop(writeln!(io::stdout().lock(), "{text}"));
}

/// Prints one message on standard error.
pub(crate) fn note(text: impl Display) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
