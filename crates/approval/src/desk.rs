//! The desk: where an ask waits for its answer.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use stockade_policy::{Approvals, ListedGrant, Request};
use stockade_types::{
    Answerer, ApprovalId, AskMode, Circumstance, Digest, Person, Span, UnixMillis, Verdict, ignored,
};

use super::{
    exchange::{AnswerError, Asker, DeskEvent, Outcome},
    question::{Answer, Question, Settled},
    shown::QuestionView,
    state::{Entry, Phase, State, barred},
};

/// How often a waiting request checks whether its question has expired or its process is gone;
/// short compared with the seconds that a countdown shows, long compared with the cost of a check.
const WAIT_SLICE: Duration = Duration::from_millis(200);
/// Requests that wait for one answer: each occupies a thread. Package managers open a few dozen
/// connections to one host; more than this is a flood, and is denied.
const WAITING_PER_QUESTION_MAX: u32 = 64;
/// The reason that the asking program reads if a person wants no more such questions.
const DENIED_FOR_SESSION: &str = "denied for this session";
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
    changed: Condvar,
    wakes: Mutex<Vec<Wake>>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// What the desk does with a request that arrives.
enum Entered {
    Done(Outcome),
    /// A new question, which must be announced.
    Ask(ApprovalId),
    /// The same question is already open.
    Join(ApprovalId),
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
        }
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

    /// Blocks until a grant covers the request or it is refused.
    ///
    /// Identical requests of one program share a question. The answer `once` permits one of them;
    /// the others cause a new question.
    pub fn ask(&self, asker: &Asker<'_>) -> Outcome {
        loop {
            let granted = self.lock().granted;
            if let Some(outcome) = self.lend(asker).or_else(|| self.use_grant(asker)) {
                return outcome;
            }
            if !(asker.wanted)() {
                return gone(None);
            }
            let id = match self.enter(asker) {
                Entered::Done(outcome) => return outcome,
                Entered::Join(id) => id,
                Entered::Ask(id) => {
                    self.announce(&id);
                    id
                }
            };
            if let Some(outcome) = self.wait(&id, asker, granted) {
                return outcome;
            }
        }
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
        id: ApprovalId,
        asker: &Asker<'_>,
        (now, expires): (UnixMillis, Span),
    ) -> Question {
        Question {
            id,
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

    fn enter(&self, asker: &Asker<'_>) -> Entered {
        let now = self.now();
        let mut state = self.lock();
        if let Some(outcome) = barred(&state, asker) {
            return Entered::Done(outcome);
        }
        if let Some((id, entry)) = state.same(asker) {
            let id = id.clone();
            if entry.waiting >= WAITING_PER_QUESTION_MAX {
                let reason = format!("{WAITING_PER_QUESTION_MAX} requests wait for this answer");
                return Entered::Done(Outcome::refused(Some(id), Circumstance::Desk, &reason));
            }
            entry.waiting = entry.waiting.saturating_add(1);
            state.version += 1;
            drop(state);
            self.wake();
            return Entered::Join(id);
        }
        if let Some(outcome) = state.crowded(now) {
            return Entered::Done(outcome);
        }
        let Some(stage) = &asker.decision.stage else {
            return Entered::Done(Outcome::refused(
                None,
                Circumstance::Policy,
                "the rule has no one to ask",
            ));
        };
        let Some(id) = state.fresh_id() else {
            return Entered::Done(Outcome::refused(
                None,
                Circumstance::Desk,
                "no random id could be drawn",
            ));
        };
        let span = stage.expires;
        let question = Arc::new(self.question(id.clone(), asker, (now, span)));
        let begun = Instant::now();
        let deadline = begun.checked_add(span.duration()).unwrap_or(begun);
        state.prompts.push_back(now);
        let entry = Entry {
            question,
            phase: Phase::Announcing,
            waiting: 1,
            deadline,
        };
        state.entries.insert(id.clone(), entry);
        Entered::Ask(id)
    }

    /// Records a new question and opens it, or denies it if it cannot be shown.
    fn announce(&self, id: &ApprovalId) {
        let Some(question) = self.lock().entries.get(id).map(|e| Arc::clone(&e.question)) else {
            return;
        };
        let recorded = (self.observer)(&DeskEvent::Requested {
            question: &question,
        });
        let denied = match (recorded, self.mode) {
            (Err(error), _) => Some((
                Circumstance::Journal,
                format!("the question was not recorded: {error}"),
            )),
            (Ok(()), AskMode::Deny) => {
                Some((Circumstance::NoOne, "no one to ask (--ask deny)".to_owned()))
            }
            (Ok(()), AskMode::Tty | AskMode::Inbox) => None,
        };
        let mut state = self.lock();
        let closed = state.closed;
        if let Some(entry) = state.entries.get_mut(id) {
            entry.phase = Phase::Open;
        }
        state.version += 1;
        drop(state);
        match denied {
            Some((by, reason)) => self.deny(id, by, Some(reason)),
            None if closed => self.deny(id, Circumstance::SessionEnd, None),
            None => self.wake(),
        }
    }

    /// Waits for the answer; `None` means that the grants must be checked again. `granted` is their
    /// number at the last check.
    fn wait(&self, id: &ApprovalId, asker: &Asker<'_>, mut granted: u64) -> Option<Outcome> {
        loop {
            if !(asker.wanted)() {
                self.give_up(id);
                return Some(gone(Some(id.clone())));
            }
            let mut state = self.lock();
            let Some(entry) = state.entries.get(id) else {
                return Some(Outcome::refused(
                    Some(id.clone()),
                    Circumstance::Desk,
                    "the question is gone",
                ));
            };
            if let Phase::Settled(settled) = &entry.phase {
                let settled = settled.clone();
                state.leave(id);
                return outcome_of(settled);
            }
            let open = matches!(entry.phase, Phase::Open);
            let over = self.now() >= entry.question.expires || Instant::now() >= entry.deadline;
            if open && over {
                drop(state);
                self.deny(
                    id,
                    Circumstance::Timeout,
                    Some("no answer came in time".to_owned()),
                );
                continue;
            }
            if std::mem::replace(&mut granted, state.granted) != state.granted {
                drop(state);
                if let Some(grant) = self.covering(asker) {
                    // The answer to another question covers this one too.
                    if self.leave(id) {
                        self.cover(id, &grant);
                    }
                    return None;
                }
                continue;
            }
            // A poisoned lock is safe to use: every change to the state is one step.
            let waited = self.changed.wait_timeout(state, WAIT_SLICE);
            let state = waited.unwrap_or_else(PoisonError::into_inner);
            drop(state);
        }
    }

    /// Leaves a question because the program that asked is gone. The last one to leave withdraws
    /// the question and an answer given meanwhile: no other program may use a counted answer.
    fn give_up(&self, id: &ApprovalId) {
        const REASON: &str = "the program that asked no longer waits";
        let question = self.lock().entries.get(id).map(|e| Arc::clone(&e.question));
        if self.leave(id) {
            return self.deny(id, Circumstance::Withdrawn, Some(REASON.to_owned()));
        }
        let withdrawn = {
            let mut state = self.lock();
            !state.entries.contains_key(id) && state.grants.withdraw(id)
        };
        if let Some(question) = question.filter(|_| withdrawn) {
            let reason = Some(REASON.to_owned());
            // The journal already has the allow; record that it had no effect.
            ignored(
                self.record(
                    &question,
                    &Answer::Deny { reason },
                    &Circumstance::Withdrawn.into(),
                ),
                "the request is denied, with or without the record",
            );
        }
    }

    /// Removes one waiting request; returns whether it was the last one of an unsettled question.
    fn leave(&self, id: &ApprovalId) -> bool {
        let mut state = self.lock();
        state.leave(id);
        state.version += 1;
        state
            .entries
            .get(id)
            .is_some_and(|entry| entry.waiting == 0)
    }

    /// Returns a grant that covers the request and that the policy accepts.
    fn covering(&self, asker: &Asker<'_>) -> Option<ApprovalId> {
        let approvals = self.approvals(asker.request, asker.revision);
        let first = approvals.ids().next()?.clone();
        ((asker.decide)(&approvals).verdict == Verdict::Allow).then_some(first)
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
        let open: Vec<(Arc<Question>, u32)> = {
            let state = self.lock();
            state
                .open()
                .map(|entry| (Arc::clone(&entry.question), entry.waiting))
                .collect()
        };
        let mut views: Vec<QuestionView> = open
            .iter()
            .map(|(question, waiting)| question.view(*waiting))
            .collect();
        views.sort_by(|a, b| (a.asked, &a.id).cmp(&(b.asked, &b.id)));
        views
    }

    /// Answers a question.
    ///
    /// # Errors
    /// When there is no such question, it has an answer or has expired, the scope is wider than
    /// was shown, or the answer could not be recorded (the request is then denied).
    pub fn answer(&self, id: &ApprovalId, answer: Answer, by: Person) -> Result<(), AnswerError> {
        let now = self.now();
        let question = {
            let mut state = self.lock();
            let Some(entry) = state.entries.get_mut(id) else {
                return Err(state.settled_error(id));
            };
            match &entry.phase {
                Phase::Open => {}
                Phase::Settled(settled) => return Err(settled.error()),
                Phase::Announcing => return Err(AnswerError::Unknown(id.clone())),
                Phase::Settling => {
                    return Err(AnswerError::Settling(id.clone()));
                }
            }
            if let Answer::Allow { scope } = &answer {
                entry.question.accepts(*scope, now)?;
            }
            entry.phase = Phase::Settling;
            Arc::clone(&entry.question)
        };
        let by = Answerer::Person(by);
        if answer == Answer::DenySession {
            // The answer also applies to requests that wait now and to later ones.
            self.lock().grants.deny_always(&question.request);
            let reason = Some(DENIED_FOR_SESSION.to_owned());
            return self.settle(&question, Answer::Deny { reason }, &by);
        }
        self.settle(&question, bounded(answer), &by)
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
        self.lock().grants.list()
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

    pub(super) fn wake(&self) {
        self.changed.notify_all();
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

/// Returns the outcome of a settled question for a waiting request; `None` if it should check the
/// grants.
fn outcome_of(settled: Settled) -> Option<Outcome> {
    match settled.answer {
        Answer::Allow { .. } => None,
        Answer::Deny { reason } => Some(Outcome::Refused {
            id: Some(settled.id),
            reason: reason.unwrap_or_else(|| "denied".to_owned()),
            by: settled.by,
        }),
        Answer::DenySession => Some(Outcome::Refused {
            id: Some(settled.id),
            reason: DENIED_FOR_SESSION.to_owned(),
            by: settled.by,
        }),
    }
}

fn gone(id: Option<ApprovalId>) -> Outcome {
    Outcome::refused(id, Circumstance::Withdrawn, "no program waits for it")
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
