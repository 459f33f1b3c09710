//! One session's life: probe, plan, start egress, launch, judge, record, clean up.
//!
//! This is the only crate that knows both halves: what was planned and what happens.
#![forbid(unsafe_code)]

mod agent_config;
mod agent_state;
pub mod approvals;
mod areas;
mod closed;
mod controller;
mod covers;
mod denials;
pub mod doctor;
mod egress_calls;
mod egress_process;
mod error;
mod facts;
mod filtered;
mod helpers;
mod in_use;
mod inside;
mod instructions;
pub mod kept;
mod locate;
mod logins;
mod merge;
mod mount_watch;
mod mountinfo;
mod names;
mod network;
mod own_program;
mod own_state;
mod owners;
mod packages;
mod parts;
mod places;
mod policies;
mod processes;
mod procfs;
mod program;
mod protected;
mod recorder;
mod repeats;
mod resolve;
mod run;
mod running;
mod seed_list;
mod seeds;
mod session_dir;
mod supervise;
mod threads;
mod tree;
mod twins;

pub use controller::Controller;
pub use egress_calls::egress_calls;
pub use egress_process::egress_main;
pub use error::{ErrorKind, RunError};
pub use facts::{account_home, unmatched_paths};
pub use helpers::Helpers;
pub use inside::DENIALS_FILE;
pub use own_state::{StateProblem, check as check_state};
pub use parts::PipeEnds;
pub use policies::PolicyPlace;
pub use run::{Options, plan, start};
pub use running::{Ended, Running};
pub use stockade_sandbox::init_main;
