//! What the server keeps in memory of machines and sessions that send, so that a piece of a journal reads
//! nothing of the state.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use stockade_types::Digest;

use crate::state::{NodeRow, SessionKey, Tip};

/// What is in memory.
#[derive(Debug)]
pub(crate) struct Known<K, V>(Mutex<All<K, V>>);

#[derive(Debug)]
struct All<K, V> {
    by_key: HashMap<K, V>,
    /// Counts what was forgotten: what was read before is not kept after it.
    forgotten: u64,
}

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self(Mutex::new(All {
            by_key: HashMap::new(),
            forgotten: 0,
        }))
    }
}

/// How far journals are here.
pub(crate) type Tips = Known<SessionKey, Tip>;
/// Whose certificates are.
pub(crate) type Senders = Known<Digest, (NodeRow, Instant)>;

impl<K: Eq + Hash, V: Clone> Known<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.lock().by_key.get(key).cloned()
    }

    pub(crate) fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    /// Keeps a value, unless something was forgotten since.
    pub(crate) fn keep(&self, key: K, value: V, count_max: usize, since: u64) {
        let mut all = self.lock();
        if all.forgotten != since {
            return;
        }
        if all.by_key.len() >= count_max && !all.by_key.contains_key(&key) {
            all.by_key.clear();
        }
        all.by_key.insert(key, value);
    }

    pub(crate) fn forget(&self, is_meant: impl Fn(&K, &V) -> bool) {
        let mut all = self.lock();
        all.forgotten = all.forgotten.wrapping_add(1);
        all.by_key.retain(|key, value| !is_meant(key, value));
    }

    /// Forgets one value, which only its reader keeps again.
    pub(crate) fn remove(&self, key: &K) {
        self.lock().by_key.remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, All<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Known;

    #[test]
    fn what_was_read_before_something_was_forgotten_is_not_kept_after_it() {
        let known = Known::<u32, u32>::default();
        let since = known.forgotten();
        known.keep(1, 10, 2, since);
        assert_eq!(known.get(&1), Some(10));
        // Read, then forgotten by another one, then kept: it would be there again.
        known.forget(|key, _| *key == 1);
        known.keep(1, 10, 2, since);
        assert_eq!(known.get(&1), None);
        let since = known.forgotten();
        for key in 1..=3 {
            known.keep(key, key, 2, since);
        }
        assert_eq!((known.get(&1), known.get(&3)), (None, Some(3)));
    }
}
