//! The messages on the control socket: one JSON object a line, each way, bounded.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use stockade_policy::ListedGrant;
use stockade_types::{ApprovalId, UnixMillis};

use super::{
    exchange::Progress,
    granting::GRANT_BYTES_MAX,
    question::{Answer, Case, Settled},
    view::QuestionView,
};

/// Name of the socket in a session's directory.
pub const SOCKET_NAME: &str = "control.sock";
/// Longest line from the supervisor: one question with the longest argument vector that Linux
/// passes without special settings (2 MiB, execve(2)), escaped.
pub(super) const FRAME_BYTES_MAX: usize = 16 << 20;
/// Longest line to the supervisor: what people in roles have signed, and an id. Everything else is a few
/// hundred bytes.
pub(super) const COMMAND_BYTES_MAX: usize = GRANT_BYTES_MAX + (4 << 10);
/// Read size: a command fits, and a client thread needs no more.
const CHUNK_BYTES: usize = 4 << 10;

/// A client's command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Command {
    /// The open questions, in one line each.
    List {},
    /// One open question in full.
    Show { id: ApprovalId },
    /// What leaves the machine with one that asks people in roles.
    Case { id: ApprovalId },
    /// An answer to one.
    Answer { id: ApprovalId, answer: Answer },
    /// How far the people are whom one asks.
    Progress { id: ApprovalId, progress: Progress },
    /// The open questions, again after each change.
    Watch {},
    /// The grants of the session.
    Grants {},
    /// The questions that were settled lately.
    Settled {},
    /// Revokes one grant.
    Revoke { id: ApprovalId },
}

/// The supervisor's reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "lowercase")]
pub enum Reply {
    /// The open questions, oldest first.
    Questions {
        /// One line each.
        questions: Vec<QuestionLine>,
    },
    /// One question in full.
    Question {
        /// The question.
        question: Box<QuestionView>,
    },
    /// What leaves the machine with one question.
    Case {
        /// The question.
        case: Box<Case>,
    },
    /// The grants.
    Grants {
        /// All of the session.
        grants: Vec<ListedGrant>,
    },
    /// The questions that were settled lately.
    Settled {
        /// With their answers, oldest first.
        settled: Vec<Settled>,
    },
    /// It was done.
    Done {},
    /// It was not done.
    Refused {
        /// Why, and what to do.
        error: String,
    },
}

/// A question in one line of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionLine {
    /// Names the approval.
    pub id: ApprovalId,
    /// The agent.
    pub agent: String,
    /// When it was asked.
    pub asked: UnixMillis,
    /// When it becomes a deny by itself.
    pub expires: UnixMillis,
    /// When the program that asked usually gives up, if that is known and comes sooner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gives_up: Option<UnixMillis>,
    /// How many requests wait for this answer.
    pub waiting: u32,
    /// Which people in roles it waits for, if whoever is at the terminal can only deny it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Its first row. If it ends in `…` it was cut, and the whole must be shown before it is
    /// allowed.
    pub summary: String,
}

/// Longest summary, in characters: wider than any list shows.
const SUMMARY_CHARS_MAX: usize = 200;

impl QuestionLine {
    pub(super) fn of(view: &QuestionView) -> Self {
        let whole = view.shown.summary();
        let mut summary: String = whole.chars().take(SUMMARY_CHARS_MAX).collect();
        if summary.len() < whole.len() {
            summary.push('…');
        }
        Self {
            id: view.id.clone(),
            agent: view.agent.clone(),
            asked: view.asked,
            expires: view.expires,
            gives_up: view.gives_up,
            waiting: view.waiting,
            waits_for: view.waits_for.clone(),
            summary,
        }
    }
}

/// Why a line could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The other side sends more than the limit of one line.
    #[error("a line is longer than {0} bytes")]
    TooLong(usize),
    /// It did not send a whole line in time.
    #[error("no whole line came within {} seconds", .0.as_secs())]
    Late(Duration),
    /// It ended in the middle of a line.
    #[error("the connection ended in the middle of a line")]
    Torn,
    /// The system call failed.
    #[error("cannot read from the control socket")]
    Read(#[source] io::Error),
}

/// A reader whose every read ends after a time, so that a deadline can be kept.
pub(super) trait TimedRead: Read {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()>;
}

impl TimedRead for std::os::unix::net::UnixStream {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        // Zero would mean "no timeout".
        self.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))
    }
}

/// Cuts a stream into lines of bounded length.
#[derive(Debug)]
pub(super) struct Frames<R> {
    stream: R,
    buffer: Vec<u8>,
    bytes_max: usize,
}

impl<R: TimedRead> Frames<R> {
    pub(super) const fn new(stream: R, bytes_max: usize) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            bytes_max,
        }
    }

    /// Returns the next line without its end, or `None` if the stream ends between two lines.
    ///
    /// The whole line must arrive within `patience`, however slowly its bytes come.
    pub(super) fn next(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, FrameError> {
        let begun = Instant::now();
        let mut searched = 0;
        loop {
            let unseen = self.buffer.get(searched..).unwrap_or_default();
            if let Some(offset) = unseen.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(searched + offset + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            if searched > self.bytes_max {
                return Err(FrameError::TooLong(self.bytes_max));
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(FrameError::Late(patience));
            }
            self.stream.set_timeout(left).map_err(FrameError::Read)?;
            let mut chunk = [0; CHUNK_BYTES];
            match self.stream.read(&mut chunk) {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(FrameError::Torn),
                Ok(count) => self
                    .buffer
                    .extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return Err(FrameError::Late(patience));
                }
                Err(error) => return Err(FrameError::Read(error)),
            }
        }
    }
}

/// Renders a value as one line.
pub(super) fn line_of<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use stockade_fuzz::{TRIES, Target};

    use super::*;

    struct Bytes<'b>(&'b [u8]);

    impl Read for Bytes<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl TimedRead for Bytes<'_> {
        fn set_timeout(&self, _timeout: Duration) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn fuzz_control_socket() {
        let id = ApprovalId::from_random(7);
        let answer = Answer::Deny {
            reason: Some("no \u{1b}[2J".to_owned()),
        };
        let commands = [
            Command::List {},
            Command::Show { id: id.clone() },
            Command::Answer {
                id: id.clone(),
                answer,
            },
            Command::Revoke { id },
        ];
        let lines = commands.iter().map(|command| line_of(command).unwrap());
        let mut samples: Vec<Vec<u8>> = lines.collect();
        samples.push(samples.concat());
        let target = Target {
            name: "control-socket",
            samples,
            words: &[
                b"\n",
                b"\"op\":\"answer\"",
                b"\"verdict\":\"allow\"",
                b"\"scope\":\"session\"",
                b"null",
                b"\\u0000",
                b"1e999",
                b"[[[[[[",
                b"\"reason\":null,",
            ],
            tries: TRIES,
        };
        stockade_fuzz::target(&target, |bytes| {
            let mut frames = Frames::new(Bytes(bytes), COMMAND_BYTES_MAX);
            let mut left = bytes;
            while let Ok(Some(line)) = frames.next(Duration::from_mins(1)) {
                // No byte of the stream is lost or added.
                assert!(left.starts_with(&line) && left.get(line.len()) == Some(&b'\n'));
                left = left.get(line.len() + 1..).unwrap_or_default();
                if let Ok(command) = serde_json::from_slice::<Command>(&line) {
                    let again = serde_json::to_vec(&command).unwrap();
                    assert_eq!(serde_json::from_slice::<Command>(&again).unwrap(), command);
                }
            }
        });
    }
}
