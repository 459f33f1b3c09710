//! Safe wrappers around the Linux interfaces that the boundary consists of.
//!
//! This is the only crate with `unsafe`, so that it can be audited alone. It decides nothing: each
//! function does one thing to the kernel and reports the error number it got. Functions that
//! change the calling process say so; they are meant for the single-threaded `__init` and
//! `__egress` roles, before anything untrusted runs.

pub mod capability;
pub mod cgroup;
pub mod end;
mod error;
pub mod fd;
pub mod identity;
pub mod landlock;
pub mod mark;
pub mod memory;
pub mod mount;
pub mod net;
pub mod notifier;
pub mod pass;
pub mod probe;
pub mod proc_text;
pub mod process;
pub mod pty;
pub mod seccomp;
mod syscalls;
pub mod thread;
pub mod walk;

pub use error::{Outcome, SysError};
