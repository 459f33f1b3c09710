//! Tests of the whole crate, as one program.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bounds;
mod fuzz;
mod golden;
mod hooks;
mod otlp;
