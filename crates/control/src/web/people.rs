//! People: who may do what, and links for those who are invited.

use std::sync::Arc;

use axum::http::StatusCode;
use maud::{Markup, html};
use serde::Serialize;
use stockade_policy::access::ROLES_OF_THE_WHOLE;
use stockade_trust::{TeamId, UserId};
use stockade_types::UnixMillis;

use super::{
    access::{Action, ROLES, is_for_teams, is_role_name},
    call::Call,
    me::fresh,
    page::{Mood, Page, foreign, may, note, state, time, token},
    problem::Problem,
    serving::{Answer, View},
    sign_in::{NAME_CHARS_MAX, person_name},
    teams::{self, Held, Team},
};
use crate::{
    random,
    roles::ROLES_MAX,
    state::{Change, LinkKind, LinkRow, WantedRoles},
};

/// How long an invitation works: over a weekend.
const INVITE_MS: u64 = 3 * 24 * 60 * 60 * 1000;

/// All people.
#[derive(Debug, Serialize)]
pub(crate) struct People {
    people: Vec<Person>,
    teams: Vec<Team>,
}

/// A person.
#[derive(Debug, Serialize)]
struct Person {
    id: String,
    name: String,
    active: bool,
    /// Held for the whole organisation.
    roles: Vec<String>,
    /// Held for one team.
    team_roles: Vec<Held>,
    /// Grows by each change; a form that names an older one is refused.
    version: u64,
    passkeys: usize,
    created: UnixMillis,
    last_seen: Option<UnixMillis>,
}

/// `GET /people`
pub(crate) async fn show(call: Arc<Call>) -> Result<People, Problem> {
    let server = &call.web.server;
    let mut people = Vec::new();
    let users = server.state.users().await?;
    let rows = server.state.teams().await?;
    let nodes = server.state.nodes().await?;
    let teams = teams::listed(rows.clone(), &users, &nodes);
    for user in users {
        let passkeys = server.state.passkeys(&user.id).await?;
        people.push(Person {
            id: user.id.0,
            name: user.name,
            active: user.is_active,
            roles: user.roles,
            team_roles: teams::held(&user.team_roles, &rows),
            version: user.version,
            passkeys: passkeys.len(),
            created: user.created,
            last_seen: user.last_seen,
        });
    }
    Ok(People { people, teams })
}

impl View for People {
    fn page(&self, call: &Call) -> Page {
        let manages = may(call, Action::ManagePeople);
        let body = html! {
            @if call.query("done") == "roles" { (note(Mood::Good, "The roles are changed, and every machine is told.")) }
            @if call.query("done") == "team" { (note(Mood::Good, "The team is changed.")) }
            @if call.query("done") == "team-removed" { (note(Mood::Good, "The team is removed.")) }
            @if call.query("done") == "removed" { (note(Mood::Good, "The person can sign in and answer no more.")) }
            .table { table {
                thead { tr {
                    th scope="col" { "Person" } th scope="col" { "Roles" } th.number scope="col" { "Passkeys" }
                    th scope="col" { "Last here" } th scope="col" { "State" }
                } }
                tbody { @for person in &self.people {
                    tr data-row {
                        th scope="row" {
                            @if manages { a href={ "/people/" (person.id) } { (foreign(&person.name)) } }
                            @else { (foreign(&person.name)) }
                        }
                        td { (teams::in_words(&person.roles, &person.team_roles)) }
                        td.number { (person.passkeys) }
                        td { @if let Some(at) = person.last_seen { (time(at, call.now)) } @else { "never" } }
                        td { (standing(person)) }
                    }
                } }
            } }
            (teams::section(&self.teams, call))
            @if manages { p { a href="/keys" { "Approver keys" } } }
            @if manages { (invite_form(call, "", &[], (&self.teams, &[]), None)) }
        };
        Page::new("People", body)
            .lead("Who may do what. Machines verify strong answers against this list.")
    }
}

fn standing(person: &Person) -> Markup {
    if person.active {
        state(Mood::Good, "active")
    } else {
        state(Mood::Plain, "removed")
    }
}

