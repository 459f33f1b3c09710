//! The person's terminal: the relay between it and the agent's pty, and the questions on it.
//!
//! Output passes a filter and is followed by a picture of the screen; while a question is shown
//! output is held back, and the terminal comes back exactly as it was before.

pub(crate) mod card;
pub(crate) mod dialog;
mod filter;
mod hush;
mod input;
pub(crate) mod job;
pub(crate) mod keys;
pub(crate) mod layout;
pub(crate) mod overlay;
mod pipes;
mod prompt;
mod relay;
pub(crate) mod screen;
mod sequence;
mod strings;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod track;
pub(crate) mod tty;
pub(crate) mod witness;

pub(crate) use layout::Color;
pub(crate) use pipes::{PipeEnds, PipeRelay};
pub(crate) use relay::{RelayOptions, relay, relay_beside};
