//! The parts of the view where changes are watched: the workspace, and what policy lets write
//! beside it.

use std::path::Path;

use stockade_types::AbsPath;

/// What kind of place a path lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Area {
    /// The workspace: rules of policy are about it, and its changes are recorded.
    Workspace,
    /// A directory that policy lets write (`filesystem.write`): protected names hold there too.
    Share,
}

/// The watched places of one session.
#[derive(Debug)]
pub(crate) struct Areas {
    workspace: AbsPath,
    shares: Vec<AbsPath>,
}

impl Areas {
    pub(crate) fn new(workspace: AbsPath, shares: Vec<AbsPath>) -> Self {
        Self { workspace, shares }
    }

    /// Returns the area that a path lies in and its path there; `None` for the rest of the view. A
    /// directory that holds another one counts only for what lies outside of it.
    pub(crate) fn of<'p>(&self, path: &'p Path) -> Option<(Area, &'p Path)> {
        if let Ok(below) = path.strip_prefix(self.workspace.as_path()) {
            return Some((Area::Workspace, below));
        }
        let below = |share: &AbsPath| path.strip_prefix(share.as_path()).ok();
        let shortest = |path: &&Path| path.as_os_str().len();
        let found = self.shares.iter().filter_map(below).min_by_key(shortest);
        found.map(|below| (Area::Share, below))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stockade_types::AbsPath;

    use super::{Area, Areas};

    #[test]
    fn the_innermost_area_counts() {
        let path = |text: &str| AbsPath::new(text).unwrap();
        let areas = Areas::new(path("/w/x"), vec![path("/w"), path("/w/y")]);
        let of = |text: &'static str| areas.of(Path::new(text));
        assert_eq!(of("/w/x/a"), Some((Area::Workspace, Path::new("a"))));
        assert_eq!(of("/w/x"), Some((Area::Workspace, Path::new(""))));
        assert_eq!(of("/w/y/.git"), Some((Area::Share, Path::new(".git"))));
        assert_eq!(of("/w/z/b"), Some((Area::Share, Path::new("z/b"))));
        assert_eq!(of("/wx"), None);
    }
}
