//! Machines.

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;
use stockade_api::{NodeId, node::Install};
use stockade_policy::access::{Place, Thing};
use stockade_trust::{TeamId, UserId};
use stockade_types::UnixMillis;

use super::{
    access::{self, Action, Circumstances},
    call::Call,
    me::fresh,
    page::{Mood, Page, empty, foreign, may, note, state, time, token},
    problem::Problem,
    serving::{Answer, View},
};
use crate::{
    enrolling,
    state::{AckRow, Change, EnrolTokenRow, NodeRow, TeamRow, UserRow},
};

/// All machines.
#[derive(Debug, Serialize)]
pub(crate) struct Fleet {
    machines: Vec<Machine>,
    /// The serial of the policy in force.
    serial: Option<u64>,
    /// Who can be the owner of a machine, if the caller may enrol one.
    #[serde(skip)]
    people: Vec<UserRow>,
    /// The teams for which the caller may enrol a machine.
    #[serde(skip)]
    teams: Vec<Option<TeamRow>>,
}

/// A machine.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The id of the person whose machine it is.
    pub(crate) owner: Option<String>,
    pub(crate) owner_name: Option<String>,
    /// The id of the team that it belongs to.
    pub(crate) team: Option<String>,
    pub(crate) team_name: Option<String>,
    /// `user` or `system`: whether its user can stop and change what runs on it.
    pub(crate) install: Install,
    pub(crate) connected: bool,
    pub(crate) enrolled: UnixMillis,
    pub(crate) retired: Option<UnixMillis>,
    pub(crate) last_seen: Option<UnixMillis>,
    pub(crate) version: String,
    pub(crate) kernel: String,
    pub(crate) hostname: String,
    pub(crate) tiers: Vec<String>,
    pub(crate) guarantees_missing: Vec<String>,
    /// The serial of the policy that it has.
    pub(crate) serial: Option<u64>,
    /// What became of the last policy there: `stored`, `active` or `failed`.
    pub(crate) policy_state: Option<String>,
    pub(crate) policy_error: Option<String>,
    pub(crate) clock_skew_ms: i64,
    /// Whether the caller may manage it.
    #[serde(skip)]
    managed: bool,
}

/// Reads all machines that the caller may see.
pub(crate) async fn machines(call: &Call) -> Result<Vec<Machine>, Problem> {
    let (sight, manages) = (
        call.sight(Action::SeeFleet)?,
        call.sight(Action::ManageFleet)?,
    );
    let server = &call.web.server;
    let teams = server.state.teams().await?;
    let users = server.state.users().await?;
    let acks = server.state.acks().await?;
    let nodes = server.state.nodes().await?;
    let machine = |node: NodeRow| {
        let owner = node.owner.as_ref();
        let owner_name = owner.and_then(|id| users.iter().find(|user| user.id == *id));
        let of_node = |ack: &&AckRow| ack.node == node.id.as_str() && ack.session.is_empty();
        let ack = acks.iter().filter(of_node).max_by_key(|ack| ack.serial);
        let team = node.team.as_ref();
        let team = team.and_then(|id| teams.iter().find(|team| team.id == *id));
        Machine {
            managed: manages.has(&node),
            team: node.team.as_ref().map(|team| team.0.clone()),
            team_name: team.map(|team| team.name.clone()),
            connected: server.hub.is_connected(&node.id),
            owner_name: owner_name.map(|user| user.name.clone()),
            owner: owner.map(|id| id.0.clone()),
            install: node.install,
            enrolled: node.enrolled,
            retired: node.retired,
            last_seen: node.last_seen,
            version: node.facts.version,
            kernel: node.facts.kernel,
            hostname: node.facts.hostname,
            tiers: node.facts.tiers,
            guarantees_missing: node.facts.guarantees_missing,
            serial: node.bundle.map(|bundle| bundle.serial),
            policy_state: ack.map(|ack| ack.state.clone()),
            policy_error: ack.and_then(|ack| ack.error.clone()),
            clock_skew_ms: node.clock_skew_ms,
            id: node.id.to_string(),
            name: node.name,
        }
    };
    let seen = nodes.into_iter().filter(|node| sight.has(node));
    Ok(seen.map(machine).collect())
}

/// `GET /fleet`
pub(crate) async fn show(call: Arc<Call>) -> Result<Fleet, Problem> {
    let state = &call.web.server.state;
    let bundles = state.bundles(1).await?;
    let (people, teams) = if may(&call, Action::ManageFleet) {
        (owners(&call).await?, manageable(&call).await?)
    } else {
        (Vec::new(), Vec::new())
    };
    Ok(Fleet {
        people,
        teams,
        machines: machines(&call).await?,
        serial: bundles.first().map(|bundle| bundle.serial),
    })
}

