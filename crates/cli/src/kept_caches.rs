//! Retention of what sessions added to caches and toolchains for each workspace.
//!
//! A workspace's overlays are one folder with a lock. They are removed as a whole, the longest
//! unused first.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{
        ffi::OsStringExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use rustix::fs::FlockOperation;
use serde::Serialize;
use stockade_policy::Settings;
use stockade_runner::kept_overlays::{DIRECTORY, LOCK, WORKSPACE};
use stockade_types::{RawText, ignored};

/// Bytes of all kept overlays if no policy sets a limit.
const BYTES_MAX: u64 = 16 << 30;
/// The place of overlays while they are deleted.
const ASIDE_DIR: &str = "removing-caches";

/// Bytes that all kept overlays may take.
pub(crate) fn bytes_max(settings: &Settings) -> u64 {
    let set = settings.filesystem.caches_bytes_max.as_ref();
    set.map_or(BYTES_MAX, |set| set.value.bytes())
}

/// Overlays that are to be removed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Removed {
    /// Their workspace.
    pub(crate) workspace: RawText,
    /// Their folder in `caches` of the state directory.
    pub(crate) caches: String,
    /// Bytes on the disk.
    pub(crate) bytes: u64,
    /// `age` or `bytes`.
    pub(crate) over: &'static str,
}

/// Existing overlays.
struct Kept {
    folder: PathBuf,
    name: String,
    workspace: RawText,
    bytes: u64,
    used: SystemTime,
}

/// Returns the overlays to remove, and the bytes of the others.
///
/// # Errors
/// When the folder of all overlays cannot be read.
pub(crate) fn plan(state: &Path, keep_for: Duration, most: u64) -> io::Result<(Vec<Removed>, u64)> {
    let mut all = all(state)?;
    all.sort_by(|one, other| (other.used, &other.name).cmp(&(one.used, &one.name)));
    let (now, mut stay, mut gone) = (SystemTime::now(), 0_u64, Vec::new());
    for kept in all {
        let age = now.duration_since(kept.used).unwrap_or_default();
        let over = match () {
            () if age > keep_for => Some("age"),
            () if stay.saturating_add(kept.bytes) > most => Some("bytes"),
            () => None,
        };
        let is_used = lock(&kept.folder).is_none();
        match over.filter(|_| !is_used) {
            None => stay = stay.saturating_add(kept.bytes),
            Some(over) => gone.push(Removed {
                workspace: kept.workspace,
                caches: kept.name,
                bytes: kept.bytes,
                over,
            }),
        }
    }
    gone.reverse();
    Ok((gone, stay))
}

/// Removes these overlays, and the remains of an earlier removal. Those that a session uses by now
/// stay.
///
/// # Errors
/// When one cannot be removed; those before it are already removed.
pub(crate) fn remove(state: &Path, planned: &[Removed]) -> anyhow::Result<()> {
    let aside = state.join(ASIDE_DIR);
    for removed in planned {
        let from = state.join(DIRECTORY).join(&removed.caches);
        let Some(_held) = lock(&from) else { continue };
        let mut folder = fs::DirBuilder::new();
        folder.recursive(true).mode(0o700);
        folder
            .create(&aside)
            .with_context(|| format!("cannot make `{}`", aside.display()))?;
        fs::rename(&from, aside.join(&removed.caches))
            .with_context(|| format!("cannot remove `{}`", from.display()))?;
    }
    let left = fs::read_dir(&aside).into_iter().flatten().flatten();
    for entry in left {
        let path = entry.path();
        open_up(&path);
        fs::remove_dir_all(&path).with_context(|| format!("cannot remove `{}`", path.display()))?;
    }
    Ok(())
}

/// Takes the lock of a workspace's overlays; `None` if a session has it.
fn lock(folder: &Path) -> Option<fs::File> {
    let mut options = fs::OpenOptions::new();
    let no_links = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options
        .custom_flags(no_links)
        .open(folder.join(LOCK))
        .ok()?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

fn all(state: &Path) -> io::Result<Vec<Kept>> {
    let entries = match fs::read_dir(state.join(DIRECTORY)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut all = Vec::new();
    for entry in entries.flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        if !is_folder {
            continue;
        }
        let folder = entry.path();
        let named = folder.join(WORKSPACE);
        let workspace = OsString::from_vec(fs::read(&named).unwrap_or_default());
        // Each session that uses the overlays rewrites the name.
        let used = fs::metadata(&named).and_then(|meta| meta.modified());
        all.push(Kept {
            bytes: bytes(&folder),
            name,
            workspace: RawText::from_os(&workspace),
            used: used.unwrap_or(SystemTime::UNIX_EPOCH),
            folder,
        });
    }
    Ok(all)
}

/// Returns the bytes that a folder takes on the disk.
fn bytes(folder: &Path) -> u64 {
    let mut sum = 0_u64;
    each_entry(folder, |_, metadata| {
        sum = sum.saturating_add(metadata.blocks().saturating_mul(512));
    });
    sum
}

/// Lets the owner remove the content of folders that tools and overlays closed (Go's modules are
/// read-only, the work folder of an overlay has no rights at all).
fn open_up(folder: &Path) {
    let open = |path: &Path| {
        ignored(
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)),
            "a folder that cannot be opened up makes the removal fail, which reports it",
        );
    };
    open(folder);
    each_entry(folder, |path, metadata| {
        if metadata.is_dir() && metadata.mode() & 0o700 != 0o700 {
            open(path);
        }
    });
}

/// Visits everything below a folder, each folder before its content; follows no link.
fn each_entry(folder: &Path, mut visit: impl FnMut(&Path, &fs::Metadata)) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let path = entry.path();
            visit(&path, &metadata);
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
}
