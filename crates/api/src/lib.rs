//! What a server of an organisation says to its machines, and they to it.
//!
//! | module | what |
//! |---|---|
//! | `id` | names of machines |
//! | `token` | what a person copies to a machine to enrol it |
//! | `node` | requests of a machine, their answers, and the stream down to it |
//! | `statement` | what the server says under its signature: receipts and orders |
//! | `terminal` | what the terminal of a person and the server say to each other |
//! | `search` | the language of searches |
//! | `problem` | errors, as RFC 9457 has them |
//!
//! Requests refuse unknown members, so that a mistake in a name is not taken for a default. Sizes and times
//! of what is read are bounded by the constants of [`limits`]. There is no IO here, and no clock.
#![forbid(unsafe_code)]

mod id;
pub mod limits;
pub mod node;
mod problem;
pub mod search;
mod statement;
pub mod terminal;
mod token;

pub use id::{NodeId, NodeIdError};
pub use problem::Problem;
pub use statement::{Order, Receipt, What};
pub use token::{EnrolToken, TokenError, proof_message, renewal_message};
