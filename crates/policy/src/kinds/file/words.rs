//! The texts about files in decisions.

use super::{FileBody, FileFeatures};

impl FileFeatures<'_> {
    /// Returns the smallest rule that would allow this.
    pub(crate) fn suggestion(&self) -> String {
        let below = self.request.workspace_relative.as_ref();
        let path = below.unwrap_or(&self.request.path);
        format!(
            "an [[allow]] rule with what = \"file\", paths = [\"{}\"]",
            path.display()
        )
    }
}

impl FileBody {
    /// Returns a request that one of the paths allows.
    pub(crate) fn example(&self, pattern: usize) -> Option<String> {
        self.paths.get(pattern).map(|path| path.text().to_owned())
    }
}
