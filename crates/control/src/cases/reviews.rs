//! Reviews of overrides: when one person has overridden all stages, another one looks at it afterwards and
//! says whether it was right.

use stockade_trust::{UserId, Vote};
use stockade_types::UnixMillis;

use crate::{
    Changed, ControlError, Server,
    act::{Act, Action},
    clock::now,
    state::{QuestionRow, ReviewTaskRow, Writing},
};

/// Within which time an override is to be looked at.
const REVIEW_MS: u64 = 24 * 60 * 60 * 1_000;
/// Bytes of what a reviewer writes.
const NOTE_BYTES_MAX: usize = 2_000;

/// What a person says about an override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewing {
    /// Whether it was right.
    pub justified: bool,
    /// Why.
    pub note: String,
}

/// Why a review is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// There is nothing to look at.
    #[error("there is no override to look at")]
    Unknown,
    /// Somebody has.
    #[error("somebody has looked at it")]
    Done,
    /// The person overrode the stages, or asked.
    #[error("you have a part in it: another person has to look at it")]
    Involved,
    /// The person answers none of the stages.
    #[error("it is for people who answer a stage of the question")]
    Role,
    /// It has to say why.
    #[error("say why, in at most 2000 bytes")]
    Note,
}

impl Server {
    /// Notes that an override is to be looked at.
    pub(super) async fn await_review(
        &self,
        writing: &mut Writing,
        row: &QuestionRow,
        glass: &Vote,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let task = ReviewTaskRow {
            question: row.id.clone(),
            breaker: glass.user.clone(),
            made: now,
            due: UnixMillis(now.0.saturating_add(REVIEW_MS)),
            done: None,
        };
        self.state.add_review_task(writing, &task).await?;
        self.tell_override(writing, row, now).await?;
        let act = Act::new(Action::GlassBroken)
            .by(&glass.user.0)
            .about(&row.id)
            .node(row.key.node.as_str())
            .session(row.key.session.as_str())
            .detail(glass.reason.as_deref().unwrap_or_default());
        self.state.note(writing, &act, now).await
    }

    /// Tells whether a person may say whether an override was right: one who answers a stage of the question,
    /// or may override it, and had no part in it.
    ///
    /// # Errors
    /// Why not.
    pub fn may_review(
        row: &QuestionRow,
        task: &ReviewTaskRow,
        user: &UserId,
        roles: &[stockade_trust::Role],
    ) -> Result<(), ReviewError> {
        if task.breaker == *user || row.requesters.contains(user) {
            return Err(ReviewError::Involved);
        }
        let review = &row.sent.review;
        let asks = review.stages().map(|stage| &stage.role);
        let glass = review.break_glass.iter().map(|glass| &glass.role);
        let is_asked = asks.chain(glass).any(|role| roles.contains(role));
        is_asked.then_some(()).ok_or(ReviewError::Role)
    }

    /// Takes what a person says about an override.
    ///
    /// # Errors
    /// The inner error says why it does not count; the outer one is of the server.
    pub async fn review(
        &self,
        user: &UserId,
        id: &str,
        reviewing: &Reviewing,
    ) -> Result<Result<(), ReviewError>, ControlError> {
        let directory = self.people().await?;
        let now = now();
        let mut writing = self.state.write().await?;
        let row = self.state.question_in(&mut writing, id).await?;
        let task = self.state.review_task_in(&mut writing, id).await?;
        let (Some(row), Some(task)) = (row, task) else {
            return Ok(Err(ReviewError::Unknown));
        };
        if task.done.is_some() {
            return Ok(Err(ReviewError::Done));
        }
        let Some(person) = directory.user(user) else {
            return Ok(Err(ReviewError::Role));
        };
        let team = self.state.team_in(&mut writing, &row.key.node).await?;
        let roles = person.roles_within(team.as_ref());
        if let Err(error) = Self::may_review(&row, &task, user, &roles) {
            return Ok(Err(error));
        }
        let note = reviewing.note.trim();
        if note.is_empty() || note.len() > NOTE_BYTES_MAX {
            return Ok(Err(ReviewError::Note));
        }
        let done =
            self.state
                .end_review_task(&mut writing, id, user, (reviewing.justified, note), now);
        if !done.await? {
            return Ok(Err(ReviewError::Done));
        }
        let verdict = if reviewing.justified {
            "justified"
        } else {
            "not justified"
        };
        let act = Act::new(Action::OverrideReviewed)
            .by(&user.0)
            .about(id)
            .node(row.key.node.as_str())
            .session(row.key.session.as_str())
            .detail(format!("{verdict}: {note}"));
        self.state.note(&mut writing, &act, now).await?;
        self.state.commit(writing).await?;
        self.hub.changed(Changed::Question(row.id));
        Ok(Ok(()))
    }

    /// Notes overrides that nobody has looked at in time, each once.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub(crate) async fn remind(&self) -> Result<(), ControlError> {
        let now = now();
        for task in self.state.review_tasks_overdue(now).await? {
            let mut writing = self.state.write().await?;
            self.state
                .note_overdue(&mut writing, &task.question, now)
                .await?;
            let act = Act::new(Action::ReviewOverdue)
                .about(&task.question)
                .detail("nobody has looked at the override within a day");
            self.state.note(&mut writing, &act, now).await?;
            self.state.commit(writing).await?;
            self.hub.changed(Changed::Question(task.question));
        }
        Ok(())
    }
}
