//! `what = "exec"`: programs that are about to run.

mod body;
mod features;
mod fit;
mod index;
mod probe;
mod read;
mod request;
mod words;

pub(crate) use body::ExecBody;
pub(crate) use features::ExecFeatures;
pub(crate) use index::CommandIndex;
pub(crate) use probe::probe;
pub(crate) use read::{FIELDS, body};
pub(crate) use request::QUIET_PUSH_FLAGS;
pub use request::{Effect, EffectBound, ExecRequest, Involved, Variable};
