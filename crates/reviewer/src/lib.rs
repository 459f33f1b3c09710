//! The automatic reviewer sees questions before people do.
//!
//! First come checks of this program, which nobody can talk to: shapes that are known to be good or bad
//! (`shapes.toml`, a policy like any other), and texts that no reader should judge alone. Then, if policy
//! names one, a model is asked. It is believed little: what the question says is evidence for it and never an
//! instruction; its answer counts only in one exact form, in time, for the question that it names, and if it
//! does not contradict itself; and it may allow only what a rule lets it, under the risk that the rule names.
//! Everything else it says is a deny, or people are asked.
//!
//! | module | what |
//! |---|---|
//! | `checks` | what is decided without a model |
//! | `prompt` | what a model is told |
//! | `answer` | what a model's answer comes to |
//! | `call` | the process that talks to the model, apart from the supervisor |
#![forbid(unsafe_code)]

mod answer;
mod call;
mod checks;
mod prompt;

pub use answer::opinion;
pub use call::{Job, SAID_BYTES_MAX, Said, main};
pub use checks::Checks;
pub use prompt::{EVIDENCE_BYTES_MAX, body};
