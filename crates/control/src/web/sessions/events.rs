//! The events of a session one by one, as they stand in its record.

use std::{path::Path, sync::Arc};

use maud::{Markup, html};
use serde::Serialize;
use stockade_event::{Envelope, Event};
use stockade_journal::layout::session_dir;
use stockade_types::Verdict;

use super::{
    super::{
        call::Call,
        page::{Page, clock, foreign, verdict},
        problem::Problem,
        serving::View,
    },
    Session, actions, find, words,
};

/// Events of one page.
const EVENTS: usize = 150;
/// Fields of one event that a page shows.
const FIELDS_MAX: usize = 100;

/// A session with its events.
#[derive(Debug, Serialize)]
pub(crate) struct Events {
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
    /// The number of its decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<u64>,
}

/// Tells whether an event says what a person or a model said.
const fn is_content(event: &Event) -> bool {
    match event {
        Event::PromptSubmitted { .. }
        | Event::ModelCalled { .. }
        | Event::ToolCalled { .. }
        | Event::ToolReturned { .. }
        | Event::PlanChanged { .. }
        | Event::AgentStarted { .. }
        | Event::AgentEnded { .. }
        | Event::ClaimRepeated { .. } => true,
        Event::SessionStarted { .. }
        | Event::SessionEnded { .. }
        | Event::GuaranteeStated { .. }
        | Event::PolicyLoaded { .. }
        | Event::PolicyDiffered { .. }
        | Event::PolicyCompared { .. }
        | Event::PolicyTightened { .. }
        | Event::ApprovalReviewed { .. }
        | Event::ProcessStarted { .. }
        | Event::ProcessEnded { .. }
        | Event::ScopeEnded { .. }
        | Event::ScopeBound { .. }
        | Event::ResourcesSampled { .. }
        | Event::ExecDecided { .. }
        | Event::ExecUnconfirmed { .. }
        | Event::RefusalRepeated { .. }
        | Event::FileDenied { .. }
        | Event::CallRefused { .. }
        | Event::NameDecided { .. }
        | Event::ConnectionDecided { .. }
        | Event::HttpDecided { .. }
        | Event::ToolDecided { .. }
        | Event::FileChanged { .. }
        | Event::ConnectionClosed { .. }
        | Event::PortPublished { .. }
        | Event::SecretSent { .. }
        | Event::LimitReached { .. }
        | Event::ApprovalRequested { .. }
        | Event::ApprovalDecided { .. }
        | Event::ApprovalUsed { .. }
        | Event::CredentialUsed { .. }
        | Event::CredentialRefused { .. }
        | Event::LoginRenewed { .. }
        | Event::ToolsPinned { .. }
        | Event::EventsLost { .. }
        | Event::TerminalRecorded { .. }
        | Event::OperatorActed { .. }
        | Event::FindingRaised { .. } => false,
    }
}

impl Line {
    fn of(envelope: &Envelope, may_read: bool) -> Self {
        let decision = envelope.event.decision();
        Self {
            seq: envelope.seq,
            at_ns: envelope.time_unix_ns,
            kind: envelope.event.kind(),
            text: (may_read || !is_content(&envelope.event)).then(|| envelope.event.line()),
            verdict: decision.map(|decision| decision.verdict),
            rule: decision.and_then(|decision| Some(decision.rule.as_ref()?.as_str().to_owned())),
            decision: decision.map(|decision| decision.decision.get()),
        }
    }
}

/// `GET /sessions/{node}/{session}/events`
pub(crate) async fn events(call: Arc<Call>) -> Result<Events, Problem> {
    let (fleet, row, session) = find(&call).await?;
    let may_read = actions::may_read(&call, &fleet, &row).await?.is_yes();
    // Without a number the end is shown, which is what follows a running session.
    let last = session
        .events
        .saturating_sub(u64::try_from(EVENTS).unwrap_or(u64::MAX));
    let after = call
        .query("after")
        .parse()
        .unwrap_or(last)
        .min(session.events);
    let until = session.events;
    let rows = read(&call, &row.key, move |dir| {
        lines(dir, after, until, may_read)
    });
    let rows = rows.await?;
    let end = rows.last().map_or(after, |line| line.seq);
    let next = (end < session.events && !rows.is_empty()).then_some(end);
    Ok(Events {
        session,
        rows,
        after,
        next,
    })
}

/// Reads a journal for a page, beside what machines wait for.
///
/// # Errors
/// When too many pages read journals.
pub(in super::super) async fn read<T: Send + 'static>(
    call: &Call,
    key: &crate::state::SessionKey,
    work: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, Problem> {
    let server = &call.web.server;
    let dir = session_dir(&server.node_dir(&key.node), &key.session);
    let place = server.stories.place().await;
    let _place =
        place.ok_or_else(|| Problem::later("many people read journals at the moment", 5))?;
    super::super::blocking(move || work(&dir)).await
}

/// Reads the events behind `after`, as many as a page has, of those that are verified.
fn lines(dir: &Path, after: u64, until: u64, may_read: bool) -> Vec<Line> {
    let Ok(events) = stockade_journal::read(dir) else {
        return Vec::new();
    };
    let wanted = events.flatten().skip_while(|one| one.seq <= after);
    let wanted = wanted.take_while(|one| one.seq <= until).take(EVENTS);
    wanted.map(|one| Line::of(&one, may_read)).collect()
}

/// Returns one event of a journal.
pub(in super::super) fn event_at(dir: &Path, seq: u64, until: u64) -> Option<Envelope> {
    let mut events = stockade_journal::read(dir).ok()?.flatten();
    events
        .find(|one| one.seq >= seq)
        .filter(|one| one.seq == seq && seq <= until)
}

