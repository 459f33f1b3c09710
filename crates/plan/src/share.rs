//! Binds of what policy or the command needs.

use stockade_types::AbsPath;

use crate::Step;

/// A file or tree of the host that policy or the command needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedBind {
    pub(crate) from: AbsPath,
    pub(crate) path: AbsPath,
    pub(crate) read_only: bool,
}

impl SharedBind {
    pub(crate) fn into_step(self) -> Step {
        Step::Bind {
            from: self.from,
            path: self.path,
            read_only: self.read_only,
            devices: false,
        }
    }
}
