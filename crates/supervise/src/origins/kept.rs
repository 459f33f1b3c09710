//! What events came of that have no process: they name a decision or an approval.

use std::collections::BTreeMap;

use stockade_event::Event;
use stockade_types::{ApprovalId, DecisionId};

use super::Origin;

/// Decisions whose origin is known, the newest ones, and as many approvals. A connection can be open for
/// so many decisions before its end has no origin.
const KEPT_MAX: usize = 8 * 1024;

/// Origins by decision and by approval.
#[derive(Default)]
pub(super) struct Kept {
    decisions: BTreeMap<DecisionId, Origin>,
    approvals: BTreeMap<ApprovalId, Origin>,
}

impl Kept {
    /// Remembers what an event with a process came of.
    pub(super) fn note(&mut self, event: &Event, origin: &Origin) {
        let Some(decision) = event.decision().filter(|_| origin.1.is_some()) else {
            return;
        };
        if self.decisions.len() >= KEPT_MAX {
            self.decisions.pop_first();
        }
        self.decisions.insert(decision.decision, origin.clone());
        if let Event::ApprovalRequested { approval, .. } = event {
            if self.approvals.len() >= KEPT_MAX {
                self.approvals.pop_first();
            }
            self.approvals.insert(approval.clone(), origin.clone());
        }
    }

    /// Says what an event without a process came of.
    pub(super) fn of(&self, event: &Event) -> Origin {
        let found = match event {
            Event::ApprovalDecided { approval, .. } => self.approvals.get(approval),
            Event::ApprovalUsed { decision, .. }
            | Event::ConnectionClosed { decision, .. }
            | Event::CredentialUsed { decision, .. }
            | Event::LoginRenewed { decision, .. }
            | Event::RefusalRepeated { decision, .. }
            | Event::SecretSent { decision, .. } => self.decisions.get(decision),
            _ => None,
        };
        found.cloned().unwrap_or_default()
    }
}
