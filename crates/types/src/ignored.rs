//! The one way to continue after a failure that changes nothing.

/// Discards the result of an attempt; `_why` tells the reader of the call why its failure changes
/// nothing.
#[inline]
pub fn ignored<T, E>(result: Result<T, E>, _why: &'static str) {
    drop(result);
}
