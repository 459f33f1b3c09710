//! Watches the top of the workspace from outside for protected names that appear although every
//! creation is judged: only a program that swaps a path under the notifier can do that.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use stockade_plan::{LaunchPlan, Step};
use stockade_policy::WorkspaceSettings;
use stockade_types::AbsPath;

use crate::tree::Unlocked;

/// The clock of file times steps this far at most (a tick at 100 Hz).
const CLOCK_STEP: Duration = Duration::from_millis(10);

/// Added to the name of what cannot be moved out of its file system.
const QUARANTINE_SUFFIX: &str = ".stockade-quarantine";

/// The protected top-level names that did not exist when the session started.
#[derive(Debug)]
pub(crate) struct Guard {
    workspace: PathBuf,
    absent: BTreeSet<OsString>,
    /// What changed later was changed in the session.
    since: SystemTime,
}

impl Guard {
    /// Notes which protected names are absent; to be called before the command starts.
    pub(crate) fn new(workspace: &AbsPath, settings: &WorkspaceSettings) -> Self {
        let absent = settings
            .protect
            .iter()
            .flat_map(|pattern| {
                // What stands before a wildcard names one entry: the first part, and all of it.
                let plain: Vec<&str> = pattern
                    .value
                    .split('/')
                    .take_while(|part| !part.contains('*'))
                    .collect();
                let first = plain.first().map(OsString::from);
                first.into_iter().chain([OsString::from(plain.join("/"))])
            })
            .filter(|name| !name.is_empty())
            .filter(|name| fs::symlink_metadata(workspace.as_path().join(name)).is_err())
            .collect();
        Self {
            workspace: workspace.as_path().to_owned(),
            absent,
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
        for name in &self.absent {
            let path = self.workspace.join(name);
            if fs::symlink_metadata(&path).is_err() || !Self::holds_protected(&path, name, settings)
            {
                continue;
            }
            move_away(&path, &quarantine.join(name))?;
            found.push(name.clone());
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
        let found =
            crate::protected::appeared(&workspace, settings, known, self.since, &mut unlocked)
                .map_err(io::Error::other)?;
        for path in &found {
            let below = path.strip_prefix(&self.workspace).unwrap_or(path);
            move_away(path, &quarantine.join(below))?;
        }
        Ok(found)
    }

    /// An entry is a violation when it is protected itself, or a link, or has a protected entry.
    fn holds_protected(path: &Path, name: &OsStr, settings: &WorkspaceSettings) -> bool {
        if settings.protects(name.as_bytes()).is_some() || path.is_symlink() {
            return true;
        }
        let Ok(entries) = fs::read_dir(path) else {
            return false;
        };
        entries.flatten().any(|entry| {
            let below = [name.as_bytes(), b"/", entry.file_name().as_bytes()].concat();
            settings.protects(&below).is_some()
        })
    }
}

/// Moves an entry to `target`, or across file systems, where that fails, to a name beside it that
/// nothing reads: it may be the user's own work, so it is never removed.
fn move_away(path: &Path, target: &Path) -> io::Result<()> {
    fs::create_dir_all(target.parent().unwrap_or(target))?;
    fs::rename(path, target).or_else(|_| {
        let mut beside = path.as_os_str().to_owned();
        beside.push(QUARANTINE_SUFFIX);
        fs::rename(path, beside)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let guard = Guard::new(&AbsPath::new(&workspace).unwrap(), settings);
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
