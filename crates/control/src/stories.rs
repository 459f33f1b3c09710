//! Sessions by what they came of, for those who look at one: folded once, and folded on while it grows.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use stockade_event::{
    Envelope,
    tree::{Grown, Tree, Wanted},
};
use stockade_journal::{Resting, read};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::state::SessionKey;

/// Sessions that are remembered.
const STORIES_MAX: usize = 3;
/// Events of a session that are folded; later ones are counted.
pub(crate) const EVENTS_MAX: u64 = 1_000_000;
/// Journals that are read for pages at one time: beside the gate of what machines wait for.
const READS: usize = 2;
/// How long a page waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sessions that people look at.
#[derive(Clone)]
pub(crate) struct Stories {
    known: Arc<Mutex<Vec<Story>>>,
    places: Arc<Semaphore>,
}

struct Story {
    key: SessionKey,
    /// Events that are folded.
    events: u64,
    grown: Arc<Grown>,
    /// How it goes on.
    rest: Rest,
}

/// Where a story goes on.
struct Rest {
    reader: Resting,
    /// An event that was read and does not count yet.
    ahead: Option<Envelope>,
    tree: Tree,
}

impl Default for Stories {
    fn default() -> Self {
        Self {
            known: Arc::default(),
            places: Arc::new(Semaphore::new(READS)),
        }
    }
}

impl Stories {
    /// Waits for a place to read a journal for a page; `None` if that takes too long.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).acquire_owned();
        timeout(PATIENCE, place).await.ok()?.ok()
    }

    /// Returns the first `until` events of a session by what they came of; blocks. `None` if there is no
    /// journal, or it cannot be read.
    pub(crate) fn read(&self, dir: &Path, key: &SessionKey, until: u64) -> Option<Arc<Grown>> {
        let until = until.min(EVENTS_MAX);
        let known = self.take(key);
        if let Some(story) = known.as_ref().filter(|story| story.events == until) {
            let grown = Arc::clone(&story.grown);
            self.put(known);
            return Some(grown);
        }
        let known = known.filter(|story| story.events < until);
        let (mut reader, mut ahead, mut tree) = match known.map(|story| story.rest) {
            Some(rest) => (rest.reader.resume().ok()?, rest.ahead, rest.tree),
            None => (read(dir).ok()?, None, Tree::default()),
        };
        loop {
            let next = ahead.take().or_else(|| reader.by_ref().flatten().next());
            let Some(envelope) = next else { break };
            if envelope.seq > until {
                ahead = Some(envelope);
                break;
            }
            tree.add(&envelope, Wanted::Whole);
        }
        let grown = Arc::new(tree.clone().finish());
        self.put(Some(Story {
            key: key.clone(),
            events: until,
            grown: Arc::clone(&grown),
            rest: Rest {
                reader: reader.rest(),
                ahead,
                tree,
            },
        }));
        Some(grown)
    }

    fn take(&self, key: &SessionKey) -> Option<Story> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = known.iter().position(|story| story.key == *key)?;
        Some(known.remove(place))
    }

    /// Remembers a story, and forgets the one that was asked for the longest time ago.
    fn put(&self, story: Option<Story>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(story);
        while known.len() > STORIES_MAX {
            known.remove(0);
        }
    }
}
