//! `[[cedar]]`: rules in Cedar text over typed attributes of the request.
//!
//! Such a rule only tightens: it is a `forbid` that denies, or one with `@verdict("ask")` that
//! requires an answer. It is never an exception and has none, because it cannot be decided whether
//! one condition lies within another. Cedar evaluates the text itself; attributes that are unknown
//! for a request are settled before, in favour of the rule ([`bounds`]).

mod body;
mod bounds;
mod context;
mod matching;
mod read;

pub(crate) use body::CedarBody;
pub(crate) use bounds::Attribute;
pub(crate) use matching::{CedarError, CedarRules};
pub(crate) use read::{FIELDS, read};
