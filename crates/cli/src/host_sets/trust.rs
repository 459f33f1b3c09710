//! The files that may determine package sources: those of the owner that no session could have
//! written.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use stockade_policy::{Origin, Source};

/// Largest settings file that is read.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;
/// The mode bit that lets everyone write (`S_IWOTH`).
const MODE_OTHERS_WRITE: u32 = 0o002;

/// The places of this machine that are trusted, and those that are not.
pub(super) struct Owner {
    /// The owner's home.
    pub(super) home: PathBuf,
    /// Directories that sessions can write, with links resolved.
    open: Vec<PathBuf>,
}

impl Owner {
    /// Takes the home, the workspaces of this and earlier sessions, and the paths that the policies
    /// of `sources` make writable.
    pub(super) fn new(home: PathBuf, workspaces: Vec<PathBuf>, sources: &[Source]) -> Self {
        let written = sources.iter().flat_map(|source| written(source, &home));
        let open = workspaces.into_iter().chain(written);
        let open = open
            .map(|path| fs::canonicalize(&path).unwrap_or(path))
            .collect();
        Self { home, open }
    }

    /// Opens a regular file that only the owner or the machine could have written.
    pub(super) fn open(&self, path: &Path) -> Option<(File, Metadata)> {
        let real = fs::canonicalize(path).ok()?;
        if self.open.iter().any(|place| real.starts_with(place)) {
            return None;
        }
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).ok()?;
        let mut options = File::options();
        let file = options.read(true).custom_flags(flags).open(&real).ok()?;
        let found = file.metadata().ok()?;
        self.is_own(&found).then_some((file, found))
    }

    /// Reads a settings file as text; empty if it is not text or not the owner's.
    pub(super) fn text(&self, path: &Path) -> String {
        self.read(path).unwrap_or_default()
    }

    fn read(&self, path: &Path) -> Option<String> {
        let (file, found) = self.open(path)?;
        if found.len() > SETTINGS_BYTES_MAX {
            return None;
        }
        let mut text = String::new();
        let read: io::Result<usize> = file.take(SETTINGS_BYTES_MAX).read_to_string(&mut text);
        read.ok().map(|_| text)
    }

    fn is_own(&self, found: &Metadata) -> bool {
        let own = rustix::process::geteuid().as_raw();
        let home = fs::metadata(&self.home).map_or(own, |home| home.uid());
        let closed = found.mode() & MODE_OTHERS_WRITE == 0;
        found.is_file() && closed && [0, own, home].contains(&found.uid())
    }
}

/// Returns the paths that a policy makes writable apart from the workspace. This runs before the
/// policy is loaded, so invalid text is only refused later.
fn written(source: &Source, home: &Path) -> Vec<PathBuf> {
    if source.origin == Origin::Builtin || !source.text.contains("write") {
        return Vec::new();
    }
    let table = source.text.parse::<toml::Table>().unwrap_or_default();
    let list = table.get("filesystem").and_then(|files| files.get("write"));
    let list = list.and_then(toml::Value::as_array).into_iter().flatten();
    list.filter_map(toml::Value::as_str)
        .filter_map(|text| match text.strip_prefix('~') {
            Some(below) => Some(home.join(below.trim_start_matches('/'))),
            None => text.starts_with('/').then(|| PathBuf::from(text)),
        })
        .collect()
}
