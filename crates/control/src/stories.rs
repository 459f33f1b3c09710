//! Sessions by what they came of, for those who look at one: folded once, and folded on while it grows.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use stockade_event::{
    Envelope,
    tree::{Grown, Node, Tree, Wanted},
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

/// The file beside the journal of a long session that has ended, with its tree. It can be made again from
/// the journal.
const FILE: &str = "timeline.zst";
/// The version of its content.
const VERSION: u32 = 1;
/// Events from which on it is kept: shorter sessions are folded in an instant.
pub(crate) const KEPT_MIN: u64 = 10_000;
/// Bytes of its content, unpacked: a tree has at most 32 MiB of texts.
const BYTES_MAX: u64 = 256 << 20;
/// How much it is compressed: it has to be read fast.
const LEVEL: i32 = 1;

/// What the file says: each node, and what stands for what was said in it.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    events: u64,
    more: u64,
    nodes: Vec<(Node, Option<String>)>,
}

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
    /// How it goes on; `None` if it has ended.
    rest: Option<Rest>,
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
    /// journal, or it cannot be read. The tree of a long session that has ended is kept beside its journal.
    pub(crate) fn read(
        &self,
        dir: &Path,
        key: &SessionKey,
        until: u64,
        has_ended: bool,
    ) -> Option<Arc<Grown>> {
        let until = until.min(EVENTS_MAX);
        let is_kept = has_ended && until >= KEPT_MIN;
        let known = self.take(key);
        if let Some(story) = known.as_ref().filter(|story| story.events == until) {
            let grown = Arc::clone(&story.grown);
            self.put(known);
            return Some(grown);
        }
        if let Some(grown) = is_kept.then(|| load(dir, until)).flatten() {
            let grown = Arc::new(grown);
            self.put(Some(Story {
                key: key.clone(),
                events: until,
                grown: Arc::clone(&grown),
                rest: None,
            }));
            return Some(grown);
        }
        let known = known.filter(|story| story.events < until);
        let (mut reader, mut ahead, mut tree) = match known.and_then(|story| story.rest) {
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
        let (grown, rest) = if has_ended {
            (Arc::new(tree.finish()), None)
        } else {
            let grown = Arc::new(tree.clone().finish());
            let reader = reader.rest();
            let rest = Rest {
                reader,
                ahead,
                tree,
            };
            (grown, Some(rest))
        };
        if is_kept {
            stockade_types::ignored(
                keep(dir, until, &grown),
                "it is made again when someone looks at the session",
            );
        }
        self.put(Some(Story {
            key: key.clone(),
            events: until,
            grown: Arc::clone(&grown),
            rest,
        }));
        Some(grown)
    }

    /// Makes the tree of a long session that has ended, before someone looks at it.
    pub(crate) async fn prepare(self, dir: std::path::PathBuf, key: SessionKey, events: u64) {
        if let Some(_place) = self.place().await {
            let made = tokio::task::spawn_blocking(move || {
                if load(&dir, events.min(EVENTS_MAX)).is_none() {
                    self.read(&dir, &key, events, true);
                }
            });
            stockade_types::ignored(made.await, "it is made when someone looks at the session");
        }
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

/// Reads the tree that is kept beside a journal, if it is that of these events.
fn load(dir: &Path, events: u64) -> Option<Grown> {
    let file = File::open(dir.join(FILE)).ok()?;
    let unpacked = zstd::stream::read::Decoder::new(file).ok()?.take(BYTES_MAX);
    let kept: Kept = serde_json::from_reader(BufReader::new(unpacked)).ok()?;
    if kept.version != VERSION || kept.events != events {
        return None;
    }
    let nodes = kept.nodes.into_iter().map(|(mut node, instead)| {
        node.instead = instead;
        node
    });
    Some(Grown {
        nodes: nodes.collect(),
        more: kept.more,
    })
}

/// Keeps a tree beside its journal.
fn keep(dir: &Path, events: u64, grown: &Grown) -> io::Result<()> {
    let (path, new) = (dir.join(FILE), dir.join("timeline.zst.new"));
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    let packed = zstd::stream::write::Encoder::new(file, LEVEL)?.auto_finish();
    let nodes = grown.nodes.iter();
    let kept = Kept {
        version: VERSION,
        events,
        more: grown.more,
        nodes: nodes
            .map(|node| (node.clone(), node.instead.clone()))
            .collect(),
    };
    serde_json::to_writer(BufWriter::new(packed), &kept)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use stockade_journal::layout::session_dir;
    use stockade_testkit::invented;
    use stockade_types::RawText;

    use super::{FILE, KEPT_MIN, Stories};
    use crate::state::SessionKey;

    /// A tree that was kept is the one that is made of the journal, and a wrong file is not believed.
    #[test]
    fn what_is_kept_is_what_is_made() {
        let state = tempfile::tempdir().unwrap();
        let turns = KEPT_MIN / invented::TURN_EVENTS + 1;
        let text = RawText::from("<b>\u{202e}words");
        let id = invented::record(state.path(), turns, &text);
        let key = SessionKey {
            node: stockade_api::NodeId::from_random(1),
            session: id.parse().unwrap(),
        };
        let dir = session_dir(state.path(), &key.session);
        let events = turns * invented::TURN_EVENTS + 3;
        let made = Stories::default().read(&dir, &key, events, true).unwrap();
        assert!(dir.join(FILE).exists());
        let kept = Stories::default().read(&dir, &key, events, true).unwrap();
        let said = |node: &&stockade_event::tree::Node| node.instead.is_some();
        assert!(
            kept.nodes.iter().filter(said).count() > 100,
            "the control: something was said"
        );
        for (made, kept) in made.nodes.iter().zip(&kept.nodes) {
            let (made, kept) = (format!("{made:?}"), format!("{kept:?}"));
            let cut = |text: &str| text.split("parent:").next().unwrap_or_default().to_owned();
            assert_eq!(cut(&made), cut(&kept));
        }
        assert_eq!(made.nodes.len(), kept.nodes.len());
        // Of fewer events, it is another tree.
        let fewer = Stories::default().read(&dir, &key, KEPT_MIN, true).unwrap();
        assert!(fewer.nodes.len() < kept.nodes.len());
        std::fs::write(dir.join(FILE), "no tree").unwrap();
        let again = Stories::default().read(&dir, &key, events, true).unwrap();
        assert_eq!(again.nodes.len(), made.nodes.len());
    }
}
