//! The one way to go on after a failure that changes nothing.

/// Discards what came of an attempt; `_why` says, to whoever reads the call, why its failure changes
/// nothing.
#[inline]
pub fn ignored<T, E>(result: Result<T, E>, _why: &'static str) {
    drop(result);
}
