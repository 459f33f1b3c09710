//! The desk: where an ask waits for its answer.

use std::{
    fmt, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stockade_policy::{Approvals, ListedGrant, Request};
use stockade_secrets::hide;
use stockade_trust::Nonce;
use stockade_types::{
    Answerer, ApprovalId, AskMode, Circumstance, Digest, Person, RawText, Span, UnixMillis, Verdict,
};

use super::{
    exchange::{AnswerError, Asker, DeskEvent, Hand, Outcome, Verify},
    question::{Answer, Question, Settled},
    state::{Phase, State},
    view::QuestionView,
};

/// The reason that the asking program reads if a person wants no more such questions.
pub(super) const DENIED_FOR_SESSION: &str = "denied for this session";
/// Longest reason for a deny, in bytes: it goes into error bodies and one-line records.
pub const REASON_BYTES_MAX: usize = 500;

/// Milliseconds since the Unix epoch, as the caller's clock has them.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// Records what happens at the desk; after an error it is not recorded, and therefore denied.
///
/// It is called without a lock held and may block; it must not call the desk.
pub type Observer = Box<dyn Fn(&DeskEvent<'_>) -> Result<(), String> + Send + Sync>;

type Wake = Arc<dyn Fn() + Send + Sync>;

/// The place where asks wait for answers; shared by all threads of a session.
pub struct Desk {
    mode: AskMode,
    agent: String,
    workspace: String,
    clock: Clock,
    pub(super) observer: Observer,
    state: Mutex<State>,
    pub(super) changed: Condvar,
    wakes: Mutex<Vec<Wake>>,
    pub(super) verify: Option<Verify>,
    pub(super) hand: Option<Hand>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Desk {
    /// Opens a desk; `agent` is the name that questions show.
    pub fn new(mode: AskMode, agent: String, clock: Clock, observer: Observer) -> Self {
        Self {
            mode,
            agent,
            workspace: String::new(),
            clock,
            observer,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            wakes: Mutex::new(Vec::new()),
            verify: None,
            hand: None,
        }
    }

    /// Lets people in roles answer: `verify` checks what they have signed. Without it, a question that asks
    /// them is denied, because this machine knows nobody.
    #[must_use]
    pub fn with_people(mut self, verify: Verify) -> Self {
        self.verify = Some(verify);
        self
    }

    /// Sets the workspace that its questions are about.
    #[must_use]
    pub fn in_workspace(mut self, workspace: String) -> Self {
        self.workspace = workspace;
        self
    }

    /// Returns how questions reach a person.
    pub const fn mode(&self) -> AskMode {
        self.mode
    }

    /// Returns the current time of the desk's clock.
    pub fn now(&self) -> UnixMillis {
        (self.clock)()
    }

    /// Returns the approvals that cover `request` now, without using any.
    pub fn approvals(&self, request: &Request, revision: Digest) -> Approvals {
        self.lock().grants.matching(request, revision, self.now())
    }

    /// Uses an existing grant that the policy accepts.
    pub(super) fn use_grant(&self, asker: &Asker<'_>) -> Option<Outcome> {
        let approvals = self.approvals(asker.request, asker.revision);
        if approvals.is_empty() || (asker.decide)(&approvals).verdict != Verdict::Allow {
            return None;
        }
        let now = self.now();
        let id = {
            let mut state = self.lock();
            if state.closed {
                return Some(Outcome::refused(
                    None,
                    Circumstance::SessionEnd,
                    "the session is ending",
                ));
            }
            state.grants.consume(asker.request, &approvals, now)?
        };
        let event = DeskEvent::Used {
            approval: &id,
            decision: asker.decision_id,
        };
        Some(match (self.observer)(&event) {
            Ok(()) => Outcome::Granted { approvals, id },
            Err(error) => not_recorded(Some(id), &error),
        })
    }

    /// Makes a question from a request.
    pub(super) fn question(
        &self,
        (id, nonce): (ApprovalId, Nonce),
        asker: &Asker<'_>,
        (now, expires): (UnixMillis, Span),
    ) -> Question {
        Question {
            id,
            nonce,
            request: asker.request.clone(),
            decision: asker.decision.clone(),
            decision_id: asker.decision_id,
            revision: asker.revision,
            asked: now,
            expires: UnixMillis(now.0.saturating_add(expires.millis())),
            agent: self.agent.clone(),
            intent: asker.intent.clone(),
            lasting: asker.lasting.clone(),
            workspace: self.workspace.clone(),
        }
    }

    /// Returns the open questions, oldest first.
    pub fn pending(&self) -> Vec<Question> {
        let mut questions: Vec<Question> = self
            .lock()
            .open()
            .map(|entry| Question::clone(&entry.question))
            .collect();
        questions.sort_by(|a, b| (a.asked, &a.id).cmp(&(b.asked, &b.id)));
        questions
    }

    /// Returns the open questions as they are shown, oldest first.
    pub fn views(&self) -> Vec<QuestionView> {
        let open: Vec<(Arc<Question>, u32, Option<String>)> = {
            let state = self.lock();
            state
                .open()
                .map(|entry| {
                    let question = Arc::clone(&entry.question);
                    (question, entry.waiting, entry.waits_for())
                })
                .collect()
        };
        let mut views: Vec<QuestionView> = open
            .into_iter()
            .map(|(question, waiting, waits_for)| question.view(waiting, waits_for))
            .collect();
        views.sort_by(|a, b| (a.asked, &a.id).cmp(&(b.asked, &b.id)));
        views
    }

    /// Answers a question.
    ///
    /// # Errors
    /// When there is no such question, it has an answer or has expired, the scope is wider than
    /// was shown, it asks people in roles and this is not their valid statement, or the answer could not be
    /// recorded (the request is then denied).
    pub fn answer(&self, id: &ApprovalId, answer: Answer, by: Person) -> Result<(), AnswerError> {
        let answer = match answer {
            Answer::Granted { envelope } => return self.answer_signed(id, &envelope, by),
            Answer::Allow { .. } | Answer::Deny { .. } | Answer::DenySession => answer,
        };
        let question = self.begin_answer(id, |question| match (&answer, question.review()) {
            (Answer::Allow { .. }, Some(review)) => Err(AnswerError::NeedsPeople {
                id: question.id.clone(),
                who: review.in_words(),
            }),
            (Answer::Allow { scope }, None) => question.accepts(*scope, self.now()),
            (Answer::Deny { .. } | Answer::DenySession | Answer::Granted { .. }, _) => Ok(()),
        })?;
        let by = Answerer::Person(by);
        if answer == Answer::DenySession {
            // The answer also applies to requests that wait now and to later ones.
            self.lock().grants.deny_always(&question.request);
            let reason = Some(DENIED_FOR_SESSION.to_owned());
            return self.settle(&question, Answer::Deny { reason }, &by, None);
        }
        self.settle(&question, bounded(answer), &by, None)
    }

    /// Marks an open question as being settled by an answer that `accepts` it.
    pub(super) fn begin_answer(
        &self,
        id: &ApprovalId,
        accepts: impl FnOnce(&Question) -> Result<(), AnswerError>,
    ) -> Result<Arc<Question>, AnswerError> {
        let mut state = self.lock();
        state.open_question(id)?;
        let Some(entry) = state.entries.get_mut(id) else {
            return Err(state.settled_error(id));
        };
        accepts(&entry.question)?;
        entry.phase = Phase::Settling;
        Ok(Arc::clone(&entry.question))
    }

    /// Denies all open questions and all later requests.
    pub fn close(&self) {
        let ids: Vec<ApprovalId> = {
            let mut state = self.lock();
            state.closed = true;
            state.entries.keys().cloned().collect()
        };
        for id in ids {
            self.deny(
                &id,
                Circumstance::SessionEnd,
                Some("the session is ending".to_owned()),
            );
        }
        self.wake();
    }

    /// Lists the recently settled questions, oldest first.
    pub fn settled(&self) -> Vec<Settled> {
        self.lock().history.iter().cloned().collect()
    }

    /// Lists the grants of the session.
    pub fn grants(&self) -> Vec<ListedGrant> {
        let mut all = self.lock().grants.list();
        for grant in &mut all {
            let hidden = hide(&RawText::from(grant.target.as_str()));
            if let Some(hidden) = hidden {
                grant.target = hidden.display();
            }
        }
        all
    }

    /// Returns whether an answer was given and not revoked.
    pub fn holds(&self, id: &ApprovalId) -> bool {
        self.lock().grants.is_held(id)
    }

    /// Revokes a grant; `false` if there is none or it was already revoked.
    ///
    /// The observer closes what the grant opened. The grant is gone even if that is not recorded.
    ///
    /// # Errors
    /// When the observer could not record it.
    pub fn revoke(&self, id: &ApprovalId, by: Person) -> Result<bool, String> {
        if !self.lock().grants.revoke(id) {
            return Ok(false);
        }
        (self.observer)(&DeskEvent::Revoked { approval: id, by }).map(|()| true)
    }

    /// Calls `wake` after every change to the pending questions, on the thread that made the
    /// change.
    ///
    /// `wake` must be quick and must not call the desk: it only signals.
    pub fn subscribe(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.wakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::new(wake));
    }

    /// Waits until the pending questions differ from those at version `seen`, or until `timeout`;
    /// returns the present version. Start with 0.
    pub fn wait_pending(&self, seen: u64, timeout: Duration) -> u64 {
        let state = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(state, timeout, |s| s.version == seen);
        waited.unwrap_or_else(PoisonError::into_inner).0.version
    }

    /// Has requests that wait without a thread check their questions.
    pub(super) fn wake_waiting(&self) {
        for waker in mem::take(&mut self.lock().wakers) {
            waker.wake();
        }
    }

    pub(super) fn wake(&self) {
        self.changed.notify_all();
        self.wake_waiting();
        let wakes = self
            .wakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for wake in wakes {
            wake();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts a reason to a size that fits into one-line records.
fn bounded(answer: Answer) -> Answer {
    match answer {
        Answer::Deny {
            reason: Some(mut text),
        } => {
            text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
            Answer::Deny { reason: Some(text) }
        }
        other => other,
    }
}

pub(super) fn not_recorded(id: Option<ApprovalId>, error: &str) -> Outcome {
    Outcome::refused(
        id,
        Circumstance::Journal,
        &format!("the use of the grant was not recorded: {error}"),
    )
}
