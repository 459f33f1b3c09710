//! The answer of a person to a question, as a form says it.

use std::sync::Arc;

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::html;
use stockade_policy::Scope;
use stockade_trust::{Choice, Proof, TeamId};
use stockade_types::UnixMillis;

use super::{one::one, row};
use crate::{
    cases::{CaseError, Choosing, ReviewError, Reviewing, Voter},
    state::QuestionRow,
    web::{
        access::{Action, Circumstances},
        call::Call,
        caller::Caller,
        me::fresh,
        problem::Problem,
        serving::{Answer, View as _, data_of},
        sign_in::{Challenge, failure},
    },
};

/// Reads what the caller chose.
///
/// # Errors
/// What is missing or wrong.
pub(crate) fn choosing(call: &Call) -> Result<Choosing, Problem> {
    let form = &call.form;
    let wrong = |what: &str| {
        Problem::wrong(
            format!("`{what}` is missing or wrong"),
            "load the page again",
        )
    };
    let choice = match form.get("choice") {
        "" => form.get("passkey_choice"),
        choice => choice,
    };
    let not_after = match form.get("not_after") {
        "" => None,
        text => Some(UnixMillis(text.parse().map_err(|_| wrong("not_after"))?)),
    };
    let scope = match form.get("scope") {
        "" => Scope::Once,
        text => text.parse().map_err(|_| wrong("scope"))?,
    };
    let reason = form.get("reason").trim();
    Ok(Choosing {
        stage: Some(form.get("stage"))
            .filter(|stage| !stage.is_empty())
            .map(str::to_owned),
        breaks_glass: form.get("breaks_glass") == "yes",
        choice: match choice {
            "allow" => Choice::Allow,
            "deny" => Choice::Deny,
            _ => return Err(wrong("choice")),
        },
        scope,
        not_after,
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        rendered: form
            .get("rendered")
            .parse()
            .map_err(|_| wrong("rendered"))?,
    })
}

/// `POST /api/v1/questions/{question}/challenge`
pub(crate) async fn challenge(call: Arc<Call>) -> Result<Answer, Problem> {
    let (row, team) = row(&call).await?;
    let caller = call.caller()?;
    // What is signed is proved by the passkey that signs it.
    may_vote(&call, &row, team.as_ref(), true)?;
    let server = &call.web.server;
    let ballot = server
        .ballot(&caller.user, &row.id, &choosing(&call)?)
        .await?;
    let (vote, digest) = ballot.map_err(|error| refused(&error))?;
    let passkeys = server.state.passkeys(&caller.user).await?;
    if passkeys.is_empty() {
        return Err(Problem::conflict(
            "you have no passkey",
            "register one on the page of your account",
        ));
    }
    let challenge = Challenge {
        signed: URL_SAFE_NO_PAD.encode(digest.as_bytes()),
        party: server.party.id.clone(),
        passkeys: passkeys.into_iter().map(|row| row.id).collect(),
        handle: None,
        name: None,
        not_after: Some(vote.not_after.0),
    };
    Ok(Answer::Json(data_of(&challenge)?))
}

/// `POST /inbox/{question}`
pub(crate) async fn vote(call: Arc<Call>) -> Result<Answer, Problem> {
    let (row, team) = row(&call).await?;
    let caller = call.caller()?;
    let proof =
        match call.form.get("passkey") {
            "" => {
                fresh(&call)?;
                Proof::Session {}
            }
            said => {
                let assertion = serde_json::from_str(said);
                Proof::Passkey(assertion.map_err(|_| {
                    Problem::wrong("the passkey's answer cannot be read", "try again")
                })?)
            }
        };
    if !caller.is_browser() {
        return Err(Problem::forbidden(
            "a person has to answer",
            "sign in on the page",
        ));
    }
    let proves = matches!(proof, Proof::Passkey(_));
    may_vote(&call, &row, team.as_ref(), proves)?;
    let voter = Voter {
        user: caller.user.clone(),
        signed_in: caller.signed_in,
    };
    let voted = call
        .web
        .server
        .vote(&voter, &row.id, &choosing(&call)?, proof)
        .await?;
    match voted {
        Ok(_) => Ok(Answer::See(format!("/inbox/{}?done=voted", row.id), None)),
        Err(CaseError::Stale) => Err(Problem::stale()),
        Err(error) => again(&call, &refused(&error)).await,
    }
}

