//! The server of an organisation: its machines replicate their journals to it and ask its people, and it
//! tells them the policy.
//!
//! | module | what |
//! |---|---|
//! | `data`, `keys`, `authority` | the directory of a server, its keys, and its certificate authority |
//! | `state` | what it knows beside journals; all SQL |
//! | `hub` | browsers and machines that are told of changes |
//! | `evidence`, `summaries`, `following`, `stories` | journals of machines, and what they come to |
//! | `index`, `indexing` | what can be looked for in journals |
//! | `intake` | how many pieces of journals are taken at once |
//! | `known` | what it keeps in memory of machines and sessions that send |
//! | `metrics` | what it counts of itself |
//! | `cases` | questions, and the votes of people on them |
//! | `enrolling` | tokens by which machines enrol |
//! | `people`, `policy`, `orders` | what it says to machines under its signature |
//! | `guards`, `samples` | what a rollout is moved by |
//! | `rollouts` | the controller that leads a new policy along its plan, and back |
//! | `notice`, `notify` | what people are told, and how |
//! | `oidc` | sign-in at a provider of OpenID Connect |
//! | `listen`, `outbound` | TLS and HTTP: of others to the server, and of the server to others |
//! | `machine` | the protocol of machines |
//! | `act`, `record`, `roles` | what is done to it, and its own record of that |
//! | `admin`, `provision`, `doctor` | what its command line does |
//! | `web` | pages |
//!
//! The server is believed by no machine: see `stockade_trust`.
#![forbid(unsafe_code)]

mod act;
pub mod admin;
mod authority;
pub mod cases;
mod clock;
mod data;
pub mod doctor;
mod enrolling;
mod error;
mod evidence;
mod following;
mod guards;
mod hub;
mod index;
mod indexing;
mod intake;
mod kept;
mod keys;
mod known;
mod listen;
mod machine;
mod metrics;
pub mod notice;
pub mod notify;
mod oidc;
mod orders;
mod outbound;
mod people;
pub mod policy;
pub mod provision;
mod random;
mod record;
mod roles;
pub mod rollouts;
mod samples;
mod serve;
mod server;
pub mod state;
mod stories;
mod summaries;
mod turns;
mod web;

pub use act::{Act, Action};
pub use authority::{Authority, NodeCertificate};
pub use clock::now;
pub use data::{DataDir, Lease, Running, Settings};
pub use error::ControlError;
pub use hub::{Changed, Hub};
pub use keys::SigningKeys;
pub use oidc::{EnrolRule, OidcSettings};
pub use random::{hash, name, secret};
pub use roles::{HELD_MAX, ROLES_MAX, TeamRole};
pub use serve::{Options, serve};
pub use server::{Report, Server};

/// Returns the description of the API of the pages (OpenAPI 3.1).
pub fn openapi() -> serde_json::Value {
    web::description()
}
