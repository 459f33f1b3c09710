//! What terminals ask in which people are signed in: questions as machines sent them, and votes.

use std::sync::Arc;

use stockade_api::terminal::{BallotThere, QuestionThere, TerminalHere, VoteTaken};
use stockade_trust::{Proof, UserId};

use super::{
    call::Call,
    caller::By,
    inbox::{choosing, may_vote, refused, row},
    problem::Problem,
    serving::{Answer, data_of},
    waiting::wanted,
};
use crate::{
    cases::{CaseError, Voter},
    state::QuestionState,
};

/// Returns the id of the terminal that asks.
fn own(call: &Call) -> Result<&str, Problem> {
    match &call.caller()?.by {
        By::Terminal { id } => Ok(id),
        By::Browser { .. } | By::Token => Err(Problem::wrong(
            "this is for terminals in which a person is signed in",
            "sign one in: `stockade login`",
        )),
    }
}

/// `GET /api/v1/terminal`
pub(crate) async fn here(call: Arc<Call>) -> Result<Answer, Problem> {
    own(&call)?;
    let caller = call.caller()?;
    let state = &call.web.server.state;
    let keys = state.approver_keys().await?.into_iter();
    let keys = keys.filter(|key| key.user == caller.user && key.approved.is_some());
    Ok(Answer::Json(data_of(&TerminalHere {
        user: caller.user.clone(),
        name: caller.name.clone(),
        org: state.org().to_owned(),
        signed_in: caller.signed_in,
        keys: keys.map(|key| key.key).collect(),
    })?))
}

/// `POST /api/v1/terminal/logout`
pub(crate) async fn out(call: Arc<Call>) -> Result<Answer, Problem> {
    let id = own(&call)?;
    let state = &call.web.server.state;
    let user = &call.caller()?.user;
    state.revoke_terminal(user, id, call.now).await?;
    Ok(Answer::Json(serde_json::json!({"signed_out": true})))
}

/// `GET /api/v1/questions/{question}/sent`: a question as its machine sent it, so that a terminal makes the
/// text itself.
pub(crate) async fn sent(call: Arc<Call>) -> Result<Answer, Problem> {
    let (row, team) = row(&call).await?;
    let server = &call.web.server;
    let votes = server.votes(&row).await?;
    let stages = if row.state == QuestionState::Open {
        server.stages(&row, &votes)
    } else {
        Vec::new()
    };
    let who = (call.caller()?, team.as_ref());
    let wanted = wanted(&call, &row, &votes, who, call.now);
    let waits_for_you = wanted.stages.iter().map(|stage| stage.name.clone());
    let waits_for_you = waits_for_you.collect();
    let node = row.key.node.to_string();
    let machines = server.state.nodes().await?;
    let machine = machines.into_iter().find(|one| one.id == row.key.node);
    let people = server.state.users().await?;
    let name = |id: &UserId| {
        let found = people.iter().find(|user| user.id == *id);
        found.map_or_else(|| id.0.clone(), |user| user.name.clone())
    };
    let requesters = row.requesters.iter().map(name).collect();
    Ok(Answer::Json(data_of(&QuestionThere {
        machine: machine.map_or_else(|| node.clone(), |machine| machine.name),
        node,
        session: row.key.session,
        approval: row.approval,
        state: row.state.word().to_owned(),
        sent: row.sent,
        stages,
        waits_for_you,
        requesters,
        id: row.id,
    })?))
}

/// `POST /api/v1/questions/{question}/ballot`: whether a person may vote so, and what the server adds to the
/// vote before it is signed.
pub(crate) async fn ballot(call: Arc<Call>) -> Result<Answer, Problem> {
    let (row, team) = row(&call).await?;
    may_vote(&call, &row, team.as_ref(), true)?;
    own(&call)?;
    let user = &call.caller()?.user;
    let server = &call.web.server;
    let drafted = server.ballot(user, &row.id, &choosing(&call)?).await?;
    let (vote, _) = drafted.map_err(|error| refused(&error))?;
    Ok(Answer::Json(data_of(&BallotThere {
        stage: vote.stage,
        not_after: vote.not_after,
    })?))
}

/// `POST /api/v1/questions/{question}/vote`: a vote that an approver key has signed, or one shortly after
/// its person has signed the terminal in.
pub(crate) async fn vote(call: Arc<Call>) -> Result<Answer, Problem> {
    let (row, team) = row(&call).await?;
    may_vote(&call, &row, team.as_ref(), true)?;
    own(&call)?;
    let caller = call.caller()?;
    let proof = match call.form.get("key") {
        "" => Proof::Session {},
        key => {
            let wrong = || Problem::wrong("`key` is no id of a key", "give the id of a key");
            let key = serde_json::from_value(key.into()).map_err(|_| wrong())?;
            Proof::Key {
                key,
                signature: call.form.get("signature").to_owned(),
            }
        }
    };
    if proof == (Proof::Session {}) && !caller.has_just_signed_in(call.now) {
        return Err(stale());
    }
    let voter = Voter {
        user: caller.user.clone(),
        signed_in: caller.signed_in,
    };
    let server = &call.web.server;
    let choosing = choosing(&call)?;
    match server.vote(&voter, &row.id, &choosing, proof).await? {
        Ok(state) => Ok(Answer::Json(data_of(&VoteTaken {
            state: state.word().to_owned(),
        })?)),
        Err(CaseError::Stale) => Err(stale()),
        Err(error) => Err(refused(&error)),
    }
}

fn stale() -> Problem {
    Problem::forbidden(
        "a vote without a key needs a sign-in that is less than 5 minutes old",
        "sign in again with `stockade login`, or sign with an approver key",
    )
}
