//! Tests of the server, over its own connections.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod cases;
mod common;
mod directory;
mod enrolment;
mod jobs;
mod journals;
mod keys;
mod rollouts;
