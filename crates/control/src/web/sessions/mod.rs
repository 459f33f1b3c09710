//! Sessions, and what happened in one.

mod actions;
mod draw;
mod events;
mod timeline;
mod tree;

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;
use stockade_api::NodeId;
use stockade_event::Summary;
use stockade_types::{RawText, SessionId, UnixMillis};

pub(super) use self::{
    actions::{read_content, stop},
    events::{event, events, read},
    timeline::one,
};
use super::{
    access::{Action, Sight},
    call::Call,
    page::{Mood, Page, empty, foreign, raw, state, time},
    problem::Problem,
    serving::View,
};
use crate::{
    index::Seen,
    state::{Listing, NodeRow, SessionKey, SessionRow, Standing, UserRow},
};

/// Sessions of one page.
const SESSIONS: u32 = 60;
/// Characters of a command in a title.
const TITLE_CHARS_MAX: usize = 160;

/// Sessions.
#[derive(Debug, Serialize)]
pub(crate) struct Sessions {
    /// Those whose records grew last come first.
    pub(crate) sessions: Vec<Session>,
    /// Where older ones begin: `?before=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<UnixMillis>,
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
pub(super) struct Fleet {
    pub(super) nodes: Vec<NodeRow>,
    pub(super) users: Vec<UserRow>,
    sight: Sight,
    own: stockade_trust::UserId,
}

impl Fleet {
    /// Reads machines and people.
    ///
    /// # Errors
    /// When the caller may see no session, or the state cannot be read.
    pub(super) async fn read(call: &Call) -> Result<Self, Problem> {
        Self::read_for(call, Action::SeeSessions).await
    }

    async fn read_for(call: &Call, action: Action) -> Result<Self, Problem> {
        let state = &call.web.server.state;
        Ok(Self {
            sight: call.sight(action)?,
            own: call.caller()?.user.clone(),
            nodes: state.nodes().await?,
            users: state.users().await?,
        })
    }

    /// Tells whether a machine is the caller's own.
    pub(super) fn is_own(&self, node: &NodeId) -> bool {
        self.node(node)
            .is_some_and(|node| node.owner.as_ref() == Some(&self.own))
    }

    /// Returns a machine.
    pub(super) fn node(&self, id: &NodeId) -> Option<&NodeRow> {
        self.nodes.iter().find(|node| node.id == *id)
    }

    /// Tells whether the caller may see the sessions of a machine.
    pub(super) fn may_see(&self, node: &NodeId) -> bool {
        self.node(node).is_some_and(|node| self.sight.has(node))
    }

    /// Says whose sessions the caller may look for.
    pub(super) fn seen(&self) -> Seen {
        if self.sight.is_whole() {
            return Seen::All;
        }
        let seen = self.nodes.iter().filter(|node| self.sight.has(node));
        Seen::Of(seen.map(|node| node.id.clone()).collect())
    }

    /// Returns the name of a machine.
    pub(super) fn machine(&self, node: &NodeId) -> String {
        let found = self.nodes.iter().find(|one| one.id == *node);
        found.map_or_else(|| node.to_string(), |node| node.name.clone())
    }

    /// Returns the name of a person.
    pub(super) fn person(&self, id: &stockade_trust::UserId) -> String {
        let found = self.users.iter().find(|user| user.id == *id);
        found.map_or_else(|| id.0.clone(), |user| user.name.clone())
    }

