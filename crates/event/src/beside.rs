//! Fields that a journal keeps beside the event.

use stockade_types::{DecisionRecord, Subject};

/// A type of field that a journal can keep beside the event.
pub(crate) trait Beside {
    /// JSON of a value that stands in until the field is filled.
    const PLACEHOLDER: &'static str;

    fn decision(&self) -> Option<&DecisionRecord>;
    fn subject(&self) -> Option<&Subject>;
    /// Takes what the record has beside the event; `false` if that is missing.
    fn fill(&mut self, process: Option<&Subject>, decision: &mut Option<DecisionRecord>) -> bool;
}

impl Beside for Subject {
    const PLACEHOLDER: &'static str = "{}";

    fn decision(&self) -> Option<&DecisionRecord> {
        None
    }

    fn subject(&self) -> Option<&Subject> {
        Some(self)
    }

    fn fill(&mut self, process: Option<&Subject>, _: &mut Option<DecisionRecord>) -> bool {
        *self = process.cloned().unwrap_or_default();
        true
    }
}

impl Beside for DecisionRecord {
    const PLACEHOLDER: &'static str = r#"{"decision":"d-0","verdict":"deny","kind":"exec","subject":{},"target":{},"rule":null,"reason":"","failed_condition":null,"nearest_allow":null,"remedy":"","policy_revision":"0000000000000000000000000000000000000000000000000000000000000000","session":"0000000000000000","time":0}"#;

    fn decision(&self) -> Option<&DecisionRecord> {
        Some(self)
    }

    fn subject(&self) -> Option<&Subject> {
        Some(&self.subject)
    }

    fn fill(&mut self, _: Option<&Subject>, decision: &mut Option<DecisionRecord>) -> bool {
        match decision.take() {
            Some(decision) => {
                *self = decision;
                true
            }
            None => false,
        }
    }
}

impl Beside for Option<DecisionRecord> {
    const PLACEHOLDER: &'static str = "null";

    fn decision(&self) -> Option<&DecisionRecord> {
        self.as_ref()
    }

    fn subject(&self) -> Option<&Subject> {
        self.as_ref().map(|decision| &decision.subject)
    }

    fn fill(&mut self, _: Option<&Subject>, decision: &mut Option<DecisionRecord>) -> bool {
        *self = decision.take();
        true
    }
}
