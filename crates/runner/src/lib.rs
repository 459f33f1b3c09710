//! One session's life: probe, plan, start egress, launch, judge, record, clean up.
//!
//! This is the only crate that knows both halves: the plan and the running session.
#![forbid(unsafe_code)]

mod agent_config;
mod agent_state;
mod areas;
mod caches;
mod caller;
mod closed;
mod controller;
mod covers;
mod denials;
pub mod doctor;
mod egress_calls;
mod egress_process;
mod ending;
mod error;
mod facts;
mod filtered;
mod helpers;
mod holding;
mod in_use;
mod inside;
mod instructions;
pub mod kept;
mod listening;
mod locate;
mod logins;
mod merge;
mod mount_watch;
mod mountinfo;
mod names;
mod network;
mod news;
mod notices;
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
mod proxy_variables;
mod publish;
mod recorder;
mod registries;
mod relocated;
pub mod remotes;
mod repeats;
mod repository;
mod resolve;
mod run;
mod running;
mod seed_list;
mod seeds;
mod session_dir;
mod signing;
mod sockets;
mod ssh;
mod supervise;
mod terminal_readers;
mod threads;
mod tree;
mod trust;
mod twins;

/// The folders of what sessions added to caches, in the state directory.
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
pub use inside::DENIALS_FILE;
pub use news::{NEWS_FILE, News};
pub use own_state::{StateProblem, check as check_state};
pub use parts::PipeEnds;
pub use policies::PolicyPlace;
pub use run::{Options, plan, start};
pub use running::{Ended, Running};
pub use stockade_sandbox::init_main;
pub use terminal_readers::TerminalReaders;
