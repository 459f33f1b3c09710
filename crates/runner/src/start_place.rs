//! Where a command starts.

use std::path::Path;

use stockade_types::AbsPath;

use crate::RunError;

/// Returns the workspace without links, if it can be listed.
pub(crate) fn readable_workspace(given: &Path) -> Result<AbsPath, RunError> {
    let workspace = std::fs::canonicalize(given)
        .and_then(|path| std::fs::read_dir(&path).map(|_| path))
        .map_err(|source| RunError::Workspace {
            path: given.to_owned(),
            source,
        })?;
    AbsPath::new(&workspace).map_err(|_| RunError::Path(given.to_owned()))
}

/// Returns the directory that the command starts in: the one given, where it lies in the workspace.
pub(crate) fn start_directory(given: &Path, workspace: &AbsPath) -> AbsPath {
    std::fs::canonicalize(given)
        .ok()
        .and_then(|path| AbsPath::new(path).ok())
        .filter(|cwd| cwd.is_within(workspace))
        .unwrap_or_else(|| workspace.clone())
}
