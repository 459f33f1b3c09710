//! The parts of the view where changes are watched: the workspace, and the directories beside it
//! that policy makes writable.

use std::{borrow::Cow, path::Path};

use stockade_plan::ShareFact;
use stockade_types::AbsPath;

use crate::repository::GitShare;

/// The kind of place that a path lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The workspace: rules of policy are about it, and its changes are recorded.
    Workspace,
    /// A directory that policy lets write (`filesystem.write`): protected names hold there too.
    Share,
    /// The same, and it is or lies in a directory of packages.
    Packages,
    /// A directory of git beside the workspace: it has the name `.git`, whatever it is called.
    Git,
}

/// The watched places of one session.
#[derive(Debug)]
pub struct Areas {
    workspace: AbsPath,
    shares: Vec<(AbsPath, Area)>,
    git: Vec<GitShare>,
}

impl Areas {
    /// Takes the shares by their paths inside; `in_packages` says which are or lie in packages.
    pub fn new(
        workspace: AbsPath,
        shares: &[ShareFact],
        git: &[GitShare],
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
            git: git.to_vec(),
        }
    }

    /// Returns the area that a path lies in and its path there; `None` for the rest of the view. A
    /// directory that holds another one counts only for paths outside the inner one.
    pub fn of<'p>(&self, path: &'p Path) -> Option<(Area, Cow<'p, Path>)> {
        if let Ok(below) = path.strip_prefix(self.workspace.as_path()) {
            return Some((Area::Workspace, Cow::Borrowed(below)));
        }
        if let Some((_, below)) = self.in_git(path) {
            let named = Path::new(".git").join(below);
            return Some((Area::Git, Cow::Owned(named)));
        }
        let below = |(share, area): &(AbsPath, Area)| {
            let below = path.strip_prefix(share.as_path()).ok()?;
            Some((*area, Cow::Borrowed(below)))
        };
        let shortest = |(_, path): &(Area, Cow<'_, Path>)| path.as_os_str().len();
        self.shares.iter().filter_map(below).min_by_key(shortest)
    }

    /// Tells whether a path is in a directory of git, and there another worktree's.
    pub fn is_elsewhere(&self, path: &Path) -> bool {
        self.in_git(path)
            .is_some_and(|(share, below)| share.part.is_elsewhere(below))
    }

    fn in_git<'p>(&self, path: &'p Path) -> Option<(&GitShare, &'p Path)> {
        self.git.iter().find_map(|share| {
            let below = path.strip_prefix(share.path.as_path()).ok()?;
            Some((share, below))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stockade_plan::ShareFact;
    use stockade_types::AbsPath;

    use super::{Area, Areas};
    use crate::repository::{GitShare, Part};

    #[test]
    fn the_innermost_area_counts() {
        let path = |text: &str| AbsPath::new(text).unwrap();
        let share = |text: &str| ShareFact {
            path: path(text),
            from: path("/elsewhere"),
        };
        let shares = ["/w", "/w/y", "/w/p"].map(share);
        let git = GitShare {
            path: path("/r/bare"),
            part: Part::All,
        };
        let areas = Areas::new(path("/w/x"), &shares, &[git], |share| {
            share.path == path("/w/p")
        });
        let of = |text: &'static str| {
            let found = areas.of(Path::new(text));
            found.map(|(area, below)| (area, below.into_owned()))
        };
        let path = |text: &str| Path::new(text).to_owned();
        assert_eq!(of("/r/bare/config"), Some((Area::Git, path(".git/config"))));
        assert_eq!(of("/w/x/a"), Some((Area::Workspace, path("a"))));
        assert_eq!(of("/w/x"), Some((Area::Workspace, path(""))));
        assert_eq!(of("/w/y/.git"), Some((Area::Share, path(".git"))));
        assert_eq!(of("/w/z/b"), Some((Area::Share, path("z/b"))));
        assert_eq!(of("/w/p/b"), Some((Area::Packages, path("b"))));
        assert_eq!(of("/wx"), None);
    }
}
