//! Where claims were learned.

use stockade_types::ClaimSource;

use crate::Event;

impl Event {
    /// Returns where a claim was learned; `None` if the event is none.
    pub const fn learned_from(&self) -> Option<ClaimSource> {
        if let Self::ModelCalled { learned_from, .. }
        | Self::PromptSubmitted { learned_from, .. }
        | Self::ToolCalled { learned_from, .. }
        | Self::ToolReturned { learned_from, .. }
        | Self::PlanChanged { learned_from, .. }
        | Self::AgentStarted { learned_from, .. }
        | Self::AgentEnded { learned_from, .. }
        | Self::ClaimRepeated { learned_from, .. } = self
        {
            return Some(*learned_from);
        }
        None
    }
}
