//! Replays of invented sessions: what is exact is what the policy says of the real request, and what is not says
//! why.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod exact;
mod invented;
mod reports;
