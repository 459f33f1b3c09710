//! One node of the tree.

use serde::Serialize;
use stockade_event::{Envelope, summary::Traffic};
use stockade_types::{Certainty, Verdict};

use super::{DETAIL_CHARS_MAX, ROOT, TEXT_CHARS_MAX};
use crate::human::{bytes, cut, number};

/// What sort of node it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum Sort {
    Session,
    Prompt,
    Tool,
    Process,
    /// Commands of the agent itself of which nothing came, together.
    Own,
    Changed,
    Connected,
    Called,
    Plan,
    Refused,
    Asked,
    Note,
    Ended,
}

/// One node; what happened in the same way again is counted.
#[derive(Clone, Debug, Serialize)]
pub(in super::super) struct Node {
    /// How many levels it is below the session.
    pub(in super::super) depth: usize,
    pub(in super::super) sort: Sort,
    /// The number of its first event.
    pub(in super::super) seq: u64,
    pub(in super::super) time_unix_ns: u64,
    pub(in super::super) text: String,
    /// What explains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) detail: Option<String>,
    /// The file or the host with its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) about: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) verdict: Option<Verdict>,
    /// How it is known that it belongs to the tool call above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) certainty: Option<Certainty>,
    pub(in super::super) count: u64,
    /// How many of them did not come about.
    pub(in super::super) failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) traffic: Option<Traffic>,
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
            parent: ROOT,
            wanted: false,
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
    pub(in super::super) fn facts(&self) -> String {
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
