//! Watches the top of the workspace from outside for protected names that appear although every
//! creation is judged: only a program that swaps a path under the notifier can do that.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs, io,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt, OsStringExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use stockade_plan::{LaunchPlan, Step};
use stockade_policy::WorkspaceSettings;
use stockade_sys::walk::open_beneath;
use stockade_types::AbsPath;

use crate::{
    places::{self, Places},
    tree::Unlocked,
};

/// The clock of file times steps this far at most (a tick at 100 Hz).
const CLOCK_STEP: Duration = Duration::from_millis(10);

/// Added to the name of what cannot be moved out of its file system.
const QUARANTINE_SUFFIX: &str = ".stockade-quarantine";

/// The protected names that did not exist when the session started: at the top of the workspace,
/// and at the places that protected names lead to.
#[derive(Debug)]
pub(crate) struct Guard {
    workspace: PathBuf,
    places: Arc<Places>,
    /// Paths below the workspace, each with the name that patterns know it by.
    absent: BTreeMap<OsString, Vec<u8>>,
    /// Paths below the workspace that were no links: one would put something else at a place.
    straight: BTreeSet<OsString>,
    /// What changed later was changed in the session.
    since: SystemTime,
}

impl Guard {
    /// Notes which protected names are absent; to be called before the command starts.
    pub(crate) fn new(
        workspace: &AbsPath,
        settings: &WorkspaceSettings,
        places: Arc<Places>,
    ) -> Self {
        let top = workspace.as_path();
        let metadata = |path: &OsStr| fs::symlink_metadata(top.join(path));
        let own = plain_names(settings).map(|name| (OsString::from(&name), name.into_bytes()));
        let led_to = places.all().flat_map(|(place, name)| {
            plain_names(settings).filter_map(move |plain| {
                let below = below(plain.as_bytes(), name)?;
                let path = places::join(place.as_os_str().as_bytes(), below);
                Some((OsString::from_vec(path), places::join(name, below)))
            })
        });
        let absent = own
            .chain(led_to)
            .filter(|(path, _)| !path.is_empty() && metadata(path).is_err_and(|e| is_absent(&e)))
            .collect();
        let straight = places
            .on_the_way()
            .map(|path| path.as_os_str().to_owned())
            .filter(|path| !metadata(path).is_ok_and(|metadata| metadata.is_symlink()))
            .collect();
        Self {
            workspace: top.to_owned(),
            absent,
            straight,
            places,
            since: SystemTime::now()
                .checked_sub(CLOCK_STEP)
                .unwrap_or(UNIX_EPOCH),
        }
    }

    /// Looks for names that appeared against the verdicts and moves them out of the workspace into
    /// `quarantine`; returns what was found.
    ///
    /// # Errors
    /// When something was found and cannot be moved away.
    pub(crate) fn sweep(
        &self,
        settings: &WorkspaceSettings,
        quarantine: &Path,
    ) -> io::Result<Vec<OsString>> {
        let mut found = Vec::new();
        let is_link = |path: &OsString| self.workspace.join(path).is_symlink();
        for path in self.straight.iter().filter(|path| is_link(path)) {
            self.move_away(path, quarantine)?;
            found.push(path.clone());
        }
        for (path, name) in &self.absent {
            if self.holds_protected(path, name, settings) && self.move_away(path, quarantine)? {
                found.push(path.clone());
            }
        }
        Ok(found)
    }

    /// Takes away what appeared against the verdicts once the session is over; tells whether
    /// anything did.
    pub(crate) fn found_at_end(
        &self,
        settings: &WorkspaceSettings,
        plan: &LaunchPlan,
        quarantine: &Path,
    ) -> bool {
        let held = plan.steps.iter().filter_map(|step| match step {
            Step::Protect {
                path,
                read_only: true,
            } => Some(path.clone()),
            _ => None,
        });
        let top = self.sweep(settings, quarantine);
        let all = self.sweep_all(settings, &held.collect(), quarantine);
        // What cannot be moved away is a finding as well.
        !top.is_ok_and(|found| found.is_empty()) || !all.is_ok_and(|found| found.is_empty())
    }

    /// Looks through the whole workspace once nothing of the session runs any more; moves away what
    /// appeared at any depth, as [`Self::sweep`] does for the top.
    ///
    /// # Errors
    /// When the workspace cannot be searched, or something found cannot be moved away.
    fn sweep_all(
        &self,
        settings: &WorkspaceSettings,
        known: &BTreeSet<AbsPath>,
        quarantine: &Path,
    ) -> io::Result<Vec<PathBuf>> {
        let workspace = AbsPath::new(&self.workspace).map_err(io::Error::other)?;
        let mut unlocked = Unlocked::default();
        let found = crate::protected::appeared(
            &workspace,
            settings,
            &self.places,
            known,
            self.since,
            &mut unlocked,
        )
        .map_err(io::Error::other)?;
        for path in &found {
            let below = path.strip_prefix(&self.workspace).unwrap_or(path);
            self.move_away(below.as_os_str(), quarantine)?;
        }
        Ok(found.into_iter().collect())
    }

