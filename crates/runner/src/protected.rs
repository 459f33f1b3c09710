//! Finding the protected paths that exist in a workspace when the session starts.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    mem::MaybeUninit,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use stockade_plan::ProtectedEntry;
use stockade_policy::WorkspaceSettings;
use stockade_types::AbsPath;

use crate::RunError;

/// Entries that are looked at. A monorepo with its dependencies has a few hundred thousand; above
/// this the search would take seconds, and a missed path would be a silent weakness.
const ENTRIES_MAX: usize = 2_000_000;
/// Bytes of directory entries that one call returns: about 2,000 names.
const LISTING_BYTES: usize = 64 * 1024;

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
    walk(workspace, settings, |entry| {
        classify(entry, settings, workspace, &mut found)
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
    walk(workspace, settings, |entry| {
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

/// An entry of the workspace that is looked at closer.
struct Entry {
    path: PathBuf,
    /// Its path below the workspace.
    below: Vec<u8>,
    kind: FileType,
}

/// Visits every entry that could be protected; `visit` tells whether a directory must be searched
/// further.
fn walk(
    workspace: &AbsPath,
    settings: &WorkspaceSettings,
    mut visit: impl FnMut(&Entry) -> bool,
) -> Result<(), RunError> {
    let beginnings = settings.beginnings();
    let top = Entry {
        path: workspace.as_path().to_owned(),
        below: Vec::new(),
        kind: FileType::Directory,
    };
    // Each with whether a protected path has begun above.
    let mut todo: Vec<(Entry, bool)> = vec![(top, false)];
    let mut buffer = vec![MaybeUninit::uninit(); LISTING_BYTES];
    let mut seen = 0_usize;
    while let Some((directory, begun)) = todo.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(fd) = rustix::fs::open(&directory.path, flags, Mode::empty()) else {
            continue;
        };
        let mut listing = RawDir::new(&fd, &mut buffer);
        while let Some(Ok(entry)) = listing.next() {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            seen += 1;
            if seen > ENTRIES_MAX {
                let path = workspace.clone();
                return Err(RunError::WorkspaceTooLarge {
                    path,
                    entries_max: ENTRIES_MAX,
                });
            }
            let begins = begun || beginnings.include(name);
            let kind = kind_of(&fd, &entry);
            if !begins && kind != FileType::Directory {
                continue;
            }
            let entry = directory.child(name, kind);
            let descend = if begins { visit(&entry) } else { true };
            if descend {
                todo.push((entry, begins));
            }
        }
    }
    Ok(())
}

/// Returns what an entry is; some file systems only say when they are asked for it.
fn kind_of(directory: impl std::os::fd::AsFd, entry: &rustix::fs::RawDirEntry<'_>) -> FileType {
    match entry.file_type() {
        FileType::Unknown => {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::statat(directory, entry.file_name(), flags)
                .map_or(FileType::Unknown, |stat| {
                    FileType::from_raw_mode(stat.st_mode)
                })
        }
        known => known,
    }
}

impl Entry {
    fn child(&self, name: &[u8], kind: FileType) -> Self {
        let mut below = Vec::with_capacity(self.below.len() + 1 + name.len());
        below.extend_from_slice(&self.below);
        if !below.is_empty() {
            below.push(b'/');
        }
        below.extend_from_slice(name);
        Self {
            path: self.path.join(OsStr::from_bytes(name)),
            below,
            kind,
        }
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
