//! What sessions have come to so far, for those who look at lists of them.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use stockade_event::Summary;
use stockade_journal::{Reader, layout::session_dir, read};

use crate::state::SessionKey;

/// Sessions whose journals are followed; another one is read from its beginning again.
const FOLLOWED_MAX: usize = 256;

/// Follows journals, so that each event is read once.
#[derive(Clone, Default)]
pub(crate) struct Summaries {
    followed: Arc<Mutex<HashMap<SessionKey, Followed>>>,
}

struct Followed {
    reader: Reader,
    summary: Summary,
}

impl Summaries {
    /// Reads what is new of a journal below the directory of its machine; blocks. `None` if it cannot be
    /// read, which concerns the list and not the record.
    pub(crate) fn update(&self, node_dir: &Path, key: &SessionKey) -> Option<Summary> {
        let known = self.lock().remove(key);
        let mut followed = match known {
            Some(followed) => followed,
            None => Followed {
                reader: read(&session_dir(node_dir, &key.session)).ok()?,
                summary: Summary::default(),
            },
        };
        for envelope in followed.reader.by_ref().flatten() {
            followed.summary.add(&envelope);
        }
        let summary = followed.summary.clone();
        let mut all = self.lock();
        if summary.outcome.is_none() {
            if all.len() >= FOLLOWED_MAX {
                all.clear();
            }
            all.insert(key.clone(), followed);
        }
        Some(summary)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionKey, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
