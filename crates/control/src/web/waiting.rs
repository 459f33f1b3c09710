//! Which questions wait for a person.

use stockade_api::node::StageStanding;
use stockade_trust::Vote;

use super::{access::Action, call::Call, caller::Caller, page::may, problem::Problem};
use crate::state::{QuestionRow, QuestionState};

/// Questions that are looked at, and listed on one page: those that are open come first.
pub(crate) const QUESTIONS: u32 = 200;

/// Returns the stages that roles of the caller may answer; an empty name is breaking the glass.
pub(crate) fn stages_of<'r>(row: &'r QuestionRow, caller: &Caller) -> Vec<&'r str> {
    let review = &row.sent.review;
    let stages = review.paths.iter().flatten();
    let own = stages.filter(|stage| caller.roles.contains(&stage.role));
    let glass = review
        .break_glass
        .iter()
        .filter(|glass| caller.roles.contains(&glass.role));
    own.map(|stage| stage.name.as_str())
        .chain(glass.map(|_| ""))
        .collect()
}

/// Tells whether a vote of the caller is waited for.
pub(crate) fn waits_for(
    row: &QuestionRow,
    votes: &[Vote],
    open: &[StageStanding],
    caller: &Caller,
) -> bool {
    let has_voted = votes.iter().any(|vote| vote.user == caller.user);
    let stages = stages_of(row, caller);
    let is_asked = open
        .iter()
        .any(|stage| stages.contains(&stage.name.as_str()));
    row.state == QuestionState::Open
        && caller.is_browser()
        && !has_voted
        && !row.requesters.is_empty()
        && !row.requesters.contains(&caller.user)
        && is_asked
}

/// Counts the questions that wait for the caller.
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
        let votes = server.state.votes(&row.id).await?;
        let open = server.stages(&row, &votes);
        count += u64::from(waits_for(&row, &votes, &open, caller));
    }
    Ok(count)
}
