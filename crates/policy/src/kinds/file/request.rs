//! What is known of a file that is about to be changed.

use serde::{Deserialize, Serialize};
use stockade_types::{Access, Digest, RawText, Subject, Target};

use crate::{canonical::Canonical, kinds::exec::Effect};

/// A file is about to be changed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct FileRequest {
    /// Canonical path inside the boundary.
    pub path: RawText,
    /// Path below the workspace, where it is in the workspace.
    #[serde(default)]
    pub workspace_relative: Option<RawText>,
    /// What would happen to it.
    pub access: Access,
    /// What would be there afterwards, where all of it is known and shown: without it a protected
    /// file is refused, with it somebody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<FileContent>,
    /// Who wants it.
    #[serde(default)]
    pub subject: Subject,
}

/// What protected files would have in them after a change; an answer holds for this alone.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// Hash over each path with what would be there.
    pub digest: Digest,
    /// What is shown of it.
    pub effects: Vec<Effect>,
}

impl FileContent {
    /// Makes the content of files, by path: the bytes of each, or nothing where it goes.
    pub fn new<'f>(
        files: impl IntoIterator<Item = (&'f RawText, Option<&'f [u8]>)>,
        effects: Vec<Effect>,
    ) -> Self {
        let mut hash = Canonical::new(b"stockade content 1");
        for (path, bytes) in files {
            hash.field(path.as_bytes());
            match bytes {
                Some(bytes) => hash.field(b"is").field(bytes),
                None => hash.field(b"goes"),
            };
        }
        Self {
            digest: hash.finish(),
            effects,
        }
    }
}

impl FileRequest {
    pub(crate) fn target(&self) -> Target {
        Target {
            path: Some(self.path.clone()),
            access: Some(self.access),
            ..Target::default()
        }
    }

    /// Adds what was shown of it: the same whoever asks.
    pub(crate) fn hash_shape(&self, hash: &mut Canonical) {
        hash.field(b"file")
            .field(self.path.as_bytes())
            .field(self.access.as_str().as_bytes());
        if let Some(content) = &self.content {
            hash.field(content.digest.as_bytes());
        }
    }

    /// Adds what makes it this request and no other.
    pub(crate) fn hash(&self, hash: &mut Canonical) {
        self.hash_shape(hash);
        hash.field(self.subject.exe.as_bytes());
    }
}
