//! Finding the protected paths that exist in a workspace when the session starts.

use std::{
    collections::BTreeSet,
    fs::{self, DirEntry},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use stockade_plan::ProtectedEntry;
use stockade_policy::WorkspaceSettings;
use stockade_types::AbsPath;

use crate::RunError;

/// Entries that are looked at. A monorepo with its dependencies has a few hundred thousand; above
/// this the search would take seconds, and a missed path would be a silent weakness.
const ENTRIES_MAX: usize = 2_000_000;

/// Searches the whole workspace, without following links.
///
/// # Errors
/// When there are too many entries. A directory that cannot be read by us cannot be changed by the
/// session either and is passed over.
pub(crate) fn find(
    workspace: &AbsPath,
    settings: &WorkspaceSettings,
) -> Result<Vec<ProtectedEntry>, RunError> {
    let mut found = Vec::new();
    walk(workspace, settings, |entry, below| {
        classify(entry, below, settings, workspace, &mut found)
    })?;
    Ok(found)
}

/// Finds protected names that were not there when the session started, links too.
///
/// # Errors
/// When there are too many entries.
pub(crate) fn appeared(
    workspace: &AbsPath,
    settings: &WorkspaceSettings,
    known: &BTreeSet<AbsPath>,
    since: SystemTime,
) -> Result<Vec<PathBuf>, RunError> {
    let mut found = Vec::new();
    walk(workspace, settings, |entry, below| {
        let kind = entry.file_type().ok()?;
        let path = entry.path();
        let named = settings.protects(below).is_some()
            || (!kind.is_dir() && settings.stands_for(below).is_some());
        if !named {
            return kind.is_dir().then_some(path);
        }
        let known = AbsPath::new(&path).is_ok_and(|path| known.contains(&path));
        // The time of the last change of the inode cannot be set by a program.
        let changed = entry.metadata().ok().and_then(|m| {
            let nanos = u32::try_from(m.ctime_nsec()).ok()?;
            let seconds = u64::try_from(m.ctime()).ok()?;
            UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
        });
        if !known && changed.is_none_or(|changed| changed >= since) {
            found.push(path);
        }
        None
    })?;
    Ok(found)
}

/// The names with which protected paths begin: whatever lies below none of them need not be looked
/// at any closer, which is nearly all of a workspace.
struct Beginnings {
    names: BTreeSet<Vec<u8>>,
    longest: usize,
    /// A pattern begins with a wildcard: every entry has to be looked at.
    any: bool,
}

impl Beginnings {
    fn of(settings: &WorkspaceSettings) -> Self {
        let firsts: Vec<&str> = settings
            .protect
            .iter()
            .filter_map(|p| p.value.split('/').next())
            .collect();
        let names: BTreeSet<Vec<u8>> = firsts
            .iter()
            .map(|first| first.as_bytes().to_ascii_lowercase())
            .collect();
        Self {
            longest: names.iter().map(Vec::len).max().unwrap_or(0),
            any: firsts.iter().any(|first| first.contains('*')),
            names,
        }
    }

    fn begin_with(&self, name: &[u8]) -> bool {
        self.any || (name.len() <= self.longest && self.names.contains(&name.to_ascii_lowercase()))
    }
}

/// Visits every entry that could be protected; `visit` returns a directory that must be searched
/// further.
fn walk(
    workspace: &AbsPath,
    settings: &WorkspaceSettings,
    mut visit: impl FnMut(&DirEntry, &[u8]) -> Option<PathBuf>,
) -> Result<(), RunError> {
    let beginnings = Beginnings::of(settings);
    // Directory, its path below the workspace, and whether a protected path has begun above.
    let mut todo: Vec<(PathBuf, Vec<u8>, bool)> =
        vec![(workspace.as_path().to_owned(), Vec::new(), false)];
    let mut seen = 0_usize;
    while let Some((directory, relative, begun)) = todo.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            seen += 1;
            if seen > ENTRIES_MAX {
                let path = workspace.clone();
                return Err(RunError::WorkspaceTooLarge {
                    path,
                    entries_max: ENTRIES_MAX,
                });
            }
            let name = entry.file_name();
            let begins = begun || beginnings.begin_with(name.as_bytes());
            if !begins && !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let mut below = relative.clone();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.as_bytes());
            let descend = if begins {
                visit(&entry, &below)
            } else {
                Some(entry.path())
            };
            if let Some(descend) = descend {
                todo.push((descend, below, begins));
            }
        }
    }
    Ok(())
}

/// Notes a protected entry; returns a directory that must be searched further.
fn classify(
    entry: &DirEntry,
    relative: &[u8],
    settings: &WorkspaceSettings,
    workspace: &AbsPath,
    found: &mut Vec<ProtectedEntry>,
) -> Option<PathBuf> {
    let kind = entry.file_type().ok()?;
    let path = entry.path();
    if kind.is_symlink() {
        // A link cannot be bound onto itself, the change notifier holds it; what it leads to is
        // held, if that is a part of the workspace.
        if settings.protects(relative).is_some() {
            found.extend(target_of(&path, workspace));
        }
        return None;
    }
    let pointer = kind.is_file() && settings.stands_for(relative).is_some();
    if pointer || settings.protects(relative).is_some() {
        // Sockets, pipes and devices are no configuration that anything reads.
        if kind.is_dir() || kind.is_file() {
            let path = AbsPath::new(&path).ok()?;
            found.push(ProtectedEntry {
                path,
                read_only: true,
            });
        }
        return None;
    }
    if !kind.is_dir() {
        return None;
    }
    if settings.protects_below(relative).is_some() {
        found.push(ProtectedEntry {
            path: AbsPath::new(&path).ok()?,
            read_only: false,
        });
    }
    Some(path)
}

/// Returns what a protected link leads to, if it lies within the workspace.
fn target_of(link: &std::path::Path, workspace: &AbsPath) -> Option<ProtectedEntry> {
    let real = std::fs::canonicalize(link).ok()?;
    let path = AbsPath::new(real).ok()?;
    let inside = path.is_within(workspace) && path != *workspace;
    inside.then_some(ProtectedEntry {
        path,
        read_only: true,
    })
}
