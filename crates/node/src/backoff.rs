//! When to connect again.

use std::time::Duration;

/// The longest wait before the first attempt.
const FIRST_MS: u64 = 500;
/// The longest wait ever.
const LONGEST_MS: u64 = 60_000;

/// Waits that double, each at random within its bound, so that machines that lost a server together do
/// not come back together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns how long to wait; `random` is any number.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let bound = FIRST_MS.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        within(bound.min(LONGEST_MS), random)
    }

    /// Starts anew, after a connection that was good.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Returns a wait within `bound_ms`, which is not zero; `random` is any number.
pub(crate) fn within(bound_ms: u64, random: u64) -> Duration {
    Duration::from_millis(1 + random % bound_ms.clamp(1, LONGEST_MS))
}

#[cfg(test)]
mod tests {
    use super::Backoff;

    #[test]
    fn waits_double_up_to_a_minute_and_are_anywhere_below() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..12)
            .map(|_| backoff.next(u64::MAX - 1).as_millis())
            .collect();
        assert!(waits.iter().all(|wait| (1..=60_000).contains(wait)));
        let mut bounds = Backoff::default();
        let longest = |backoff: &mut Backoff, bound: u64| backoff.next(bound - 1).as_millis();
        assert_eq!(longest(&mut bounds, 500), 500);
        assert_eq!(longest(&mut bounds, 1_000), 1_000);
        assert_eq!(longest(&mut bounds, 2_000), 2_000);
        for _ in 0..40 {
            bounds.next(0);
        }
        assert_eq!(longest(&mut bounds, 60_000), 60_000);
        bounds.reset();
        assert_eq!(longest(&mut bounds, 500), 500);
    }
}
