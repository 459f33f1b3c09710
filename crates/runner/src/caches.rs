//! Caches of the host's package managers: each is visible with a private overlay on top, so that a
//! session can add to it while the host's own files do not change.
//!
//! A session's additions are kept for the workspace, or are removed with the session. No program
//! outside executes or trusts them: they are below the state directory, which only its owner can
//! enter.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, FlockOperation, StatxFlags, statx};
use stockade_plan::{CacheFact, CacheKind, HostFacts, Upper};
use stockade_policy::{FilesystemSettings, Origin, Policy};
use stockade_types::{AbsPath, Digest};

use crate::{
    caller::Caller,
    facts,
    names::Mounts,
    relocated::{Closed, Relocated},
};

/// The directory in the state directory that contains the overlays, by workspace.
pub const DIRECTORY: &str = "caches";
/// Held by the session that uses the overlays of a workspace: if two sessions used them, files
/// would change under each (overlayfs, "Sharing and copying layers").
pub const LOCK: &str = "lock";
/// Names the workspace of the overlays.
pub const WORKSPACE: &str = "workspace";
/// File systems that cannot contain the upper directory of an overlay: overlayfs, NFS, FUSE, 9p,
/// CIFS and SMB (statfs(2)).
const NO_UPPER: [u64; 6] = [
    0x794c_7630,
    0x6969,
    0x6573_5546,
    0x0102_1997,
    0xff53_4d42,
    0xfe53_4d42,
];

/// The layers of one session.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    pub(crate) facts: Vec<CacheFact>,
    /// The message about them at the start.
    pub(crate) note: Option<String>,
    /// Held as long as the session lives.
    pub(crate) lock: Option<File>,
}

/// Files beside such a directory that tools rewrite in place to record what they installed in it.
const LISTS: [(&str, [&str; 2]); 1] = [("~/.cargo/bin", [".crates.toml", ".crates2.json"])];

/// A cache that exists on the host.
struct Existing {
    path: AbsPath,
    from: AbsPath,
    kind: CacheKind,
}

/// Finds the directories that the caller's variables move, and the caches of a policy; with `take`,
/// this session reserves the workspace's overlays.
pub(crate) fn gather(
    policy: &Policy,
    caller: &Caller,
    (state_dir, workspace): (&AbsPath, &AbsPath),
    mounts: &Mounts,
    take: bool,
) -> (Relocated, Caches) {
    let closed = Closed {
        workspace,
        state_dir,
        secrets: &facts::secrets(&caller.home, mounts),
    };
    let settings = policy.settings();
    let relocated = Relocated::find(settings, caller, &closed);
    let places = (state_dir.as_path(), workspace);
    let caches = find(&settings.filesystem, caller, &relocated, places, take);
    (relocated, caches)
}

/// Finds the existing caches of a policy and the places for their changes; with `take`, this
/// session reserves the workspace's overlays.
fn find(
    files: &FilesystemSettings,
    caller: &Caller,
    relocated: &Relocated,
    (state_dir, workspace): (&Path, &AbsPath),
    take: bool,
) -> Caches {
    let mut found = Caches::default();
    let key = Digest::of(workspace.as_path().as_os_str().as_encoded_bytes()).short();
    let base = state_dir.join(DIRECTORY).join(key);
    let existing = existing(files, caller, relocated);
    if existing.is_empty() {
        return found;
    }
    let kept = files.caches_kept.as_ref().is_none_or(|kept| kept.value);
    let kept = kept && {
        let held = if take {
            take_overlays(&base, state_dir, workspace)
        } else {
            Ok(None)
        };
        match held {
            Ok(lock) => {
                found.lock = lock;
                true
            }
            Err(why) => {
                found.note = Some(format!(
                    "what this session adds to caches of package managers is not kept: {why}"
                ));
                false
            }
        }
    };
    let home = mount_of(&caller.home);
    found.facts = existing
        .into_iter()
        .map(|Existing { path, from, kind }| {
            // One overlay for the whole home: it takes more time to mount an overlay than to show
            // parts of it.
            let is_of_home = from.is_within(&caller.home) && mount_of(&from) == home;
            let over = match kind {
                _ if is_of_home => caller.home.clone(),
                CacheKind::Directory => from.clone(),
                CacheKind::List => parent(&from),
            };
            // A path may be longer than a file name may be.
            let name = Digest::of(over.as_path().as_os_str().as_encoded_bytes()).short();
            let upper = AbsPath::new(base.join(name)).ok().filter(|_| kept);
            CacheFact {
                path,
                from,
                over,
                kind,
                upper: upper.map_or(Upper::Memory, Upper::Kept),
            }
        })
        .collect();
    found
}

fn parent(path: &AbsPath) -> AbsPath {
    let parent = path.as_path().parent().and_then(|at| AbsPath::new(at).ok());
    parent.unwrap_or_else(|| path.clone())
}

/// Returns the mount of a place, or of its directory if the file does not exist. An overlay does
/// not extend into other mounts below it.
fn mount_of(path: &AbsPath) -> Option<u64> {
    let id = |path: &Path| {
        let seen = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
        Some(seen.stx_mnt_id)
    };
    id(path.as_path()).or_else(|| id(path.as_path().parent()?))
}

