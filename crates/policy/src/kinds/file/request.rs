//! The known facts about a file that is about to be changed.

use serde::{Deserialize, Serialize};
use stockade_types::{Access, Digest, RawText, Subject, Target};

use crate::{canonical::Canonical, kinds::exec::Effect};

/// A file is about to be changed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct FileRequest {
    /// Canonical path inside the boundary.
    pub path: RawText,
    /// Path below the workspace, if it is in the workspace.
    #[serde(default)]
    pub workspace_relative: Option<RawText>,
    /// The change to it.
    pub access: Access,
    /// Its content afterwards, if all of it is known and shown: without this a change of a
    /// protected file is refused, with it a person is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<FileContent>,
    /// The process that wants the change.
    #[serde(default)]
    pub subject: Subject,
}

/// The content of protected files after a change; an answer is valid only for this content.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// Hash over each path and its future content.
    pub digest: Digest,
    /// The parts that are shown.
    pub effects: Vec<Effect>,
}

impl FileContent {
    /// Makes the content of files from each path and its bytes, or nothing if the file is removed.
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

    /// Adds the parts that were shown, which do not depend on the process that asks.
    pub(crate) fn hash_shape(&self, hash: &mut Canonical) {
        hash.field(b"file")
            .field(self.path.as_bytes())
            .field(self.access.as_str().as_bytes());
        if let Some(content) = &self.content {
            hash.field(content.digest.as_bytes());
        }
    }

    /// Adds everything that identifies this exact request.
    pub(crate) fn hash(&self, hash: &mut Canonical) {
        self.hash_shape(hash);
        hash.field(self.subject.exe.as_bytes());
    }
}
