//! What running sessions have come to, beside the taking of their journals: a summary is as large as what a
//! session did, so it is written when a session has grown for a while, and not with each piece.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::state::SessionKey;

/// How long a summary is not written again, at least.
const PACE: Duration = Duration::from_secs(5);
/// Bytes of a summary for each second that it is not written again: a large one is written more seldom.
const BYTES_OF_SECOND: usize = 16 * 1024;
/// Summaries that are written together.
const TOGETHER_MAX: usize = 16;
/// Sessions that wait for their summaries. One that does not is written once it grows again.
pub(crate) const WAITING_MAX: usize = 8_192;

/// Sessions that have grown.
#[derive(Debug, Default)]
pub(crate) struct Following {
    /// With the time before which they are not written again.
    grown: Mutex<HashMap<SessionKey, Grown>>,
}

#[derive(Clone, Copy, Debug)]
struct Grown {
    not_before: Instant,
    /// Whether it has grown since it was written.
    is_new: bool,
}

impl Following {
    /// Takes in that the journal of a session has grown.
    pub(crate) fn grown(&self, key: &SessionKey) {
        let mut all = self.lock();
        if let Some(grown) = all.get_mut(key) {
            grown.is_new = true;
        } else if all.len() < WAITING_MAX {
            let grown = Grown {
                not_before: Instant::now(),
                is_new: true,
            };
            all.insert(key.clone(), grown);
        }
    }

    /// Returns sessions that are to be written now.
    pub(crate) fn take(&self, now: Instant) -> Vec<SessionKey> {
        let mut all = self.lock();
        all.retain(|_, grown| grown.is_new || grown.not_before > now);
        let due = |(_, grown): &(&SessionKey, &mut Grown)| grown.is_new && grown.not_before <= now;
        let taken = all.iter_mut().filter(due).take(TOGETHER_MAX);
        let taken = taken.map(|(key, grown)| {
            *grown = Grown {
                not_before: now + PACE,
                is_new: false,
            };
            key.clone()
        });
        taken.collect()
    }

    /// Has a session wait as long as its summary is large.
    pub(crate) fn written(&self, key: &SessionKey, bytes: usize, now: Instant) {
        let seconds = u32::try_from(bytes / BYTES_OF_SECOND).unwrap_or(u32::MAX);
        let pause = PACE.saturating_add(Duration::from_secs(1).saturating_mul(seconds));
        if let Some(grown) = self.lock().get_mut(key) {
            grown.not_before = now + pause;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Grown>> {
        self.grown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use stockade_api::NodeId;
    use stockade_types::SessionId;

    use super::{BYTES_OF_SECOND, Following, PACE, SessionKey, WAITING_MAX};

    fn key(number: u64) -> SessionKey {
        SessionKey {
            node: NodeId::from_random(1),
            session: SessionId::from_random(number),
        }
    }

    #[test]
    fn a_session_is_written_when_it_has_grown_and_a_large_one_more_seldom() {
        let following = Following::default();
        following.grown(&key(1));
        let now = Instant::now();
        assert_eq!(following.take(now), [key(1)]);
        following.written(&key(1), 10 * BYTES_OF_SECOND, now);
        assert_eq!(following.take(now + 100 * PACE), [], "it has not grown");
        following.grown(&key(1));
        let now = Instant::now();
        assert_eq!(following.take(now), [key(1)]);
        following.grown(&key(1));
        following.written(&key(1), 10 * BYTES_OF_SECOND, now);
        assert_eq!(following.take(now + Duration::from_secs(14)), []);
        assert_eq!(following.take(now + Duration::from_secs(15)), [key(1)]);
    }

    #[test]
    fn no_more_sessions_wait_than_there_is_room_for() {
        let following = Following::default();
        for number in 0..u64::try_from(WAITING_MAX).unwrap() + 10 {
            following.grown(&key(number));
        }
        assert_eq!(following.lock().len(), WAITING_MAX);
    }
}
