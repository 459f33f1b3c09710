//! Policies from outside: decisions on texts, grants, mistakes and warnings.
#![forbid(unsafe_code)]

mod corpus;
mod grants;
mod problems;
mod warnings;
