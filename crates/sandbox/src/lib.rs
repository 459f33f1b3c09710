//! Executes a launch plan: the parent half in the supervisor, the child half in `__init`.
//!
//! The executor adds nothing to a plan. Every step either succeeds or ends the launch with its
//! name, the kernel's answer and a remedy. Nothing is left behind, because every mount, process and
//! socket belongs to namespaces that die with their first process.
#![forbid(unsafe_code)]

mod binder;
mod child;
mod gauge;
mod message;
mod parent;
#[cfg(test)]
mod tests;

pub use binder::{Binder, Meaning};
pub use child::{call_filter, call_rules, main as init_main};
pub use gauge::{Gauge, Reading};
pub use message::{Exit, LaunchFailure};
pub use parent::{
    Building, HandedOver, LaunchError, Launching, LimitHit, Session, SessionNews, Spawned,
    StandardStreams, launch, spawn,
};
