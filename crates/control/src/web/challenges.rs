//! Challenges for passkeys that were drawn and not used yet. Each is used once.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How long a person may take to touch the authenticator.
const LIFETIME: Duration = Duration::from_mins(5);
/// Challenges that are open at one time. Anyone can have one drawn, so the oldest go first.
const OPEN_MAX: usize = 10_000;

/// What a challenge was drawn for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To sign in.
    SignIn,
    /// To register a passkey: of a person, or with a link.
    Register(String),
}

/// The open ones.
#[derive(Default)]
pub(crate) struct Challenges {
    open: HashMap<[u8; 32], (Purpose, Instant)>,
}

impl Challenges {
    pub(crate) fn add(&mut self, challenge: [u8; 32], purpose: Purpose, now: Instant) {
        if self.open.len() >= OPEN_MAX {
            self.open.retain(|_, (_, until)| *until > now);
        }
        if self.open.len() >= OPEN_MAX {
            let oldest = self.open.iter().min_by_key(|(_, (_, until))| *until);
            if let Some(oldest) = oldest.map(|(challenge, _)| *challenge) {
                self.open.remove(&oldest);
            }
        }
        self.open.insert(challenge, (purpose, now + LIFETIME));
    }

    /// Uses a challenge; `false` if it was not drawn for this, is too old or was used.
    pub(crate) fn take(&mut self, challenge: &[u8], purpose: &Purpose, now: Instant) -> bool {
        let Ok(challenge) = <[u8; 32]>::try_from(challenge) else {
            return false;
        };
        let found = self.open.remove(&challenge);
        found.is_some_and(|(drawn_for, until)| drawn_for == *purpose && now < until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Challenges, LIFETIME, OPEN_MAX, Purpose};

    #[test]
    fn a_challenge_is_used_once_in_time_and_for_its_purpose() {
        let mut challenges = Challenges::default();
        let now = Instant::now();
        let register = Purpose::Register("u-1".to_owned());
        for challenge in 0..4 {
            challenges.add([challenge; 32], Purpose::SignIn, now);
        }
        assert!(challenges.take(&[0; 32], &Purpose::SignIn, now));
        assert!(!challenges.take(&[0; 32], &Purpose::SignIn, now));
        assert!(!challenges.take(&[1; 32], &register, now));
        assert!(!challenges.take(&[2; 32], &Purpose::SignIn, now + LIFETIME));
        assert!(!challenges.take(&[3; 31], &Purpose::SignIn, now));
        assert!(!challenges.take(&[9; 32], &Purpose::SignIn, now));
    }

    #[test]
    fn as_many_are_open_as_fit() {
        let mut challenges = Challenges::default();
        let now = Instant::now();
        for number in 0..OPEN_MAX + 10 {
            let mut challenge = [0; 32];
            for (digit, byte) in number.to_be_bytes().into_iter().zip(&mut challenge) {
                *byte = digit;
            }
            challenges.add(challenge, Purpose::SignIn, now);
        }
        assert!(challenges.open.len() <= OPEN_MAX);
    }
}
