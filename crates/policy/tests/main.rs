//! Policies from outside: decisions on texts and against a reference, grants, revisions, mistakes
//! and warnings.
#![forbid(unsafe_code)]

mod addresses;
mod cedar;
mod corpus;
mod diff;
mod grants;
mod late;
pub(crate) mod oracle;
mod problems;
mod published;
mod revisions;
mod stages;
mod tools;
mod warnings;
