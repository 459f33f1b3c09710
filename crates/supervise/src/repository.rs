//! The repository that a workspace is part of, if its git directory lies outside: a linked
//! worktree, a submodule, a directory of a larger tree.
//!
//! The statements of a workspace are not believed: a tar archive can contain a pointer. Only the
//! git directory outside counts, and git checks the same statement.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use stockade_plan::{HostFacts, ShareFact, ShownFact};
use stockade_types::{AbsPath, RawText};

use crate::places;

/// A git directory beside the workspace that the session may change as git does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitShare {
    /// Where it is inside.
    pub path: AbsPath,
    /// The part of a repository that it is.
    pub part: Part,
}

/// The part of a git directory that belongs to the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it, except protected files.
    All,
    /// The shared part of the worktrees, and the part of one of them.
    Worktree {
        /// Its name.
        own: OsString,
        /// The other worktrees.
        others: BTreeSet<OsString>,
    },
}

/// The shared part of the worktrees of a repository (gitrepository-layout(5)); a file in it can
/// have a lock or a new version beside it, under its name with a suffix.
const COMMON_DIRECTORIES: [&str; 6] = ["lfs", "logs", "objects", "refs", "reftable", "rr-cache"];
const COMMON_FILES: [&str; 5] = ["config", "gc.log", "gc.pid", "packed-refs", "shallow"];
/// Working trees that are searched for: each is a file of the view.
const STAND_INS_MAX: usize = 256;

