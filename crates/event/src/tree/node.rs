//! One node of the tree.

use serde::{Deserialize, Serialize};
use stockade_types::{Certainty, Verdict};

use super::{DETAIL_CHARS_MAX, ROOT, TEXT_CHARS_MAX};
use crate::{
    envelope::Envelope,
    summary::Traffic,
    text::{bytes, cut, number},
};

/// What sort of node it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// The session itself.
    Session,
    /// What a person told the agent.
    Prompt,
    /// A tool call.
    Tool,
    /// A program that ran.
    Process,
    /// Commands of the agent itself of which nothing came, together.
    Own,
    /// A file that changed.
    Changed,
    /// A connection or request that was allowed.
    Connected,
    /// A call of a model.
    Called,
    /// A change of the plan of the agent.
    Plan,
    /// What was refused.
    Refused,
    /// What a person was asked, with the answer.
    Asked,
    /// What is only noted.
    Note,
    /// The end.
    Ended,
}

/// One node; what happened in the same way again is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// How many levels it is below the session.
    pub depth: usize,
    /// What sort it is.
    pub sort: Sort,
    /// The number of its first event.
    pub seq: u64,
    /// When that was, in nanoseconds since 1970.
    pub time_unix_ns: u64,
    /// What a person reads; foreign text in it is escaped.
    pub text: String,
    /// What explains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The file or the host with its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// What was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// How it is known that it belongs to the tool call above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certainty: Option<Certainty>,
    /// How often.
    pub count: u64,
    /// How many of them did not come about.
    pub failed: u64,
    /// What went over connections that have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// What is shown in the place of its texts to people who may not read what people and models said;
    /// `None` if it says nothing of that.
    #[serde(skip)]
    pub instead: Option<String>,
    #[serde(skip)]
    pub(super) parent: usize,
    #[serde(skip)]
    pub(super) wanted: bool,
}

impl Node {
    pub(super) fn new(sort: Sort, envelope: &Envelope, text: &str) -> Self {
        Self {
            depth: 0,
            sort,
            seq: envelope.seq,
            time_unix_ns: envelope.time_unix_ns,
            text: cut(text, TEXT_CHARS_MAX),
            detail: None,
            about: None,
            verdict: None,
            certainty: None,
            count: 1,
            failed: 0,
            traffic: None,
            instead: None,
            parent: ROOT,
            wanted: false,
        }
    }

    /// Returns how many bytes its texts have.
    pub(super) fn bytes(&self) -> usize {
        let more = self.detail.iter().chain(&self.about).map(String::len);
        self.text.len().saturating_add(more.sum())
    }

    /// Marks its texts as what people or models said.
    pub(super) fn said(self, instead: &str) -> Self {
        Self {
            instead: Some(cut(instead, TEXT_CHARS_MAX)),
            ..self
        }
    }

    pub(super) fn explained(self, detail: &str) -> Self {
        Self {
            detail: Some(cut(detail, DETAIL_CHARS_MAX)).filter(|detail| !detail.is_empty()),
            ..self
        }
    }

    pub(super) fn about(self, about: Option<String>) -> Self {
        let about = about.map(|about| cut(&about, TEXT_CHARS_MAX));
        Self { about, ..self }
    }

    pub(super) fn judged(self, verdict: Verdict) -> Self {
        Self {
            verdict: Some(verdict),
            ..self
        }
    }

    /// Says what of it a line has behind its text.
    pub fn facts(&self) -> String {
        let mut text = String::new();
        if self.count > 1 {
            text = format!(" {}×", number(self.count));
        }
        match (self.failed, self.count) {
            (0, _) => {}
            (failed, count) if failed >= count => text.push_str(" failed"),
            (failed, _) => text = format!("{text}, {} failed", number(failed)),
        }
        if let Some(traffic) = &self.traffic {
            let (sent, received) = (bytes(traffic.bytes_out), bytes(traffic.bytes_in));
            text = if self.sort == Sort::Tool {
                format!("{text} → {received} returned")
            } else {
                format!("{text}, {sent} out, {received} in")
            };
        }
        if self.certainty == Some(Certainty::Inferred) {
            text.push_str(" (inferred)");
        }
        text
    }
}
