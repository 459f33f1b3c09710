//! What agents and models say to each other: bytes in, claims out.
//!
//! A call of a model has a [`Place`], which its head says, a [`Request`] and a [`Response`], which are
//! given the bytes of the two bodies while they pass. They hold a bounded part of them, whatever they
//! are, never fail, and say at the end what was asked and answered. There is no IO here.
//!
//! | module | what |
//! |---|---|
//! | `place` | which requests are calls |
//! | `call` | a call while it passes |
//! | `adapters` | one file for each protocol, all of the same shape |
//! | `claims` | what comes of it |
//! | `content` | texts: length, digest, and what is kept |
//! | `definitions`, `hidden` | tools of servers as models read them, and text that nobody sees |
//! | `events`, `frames`, `json`, `tree` | the forms of bodies, read as they come |
//! | `hooks` | what agents tell the programs that they start before and after a tool call |
//! | `hosted` | tools that providers run |
//! | `intent` | what a tool call says that it will do |
//! | [`mcp`] | what agents and servers of tools say to each other |
//! | [`otlp`] | what agents export about themselves |
//! | `plan` | what a tool call says of the agent's plan |
//!
//! Everything that comes out is a claim of whoever sent the bytes: no decision rests on it.
#![forbid(unsafe_code)]

mod adapters;
mod call;
mod claims;
mod content;
mod definitions;
mod events;
mod frames;
mod hidden;
mod hooks;
mod hosted;
mod intent;
mod json;
mod limits;
pub mod mcp;
pub mod otlp;
mod place;
mod plan;
mod tree;

pub use call::{Request, Response};
pub use claims::{Answered, Asked, Bounded, Call, HostedTool, Returned, Usage};
pub use content::Content;
pub use definitions::{Definition, Definitions, Unread};
pub use hooks::{
    Arguments, HOOK_PROGRAM, HookAgent, HookAnswer, HookError, Message as HookMessage,
    Output as HookOutput, Reader as HookReader, Result as HookResult, ToolUse,
};
pub use hosted::{RunBy, run_by};
pub use intent::Intent;
pub use limits::{BODY_BYTES_MAX, DEFINITIONS_MAX, ENTRIES_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};
pub use place::{Api, Place};
pub use plan::{Plan, PlanStep};
