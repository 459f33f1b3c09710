//! What agents export about themselves (OTLP: logs and traces), as claims.
//!
//! One request of an exporter is read as a whole: either all of it is of the format, or nothing of it is
//! taken. What is held of it is bounded by its own length and by [`EXPORT_CLAIMS_MAX`].
//!
//! | module | what |
//! |---|---|
//! | `wire` | the binary form, field by field |
//! | `json` | the JSON form |
//! | `record` | a log record or a span, from either |
//! | `names` | one file for each family of names, all of the same shape |

mod json;
mod names;
mod record;
mod wire;

use stockade_types::RawText;

use crate::{
    claims::{Bounded, Call, Usage},
    content::Content,
    limits::EXPORT_CLAIMS_MAX,
};
use record::Record;

/// What an exporter sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Log records; most agents describe what they do in them.
    Logs,
    /// Spans.
    Traces,
    /// Metrics, which are counted and not read.
    Metrics,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Protocol buffers.
    Binary,
    /// JSON.
    Json,
}

/// Why an export is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an export of OTLP: {0}")]
pub struct Malformed(pub(crate) &'static str);

/// What a tool call came to, as its agent says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The id of the call; empty if the agent gives none.
    pub call: RawText,
    /// The length of what came of it, in bytes.
    pub bytes: u64,
    /// What came of it, if the agent says that.
    pub content: Option<Content>,
}

/// A prompt, as an agent says it was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Its texts.
    pub parts: Bounded<Content>,
    /// The model was offered no tools.
    pub aside: bool,
}

/// A call of a model, as the agent that made it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelCall {
    /// Whose model it is, in the agent's word.
    pub provider: Option<RawText>,
    /// The model that was asked for.
    pub model_asked: Option<RawText>,
    /// The model that answered.
    pub model: Option<RawText>,
    /// The id of the answer.
    pub response_id: Option<RawText>,
    /// The server.
    pub host: Option<RawText>,
    /// Its port.
    pub port: Option<u16>,
    /// Status of HTTP.
    pub status: Option<u16>,
    /// Tokens.
    pub usage: Usage,
    /// Why the answer ended.
    pub finish: Option<RawText>,
    /// The kind of an error that it ended with.
    pub error: Option<RawText>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
}

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It was told what to do.
    Prompt(Prompt),
    /// Its model asked for a tool call.
    Called(Call),
    /// A tool call came to an end.
    Returned(Outcome),
    /// It called a model.
    Model(Box<ModelCall>),
}

/// What one request of an exporter says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// What is claimed: of log records in their order, of spans by the time when they began.
    pub claims: Vec<Claim>,
    /// How many records, spans or metrics there were.
    pub records: u64,
    /// Claims that there was no room for.
    pub dropped: u64,
}

/// Reads one request of an exporter.
///
/// # Errors
/// When it is not of the format.
pub fn read(signal: Signal, encoding: Encoding, body: &[u8]) -> Result<Export, Malformed> {
    let mut taken = Taken::default();
    match encoding {
        Encoding::Binary => wire::read(signal, body, &mut taken)?,
        Encoding::Json => json::read(signal, body, &mut taken)?,
    }
    Ok(taken.finish(signal))
}

/// What was taken of an export so far.
#[derive(Default)]
struct Taken {
    claims: Vec<(u64, Claim)>,
    records: u64,
    dropped: u64,
}

impl Taken {
    /// Counts a record that is not read.
    const fn count(&mut self) {
        self.records = self.records.saturating_add(1);
    }

    /// Takes a record.
    fn take(&mut self, record: &Record<'_>) {
        self.count();
        let start = record.start;
        names::claims(record, &mut |claim| {
            if self.claims.len() < EXPORT_CLAIMS_MAX {
                self.claims.push((start, claim));
            } else {
                self.dropped = self.dropped.saturating_add(1);
            }
        });
    }

    fn finish(mut self, signal: Signal) -> Export {
        // A span is exported when it ends, so that what it led to comes before it.
        if signal == Signal::Traces {
            self.claims.sort_by_key(|(start, _)| *start);
        }
        Export {
            claims: self.claims.into_iter().map(|(_, claim)| claim).collect(),
            records: self.records,
            dropped: self.dropped,
        }
    }
}
