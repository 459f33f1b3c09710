//! What events came of that have no process: they name a decision or an approval.

#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, HashMap, VecDeque};

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
    approvals: HashMap<ApprovalId, Origin>,
    /// Approvals in the order in which they were asked for: their ids say nothing of that.
    asked: VecDeque<ApprovalId>,
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
            if self.asked.len() >= KEPT_MAX
                && let Some(oldest) = self.asked.pop_front()
            {
                self.approvals.remove(&oldest);
            }
            let before = self.approvals.insert(approval.clone(), origin.clone());
            if before.is_none() {
                self.asked.push_back(approval.clone());
            }
        }
    }

    /// Says what an event without a process came of.
    pub(super) fn of(&self, event: &Event) -> Origin {
        let found = match event {
            Event::ApprovalDecided { approval, .. } | Event::ApprovalReviewed { approval, .. } => {
                self.approvals.get(approval)
            }
            Event::ApprovalUsed { decision, .. }
            | Event::ConnectionClosed { decision, .. }
            | Event::CredentialUsed { decision, .. }
            | Event::LoginRenewed { decision, .. }
            | Event::RefusalRepeated { decision, .. }
            | Event::PolicyDiffered { decision, .. }
            | Event::SecretSent { decision, .. } => self.decisions.get(decision),
            // Those below say themselves which process they are about, or are the session's.
            Event::SessionStarted { .. }
            | Event::SessionEnded { .. }
            | Event::GuaranteeStated { .. }
            | Event::PolicyLoaded { .. }
            | Event::PolicyCompared { .. }
            | Event::PolicyTightened { .. }
            | Event::ProcessStarted { .. }
            | Event::ProcessEnded { .. }
            | Event::ScopeEnded { .. }
            | Event::ResourcesSampled { .. }
            | Event::ExecDecided { .. }
            | Event::ToolDecided { .. }
            | Event::ExecUnconfirmed { .. }
            | Event::FileDenied { .. }
            | Event::FileChanged { .. }
            | Event::CallRefused { .. }
            | Event::NameDecided { .. }
            | Event::ConnectionDecided { .. }
            | Event::HttpDecided { .. }
            | Event::PortPublished { .. }
            | Event::LimitReached { .. }
            | Event::ApprovalRequested { .. }
            | Event::CredentialRefused { .. }
            | Event::ModelCalled { .. }
            | Event::PromptSubmitted { .. }
            | Event::ToolCalled { .. }
            | Event::ToolReturned { .. }
            | Event::PlanChanged { .. }
            | Event::ToolsPinned { .. }
            | Event::AgentStarted { .. }
            | Event::AgentEnded { .. }
            | Event::ClaimRepeated { .. }
            | Event::ScopeBound { .. }
            | Event::EventsLost { .. }
            | Event::TerminalRecorded { .. }
            | Event::OperatorActed { .. }
            | Event::FindingRaised { .. } => None,
        };
        found.cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use stockade_event::{Cause, Event};
    use stockade_types::{
        ApprovalId, Certainty, DecisionId, DecisionRecord, Digest, Person, RequestKind, SessionId,
        Subject, Target, UnixMillis, Verdict,
    };

    use super::{KEPT_MAX, Kept};

    fn asked(approval: &ApprovalId, number: u64) -> Event {
        Event::ApprovalRequested {
            approval: approval.clone(),
            decision: DecisionRecord {
                decision: DecisionId::new(number),
                verdict: Verdict::Ask,
                kind: RequestKind::Net,
                subject: Subject::default(),
                target: Target::default(),
                rule: None,
                answered: None,
                reason: String::new(),
                failed_condition: None,
                nearest_allow: None,
                remedy: String::new(),
                policy_revision: Digest::of(b"p"),
                session: SessionId::from_random(1),
                time: UnixMillis(0),
            },
            shown: String::new(),
            request_digest: Digest::of(b"r"),
            expires: UnixMillis(0),
        }
    }

    fn answered(approval: &ApprovalId) -> Event {
        Event::ApprovalDecided {
            approval: approval.clone(),
            verdict: Verdict::Allow,
            scope: None,
            by: Person::Terminal.into(),
            reason: None,
            statement: None,
        }
    }

    /// The oldest question is forgotten, not the one whose random id is the lowest.
    #[test]
    fn questions_are_forgotten_by_age() {
        let mut kept = Kept::default();
        let cause = Cause {
            turn: Some(1),
            call: None,
            certainty: Certainty::Inferred,
        };
        let origin = (Some("c-1".into()), Some(cause));
        let count = u32::try_from(KEPT_MAX).unwrap();
        // Ids fall, so that the newest one is the lowest.
        let id = |number: u32| ApprovalId::from_random(1_000_000 - number);
        for number in 0..=count {
            kept.note(&asked(&id(number), u64::from(number)), &origin);
        }
        assert_eq!(kept.of(&answered(&id(0))).1, None);
        for number in [1, count / 2, count] {
            assert_eq!(kept.of(&answered(&id(number))), origin, "{number}");
        }
        assert_eq!(kept.approvals.len(), KEPT_MAX);
        assert_eq!(kept.asked.len(), KEPT_MAX);
    }
}
