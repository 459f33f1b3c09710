//! The record of the files last copied for an agent, and what it means for the agent's present
//! copies.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use serde::{Deserialize, Serialize};
use stockade_types::Digest;

use crate::merge;

/// Largest list of copied files.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// Largest file whose text is kept, so that changes of both sides can be separated by keys.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The files last copied, by their path below the directory. No session sees it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seeded(BTreeMap<String, Original>);

/// A user's file as it was when it was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Original {
    pub(crate) digest: Digest,
    /// Size, inode and change time in nanoseconds: while they are unchanged, so is the content.
    size: u64,
    inode: u64,
    changed: i128,
    /// Its text, for small settings files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The user's version that was not copied because both sides had changed, once that was
    /// reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<Digest>,
}

impl Seeded {
    /// Reads a list; a missing or damaged one is empty, and then the user's files win.
    pub(crate) fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        let read =
            fs::File::open(path).and_then(|file| file.take(LIST_BYTES_MAX).read_to_end(&mut bytes));
        read.ok()
            .and_then(|_| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Writes the list, as a whole.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        let temporary = path.with_extension(format!("{}", std::process::id()));
        fs::write(&temporary, bytes)?;
        fs::rename(&temporary, path)
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Original> {
        self.0.get(path)
    }

    pub(crate) fn set(&mut self, path: &str, original: Original) {
        self.0.insert(path.to_owned(), original);
    }

    pub(crate) fn forget(&mut self, path: &str) {
        self.0.remove(path);
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

impl Original {
    /// Describes a file that is copied now; `None` represents a missing one.
    pub(crate) fn of(path: &str, metadata: Option<&fs::Metadata>, contents: &[u8]) -> Self {
        let is_settings = Path::new(path)
            .extension()
            .is_some_and(|ending| ending == "json" || ending == "toml");
        let text = (is_settings && contents.len() <= TEXT_BYTES_MAX)
            .then(|| String::from_utf8(contents.to_vec()).ok())
            .flatten();
        Self {
            digest: Digest::of(contents),
            size: metadata.map_or(0, fs::Metadata::len),
            inode: metadata.map_or(0, fs::Metadata::ino),
            changed: metadata.map_or(0, changed),
            text,
            told: None,
        }
    }

    /// Whether a file is still the one that was copied.
    pub(crate) fn is(&self, metadata: &fs::Metadata) -> bool {
        let same = (metadata.len(), metadata.ino(), changed(metadata));
        (self.size, self.inode, self.changed) == same
    }

    /// Records that a version of the user's file was not copied, and that this was reported.
    pub(crate) const fn tell(&mut self, version: Digest) {
        self.told = Some(version);
    }
}

/// Returns when a file was last changed, in nanoseconds; programs cannot set this time.
fn changed(metadata: &fs::Metadata) -> i128 {
    i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec())
}

/// The agent's content in the place of a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inside<'a> {
    Nothing,
    /// Not a readable file.
    Other,
    File(&'a [u8]),
}

/// How a file is treated if both sides have changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Settings,
    /// The agent writes it at every start.
    Merged,
    /// It contains a login: the user's is the valid one.
    Login,
}

/// The action for a copy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It stays. If both sides are equal, that content counts as copied.
    Leave,
    /// It gets this content; the keys are those that both sides changed.
    Put(Vec<u8>, Vec<String>),
    /// It gets this content, and the old file is kept beside it.
    PutAside(Vec<u8>),
    /// It stays although the user's file has changed too, which is reported if it is new.
    Keep { is_new: bool },
}

/// Decides by content alone, never by which side changed a file last.
pub(crate) fn decide(
    path: &str,
    known: Option<&Original>,
    owner: &[u8],
    inside: Inside<'_>,
    kind: Kind,
) -> Deed {
    let version = Digest::of(owner);
    let is_unchanged = known.is_some_and(|known| known.digest == version);
    let contents = match inside {
        Inside::Nothing => return Deed::Put(owner.to_vec(), Vec::new()),
        // A file that the agent made unreadable belongs to the agent.
        Inside::Other => return Deed::PutAside(owner.to_vec()),
        Inside::File(contents) => contents,
    };
    let copy = Digest::of(contents);
    if is_unchanged || copy == version {
        return Deed::Leave;
    }
    if kind == Kind::Login || known.is_some_and(|known| known.digest == copy) {
        return Deed::Put(owner.to_vec(), Vec::new());
    }
    // A file that was never copied counts as empty before.
    let before = known.map_or(Some(""), |known| known.text.as_deref());
    let texts = (std::str::from_utf8(owner), std::str::from_utf8(contents));
    if let (Some(before), (Ok(owner), Ok(agent))) = (before, texts)
        && let Some(merged) = merge::merge(Path::new(path), before, owner, agent)
    {
        let contested = match kind {
            Kind::Merged => Vec::new(),
            Kind::Settings | Kind::Login => merged.contested,
        };
        return Deed::Put(merged.text.into_bytes(), contested);
    }
    let is_told = known.is_some_and(|known| known.told == Some(version));
    Deed::Keep {
        is_new: kind == Kind::Settings && !is_told,
    }
}
