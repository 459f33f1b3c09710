//! Questions, from the machine that asks to the grant that it verifies.
//!
//! A question is open, and then granted, denied, expired or closed; from none of these leads any way back.
//! Everything that a vote needs is decided by [`judge`], which is pure; here it is written in one transaction.

mod eligible;
#[cfg(test)]
mod histories;
mod judge;
mod late;
mod reviews;

use stockade_api::{
    Problem,
    limits::{QUESTION_MS_MAX, QUESTIONS_MAX},
    node::{Answered, Down, QuestionAnswer, QuestionSent, StageStanding},
};
use stockade_trust::{Directory, Envelope, Proof, UserId, Vote};
use stockade_types::{ApprovalId, Digest, UnixMillis};

pub use eligible::{Shortfall, shortfalls};
pub use judge::{Case, CaseError, Choosing, Counting, Wanted};
pub use reviews::{ReviewError, Reviewing};

use crate::{
    Changed, ControlError, Server,
    act::{Act, Action},
    clock::now,
    keys::only,
    random,
    state::{NodeRow, QuestionRow, QuestionState, SessionKey, Writing},
};

/// How long ago a person may have signed in who votes without a passkey or key on the ballot itself.
pub const FRESH_MS: u64 = 5 * 60 * 1_000;
/// Who denies, when it is nobody in particular.
const IN_TIME: &str = "nobody answered in time";

/// A person who votes.
#[derive(Clone, Debug)]
pub struct Voter {
    /// Who.
    pub user: UserId,
    /// When the person last proved who it is.
    pub signed_in: UnixMillis,
}

impl Server {
    /// Takes a question of a machine. The same one can be sent again.
    ///
    /// # Errors
    /// When it is not what its machine may ask, its text is not what the server makes of it, there are too
    /// many, or the state cannot be written.
    pub(crate) async fn open(
        &self,
        node: &NodeRow,
        key: SessionKey,
        approval: ApprovalId,
        sent: QuestionSent,
    ) -> Result<Result<QuestionAnswer, Problem>, ControlError> {
        let now = now();
        if let Err(problem) = acceptable(&sent, now) {
            if problem.status == 422 {
                let detail = format!("question {approval}: {}", problem.title);
                let accused = Some(&key.session);
                self.state
                    .accuse(&node.id, accused, "text-mismatch", &detail, now)
                    .await?;
            }
            return Ok(Err(problem));
        }
        let mut writing = self.state.write().await?;
        if let Some(known) = self
            .state
            .question_of(&mut writing, &key, &approval)
            .await?
        {
            drop(writing);
            if known.sent != sent {
                let title = "the session has asked something else under this id";
                return Ok(Err(Problem::new(409, "question-changed", title)));
            }
            return Ok(Ok(self.standing(&known).await?));
        }
        if self.state.open_count(&mut writing, &node.id).await? >= QUESTIONS_MAX {
            let title = format!("{QUESTIONS_MAX} questions of this machine are open");
            let mut problem = Problem::new(429, "questions", title);
            problem.retry_ms = Some(1_000);
            return Ok(Err(problem));
        }
        let row = QuestionRow {
            id: random::name("q-")?,
            key,
            approval,
            requesters: requesters(node, &sent),
            state: QuestionState::Open,
            asked: now,
            expires: sent.question.expires,
            closed: None,
            why: None,
            delivered: None,
            version: 1,
            sent,
        };
        self.state.add_question(&mut writing, &row).await?;
        self.look_again(&mut writing, &row, &[], now).await?;
        self.tell_waiting(&mut writing, &row, &[], now).await?;
        self.state.commit(writing).await?;
        self.hub.changed(Changed::Question(row.id.clone()));
        Ok(Ok(self.standing(&row).await?))
    }

