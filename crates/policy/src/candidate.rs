//! Patterns that could match a request.

/// Most places that a search for a near rule examines; a hint is not worth more.
pub(crate) const NEAR_MAX: usize = 64;

/// One pattern of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    pub(crate) rule: usize,
    pub(crate) pattern: usize,
}
