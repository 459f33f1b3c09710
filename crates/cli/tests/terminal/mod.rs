//! The terminal of a session as a person uses it: full-screen programs, questions in the middle of
//! them, the end, and pipes instead of a terminal.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken fixture must end the test"
)]

mod beside;
mod emulators;
mod ending;
mod jobs;
mod lab;
mod order;
mod pipes;
mod questions;
mod recording;
mod reviewers;
mod screens;
mod servers;
mod streams;
mod typing;
