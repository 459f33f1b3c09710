//! Sessions, and what happened in one.

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;
use stockade_api::NodeId;
use stockade_event::Summary;
use stockade_types::{RawText, SessionId, UnixMillis};

use super::{
    access::{Action, Reach},
    call::Call,
    page::{Mood, Page, empty, foreign, raw, state, time},
    problem::Problem,
    serving::View,
};
use crate::state::{NodeRow, SessionRow, UserRow};

/// Sessions of one page.
const SESSIONS: u32 = 200;

/// Sessions.
#[derive(Debug, Serialize)]
pub(crate) struct Sessions {
    /// Those whose records grew last come first.
    pub(crate) sessions: Vec<Session>,
    /// Whether older ones were left out.
    more: bool,
}

/// A session.
#[derive(Debug, Serialize)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) node: NodeId,
    pub(crate) machine: String,
    /// The name of the person whose machine it is.
    pub(crate) person: Option<String>,
    pub(crate) command: Vec<RawText>,
    pub(crate) workspace: RawText,
    pub(crate) tier: String,
    pub(crate) preset: String,
    pub(crate) live: bool,
    pub(crate) started: Option<UnixMillis>,
    pub(crate) ended: Option<UnixMillis>,
    /// Events that are here and verified.
    pub(crate) events: u64,
    pub(crate) asked: u64,
    pub(crate) denials: u64,
    /// Guarantees that do not hold or were waived.
    pub(crate) weaknesses: Vec<String>,
    /// Whether the signed end is here.
    pub(crate) closed: bool,
    /// What is wrong with the record.
    pub(crate) fault: Option<String>,
    pub(crate) updated: UnixMillis,
}

/// What is needed to say whose a session is.
struct Fleet {
    nodes: Vec<NodeRow>,
    users: Vec<UserRow>,
    reach: Reach,
    own: stockade_trust::UserId,
}

impl Fleet {
    async fn read(call: &Call) -> Result<Self, Problem> {
        let state = &call.web.server.state;
        Ok(Self {
            reach: call.reach(Action::SeeSessions)?,
            own: call.caller()?.user.clone(),
            nodes: state.nodes().await?,
            users: state.users().await?,
        })
    }

    /// Returns the session if the caller may see it.
    fn session(&self, row: SessionRow) -> Option<Session> {
        let node = self.nodes.iter().find(|node| node.id == row.key.node)?;
        let owner = node.owner.as_ref();
        if self.reach == Reach::Own && owner != Some(&self.own) {
            return None;
        }
        let person = self.users.iter().find(|user| Some(&user.id) == owner);
        let summary: Summary = serde_json::from_str(&row.summary).unwrap_or_default();
        Some(Session {
            machine: node.name.clone(),
            person: person.map(|user| user.name.clone()),
            denials: summary.denials(),
            asked: summary.asked,
            weaknesses: summary
                .weaknesses
                .iter()
                .map(|weakness| weakness.guarantee.clone())
                .collect(),
            command: summary.command,
            workspace: summary.workspace,
            tier: summary.tier,
            preset: summary.preset,
            live: row.is_live,
            started: row.started,
            ended: row.ended,
            events: row.stored.events,
            closed: row.stored.closed,
            fault: row.fault,
            updated: row.updated,
            id: row.key.session,
            node: row.key.node,
        })
    }
}

/// `GET /sessions`
pub(crate) async fn show(call: Arc<Call>) -> Result<Sessions, Problem> {
    let fleet = Fleet::read(&call).await?;
    let rows = call.web.server.state.sessions(SESSIONS + 1).await?;
    let more = rows.len() > usize::try_from(SESSIONS).unwrap_or(usize::MAX);
    let node = call.query("node");
    let of_node = |session: &Session| node.is_empty() || session.node.as_str() == node;
    let sessions = rows
        .into_iter()
        .filter_map(|row| fleet.session(row))
        .filter(of_node);
    Ok(Sessions {
        sessions: sessions.collect(),
        more,
    })
}

impl View for Sessions {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            @if self.sessions.is_empty() {
                (empty("No session has reached this server.", html! {
                    "On an enrolled machine, run " code { "stockade node run" } " and "
                    code { "stockade run -- codex" } "."
                }))
            } @else {
                .table { table {
                    thead { tr {
                        th scope="col" { "Agent" } th scope="col" { "State" } th scope="col" { "Person, machine" }
                        th scope="col" { "Boundary" } th.number scope="col" { "Events" } th.number scope="col" { "Asked" }
                        th.number scope="col" { "Denied" } th scope="col" { "Record" } th scope="col" { "Last event" }
                    } }
                    tbody { @for session in &self.sessions { (row(session, call)) } }
                } }
                @if self.more { p.quiet { "Older sessions are not shown." } }
            }
        };
        Page::new("Sessions", body)
            .lead("Who runs what, under which boundary.")
            .live("sessions")
    }
}

fn row(session: &Session, call: &Call) -> Markup {
    html! {
        tr data-row {
            th scope="row" {
                a href={ "/sessions/" (session.node) "/" (session.id.as_str()) } { (command(session)) }
                span.hint { (raw(&session.workspace)) }
            }
            td { (life(session)) }
            td {
                @if let Some(person) = &session.person { (foreign(person)) } @else { span.quiet { "unknown person" } }
                span.hint { (foreign(&session.machine)) }
            }
            td { (boundary(session)) }
            td.number { (session.events) }
            td.number { (session.asked) }
            td.number { @if session.denials > 0 { span.bad { (session.denials) } } @else { "0" } }
            td { (record(session)) }
            td { (time(session.updated, call.now)) }
        }
    }
}

/// Writes the command, or the id if the first event is not here yet.
pub(crate) fn command(session: &Session) -> Markup {
    html! {
        @if session.command.is_empty() { code { (session.id.as_str()) } }
        @else { @for (index, word) in session.command.iter().take(12).enumerate() {
            @if index > 0 { " " } (raw(word))
        } }
    }
}

fn life(session: &Session) -> Markup {
    match (session.live, session.ended) {
        (_, Some(_)) => state(Mood::Plain, "ended"),
        (true, None) => state(Mood::Good, "running"),
        (false, None) => state(Mood::Open, "not connected"),
    }
}

fn boundary(session: &Session) -> Markup {
    html! {
        (foreign(&session.tier))
        @if !session.weaknesses.is_empty() {
            span.hint { span.bad { "not held: " } (foreign(&session.weaknesses.join(", "))) }
        }
    }
}

fn record(session: &Session) -> Markup {
    match (&session.fault, session.closed) {
        (Some(_), _) => state(Mood::Bad, "broken"),
        (None, true) => state(Mood::Good, "whole, signed"),
        (None, false) => state(Mood::Open, "verified so far"),
    }
}