    /// Returns the session if the caller may see it.
    pub(super) fn session(&self, row: SessionRow) -> Option<Session> {
        let node = self.nodes.iter().find(|node| node.id == row.key.node)?;
        let owner = node.owner.as_ref();
        if !self.sight.has(node) {
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

/// Reads how sessions of the list have to stand.
fn standing(call: &Call) -> Standing {
    match call.query("state") {
        "running" => Standing::Running,
        "broken" => Standing::Broken,
        _ => Standing::Any,
    }
}

/// `GET /sessions`
pub(crate) async fn show(call: Arc<Call>) -> Result<Sessions, Problem> {
    let fleet = Fleet::read(&call).await?;
    let node = call.query("node").parse::<NodeId>().ok();
    let nodes = match (node, fleet.seen()) {
        (Some(node), _) => Some(if fleet.may_see(&node) {
            vec![node]
        } else {
            Vec::new()
        }),
        (None, Seen::Of(nodes)) => Some(nodes),
        (None, Seen::All) => None,
    };
    let before = call.query("before").parse().ok().map(UnixMillis);
    let list = Listing {
        nodes: nodes.as_deref(),
        standing: standing(&call),
        before,
        count_max: SESSIONS + 1,
    };
    let mut rows = call.web.server.state.listed(&list).await?;
    let page = usize::try_from(SESSIONS).unwrap_or(usize::MAX);
    let more = rows.len() > page;
    rows.truncate(page);
    let next = rows.last().filter(|_| more).map(|row| row.updated);
    let sessions = rows.into_iter().filter_map(|row| fleet.session(row));
    Ok(Sessions {
        sessions: sessions.collect(),
        next,
    })
}

impl View for Sessions {
    fn page(&self, call: &Call) -> Page {
        let wanted = call.query("state");
        let body = html! {
            nav.choices aria-label="Which sessions" {
                @for (state, words) in [("", "All"), ("running", "Running"), ("broken", "Broken records")] {
                    a href={ "/sessions" @if !state.is_empty() { "?state=" (state) } }
                        aria-current=[(wanted == state).then_some("true")] { (words) }
                }
            }
            @if self.sessions.is_empty() && !wanted.is_empty() {
                (empty("No session is so.", html! { a href="/sessions" { "All sessions" } }))
            } @else if self.sessions.is_empty() {
                (empty("No session has reached this server.", html! {
                    "On an enrolled machine, run " code { "stockade node run" } " and "
                    code { "stockade run -- codex" } "."
                }))
            } @else {
                .table tabindex="0" role="region" aria-label="Sessions" { table {
                    thead { tr {
                        th scope="col" { "Agent" } th scope="col" { "State" } th scope="col" { "Person, machine" }
                        th scope="col" { "Boundary" } th.number scope="col" { "Events" } th.number scope="col" { "Asked" }
                        th.number scope="col" { "Denied" } th scope="col" { "Record" } th scope="col" { "Last event" }
                    } }
                    tbody { @for session in &self.sessions { (row(session, call)) } }
                } }
                @if let Some(next) = self.next {
                    @let more: String = url::form_urlencoded::Serializer::new(String::new())
                        .append_pair("state", wanted).append_pair("node", call.query("node"))
                        .append_pair("before", &next.0.to_string()).finish();
                    nav.pager aria-label="Pages of sessions" { a.button href={ "/sessions?" (more) } { "Older" } }
                }
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

/// Finds a session that the caller may see, by the path of the request.
///
/// # Errors
/// When there is none.
pub(super) async fn find(call: &Call) -> Result<(Fleet, SessionRow, Session), Problem> {
    find_for(call, Action::SeeSessions).await
}

/// Finds a session of which the caller may do something, by the path of the request.
///
/// # Errors
/// When there is none.
pub(super) async fn find_for(
    call: &Call,
    action: Action,
) -> Result<(Fleet, SessionRow, Session), Problem> {
    let key = SessionKey {
        node: call.named("node")?,
        session: call.named("session")?,
    };
    let fleet = Fleet::read_for(call, action).await?;
    let row = call.web.server.state.session(&key).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    let session = fleet.session(row.clone()).ok_or_else(Problem::not_found)?;
    Ok((fleet, row, session))
}

/// Returns the command as the title of a page.
pub(super) fn words(session: &Session) -> String {
    let words: Vec<String> = session
        .command
        .iter()
        .take(12)
        .map(RawText::display)
        .collect();
    if words.is_empty() {
        session.id.as_str().to_owned()
    } else {
        stockade_event::text::cut(&words.join(" "), TITLE_CHARS_MAX)
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
