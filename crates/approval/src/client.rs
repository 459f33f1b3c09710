//! The other end of the control socket.

use std::{
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use stockade_policy::ListedGrant;
use stockade_types::ApprovalId;

use super::{
    exchange::Progress,
    inbox::{InboxError, open_private, short_path},
    protocol::{Command, FRAME_BYTES_MAX, FrameError, Frames, QuestionLine, Reply, line_of},
    question::{Answer, Case, Settled},
    view::QuestionView,
};

/// How long a supervisor may take for an answer: it writes to the disk before it replies.
const REPLY_PATIENCE: Duration = Duration::from_secs(10);

/// Why a session could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The session's directory cannot be trusted or opened.
    #[error("cannot use the session directory")]
    Directory(#[source] InboxError),
    /// No process listens: the session is over.
    #[error("no session answers at `{path}`")]
    Connect {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the session stopped answering")]
    Broken(#[source] io::Error),
    /// The session exists but does not answer: it is stopped or too busy.
    #[error("the session does not answer: nothing came within {} seconds", REPLY_PATIENCE.as_secs())]
    Silent,
    /// The session's answer does not fit the command.
    #[error("the session gave an answer that does not fit: {0}")]
    Unexpected(String),
    /// The session refused.
    #[error("{0}")]
    Refused(String),
}

impl ClientError {
    /// Returns whether the session is merely over: no process listens any more, or the other end is
    /// gone. Every other error may hide a question.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Connect { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ),
            Self::Broken(source) => matches!(
                source.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionReset
            ),
            _ => false,
        }
    }
}

/// A connection to one session.
#[derive(Debug)]
pub struct Client {
    out: UnixStream,
    frames: Frames<UnixStream>,
}

impl Client {
    /// Connects to the session with this directory.
    ///
    /// # Errors
    /// When the directory is not ours alone or no process listens.
    pub fn connect(directory: &Path) -> Result<Self, ClientError> {
        let folder = open_private(directory).map_err(ClientError::Directory)?;
        let stream =
            UnixStream::connect(short_path(&folder)).map_err(|source| ClientError::Connect {
                path: directory.to_owned(),
                source,
            })?;
        stream
            .set_write_timeout(Some(REPLY_PATIENCE))
            .map_err(ClientError::Broken)?;
        let out = stream.try_clone().map_err(ClientError::Broken)?;
        Ok(Self {
            out,
            frames: Frames::new(stream, FRAME_BYTES_MAX),
        })
    }

    /// Lists the open questions.
    ///
    /// # Errors
    /// When the session refuses or is over.
    pub fn list(&mut self) -> Result<Vec<QuestionLine>, ClientError> {
        match self.call(&Command::List {})? {
            Reply::Questions { questions } => Ok(questions),
            other => Err(unexpected(&other)),
        }
    }

    /// Returns one open question in full.
    ///
    /// # Errors
    /// When there is none of this id, or the session refuses or is over.
    pub fn show(&mut self, id: &ApprovalId) -> Result<QuestionView, ClientError> {
        match self.call(&Command::Show { id: id.clone() })? {
            Reply::Question { question } if question.id == *id => Ok(*question),
            other => Err(unexpected(&other)),
        }
    }

    /// Returns what leaves the machine with an open question that asks people in roles.
    ///
    /// # Errors
    /// When there is none of this id, it asks nobody but whoever is at the terminal, or the session refuses
    /// or is over.
    pub fn case(&mut self, id: &ApprovalId) -> Result<Case, ClientError> {
        match self.call(&Command::Case { id: id.clone() })? {
            Reply::Case { case } if case.id == *id => Ok(*case),
            other => Err(unexpected(&other)),
        }
    }

    /// Tells those who wait how far the people are whom a question asks.
    ///
    /// # Errors
    /// When the question is not open or has no such stage, or the session is over.
    pub fn progress(&mut self, id: &ApprovalId, progress: Progress) -> Result<(), ClientError> {
        self.done(&Command::Progress {
            id: id.clone(),
            progress,
        })
    }

    /// Goes on to watch the open questions; the connection is for nothing else from here on.
    ///
    /// # Errors
    /// When the session is over.
    pub fn watch(mut self) -> Result<Watching, ClientError> {
        let line = line_of(&Command::Watch {}).map_err(ClientError::Broken)?;
        self.out.write_all(&line).map_err(broken)?;
        Ok(Watching {
            frames: self.frames,
        })
    }

    /// Answers a question.
    ///
    /// # Errors
    /// When the answer is not accepted, or the session is over.
    pub fn answer(&mut self, id: &ApprovalId, answer: Answer) -> Result<(), ClientError> {
        self.done(&Command::Answer {
            id: id.clone(),
            answer,
        })
    }

    /// Lists the grants of the session.
    ///
    /// # Errors
    /// When the session refuses or is over.
    pub fn grants(&mut self) -> Result<Vec<ListedGrant>, ClientError> {
        match self.call(&Command::Grants {})? {
            Reply::Grants { grants } => Ok(grants),
            other => Err(unexpected(&other)),
        }
    }

    /// Lists the recently settled questions.
    ///
    /// # Errors
    /// When the session refuses or is over.
    pub fn settled(&mut self) -> Result<Vec<Settled>, ClientError> {
        match self.call(&Command::Settled {})? {
            Reply::Settled { settled } => Ok(settled),
            other => Err(unexpected(&other)),
        }
    }

    /// Revokes a grant.
    ///
    /// # Errors
    /// When no grant of this id is in force, or the session is over.
    pub fn revoke(&mut self, id: &ApprovalId) -> Result<(), ClientError> {
        self.done(&Command::Revoke { id: id.clone() })
    }

    /// Returns the supervisor of the session, as a descriptor of its process: whoever listens on the
    /// socket, as the kernel knows it.
    ///
    /// # Errors
    /// When the kernel does not say who it is, or it has ended.
    pub fn supervisor(&self) -> io::Result<OwnedFd> {
        let held = stockade_sys::pass::peer(&self.out).map_err(io::Error::other)?;
        if let Some(descriptor) = held {
            return Ok(descriptor);
        }
        // Before Linux 6.5 only the id is known. The connection is there, so the process was a moment
        // ago.
        let credentials = rustix::net::sockopt::socket_peercred(&self.out)?;
        stockade_sys::process::pidfd(credentials.pid).map_err(io::Error::other)
    }

    fn done(&mut self, command: &Command) -> Result<(), ClientError> {
        match self.call(command)? {
            Reply::Done {} => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn call(&mut self, command: &Command) -> Result<Reply, ClientError> {
        let line = line_of(command).map_err(ClientError::Broken)?;
        let sent = self.out.write_all(&line);
        // The supervisor may have sent a reason before it closed the connection, so read it even if
        // the write failed.
        let line = match (self.frames.next(REPLY_PATIENCE), sent) {
            (Ok(Some(line)), _) => line,
            (Ok(None), _) => return Err(ClientError::Broken(io::ErrorKind::UnexpectedEof.into())),
            (Err(FrameError::Late(_)), Ok(())) => return Err(ClientError::Silent),
            (Err(FrameError::Torn), Ok(())) => {
                return Err(ClientError::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
            (Err(FrameError::Read(error)), Ok(())) | (Err(_), Err(error)) => {
                return Err(broken(error));
            }
            (Err(error @ FrameError::TooLong(_)), Ok(())) => {
                return Err(ClientError::Unexpected(error.to_string()));
            }
        };
        match serde_json::from_slice(&line) {
            Ok(Reply::Refused { error }) => Err(ClientError::Refused(error)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(ClientError::Unexpected(error.to_string())),
        }
    }
}

/// The open questions of one session, as they change.
#[derive(Debug)]
pub struct Watching {
    frames: Frames<UnixStream>,
}

impl Watching {
    /// Returns the open questions after the next change, the first time at once; `None` if nothing
    /// changed within `patience`.
    ///
    /// # Errors
    /// When the session is over, or sends what is no list.
    pub fn next(&mut self, patience: Duration) -> Result<Option<Vec<QuestionLine>>, ClientError> {
        let line = match self.frames.next(patience) {
            Ok(Some(line)) => line,
            Ok(None) | Err(FrameError::Torn) => {
                return Err(ClientError::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
            Err(FrameError::Late(_)) => return Ok(None),
            Err(FrameError::Read(error)) => return Err(ClientError::Broken(error)),
            Err(error @ FrameError::TooLong(_)) => {
                return Err(ClientError::Unexpected(error.to_string()));
            }
        };
        match serde_json::from_slice(&line) {
            Ok(Reply::Questions { questions }) => Ok(Some(questions)),
            Ok(Reply::Refused { error }) => Err(ClientError::Refused(error)),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Err(ClientError::Unexpected(error.to_string())),
        }
    }
}

/// A write that takes too long fails as a read does, with an error that says "not now".
fn broken(error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Silent,
        _ => ClientError::Broken(error),
    }
}

fn unexpected(reply: &Reply) -> ClientError {
    let kind = match reply {
        Reply::Questions { .. } => "a list of questions",
        Reply::Question { .. } => "another question",
        Reply::Case { .. } => "another case",
        Reply::Grants { .. } => "a list of grants",
        Reply::Settled { .. } => "a list of answers",
        Reply::Done {} => "done",
        Reply::Refused { .. } => "a refusal",
    };
    ClientError::Unexpected(kind.to_owned())
}
