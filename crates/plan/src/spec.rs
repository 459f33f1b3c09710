//! What the caller of a session wants.

use stockade_types::{AbsPath, RawText, SessionId};

use crate::GuaranteeName;

/// What the caller wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSpec {
    /// The session.
    pub session: SessionId,
    /// Host directory of the session; holds `root` (a mount point) and `inside` (what the agent
    /// may read of us).
    pub session_dir: AbsPath,
    /// Our state directory, which must not be seen inside.
    pub state_dir: AbsPath,
    /// Workspace, links resolved.
    pub workspace: AbsPath,
    /// Directory that the command starts in, within the workspace.
    pub cwd: AbsPath,
    /// Command line.
    pub argv: Vec<RawText>,
    /// No network at all.
    pub offline: bool,
    /// Rows and columns of the session's terminal, if it gets one.
    pub terminal: Option<(u16, u16)>,
    /// Guarantees that must hold.
    pub require: Vec<GuaranteeName>,
    /// Guarantees that the caller does without, each with a reason.
    pub waive: Vec<(GuaranteeName, String)>,
}
