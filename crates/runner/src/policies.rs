//! The places of a run's policies: no session may write a policy that applies to the next one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use stockade_types::AbsPath;

use crate::{
    RunError,
    caller::Caller,
    names::{Mounts, resolved, way},
};

/// The usual place of a user's policy, below the home.
pub(crate) const USER_FILE: &str = ".config/stockade/policy.toml";

/// A policy file of this run, or a place in which one is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPlace {
    /// The file, as an absolute path; it need not exist.
    pub path: PathBuf,
    /// Whether its directory contains only policies.
    pub own_directory: bool,
}

/// The consequences of the places of the policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policies {
    /// Files and directories that no program inside may see, under every name.
    pub(crate) ours: Vec<AbsPath>,
    /// Every file, and every link on the path to one, outside the workspace, under every name.
    pub(crate) files: Vec<AbsPath>,
    /// Patterns that protect the policies in the workspace.
    pub(crate) patterns: Vec<String>,
}

/// Determines the consequences of `places` for a session in a workspace with these names.
///
/// # Errors
/// [`RunError::PolicyPlace`] when one is in the workspace under a name that cannot be protected.
pub(crate) fn gather(
    places: &[PolicyPlace],
    workspace: &[AbsPath],
    mounts: &Mounts,
) -> Result<Policies, RunError> {
    let mut found = Policies::default();
    for place in places {
        let (links, end) = match way(&place.path) {
            Ok(way) => (way.links, way.end),
            // A path that we cannot follow, no session of ours can follow either.
            Err(_) => continue,
        };
        let mut in_workspace = false;
        for path in links.iter().map(|(path, _)| path).chain([&end]) {
            let Some(below) = below(path, workspace) else {
                found.add_file(path, mounts);
                continue;
            };
            in_workspace |= *path == end;
            found.patterns.push(pattern(path, below)?);
        }
        if in_workspace {
            continue;
        }
        let own = match end.parent() {
            Some(parent) if place.own_directory => parent,
            _ => end.as_path(),
        };
        if fs::symlink_metadata(own).is_ok()
            && let Some(own) = resolved(own)
        {
            found.ours.extend(mounts.names(&own));
        }
    }
    found.patterns.dedup();
    Ok(found)
}

impl Policies {
    fn add_file(&mut self, path: &Path, mounts: &Mounts) {
        if let Ok(path) = AbsPath::new(path) {
            let names = mounts.names(&path);
            self.files.extend(names);
        }
    }
}

/// Returns the path below the workspace, given by any of its names.
pub(crate) fn below<'a>(path: &'a Path, workspace: &[AbsPath]) -> Option<&'a Path> {
    workspace
        .iter()
        .find_map(|name| path.strip_prefix(name).ok())
}

fn pattern(path: &Path, below: &Path) -> Result<String, RunError> {
    exact_pattern(below).ok_or_else(|| RunError::PolicyPlace {
        path: path.to_owned(),
    })
}

/// Returns the pattern that matches exactly this path below the workspace (and the same one in
/// other directories); `None` if there is none.
pub(crate) fn exact_pattern(below: &Path) -> Option<String> {
    below
        .to_str()
        .filter(|text| !text.is_empty() && !text.contains(['*', '{', '\\']))
        .map(str::to_owned)
}

/// Returns where the policy of the user is; where root runs a command for another user, that is that
/// user's.
pub(crate) fn own(caller: &Caller) -> PolicyPlace {
    PolicyPlace {
        path: caller.home.as_path().join(USER_FILE),
        own_directory: true,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use stockade_types::AbsPath;

    use super::{Mounts, PolicyPlace, gather};

    #[test]
    fn a_policy_is_protected_in_the_workspace_and_covered_outside() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        let at = |name: &str| AbsPath::new(base.join(name)).unwrap();
        for name in ["ws/dotfiles", "home/.config/stockade", "home/linked"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        fs::write(base.join("ws/p.toml"), "").unwrap();
        symlink(base.join("ws/dotfiles"), base.join("home/linked/stockade")).unwrap();
        let place = |path: &str, own_directory| PolicyPlace {
            path: base.join(path),
            own_directory,
        };
        let places = [
            place("ws/../ws/p.toml", false),
            place("home/.config/stockade/policy.toml", true),
            place("home/linked/stockade/policy.toml", true),
            place("home/none/stockade/policy.toml", true),
        ];
        let found = gather(&places, &[at("ws")], &Mounts::read().unwrap()).unwrap();
        assert_eq!(found.patterns, ["p.toml", "dotfiles/policy.toml"]);
        assert_eq!(found.ours, [at("home/.config/stockade")]);
        let files = [
            "home/.config/stockade/policy.toml",
            "home/linked/stockade",
            "home/none/stockade/policy.toml",
        ];
        assert_eq!(found.files, files.map(at));
        let strange = [place("ws/{a}.toml", false)];
        assert!(gather(&strange, &[at("ws")], &Mounts::read().unwrap()).is_err());
    }
}