/// Returns each existing directory, as policy and variables name it and with its links resolved. A
/// preset makes no overlay at a place that an entry of another policy reads or writes.
fn existing(files: &FilesystemSettings, caller: &Caller, relocated: &Relocated) -> Vec<Existing> {
    let meant: Vec<AbsPath> = files
        .read
        .iter()
        .chain(&files.write)
        .filter(|path| path.origin != Origin::Builtin)
        .filter_map(|path| caller.expand(&path.value))
        .collect();
    let mut found: Vec<Existing> = Vec::new();
    let mut add = |path: AbsPath, kind: CacheKind, is_default: bool| {
        let is_meant = is_default && meant.iter().any(|above| path.is_within(above));
        // Several variables can name one place.
        if is_meant || found.iter().any(|known| known.path == path) {
            return;
        }
        let from = match kind {
            CacheKind::Directory => real_directory(&relocated.sources(&path)),
            CacheKind::List => real_file(&path),
        };
        if let Some(from) = from.and_then(|real| AbsPath::new(real).ok()) {
            found.push(Existing { path, from, kind });
        }
    };
    for place in relocated.whole() {
        add(place.clone(), CacheKind::Directory, true);
    }
    let is_shown = |path: &AbsPath| relocated.whole().iter().any(|at| path.is_within(at));
    for cache in &files.caches {
        let is_default = cache.origin == Origin::Builtin;
        let lists = LISTS
            .iter()
            .find(|(of, _)| is_default && *of == cache.value);
        let usual = caller.expand(&cache.value);
        let places = usual.iter().flat_map(|path| relocated.places(path));
        for path in places.filter(|path| !is_shown(path)) {
            let beside = parent(&path);
            let has_lists = path.as_path().is_dir();
            add(path, CacheKind::Directory, is_default);
            let names = lists
                .iter()
                .flat_map(|(_, names)| names)
                .filter(|_| has_lists);
            for list in names.filter_map(|name| beside.join(name).ok()) {
                add(list, CacheKind::List, is_default);
            }
        }
    }
    found
}

/// Returns the real path of the first directory that exists.
fn real_directory(places: &[AbsPath]) -> Option<PathBuf> {
    let real = places.iter().filter_map(|path| fs::canonicalize(path).ok());
    real.into_iter().find(|real| real.is_dir())
}

/// Returns the real path of a file, which need not exist.
fn real_file(path: &AbsPath) -> Option<PathBuf> {
    let path = path.as_path();
    let directory = fs::canonicalize(path.parent()?).ok()?;
    let real = directory.join(path.file_name()?);
    let is_other = fs::symlink_metadata(&real).is_ok_and(|there| !there.is_file());
    (!is_other).then_some(real)
}

/// Makes the directory of a workspace's overlays and locks it.
fn take_overlays(
    base: &Path,
    state_dir: &Path,
    workspace: &AbsPath,
) -> Result<Option<File>, String> {
    if let Ok(system) = rustix::fs::statfs(state_dir)
        && u64::try_from(system.f_type).is_ok_and(|kind| NO_UPPER.contains(&kind))
    {
        return Err(format!(
            "the file system of {} cannot hold an overlay; set STOCKADE_STATE_DIR to a local disk",
            state_dir.display()
        ));
    }
    let wrong = |error: std::io::Error| format!("{}: {error}", base.display());
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(base)
        .map_err(wrong)?;
    let open = |name: &str| {
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc_nofollow())
            .open(base.join(name))
    };
    let lock = open(LOCK).map_err(wrong)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        if error == rustix::io::Errno::WOULDBLOCK {
            "another session of this workspace has its overlays".to_owned()
        } else {
            wrong(error.into())
        }
    })?;
    let mut named = open(WORKSPACE).map_err(wrong)?;
    let text = workspace.as_path().as_os_str().as_encoded_bytes();
    named
        .set_len(0)
        .and_then(|()| named.write_all(text))
        .map_err(wrong)?;
    Ok(Some(lock))
}

fn libc_nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

/// Returns whether a note is about caches.
pub(crate) fn is_note(note: &str) -> bool {
    note.contains("caches of package managers")
}

/// Switches to a lesser place for changes after the machine refused the present one; returns
/// whether there was one.
pub(crate) fn step_down(facts: &mut HostFacts, reason: &str) -> bool {
    let is_kept = |cache: &CacheFact| matches!(cache.upper, Upper::Kept(_));
    let (lesser, what) = if facts.caches.iter().any(is_kept) {
        (
            Upper::Memory,
            "what this session adds to caches of package managers is not kept",
        )
    } else if facts.caches.iter().any(|c| c.upper == Upper::Memory) {
        (
            Upper::Nowhere,
            "caches of package managers are read-only in this session",
        )
    } else {
        return false;
    };
    for cache in &mut facts.caches {
        cache.upper = lesser.clone();
    }
    facts.notes.retain(|note| !is_note(note));
    facts
        .notes
        .push(format!("{what}: {reason}; `stockade doctor` says more"));
    true
}
