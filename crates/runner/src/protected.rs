//! Finding the protected paths that exist in a workspace when the session starts.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::FileType;
use stockade_plan::ProtectedEntry;
use stockade_policy::WorkspaceSettings;
use stockade_types::AbsPath;

use crate::{
    RunError,
    tree::{self, Entry, TooMany, Unlocked},
};

/// Entries that are looked at. A monorepo with its dependencies has a few hundred thousand; above
/// this the search would take seconds, and a missed path would be a silent weakness.
const ENTRIES_MAX: usize = 2_000_000;

/// Searches the whole workspace, without following links.
///
/// # Errors
/// When there are too many entries. A directory that cannot be read is passed over: what the session
/// changes in it is found by [`appeared`].
pub(crate) fn find(
    workspace: &AbsPath,
    settings: &WorkspaceSettings,
) -> Result<Vec<ProtectedEntry>, RunError> {
    let mut found = Vec::new();
    search(workspace, settings, None, |entry| {
        classify(entry, settings, workspace, &mut found)
    })?;
    Ok(found)
}

/// Finds protected names that were not there when the session started, links too, and those in
/// directories that their owner cannot read: they stay `unlocked` for what is done next.
///
/// # Errors
/// When there are too many entries.
pub(crate) fn appeared(
    workspace: &AbsPath,
    settings: &WorkspaceSettings,
    known: &BTreeSet<AbsPath>,
    since: SystemTime,
    unlocked: &mut Unlocked,
) -> Result<Vec<PathBuf>, RunError> {
    let mut found = Vec::new();
    search(workspace, settings, Some(unlocked), |entry| {
        let (path, below) = (&entry.path, entry.below.as_slice());
        let directory = entry.kind == FileType::Directory;
        let named = settings.protects(below).is_some()
            || (!directory && settings.stands_for(below).is_some());
        if !named {
            return directory;
        }
        let known = AbsPath::new(path).is_ok_and(|path| known.contains(&path));
        // The time of the last change of the inode cannot be set by a program.
        let changed = fs::symlink_metadata(path).ok().and_then(|m| {
            let nanos = u32::try_from(m.ctime_nsec()).ok()?;
            let seconds = u64::try_from(m.ctime()).ok()?;
            UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
        });
        if !known && changed.is_none_or(|changed| changed >= since) {
            found.push(path.clone());
        }
        false
    })?;
    Ok(found)
}

/// Visits every entry that could be protected.
fn search(
    workspace: &AbsPath,
    settings: &WorkspaceSettings,
    unlocked: Option<&mut Unlocked>,
    visit: impl FnMut(&Entry) -> bool,
) -> Result<(), RunError> {
    let beginnings = settings.beginnings();
    let begins = |name: &[u8]| beginnings.include(name);
    match tree::walk(workspace.as_path(), ENTRIES_MAX, unlocked, begins, visit) {
        Ok(_) => Ok(()),
        Err(TooMany) => Err(RunError::WorkspaceTooLarge {
            path: workspace.clone(),
            entries_max: ENTRIES_MAX,
        }),
    }
}

/// Notes a protected entry; tells whether it is a directory that must be searched further.
fn classify(
    entry: &Entry,
    settings: &WorkspaceSettings,
    workspace: &AbsPath,
    found: &mut Vec<ProtectedEntry>,
) -> bool {
    let below = entry.below.as_slice();
    let mut note = |read_only| {
        let path = AbsPath::new(&entry.path);
        found.extend(path.map(|path| ProtectedEntry { path, read_only }));
    };
    match entry.kind {
        // A link cannot be bound onto itself, the change notifier holds it; what it leads to is
        // held, if that is a part of the workspace.
        FileType::Symlink => {
            if settings.protects(below).is_some() {
                found.extend(target_of(&entry.path, workspace));
            }
            false
        }
        FileType::RegularFile => {
            if settings.stands_for(below).is_some() || settings.protects(below).is_some() {
                note(true);
            }
            false
        }
        FileType::Directory if settings.protects(below).is_some() => {
            note(true);
            false
        }
        FileType::Directory => {
            if settings.protects_below(below).is_some() {
                note(false);
            }
            true
        }
        // Sockets, pipes and devices are no configuration that anything reads.
        _ => false,
    }
}

/// Returns what a protected link leads to, if it lies within the workspace.
fn target_of(link: &Path, workspace: &AbsPath) -> Option<ProtectedEntry> {
    let real = fs::canonicalize(link).ok()?;
    let path = AbsPath::new(real).ok()?;
    let inside = path.is_within(workspace) && path != *workspace;
    inside.then_some(ProtectedEntry {
        path,
        read_only: true,
    })
}
