//! The server of an organisation: its machines replicate their journals to it and ask its people, and it
//! tells them the policy.
//!
//! | module | what |
//! |---|---|
//! | `data`, `keys`, `authority` | the directory of a server, its keys, and its certificate authority |
//! | `state` | what it knows beside journals; all SQL |
//! | `hub` | browsers and machines that are told of changes |
//! | `listen` | TLS and HTTP |
//! | `machine` | the protocol of machines |
//! | `act`, `record` | what is done to it, and its own record of that |
//! | `web` | pages |
//!
//! The server is believed by no machine: see `stockade_trust`.
#![forbid(unsafe_code)]

mod act;
mod authority;
mod clock;
mod data;
mod error;
mod hub;
mod keys;
mod listen;
mod machine;
mod people;
mod random;
mod record;
mod serve;
mod server;
pub mod state;
mod web;

pub use act::{Act, Action};
pub use authority::{Authority, NodeCertificate};
pub use clock::now;
pub use data::{DataDir, Lease, Running, Settings};
pub use error::ControlError;
pub use hub::{Changed, Hub};
pub use keys::SigningKeys;
pub use random::{hash, name, secret};
pub use serve::{Options, serve};
pub use server::{Report, Server};
