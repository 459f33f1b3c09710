//! Why a session did not start or could not continue.

use std::{io, path::PathBuf};

use crate::enrolment::EnrolmentError;
use stockade_journal::{JournalError, KeyError, SinkError};
use stockade_plan::PlanError;
use stockade_sandbox::LaunchError;
use stockade_supervise::protected::ProtectedError;
use stockade_types::{AbsPath, RawText, RuleId};

/// The kind of an error's end, for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The session could not be started; nothing ran.
    NotStarted,
    /// The command exists but must not or cannot be executed.
    NotExecutable,
    /// There is no such command.
    NotFound,
}

/// Returns where a command was searched for, for its message.
fn searched(name: &RawText) -> &'static str {
    if name.as_bytes().contains(&b'/') {
        ""
    } else {
        " in PATH"
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The command was not found.
    #[error("command `{0}` was not found{place}", place = searched(.0))]
    CommandNotFound(RawText),
    /// What this machine knows of its organisation cannot be used.
    #[error("this machine belongs to an organisation, and what it knows of it cannot be used")]
    Enrolment(#[from] EnrolmentError),
    /// Another policy was published while the session started.
    #[error("the organisation has published another policy meanwhile")]
    BundleChanged,
    /// The login for the proxy cannot be read.
    #[error("the login for the proxy cannot be read from `{path}`")]
    ProxyLogin {
        /// The file that policy names.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A credential has no value that can be used.
    #[error("the credential `{id}` has no value: {from} {why}")]
    Credential {
        /// Its id.
        id: RuleId,
        /// Where its value should be.
        from: String,
        /// What is wrong there.
        why: String,
    },
    /// What placeholders are drawn from cannot be used.
    #[error("the file `placeholders` of the state directory cannot be used")]
    Placeholders(#[source] io::Error),
    /// A file of policy with certificates of authorities has none.
    #[error("`{path}` has no certificates that can be read, and `network.upstream_ca` names it")]
    Certificates {
        /// The file.
        path: PathBuf,
    },
    /// A port that policy publishes cannot be bound.
    #[error("port {port} of this machine's loopback cannot be published")]
    Publish {
        /// The port.
        port: u16,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A socket of the machine that policy offers cannot be used.
    #[error("the socket `{path}` {why}")]
    Socket {
        /// Its path in the policy.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The command exists but cannot be executed.
    #[error("command `{path}` cannot be executed")]
    CommandNotExecutable {
        /// Where it was found.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The command needs a file of the host that must not be shown to a session.
    #[error("`{}` is not shown to the session: it {problem}", path.display())]
    ProgramUnsafe {
        /// The file.
        path: PathBuf,
        /// Why it is not shown.
        problem: &'static str,
    },
    /// A program, link or first line that sessions can write names a file that does not exist
    /// inside.
    #[error(
        "`{}` needs `{}`, which does not exist inside; since sessions can write what names it, it is not added",
        program.display(),
        needs.display()
    )]
    NamedBySession {
        /// The command.
        program: PathBuf,
        /// What is missing inside.
        needs: PathBuf,
    },
    /// The names of places on this machine could not be determined.
    #[error("cannot find out which names a place has on this machine")]
    Names(#[source] io::Error),
    /// A file that must not be seen or changed inside has a second name there.
    #[error("`{place}` is also `{name}`, which the session would see")]
    Twin {
        /// The file.
        place: AbsPath,
        /// Its other name.
        name: AbsPath,
    },
    /// There are too many files to search for second names.
    #[error(
        "`{place}` has more than one name, and `{share}` has too many entries to look for them"
    )]
    TwinsUnknown {
        /// The file.
        place: AbsPath,
        /// What was searched.
        share: AbsPath,
    },
    /// A policy in the workspace has a name that no pattern can protect.
    #[error("the policy `{}` is in the workspace and cannot be protected there", path.display())]
    PolicyPlace {
        /// The policy, or a link on the path to it.
        path: PathBuf,
    },
    /// The workspace cannot be used.
    #[error("the workspace `{}` cannot be used", path.display())]
    Workspace {
        /// As given.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The protected paths of the workspace cannot be found.
    #[error(transparent)]
    Protected(#[from] ProtectedError),
    /// A path that must be absolute is not.
    #[error("`{0}` is not an absolute path without `..`")]
    Path(PathBuf),
    /// One of our directories could not be made.
    #[error("cannot make the session directory `{}`", path.display())]
    SessionDirectory {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A refreshed login could not be taken over.
    #[error("the login of `{file}` cannot be taken over: {reason}")]
    Login {
        /// The user's own file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A private state directory could not be made or seeded.
    #[error("cannot use the agent's state directory `{}`", path.display())]
    AgentState {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The caller's identity has no home directory.
    #[error(
        "user {0} has no home: no entry in /etc/passwd, and as that user HOME is not set; set HOME, \
         or add the user"
    )]
    NoHome(u32),
    /// The process already runs inside a session.
    #[error(
        "this is inside Stockade session `{0}` already; sessions do not nest, run the command directly"
    )]
    Nested(String),
    /// No plan.
    #[error("no launch plan")]
    Plan(#[from] PlanError),
    /// No signing key.
    #[error("no signing key")]
    Key(#[from] KeyError),
    /// The journal could not be made.
    #[error("the journal cannot be written, so nothing may run")]
    Journal(#[from] JournalError),
    /// An event could not be recorded.
    #[error("the journal cannot be written, so nothing may run")]
    Record(#[from] SinkError),
    /// The egress process did not start.
    #[error("the egress process did not start: {0}")]
    Egress(String),
    /// The sandbox did not start.
    #[error("the sandbox did not start")]
    Launch(#[from] LaunchError),
    /// A thread or descriptor of the supervisor is missing.
    #[error("the supervisor could not set itself up")]
    Supervisor(#[source] io::Error),
    /// The clock, the random source or another service of the kernel failed.
    #[error("the kernel refused a random number: {0}")]
    Random(String),
    /// What the automatic reviewer knows cannot be read.
    #[error("the automatic reviewer: {0}")]
    Reviewer(String),
}

impl RunError {
    /// Returns the kind of end.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::CommandNotFound(_) => ErrorKind::NotFound,
            Self::CommandNotExecutable { .. } => ErrorKind::NotExecutable,
            _ => ErrorKind::NotStarted,
        }
    }

    /// Returns the one step that helps, if it is known.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::CommandNotFound(_) => Some("check the spelling, or give the path".to_owned()),
            Self::CommandNotExecutable { source, .. } => Some(match source.kind() {
                io::ErrorKind::IsADirectory => "name a program in it".to_owned(),
                _ => "check its permissions".to_owned(),
            }),
            Self::ProgramUnsafe { .. } => Some(
                "install it where you alone write, or add it to `[filesystem] read` of your policy"
                    .to_owned(),
            ),
            Self::NamedBySession { needs, .. } => Some(format!(
                "name a program outside the workspace as the command, or add `read = [\"{}\"]` to \
                 `[filesystem]` of your policy",
                needs.parent().unwrap_or(needs).display()
            )),
            Self::Twin { .. } | Self::TwinsUnknown { .. } => {
                Some("remove the other name of the file (`find DIR -samefile FILE`)".to_owned())
            }
            Self::Publish { port, .. } => Some(format!(
                "publish it as another one: `--publish OTHER:{port}`, or `as = OTHER` in `[[publish]]`"
            )),
            Self::Socket { .. } => {
                Some("take it out of `[network.services]`, or name the service's own socket".to_owned())
            }
            Self::Enrolment(_) => Some(
                "its agent writes these files; enrol the machine again, or take the directory away if \
                 the machine has left the organisation"
                    .to_owned(),
            ),
            Self::BundleChanged => Some("start the session again".to_owned()),
            Self::ProxyLogin { .. } => Some(
                "write `user:password` into it, or take `network.proxy_auth_file` out of the policy"
                    .to_owned(),
            ),
            Self::Credential { .. } => Some(
                "put the value there, or take the `[[credential]]` out of the policy".to_owned(),
            ),
            Self::Placeholders(_) => Some(
                "see that it is yours, or move it away: the next session makes a new one".to_owned(),
            ),
            Self::Certificates { .. } => Some(
                "name a file in PEM without a private key, or take it out of `network.upstream_ca`"
                    .to_owned(),
            ),
            Self::PolicyPlace { .. } => {
                Some("move it out of the workspace, or rename it: without `*`, `{` or `\\`".to_owned())
            }
            Self::Workspace { .. } => {
                Some("give a directory that you may read with --workspace".to_owned())
            }
            Self::Protected(_) => {
                Some("use --workspace with a smaller directory".to_owned())
            }
            Self::SessionDirectory { .. }
            | Self::AgentState { .. }
            | Self::Journal(_)
            | Self::Record(_)
            | Self::Key(KeyError::Io { .. }) => Some(
                "make room or set STOCKADE_STATE_DIR to a directory that can be written".to_owned(),
            ),
            Self::Egress(_) => Some(
                "`stockade doctor` says what is missing; `--offline` runs without a network".to_owned(),
            ),
            Self::Launch(LaunchError::Step(failure)) => Some(failure.remedy.clone()),
            Self::Plan(PlanError::Required { .. }) => Some(
                "run without that --require, or set what gives it; `stockade doctor` says what holds here"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
