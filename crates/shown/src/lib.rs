//! The text of a question, as a person reads it.
//!
//! It is made of the [`CanonicalQuestion`] alone: the request in its published form, and why it is asked.
//! So whoever has that makes the same text: the terminal, a second one, and a server whose people answer.
//! A vote is for [`Shown::digest`]. A server makes the text itself and never takes one from a machine, which
//! could have it say anything.
//!
//! There is no IO here, no clock and no randomness.
#![forbid(unsafe_code)]

mod canonical;
mod describe;
mod patience;
#[cfg(test)]
mod tests;
mod text;
pub mod tool_call;

pub use canonical::{CanonicalQuestion, Grounds, Matter, USES_MAX};
pub use text::{Row, Shown};
