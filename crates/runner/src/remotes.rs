//! The remotes that the owner set in the workspace's repository: git reaches their hosts without a
//! question.
//!
//! A session may add remotes to git settings. Each address that it adds is recorded in the state
//! directory before it is in the settings, for all workspaces and later sessions, so that it is
//! never mistaken for the owner's.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use stockade_types::AbsPath;

use crate::registries::read;
use stockade_supervise::{Remotes, addresses_of_remotes, repository};

/// The mode bit that lets everyone write (`S_IWOTH`).
const MODE_OTHERS_WRITE: u32 = 0o002;

/// Returns the http and https addresses of the remotes that the owner of a workspace set; none if
/// that cannot be determined. `state_dir` is where sessions are recorded, if there were any.
pub fn of_owner(state_dir: Option<&Path>, workspace: &Path) -> Vec<String> {
    let added = match state_dir.map(|state| Remotes::new(state).added()) {
        None => Vec::new(),
        Some(Ok(added)) => added,
        Some(Err(_)) => return Vec::new(),
    };
    let Some(text) = settings(workspace) else {
        return Vec::new();
    };
    let addresses = addresses_of_remotes(text.as_bytes()).into_iter();
    let own = addresses.filter(|address| !added.contains(address));
    own.filter_map(|address| String::from_utf8(address).ok())
        .filter(|address| address.starts_with("http://") || address.starts_with("https://"))
        .collect()
}

/// Reads the repository settings of a workspace, if they belong to the owner.
fn settings(workspace: &Path) -> Option<String> {
    let workspace = AbsPath::new(fs::canonicalize(workspace).ok()?).ok()?;
    let owner = fs::metadata(workspace.as_path()).ok()?.uid();
    let directory = repository::git_directory(&workspace, owner)?;
    let file = directory.join("config");
    let found = fs::symlink_metadata(&file).ok()?;
    let is_own = found.uid() == owner && found.mode() & MODE_OTHERS_WRITE == 0;
    (found.is_file() && is_own).then(|| read(&file))?
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Remotes, of_owner};

    const OLD: &str = "[remote \"origin\"]\n\turl = https://forge.test/a\n\tpushurl = http://push.test:8080/a\n[remote \"s\"]\n\turl = git@ssh.test:a\n";

    #[test]
    fn what_a_session_added_is_not_the_owners() {
        let [state, work] = [(), ()].map(|()| tempfile::tempdir().unwrap());
        let [state, work] = [state.path(), work.path()];
        let set = |text: &str| fs::write(work.join(".git/config"), text).unwrap();
        fs::create_dir_all(work.join(".git/objects")).unwrap();
        fs::create_dir_all(work.join(".git/refs")).unwrap();
        fs::write(work.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        let own = || of_owner(Some(state), work);
        let both = ["https://forge.test/a", "http://push.test:8080/a"];
        set(OLD);
        assert_eq!(own(), both);
        assert_eq!(of_owner(None, work), both);
        let new = format!("{OLD}[remote \"x\"]\n\turl = https://evil.test/x\n");
        Remotes::new(state)
            .note(OLD.as_bytes(), new.as_bytes())
            .unwrap();
        set(&new);
        assert_eq!(own(), both);
        // It does not matter whether it was there before, or in another place.
        set("[remote \"x\"]\n\turl = https://evil.test/x\n\tpushurl = https://mine.test/x\n");
        assert_eq!(own(), ["https://mine.test/x"]);
        fs::write(state.join("remotes"), "no line of ours\n").unwrap();
        assert_eq!(own(), [""; 0]);
        fs::File::create(state.join("remotes"))
            .unwrap()
            .set_len(5 << 20)
            .unwrap();
        assert_eq!(own(), [""; 0]);
    }

    #[test]
    fn settings_that_cannot_be_written_down_are_an_error() {
        let state = tempfile::tempdir().unwrap();
        let nowhere = Remotes::new(&state.path().join("none"));
        assert!(nowhere.note(OLD.as_bytes(), OLD.as_bytes()).is_ok());
        assert!(nowhere.note(b"", OLD.as_bytes()).is_err());
    }
}
