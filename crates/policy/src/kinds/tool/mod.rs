//! `what = "tool"`: tools that an agent is about to use.
//!
//! A tool call has no effect by itself: what it leads to is judged where it happens. So without a rule
//! it is allowed, and rules about tools only tighten.

mod arguments;
mod body;
mod condition;
mod effects;
mod features;
mod fit;
mod index;
mod names;
mod probe;
mod read;
mod request;
mod words;

pub use arguments::{Argument, ToolArguments};
pub(crate) use body::ToolBody;
pub use effects::tool_effect;
pub(crate) use features::ToolFeatures;
pub(crate) use index::ToolIndex;
pub(crate) use probe::probe;
pub(crate) use read::{FIELDS, body};
pub use request::ToolRequest;
