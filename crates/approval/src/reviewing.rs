//! The automatic reviewer at the desk: what its word is worth. It may deny or pass on any question that its
//! rule shows it; it allows only what the rule lets it, under the risk that the rule names, and once.
//!
//! It says its word from outside, on any thread; what it does not say in time is a pass.

use std::sync::Arc;

use stockade_policy::{Reviewer, Scope};
use stockade_types::{ApprovalId, AskMode, Circumstance, Verdict, ignored};

use super::{
    desk::Desk,
    exchange::{DeskEvent, Hand, Opinion},
    question::{Answer, Question},
    state::Phase,
};

/// Questions that it denies one after the other before it is taken off: an agent that runs into it again and
/// again is for people to look at.
const DENIALS_MAX: u32 = 3;

impl Desk {
    /// Has an automatic reviewer see the questions whose rules say so, before people do.
    #[must_use]
    pub fn with_reviewer(mut self, hand: Hand) -> Self {
        self.hand = Some(hand);
        self
    }

    /// Tells whether the reviewer sees a question first.
    pub(super) fn is_reviewed(&self, question: &Question) -> bool {
        let stage = question.decision.stage.as_ref();
        let is_asked = stage.is_some_and(|stage| match stage.reviewer {
            Reviewer::Human => false,
            Reviewer::Bot | Reviewer::BotThenHuman => true,
        });
        is_asked
            && self.hand.is_some()
            && self.mode() != AskMode::Deny
            && !self.lock().reviewer_is_off
    }

    /// Gives a question to the reviewer.
    pub(super) fn hand_over(&self, question: &Arc<Question>) {
        let is_taken = self.hand.as_ref().is_some_and(|hand| hand(question));
        if !is_taken {
            let opinion = Opinion::pass(
                "checks",
                "the automatic reviewer takes no more questions now",
            );
            self.reviewed(&question.id, &opinion);
        }
    }

    /// Takes the word of the reviewer about a question that it was given. For any other question it is none.
    pub fn reviewed(&self, id: &ApprovalId, opinion: &Opinion) {
        let question = {
            let state = self.lock();
            let entry = state.entries.get(id);
            let entry = entry.filter(|entry| entry.reviewing && matches!(entry.phase, Phase::Open));
            match entry {
                Some(entry) => Arc::clone(&entry.question),
                None => return,
            }
        };
        let (verdict, why) = self.worth(&question, opinion);
        let recorded = (self.observer)(&DeskEvent::Reviewed {
            question: &question,
            opinion,
            verdict,
        });
        if let Err(error) = recorded {
            let reason = format!("what the reviewer said was not recorded: {error}");
            return self.deny(id, Circumstance::Journal, Some(reason));
        }
        match verdict {
            Some(Verdict::Allow) => self.allow_reviewed(id),
            Some(Verdict::Deny) => {
                self.deny(id, Circumstance::Reviewer, Some(why));
                self.count_denial();
            }
            Some(Verdict::Ask) | None => self.pass_on(&question, &why),
        }
    }

    /// Returns what an opinion comes to, and why in words for the agent.
    fn worth(&self, question: &Question, opinion: &Opinion) -> (Option<Verdict>, String) {
        let why = format!("{}: {}", opinion.reviewer, opinion.rationale);
        let allowed = question.decision.stage.as_ref();
        let allowed = allowed.and_then(|stage| stage.reviewer_allows);
        let may_allow = question.review().is_none()
            && self.mode() != AskMode::Server
            && allowed.is_some_and(|most| opinion.risk.is_some_and(|risk| risk <= most))
            && question.accepts(Scope::Once, self.now()).is_ok();
        match opinion.verdict {
            Some(Verdict::Deny) => (Some(Verdict::Deny), why),
            Some(Verdict::Allow) if may_allow => (Some(Verdict::Allow), why),
            Some(Verdict::Allow) => (None, format!("{why} (it may not allow this)")),
            Some(Verdict::Ask) | None => (None, why),
        }
    }

    fn allow_reviewed(&self, id: &ApprovalId) {
        // People do not see it yet, so nobody else settles it but time.
        let Some(question) = self.begin_settling(id) else {
            return;
        };
        let answer = Answer::Allow { scope: Scope::Once };
        let by = Circumstance::Reviewer.into();
        if self.settle(&question, answer, &by, None).is_ok() {
            self.lock().reviewer_denials = 0;
        }
    }

    /// Counts a denial of the reviewer; after some in a row it is off until a person has allowed something.
    fn count_denial(&self) {
        let is_now_off = {
            let mut state = self.lock();
            state.reviewer_denials = state.reviewer_denials.saturating_add(1);
            let is_off = state.reviewer_denials >= DENIALS_MAX && !state.reviewer_is_off;
            state.reviewer_is_off |= is_off;
            is_off
        };
        if is_now_off {
            ignored(
                (self.observer)(&DeskEvent::ReviewerOff {
                    denials: DENIALS_MAX,
                }),
                "from now on people answer, with or without the record",
            );
        }
    }

    /// Shows a question to people, or denies it if its rule asks none, or there are none.
    fn pass_on(&self, question: &Question, why: &str) {
        let id = &question.id;
        let stage = question.decision.stage.as_ref();
        if stage.is_some_and(|stage| stage.reviewer == Reviewer::Bot) {
            let reason = format!("the automatic reviewer did not allow it: {why}");
            return self.deny(id, Circumstance::Reviewer, Some(reason));
        }
        if let Some(reason) = self.nobody(&question.decision) {
            return self.deny(id, Circumstance::NoOne, Some(reason));
        }
        let mut state = self.lock();
        if let Some(entry) = state.entries.get_mut(id) {
            entry.reviewing = false;
        }
        state.version += 1;
        drop(state);
        self.wake();
    }
}
