//! What the server keeps in memory of machines and sessions that send, so that a piece of a journal reads
//! nothing of the state.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use stockade_api::NodeId;
use stockade_types::Digest;

use crate::{
    ControlError, Server,
    clock::now,
    state::{NodeRow, SessionKey, Tip},
};

/// Sessions, and certificates; beyond that all are read again.
const SESSIONS_MAX: usize = 8_192;
const CERTIFICATES_MAX: usize = 8_192;
/// How long a machine is believed to be what it was. One that is retired is forgotten at once; what comes to an
/// end by itself, its certificate, is looked at again after this.
const BELIEVED: Duration = Duration::from_secs(5);

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
    fn get(&self, key: &K) -> Option<V> {
        self.lock().by_key.get(key).cloned()
    }

    fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    /// Keeps a value, unless something was forgotten since.
    fn keep(&self, key: K, value: V, count_max: usize, since: u64) {
        let mut all = self.lock();
        if all.forgotten != since {
            return;
        }
        if all.by_key.len() >= count_max && !all.by_key.contains_key(&key) {
            all.by_key.clear();
        }
        all.by_key.insert(key, value);
    }

    fn forget(&self, is_meant: impl Fn(&K, &V) -> bool) {
        let mut all = self.lock();
        all.forgotten = all.forgotten.wrapping_add(1);
        all.by_key.retain(|key, value| !is_meant(key, value));
    }

    fn lock(&self) -> MutexGuard<'_, All<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Returns how far the journal of a session is here.
    pub(crate) async fn tip(&self, key: &SessionKey) -> Result<Option<Tip>, ControlError> {
        if let Some(tip) = self.tips.get(key) {
            return Ok(Some(tip));
        }
        self.state.tip(key).await
    }

    /// Takes in how far a journal is here, which the state has. Only whoever has the turn of the session
    /// says so, and forgets it.
    pub(crate) fn know_tip(&self, key: &SessionKey, tip: Tip) {
        let since = self.tips.forgotten();
        self.tips.keep(key.clone(), tip, SESSIONS_MAX, since);
    }

    /// Forgets how far a journal is here.
    pub(crate) fn forget_tip(&self, key: &SessionKey) {
        self.tips.lock().by_key.remove(key);
    }

    /// Returns whose certificate it is, as it was a moment ago.
    pub(crate) async fn sender(
        &self,
        certificate: &Digest,
    ) -> Result<Option<NodeRow>, ControlError> {
        if let Some((node, at)) = self.senders.get(certificate)
            && at.elapsed() < BELIEVED
        {
            return Ok(Some(node));
        }
        // A machine that is retired meanwhile is not kept.
        let (at, since) = (Instant::now(), self.senders.forgotten());
        let node = self.state.node_of(certificate, now()).await?;
        if let Some(node) = &node {
            let known = (node.clone(), at);
            self.senders
                .keep(*certificate, known, CERTIFICATES_MAX, since);
        }
        Ok(node)
    }

    /// Forgets a machine.
    pub(crate) fn forget_sender(&self, id: &NodeId) {
        self.senders.forget(|_, (node, _)| node.id == *id);
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
