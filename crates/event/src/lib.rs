//! The events of a session: the closed [`Event`] enum, its [`Envelope`], and folds that sum up a
//! session's events. This crate has only data and folds; the crate `journal` keeps events on disk.
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod beside;
mod catalogue;
mod cause;
mod claims;
mod declare;
mod durability;
mod envelope;
mod event;
mod learned;
mod model;
mod otel;
mod plan;
pub mod spool;
pub mod stats;
pub mod summary;
mod tally;
pub mod text;
mod totals;
pub mod tree;
mod usage;

pub use catalogue::{FieldDoc, KindDoc};
pub use cause::{Cause, Said};
pub use declare::FieldWriter;
pub use durability::Durability;
pub use envelope::{Envelope, Stamp, Truncated, rfc3339};
pub use event::{Event, catalogue, placeholders};
pub use model::{
    HostedToolSeen, Listed, ModelUsage, TextSeen, ToolCallSeen, ToolPin, ToolResultSeen,
};
pub use otel::{SEMANTIC_CONVENTIONS, attribute};
pub use plan::{PlanStepSeen, plan_line, step_line};
pub use summary::Summary;
pub use tally::Tally;
pub use totals::{
    BundleSeen, Counts, LayerSeen, PolicyUse, RolloutSeen, SessionOutcome, ShadowCounts,
};
pub use usage::{Measured, Usage};

/// Version of the persisted schema; if the meaning of any field changes, the version changes.
pub const SCHEMA_VERSION: u32 = 1;