impl Part {
    /// Whether a path below the git directory belongs to another worktree, or may not be changed at
    /// all.
    pub fn is_elsewhere(&self, below: &Path) -> bool {
        let Self::Worktree { others, .. } = self else {
            return false;
        };
        let mut parts = below.iter();
        let Some(first) = parts.next() else {
            return true;
        };
        let second = parts.next();
        if first == "worktrees" {
            return second.is_some_and(|name| others.contains(name));
        }
        if first == "logs" && second.is_some_and(|name| name != "refs") {
            return true;
        }
        let text = first.to_string_lossy();
        let directory = COMMON_DIRECTORIES.contains(&&*text);
        let file = || {
            let mut names = COMMON_FILES.iter();
            let rest = names.find_map(|name| text.strip_prefix(name));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !(directory || second.is_none() && file())
    }
}

/// The git directory that git would find for a workspace.
#[derive(Debug, PartialEq, Eq)]
enum Outside {
    /// None, or one in the workspace itself.
    Nothing,
    /// A git directory that names the workspace.
    Known(AbsPath, Part),
    /// A pointer to one that does not.
    Unknown(PathBuf),
    /// None of its own: the workspace lies in a larger tree.
    Larger(PathBuf),
}

/// Adds to the facts the git directory that the workspace belongs to, with notes about it. Returns
/// the directories beside the workspace that are those of git.
pub fn share(workspace: &AbsPath, facts: &mut HostFacts) -> Vec<GitShare> {
    let hidden = |facts: &HostFacts, path: &AbsPath| {
        let covered = facts.hidden.iter().chain(&facts.secrets).chain(&facts.ours);
        covered
            .clone()
            .any(|place| path.is_within(place) || place.is_within(path))
    };
    let mut shares: Vec<GitShare> = facts
        .writable
        .iter()
        .filter(|share| is_git_directory(share.from.as_path()))
        .map(|share| GitShare {
            path: share.path.clone(),
            part: Part::All,
        })
        .collect();
    facts.stand_ins = stand_ins(&workspace.as_path().join(".git"), workspace);
    match find(workspace, facts.workspace_uid) {
        Outside::Nothing => {}
        Outside::Known(path, _) if hidden(facts, &path) => {
            facts.notes.push(format!("git: {path} is hidden by policy; git does not work here"));
        }
        Outside::Known(path, part) => {
            facts.notes.push(format!(
                "git: branches, objects and this worktree's own files in {path} can be changed"
            ));
            if !facts.writable.iter().any(|share| share.path == path) {
                facts.writable.push(ShareFact {
                    path: path.clone(),
                    from: path.clone(),
                });
            }
            facts.stand_ins = stand_ins(path.as_path(), workspace);
            shares.retain(|share| share.path != path);
            shares.push(GitShare { path, part });
        }
        Outside::Unknown(path) => facts.notes.push(format!(
            "git: .git leads to {}, which does not name this workspace; it is not shown, and git does \
             not work here",
            RawText::from_os(path.as_os_str()).display()
        )),
        Outside::Larger(top) => {
            let top = RawText::from_os(top.as_os_str()).display();
            facts.notes.push(format!(
                "git: the repository of this directory is {top}; for git inside: --workspace {top}"
            ));
        }
    }
    shares
}

/// Returns stand-ins for the working trees of a git directory that lie outside the workspace: if
/// git does not find a worktree's pointer, it assumes the worktree gone and removes its data.
fn stand_ins(git: &Path, workspace: &AbsPath) -> Vec<ShownFact> {
    let entries = fs::read_dir(git.join("worktrees")).into_iter().flatten();
    let pointer = |entry: fs::DirEntry| {
        let own = entry.path();
        let pointer = own.join(text(&own.join("gitdir"))?);
        let tree = fs::canonicalize(pointer.parent()?).ok()?;
        let path = AbsPath::new(tree.join(".git")).ok()?;
        // A session can write the text in the git directory, but not the pointer that leads back to
        // it.
        let back = places::read_pointer(path.as_path()).into_iter().next()?;
        let back = fs::canonicalize(tree.join(back)).ok()?;
        let outside = pointer.ends_with(".git") && !path.is_within(workspace);
        (outside && back == fs::canonicalize(&own).ok()?).then(|| ShownFact {
            path,
            contents: format!("gitdir: {}\n", own.display()),
        })
    };
    entries
        .flatten()
        .take(STAND_INS_MAX)
        .filter_map(pointer)
        .collect()
}

/// Returns the git directory of a workspace: its own, or the one outside that belongs to it.
pub fn git_directory(workspace: &AbsPath, owner: u32) -> Option<PathBuf> {
    let own = workspace.as_path().join(".git");
    if fs::symlink_metadata(&own).is_ok_and(|found| found.is_dir()) {
        return Some(own);
    }
    match find(workspace, owner) {
        Outside::Known(path, _) => Some(path.as_path().to_owned()),
        Outside::Nothing | Outside::Unknown(_) | Outside::Larger(_) => None,
    }
}

fn find(workspace: &AbsPath, owner: u32) -> Outside {
    let top = workspace.as_path();
    let pointer = top.join(".git");
    let Ok(metadata) = fs::symlink_metadata(&pointer) else {
        let larger = top.ancestors().skip(1).find(|above| {
            let git = above.join(".git");
            is_git_directory(&git) || !places::read_pointer(&git).is_empty()
        });
        return larger.map_or(Outside::Nothing, |top| Outside::Larger(top.to_owned()));
    };
    let target = if metadata.is_symlink() {
        fs::canonicalize(&pointer).ok()
    } else {
        let text = places::read_pointer(&pointer).into_iter().next();
        text.and_then(|text| fs::canonicalize(top.join(text)).ok())
    };
    let Some(target) = target.filter(|target| !target.starts_with(top)) else {
        return Outside::Nothing;
    };
    let known = known(&target, top).filter(|(path, _)| {
        let owned = |path: &Path| fs::symlink_metadata(path).is_ok_and(|m| m.uid() == owner);
        owned(path.as_path()) && owned(&target)
    });
    match known {
        Some((path, part)) => Outside::Known(path, part),
        None => Outside::Unknown(target),
    }
}

/// Returns the git directory that a pointer leads to, if that directory names the workspace.
fn known(target: &Path, workspace: &Path) -> Option<(AbsPath, Part)> {
    let Some(common) = text(&target.join("commondir")) else {
        let tree = work_tree(target)?;
        let back = fs::canonicalize(target.join(tree)).ok()?;
        let fits = is_git_directory(target) && back == workspace;
        return fits.then(|| Some((AbsPath::new(target).ok()?, Part::All)))?;
    };
    let common = fs::canonicalize(target.join(common)).ok()?;
    let own = target.file_name()?.to_owned();
    let back = target.join(text(&target.join("gitdir"))?);
    let tree = fs::canonicalize(back.parent()?).ok()?;
    let worktrees = common.join("worktrees");
    let fits = target.parent() == Some(&worktrees)
        && is_git_directory(&common)
        && back.file_name() == Some(OsStr::new(".git"))
        && tree == workspace;
    if !fits {
        return None;
    }
    let all = fs::read_dir(worktrees).ok()?.flatten();
    let others = all
        .map(|entry| entry.file_name())
        .filter(|name| *name != own);
    let part = Part::Worktree {
        others: others.collect(),
        own,
    };
    Some((AbsPath::new(&common).ok()?, part))
}

/// Git's test for a git directory (setup.c, `is_git_directory`).
fn is_git_directory(path: &Path) -> bool {
    let is_directory = |name: &str| path.join(name).is_dir();
    path.join("HEAD").is_file() && is_directory("objects") && is_directory("refs")
}

/// The working tree that the settings of a submodule name.
fn work_tree(git: &Path) -> Option<PathBuf> {
    let settings = places::read_small(&git.join("config"))?;
    let settings = String::from_utf8(settings).ok()?;
    let mut in_core = false;
    let mut found = None;
    for line in settings.lines().map(str::trim) {
        if line.starts_with('[') {
            in_core = line.eq_ignore_ascii_case("[core]");
        } else if let Some((key, value)) = line.split_once('=')
            && in_core
            && key.trim().eq_ignore_ascii_case("worktree")
        {
            found = Some(PathBuf::from(value.trim()));
        }
    }
    found
}

/// Reads a file with one path in it.
fn text(path: &Path) -> Option<PathBuf> {
    let text = places::read_small(path)?;
    let line = text.strip_suffix(b"\n").unwrap_or(&text);
    (!line.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(line)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Part;

    #[test]
    fn a_worktree_has_its_own_and_what_all_have() {
        let part = Part::Worktree {
            own: "wt".into(),
            others: ["other".into()].into(),
        };
        for own in [
            "objects/ab/cd",
            "objects",
            "refs/heads/x",
            "logs/refs/heads/x",
            "packed-refs",
            "packed-refs.lock",
            "config.lock",
            "gc.pid",
            "shallow.lock",
            "worktrees/wt/index",
            "worktrees/new",
            "worktrees",
        ] {
            assert!(!part.is_elsewhere(Path::new(own)), "{own}");
        }
        for other in [
            "",
            "HEAD",
            "index",
            "index.lock",
            "ORIG_HEAD",
            "logs/HEAD",
            "hooks/x",
            "info/exclude",
            "worktrees/other",
            "worktrees/other/HEAD",
            "modules/m/HEAD",
            "configs",
            "shallow/x",
            "description",
            "MERGE_HEAD",
            "config/x",
        ] {
            assert!(part.is_elsewhere(Path::new(other)), "{other}");
        }
        assert!(!Part::All.is_elsewhere(Path::new("HEAD")));
    }
}
