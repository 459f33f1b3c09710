//! Teams: their names, and the roles that people hold for them.

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;
use stockade_trust::TeamId;

use super::{
    access::Action,
    call::Call,
    page::{foreign, may, token},
    problem::Problem,
    serving::Answer,
    sign_in::{NAME_CHARS_MAX, person_name},
};
use crate::{
    random,
    roles::TeamRole,
    state::{Change, NodeRow, TEAMS_MAX, TeamRow, UserRow},
};

/// A role that is held for one team.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Held {
    /// The id of the team.
    pub(super) team: String,
    /// Its name.
    pub(super) name: String,
    pub(super) role: String,
}

/// A team.
#[derive(Debug, Serialize)]
pub(crate) struct Team {
    pub(super) id: String,
    pub(super) name: String,
    /// The names of the people who hold a role for it.
    members: Vec<String>,
    /// How many machines belong to it.
    machines: usize,
    /// Grows by each change; a form that names an older one is refused.
    version: u64,
}

/// Names the teams of roles.
pub(super) fn held(roles: &[TeamRole], teams: &[TeamRow]) -> Vec<Held> {
    let one = |held: &TeamRole| {
        let team = teams.iter().find(|team| team.id == held.team);
        Held {
            team: held.team.0.clone(),
            name: team.map_or_else(|| held.team.0.clone(), |team| team.name.clone()),
            role: held.role.clone(),
        }
    };
    roles.iter().map(one).collect()
}

/// Writes roles: those for the whole organisation, then those for teams.
pub(super) fn in_words(whole: &[String], of_teams: &[Held]) -> Markup {
    html! {
        @if whole.is_empty() && of_teams.is_empty() { "none" }
        (whole.join(", "))
        @for (index, held) in of_teams.iter().enumerate() {
            @if index > 0 || !whole.is_empty() { ", " }
            (held.role) " for " (foreign(&held.name))
        }
    }
}

/// Makes teams as pages show them.
pub(super) fn listed(teams: Vec<TeamRow>, users: &[UserRow], nodes: &[NodeRow]) -> Vec<Team> {
    let one = |team: TeamRow| {
        let is_member = |user: &&UserRow| {
            user.is_active && user.team_roles.iter().any(|held| held.team == team.id)
        };
        let is_its =
            |node: &&NodeRow| node.retired.is_none() && node.team.as_ref() == Some(&team.id);
        Team {
            members: users
                .iter()
                .filter(is_member)
                .map(|user| user.name.clone())
                .collect(),
            machines: nodes.iter().filter(is_its).count(),
            id: team.id.0.clone(),
            name: team.name.clone(),
            version: team.version,
        }
    };
    teams.into_iter().map(one).collect()
}

/// The part of the page about teams.
pub(super) fn section(teams: &[Team], call: &Call) -> Markup {
    let manages = may(call, Action::ManagePeople);
    html! {
        h2 #teams { "Teams" }
        @if teams.is_empty() {
            p.quiet { "There is no team. Roles are held for the whole organisation." }
        } @else {
            .table tabindex="0" role="region" aria-label="Teams" { table {
                thead { tr {
                    th scope="col" { "Team" } th scope="col" { "Members" } th.number scope="col" { "Machines" }
                    @if manages { th scope="col" { "Change" } }
                } }
                tbody { @for team in teams {
                    tr data-row {
                        th scope="row" { (foreign(&team.name)) }
                        td { (if team.members.is_empty() { "none".to_owned() } else { String::new() })
                            (foreign(&team.members.join(", "))) }
                        td.number { (team.machines) }
                        @if manages { td { (change_forms(team, call)) } }
                    }
                } }
            } }
        }
        @if manages && teams.len() < TEAMS_MAX {
            form.fields method="post" action="/people/teams" {
                (token(call))
                div {
                    label for="team-name" { "New team" span.hint { "Machines belong to one team at most. People are members by the roles that they hold for it." } }
                    input #team-name name="name" required maxlength=(NAME_CHARS_MAX) autocomplete="off";
                }
                .buttons { button { "Make a team" } }
            }
        }
    }
}

fn change_forms(team: &Team, call: &Call) -> Markup {
    let path = format!("/people/teams/{}", team.id);
    html! {
        details {
            summary { "Rename or remove " (foreign(&team.name)) }
            form.fields method="post" action=(path) {
                (token(call))
                input type="hidden" name="version" value=(team.version);
                div {
                    label for={ "name-" (team.id) } { "Name" }
                    input id={ "name-" (team.id) } name="name" required maxlength=(NAME_CHARS_MAX)
                        autocomplete="off" value=(team.name);
                }
                .buttons { button { "Rename" } }
            }
            form method="post" action={ (path) "/remove" } {
                (token(call))
                input type="hidden" name="version" value=(team.version);
                button.no { "Remove " (foreign(&team.name)) }
            }
        }
    }
}

/// Says why a change was not made.
pub(super) fn refused(change: Change) -> Problem {
    match change {
        Change::Done => Problem::conflict("it is done already", "load the page again"),
        Change::Gone => Problem::not_found(),
        Change::Stale => Problem::conflict(
            "somebody else has changed it since this page was loaded",
            "load the page again, look at what has changed, and change it again",
        ),
        Change::NameTaken => Problem::conflict("the name is taken", "choose another one"),
        Change::TooMany => Problem::conflict(
            "there are too many teams, or the person would hold too many roles",
            "remove one first",
        ),
        Change::InUse => Problem::conflict(
            "machines, roles, invitations or tokens still name the team",
            "give its machines to another team and take its roles first",
        ),
        Change::LastAdmin => Problem::conflict(
            "no administrator would be left",
            "make another person an administrator first",
        ),
    }
}

/// Reads the version that a form shows.
pub(super) fn version(call: &Call) -> Result<u64, Problem> {
    call.form.get("version").parse().map_err(|_| {
        Problem::wrong(
            "the form does not say which version it changes (`version`)",
            "load the page again, and send the form again",
        )
    })
}

fn named(call: &Call) -> Result<TeamId, Problem> {
    TeamId::new(call.param("team")).ok_or_else(Problem::not_found)
}

fn answered(change: Change, done: &str) -> Result<Answer, Problem> {
    match change {
        Change::Done => Ok(Answer::See(format!("/people?done={done}"), None)),
        change => Err(refused(change)),
    }
}

/// `POST /people/teams`
pub(crate) async fn make(call: Arc<Call>) -> Result<Answer, Problem> {
    call.caller()?.fresh(call.now)?;
    let name = person_name(call.form.get("name"))?;
    let id = TeamId(random::name("tm-")?);
    let by = &call.caller()?.user.0;
    let state = &call.web.server.state;
    answered(state.add_team(&id, &name, by, call.now).await?, "team")
}

/// `POST /people/teams/{team}`
pub(crate) async fn rename(call: Arc<Call>) -> Result<Answer, Problem> {
    call.caller()?.fresh(call.now)?;
    let (id, seen) = (named(&call)?, version(&call)?);
    let name = person_name(call.form.get("name"))?;
    let by = &call.caller()?.user.0;
    let state = &call.web.server.state;
    let change = state.rename_team((&id, seen), &name, by, call.now).await?;
    answered(change, "team")
}

/// `POST /people/teams/{team}/remove`
pub(crate) async fn remove(call: Arc<Call>) -> Result<Answer, Problem> {
    call.caller()?.fresh(call.now)?;
    let (id, seen) = (named(&call)?, version(&call)?);
    let by = &call.caller()?.user.0;
    let state = &call.web.server.state;
    let change = state.remove_team((&id, seen), by, call.now).await?;
    answered(change, "team-removed")
}
