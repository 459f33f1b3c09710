//! Machines.

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;
use stockade_api::{NodeId, node::Install};
use stockade_trust::UserId;
use stockade_types::UnixMillis;

use super::{
    access::{Action, Reach},
    call::Call,
    me::fresh,
    page::{Mood, Page, empty, foreign, may, note, state, time, token},
    problem::Problem,
    serving::{Answer, View},
};
use crate::{
    enrolling,
    state::{AckRow, EnrolTokenRow, NodeRow, UserRow},
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
}

/// A machine.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The id of the person whose machine it is.
    pub(crate) owner: Option<String>,
    pub(crate) owner_name: Option<String>,
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
}

/// Reads all machines that the caller may see.
pub(crate) async fn machines(call: &Call) -> Result<Vec<Machine>, Problem> {
    let reach = call.reach(Action::SeeFleet)?;
    let server = &call.web.server;
    let own = &call.caller()?.user;
    let users = server.state.users().await?;
    let acks = server.state.acks().await?;
    let nodes = server.state.nodes().await?;
    let is_seen = |node: &NodeRow| reach == Reach::All || node.owner.as_ref() == Some(own);
    let machine = |node: NodeRow| {
        let owner = node.owner.as_ref();
        let owner_name = owner.and_then(|id| users.iter().find(|user| user.id == *id));
        let of_node = |ack: &&AckRow| ack.node == node.id.as_str() && ack.session.is_empty();
        let ack = acks.iter().filter(of_node).max_by_key(|ack| ack.serial);
        Machine {
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
    Ok(nodes.into_iter().filter(is_seen).map(machine).collect())
}

/// `GET /fleet`
pub(crate) async fn show(call: Arc<Call>) -> Result<Fleet, Problem> {
    let state = &call.web.server.state;
    let bundles = state.bundles(1).await?;
    let people = if may(&call, Action::ManageFleet) {
        state.users().await?
    } else {
        Vec::new()
    };
    Ok(Fleet {
        people,
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
                        th scope="col" { "Not held there" } th scope="col" { "Person" }
                        th scope="col" { "Version" } th scope="col" { "Last here" }
                    } }
                    tbody { @for machine in &self.machines {
                        tr data-row {
                            th scope="row" { a href={ "/fleet/" (machine.id) } { (foreign(&machine.name)) } }
                            td { (connection(machine)) }
                            td { (policy(machine, self.serial)) }
                            td { (missing(machine)) }
                            td { (owner(machine)) }
                            td { (foreign(&machine.version)) }
                            td { @if let Some(at) = machine.last_seen { (time(at, call.now)) } @else { "never" } }
                        }
                    } }
                } }
            }
            @if may(call, Action::ManageFleet) { (enrol_form(call, &self.people)) }
        };
        Page::new("Fleet", body)
            .lead("Which machines are protected, how strongly, and which policy they have.")
            .live("fleet")
    }
}

fn enrol_form(call: &Call, people: &[UserRow]) -> Markup {
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
    let owner = match call.form.get("owner") {
        "" => None,
        id => Some(UserId(id.to_owned())),
    };
    let users = server.state.users().await?;
    let is_there = |id: &UserId| users.iter().any(|user| user.id == *id && user.is_active);
    if owner.as_ref().is_some_and(|id| !is_there(id)) {
        return Err(Problem::wrong(
            "there is no such person",
            "choose one of the list",
        ));
    }
    let row = EnrolTokenRow {
        owner,
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

/// One machine.
#[derive(Debug, Serialize)]
pub(crate) struct OneMachine {
    #[serde(flatten)]
    machine: Machine,
}

/// `GET /fleet/{node}`
pub(crate) async fn one(call: Arc<Call>) -> Result<OneMachine, Problem> {
    let id: NodeId = call.named("node")?;
    let all = machines(&call).await?;
    let found = all.into_iter().find(|machine| machine.id == id.as_str());
    found
        .map(|machine| OneMachine { machine })
        .ok_or_else(Problem::not_found)
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
            @if machine.retired.is_none() && may(call, Action::ManageFleet) {
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
    if !server.retire(&id, &by).await? {
        return Err(Problem::not_found());
    }
    Ok(Answer::See("/fleet?done=retired".to_owned(), None))
}
