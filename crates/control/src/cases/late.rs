//! Stages that take long: others are asked too, and everyone who looks or waits learns of it.

use stockade_trust::Vote;
use stockade_types::UnixMillis;

use super::{Case, clock};
use crate::{
    ControlError, Server,
    act::{Act, Action},
    clock::now,
    state::{QuestionRow, QuestionState, Writing},
};

impl Server {
    /// Notes when a question is to be looked at again because a stage of it asks others then.
    pub(super) async fn look_again(
        &self,
        writing: &mut Writing,
        row: &QuestionRow,
        votes: &[Vote],
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let case = Case::new(self.state.org(), row);
        let due = case.escalates(votes, now);
        self.state.set_look(writing, &row.id, due).await
    }

    /// Looks at questions whose stages ask others from now on: machines and people are told.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub(crate) async fn escalate(&self) -> Result<(), ControlError> {
        for id in self.state.looks_due(now()).await? {
            let now = now();
            let mut writing = self.state.write().await?;
            let Some(row) = self.state.question_in(&mut writing, &id).await? else {
                self.state.set_look(&mut writing, &id, None).await?;
                self.state.commit(writing).await?;
                continue;
            };
            let votes = self.state.votes_in(&mut writing, &id).await?;
            if row.state != QuestionState::Open {
                self.state.set_look(&mut writing, &id, None).await?;
                self.state.commit(writing).await?;
                continue;
            }
            self.look_again(&mut writing, &row, &votes, now).await?;
            let case = Case::new(self.state.org(), &row);
            let waiting = case.waiting(&votes, now);
            for stage in waiting.iter().filter(|stage| stage.also.is_some()) {
                let role = stage.also.as_deref().unwrap_or_default();
                let act = Act::new(Action::CaseEscalated)
                    .about(&row.id)
                    .node(row.key.node.as_str())
                    .session(row.key.session.as_str())
                    .detail(format!(
                        "stage {} asks {role} too since {} UTC",
                        stage.name,
                        clock(now)
                    ));
                self.state.note(&mut writing, &act, now).await?;
                self.tell_escalated(&mut writing, &row, (&stage.name, role), now)
                    .await?;
            }
            self.state.commit(writing).await?;
            self.tell(&id).await?;
        }
        Ok(())
    }
}