impl View for Fleet {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            @if call.query("done") == "retired" { (note(Mood::Good, "The machine is cut off. Its sessions stay here.")) }
            @if self.machines.is_empty() {
                (empty("No machine is enrolled.", html! {
                    "A machine enrols with a token, by " code { "stockade enrol TOKEN" }
                    ". Make one below, or on this server by " code { "stockade serve enrol-token --data DIR" } "."
                }))
            } @else {
                .table { table {
                    thead { tr {
                        th scope="col" { "Machine" } th scope="col" { "State" } th scope="col" { "Policy" }
                        th scope="col" { "Not held there" } th scope="col" { "Person" } th scope="col" { "Team" }
                        th scope="col" { "Version" } th scope="col" { "Last here" }
                    } }
                    tbody { @for machine in &self.machines {
                        tr data-row {
                            th scope="row" { a href={ "/fleet/" (machine.id) } { (foreign(&machine.name)) } }
                            td { (connection(machine)) }
                            td { (policy(machine, self.serial)) }
                            td { (missing(machine)) }
                            td { (owner(machine)) }
                            td { (team(machine)) }
                            td { (foreign(&machine.version)) }
                            td { @if let Some(at) = machine.last_seen { (time(at, call.now)) } @else { "never" } }
                        }
                    } }
                } }
            }
            @if !self.teams.is_empty() { (enrol_form(call, &self.people, &self.teams)) }
        };
        Page::new("Fleet", body)
            .lead("Which machines are protected, how strongly, and which policy they have.")
            .live("fleet")
    }
}

/// Returns who can be the owner of a machine: everybody, for a caller who manages machines of the whole
/// organisation; of one team, its members and the caller.
async fn owners(call: &Call) -> Result<Vec<UserRow>, Problem> {
    let users = call.web.server.state.users().await?;
    let caller = call.caller()?;
    if call.sight(Action::ManageFleet)?.is_whole() {
        return Ok(users);
    }
    let teams = caller.teams().unwrap_or_default();
    let is_theirs = |user: &UserRow| {
        let mut held = user.team_roles.iter();
        user.id == caller.user || held.any(|held| teams.contains(&held.team))
    };
    Ok(users.into_iter().filter(is_theirs).collect())
}

/// Returns the teams whose machines the caller may manage; `None` stands for machines without a team.
async fn manageable(call: &Call) -> Result<Vec<Option<TeamRow>>, Problem> {
    let teams = call.web.server.state.teams().await?;
    let caller = call.caller()?;
    let org = call.web.server.state.org();
    let may = |team: Option<&TeamId>| {
        let place = Place {
            team: team.map(TeamId::as_str),
            owner: None,
        };
        let thing = (org, &Thing::Node(place));
        caller.allows(Action::ManageFleet, thing, Circumstances::BEST)
    };
    let mut all = Vec::new();
    if may(None) {
        all.push(None);
    }
    all.extend(
        teams
            .into_iter()
            .filter(|team| may(Some(&team.id)))
            .map(Some),
    );
    Ok(all)
}

/// The choice of a team.
fn team_field(teams: &[Option<TeamRow>], chosen: Option<&str>, id: &str) -> Markup {
    html! {
        div {
            label for=(id) {
                "Team"
                span.hint { "People who hold a role for this team see the machine and answer its questions." }
            }
            select id=(id) name="team" {
                @for team in teams {
                    @match team {
                        None => option value="" selected[chosen.is_none()] { "no team" },
                        Some(team) => option value=(team.id.0) selected[chosen == Some(team.id.as_str())] { (foreign(&team.name)) },
                    }
                }
            }
        }
    }
}

/// Reads the choice of a team.
fn chosen_team(call: &Call, field: &str) -> Result<Option<TeamId>, Problem> {
    let wrong = || Problem::wrong("there is no such team", "choose one of the list");
    match call.form.get(field) {
        "" => Ok(None),
        id => Ok(Some(TeamId::new(id).ok_or_else(wrong)?)),
    }
}

fn enrol_form(call: &Call, people: &[UserRow], teams: &[Option<TeamRow>]) -> Markup {
    let own = call.caller.as_ref().map(|caller| &caller.user);
    html! {
        h2 #enrol { "Enrol a machine" }
        form.fields method="post" action="/fleet/enrol" {
            (token(call))
            div {
                label for="enrol-owner" {
                    "Whose machine it is"
                    span.hint { "This person has no vote on its questions. Without an owner nobody has." }
                }
                select #enrol-owner name="owner" {
                    option value="" { "nobody's" }
                    @for person in people.iter().filter(|person| person.is_active) {
                        option value=(person.id.0) selected[Some(&person.id) == own] { (foreign(&person.name)) }
                    }
                }
            }
            @if teams.iter().any(Option::is_some) { (team_field(teams, None, "enrol-team")) }
            .buttons { button.main { "Make a token" } }
        }
    }
}

