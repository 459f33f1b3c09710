//! Answers of people in roles: what they have signed is checked here, by the machine that asked, and whoever
//! carries it is believed nothing.

use std::sync::Arc;

use stockade_trust::{Envelope, Granted};
use stockade_types::{Answerer, ApprovalId, People, Person, UnixMillis, ignored};

use super::{
    desk::Desk,
    exchange::{AnswerError, DeskEvent, Progress},
    question::{Answer, Case, Question},
    settling::Signed,
    state::Entry,
};

/// Longest statement, as JSON: all of it fits into one event, uncut, and has room for thirty votes with
/// passkeys.
pub const GRANT_BYTES_MAX: usize = 40 << 10;
/// Statements that are not valid, in one session: each is recorded. More come from a program that tries.
const REFUSED_GRANTS_MAX: u32 = 100;

impl Desk {
    /// Returns what leaves the machine with an open question that asks people in roles.
    ///
    /// # Errors
    /// When there is no such question, it is settled, or asks nobody but whoever is at the terminal.
    pub fn case(&self, id: &ApprovalId) -> Result<Case, AnswerError> {
        let question = self.lock().open_question(id)?;
        question.case().ok_or_else(|| asks_nobody(id))
    }

    /// Notes how far the people are, for those who wait.
    ///
    /// # Errors
    /// When there is no such question, it is settled, or has no such stage.
    pub fn progress(&self, id: &ApprovalId, progress: Progress) -> Result<(), AnswerError> {
        let mut state = self.lock();
        let question = state.open_question(id)?;
        let review = question.review().ok_or_else(|| asks_nobody(id))?;
        let stage = review.stage(&progress.stage);
        let fits = stage
            .is_some_and(|stage| stage.need == progress.need && progress.have <= progress.need);
        if !fits {
            return Err(AnswerError::NotGranted {
                id: id.clone(),
                why: "the question has no such stage".to_owned(),
            });
        }
        if let Some(entry) = state.entries.get_mut(id) {
            entry.progress = Some(progress);
        }
        state.version += 1;
        drop(state);
        self.wake();
        Ok(())
    }

    /// Answers a question with what people in roles have signed. If it is not valid, that is recorded, and
    /// the question stays open.
    pub(super) fn answer_signed(
        &self,
        id: &ApprovalId,
        envelope: &Envelope,
        by: Person,
    ) -> Result<(), AnswerError> {
        let question = self.lock().open_question(id)?;
        let checked = self.checked(&question, envelope);
        let (granted, people) = checked.map_err(|why| self.refuse_grant(id, by, why))?;
        let answer = Answer::Allow {
            scope: granted.scope,
        };
        let question: Arc<Question> =
            self.begin_answer(id, |question| question.accepts(granted.scope, self.now()))?;
        let signed = Signed {
            statement: envelope,
            not_after: granted.not_after,
            broken_glass: granted.broken_glass,
        };
        self.settle(&question, answer, &Answerer::People(people), Some(&signed))
    }

    /// Records a statement that is none, as long as there are not too many.
    fn refuse_grant(&self, id: &ApprovalId, by: Person, why: String) -> AnswerError {
        let count = {
            let mut state = self.lock();
            state.refused_grants = state.refused_grants.saturating_add(1);
            state.refused_grants
        };
        if count <= REFUSED_GRANTS_MAX {
            let event = DeskEvent::GrantRefused {
                approval: id,
                by,
                why: &why,
            };
            ignored(
                (self.observer)(&event),
                "it allows nothing, with or without the record",
            );
        }
        AnswerError::NotGranted {
            id: id.clone(),
            why,
        }
    }

    fn checked(
        &self,
        question: &Question,
        envelope: &Envelope,
    ) -> Result<(Granted, People), String> {
        if self.lock().refused_grants >= REFUSED_GRANTS_MAX {
            return Err(format!(
                "{REFUSED_GRANTS_MAX} statements were not valid; this session takes no more"
            ));
        }
        let Some(verify) = &self.verify else {
            return Err("this machine is not enrolled, so it knows nobody in any role".to_owned());
        };
        if question.review().is_none() {
            return Err("the question does not ask people in roles".to_owned());
        }
        within_size(envelope)?;
        let granted = verify(question, envelope, self.now())?;
        let names = granted.by.iter().map(|user| user.0.clone()).collect();
        let people = People::new(names);
        let people = people.ok_or("the name of a voter cannot be written down")?;
        Ok((granted, people))
    }
}

fn within_size(envelope: &Envelope) -> Result<(), String> {
    let bytes = serde_json::to_vec(envelope).map_err(|error| error.to_string())?;
    if bytes.len() > GRANT_BYTES_MAX {
        return Err(format!(
            "it has {} bytes; at most {GRANT_BYTES_MAX} fit into the record",
            bytes.len()
        ));
    }
    Ok(())
}

fn asks_nobody(id: &ApprovalId) -> AnswerError {
    AnswerError::NotGranted {
        id: id.clone(),
        why: "the question does not ask people in roles".to_owned(),
    }
}

impl Entry {
    /// Says which people in roles it waits for, and how far they are.
    pub(super) fn waits_for(&self) -> Option<String> {
        let who = self.question.review()?.in_words();
        Some(match &self.progress {
            None => who,
            Some(Progress {
                stage,
                have,
                need,
                until,
                also,
            }) => {
                let until = until.map(clock).unwrap_or_default();
                let also = also
                    .as_ref()
                    .filter(|role| is_asked_late(&self.question, stage, role));
                let also = also.map(|role| format!(" and {role}")).unwrap_or_default();
                format!("{who}; now {stage}{also}, {have} of {need}{until}")
            }
        })
    }
}

/// Tells whether a stage of the question asks a role when it takes long: nothing else that an agent says is
/// shown.
fn is_asked_late(question: &Question, stage: &str, role: &str) -> bool {
    let stage = question.review().and_then(|review| review.stage(stage));
    let then = stage.and_then(|stage| stage.escalation.as_ref());
    then.is_some_and(|then| then.role.0 == role)
}

/// Writes a time of day as ` until 10:04 UTC`.
fn clock(end: UnixMillis) -> String {
    let minutes = end.0 / 60_000 % (24 * 60);
    format!(" until {:02}:{:02} UTC", minutes / 60, minutes % 60)
}