/// Lets through who may send a vote on a question; the case judges what the vote is worth. `proves` tells whether the
/// vote itself, or the sign-in of the terminal that sends it, proves who it is.
pub(crate) fn may_vote(
    call: &Call,
    row: &QuestionRow,
    team: Option<&TeamId>,
    proves: bool,
) -> Result<(), Problem> {
    votable(call, call.caller()?, (row, team), proves).map_err(|error| refused(&error))
}

/// The same, in the words of a case.
pub(super) fn votable(
    call: &Call,
    caller: &Caller,
    (row, team): (&QuestionRow, Option<&TeamId>),
    proves: bool,
) -> Result<(), CaseError> {
    let is_requester = row.requesters.contains(&caller.user);
    let how = Circumstances {
        step_up: proves || caller.is_fresh(call.now),
        is_requester,
        ..Circumstances::default()
    };
    if caller.allows_question(Action::Vote, row, team, how) {
        return Ok(());
    }
    Err(if is_requester {
        CaseError::Requester
    } else {
        CaseError::Role
    })
}

/// Shows the question again with what was wrong, if the answer can be corrected.
async fn again(call: &Arc<Call>, problem: &Problem) -> Result<Answer, Problem> {
    let view = one(Arc::clone(call)).await?;
    let mut page = view.page(call);
    page.body = html! { (failure(problem)) (page.body) };
    let code = StatusCode::from_u16(problem.told.status).unwrap_or(StatusCode::CONFLICT);
    Ok(Answer::Again(code, page))
}

/// Says why a vote is none.
pub(crate) fn refused(error: &CaseError) -> Problem {
    let words = error.to_string();
    match error {
        CaseError::Unknown => Problem::not_found(),
        CaseError::Over
        | CaseError::Twice
        | CaseError::Stage(_)
        | CaseError::Text
        | CaseError::Grant(_) => Problem::conflict(words, "read the question again"),
        CaseError::NotYet(_) | CaseError::Early(_) => {
            Problem::conflict(words, "answer again when it is time")
        }
        CaseError::Role
        | CaseError::Requester
        | CaseError::RequesterUnknown
        | CaseError::NoGlass => Problem::forbidden(words, "another person has to answer"),
        CaseError::Reason => Problem::wrong(words, "say why"),
        CaseError::Scope(_) => Problem::wrong(words, "choose less"),
        CaseError::Stale => Problem::stale(),
        CaseError::Proof(_) => {
            Problem::wrong(words, "try again with a passkey or a key of your account")
        }
    }
}

/// `POST /inbox/{question}/review`
pub(crate) async fn review(call: Arc<Call>) -> Result<Answer, Problem> {
    let (row, _) = row(&call).await?;
    fresh(&call)?;
    let caller = call.caller()?;
    let reviewing = Reviewing {
        justified: match call.form.get("verdict") {
            "justified" => true,
            "not-justified" => false,
            _ => {
                return Err(Problem::wrong(
                    "`verdict` is missing or wrong",
                    "load the page again",
                ));
            }
        },
        note: call.form.get("note").to_owned(),
    };
    let server = &call.web.server;
    match server.review(&caller.user, &row.id, &reviewing).await? {
        Ok(()) => Ok(Answer::See(
            format!("/inbox/{}?done=reviewed", row.id),
            None,
        )),
        Err(error) => again(&call, &not_reviewed(&error)).await,
    }
}

/// Says why a review is none.
fn not_reviewed(error: &ReviewError) -> Problem {
    let words = error.to_string();
    match error {
        ReviewError::Unknown => Problem::not_found(),
        ReviewError::Done => Problem::conflict(words, "read the question again"),
        ReviewError::Involved | ReviewError::Role => {
            Problem::forbidden(words, "another person has to look at it")
        }
        ReviewError::Note => Problem::wrong(words, "say why"),
    }
}