/// How long a token of a page works.
const TOKEN_MS: u64 = 60 * 60 * 1_000;

/// `POST /fleet/enrol`
pub(crate) async fn enrol(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let server = &call.web.server;
    let team = chosen_team(&call, "team")?;
    let teams = manageable(&call).await?;
    let is_chosen = |one: &Option<TeamRow>| one.as_ref().map(|team| &team.id) == team.as_ref();
    if !teams.iter().any(is_chosen) {
        // It is the same for a team that is not there, and for one of others.
        return Err(Problem::wrong(
            "there is no such team, or you do not manage its machines",
            "choose one of the list",
        ));
    }
    let owner = match call.form.get("owner") {
        "" => None,
        id => Some(UserId(id.to_owned())),
    };
    let users = owners(&call).await?;
    let is_there = |id: &UserId| users.iter().any(|user| user.id == *id && user.is_active);
    if owner.as_ref().is_some_and(|id| !is_there(id)) {
        return Err(Problem::wrong(
            "there is no such person",
            "choose one of the list",
        ));
    }
    let row = EnrolTokenRow {
        owner,
        team,
        created_by: call.caller()?.user.0.clone(),
        expires: UnixMillis(call.now.0.saturating_add(TOKEN_MS)),
    };
    let url = server.settings.node_url(server.running.node.port());
    let at = (server.authority.digest(), url);
    let made = enrolling::issue(&server.state, at, &row, 1).await?;
    let body = html! {
        (note(Mood::Good, "The token is made. It is shown this once."))
        p { "On the machine, as the user whose sessions are to be seen here:" }
        pre #command { @for token in &made { "stockade enrol " (token) } }
        p { "It works once, until " (time(row.expires, call.now)) ". The machine is then on the page "
            a href="/fleet" { "Fleet" } "." }
    };
    Ok(Answer::Page(Page::new("Enrol a machine", body)))
}

fn connection(machine: &Machine) -> Markup {
    match (machine.retired, machine.connected) {
        (Some(_), _) => state(Mood::Plain, "retired"),
        (None, true) => state(Mood::Good, "connected"),
        (None, false) => state(Mood::Open, "not connected"),
    }
}

fn policy(machine: &Machine, current: Option<u64>) -> Markup {
    let serial = machine
        .serial
        .map_or("none".to_owned(), |serial| format!("serial {serial}"));
    match (machine.policy_state.as_deref(), current) {
        (Some("failed"), _) => state(Mood::Bad, &format!("{serial}, the new one failed")),
        (_, None) => html! { (serial) },
        (_, Some(current)) if machine.serial == Some(current) => {
            state(Mood::Good, &format!("{serial}, stored"))
        }
        (_, Some(current)) => state(Mood::Open, &format!("{serial}, behind {current}")),
    }
}

fn missing(machine: &Machine) -> Markup {
    html! {
        @if machine.guarantees_missing.is_empty() { span.quiet { "nothing" } }
        @else { (foreign(&machine.guarantees_missing.join(", "))) }
    }
}

fn owner(machine: &Machine) -> Markup {
    html! {
        @match (&machine.owner_name, &machine.owner) {
            (Some(name), _) => (foreign(name)),
            (None, Some(id)) => (foreign(id)),
            (None, None) => span.quiet { "unknown" },
        }
    }
}

fn team(machine: &Machine) -> Markup {
    html! {
        @match (&machine.team_name, &machine.team) {
            (Some(name), _) => (foreign(name)),
            (None, Some(id)) => (foreign(id)),
            (None, None) => span.quiet { "none" },
        }
    }
}

/// One machine.
#[derive(Debug, Serialize)]
pub(crate) struct OneMachine {
    #[serde(flatten)]
    machine: Machine,
    /// The teams to which the caller may give it.
    #[serde(skip)]
    teams: Vec<Option<TeamRow>>,
}

/// `GET /fleet/{node}`
pub(crate) async fn one(call: Arc<Call>) -> Result<OneMachine, Problem> {
    let id: NodeId = call.named("node")?;
    let all = machines(&call).await?;
    let found = all.into_iter().find(|machine| machine.id == id.as_str());
    let machine = found.ok_or_else(Problem::not_found)?;
    let teams = if machine.managed {
        manageable(&call).await?
    } else {
        Vec::new()
    };
    Ok(OneMachine { machine, teams })
}

