//! What the caller of a session wants.

use serde::{Deserialize, Serialize};
use stockade_types::{AbsPath, GuaranteeName, RawText, SessionId, Tier};

/// What one of the command's standard streams is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// The session's terminal.
    Terminal,
    /// A pipe of its own.
    Pipe,
    /// Of standard error: the same pipe as standard output, so that what is written to both keeps
    /// its order.
    Output,
}

/// What the command's standard streams are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Standard input.
    pub stdin: Stream,
    /// Standard output.
    pub stdout: Stream,
    /// Standard error.
    pub stderr: Stream,
}

impl Streams {
    /// Three pipes.
    pub const PIPES: Self = Self {
        stdin: Stream::Pipe,
        stdout: Stream::Pipe,
        stderr: Stream::Pipe,
    };
    /// All of them the session's terminal.
    pub const TERMINAL: Self = Self {
        stdin: Stream::Terminal,
        stdout: Stream::Terminal,
        stderr: Stream::Terminal,
    };
}

/// What a session gets of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Nothing but its own loopback: no names either.
    Isolated,
    /// What the egress process lets through.
    Proxied,
}

/// What the caller wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSpec {
    /// The session.
    pub session: SessionId,
    /// How strong the isolation is.
    pub tier: Tier,
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
    /// What of the network it gets.
    pub network: Network,
    /// Rows and columns of the session's terminal, if it gets one.
    pub terminal: Option<(u16, u16)>,
    /// What the command's standard streams are; without a terminal none is one.
    pub streams: Streams,
    /// Guarantees that must hold.
    pub require: Vec<GuaranteeName>,
    /// Guarantees that the caller does without, each with a reason.
    pub waive: Vec<(GuaranteeName, String)>,
}
