//! Watches the top of the workspace from outside for protected names that appear although every
//! creation is judged: only a program that swaps a path under the notifier can do that.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use stockade_policy::WorkspaceSettings;
use stockade_types::AbsPath;

/// The protected top-level names that did not exist when the session started.
#[derive(Debug)]
pub(crate) struct Guard {
    workspace: PathBuf,
    absent: BTreeSet<OsString>,
}

impl Guard {
    /// Notes which protected names are absent; to be called before the command starts.
    pub(crate) fn new(workspace: &AbsPath, settings: &WorkspaceSettings) -> Self {
        let absent = settings
            .protect
            .iter()
            .filter_map(|pattern| {
                // A pattern without a wildcard in its first part names one entry of the top.
                let first = pattern.value.split('/').next()?;
                (!first.contains('*')).then(|| OsString::from(first))
            })
            .filter(|name| fs::symlink_metadata(workspace.as_path().join(name)).is_err())
            .collect();
        Self {
            workspace: workspace.as_path().to_owned(),
            absent,
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
            if fs::symlink_metadata(&path).is_err() || !self.holds_protected(&path, name, settings)
            {
                continue;
            }
            fs::create_dir_all(quarantine)?;
            let target = quarantine.join(name);
            // Across file systems a rename fails; then the entry is removed, which is safe too.
            if fs::rename(&path, &target).is_err() {
                remove(&path)?;
            }
            found.push(name.clone());
        }
        Ok(found)
    }

    /// An entry is a violation when it is protected itself, or a link, or has a protected entry.
    fn holds_protected(&self, path: &Path, name: &OsStr, settings: &WorkspaceSettings) -> bool {
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

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
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
