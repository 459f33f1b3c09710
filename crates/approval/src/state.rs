//! The desk's state and its rules; one lock guards all of it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    task::Waker,
    time::Instant,
};

use stockade_policy::{Grants, Scope};
use stockade_trust::Nonce;
use stockade_types::{ApprovalId, Circumstance, UnixMillis, Verdict};

use super::{
    exchange::Progress,
    exchange::{AnswerError, Asker, Outcome},
    question::{Answer, Question, Settled},
};

/// Denials of the same shape after which it is not asked again: the third "no" answers all later
/// ones, and an agent must not wear a person down.
const DENIALS_MAX: u32 = 3;
/// Questions open at one time: more than a person reads. It also bounds memory and threads.
const PENDING_MAX: usize = 64;
/// New questions a minute: a person who reads each of them cannot answer more than one in two
/// seconds, so a faster stream would get a blind yes.
const PROMPTS_PER_MINUTE_MAX: usize = 30;
/// The window of [`PROMPTS_PER_MINUTE_MAX`].
const PROMPT_WINDOW_MS: u64 = 60_000;
/// Requests that wait for any answer at a time: those for connections occupy a thread each.
const WAITING_MAX: u32 = 256;
/// Settled questions kept so that a late answer learns what happened to its question.
const HISTORY_MAX: usize = 256;
/// Attempts to draw an id that is not in use; with 32 random bits the second one never happens.
const ID_ATTEMPTS_MAX: usize = 4;
#[derive(Debug)]
pub(super) enum Phase {
    /// Being written to the journal; no one sees it yet.
    Announcing,
    /// Waiting for an answer.
    Open,
    /// The answer is being written to the journal.
    Settling,
    /// It has its final answer; kept until the last waiting request has read it.
    Settled(Settled),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) question: Arc<Question>,
    pub(super) phase: Phase,
    pub(super) waiting: u32,
    /// The automatic reviewer has it; no person sees it yet.
    pub(super) reviewing: bool,
    /// How far people in roles are.
    pub(super) progress: Option<Progress>,
    /// Bounds the wait even if the wall clock stops or goes back.
    pub(super) deadline: Instant,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) grants: Grants,
    pub(super) entries: BTreeMap<ApprovalId, Entry>,
    pub(super) history: VecDeque<Settled>,
    pub(super) prompts: VecDeque<UnixMillis>,
    pub(super) closed: bool,
    /// Statements of people in roles that were not valid.
    pub(super) refused_grants: u32,
    /// Denials of the automatic reviewer one after the other.
    pub(super) reviewer_denials: u32,
    /// People answer, and no longer the reviewer.
    pub(super) reviewer_is_off: bool,
    pub(super) version: u64,
    /// Number of grants given so far: a waiting request checks them when it grows.
    pub(super) granted: u64,
    /// Requests that wait without a thread, until the next change.
    pub(super) wakers: Vec<Waker>,
}

impl Entry {
    /// Returns whether no answer came in time.
    pub(super) fn is_over(&self, now: UnixMillis) -> bool {
        now >= self.question.expires || Instant::now() >= self.deadline
    }
}

impl State {
    /// The questions that people see.
    pub(super) fn open(&self) -> impl Iterator<Item = &Entry> {
        self.unanswered().filter(|entry| !entry.reviewing)
    }