impl View for Events {
    fn page(&self, _: &Call) -> Page {
        let session = &self.session;
        let path = format!("/sessions/{}/{}", session.node, session.id.as_str());
        let body = html! {
            p { a href=(path) { "Timeline" } }
            h2 #events { "Events " (self.after + 1) " to " (self.rows.last().map_or(self.after, |line| line.seq)) }
            (self.pager(&path))
            .table tabindex="0" role="region" aria-label="Events" { table.events {
                thead { tr {
                    th scope="col" { "Number" } th scope="col" { "Time" } th scope="col" { "Kind" }
                    th scope="col" { "What" } th scope="col" { "Verdict" }
                } }
                tbody { @for line in &self.rows { (line.row(&path)) } }
            } }
            (self.pager(&path))
        };
        let live = session.live && session.ended.is_none() && self.next.is_none();
        let page = Page::new(words(session), body);
        if live {
            return page.live(format!("session/{}/{}", session.node, session.id.as_str()));
        }
        page
    }
}

impl Events {
    fn pager(&self, path: &str) -> Markup {
        let size = u64::try_from(EVENTS).unwrap_or(u64::MAX);
        html! {
            nav.pager aria-label="Pages of events" {
                @if self.after > 0 {
                    a.button href={ (path) "/events?after=" (self.after.saturating_sub(size)) } { "Earlier" }
                }
                @if let Some(next) = self.next { a.button href={ (path) "/events?after=" (next) } { "Later" } }
                @if self.next.is_some() { a href={ (path) "/events" } { "To the end" } }
            }
        }
    }
}

impl Line {
    fn row(&self, path: &str) -> Markup {
        html! {
            tr id={ "e" (self.seq) } data-row {
                td.number { a href={ (path) "/events/" (self.seq) } { (self.seq) } }
                td.nowrap { (clock(self.at_ns)) }
                td.nowrap { code { (self.kind) } }
                td.line {
                    @match &self.text {
                        Some(text) => (foreign(text)),
                        None => span.quiet { "words of a person or a model; they are not shown here" },
                    }
                }
                td {
                    (verdict(self.verdict.map_or("", Verdict::as_str)))
                    @if let Some(rule) = &self.rule { span.hint { (foreign(rule)) } }
                }
            }
        }
    }
}

/// One event with all its fields.
#[derive(Debug, Serialize)]
pub(crate) struct OneEvent {
    node: String,
    session: String,
    machine: String,
    events: u64,
    /// The event as `stockade events --json` prints it; without its fields if these are the words of a
    /// person or a model, and the caller may not read them.
    event: serde_json::Value,
    /// Whether fields are left out.
    withheld: bool,
    #[serde(skip)]
    seq: u64,
    #[serde(skip)]
    decision: Option<u64>,
    #[serde(skip)]
    at_ns: u64,
    #[serde(skip)]
    text: Option<String>,
}

/// `GET /sessions/{node}/{session}/events/{seq}`
pub(crate) async fn event(call: Arc<Call>) -> Result<OneEvent, Problem> {
    let (fleet, row, session) = find(&call).await?;
    let may_read = actions::may_read(&call, &fleet, &row).await?.is_yes();
    let seq: u64 = call.named("seq")?;
    let until = session.events;
    let found = read(&call, &row.key, move |dir| event_at(dir, seq, until)).await?;
    let envelope = found.ok_or_else(Problem::not_found)?;
    let withheld = is_content(&envelope.event) && !may_read;
    let mut event = envelope.to_cli_json();
    if let (true, Some(members)) = (withheld, event.as_object_mut()) {
        const PLAIN: [&str; 7] = [
            "v",
            "session",
            "seq",
            "time",
            "time_unix_ns",
            "kind",
            "source",
        ];
        members.retain(|name, _| PLAIN.contains(&name.as_str()));
    }
    Ok(OneEvent {
        node: session.node.to_string(),
        session: session.id.as_str().to_owned(),
        machine: session.machine,
        events: session.events,
        event,
        withheld,
        seq,
        decision: envelope
            .event
            .decision()
            .map(|decision| decision.decision.get()),
        at_ns: envelope.time_unix_ns,
        text: (!withheld).then(|| envelope.event.line()),
    })
}

impl View for OneEvent {
    fn page(&self, _: &Call) -> Page {
        let path = format!("/sessions/{}/{}", self.node, self.session);
        let fields = self.event.as_object();
        let fields: Vec<_> = fields.into_iter().flatten().take(FIELDS_MAX).collect();
        let body = html! {
            nav.pager aria-label="Around this event" {
                a.button href={ (path) "?at=" (self.seq) "#e" (self.seq) } { "In the timeline" }
                a.button href={ (path) "/events?after=" (self.seq.saturating_sub(20)) "#e" (self.seq) } { "Among its neighbours" }
                @if let Some(decision) = self.decision {
                    a.button href={ "/decisions/" (self.node) "/" (self.session) "/" (decision) } { "Why" }
                }
            }
            @if let Some(text) = &self.text { p { (foreign(text)) } }
            @if self.withheld { p.quiet { "Words of a person or a model; they are not shown here." } }
            dl.facts.wide {
                @for (name, value) in fields {
                    dt { (name) }
                    dd { (foreign(&shown(value))) }
                }
            }
        };
        let title = format!("Event {} of {}", self.seq, self.events);
        Page::new(title, body).lead(html! { (clock(self.at_ns)) " on " (foreign(&self.machine)) })
    }
}

/// Writes a field for a person.
fn shown(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "–".to_owned(),
        serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => value.to_string(),
    }
}
