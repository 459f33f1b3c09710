//! Tests of the protocol's types.
#![allow(clippy::indexing_slicing, reason = "tests")]

mod search;
mod token;
mod versions;
