//! Sessions, and what happened in one.

use std::{path::Path, sync::Arc};

use maud::{Markup, html};
use serde::Serialize;
use stockade_api::NodeId;
use stockade_event::{Envelope, Summary};
use stockade_journal::layout::session_dir;
use stockade_types::{RawText, SessionId, UnixMillis, Verdict};

use super::{
    access::{Action, Reach},
    call::Call,
    page::{Mood, Page, empty, foreign, note, raw, state, time},
    problem::Problem,
    serving::View,
};
use crate::state::{NodeRow, SessionKey, SessionRow, UserRow};

/// Sessions of one page.
const SESSIONS: u32 = 200;
/// Events of one page.
const EVENTS: usize = 500;

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

/// One session with events.
#[derive(Debug, Serialize)]
pub(crate) struct Timeline {
    #[serde(flatten)]
    session: Session,
    /// Events of this page, in order.
    #[serde(rename = "timeline")]
    rows: Vec<Line>,
    /// The number of the event before this page: `?after=`.
    after: u64,
    /// Where the next page begins.
    next: Option<u64>,
}

/// One event in one line.
#[derive(Debug, Serialize)]
struct Line {
    seq: u64,
    at_ns: u64,
    kind: &'static str,
    /// What happened, without control or invisible characters. `None` for the words of people and models,
    /// which need a permission of their own.
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
}

/// Kinds whose line repeats what a person or a model said begin with these words.
const CONTENT: [&str; 2] = ["prompt.", "model."];

impl Line {
    fn of(envelope: &Envelope, is_own: bool) -> Self {
        let kind = envelope.event.kind();
        let is_content = CONTENT.iter().any(|prefix| kind.starts_with(prefix));
        let decision = envelope.event.decision();
        Self {
            seq: envelope.seq,
            at_ns: envelope.time_unix_ns,
            kind,
            text: (is_own || !is_content).then(|| envelope.event.line()),
            verdict: decision.map(|decision| decision.verdict),
            rule: decision.and_then(|decision| Some(decision.rule.as_ref()?.as_str().to_owned())),
        }
    }
}

/// `GET /sessions/{node}/{session}`
pub(crate) async fn one(call: Arc<Call>) -> Result<Timeline, Problem> {
    let key = SessionKey {
        node: call.named("node")?,
        session: call.named("session")?,
    };
    let fleet = Fleet::read(&call).await?;
    let row = call.web.server.state.session(&key).await?;
    let session = row
        .and_then(|row| fleet.session(row))
        .ok_or_else(Problem::not_found)?;
    let node = fleet.nodes.iter().find(|node| node.id == key.node);
    let is_own = node.is_some_and(|node| node.owner.as_ref() == Some(&fleet.own));
    // Without a number the end is shown, which is what follows a running session.
    let last = session
        .events
        .saturating_sub(u64::try_from(EVENTS).unwrap_or(u64::MAX));
    let after = call
        .query("after")
        .parse()
        .unwrap_or(last)
        .min(session.events);
    let server = &call.web.server;
    let dir = session_dir(&server.node_dir(&key.node), &key.session);
    let until = session.events;
    let lines = server
        .blocking(move || read(&dir, after, until, is_own))
        .await?;
    let end = lines.last().map_or(after, |line| line.seq);
    let next = (end < session.events && !lines.is_empty()).then_some(end);
    Ok(Timeline {
        session,
        rows: lines,
        after,
        next,
    })
}

/// Reads the events behind `after`, as many as a page has, of those that are verified.
fn read(dir: &Path, after: u64, until: u64, is_own: bool) -> Vec<Line> {
    let Ok(events) = stockade_journal::read(dir) else {
        return Vec::new();
    };
    let wanted = events.flatten().skip_while(|one| one.seq <= after);
    let wanted = wanted.take_while(|one| one.seq <= until).take(EVENTS);
    wanted.map(|one| Line::of(&one, is_own)).collect()
}

impl View for Timeline {
    fn page(&self, call: &Call) -> Page {
        let session = &self.session;
        let path = format!("/sessions/{}/{}", session.node, session.id.as_str());
        let body = html! {
            @if let Some(fault) = &session.fault {
                (note(Mood::Bad, html! { "The record is broken: " (foreign(fault)) }))
            }
            dl.facts {
                dt { "State" } dd { (life(session)) }
                dt { "Person" } dd { (foreign(session.person.as_deref().unwrap_or("unknown"))) }
                dt { "Machine" } dd { a href={ "/fleet/" (session.node) } { (foreign(&session.machine)) } }
                dt { "Workspace" } dd { (raw(&session.workspace)) }
                dt { "Boundary" } dd { (boundary(session)) }
                dt { "Record" } dd { (record(session)) ", " (session.events) " events here" }
                @if let Some(at) = session.started { dt { "Began" } dd { (time(at, call.now)) } }
                @if let Some(at) = session.ended { dt { "Ended" } dd { (time(at, call.now)) } }
                dt { "Id" } dd { code { (session.id.as_str()) } }
            }
            h2 #events { "Events " (self.after + 1) " to " (self.rows.last().map_or(self.after, |line| line.seq)) }
            (self.pager(&path))
            .table { table.events {
                thead { tr {
                    th scope="col" { "Number" } th scope="col" { "Time" } th scope="col" { "Kind" }
                    th scope="col" { "What" } th scope="col" { "Verdict" }
                } }
                tbody { @for line in &self.rows { (line.row()) } }
            } }
            (self.pager(&path))
        };
        Page::new(words(session), body).live("session")
    }
}

/// Returns the command as the title of a page.
fn words(session: &Session) -> String {
    let words: Vec<String> = session
        .command
        .iter()
        .take(12)
        .map(RawText::display)
        .collect();
    if words.is_empty() {
        session.id.as_str().to_owned()
    } else {
        words.join(" ")
    }
}

impl Timeline {
    fn pager(&self, path: &str) -> Markup {
        let size = u64::try_from(EVENTS).unwrap_or(u64::MAX);
        html! {
            nav.pager aria-label="Events" {
                @if self.after > 0 {
                    a.button href={ (path) "?after=" (self.after.saturating_sub(size)) } { "Earlier" }
                }
                @if let Some(next) = self.next { a.button href={ (path) "?after=" (next) } { "Later" } }
                @if self.next.is_some() { a href=(path) { "To the end" } }
            }
        }
    }
}

impl Line {
    fn row(&self) -> Markup {
        let at = stockade_event::rfc3339(self.at_ns);
        let clock = at.get(11..19).unwrap_or(&at).to_owned();
        html! {
            tr id={ "e" (self.seq) } {
                td.number { a href={ "#e" (self.seq) } { (self.seq) } }
                td.nowrap { time datetime=(at) title=(at) { (clock) } }
                td.nowrap { code { (self.kind) } }
                td.line {
                    @match &self.text {
                        Some(text) => (foreign(text)),
                        None => span.quiet { "words of a person; they are not shown here" },
                    }
                }
                td { (verdict(self.verdict)) @if let Some(rule) = &self.rule { span.hint { (foreign(rule)) } } }
            }
        }
    }
}

fn verdict(verdict: Option<Verdict>) -> Markup {
    match verdict {
        Some(Verdict::Allow) => state(Mood::Good, "allowed"),
        Some(Verdict::Deny) => state(Mood::Bad, "denied"),
        Some(Verdict::Ask) => state(Mood::Open, "asked"),
        None => html! {},
    }
}
