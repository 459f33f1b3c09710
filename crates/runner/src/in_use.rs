//! The mark that a session uses its agent's kept state, and what happened to the logins in it.

use std::{fs, io, path::Path};

use rustix::fs::FlockOperation;
use stockade_types::AbsPath;

use crate::{
    caller::Caller,
    logins::{LoginPlace, LoginState},
};

/// Name of the file that contains the path of the workspace, beside the directories.
pub(crate) const WORKSPACE: &str = "workspace";

/// Held as long as a session uses the kept state.
#[derive(Debug)]
pub(crate) struct InUse {
    _file: fs::File,
    pub(crate) caller: Caller,
    pub(crate) logins: Vec<LoginPlace>,
}

impl InUse {
    /// Records the workspace's name beside the directories, and that a session uses them.
    pub(crate) fn begin(
        base: &Path,
        workspace: &AbsPath,
        caller: &Caller,
        logins: Vec<LoginPlace>,
    ) -> io::Result<Self> {
        let path = base.join(WORKSPACE);
        fs::write(&path, workspace.as_path().as_os_str().as_encoded_bytes())?;
        let file = fs::File::open(&path)?;
        // If the lock fails, a reset of the kept state is merely not prevented.
        let lock = FlockOperation::NonBlockingLockShared;
        rustix::fs::flock(&file, lock).unwrap_or_default();
        Ok(Self {
            _file: file,
            caller: caller.clone(),
            logins,
        })
    }

    /// Says what happened to the logins, one line each.
    pub(crate) fn told(&self, agent: &str) -> Vec<String> {
        let states = self.logins.iter().map(|place| place.state(&self.caller));
        states
            .filter_map(|state| match state {
                LoginState::Refreshed { file, .. } => Some(format!(
                    "the login of {file} was refreshed inside, and yours may be stale: \
                     `stockade state copy {agent}` takes it over"
                )),
                LoginState::Same | LoginState::Other { .. } => None,
            })
            .collect()
    }
}