fn role_fields(chosen: &[&str], (teams, held): (&[Team], &[Held]), prefix: &str) -> Markup {
    let known = |role: &&&str| ROLES.contains(*role);
    let others: Vec<&str> = chosen.iter().filter(|role| !known(role)).copied().collect();
    html! {
        fieldset {
            legend { "Roles for the whole organisation" }
            .roles { @for name in ROLES {
                label.choice {
                    input type="checkbox" name="role" value=(name) checked[chosen.contains(&name)];
                    (name)
                }
            } }
            label for={ (prefix) "-others" } {
                "Roles that a policy asks"
                span.hint { "Names with spaces between, for example: owner security" }
            }
            input id={ (prefix) "-others" } name="others" value=(others.join(" "));
        }
        @if !teams.is_empty() {
            fieldset {
                legend { "Roles for one team" }
                p.hint {
                    "Names with spaces between, for example: developer security. "
                    (ROLES_OF_THE_WHOLE.join(", ")) " are held for the whole organisation alone."
                }
                @for team in teams {
                    div {
                        label for={ (prefix) "-" (team.id) } { (foreign(&team.name)) }
                        input id={ (prefix) "-" (team.id) } name={ (TEAM_FIELD) (team.id) } autocomplete="off"
                            value=(of_team(held, &team.id));
                    }
                }
            }
        }
    }
}

/// What the names of fields begin with that have the roles for a team.
const TEAM_FIELD: &str = "team:";

fn of_team(held: &[Held], team: &str) -> String {
    let own = held.iter().filter(|held| held.team == team);
    let roles: Vec<&str> = own.map(|held| held.role.as_str()).collect();
    roles.join(" ")
}

fn invite_form(
    call: &Call,
    name: &str,
    chosen: &[&str],
    teams: (&[Team], &[Held]),
    problem: Option<&Problem>,
) -> Markup {
    html! {
        h2 #invite { "Invite a person" }
        @if let Some(problem) = problem { (super::sign_in::failure(problem)) }
        form.fields method="post" action="/people/invite" {
            (token(call))
            div {
                label for="invite-name" { "Name" }
                input #invite-name name="name" required maxlength=(NAME_CHARS_MAX) autocomplete="off" value=(name);
            }
            (role_fields(chosen, teams, "invite"))
            .buttons { button.main { "Make a link" } }
        }
    }
}

/// Reads the roles of a form.
fn chosen(call: &Call) -> Result<WantedRoles, Problem> {
    let boxes = call.form.all("role");
    let others = call.form.all("others").flat_map(str::split_whitespace);
    let mut wanted = WantedRoles {
        whole: checked(boxes.chain(others))?,
        ..WantedRoles::default()
    };
    for (name, value) in call.form.below(TEAM_FIELD) {
        let team = TeamId::new(name).ok_or_else(Problem::not_found)?;
        let roles = checked(value.split_whitespace())?;
        if let Some(wrong) = roles.iter().find(|role| !is_for_teams(role)) {
            return Err(Problem::wrong(
                format!("`{wrong}` is held for the whole organisation alone"),
                "choose it there, or another role for the team",
            ));
        }
        wanted.teams.insert(team, roles);
    }
    Ok(wanted)
}

fn checked<'a>(roles: impl Iterator<Item = &'a str>) -> Result<Vec<String>, Problem> {
    let mut roles: Vec<String> = roles.map(str::to_owned).collect();
    roles.sort();
    roles.dedup();
    if let Some(wrong) = roles.iter().find(|role| !is_role_name(role)) {
        let shown: String = wrong.chars().take(40).collect();
        return Err(Problem::wrong(
            format!("`{shown}` is no name of a role"),
            "write lower-case letters, digits and `-`, for example `code-owner`",
        ));
    }
    if roles.len() > ROLES_MAX {
        return Err(Problem::wrong(
            format!("more than {ROLES_MAX} roles"),
            "choose fewer",
        ));
    }
    Ok(roles)
}

/// Writes roles as a link keeps them.
fn written(wanted: &WantedRoles) -> Vec<String> {
    let of_team = |(team, roles): (&TeamId, &Vec<String>)| {
        let one = |role: &String| format!("{role}@{}", team.0);
        roles.iter().map(one).collect::<Vec<_>>()
    };
    let teams = wanted.teams.iter().flat_map(of_team);
    wanted.whole.iter().cloned().chain(teams).collect()
}

