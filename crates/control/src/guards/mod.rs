//! What a rollout is moved by: numbers of sessions in, a decision out. Pure.

mod judge;
#[cfg(test)]
mod simulation;
mod statistics;

pub use judge::{ArmSeen, Guard, Next, Seen};
pub(crate) use judge::{guards, next, real};
pub use statistics::Sums;
