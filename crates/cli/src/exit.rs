//! Exit codes of every command except `run`, as one documented enum.

use stockade_terminal::job::WholeGroup;

/// The answer of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Yes, or done.
    Yes,
    /// No: a check found something (tampered log, failing policy test, verdict deny).
    No,
    /// The command line was wrong.
    Usage,
    /// Cannot tell: unreadable or unsupported; the reason was printed.
    CannotTell,
    /// The code of a run: the command's own, 124 to 127, or 128+n.
    Run(u8),
    /// An interrupt ended a run's command: this process also ends by it, and so counts as 130.
    Interrupted(WholeGroup),
}

impl Exit {
    /// Returns the process exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::CannotTell => 3,
            Self::Run(code) => code,
            Self::Interrupted(_) => 130,
        }
    }
}
