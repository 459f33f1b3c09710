//! Where what is told comes from: each is noted in the transaction in which it happens.

use stockade_trust::Vote;
use stockade_types::{Severity, UnixMillis};

use crate::{
    ControlError, Server,
    cases::Case,
    index::row::Raised,
    notice::{Kind, Notice, finding},
    state::{QuestionRow, RolloutRow, SessionKey, State, Writing},
};

/// Findings of records that are older than this are not told: a server that makes its index again would tell
/// of all of them. What was told is remembered for longer.
const FINDING_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;

fn of_question(kind: Kind, row: &QuestionRow, now: UnixMillis) -> Notice {
    let shown = row.sent.question.shown();
    let rule = row.sent.question.grounds.rule.as_ref();
    Notice {
        question: Some(row.id.clone()),
        requesters: row.requesters.clone(),
        node: Some(row.key.node.clone()),
        rule: rule.map(ToString::to_string),
        summary: format!("{} {}", shown.title, shown.summary()),
        expires: Some(row.expires),
        ..Notice::new(kind, now, format!("/inbox/{}", row.id))
    }
}

impl Server {
    /// Notes that a question waits for the people of its open stages. Each is told once of each stage.
    pub(crate) async fn tell_waiting(
        &self,
        writing: &mut Writing,
        row: &QuestionRow,
        votes: &[Vote],
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let case = Case::new(self.state.org(), row);
        let review = &row.sent.review;
        for standing in case.waiting(votes, now) {
            let Some(stage) = review.stage(&standing.name) else {
                continue;
            };
            let notice = Notice {
                role: Some(stage.role.0.clone()),
                ..of_question(Kind::QuestionWaiting, row, now)
            };
            let event = format!("question {} {}", row.id, stage.name);
            self.state.tell(writing, &event, &notice).await?;
        }
        Ok(())
    }

    /// Notes that a stage asks others, too.
    pub(crate) async fn tell_escalated(
        &self,
        writing: &mut Writing,
        row: &QuestionRow,
        (stage, role): (&str, &str),
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let notice = Notice {
            role: Some(role.to_owned()),
            ..of_question(Kind::CaseEscalated, row, now)
        };
        let event = format!("escalated {} {stage}", row.id);
        self.state.tell(writing, &event, &notice).await
    }

    /// Notes that one person has overridden all stages.
    pub(crate) async fn tell_override(
        &self,
        writing: &mut Writing,
        row: &QuestionRow,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let notice = Notice {
            expires: None,
            ..of_question(Kind::GlassBroken, row, now)
        };
        let event = format!("glass {}", row.id);
        self.state.tell(writing, &event, &notice).await
    }

    /// Notes that a rollout was halted.
    pub(crate) async fn tell_halt(
        &self,
        writing: &mut Writing,
        row: &RolloutRow,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let notice = Notice {
            summary: row.why.clone(),
            ..Notice::new(Kind::RolloutHalted, now, format!("/rollouts/{}", row.id))
        };
        let event = format!("halt {}", row.id);
        self.state.tell(writing, &event, &notice).await
    }
}

/// Makes what is told of a finding, if it is one that must be looked at: once for each kind in a session.
fn of_raised(key: &SessionKey, raised: &Raised, now: UnixMillis) -> Option<(String, Notice)> {
    let is_old = now.0.saturating_sub(raised.at) > FINDING_MS_MAX;
    if raised.severity != Severity::High || is_old {
        return None;
    }
    let id = format!("{}/{}/{}", key.node, key.session, raised.seq);
    let summary = format!("{}: {}", raised.title, raised.detail);
    let event = format!("finding {} {} {}", key.node, key.session, raised.kind);
    Some((event, finding(&key.node, &id, summary, now)))
}

impl State {
    /// Notes findings that must be looked at, before the index has them: then a kill loses none.
    pub(crate) async fn tell_findings(
        &self,
        key: &SessionKey,
        raised: &[Raised],
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let found = raised.iter().filter_map(|one| of_raised(key, one, now));
        let found: Vec<(String, Notice)> = found.collect();
        if found.is_empty() {
            return Ok(());
        }
        let mut writing = self.write().await?;
        for (event, notice) in &found {
            self.tell(&mut writing, event, notice).await?;
        }
        self.commit(writing).await
    }
}