    /// Returns how a question stands, as its machine is told.
    async fn standing(&self, row: &QuestionRow) -> Result<QuestionAnswer, ControlError> {
        let answer = self.answer(row).await?;
        let stages = if row.state == QuestionState::Open {
            let votes = self.votes(row).await?;
            self.stages(row, &votes)
        } else {
            Vec::new()
        };
        Ok(QuestionAnswer { answer, stages })
    }

    /// Returns the answer to a question, if there is one.
    pub(crate) async fn answer(&self, row: &QuestionRow) -> Result<Option<Answered>, ControlError> {
        let denied = |reason: Option<String>, by: &str| {
            Some(Answered::Denied {
                reason,
                by: by.to_owned(),
            })
        };
        Ok(match row.state {
            QuestionState::Open | QuestionState::Closed => None,
            QuestionState::Granted => {
                let envelope = self.state.grant(&row.id).await?;
                envelope.map(|envelope| Answered::Granted { envelope })
            }
            QuestionState::Denied => denied(row.why.clone(), "people of the organisation"),
            QuestionState::Expired => denied(Some(IN_TIME.to_owned()), "server"),
        })
    }

    /// Returns the votes on a question. If those on an open one would suffice, some do not count any more,
    /// and only the others are returned: their people, roles, passkeys or keys were removed since.
    pub(crate) async fn votes(&self, row: &QuestionRow) -> Result<Vec<Vote>, ControlError> {
        let votes = self.state.votes(&row.id).await?;
        let is_open = row.state == QuestionState::Open;
        if !is_open || votes.is_empty() || !self.stages(row, &votes).is_empty() {
            return Ok(votes);
        }
        let team = self.state.team_of(&row.key.node).await?;
        let directory = self.people().await?.within(team.as_ref());
        let case = Case::new(self.state.org(), row);
        Ok(case.valid((&directory, &self.party), &votes))
    }

    /// Returns the stages that wait for votes.
    pub fn stages(&self, row: &QuestionRow, votes: &[Vote]) -> Vec<StageStanding> {
        let case = Case::new(self.state.org(), row);
        case.waiting(votes, now())
    }

    /// Makes the vote of a person ready to be signed with a passkey or key: returns it with what has to be
    /// signed.
    ///
    /// # Errors
    /// When the person may not vote so.
    pub async fn ballot(
        &self,
        user: &UserId,
        id: &str,
        choosing: &Choosing,
    ) -> Result<Result<(Vote, Digest), CaseError>, ControlError> {
        let directory = self.people().await?;
        let Some(row) = self.state.question(id).await? else {
            return Ok(Err(CaseError::Unknown));
        };
        let team = self.state.team_of(&row.key.node).await?;
        let directory = directory.within(team.as_ref());
        let votes = self.votes(&row).await?;
        let case = Case::new(self.state.org(), &row);
        let drafted = case.draft(&directory, user, &votes, choosing, Proof::Session {}, now());
        Ok(drafted.map(|vote| {
            let challenge = case.ballot().challenge(&vote);
            (vote, challenge)
        }))
    }

