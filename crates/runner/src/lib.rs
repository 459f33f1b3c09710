//! One session's life: probe, plan, start egress, launch, judge, record, clean up.
//!
//! This is the only crate that knows both halves: what was planned and what happens.
#![forbid(unsafe_code)]

mod agent_state;
pub mod approvals;
pub mod doctor;
mod egress_process;
mod error;
mod facts;
mod guard;
mod inside;
mod network;
mod processes;
mod procfs;
mod program;
mod protected;
mod recorder;
mod resolve;
mod run;
mod running;
mod session_dir;
mod supervise;

pub use egress_process::egress_main;
pub use error::{ErrorKind, RunError};
pub use inside::DENIALS_FILE;
pub use run::{Options, PipeEnds, plan, start};
pub use running::{Controller, Ended, Running};
pub use stockade_sandbox::init_main;
