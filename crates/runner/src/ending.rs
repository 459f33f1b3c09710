//! How a session ended: its record, and the exit code of `run`.

use stockade_event::SessionOutcome;
use stockade_plan::StepName;
use stockade_sandbox::LaunchFailure;

/// Why Stockade ended a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KillReason {
    /// The session took longer than policy allows.
    WallTime,
    /// The journal cannot be written, for this reason.
    Journal(String),
    /// The egress process ended.
    EgressGone,
    /// A process outside killed the session.
    Outside,
    /// Another thread ordered it, for this reason.
    Ordered(String),
}

impl KillReason {
    /// Returns the text of the record.
    fn text(&self) -> String {
        match self {
            Self::WallTime => "the wall-time limit was reached".to_owned(),
            Self::Journal(why) => format!("the journal cannot be written: {why}"),
            Self::EgressGone => "the egress process ended unexpectedly".to_owned(),
            Self::Outside => "the session was killed from outside".to_owned(),
            Self::Ordered(why) => why.clone(),
        }
    }

    const fn exit_code(&self) -> u8 {
        match self {
            // The same code as timeout(1).
            Self::WallTime => 124,
            Self::Journal(_) | Self::EgressGone | Self::Outside | Self::Ordered(_) => 137,
        }
    }
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The command returned this code.
    Exited(i32),
    /// This signal ended the command.
    Signaled(i32),
    /// The command could not be executed.
    NotExecuted(LaunchFailure),
    /// Stockade ended the session.
    Killed(KillReason),
}

impl Ending {
    /// Returns the outcome for the record.
    pub(crate) fn outcome(&self) -> SessionOutcome {
        match self {
            Self::Exited(code) => SessionOutcome::Exited { code: *code },
            Self::Signaled(signal) => SessionOutcome::Signaled { signal: *signal },
            Self::NotExecuted(failure) => SessionOutcome::NotStarted {
                step: failure.step.to_string(),
                reason: failure.reason.clone(),
            },
            Self::Killed(reason) => SessionOutcome::Killed {
                reason: reason.text(),
            },
        }
    }

    /// Returns the exit code of `run` (see the command line reference).
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Exited(code) => u8::try_from(*code & 0xFF).unwrap_or(255),
            Self::Signaled(signal) => u8::try_from(128 + (*signal & 0x7F)).unwrap_or(255),
            Self::Killed(reason) => reason.exit_code(),
            Self::NotExecuted(failure) if failure.step != StepName::Execute => 125,
            Self::NotExecuted(failure) => {
                let missing = failure.errno == Some(rustix::io::Errno::NOENT.raw_os_error());
                if missing { 127 } else { 126 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use stockade_plan::StepName;
    use stockade_sandbox::LaunchFailure;

    use super::{Ending, KillReason};

    #[test]
    fn each_end_has_its_exit_code() {
        let failed = |step, errno| {
            Ending::NotExecuted(LaunchFailure {
                step,
                index: None,
                reason: "why".to_owned(),
                errno,
                remedy: String::new(),
            })
        };
        for (ending, code) in [
            (Ending::Exited(0), 0),
            (Ending::Exited(258), 2),
            (Ending::Signaled(15), 143),
            (Ending::Killed(KillReason::WallTime), 124),
            (Ending::Killed(KillReason::Outside), 137),
            (Ending::Killed(KillReason::EgressGone), 137),
            // The text of an order decides nothing, even if it looks like another reason.
            (
                Ending::Killed(KillReason::Ordered(KillReason::WallTime.text())),
                137,
            ),
            (failed(StepName::Execute, Some(2)), 127),
            (failed(StepName::Execute, Some(13)), 126),
            (failed(StepName::FilterCalls, Some(2)), 125),
        ] {
            assert_eq!(ending.exit_code(), code, "{ending:?}");
        }
    }
}
