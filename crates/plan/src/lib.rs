//! `(Policy, RunSpec, HostFacts) -> LaunchPlan`: everything a launch will do, as data.
//!
//! A plan is complete: the executor adds nothing to it and leaves nothing out, so `--plan` shows what
//! will happen and a stored plan shows what happened. This crate reads no file and no clock; all
//! facts about the machine come in [`HostFacts`].
#![forbid(unsafe_code)]

mod boundary;
mod calls;
mod compile;
mod covers;
mod environment;
mod error;
mod facts;
mod guarantee;
mod launch;
mod limits;
mod share;
mod spec;
mod step;
mod step_name;
mod telemetry;
mod tiers;
mod view;

pub use boundary::{Boundary, Interfaces, Life, Protection, Root, Unfounded};
pub use calls::{
    CALLS, Call, CallAction, CallCondition, CallSet, Debuggers, Family, ORDINARY, Refusals,
    UNNAMED, answer, calls,
};
pub use compile::{check_workspace, compile};
pub use environment::{CA, CA_BUNDLE, CA_BUNDLE_VARIABLES, CA_KEY_STORE, CA_VARIABLES};
pub use error::PlanError;
pub use facts::{
    CacheFact, CacheKind, CgroupFact, CredentialFacts, EntryKind, HostFacts, LinkFact,
    ProgramFacts, ProtectedEntry, ServerFacts, ShareFact, SharedCounts, ShownFact, SshFact,
    StateFact, SystemEntry, Upper,
};
pub use guarantee::Guarantee;
pub use launch::{Command, Identity, LaunchPlan, PLAN_VERSION};
pub use spec::{Network, RunSpec, Stream, Streams};
pub use step::{Namespace, OverlayPart, Owner, PathRule, ResourceLimit, Rights, Step};
pub use step_name::StepName;
pub use tiers::{DEFAULT_TIER, Part, needs};
pub use view::{SSH_CONFIG, SSH_DIRECTORY, SSH_KNOWN_HOSTS};
