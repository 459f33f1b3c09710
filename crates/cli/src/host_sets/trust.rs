//! Which files may say where packages come from: those of the owner, that no session could have
//! written.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use stockade_policy::{Origin, Source};

/// Largest file of settings that is read.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;
/// The bit of a mode that lets everybody write (`S_IWOTH`).
const MODE_OTHERS_WRITE: u32 = 0o002;

/// The places of this machine that count, and those that do not.
pub(super) struct Owner {
    /// His home.
    pub(super) home: PathBuf,
    /// Directories that sessions can write, with no link on the way.
    open: Vec<PathBuf>,
}

impl Owner {
    /// Takes the home, the workspaces of this and earlier sessions, and what the policies of `sources`
    /// let sessions write.
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

    /// Reads a file of settings as text; nothing where it is none, or not the owner's.
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

/// Returns what a policy lets sessions write beside the workspace. Read before the policy is: what is no
/// policy is refused later.
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
