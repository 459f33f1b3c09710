//! Which questions wait for a person.

use stockade_trust::{TeamId, Vote};
use stockade_types::UnixMillis;

use super::{
    access::{Action, Circumstances, asks},
    call::Call,
    caller::Caller,
    page::may,
    problem::Problem,
};
use crate::{
    Server,
    cases::{Case, Wanted},
    state::{QuestionRow, QuestionState},
};

/// Questions that are looked at, and listed on one page: those that are open come first.
pub(crate) const QUESTIONS: u32 = 200;

/// Tells whether a question on a machine of a team asks a role of the caller: now, later, or to override it.
fn concerns(row: &QuestionRow, caller: &Caller, team: Option<&TeamId>) -> bool {
    let asked = asks(row);
    let roles = caller.roles_within(team);
    roles.iter().any(|role| asked.contains(&role.0.as_str()))
}

/// Returns what a question asks of the caller now.
pub(crate) fn wanted<'r>(
    call: &'r Call,
    row: &'r QuestionRow,
    votes: &[Vote],
    (caller, team): (&Caller, Option<&TeamId>),
    now: UnixMillis,
) -> Wanted<'r> {
    // Who may not send a vote is not asked for one, whatever the roles are.
    let may = caller.allows_question(Action::Vote, row, team, Circumstances::BEST);
    if !caller.is_person() || !may {
        return Wanted::default();
    }
    let case = Case::new(call.web.server.state.org(), row);
    case.wants(&caller.user, &caller.roles_within(team), votes, now)
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
    let rows = server
        .state
        .questions_of(caller.teams().as_deref(), QUESTIONS)
        .await?;
    let tasks = server.state.review_tasks(QUESTIONS).await?;
    if rows.is_empty() && tasks.is_empty() {
        return Ok(0);
    }
    let teams = server.state.teams_of_nodes().await?;
    let team_of = |row: &QuestionRow| teams.get(row.key.node.as_str());
    for row in rows {
        if row.state != QuestionState::Open {
            break;
        }
        let team = team_of(&row);
        if !concerns(&row, caller, team) {
            continue;
        }
        let votes = server.votes(&row).await?;
        let wanted = wanted(call, &row, &votes, (caller, team), call.now);
        count += u64::from(!wanted.stages.is_empty());
    }
    for task in tasks {
        if let Some(row) = server.state.question(&task.question).await? {
            let roles = caller.roles_within(team_of(&row));
            let may = Server::may_review(&row, &task, &caller.user, &roles);
            count += u64::from(may.is_ok() && caller.is_browser());
        }
    }
    Ok(count)
}
