//! What of a record was asked for.

use stockade_types::Verdict;

use crate::event::Event;

/// What is wanted of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing was asked for, so all of it, as a person reads it.
    Whole,
    /// It was asked for.
    Yes,
    /// Its kind was asked for by name, so that it has a line of its own.
    ByKind,
    /// It only says where others belong.
    No,
}

impl Wanted {
    /// Tells whether it was asked for.
    pub fn is_wanted(self) -> bool {
        self != Self::No
    }
}

/// Tells whether an event has no line of its own in a timeline of the whole session.
pub const fn folds(event: &Event) -> bool {
    match event {
        Event::ProcessStarted { .. }
        | Event::ConnectionClosed { .. }
        | Event::PortPublished { .. }
        | Event::ToolsPinned { .. }
        | Event::ApprovalDecided { .. }
        | Event::ApprovalUsed { .. }
        | Event::CredentialUsed { .. }
        | Event::LoginRenewed { .. }
        | Event::ToolReturned { .. }
        | Event::ScopeBound { .. }
        | Event::ProcessEnded { .. }
        | Event::AgentStarted { .. }
        | Event::AgentEnded { .. }
        | Event::ClaimRepeated { .. }
        | Event::ScopeEnded { .. }
        | Event::PolicyDiffered { .. }
        | Event::PolicyCompared { .. }
        | Event::ResourcesSampled { .. }
        | Event::RefusalRepeated { .. } => true,
        Event::GuaranteeStated { holds, .. } => *holds,
        Event::PromptSubmitted { aside, .. } => *aside,
        Event::ExecDecided { decision }
        | Event::FileDenied { decision }
        | Event::CallRefused { decision }
        | Event::CredentialRefused { decision }
        | Event::NameDecided { decision }
        | Event::ToolDecided { decision, .. }
        | Event::HttpDecided { decision } => !matches!(decision.verdict, Verdict::Deny),
        Event::ConnectionDecided { decision, .. } => matches!(decision.verdict, Verdict::Ask),
        Event::SessionStarted { .. }
        | Event::SessionEnded { .. }
        | Event::PolicyLoaded { .. }
        | Event::PolicyTightened { .. }
        | Event::ApprovalReviewed { .. }
        | Event::ExecUnconfirmed { .. }
        | Event::FileChanged { .. }
        | Event::SecretSent { .. }
        | Event::LimitReached { .. }
        | Event::ApprovalRequested { .. }
        | Event::ModelCalled { .. }
        | Event::ToolCalled { .. }
        | Event::PlanChanged { .. }
        | Event::EventsLost { .. }
        | Event::TerminalRecorded { .. }
        | Event::OperatorActed { .. }
        | Event::FindingRaised { .. } => false,
    }
}
