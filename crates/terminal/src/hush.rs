//! The time after a question closed by itself, in which keys may still be meant for it.

use std::time::{Duration, Instant};

use super::dialog::SILENCE;

/// Longest time in all: a person who types this long has looked at the screen.
const HUSH_MAX: Duration = Duration::from_secs(5);

/// A time in which keys are ignored.
#[derive(Debug)]
pub(super) struct Hush {
    quiet: Instant,
    end: Instant,
}

impl Hush {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            quiet: now + SILENCE,
            end: now + HUSH_MAX,
        }
    }

    /// Notes that keys came.
    pub(super) fn hear(&mut self, now: Instant) {
        self.quiet = now + SILENCE;
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.quiet || now >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_on_keeps_it_deaf_for_a_few_seconds_at_most() {
        let begun = Instant::now();
        let mut hush = Hush::new(begun);
        assert!(!hush.is_over(begun) && hush.is_over(begun + SILENCE));
        let mut now = begun;
        while now + SILENCE / 2 < begun + HUSH_MAX {
            assert!(!hush.is_over(now));
            hush.hear(now);
            now += SILENCE / 2;
        }
        assert!(hush.is_over(begun + HUSH_MAX));
    }
}
