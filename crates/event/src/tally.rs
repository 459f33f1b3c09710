//! The totals of a session: one fold over its events, for the end of the journal and for summaries.

use std::collections::HashSet;

use stockade_types::Verdict;

use crate::{event::Event, totals::Counts};

/// First-level commands that are distinguished, about 50 bytes each; any more are not counted.
const COMMANDS_MAX: usize = 100_000;

/// Counts events as they are written.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    counts: Counts,
    commands: HashSet<Box<str>>,
}

impl Tally {
    /// Adds the next event, which belongs to the first-level command `scope`.
    pub fn add(&mut self, scope: Option<&str>, event: &Event) {
        if let Some(scope) = scope
            && !self.commands.contains(scope)
            && self.commands.len() < COMMANDS_MAX
        {
            self.commands.insert(scope.into());
            self.counts.commands += 1;
        }
        self.counts.add(event);
    }

    /// Returns the totals so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }
}

impl Counts {
    /// Counts an event: events are counted only here. Commands are not counted by events; the
    /// caller that distinguishes them adds them.
    pub(crate) fn add(&mut self, event: &Event) {
        event.add_to(self);
        // An answer decides its question, and has an event of its own.
        if !matches!(event, Event::ApprovalRequested { .. })
            && let Some(decision) = event.decision()
        {
            self.decisions += 1;
            self.denials += u64::from(decision.verdict == Verdict::Deny);
        }
    }
}