impl View for OneMachine {
    fn page(&self, call: &Call) -> Page {
        let machine = &self.machine;
        let install = match machine.install {
            Install::User => {
                "by its user, who can stop the agent of the machine and change its files"
            }
            Install::System => "by root",
        };
        let body = html! {
            dl.facts {
                dt { "State" } dd { (connection(machine)) }
                dt { "Person" } dd { (owner(machine)) }
                dt { "Team" } dd { (team(machine)) }
                dt { "Installed" } dd { (install) }
                dt { "Own name" } dd { (foreign(&machine.hostname)) }
                dt { "Version" } dd { (foreign(&machine.version)) }
                dt { "Kernel" } dd { (foreign(&machine.kernel)) }
                dt { "Tiers" } dd { (foreign(&machine.tiers.join(", "))) }
                dt { "Not held there" } dd { (missing(machine)) }
                dt { "Policy" } dd { (policy(machine, None)) }
                @if let Some(error) = &machine.policy_error { dt { "Error" } dd.bad { (foreign(error)) } }
                dt { "Clock" } dd { (machine.clock_skew_ms) " ms ahead of this server" }
                dt { "Enrolled" } dd { (time(machine.enrolled, call.now)) }
                dt { "Id" } dd { code { (machine.id) } }
            }
            p.quiet { "The machine says this about itself; only its key is verified." }
            p { a href={ "/sessions?node=" (machine.id) } { "Its sessions" } }
            @if call.query("done") == "team" { (note(Mood::Good, "The machine belongs to that team, and has been told.")) }
            @if machine.retired.is_none() && machine.managed && self.teams.iter().any(Option::is_some) {
                h2 { "Team" }
                form.fields method="post" action={ "/fleet/" (machine.id) "/team" } {
                    (token(call))
                    input type="hidden" name="seen" value=(machine.team.as_deref().unwrap_or_default());
                    (team_field(&self.teams, machine.team.as_deref(), "team"))
                    .buttons { button { "Change the team" } }
                }
            }
            @if machine.retired.is_none() && machine.managed {
                h2 { "Retire" }
                p { "The machine is cut off at once, and its key is not accepted again. Its sessions stay here." }
                form method="post" action={ "/fleet/" (machine.id) "/retire" } {
                    (token(call))
                    button.no { "Retire " (foreign(&machine.name)) }
                }
            }
        };
        Page::new(
            stockade_types::RawText::from(machine.name.as_str()).display(),
            body,
        )
        .live("fleet")
    }
}

/// `POST /fleet/{node}/retire`
pub(crate) async fn retire(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let id: NodeId = call.named("node")?;
    let by = call.caller()?.user.0.clone();
    let server = &call.web.server;
    managed(&call, &id).await?;
    if !server.retire(&id, &by).await? {
        return Err(Problem::not_found());
    }
    Ok(Answer::See("/fleet?done=retired".to_owned(), None))
}

/// Finds a machine that the caller may see, and lets through who may manage it.
async fn managed(call: &Call, id: &NodeId) -> Result<NodeRow, Problem> {
    let node = call.web.server.state.node(id).await?;
    let sight = call.sight(Action::SeeFleet)?;
    let node = node.filter(|node| sight.has(node) && node.retired.is_none());
    let node = node.ok_or_else(Problem::not_found)?;
    let thing = access::machine(&node);
    call.permit(Action::ManageFleet, &thing, Circumstances::default())?;
    Ok(node)
}

/// `POST /fleet/{node}/team`
pub(crate) async fn set_team(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let id: NodeId = call.named("node")?;
    managed(&call, &id).await?;
    let seen = chosen_team(&call, "seen")?;
    let wanted = chosen_team(&call, "team")?;
    // A machine goes to a team only if the caller manages the machines there too.
    let teams = manageable(&call).await?;
    let is_wanted = |one: &Option<TeamRow>| one.as_ref().map(|team| &team.id) == wanted.as_ref();
    if !teams.iter().any(is_wanted) {
        return Err(Problem::wrong(
            "there is no such team, or you do not manage its machines",
            "choose one of the list",
        ));
    }
    let by = call.caller()?.user.0.clone();
    let change = (seen.as_ref(), wanted.as_ref());
    match call.web.server.give_to_team(&id, change, &by).await? {
        Change::Done => Ok(Answer::See(format!("/fleet/{id}?done=team"), None)),
        change => Err(super::teams::refused(change)),
    }
}
