//! Tests of the protocol's types.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

mod search;
mod token;
mod versions;
