//! Caches of the host's package managers: seen with a private overlay over each, so that a
//! session can add to them and the host's own stay as they are.
//!
//! What a session writes is kept for the workspace, or is gone with the session. Nothing outside
//! executes or trusts it: it lies below the state directory, which only its owner can enter.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::FlockOperation;
use stockade_plan::{CacheFact, HostFacts, Upper};
use stockade_policy::{FilesystemSettings, Origin};
use stockade_types::{AbsPath, Digest};

use crate::facts::Caller;

/// Directory of the state directory that holds the overlays, by workspace.
const DIRECTORY: &str = "caches";
/// Held by the session that has the overlays of a workspace: two would see each other's files change
/// under them (overlayfs, "Sharing and copying layers").
const LOCK: &str = "lock";
/// Says which workspace the overlays are of.
const WORKSPACE: &str = "workspace";
/// File systems that cannot hold the upper directory of an overlay: overlayfs, NFS, FUSE, 9p, CIFS
/// and SMB (statfs(2)).
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
    /// What is said of them at the start.
    pub(crate) note: Option<String>,
    /// Held while the session lives.
    pub(crate) lock: Option<File>,
}

/// Finds the caches of a policy that exist, and where what is written goes; with `take`, the
/// workspace's overlays are this session's from now on.
pub(crate) fn find(
    files: &FilesystemSettings,
    caller: &Caller,
    state_dir: &Path,
    workspace: &AbsPath,
    take: bool,
) -> Caches {
    let mut found = Caches::default();
    let key = Digest::of(workspace.as_path().as_os_str().as_encoded_bytes()).short();
    let base = state_dir.join(DIRECTORY).join(key);
    let existing: Vec<(AbsPath, AbsPath)> = existing(files, caller);
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
    found.facts = existing
        .into_iter()
        .map(|(path, from)| {
            // A path may be longer than a name.
            let name = Digest::of(path.as_path().as_os_str().as_encoded_bytes()).short();
            let upper = AbsPath::new(base.join(name)).ok().filter(|_| kept);
            CacheFact {
                path,
                from,
                upper: upper.map_or(Upper::Memory, Upper::Kept),
            }
        })
        .collect();
    found
}

/// Returns each directory that exists, as policy names it and where links lead. What others than a
/// preset read or write is not overlaid where the preset would.
fn existing(files: &FilesystemSettings, caller: &Caller) -> Vec<(AbsPath, AbsPath)> {
    let meant: Vec<AbsPath> = files
        .read
        .iter()
        .chain(&files.write)
        .filter(|path| path.origin != Origin::Builtin)
        .filter_map(|path| caller.expand(&path.value))
        .collect();
    let mut found: Vec<(AbsPath, AbsPath)> = Vec::new();
    for cache in &files.caches {
        let Some(path) = caller.expand(&cache.value) else {
            continue;
        };
        let is_meant = meant.iter().any(|above| path.is_within(above));
        if cache.origin == Origin::Builtin && is_meant || found.iter().any(|(at, _)| *at == path) {
            continue;
        }
        let real = fs::canonicalize(&path).ok().filter(|real| real.is_dir());
        if let Some(from) = real.and_then(|real| AbsPath::new(real).ok()) {
            found.push((path, from));
        }
    }
    found
}

/// Makes the place of a workspace's overlays and locks it.
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

/// Tells whether a note is about caches.
pub(crate) fn is_note(note: &str) -> bool {
    note.contains("caches of package managers")
}

/// Lets what is written go to a lesser place, after the machine refused the present one; tells
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
