//! `[[cedar]]`: rules in Cedar text over typed attributes of the request.
//!
//! Such a rule only tightens: it is a `forbid` that denies, or one with `@verdict("ask")` that
//! wants an answer. It is never an exception and has none, since whether one condition lies within
//! another cannot be told. Cedar evaluates the text itself; which attributes are not known for a
//! request is settled before, in favour of the rule ([`bounds`]).

mod body;
mod bounds;
mod context;
mod matching;
mod read;

pub(crate) use body::CedarBody;
pub(crate) use matching::{CedarError, CedarRules};
pub(crate) use read::{FIELDS, read};
