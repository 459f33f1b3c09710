//! One session's life: probe, plan, start egress, launch, judge, record, clean up.
//!
//! This is the only crate that knows both halves: what was planned and what happens.
#![forbid(unsafe_code)]

mod agent_state;
pub mod approvals;
mod controller;
mod denials;
pub mod doctor;
mod egress_process;
mod error;
mod facts;
mod guard;
mod helpers;
mod inside;
mod network;
mod owners;
mod parts;
mod places;
mod processes;
mod procfs;
mod program;
mod protected;
mod recorder;
mod repeats;
mod resolve;
mod run;
mod running;
mod session_dir;
mod supervise;
mod threads;
mod tree;

pub use controller::Controller;
pub use egress_process::egress_main;
pub use error::{ErrorKind, RunError};
pub use facts::account_home;
pub use helpers::Helpers;
pub use inside::DENIALS_FILE;
pub use parts::PipeEnds;
pub use run::{Options, plan, start};
pub use running::{Ended, Running};
pub use stockade_sandbox::init_main;
