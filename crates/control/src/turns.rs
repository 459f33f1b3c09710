//! Whose turn it is: what concerns one session comes one after the other. And how often something is noted
//! that strangers can cause.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use stockade_types::UnixMillis;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::state::SessionKey;

/// Sessions share this many locks; two that share one wait for each other, and nothing else happens.
const LOCKS: usize = 1_024;
const LOCKS_U64: u64 = LOCKS as u64;

/// The locks.
#[derive(Debug)]
pub(crate) struct Turns {
    locks: Vec<Arc<Mutex<()>>>,
}

impl Default for Turns {
    fn default() -> Self {
        let locks = std::iter::repeat_with(Arc::default).take(LOCKS);
        Self {
            locks: locks.collect(),
        }
    }
}

impl Turns {
    /// Waits for the turn of a session.
    pub(crate) async fn of(&self, key: &SessionKey) -> Option<OwnedMutexGuard<()>> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let hash = usize::try_from(hasher.finish() % LOCKS_U64).unwrap_or_default();
        let lock = Arc::clone(self.locks.get(hash)?);
        Some(lock.lock_owned().await)
    }
}

/// A number of times in a minute.
#[derive(Debug)]
pub(crate) struct Allowance {
    per_minute: u32,
    /// When the minute began, and how often in it.
    used: std::sync::Mutex<(UnixMillis, u32)>,
}

impl Allowance {
    pub(crate) const fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            used: std::sync::Mutex::new((UnixMillis(0), 0)),
        }
    }

    /// Tells whether it may be done once more.
    pub(crate) fn take(&self, now: UnixMillis) -> bool {
        let used = self.used.lock();
        let mut used = used.unwrap_or_else(std::sync::PoisonError::into_inner);
        if now.0.abs_diff(used.0.0) >= 60_000 {
            *used = (now, 0);
        }
        used.1 = used.1.saturating_add(1);
        used.1 <= self.per_minute
    }
}