    /// An entry is a violation when it is protected itself, or a link or a file where a directory
    /// belongs, or has a protected entry.
    fn holds_protected(&self, path: &OsStr, name: &[u8], settings: &WorkspaceSettings) -> bool {
        let path = self.workspace.join(path);
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            return false;
        };
        if settings.protects(name).is_some() || !metadata.is_dir() {
            return true;
        }
        let Ok(entries) = fs::read_dir(path) else {
            return false;
        };
        entries.flatten().any(|entry| {
            let below = places::join(name, entry.file_name().as_bytes());
            settings.protects(&below).is_some()
        })
    }

    /// Moves an entry below the workspace out of it, or across file systems, where that fails, to a
    /// name beside it that nothing reads: it may be the user's own work, so it is never removed.
    /// Tells whether it was there.
    fn move_away(&self, path: &OsStr, quarantine: &Path) -> io::Result<bool> {
        let path = Path::new(path);
        let Some(name) = path.file_name() else {
            return Ok(false);
        };
        // Programs of the session may still swap directories for links: never through one.
        let Ok(directory) = self.open(path.parent().unwrap_or(Path::new(""))) else {
            return Ok(false);
        };
        if rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            return Ok(false);
        }
        let target = quarantine.join(path);
        fs::create_dir_all(target.parent().unwrap_or(quarantine))?;
        if rustix::fs::renameat(&directory, name, CWD, &target).is_err() {
            let mut beside = name.to_owned();
            beside.push(QUARANTINE_SUFFIX);
            rustix::fs::renameat(&directory, name, &directory, &beside)?;
        }
        Ok(true)
    }

    fn open(&self, directory: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let workspace = rustix::fs::open(&self.workspace, flags, Mode::empty())?;
        if directory.as_os_str().is_empty() {
            return Ok(workspace);
        }
        open_beneath(workspace, directory, flags)
    }
}

/// What cannot be looked at may be there all the same.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// What stands before the wildcard of a pattern names one entry: the first part, and all of it.
fn plain_names(settings: &WorkspaceSettings) -> impl Iterator<Item = String> {
    settings
        .protect
        .iter()
        .flat_map(|pattern| {
            let plain: Vec<&str> = pattern
                .value
                .as_str()
                .split('/')
                .take_while(|part| !part.contains('*'))
                .collect();
            let first = plain.first().map(|first| (*first).to_owned());
            first.into_iter().chain([plain.join("/")])
        })
        .filter(|name| !name.is_empty())
}

/// Returns what a path has below another one, or nothing where it is the other one.
fn below<'p>(path: &'p [u8], above: &[u8]) -> Option<&'p [u8]> {
    let (front, rest) = path.split_at_checked(above.len())?;
    let fits = front.eq_ignore_ascii_case(above) && (rest.is_empty() || rest.starts_with(b"/"));
    fits.then_some(rest)
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use stockade_policy::{HostSets, Origin, Source};
    use stockade_types::AbsPath;

    use super::Guard;

    #[test]
    fn what_appears_against_the_verdicts_is_moved_out() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = dir.path().join("ws");
        fs::create_dir_all(workspace.join(".vscode")).unwrap();
        let text =
            "schema = 1\n[workspace]\nprotect = [\".mcp.json\", \".vscode/**\", \".codex/**\"]\n";
        let source = Source {
            origin: Origin::User,
            name: "t".to_owned(),
            text: text.to_owned(),
        };
        let policy = stockade_policy::load(&[source], &HostSets::default()).unwrap();
        let settings = &policy.settings().workspace;
        let guard = Guard::new(&AbsPath::new(&workspace).unwrap(), settings, Arc::default());
        let quarantine = dir.path().join("quarantine");
        assert!(guard.sweep(settings, &quarantine).unwrap().is_empty());
        fs::write(workspace.join(".mcp.json"), "{}").unwrap();
        fs::write(workspace.join(".vscode/kept"), "").unwrap();
        std::os::unix::fs::symlink("/etc", workspace.join(".codex")).unwrap();
        let found = guard.sweep(settings, &quarantine).unwrap();
        assert_eq!(found, [".codex", ".mcp.json"]);
        assert!(!workspace.join(".mcp.json").exists());
        assert!(quarantine.join(".mcp.json").exists());
        assert!(fs::symlink_metadata(workspace.join(".codex")).is_err());
        assert!(workspace.join(".vscode/kept").exists());
    }
}
