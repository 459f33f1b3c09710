//! What the shim and the supervisor say to each other: one JSON a line.

use std::io::{self, BufRead, Read as _};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use stockade_egress::wire::DefinitionSeen;
use stockade_types::RawText;

use super::limits::FRAME_BYTES_MAX;

/// What the shim tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Tell {
    /// It passes on what an agent and this server say to each other. Comes first, and once.
    Begin {
        /// The agent's name of the server.
        server: RawText,
    },
    /// The agent calls a tool. Answered by [`Verdict`].
    Call {
        /// Number of the question.
        number: u64,
        /// The tool, by the server's name.
        tool: RawText,
        /// The model's id of the call, if the agent says it.
        use_id: Option<RawText>,
        /// The arguments in JSON, as far as there was room for them.
        arguments: RawText,
        /// All of them are there.
        is_whole: bool,
    },
    /// There is a call that could not be read. Answered by [`Verdict`].
    Unread {
        /// Number of the question.
        number: u64,
        /// Why.
        why: String,
    },
    /// Nobody waits for the verdict on a call any more.
    Withdraw {
        /// Number of its question.
        number: u64,
    },
    /// The server says what it has. Answered by [`Verdict`].
    Defined {
        /// Number of the question.
        number: u64,
        /// The tools.
        tools: Vec<DefinitionSeen>,
        /// Why there may be more.
        unread: Option<String>,
    },
    /// A tool has returned.
    Returned {
        /// Number of the question about the call.
        call: u64,
        /// Bytes of the result's texts.
        bytes: u64,
        /// The beginning of them, if they were kept.
        text: Option<RawText>,
        /// The server says that it failed.
        is_error: bool,
    },
    /// So many results were not told.
    Lost {
        /// How many.
        count: u64,
    },
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verdict {
    /// Its number; 0 if no question will be answered.
    pub(super) number: u64,
    /// Why not, for the model; nothing speaks against it without.
    pub(super) denied: Option<String>,
}

/// Writes a message with its end.
pub(super) fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(message).map_err(io::Error::other)?;
    text.push(b'\n');
    if text.len() > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// Reads a message; `None` at the end.
pub(super) fn next<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut text = Vec::new();
    let max = u64::try_from(FRAME_BYTES_MAX).unwrap_or(u64::MAX);
    from.take(max).read_until(b'\n', &mut text)?;
    if text.is_empty() {
        return Ok(None);
    }
    if text.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(io::Error::other)
}