/// `POST /people/invite`
pub(crate) async fn invite(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let caller = call.caller()?;
    let read = person_name(call.form.get("name")).and_then(|name| Ok((name, chosen(&call)?)));
    let read = match read {
        Ok((name, roles)) => {
            let there = call.web.server.state.user_named(&name).await?;
            match there {
                Some(_) => Err(Problem::wrong("the name is taken", "choose another one")),
                None => Ok((name, roles)),
            }
        }
        Err(problem) => Err(problem),
    };
    let (name, roles) = match read {
        Ok(read) => read,
        Err(problem) => {
            let roles: Vec<&str> = call.form.all("role").collect();
            let rows = call.web.server.state.teams().await?;
            let teams = teams::listed(rows, &[], &[]);
            let name = call.form.get("name");
            let form = invite_form(&call, name, &roles, (&teams, &[]), Some(&problem));
            return Ok(Answer::Again(
                StatusCode::BAD_REQUEST,
                Page::new("People", form),
            ));
        }
    };
    let secret = random::secret()?;
    let expires = UnixMillis(call.now.0.saturating_add(INVITE_MS));
    let row = LinkRow {
        kind: LinkKind::Invite,
        name: name.clone(),
        roles: written(&roles),
        created_by: caller.user.0.clone(),
        expires,
    };
    let state = &call.web.server.state;
    let added = state.add_link(&random::hash(&secret), &row, call.now).await;
    added?;
    let link = format!("{}/setup?token={secret}", call.web.server.party.origin);
    let body = html! {
        (note(Mood::Good, "The link is made. It is shown this once."))
        p { "Give it to " (foreign(&name)) " on a way that only this person reads. It works once, until "
            (time(expires, call.now)) "." }
        pre #link { (link) }
        p { a href="/people" { "Back to people" } }
    };
    Ok(Answer::Page(Page::new("Invitation", body)))
}

/// One person, to be changed.
#[derive(Debug, Serialize)]
pub(crate) struct OnePerson {
    #[serde(flatten)]
    person: Person,
    #[serde(skip)]
    teams: Vec<Team>,
}

/// `GET /people/{user}`
pub(crate) async fn one(call: Arc<Call>) -> Result<OnePerson, Problem> {
    let wanted = call.param("user").to_owned();
    let all = show(Arc::clone(&call)).await?;
    let People { people, teams } = all;
    let found = people.into_iter().find(|person| person.id == wanted);
    found
        .map(|person| OnePerson { person, teams })
        .ok_or_else(Problem::not_found)
}

impl View for OnePerson {
    fn page(&self, call: &Call) -> Page {
        let person = &self.person;
        let roles: Vec<&str> = person.roles.iter().map(String::as_str).collect();
        let body = html! {
            dl.facts {
                dt { "Id" } dd { code { (person.id) } }
                dt { "State" } dd { (standing(person)) }
                dt { "Since" } dd { (time(person.created, call.now)) }
                dt { "Passkeys" } dd { (person.passkeys) }
            }
            @if person.active && may(call, Action::ManagePeople) {
                h2 { "Roles" }
                form.fields method="post" action={ "/people/" (person.id) "/roles" } {
                    (token(call))
                    input type="hidden" name="version" value=(person.version);
                    (role_fields(&roles, (&self.teams, &person.team_roles), "roles"))
                    .buttons { button.main { "Change the roles" } }
                }
                h2 { "Remove" }
                p { "The person can sign in and answer no more. Earlier answers stay in the record." }
                form method="post" action={ "/people/" (person.id) "/remove" } {
                    (token(call))
                    button.no { "Remove " (foreign(&person.name)) }
                }
            }
            p { a href="/people" { "All people" } }
        };
        Page::new(
            stockade_types::RawText::from(person.name.as_str()).display(),
            body,
        )
    }
}

/// `POST /people/{user}/roles`
pub(crate) async fn set_roles(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let by = call.caller()?.user.0.clone();
    let (wanted, seen) = (chosen(&call)?, teams::version(&call)?);
    let state = &call.web.server.state;
    let id = UserId(call.param("user").to_owned());
    let change = state.set_roles((&id, seen), &wanted, &by, call.now).await?;
    if change != Change::Done {
        return Err(teams::refused(change));
    }
    call.web.people_changed().await?;
    Ok(Answer::See("/people?done=roles".to_owned(), None))
}

/// `POST /people/{user}/remove`
pub(crate) async fn remove(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let by = call.caller()?.user.0.clone();
    let state = &call.web.server.state;
    let id = UserId(call.param("user").to_owned());
    let user = state.user(&id).await?;
    user.filter(|user| user.is_active)
        .ok_or_else(Problem::not_found)?;
    if !state.deactivate_user(&id, &by, call.now).await? {
        return Err(teams::refused(Change::LastAdmin));
    }
    call.web.people_changed().await?;
    Ok(Answer::See("/people?done=removed".to_owned(), None))
}
