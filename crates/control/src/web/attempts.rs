//! How often someone may try to sign in: after a few failures each next attempt has to wait, longer each
//! time. What fails for one name or address does not keep others out.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// The first wait; each further failure doubles it.
const WAIT_FIRST: Duration = Duration::from_secs(2);
/// The longest wait, so that nobody is kept out for long by strangers who guess.
const WAIT_MAX: Duration = Duration::from_mins(15);
/// Failures are forgotten after this time without one.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);
/// Keys that are remembered. Beyond it the oldest are forgotten.
const KEYS_MAX: usize = 10_000;

struct Failures {
    count: u32,
    last: Instant,
}

/// Failures of each key, for example of each name.
pub(crate) struct Attempts<K> {
    failures: HashMap<K, Failures>,
    /// Failures after which the next attempt has to wait.
    free: u32,
}

impl<K: Eq + Hash + Clone> Attempts<K> {
    pub(crate) fn new(free: u32) -> Self {
        Self {
            failures: HashMap::new(),
            free,
        }
    }

    /// Takes an attempt: it counts as failed until [`Self::succeeded`] says otherwise, so that parallel
    /// attempts do not share one place.
    ///
    /// # Errors
    /// How long to wait, if it is too early. This attempt then does not count.
    pub(crate) fn begin(&mut self, key: &K, now: Instant) -> Result<(), Duration> {
        let failures = self.failures.get(key);
        let failures =
            failures.filter(|one| now.saturating_duration_since(one.last) < FORGOTTEN_AFTER);
        let count = failures.map_or(0, |one| one.count);
        if let Some(one) = failures {
            let until = one.last + self.wait(count);
            if now < until {
                return Err(until - now);
            }
        }
        if count == 0 {
            self.make_room(now);
        }
        let count = count.saturating_add(1);
        self.failures
            .insert(key.clone(), Failures { count, last: now });
        Ok(())
    }

    /// Forgets the failures of a key.
    pub(crate) fn succeeded(&mut self, key: &K) {
        self.failures.remove(key);
    }

    fn wait(&self, count: u32) -> Duration {
        let Some(over) = count.checked_sub(self.free) else {
            return Duration::ZERO;
        };
        let doubled = 1_u32.checked_shl(over).unwrap_or(u32::MAX);
        WAIT_FIRST.saturating_mul(doubled).min(WAIT_MAX)
    }

    fn make_room(&mut self, now: Instant) {
        if self.failures.len() < KEYS_MAX {
            return;
        }
        let is_recent = |one: &Failures| now.saturating_duration_since(one.last) < FORGOTTEN_AFTER;
        self.failures.retain(|_, one| is_recent(one));
        while self.failures.len() >= KEYS_MAX {
            // Whoever has failed least often loses least protection.
            let least = self
                .failures
                .iter()
                .min_by_key(|(_, one)| (one.count, one.last));
            let Some(key) = least.map(|(key, _)| key.clone()) else {
                return;
            };
            self.failures.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Attempts, FORGOTTEN_AFTER, KEYS_MAX, WAIT_MAX};

    const FREE: u32 = 5;

    #[test]
    fn each_failure_makes_the_next_attempt_wait_longer() {
        let mut attempts = Attempts::new(FREE);
        let mut now = Instant::now();
        for _ in 0..FREE {
            attempts.begin(&"ann", now).expect("the first are free");
        }
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            let wait = attempts.begin(&"ann", now).expect_err("too early");
            assert!(wait >= last && wait <= WAIT_MAX, "{wait:?}");
            last = wait;
            now += wait;
            attempts.begin(&"ann", now).expect("it has waited");
        }
        assert_eq!(last, WAIT_MAX);
        attempts
            .begin(&"ben", now)
            .expect("others are not kept out");
        now += FORGOTTEN_AFTER;
        attempts.begin(&"ann", now).expect("it was forgotten");
    }

    #[test]
    fn a_success_ends_the_wait() {
        let mut attempts = Attempts::new(FREE);
        let now = Instant::now();
        for _ in 0..FREE {
            attempts.begin(&1, now).expect("the first are free");
        }
        attempts.begin(&1, now).expect_err("too early");
        attempts.succeeded(&1);
        attempts.begin(&1, now).expect("it begins again");
    }

    #[test]
    fn many_names_do_not_fill_the_memory_nor_free_the_one_that_is_guessed() {
        let mut attempts = Attempts::new(FREE);
        let now = Instant::now();
        for _ in 0..FREE {
            attempts.begin(&0, now).expect("the first are free");
        }
        for name in 1..KEYS_MAX + 100 {
            attempts.begin(&name, now).expect("it is its first");
        }
        assert!(attempts.failures.len() <= KEYS_MAX);
        attempts.begin(&0, now).expect_err("it still waits");
    }
}
