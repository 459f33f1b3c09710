//! The state directory: its place, and the check that no other user can access it.

use std::{
    ffi::{OsStr, OsString},
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use stockade_journal::layout::{KEY_FILE, SESSIONS_DIR, session_dir};
use stockade_runner::StateProblem;
use stockade_types::SessionId;

/// Names the state directory; it takes precedence over all others.
pub(crate) const STATE_DIR_VARIABLE: &str = "STOCKADE_STATE_DIR";
/// The base for state files of all programs (XDG Base Directory Specification).
pub(crate) const XDG_STATE_VARIABLE: &str = "XDG_STATE_HOME";
/// The home directory.
pub(crate) const HOME_VARIABLE: &str = "HOME";

/// Why there is no state directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// No variable names its place.
    #[error(
        "no place for the state: set {STATE_DIR_VARIABLE}, {XDG_STATE_VARIABLE} or {HOME_VARIABLE}"
    )]
    Nowhere,
    /// A variable has a path whose meaning depends on the current directory.
    #[error("`{path}` in {variable} is not an absolute path")]
    Relative {
        /// The variable.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// It does not exist yet.
    #[error("there is no state directory at `{0}`; the first `stockade run` makes it")]
    Missing(PathBuf),
    /// Another user could read or change it.
    #[error("the state directory `{path}` {what}")]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and the fix.
        what: String,
    },
    /// It cannot be made or examined.
    #[error("cannot use the state directory `{path}`")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Returns the place of the state directory, which need not exist.
///
/// # Errors
/// When no variable names it.
pub(crate) fn location() -> Result<PathBuf, StateError> {
    locate(|name| std::env::var_os(name))
}

/// A state directory that exists, is not a link, belongs to this user and is closed to others.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// Opens the state directory that the environment names.
    ///
    /// # Errors
    /// When there is none, or another user could read or change it.
    pub(crate) fn open() -> Result<Self, StateError> {
        Self::open_at(location()?)
    }

    /// Opens the state directory that the environment names, making it if there is none.
    ///
    /// # Errors
    /// When it cannot be made, or another user could read or change it.
    pub(crate) fn open_or_create() -> Result<Self, StateError> {
        Self::create_at(location()?)
    }

    /// Returns the path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the file of the signing key.
    pub(crate) fn key_path(&self) -> PathBuf {
        self.0.join(KEY_FILE)
    }

    /// Returns the directory of `session`, which need not exist.
    pub(crate) fn session_dir(&self, session: &SessionId) -> PathBuf {
        session_dir(&self.0, session)
    }

    fn create_at(path: PathBuf) -> Result<Self, StateError> {
        let sessions = path.join(SESSIONS_DIR);
        // Missing parents are made for this user alone, as XDG requires.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| StateError::Io {
                path: path.clone(),
                source,
            })?;
        let state = Self::open_at(path)?;
        match DirBuilder::new().mode(0o700).create(&sessions) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StateError::Io {
                    path: sessions,
                    source: error,
                });
            }
            _ => {}
        }
        checked(&state.0)?;
        Ok(state)
    }

    fn open_at(path: PathBuf) -> Result<Self, StateError> {
        checked(&path)?;
        Ok(Self(path))
    }
}

/// Refuses a directory that fails [`stockade_runner::check_state`].
fn checked(path: &Path) -> Result<(), StateError> {
    stockade_runner::check_state(path).map_err(|(path, problem)| match problem {
        StateProblem::Missing => StateError::Missing(path),
        StateProblem::Unsafe(what) => StateError::Unsafe { path, what },
        StateProblem::Io(source) => StateError::Io { path, source },
    })
}

/// Finds the path from the variables that `get` returns.
fn locate(get: impl Fn(&OsStr) -> Option<OsString>) -> Result<PathBuf, StateError> {
    let value = |name: &'static str| get(OsStr::new(name)).filter(|value| !value.is_empty());
    let absolute = |variable, path: OsString| {
        let path = PathBuf::from(path);
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(StateError::Relative { variable, path })
        }
    };
    if let Some(path) = value(STATE_DIR_VARIABLE) {
        return absolute(STATE_DIR_VARIABLE, path);
    }
    if let Some(path) = value(XDG_STATE_VARIABLE) {
        return Ok(absolute(XDG_STATE_VARIABLE, path)?.join("stockade"));
    }
    let home = value(HOME_VARIABLE).ok_or(StateError::Nowhere)?;
    Ok(absolute(HOME_VARIABLE, home)?.join(".local/state/stockade"))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
        path::Path,
    };

    use super::{StateDir, StateError, locate};

    fn located(variables: &[(&str, &str)]) -> Result<String, String> {
        locate(|name| {
            let found = variables.iter().find(|(key, _)| name == *key);
            found.map(|(_, value)| value.into())
        })
        .map(|path| path.display().to_string())
        .map_err(|error| error.to_string())
    }

    #[test]
    fn the_variables_win_in_order() {
        let all = [
            ("STOCKADE_STATE_DIR", "/s"),
            ("XDG_STATE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        assert_eq!(located(&all).as_deref(), Ok("/s"));
        assert_eq!(located(&all[1..]).as_deref(), Ok("/x/stockade"));
        assert_eq!(
            located(&all[2..]).as_deref(),
            Ok("/h/.local/state/stockade")
        );
        assert_eq!(
            located(&[("XDG_STATE_HOME", ""), ("HOME", "/h")]).as_deref(),
            Ok("/h/.local/state/stockade")
        );
        assert!(located(&[]).unwrap_err().contains("HOME"));
        assert!(
            located(&[("STOCKADE_STATE_DIR", "rel")])
                .unwrap_err()
                .contains("`rel`")
        );
    }

    #[test]
    fn it_is_made_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/state");
        assert!(matches!(
            StateDir::open_at(path.clone()),
            Err(StateError::Missing(_))
        ));
        StateDir::create_at(path.clone()).unwrap();
        StateDir::create_at(path.clone()).unwrap();
        for part in [path.clone(), path.join("sessions"), dir.path().join("a")] {
            let mode = fs::metadata(&part).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o700, "{}", part.display());
        }
        StateDir::open_at(path).unwrap();
    }

    fn refused(path: &Path) -> String {
        let error = StateDir::create_at(path.to_owned()).unwrap_err();
        assert!(
            matches!(error, StateError::Unsafe { .. } | StateError::Io { .. }),
            "{error}"
        );
        error.to_string()
    }

    #[test]
    fn what_others_could_touch_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        StateDir::create_at(path.clone()).unwrap();
        for mode in [0o755, 0o770, 0o701, 0o1777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(refused(&path).contains("chmod 700"));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(refused(&link).contains("symbolic link"));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        refused(&file);
        // The folder of sessions must pass the same check.
        fs::remove_dir(path.join("sessions")).unwrap();
        symlink(dir.path(), path.join("sessions")).unwrap();
        assert!(refused(&path).contains("symbolic link"));
        fs::remove_file(path.join("sessions")).unwrap();
        StateDir::create_at(path).unwrap();
    }
}
