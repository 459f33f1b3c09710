//! The parts of the view where changes are watched: the workspace, and what policy lets write
//! beside it.

use std::path::Path;

use stockade_plan::ShareFact;
use stockade_types::AbsPath;

/// What kind of place a path lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Area {
    /// The workspace: rules of policy are about it, and its changes are recorded.
    Workspace,
    /// A directory that policy lets write (`filesystem.write`): protected names hold there too.
    Share,
    /// The same, and it is or lies in a directory of packages.
    Packages,
}

/// The watched places of one session.
#[derive(Debug)]
pub(crate) struct Areas {
    workspace: AbsPath,
    shares: Vec<(AbsPath, Area)>,
}

impl Areas {
    /// With the shares as they are inside; `in_packages` tells which are or lie in packages.
    pub(crate) fn new(
        workspace: AbsPath,
        shares: &[ShareFact],
        in_packages: impl Fn(&ShareFact) -> bool,
    ) -> Self {
        let area = |share: &ShareFact| {
            if in_packages(share) {
                Area::Packages
            } else {
                Area::Share
            }
        };
        let shares = shares.iter();
        Self {
            workspace,
            shares: shares
                .map(|share| (share.path.clone(), area(share)))
                .collect(),
        }
    }

    /// Returns the area that a path lies in and its path there; `None` for the rest of the view. A
    /// directory that holds another one counts only for what lies outside of it.
    pub(crate) fn of<'p>(&self, path: &'p Path) -> Option<(Area, &'p Path)> {
        if let Ok(below) = path.strip_prefix(self.workspace.as_path()) {
            return Some((Area::Workspace, below));
        }
        let below = |(share, area): &(AbsPath, Area)| {
            let below = path.strip_prefix(share.as_path()).ok()?;
            Some((*area, below))
        };
        let shortest = |(_, path): &(Area, &Path)| path.as_os_str().len();
        self.shares.iter().filter_map(below).min_by_key(shortest)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stockade_plan::ShareFact;
    use stockade_types::AbsPath;

    use super::{Area, Areas};

    #[test]
    fn the_innermost_area_counts() {
        let path = |text: &str| AbsPath::new(text).unwrap();
        let share = |text: &str| ShareFact {
            path: path(text),
            from: path("/elsewhere"),
        };
        let shares = ["/w", "/w/y", "/w/p"].map(share);
        let areas = Areas::new(path("/w/x"), &shares, |share| share.path == path("/w/p"));
        let of = |text: &'static str| areas.of(Path::new(text));
        assert_eq!(of("/w/x/a"), Some((Area::Workspace, Path::new("a"))));
        assert_eq!(of("/w/x"), Some((Area::Workspace, Path::new(""))));
        assert_eq!(of("/w/y/.git"), Some((Area::Share, Path::new(".git"))));
        assert_eq!(of("/w/z/b"), Some((Area::Share, Path::new("z/b"))));
        assert_eq!(of("/w/p/b"), Some((Area::Packages, Path::new("b"))));
        assert_eq!(of("/wx"), None);
    }
}
