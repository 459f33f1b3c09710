//! Attempts to sign in at a provider that have begun and are not over. Each ends once, in the browser in
//! which it began.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use stockade_trust::UserId;

/// How long a person may take at the provider.
const LIFETIME: Duration = Duration::from_mins(10);
/// Attempts that are open at one time. Anyone can begin one, so the oldest go first.
const OPEN_MAX: usize = 10_000;

/// An attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// The hash of the cookie of the browser.
    pub(crate) browser: String,
    /// What the token has to repeat.
    pub(crate) nonce: String,
    /// What proves that who exchanges the code has begun the attempt (PKCE, RFC 7636).
    pub(crate) verifier: String,
    /// Where the person goes on.
    pub(crate) next: String,
    /// The person who is signed in already and proves it again, and the session that ends with that.
    pub(crate) again: Option<(UserId, String)>,
}

/// The open ones.
#[derive(Default)]
pub(crate) struct Attempts {
    open: HashMap<String, (Attempt, Instant)>,
}

impl Attempts {
    pub(crate) fn add(&mut self, state: String, attempt: Attempt, now: Instant) {
        if self.open.len() >= OPEN_MAX {
            self.open.retain(|_, (_, until)| *until > now);
        }
        if self.open.len() >= OPEN_MAX {
            let oldest = self.open.iter().min_by_key(|(_, (_, until))| *until);
            if let Some(oldest) = oldest.map(|(state, _)| state.clone()) {
                self.open.remove(&oldest);
            }
        }
        self.open.insert(state, (attempt, now + LIFETIME));
    }

    /// Ends an attempt; `None` if there is none of this name, it is too old, or another browser began it.
    /// It is over then, too.
    pub(crate) fn take(&mut self, state: &str, browser: &str, now: Instant) -> Option<Attempt> {
        let (attempt, until) = self.open.remove(state)?;
        (now < until && attempt.browser == browser).then_some(attempt)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Attempt, Attempts, LIFETIME, OPEN_MAX};

    fn attempt(browser: &str) -> Attempt {
        Attempt {
            browser: browser.to_owned(),
            nonce: String::new(),
            verifier: String::new(),
            next: String::new(),
            again: None,
        }
    }

    #[test]
    fn an_attempt_ends_once_in_time_and_in_its_browser() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for state in ["a", "b", "c"] {
            attempts.add(state.to_owned(), attempt("one"), now);
        }
        assert!(attempts.take("a", "one", now).is_some());
        assert_eq!(attempts.take("a", "one", now), None);
        assert_eq!(attempts.take("b", "two", now), None);
        assert_eq!(attempts.take("b", "one", now), None);
        assert_eq!(attempts.take("c", "one", now + LIFETIME), None);
        assert_eq!(attempts.take("d", "one", now), None);
    }

    #[test]
    fn as_many_are_open_as_fit() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..OPEN_MAX + 10 {
            attempts.add(number.to_string(), attempt("one"), now);
        }
        assert_eq!(attempts.open.len(), OPEN_MAX);
    }
}
