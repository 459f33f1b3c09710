//! How a question gets its answer: the answer is recorded first, then takes effect, and never
//! twice.

use std::sync::Arc;

use stockade_policy::Scope;
use stockade_trust::Envelope;
use stockade_types::{Answerer, ApprovalId, Circumstance, UnixMillis, Verdict, ignored};

use super::{
    desk::Desk,
    exchange::{AnswerError, DeskEvent},
    question::{Answer, Question, Settled},
    state::Phase,
};

/// What people in roles have signed, checked.
pub(super) struct Signed<'s> {
    pub(super) statement: &'s Envelope,
    /// Until when it holds.
    pub(super) not_after: UnixMillis,
    /// Why one person overrode all stages, if it was so.
    pub(super) broken_glass: Option<String>,
}

/// A statement becomes an allow only by its check, before it gets here.
fn needs_check(id: &ApprovalId) -> AnswerError {
    AnswerError::NotGranted {
        id: id.clone(),
        why: "it was not checked".to_owned(),
    }
}

impl Desk {
    /// Denies a question for a reason of our own; a settled one does not change.
    pub(super) fn deny(&self, id: &ApprovalId, by: Circumstance, reason: Option<String>) {
        if let Some(question) = self.begin_settling(id) {
            ignored(
                self.settle(&question, Answer::Deny { reason }, &by.into(), None),
                "a deny that cannot be recorded is still a deny",
            );
        }
    }

    /// Marks an open question as being settled by us.
    pub(super) fn begin_settling(&self, id: &ApprovalId) -> Option<Arc<Question>> {
        let mut state = self.lock();
        let entry = state.entries.get_mut(id)?;
        if !matches!(entry.phase, Phase::Open) {
            return None;
        }
        entry.phase = Phase::Settling;
        Some(Arc::clone(&entry.question))
    }

    /// Records the answer, then puts it into effect; the entry is in [`Phase::Settling`] and ours.
    pub(super) fn settle(
        &self,
        question: &Question,
        answer: Answer,
        by: &Answerer,
        signed: Option<&Signed<'_>>,
    ) -> Result<(), AnswerError> {
        let recorded = self.record(question, &answer, by, signed);
        let mut state = self.lock();
        let waits = state.entries.get(&question.id).map_or(0, |e| e.waiting) > 0;
        let result = match (&recorded, &answer, by) {
            (Err(error), _, _) => Err(AnswerError::NotRecorded(error.clone())),
            (Ok(()), Answer::Deny { .. } | Answer::DenySession, _)
            | (Ok(()), Answer::Allow { .. }, Answerer::Approval(_) | Answerer::Rule(_)) => Ok(()),
            // No request waits for it now, and a later one was not what the person saw.
            (Ok(()), Answer::Allow { .. }, _) if !waits => {
                Err(AnswerError::Withdrawn(question.id.clone()))
            }
            (Ok(()), Answer::Allow { scope }, _) => {
                let not_after = signed.map(|signed| signed.not_after);
                state.grant(question, *scope, not_after, self.now())
            }
            (Ok(()), Answer::Granted { .. }, _) => Err(needs_check(&question.id)),
        };
        let instead = match &result {
            Ok(()) => None,
            Err(AnswerError::NotRecorded(_)) => Some((
                Circumstance::Journal,
                "the answer was not recorded".to_owned(),
            )),
            Err(error @ AnswerError::Withdrawn(_)) => {
                Some((Circumstance::Withdrawn, error.to_string()))
            }
            Err(error) => Some((Circumstance::Policy, error.to_string())),
        };
        let is_person = matches!(by, Answerer::Person(_)) && instead.is_none();
        let (answer, by) = match instead {
            None => (answer, by.clone()),
            Some((by, reason)) => {
                let reason = Some(reason);
                (Answer::Deny { reason }, by.into())
            }
        };
        let is_people = matches!(by, Answerer::Person(_) | Answerer::People(_));
        if is_people && matches!(answer, Answer::Allow { .. }) {
            state.reviewer_denials = 0;
            state.reviewer_is_off = false;
        }
        if is_person && !matches!(answer, Answer::Allow { .. }) {
            ignored(
                state.grants.deny(question.id.clone(), &question.request),
                "it fails only if so many were settled that nothing can be granted any more",
            );
        }
        state.close_entry(&Settled {
            id: question.id.clone(),
            answer: answer.clone(),
            by: by.clone(),
        });
        drop(state);
        if matches!(
            result,
            Err(AnswerError::Grant(_) | AnswerError::Withdrawn(_))
        ) {
            // The journal already has the allow; record that it had no effect.
            ignored(
                self.record(question, &answer, &by, None),
                "the request is denied, with or without the record",
            );
        }
        self.wake();
        result
    }

    pub(super) fn record(
        &self,
        question: &Question,
        answer: &Answer,
        by: &Answerer,
        signed: Option<&Signed<'_>>,
    ) -> Result<(), String> {
        let glass = signed.and_then(|signed| signed.broken_glass.as_deref());
        let overrode = glass.map(|why| format!("overrode all stages: {why}"));
        let (verdict, scope, reason) = match (answer, by) {
            (Answer::Allow { .. }, Answerer::Approval(_) | Answerer::Rule(_)) => {
                (Verdict::Allow, None, None)
            }
            (Answer::Allow { scope }, _) => (Verdict::Allow, Some(*scope), overrode.as_deref()),
            (Answer::Deny { reason }, _) => (Verdict::Deny, None, reason.as_deref()),
            (Answer::DenySession | Answer::Granted { .. }, _) => (Verdict::Deny, None, None),
        };
        (self.observer)(&DeskEvent::Decided {
            question,
            verdict,
            scope,
            by,
            reason,
            statement: signed.map(|signed| signed.statement),
        })
    }

    /// Closes a question that the answer to another one also answers.
    pub(super) fn cover(&self, id: &ApprovalId, grant: &ApprovalId) {
        if let Some(question) = self.begin_settling(id) {
            let answer = Answer::Allow { scope: Scope::Once };
            ignored(
                self.settle(&question, answer, &Answerer::Approval(grant.clone()), None),
                "the use of the other grant follows, and is refused if it is not recorded",
            );
        }
    }
}