    /// Takes the vote of a person. If it completes the review, or denies it, the machine is told at once.
    ///
    /// # Errors
    /// When the person may not vote so, or it is too late. The outer error is one of the server.
    pub async fn vote(
        &self,
        voter: &Voter,
        id: &str,
        choosing: &Choosing,
        proof: Proof,
    ) -> Result<Result<QuestionState, CaseError>, ControlError> {
        // First the people, so that machines have them before they get the grant.
        let directory = self.people().await?;
        let now = now();
        let mut writing = self.state.write().await?;
        let Some(row) = self.state.question_in(&mut writing, id).await? else {
            return Ok(Err(CaseError::Unknown));
        };
        // Roles that are held for another team than the machine's count for nothing.
        let team = self.state.team_in(&mut writing, &row.key.node).await?;
        let directory = directory.within(team.as_ref());
        let votes = self.state.votes_in(&mut writing, id).await?;
        let case = Case::new(self.state.org(), &row);
        let with = (&directory, &self.party);
        // Of a person who has voted it is said below, also if that vote does not count any more.
        let votes = if votes.iter().any(|vote| vote.user == voter.user) {
            votes
        } else {
            case.valid(with, &votes)
        };
        let cast = case.cast(with, voter, &votes, choosing, proof, now);
        let (vote, counting) = match cast {
            Ok(cast) => cast,
            Err(error) => return Ok(Err(error)),
        };
        if !self.state.add_vote(&mut writing, id, &vote).await? {
            return Ok(Err(CaseError::Twice));
        }
        self.note_vote(&mut writing, &row, &vote, now).await?;
        let state = match counting {
            Counting::Open => {
                let all: Vec<Vote> = votes.into_iter().chain([vote]).collect();
                self.look_again(&mut writing, &row, &all, now).await?;
                self.tell_waiting(&mut writing, &row, &all, now).await?;
                QuestionState::Open
            }
            Counting::Denied { ref why } => {
                let why = why.as_deref();
                let denied = QuestionState::Denied;
                let is_settled = self
                    .state
                    .settle_question(&mut writing, &row, denied, why, now);
                if !is_settled.await? {
                    return Ok(Err(CaseError::Over));
                }
                denied
            }
            Counting::Granted { ref votes } => {
                let granted = self.issue(&mut writing, &case, &directory, votes.clone(), now);
                if let Err(error) = granted.await? {
                    return Ok(Err(error));
                }
                QuestionState::Granted
            }
        };
        self.state.commit(writing).await?;
        self.tell(&row.id).await?;
        Ok(Ok(state))
    }

    async fn note_vote(
        &self,
        writing: &mut Writing,
        row: &QuestionRow,
        vote: &Vote,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let choice = match vote.choice {
            stockade_trust::Choice::Allow => "allow",
            stockade_trust::Choice::Deny => "deny",
        };
        let stage = if vote.stage.is_empty() {
            "break_glass"
        } else {
            &vote.stage
        };
        let reason = vote.reason.as_deref().unwrap_or_default();
        let act = Act::new(Action::VoteCast)
            .by(&vote.user.0)
            .about(&row.id)
            .node(row.key.node.as_str())
            .session(row.key.session.as_str())
            .digest(row.sent.rendered)
            .detail(format!(
                "{choice} {} for stage {stage}: {reason}",
                vote.scope
            ));
        self.state.note(writing, &act, now).await
    }

    /// Signs the grant. It is checked as the machine will check it: the server says nothing that it would
    /// not believe itself.
    async fn issue(
        &self,
        writing: &mut Writing,
        case: &Case<'_>,
        directory: &Directory,
        votes: Vec<Vote>,
        now: UnixMillis,
    ) -> Result<Result<(), CaseError>, ControlError> {
        let row = case.row();
        let grant = case.grant(votes);
        let envelope = Envelope::seal(&grant, &[&self.keys.server])?;
        let servers = only(&self.keys.server);
        if let Err(why) = case.verify(&envelope, directory, &servers, &self.party, now) {
            return Ok(Err(CaseError::Grant(why)));
        }
        let state = QuestionState::Granted;
        let settled = self.state.settle_question(writing, row, state, None, now);
        if !settled.await? {
            return Ok(Err(CaseError::Over));
        }
        let kept = self
            .state
            .add_grant(writing, &row.id, &envelope, grant.not_after, now);
        kept.await?;
        if let Some(glass) = grant.votes.first().filter(|_| grant.broken_glass) {
            self.await_review(writing, row, glass, now).await?;
        }
        let act = Act::new(Action::GrantIssued)
            .about(&row.id)
            .node(row.key.node.as_str())
            .session(row.key.session.as_str())
            .digest(grant.request)
            .detail(format!("{}, {} votes", grant.scope, grant.votes.len()));
        self.state.note(writing, &act, now).await?;
        Ok(Ok(()))
    }

