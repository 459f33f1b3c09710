//! What an organisation says under its signature, and how a machine checks it by itself.
//!
//! A rule can ask people in roles, in [`Review`]s of several stages. Their votes reach the machine that
//! asked as one [`Grant`] in an [`Envelope`]. The machine believes none of those who carried it:
//! [`Asked::verify`] compares the grant with the machine's own question, looks up each voter in the
//! [`Directory`] that it pinned, and checks the strong votes against passkeys and keys there. So a server
//! whose key is stolen can deny and delay, and cannot forge a strong yes.
//!
//! | module | what |
//! |---|---|
//! | `envelope` | signed bytes (DSSE), and which keys must have signed them |
//! | `root` | which keys may sign what |
//! | `node` | what a machine knows of itself, and the policy that is published to it |
//! | `plan` | a candidate, and the plan by which it replaces the policy in force |
//! | `rollout` | how a candidate replaces the policy in force, step by step |
//! | `key` | public keys of Ed25519, and their ids |
//! | `people` | who has which roles, passkeys and keys |
//! | `passkey` | assertions of WebAuthn |
//! | `team` | which team a machine belongs to, and roles that are held for one team |
//! | `standing` | how the votes on a review stand |
//! | `vote` | one vote, and what it binds |
//! | `grant` | the statement about a question, and its check |
//! | `oidc` | tokens of OpenID Connect, of people and of jobs |
//!
//! There is no IO here, and no clock: times are given.
#![forbid(unsafe_code)]

mod base64url;
mod envelope;
mod grant;
mod key;
mod node;
mod nonce;
pub mod oidc;
mod passkey;
mod people;
mod plan;
mod rollout;
mod root;
mod standing;
mod team;
mod vote;

pub use envelope::{Envelope, EnvelopeError, Keys, Statement};
pub use grant::{Asked, Grant, GrantError, Granted, VoteError};
pub use key::{KeyId, PublicKey, SecretKey};
pub use node::{Bundle, Node, StatementError};
pub use nonce::Nonce;
pub use passkey::{Algorithm, Assertion, Passkey, PasskeyError, RelyingParty};
pub use people::{Directory, User, UserId};
pub use plan::{COHORTS, Candidate, Plan, PlanError, PlanStep, STEPS_MAX, StepKind, cohort};
pub use rollout::{InForce, POINTER_LASTS_MAX_MS, Pointer, PointerError};
pub use root::{Root, RootError};
pub use standing::{Choice, Counted, Standing, TurnError, opened, turn};
pub use stockade_policy::{BreakGlass, Escalation, Review, ReviewError, Role, Stage, Strength};
pub use team::{Membership, TeamId, role_in};
pub use vote::{Ballot, Proof, ProofError, Vote};
