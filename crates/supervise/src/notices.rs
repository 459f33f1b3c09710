//! The part of its own record that a session reads: its refusals, open questions, and hosts that it
//! did not reach. It reads events like any other reader, each after the journal has it.

use std::fs::File;

use stockade_event::Event;
use stockade_types::{DecisionRecord, RuleId, UnixMillis, Verdict, ignored};

use crate::{denials::Denials, news::Newspaper};

/// The files of one session.
pub struct Notices {
    denials: Denials,
    /// Rules whose refusals the session does not learn of.
    quiet: Vec<RuleId>,
    news: Newspaper,
}

impl Notices {
    /// Takes the new file of refusals, open for appending, with the bytes that it may have.
    pub fn new((denials, bytes_max): (File, u64), news: Newspaper, quiet: Vec<RuleId>) -> Self {
        Self {
            denials: Denials::new(denials, bytes_max),
            quiet,
            news,
        }
    }

    /// Takes events that are in the journal, at `time`.
    pub(crate) fn take(&mut self, events: &[Event], time: UnixMillis) {
        for event in events {
            self.news.note(event, time);
            if let Some(decision) = denial(event)
                && !decision
                    .rule
                    .as_ref()
                    .is_some_and(|rule| self.quiet.contains(rule))
            {
                self.refused(decision);
            }
        }
    }

    /// Appends a refusal to the list that the session reads.
    pub(crate) fn refused(&mut self, decision: &DecisionRecord) {
        ignored(
            self.denials.add(decision),
            "the journal has it already, so a full disk here loses no record",
        );
    }
}

/// Returns the decision of an event that refuses.
pub(crate) fn denial(event: &Event) -> Option<&DecisionRecord> {
    if matches!(event, Event::ApprovalRequested { .. }) {
        return None;
    }
    event
        .decision()
        .filter(|decision| decision.verdict == Verdict::Deny)
}