    /// Tells the machine and those who look how a question stands.
    pub(crate) async fn tell(&self, id: &str) -> Result<(), ControlError> {
        let Some(row) = self.state.question(id).await? else {
            return Ok(());
        };
        let (session, approval) = (row.key.session.clone(), row.approval.clone());
        let standing = self.standing(&row).await?;
        if matches!(standing.answer, Some(Answered::Granted { .. })) {
            // What the machine needs to believe votes of people of its team.
            self.tell_team(&row.key.node).await?;
        }
        let message = match standing.answer {
            Some(answer) => Down::Answer {
                session,
                approval,
                answer,
            },
            None => Down::Case {
                session,
                approval,
                stages: standing.stages,
            },
        };
        self.hub.send(&row.key.node, &message);
        self.hub.changed(Changed::Question(row.id));
        Ok(())
    }

    /// Notes that a machine asks no more: it has the answer, or the program that asked is gone.
    pub(crate) async fn close(
        &self,
        key: &SessionKey,
        approval: &ApprovalId,
        why: &str,
    ) -> Result<bool, ControlError> {
        let now = now();
        let mut writing = self.state.write().await?;
        let Some(row) = self.state.question_of(&mut writing, key, approval).await? else {
            return Ok(false);
        };
        let closed = QuestionState::Closed;
        // It is no mistake if it is settled: then the machine has the answer.
        self.state
            .settle_question(&mut writing, &row, closed, Some(why), now)
            .await?;
        self.state.delivered(&mut writing, &row, now).await?;
        self.state.commit(writing).await?;
        self.hub.changed(Changed::Question(row.id));
        Ok(true)
    }

    /// Ends questions that nobody answered in time.
    pub(crate) async fn expire(&self) -> Result<(), ControlError> {
        let now = now();
        for row in self.state.overdue(now).await? {
            let mut writing = self.state.write().await?;
            let expired = QuestionState::Expired;
            let why = Some(IN_TIME);
            let settled = self
                .state
                .settle_question(&mut writing, &row, expired, why, now);
            settled.await?;
            self.state.commit(writing).await?;
            self.tell(&row.id).await?;
        }
        Ok(())
    }

    /// Returns the people as machines know them.
    pub(crate) async fn people(&self) -> Result<Directory, ControlError> {
        let row = self.directory_row().await?;
        Ok(row.envelope.open(&only(&self.keys.people))?)
    }
}

/// Writes a time of day as `10:04:05`.
fn clock(time: UnixMillis) -> String {
    let seconds = time.0 / 1_000 % (24 * 60 * 60);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

/// Checks what a machine asks before anybody sees it.
fn acceptable(sent: &QuestionSent, now: UnixMillis) -> Result<(), Problem> {
    if sent.question.shown().digest() != sent.rendered {
        let title = "the text of the question is not what the server makes of it";
        let remedy = "bring Stockade on the machine and on the server to one version";
        return Err(Problem::new(422, "question-text", title).remedy(remedy));
    }
    if sent.question.grounds.review.as_ref() != Some(&sent.review) {
        let title = "the question names other people in its text than those who are to answer";
        return Err(Problem::new(422, "question-review", title)
            .remedy("bring Stockade on the machine and on the server to one version"));
    }
    sent.review
        .check()
        .map_err(|error| Problem::new(400, "question-review", error.to_string()))?;
    let expires = sent.question.expires;
    let latest = now.0.saturating_add(QUESTION_MS_MAX);
    if expires <= now || expires.0 > latest {
        let title = "the question has expired, or expires in more than a day";
        return Err(Problem::new(400, "question-expires", title)
            .remedy("compare the clocks of the machine and the server"));
    }
    Ok(())
}

/// Returns whose question it is: the owner of the machine, and who the machine says it is.
fn requesters(node: &NodeRow, sent: &QuestionSent) -> Vec<UserId> {
    let mut all: Vec<UserId> = node.owner.iter().chain(&sent.user).cloned().collect();
    all.dedup();
    all
}
