//! Tests of the agent of a machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail by a panic"
)]

mod agent;
mod enrolment;
mod lab;
mod pointers;
mod shipping;