    /// The questions that wait for people or the automatic reviewer.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = &Entry> {
        let all = self.entries.values();
        all.filter(|entry| matches!(entry.phase, Phase::Open))
    }

    /// Finds the open question with exactly this request, program and rules: an answer to it
    /// applies to nothing else.
    pub(super) fn same(&mut self, asker: &Asker<'_>) -> Option<(&ApprovalId, &mut Entry)> {
        let request = asker.request.digest();
        self.entries.iter_mut().find(|(_, entry)| {
            !matches!(entry.phase, Phase::Settled(_))
                && entry.question.revision == asker.revision
                && entry.question.decision.rules == asker.decision.rules
                && entry.question.request.digest() == request
        })
    }

    /// Returns an open question.
    pub(super) fn open_question(&self, id: &ApprovalId) -> Result<Arc<Question>, AnswerError> {
        let Some(entry) = self.entries.get(id) else {
            return Err(self.settled_error(id));
        };
        match &entry.phase {
            Phase::Open if entry.reviewing => Err(AnswerError::Reviewing(id.clone())),
            Phase::Open => Ok(Arc::clone(&entry.question)),
            Phase::Settled(settled) => Err(settled.error()),
            Phase::Announcing => Err(AnswerError::Unknown(id.clone())),
            Phase::Settling => Err(AnswerError::Settling(id.clone())),
        }
    }

    /// Counts the requests that wait for any answer.
    fn waiting(&self) -> u32 {
        self.entries.values().map(|entry| entry.waiting).sum()
    }

    /// Refuses a new question if there are too many.
    pub(super) fn crowded(&mut self, now: UnixMillis) -> Option<Outcome> {
        let since = now.0.saturating_sub(PROMPT_WINDOW_MS);
        while self.prompts.front().is_some_and(|time| time.0 <= since) {
            self.prompts.pop_front();
        }
        let unsettled = |e: &&Entry| !matches!(e.phase, Phase::Settled(_));
        if self.entries.values().filter(unsettled).count() >= PENDING_MAX {
            return Some(Outcome::refused(
                None,
                Circumstance::Desk,
                "too many questions are open",
            ));
        }
        if self.prompts.len() >= PROMPTS_PER_MINUTE_MAX {
            return Some(Outcome::refused(
                None,
                Circumstance::Desk,
                "too many questions in one minute; try again later",
            ));
        }
        None
    }

    /// Draws what names a new question: its id, and the nonce that no other question has.
    pub(super) fn fresh_names(&self) -> Option<(ApprovalId, Nonce)> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).ok()?;
        Some((self.fresh_id()?, Nonce::new(nonce)))
    }

    fn fresh_id(&self) -> Option<ApprovalId> {
        (0..ID_ATTEMPTS_MAX).find_map(|_| {
            let id = ApprovalId::from_random(getrandom::u32().ok()?);
            let used = self.entries.contains_key(&id)
                || self.history.iter().any(|settled| settled.id == id);
            (!used).then_some(id)
        })
    }

    pub(super) fn grant(
        &mut self,
        question: &Question,
        scope: Scope,
        not_after: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Result<(), AnswerError> {
        let Question {
            id,
            request,
            decision,
            revision,
            ..
        } = question;
        let grants = &mut self.grants;
        let id = id.clone();
        let granted = match not_after {
            None => grants.grant(id, request, decision, scope, *revision, now),
            Some(end) => grants.grant_reviewed(id, request, decision, (scope, end), *revision, now),
        };
        granted.map_err(AnswerError::Grant)?;
        self.granted += 1;
        Ok(())
    }

    pub(super) fn close_entry(&mut self, settled: &Settled) {
        if let Some(entry) = self.entries.get_mut(&settled.id) {
            entry.phase = Phase::Settled(settled.clone());
            if entry.waiting == 0 {
                self.entries.remove(&settled.id);
            }
        }
        self.history.push_back(settled.clone());
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
        self.version += 1;
    }

    /// Removes one waiting request; the last one also removes a settled question.
    pub(super) fn leave(&mut self, id: &ApprovalId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.waiting = entry.waiting.saturating_sub(1);
            if entry.waiting == 0 && matches!(entry.phase, Phase::Settled(_)) {
                self.entries.remove(id);
            }
        }
    }

    pub(super) fn settled_error(&self, id: &ApprovalId) -> AnswerError {
        let settled = self.history.iter().find(|settled| settled.id == *id);
        settled.map_or_else(|| AnswerError::Unknown(id.clone()), Settled::error)
    }
}

impl Settled {
    pub(super) fn error(&self) -> AnswerError {
        let verdict = match self.answer {
            Answer::Allow { .. } | Answer::Granted { .. } => Verdict::Allow,
            Answer::Deny { .. } | Answer::DenySession => Verdict::Deny,
        };
        AnswerError::Settled {
            id: self.id.clone(),
            verdict,
            by: self.by.clone(),
        }
    }
}

impl Question {
    /// Refuses, before anything is recorded, an answer that must not become a grant.
    pub(super) fn accepts(&self, scope: Scope, now: UnixMillis) -> Result<(), AnswerError> {
        if now >= self.expires {
            return Err(AnswerError::Expired(self.id.clone()));
        }
        let matter = self.matter();
        if !matter.offers(scope) {
            let max = matter.scope_max().unwrap_or(Scope::Once);
            return Err(AnswerError::TooWide { asked: scope, max });
        }
        if matches!(scope, Scope::Until(end) if end <= now) {
            return Err(AnswerError::Past);
        }
        Ok(())
    }
}

/// Refuses a request that must not become a question at all.
pub(super) fn barred(state: &State, asker: &Asker<'_>) -> Option<Outcome> {
    if state.closed {
        return Some(Outcome::refused(
            None,
            Circumstance::SessionEnd,
            "the session is ending",
        ));
    }
    if state.waiting() >= WAITING_MAX {
        let reason = "too many requests wait for an answer";
        return Some(Outcome::refused(None, Circumstance::Desk, reason));
    }
    if state.grants.is_denied_always(asker.request) {
        let reason = "denied for this session; it is not asked again";
        return Some(Outcome::refused(None, Circumstance::DeniedBefore, reason));
    }
    let denials = state.grants.denied_count(asker.request);
    if denials >= DENIALS_MAX {
        let reason = format!("denied {denials} times in this session; it is not asked again");
        return Some(Outcome::refused(None, Circumstance::DeniedBefore, &reason));
    }
    match (asker.decision.verdict, &asker.decision.stage) {
        (Verdict::Ask, Some(_)) => None,
        (Verdict::Ask | Verdict::Allow | Verdict::Deny, _) => Some(Outcome::refused(
            None,
            Circumstance::Policy,
            &asker.decision.reason,
        )),
    }
}
