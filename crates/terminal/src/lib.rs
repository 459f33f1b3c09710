//! The person's terminal: the relay between it and the agent's pty, and the questions on it.
//!
//! Output passes a filter and updates a picture of the screen. While a question is shown output is
//! held back, and afterwards the terminal is exactly as before.
#![forbid(unsafe_code)]

pub mod card;
pub mod dialog;
mod filter;
mod hush;
mod input;
pub mod job;
pub mod keys;
pub mod layout;
pub mod overlay;
mod pipes;
mod played;
mod prompt;
mod relay;
mod runs;
pub mod screen;
mod sequence;
mod strings;
#[cfg(test)]
mod tests;
pub mod text;
mod track;
pub mod tty;
pub mod witness;

pub use dialog::Keep;
pub use layout::Color;
pub use pipes::{PipeEnds, PipeRelay};
pub use played::Played;
pub use relay::{Readers, Recording, Relay, RelayError, RelayOptions, relay, relay_beside};
