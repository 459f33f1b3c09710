//! What clients are told of requests that were refused or could not be served, whatever protocol
//! carries it.

use std::time::Duration;

use serde::Serialize;
use stockade_types::DecisionRecord;

use crate::{limits::SENTENCE_BYTES_MAX, upstream::Failed, wire::Unanswered};

/// The media type of decisions.
const JSON: &str = "application/json";
/// The media type of what git shows its user, each line behind `remote:`.
const TEXT: &str = "text/plain; charset=utf-8";
/// How git names itself.
const GIT: &[u8] = b"git/";

/// A decision with the sentence about it in the member that clients show (npm does).
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    decision: &'a DecisionRecord,
    error: &'a str,
}

/// An answer of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The media type of the body.
    pub(crate) kind: &'static str,
    /// The body; of JSON, one line with its end.
    pub(crate) body: Vec<u8>,
    /// Other fields of its head.
    pub(crate) fields: Vec<(&'static str, String)>,
    /// What is to be said in one line, in printable ASCII; empty where the status says it.
    pub(crate) sentence: String,
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
            fields: Vec::new(),
            sentence: String::new(),
        }
    }

    /// Answers in JSON-RPC over HTTP; without a body, that a message was taken to which there is no answer.
    pub(crate) fn in_rpc(body: Option<Vec<u8>>) -> Self {
        let status = if body.is_some() { 200 } else { 202 };
        Self {
            status,
            ..Self::in_protocol(JSON, body.unwrap_or_default())
        }
    }

    /// Says something in JSON of a service's own form.
    pub(crate) fn in_json(status: u16, body: &impl Serialize, sentence: &str) -> Option<Self> {
        let text = serde_json::to_string(body).ok()?;
        Some(Self {
            sentence: sentence.to_owned(),
            ..Self::with(status, text)
        })
    }

    /// Puts the sentence where a client shows it, by how it names itself.
    pub(crate) fn for_agent(self, agent: &[u8]) -> Self {
        if self.sentence.is_empty() || !agent.starts_with(GIT) {
            return self;
        }
        Self {
            kind: TEXT,
            body: format!("{}\n", self.sentence).into_bytes(),
            ..self
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
                fields: vec![("Retry-After", wait.as_secs().saturating_add(1).to_string())],
                ..self
            },
            _ => self,
        }
    }

    fn of(status: u16, record: &Result<DecisionRecord, Unanswered>) -> Self {
        let record = match record {
            Ok(record) => record,
            Err(error) => return Self::unrecorded(error),
        };
        let sentence = sentence(record);
        let told = Told {
            decision: record,
            error: &sentence,
        };
        match serde_json::to_string(&told) {
            Ok(text) => Self {
                sentence,
                ..Self::with(status, text)
            },
            Err(error) => Self::error(status, &error.to_string()),
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
            fields: Vec::new(),
            sentence: String::new(),
        }
    }
}

/// Says in one line what was refused, by what and why, in printable ASCII: for people who see no more
/// than that, whatever protocol tells them.
pub(crate) fn sentence(record: &DecisionRecord) -> String {
    let rule = record.rule.as_ref();
    let rule = rule.map_or_else(String::new, |rule| format!(" by the rule `{rule}`"));
    let remedy = match record.remedy.as_str() {
        "" => String::new(),
        remedy => format!("; {remedy}"),
    };
    let target = record.target.summary();
    let text = format!(
        "denied by stockade{rule}: {target}: {}{remedy}",
        record.reason
    );
    let printable = |letter: char| match letter {
        ' '..='~' => letter,
        _ => '?',
    };
    // By its number the whole is found where the sentence is cut.
    let number = format!(" ({})", record.decision);
    let room = SENTENCE_BYTES_MAX.saturating_sub(number.len());
    let text: String = text.chars().map(printable).take(room).collect();
    text + &number
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
