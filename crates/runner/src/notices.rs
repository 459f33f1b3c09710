//! What a session reads of its own record: its refusals, open questions, and hosts that it did not
//! reach. A reader of events like any other, which gets each once the journal has it.

use std::{fs::File, sync::Mutex};

use stockade_event::Event;
use stockade_types::{DecisionRecord, RuleId, Verdict};

use crate::{
    denials::Denials,
    news::Newspaper,
    recorder::{lock, now},
};

/// The files of one session.
pub(crate) struct Notices {
    denials: Mutex<Denials>,
    /// Rules whose refusals the session is not told.
    quiet: Vec<RuleId>,
    news: Mutex<Newspaper>,
}

impl Notices {
    /// Takes the new file of refusals, open for appending, with the bytes that it may have.
    pub(crate) fn new(
        (denials, bytes_max): (File, u64),
        news: Newspaper,
        quiet: Vec<RuleId>,
    ) -> Self {
        Self {
            denials: Mutex::new(Denials::new(denials, bytes_max)),
            quiet,
            news: Mutex::new(news),
        }
    }

    /// Takes events that are in the journal.
    pub(crate) fn take(&self, events: &[Event]) {
        let mut news = lock(&self.news);
        for event in events {
            news.note(event, now());
        }
        drop(news);
        let is_quiet = |decision: &&DecisionRecord| {
            let rule = decision.rule.as_ref();
            rule.is_some_and(|rule| self.quiet.contains(rule))
        };
        let told = events.iter().filter_map(denial);
        for decision in told.filter(|decision| !is_quiet(decision)) {
            self.refused(decision);
        }
    }

    /// Puts a refusal to the end of what the session reads.
    pub(crate) fn refused(&self, decision: &DecisionRecord) {
        // The journal has it already; a full disk here loses no record.
        drop(lock(&self.denials).add(decision));
    }
}

/// Returns the decision of an event that says no.
pub(crate) fn denial(event: &Event) -> Option<&DecisionRecord> {
    if matches!(event, Event::ApprovalRequested { .. }) {
        return None;
    }
    event
        .decision()
        .filter(|decision| decision.verdict == Verdict::Deny)
}
