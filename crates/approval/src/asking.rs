//! How a request waits for its answer.

use std::{
    future::poll_fn,
    mem,
    sync::{Arc, MutexGuard, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use stockade_policy::{Decision, Reviewer};
use stockade_types::{ApprovalId, AskMode, Circumstance, Verdict, ignored};

use super::{
    desk::{DENIED_FOR_SESSION, Desk},
    exchange::{Asker, DeskEvent, Outcome},
    question::{Answer, Settled},
    state::{Entry, Phase, State, barred},
};

/// How often a waiting request is checked: whether its question has expired or its process is gone;
/// short compared with the seconds that a countdown shows, long compared with the cost of a check.
pub const WAIT_SLICE: Duration = Duration::from_millis(200);
/// Requests that wait for one answer. Package managers open a few dozen connections to one host; more
/// than this is a flood, and is denied.
const WAITING_PER_QUESTION_MAX: u32 = 64;

/// How a request begins at the desk.
enum Begun {
    Done(Outcome),
    /// It waits for the answer to this question; with how many grants there were when it was looked.
    Waits(ApprovalId, u64),
}

/// What a request that waits finds when it looks.
enum Looked {
    /// It ended; `None` means that there is a grant to look at.
    Ended(Option<Outcome>),
    /// Something changed: it looks again.
    Changed,
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
    /// Blocks until a grant covers the request or it is refused.
    ///
    /// Identical requests of one program share a question. The answer `once` permits one of them;
    /// the others cause a new question.
    pub fn ask(&self, asker: &Asker<'_>) -> Outcome {
        loop {
            match self.begin(asker) {
                Begun::Done(outcome) => return outcome,
                Begun::Waits(id, granted) => {
                    if let Some(outcome) = self.wait(&id, asker, granted) {
                        return outcome;
                    }
                }
            }
        }
    }

    /// As [`Self::ask`], without a thread that waits: it is to be polled again when it was woken, when
    /// whoever asks is gone, and after [`Self::expire`].
    pub async fn asked(&self, asker: &Asker<'_>) -> Outcome {
        loop {
            match self.begin(asker) {
                Begun::Done(outcome) => return outcome,
                Begun::Waits(id, mut granted) => {
                    let ended = poll_fn(|context| {
                        loop {
                            let mut state = match self.look(&id, asker, &mut granted) {
                                Ok(state) => state,
                                Err(Looked::Changed) => continue,
                                Err(Looked::Ended(ended)) => return Poll::Ready(ended),
                            };
                            let waker = context.waker();
                            if !state.wakers.iter().any(|known| known.will_wake(waker)) {
                                state.wakers.push(waker.clone());
                            }
                            return Poll::Pending;
                        }
                    });
                    if let Some(outcome) = ended.await {
                        return outcome;
                    }
                }
            }
        }
    }

    /// Wakes those who wait without a thread where the time of a question is over; to be called every
    /// [`WAIT_SLICE`] while there are any.
    pub fn expire(&self) {
        let now = self.now();
        let is_over = self.lock().unanswered().any(|entry| entry.is_over(now));
        if is_over {
            // Nothing that is shown has changed yet.
            self.wake_waiting();
        }
    }

    fn begin(&self, asker: &Asker<'_>) -> Begun {
        let granted = self.lock().granted;
        if let Some(outcome) = self.lend(asker).or_else(|| self.use_grant(asker)) {
            return Begun::Done(outcome);
        }
        if !(asker.wanted)() {
            return Begun::Done(gone(None));
        }
        match self.enter(asker) {
            Entered::Done(outcome) => Begun::Done(outcome),
            Entered::Join(id) => Begun::Waits(id, granted),
            Entered::Ask(id) => {
                self.announce(&id);
                Begun::Waits(id, granted)
            }
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
        let Some(names) = state.fresh_names() else {
            return Entered::Done(Outcome::refused(
                None,
                Circumstance::Desk,
                "no random id could be drawn",
            ));
        };
        let span = stage.expires;
        let id = names.0.clone();
        let question = Arc::new(self.question(names, asker, (now, span)));
        let begun = Instant::now();
        let deadline = begun.checked_add(span.duration()).unwrap_or(begun);
        state.prompts.push_back(now);
        let entry = Entry {
            question,
            phase: Phase::Announcing,
            waiting: 1,
            reviewing: false,
            progress: None,
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
        let is_reviewed = self.is_reviewed(&question);
        let denied = match recorded {
            Err(error) => Some((
                Circumstance::Journal,
                format!("the question was not recorded: {error}"),
            )),
            Ok(()) if is_reviewed => None,
            Ok(()) => self
                .nobody(&question.decision)
                .map(|why| (Circumstance::NoOne, why)),
        };
        let mut state = self.lock();
        let closed = state.closed;
        if let Some(entry) = state.entries.get_mut(id) {
            entry.phase = Phase::Open;
            entry.reviewing = is_reviewed;
        }
        state.version += 1;
        drop(state);
        match denied {
            Some((by, reason)) => self.deny(id, by, Some(reason)),
            None if closed => self.deny(id, Circumstance::SessionEnd, None),
            None if is_reviewed => self.hand_over(&question),
            None => self.wake(),
        }
    }

    /// Says why nobody can answer a question.
    pub(super) fn nobody(&self, decision: &Decision) -> Option<String> {
        let stage = decision.stage.as_ref();
        if self.hand.is_none() && stage.is_some_and(|stage| stage.reviewer == Reviewer::Bot) {
            let reason = "its rule asks the automatic reviewer alone, and there is none here";
            return Some(reason.to_owned());
        }
        match (self.mode(), decision.review()) {
            (AskMode::Deny, _) => Some("nobody could be asked (--ask deny)".to_owned()),
            (AskMode::Tty | AskMode::Inbox | AskMode::Server, Some(_)) if self.verify.is_some() => {
                None
            }
            (AskMode::Tty | AskMode::Inbox | AskMode::Server, Some(review)) => Some(format!(
                "it asks {}, and this machine is not enrolled, so it knows nobody in any role",
                review.in_words()
            )),
            (AskMode::Server, None) => Some(
                "its rules name no `stages`, so the server has nobody to ask (--ask server)"
                    .to_owned(),
            ),
            (AskMode::Tty | AskMode::Inbox, None) => None,
        }
    }

    /// Waits for the answer; `None` means that there is a grant to look at. `granted` is how many
    /// there were when it was looked last.
    fn wait(&self, id: &ApprovalId, asker: &Asker<'_>, mut granted: u64) -> Option<Outcome> {
        loop {
            match self.look(id, asker, &mut granted) {
                Ok(state) => {
                    // A poisoned lock is as good as a whole one: every change to the state is one
                    // step.
                    let waited = self.changed.wait_timeout(state, WAIT_SLICE);
                    let state = waited.unwrap_or_else(PoisonError::into_inner);
                    drop(state);
                }
                Err(Looked::Changed) => {}
                Err(Looked::Ended(ended)) => return ended,
            }
        }
    }

    /// Looks whether a request that waits has its answer. Where it has none the lock is returned:
    /// nothing changes before it is given up.
    fn look(
        &self,
        id: &ApprovalId,
        asker: &Asker<'_>,
        granted: &mut u64,
    ) -> Result<MutexGuard<'_, State>, Looked> {
        let ended = |outcome| Err(Looked::Ended(outcome));
        if !(asker.wanted)() {
            self.give_up(id);
            return ended(Some(gone(Some(id.clone()))));
        }
        let mut state = self.lock();
        let Some(entry) = state.entries.get(id) else {
            let reason = "the question is gone";
            return ended(Some(Outcome::refused(
                Some(id.clone()),
                Circumstance::Desk,
                reason,
            )));
        };
        if let Phase::Settled(settled) = &entry.phase {
            let settled = settled.clone();
            state.leave(id);
            return ended(outcome_of(settled));
        }
        if matches!(entry.phase, Phase::Open) && entry.is_over(self.now()) {
            drop(state);
            let reason = Some("no answer came in time".to_owned());
            self.deny(id, Circumstance::Timeout, reason);
            return Err(Looked::Changed);
        }
        if mem::replace(granted, state.granted) == state.granted {
            return Ok(state);
        }
        drop(state);
        match self.covering(asker) {
            Some(grant) => {
                // The answer to another question reaches as far as this one.
                if self.leave(id) {
                    self.cover(id, &grant);
                }
                ended(None)
            }
            None => Err(Looked::Changed),
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
                    None,
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
}

/// Returns the outcome of a settled question for a waiting request; `None` if it should check the
/// grants.
fn outcome_of(settled: Settled) -> Option<Outcome> {
    match settled.answer {
        Answer::Allow { .. } | Answer::Granted { .. } => None,
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
