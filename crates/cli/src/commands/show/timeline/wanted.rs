//! What of a timeline was asked for.

use stockade_event::Event;
use stockade_types::Verdict;

use super::{super::lines::Mark, Entry, Timeline};

impl Timeline {
    /// Removes what was not asked for: blocks and prompts of which nothing came that was.
    pub(in super::super) fn finish(&mut self) {
        let mut kept = Vec::with_capacity(self.entries.len());
        let mut has_come = false;
        for entry in self.entries.drain(..).rev() {
            let is_kept = match &entry {
                Entry::Run(run) => {
                    !run.unwanted || run.processes > 0 || !run.lines.is_empty() || run.more > 0
                }
                Entry::Line(line) => !line.unwanted || has_come,
            };
            if let Entry::Line(line) = &entry
                && line.mark == Mark::Prompt
            {
                has_come = false;
            } else {
                has_come |= is_kept;
            }
            if is_kept {
                kept.push(entry);
            }
        }
        kept.reverse();
        self.entries = kept;
    }
}

/// Tells whether an event has no line of its own in a timeline of the whole session.
pub(in super::super) const fn folds(event: &Event) -> bool {
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
