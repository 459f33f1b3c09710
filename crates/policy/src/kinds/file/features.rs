//! A change of a file, as rules look at it.

use crate::{
    FileRequest,
    pattern::{PathPattern, glob::Case},
};

#[derive(Debug)]
pub(crate) struct FileFeatures<'r> {
    pub(crate) request: &'r FileRequest,
}

impl FileFeatures<'_> {
    /// A pattern with a root is compared with the path; any other with the path below the
    /// workspace, or with the path if the file is elsewhere. Case is ignored, because some file
    /// systems ignore it.
    pub(crate) fn matches(&self, pattern: &PathPattern) -> bool {
        pattern.matches(self.text(pattern), Case::Ignore)
    }

    fn text(&self, pattern: &PathPattern) -> &[u8] {
        match &self.request.workspace_relative {
            Some(relative) if !pattern.is_rooted() => relative.as_bytes(),
            _ => self.request.path.as_bytes(),
        }
    }
}
