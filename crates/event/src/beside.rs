//! Fields that a journal keeps beside the event.

use stockade_types::{DecisionRecord, Subject};

/// A type of field that a journal can keep beside the event.
pub(crate) trait Beside {
    fn decision(&self) -> Option<&DecisionRecord>;
    fn subject(&self) -> Option<&Subject>;
}

impl Beside for Subject {
    fn decision(&self) -> Option<&DecisionRecord> {
        None
    }

    fn subject(&self) -> Option<&Subject> {
        Some(self)
    }
}

impl Beside for DecisionRecord {
    fn decision(&self) -> Option<&DecisionRecord> {
        Some(self)
    }

    fn subject(&self) -> Option<&Subject> {
        Some(&self.subject)
    }
}

impl Beside for Option<DecisionRecord> {
    fn decision(&self) -> Option<&DecisionRecord> {
        self.as_ref()
    }

    fn subject(&self) -> Option<&Subject> {
        self.as_ref().map(|decision| &decision.subject)
    }
}
