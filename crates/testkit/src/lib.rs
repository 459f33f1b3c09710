//! Test doubles and laboratory: a scripted model server for the real agents, a hermetic
//! environment, servers on loopback that record what reaches them, an escape harness, and
//! terminals that can be read back.
//!
//! This crate is test support: a helper that cannot do its work panics and names the expected and
//! the actual result, because a test that continues without it would prove nothing.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "test support: a broken fixture must end the test with its reason"
)]

pub mod agents;
pub mod approvals;
pub mod browser;
pub mod display;
pub mod env;
pub mod escape;
pub mod events;
pub mod fleet;
pub mod http;
pub mod invented;
pub mod issuer;
pub mod kernel;
pub mod lab;
pub mod model;
pub mod people;
pub mod processes;
pub mod pty;
pub mod run;
pub mod tmux;
pub mod wait;

pub use env::{Repo, Snapshot, TestEnv};
pub use model::{ModelServer, Step, ToolResult};
pub use run::{Output, Run, UNATTENDED};

/// Returns the text with which `check` ends the test.
#[cfg(test)]
fn failure_of<T>(check: impl FnOnce() -> T) -> String {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)) {
        Ok(_) => panic!("expected that the check fails"),
        Err(reason) => reason
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| reason.downcast_ref::<&str>().map(|&text| text.to_owned()))
            .unwrap(),
    }
}
