//! Placeholder module doc.
#![forbid(unsafe_code)]
