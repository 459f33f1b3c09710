//! The time after a question that closed by itself, in which keys are still meant for it.

use std::time::{Duration, Instant};

/// Silence after which keys are meant for something else: longer than between two keys of a
/// person who types.
const SILENCE: Duration = Duration::from_millis(300);
/// The same for somebody who was writing a reason, and stops to think between two words.
const SILENCE_WRITING: Duration = Duration::from_secs(1);
/// Longest time in all: somebody who types on for this long has looked at the screen.
const HUSH_MAX: Duration = Duration::from_secs(5);

/// What a person was doing when the question went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Reading,
    Writing,
}

impl Doing {
    /// Returns the silence after which keys count again.
    pub(super) const fn silence(self) -> Duration {
        match self {
            Self::Reading => SILENCE,
            Self::Writing => SILENCE_WRITING,
        }
    }
}

/// A time of deafness.
#[derive(Debug)]
pub(super) struct Hush {
    doing: Doing,
    quiet: Instant,
    end: Instant,
}

impl Hush {
    pub(super) fn new(doing: Doing, now: Instant) -> Self {
        Self {
            doing,
            quiet: now + doing.silence(),
            end: now + HUSH_MAX,
        }
    }

    /// Returns what the person was doing.
    pub(super) const fn doing(&self) -> Doing {
        self.doing
    }

    /// Notes that keys came.
    pub(super) fn hear(&mut self, now: Instant) {
        self.quiet = now + self.doing.silence();
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
        let mut hush = Hush::new(Doing::Reading, begun);
        assert!(!hush.is_over(begun) && hush.is_over(begun + SILENCE));
        let mut now = begun;
        while now + SILENCE / 2 < begun + HUSH_MAX {
            assert!(!hush.is_over(now));
            hush.hear(now);
            now += SILENCE / 2;
        }
        assert!(hush.is_over(begun + HUSH_MAX));
        let writing = Hush::new(Doing::Writing, begun);
        assert!(!writing.is_over(begun + SILENCE));
    }
}
