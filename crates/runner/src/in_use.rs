//! That a session uses what its agent keeps, and what became of the logins in it.

use std::{fs, io, path::Path};

use rustix::fs::FlockOperation;
use stockade_types::AbsPath;

use crate::{
    caller::Caller,
    logins::{LoginPlace, LoginState},
};

/// Name of the file that holds the path of the workspace, beside the directories.
pub(crate) const WORKSPACE: &str = "workspace";

/// Held as long as a session uses what is kept.
#[derive(Debug)]
pub(crate) struct InUse {
    _file: fs::File,
    pub(crate) caller: Caller,
    pub(crate) logins: Vec<LoginPlace>,
}

impl InUse {
    /// Notes the workspace's name beside the directories, and that a session uses them.
    pub(crate) fn begin(
        base: &Path,
        workspace: &AbsPath,
        caller: &Caller,
        logins: Vec<LoginPlace>,
    ) -> io::Result<Self> {
        let path = base.join(WORKSPACE);
        fs::write(&path, workspace.as_path().as_os_str().as_encoded_bytes())?;
        let file = fs::File::open(&path)?;
        // Where it cannot be had, whoever resets what is kept is not kept from it.
        let lock = FlockOperation::NonBlockingLockShared;
        rustix::fs::flock(&file, lock).unwrap_or_default();
        Ok(Self {
            _file: file,
            caller: caller.clone(),
            logins,
        })
    }

    /// Says what became of the logins, one line each.
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
