//! The directory of one session on the host: its journal, its lock, its mount point; and the
//! remains of sessions whose supervisor was killed.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use stockade_journal::layout;
use stockade_plan::{LaunchPlan, Step};
use stockade_types::{AbsPath, SessionId, ignored};

use crate::RunError;

/// A session's directory, locked for as long as this value lives.
#[derive(Debug)]
pub(crate) struct SessionDir {
    path: AbsPath,
    /// Lists what the next session must remove if this one cannot.
    note: PathBuf,
    _lock: File,
}

impl SessionDir {
    /// Makes the directory and takes its lock; `groups` are the control groups to come.
    pub(crate) fn create(
        state_dir: &Path,
        session: &SessionId,
        groups: &[PathBuf],
    ) -> Result<Self, RunError> {
        let path = layout::session_dir(state_dir, session);
        let wrong = |source: io::Error| RunError::SessionDirectory {
            path: path.clone(),
            source,
        };
        let make = |path: &Path, recursive: bool| {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(recursive).mode(0o700).create(path)
        };
        let running = state_dir.join(layout::RUNNING_DIR);
        if let Some(parent) = path.parent() {
            make(parent, true).map_err(wrong)?;
        }
        make(&running, true).map_err(wrong)?;
        make(&path, false).map_err(wrong)?;
        make(&path.join(MOUNT_POINT), false).map_err(wrong)?;
        let new = |path: &Path| {
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
        };
        let lock = new(&path.join(layout::LOCK_FILE)).map_err(wrong)?;
        lock.lock().map_err(wrong)?;
        let note = running.join(session.as_str());
        let mut listed = Vec::new();
        for group in groups {
            listed.extend_from_slice(group.as_os_str().as_bytes());
            listed.push(b'\n');
        }
        new(&note)
            .and_then(|mut file| file.write_all(&listed))
            .map_err(wrong)?;
        let path = AbsPath::new(&path).map_err(|_| RunError::Path(path.clone()))?;
        Ok(Self {
            path,
            note,
            _lock: lock,
        })
    }

    pub(crate) const fn path(&self) -> &AbsPath {
        &self.path
    }

    /// Returns a path below.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.as_path().join(name)
    }

    /// Removes the mount point or, for a session that never ran, everything.
    pub(crate) fn clean(&self, what: Clean) {
        // Entries that cannot be removed are empty or only ours; the session's end does not depend
        // on them.
        match what {
            Clean::MountPoint => clean_mount_point(self.path.as_path()),
            Clean::Everything => ignored(
                fs::remove_dir_all(self.path.as_path()),
                "what stays is private, and no session uses it again",
            ),
        }
        ignored(fs::remove_file(&self.note), "the next start removes it");
    }
}

/// Returns the control groups that the launch will make.
pub(crate) fn groups(plan: &LaunchPlan) -> Vec<PathBuf> {
    let steps = plan.steps.iter();
    steps
        .filter_map(|step| match step {
            Step::JoinGroup { parent, .. } => Some(parent.as_path().join(plan.group_name())),
            _ => None,
        })
        .collect()
}

/// The mount point of the private root, in the session's directory.
const MOUNT_POINT: &str = "root";
/// The files for the agent in `/run/stockade`, in the session's directory.
pub(crate) const INSIDE: &str = "inside";

fn clean_mount_point(session_dir: &Path) {
    ignored(
        fs::remove_dir(session_dir.join(MOUNT_POINT)),
        "it is empty, and no session uses it again",
    );
    ignored(
        fs::remove_dir_all(session_dir.join(INSIDE)),
        "it is private, and no session uses it again",
    );
}

/// Removes the remains of sessions whose supervisor was killed. Their processes died with it; their
/// mount points and control groups are empty. The record stays.
pub(crate) fn clear_leftovers(state_dir: &Path) {
    let Ok(notes) = fs::read_dir(state_dir.join(layout::RUNNING_DIR)) else {
        return;
    };
    for note in notes.flatten() {
        let name = note.file_name();
        let Some(session) = name
            .to_str()
            .and_then(|name| name.parse::<SessionId>().ok())
        else {
            continue;
        };
        let directory = layout::session_dir(state_dir, &session);
        if !matches!(layout::is_live(&directory), Ok(false)) {
            continue;
        }
        clean_mount_point(&directory);
        let listed = fs::read(note.path()).unwrap_or_default();
        let gone = listed
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| Path::new(OsStr::from_bytes(line)))
            // Only an empty directory can be removed, and only one with the session's name.
            .filter(|group| group.to_string_lossy().ends_with(session.as_str()))
            .all(|group| match fs::remove_dir(group) {
                Ok(()) => true,
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            });
        if gone {
            ignored(fs::remove_file(note.path()), "the next start tries again");
        }
    }
}

/// How much of a session's directory is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clean {
    /// The record stays.
    MountPoint,
    /// There is no record, because the journal could not even begin.
    Everything,
}
