//! What single events say, as lines of the timeline.

use serde::Serialize;
use stockade_event::{
    Event,
    summary::Traffic,
    tree::words::{self, denied},
};
use stockade_types::DecisionRecord;

use crate::human::{cut, safe};

/// How many programs of the chain behind a refusal are named, and how much of each.
const CHAIN_MAX: usize = 3;
const CHAIN_CHARS_MAX: usize = 24;

/// What sort of line it is, which gives its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    Started,
    Prompt,
    Changed,
    Connected,
    Called,
    Plan,
    Refused,
    Asked,
    Note,
    Ended,
}

/// One line; what happened in the same way again is counted.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) time_unix_ns: u64,
    pub(super) mark: Mark,
    pub(super) text: String,
    /// What explains it, on a line of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    /// What went over connections that have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) traffic: Option<Traffic>,
    pub(super) count: u64,
    /// How many of them did not come about; the detail says why the last one did not.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) failed: u64,
    /// It was not asked for, only perhaps what came of it.
    #[serde(skip)]
    pub(super) unwanted: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Line {
    pub(super) fn new(time_unix_ns: u64, mark: Mark, text: String) -> Self {
        Self {
            time_unix_ns,
            mark,
            text,
            detail: None,
            traffic: None,
            count: 1,
            failed: 0,
            unwanted: false,
        }
    }
}

/// Renders what is only noted, neither judged nor done by a command.
pub(super) fn noted(time: u64, event: &Event) -> Line {
    let (text, detail) = words::noted(event);
    Line {
        detail,
        ..Line::new(time, Mark::Note, text)
    }
}

pub(super) fn refused(time: u64, decision: &DecisionRecord) -> Line {
    let subject = &decision.subject;
    let mut chain: Vec<String> = vec![String::new()];
    for text in std::iter::once(&subject.exe)
        .chain(&subject.ancestry)
        .take(CHAIN_MAX)
    {
        let text = text.display();
        // The name of the program; what follows are its arguments.
        let program = text.split(' ').next().unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or_default();
        if !name.is_empty() && chain.last().is_none_or(|last| last != name) {
            chain.push(cut(name, CHAIN_CHARS_MAX));
        }
    }
    // The empty first one gives each name its arrow.
    let by = chain.join(" ← ");
    let text = format!("{}{by}", denied(decision));
    Line {
        detail: Some(safe(&decision.reason)).filter(|reason| !reason.is_empty()),
        ..Line::new(time, Mark::Refused, text)
    }
}
