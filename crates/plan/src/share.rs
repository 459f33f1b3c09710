//! Binds of what policy or the command needs.

use stockade_types::AbsPath;

use crate::{Step, Upper};

/// How a tree of the host is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// It cannot be changed.
    ReadOnly,
    /// Changes are the host's.
    Writable,
    /// Changes stay in an overlay of the session's own.
    Overlaid(Upper),
}

/// A file or tree of the host that policy or the command needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedBind {
    pub(crate) from: AbsPath,
    pub(crate) path: AbsPath,
    pub(crate) sharing: Sharing,
}

impl SharedBind {
    /// Whether somebody inside can change what is seen there.
    pub(crate) fn is_writable(&self) -> bool {
        match &self.sharing {
            Sharing::ReadOnly | Sharing::Overlaid(Upper::Nowhere) => false,
            Sharing::Writable | Sharing::Overlaid(Upper::Kept(_) | Upper::Memory) => true,
        }
    }

    pub(crate) fn into_step(self) -> Step {
        let read_only = !self.is_writable();
        let Self {
            from,
            path,
            sharing,
        } = self;
        let upper = match sharing {
            Sharing::Overlaid(Upper::Kept(upper)) => Some(upper),
            Sharing::Overlaid(Upper::Memory) => None,
            Sharing::ReadOnly | Sharing::Writable | Sharing::Overlaid(Upper::Nowhere) => {
                return Step::Bind {
                    from,
                    path,
                    read_only,
                    devices: false,
                };
            }
        };
        Step::Overlay { from, path, upper }
    }
}
