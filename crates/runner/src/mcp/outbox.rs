//! What the shim tells: the supervisor, and whoever reads its errors.

use std::{
    io::{self, Write as _},
    sync::mpsc::SyncSender,
};

use stockade_types::ignored;

use super::wire::Tell;

/// What is told waits here.
pub(super) type Outbox = SyncSender<Tell>;

/// Says something beside what the server says.
pub(super) fn say(text: &str) {
    ignored(
        writeln!(io::stderr(), "stockade: {text}"),
        "nobody reads it",
    );
}
