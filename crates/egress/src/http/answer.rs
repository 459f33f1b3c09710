//! What clients are told of requests that were refused or could not be served, whatever protocol
//! carries it.

use std::time::Duration;

use stockade_types::DecisionRecord;

use crate::{upstream::Failed, wire::Unanswered};

/// The media type of decisions.
const JSON: &str = "application/json";

/// An answer of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The media type of the body.
    pub(crate) kind: &'static str,
    /// The body; of JSON, one line with its end.
    pub(crate) body: Vec<u8>,
    /// After how many seconds the request may be tried again, where it is known.
    pub(crate) retry_seconds: Option<u64>,
}

impl Answer {
    /// Says that a request was refused, with the decision.
    pub(crate) fn denied(record: &Result<DecisionRecord, Unanswered>) -> Self {
        Self::of(403, record)
    }

    /// Says something in the protocol of a service, to which 200 is the only status that it reads on.
    pub(crate) fn in_protocol(kind: &'static str, body: Vec<u8>) -> Self {
        Self {
            status: 200,
            kind,
            body,
            retry_seconds: None,
        }
    }

    /// Says that a message was refused because it has no single meaning.
    pub(crate) fn malformed(record: &Result<DecisionRecord, Unanswered>) -> Self {
        Self::of(400, record)
    }

    /// Says that the answer of the server was refused.
    pub(crate) fn bad_gateway(record: &Result<DecisionRecord, Unanswered>) -> Self {
        Self::of(502, record)
    }

    /// Says that an allowed request could not be recorded, and so was not sent.
    pub(crate) fn unrecorded(error: &Unanswered) -> Self {
        let text = format!("refused, because the decision could not be recorded: {error}");
        Self::error(503, &text)
    }

    /// Says that an allowed request could not be served by its server.
    pub(crate) fn unserved(text: &str) -> Self {
        Self::error(502, text)
    }

    /// Makes a refusal that of a request for another host than its connection's (RFC 9110
    /// section 15.5.20).
    pub(crate) fn misdirected(self) -> Self {
        match self.status {
            403 => Self {
                status: 421,
                ..self
            },
            _ => self,
        }
    }

    /// Makes a refusal that of a request which may be sent after `wait` (RFC 6585 section 4).
    pub(crate) fn too_many(self, wait: Duration) -> Self {
        match self.status {
            403 => Self {
                status: 429,
                // Seconds are whole, and a second too early would be refused again.
                retry_seconds: Some(wait.as_secs().saturating_add(1)),
                ..self
            },
            _ => self,
        }
    }

    fn of(status: u16, record: &Result<DecisionRecord, Unanswered>) -> Self {
        match record.as_ref().map(serde_json::to_string) {
            Ok(Ok(text)) => Self::with(status, text),
            Ok(Err(error)) => Self::error(status, &error.to_string()),
            Err(error) => Self::unrecorded(error),
        }
    }

    fn error(status: u16, text: &str) -> Self {
        Self::with(status, serde_json::json!({ "error": text }).to_string())
    }

    fn with(status: u16, mut body: String) -> Self {
        body.push('\n');
        Self {
            status,
            kind: JSON,
            body: body.into_bytes(),
            retry_seconds: None,
        }
    }
}

impl Failed {
    /// Returns what the client is told.
    pub(crate) fn into_answer(self) -> Answer {
        match self {
            Self::Refused(record) => Answer::denied(&record),
            Self::Unrecorded(error) => Answer::unrecorded(&error),
            Self::Unreachable(error) => Answer::unserved(&error.full()),
        }
    }
}
