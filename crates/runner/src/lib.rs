//! One session's life: probe, plan, start egress, launch, judge, record, clean up.
//!
//! This is the only crate that knows both sides: the plan and the running session.
#![forbid(unsafe_code)]

mod agent_config;
mod agent_sockets;
mod agent_state;
mod authorities;
mod caches;
mod caller;
mod closed;
mod controller;
mod credentials;
pub mod doctor;
mod effects;
mod egress_calls;
mod egress_process;
mod ending;
pub mod enrolment;
mod error;
mod facts;
mod filtered;
mod helpers;
mod holding;
mod hooks;
mod in_use;
mod inside;
mod inside_socket;
mod instructions;
mod java_store;
pub mod kept;
mod listening;
mod loaded;
mod logins;
mod mcp;
mod merge;
mod names;
mod network;
mod own_program;
mod own_state;
mod packages;
mod parts;
mod pins;
mod policies;
mod program;
mod proxy_variables;
mod publish;
mod recording;
mod registries;
mod relocated;
pub mod remotes;
mod reviewing;
mod run;
mod running;
mod seed_list;
mod seeds;
mod session_dir;
mod signing;
mod sockets;
mod ssh;
mod start_place;
mod terminal_readers;
mod threads;
mod tightening;
mod trust;
mod twins;
mod whole_files;
mod withheld;

/// The folders, in the state directory, of what sessions added to caches.
pub mod kept_overlays {
    pub use crate::caches::{DIRECTORY, LOCK, WORKSPACE};
}
pub use caller::account_home;
pub use controller::Controller;
pub use egress_calls::egress_calls;
pub use egress_process::egress_main;
pub use error::{ErrorKind, RunError};
pub use facts::unmatched_paths;
pub use helpers::Helpers;
pub use hooks::hook_main;
pub use inside::DENIALS_FILE;
pub use mcp::mcp_main;
pub use own_state::{StateProblem, check as check_state};
pub use parts::PipeEnds;
pub use policies::PolicyPlace;
pub use recording::{RecordedTerminal, TerminalRecording};
pub use run::{Options, plan, start};
pub use running::{Ended, Running};
pub use stockade_reviewer::main as reviewer_main;
pub use stockade_sandbox::init_main;
pub use stockade_supervise::{NEWS_FILE, News, now};
pub use terminal_readers::TerminalReaders;
