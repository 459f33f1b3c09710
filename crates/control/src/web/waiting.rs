//! Which questions wait for a person.

use stockade_trust::Vote;
use stockade_types::UnixMillis;

use super::{access::Action, call::Call, caller::Caller, page::may, problem::Problem};
use crate::{
    Server,
    cases::{Case, Wanted},
    state::{QuestionRow, QuestionState},
};

/// Questions that are looked at, and listed on one page: those that are open come first.
pub(crate) const QUESTIONS: u32 = 200;

/// Tells whether a question asks a role of the caller: now, later, or to override it.
pub(crate) fn concerns(row: &QuestionRow, caller: &Caller) -> bool {
    let review = &row.sent.review;
    let stages = review.stages().map(|stage| &stage.role);
    let late = review
        .stages()
        .filter_map(|stage| stage.escalation.as_ref());
    let glass = review.break_glass.iter().map(|glass| &glass.role);
    let mut roles = stages.chain(late.map(|then| &then.role)).chain(glass);
    roles.any(|role| caller.roles.contains(role))
}

/// Returns what a question asks of the caller now.
pub(crate) fn wanted<'r>(
    call: &'r Call,
    row: &'r QuestionRow,
    votes: &[Vote],
    caller: &Caller,
    now: UnixMillis,
) -> Wanted<'r> {
    if !caller.is_person() {
        return Wanted::default();
    }
    let case = Case::new(call.web.server.state.org(), row);
    case.wants(&caller.user, &caller.roles, votes, now)
}

/// Counts the questions that wait for the caller, and the overrides that the caller can look at.
pub(crate) async fn waiting(call: &Call) -> Result<u64, Problem> {
    let Some(caller) = &call.caller else {
        return Ok(0);
    };
    if !may(call, Action::Vote) {
        return Ok(0);
    }
    let server = &call.web.server;
    let mut count = 0;
    for row in server.state.questions(QUESTIONS).await? {
        if row.state != QuestionState::Open {
            break;
        }
        if !concerns(&row, caller) {
            continue;
        }
        let votes = server.votes(&row).await?;
        let wanted = wanted(call, &row, &votes, caller, call.now);
        count += u64::from(!wanted.stages.is_empty());
    }
    for task in server.state.review_tasks(QUESTIONS).await? {
        if let Some(row) = server.state.question(&task.question).await? {
            let may = Server::may_review(&row, &task, &caller.user, &caller.roles);
            count += u64::from(may.is_ok() && caller.is_browser());
        }
    }
    Ok(count)
}
