//! Types that crates share without depending on each other: identifiers, hosts, paths, sizes,
//! verdicts.
//!
//! Nothing here reads a file, a clock, the environment or randomness. Every type with a private
//! field is parsed once, at the edge, and is valid everywhere afterwards.
#![forbid(unsafe_code)]

mod answerer;
mod decision;
mod error;
mod host;
mod id;
mod ignored;
mod path;
mod quantity;
mod raw;
mod secret;
mod subject;
mod vocabulary;
mod words;

pub use answerer::{Answerer, AnswererError, People, Person};
pub use decision::{DecisionRecord, RequestKind, Target, Verdict};
pub use error::chain;
pub use host::{Host, HostError, HostName, Port};
pub use id::{ApprovalId, DecisionId, Digest, IdError, RuleId, SessionId};
pub use ignored::ignored;
pub use path::{AbsPath, FixedPath, PathError};
pub use quantity::{ByteSize, QuantityError, Span, UnixMillis};
pub use raw::RawText;
pub use secret::Secret;
pub use subject::{ProcessId, Subject};
pub use vocabulary::{
    Access, AskMode, Authorisation, CallEnd, Certainty, Circumstance, ClaimSource, GuaranteeName,
    LimitName, ModelApi, ModelProvider, PlanChange, Risk, RolloutArm, Severity, StepState, Tier,
    ToolEffect, WordError, WorkspaceMode,
};
pub use words::Words;
