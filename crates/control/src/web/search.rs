//! Looking for anything that happened in sessions.

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;
use stockade_api::search::{FIELDS, QUERY_BYTES_MAX, Query};
use stockade_types::UnixMillis;

use super::{
    call::Call,
    page::{Mood, Page, empty, foreign, note, time, verdict},
    problem::Problem,
    serving::View,
    sessions::Fleet,
};
use crate::{
    index::{Found, Page as Part, Seen},
    state::NodeRow,
};

/// Events of one page.
const EVENTS: u32 = 80;
/// Searches to begin with.
const EXAMPLES: [(&str, &str); 5] = [
    ("verdict:deny since:1d", "what was refused in the last day"),
    (
        "kind:net verdict:ask since:7d",
        "hosts that people were asked about",
    ),
    ("kind:secret.sent", "secrets that were sent"),
    ("kind:exec \"git push\"", "pushes"),
    ("kind:file path:*/.git/*", "changes below .git"),
];

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Search {
    /// The search as it was written.
    query: String,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mistake: Option<String>,
    /// The newest first.
    events: Vec<Event>,
    /// Where the next page begins: `?after=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// An event.
#[derive(Debug, Serialize)]
struct Event {
    node: String,
    session: String,
    machine: String,
    seq: u64,
    at: UnixMillis,
    kind: String,
    request: Option<String>,
    verdict: Option<String>,
    rule: Option<String>,
    decision: Option<u64>,
    text: String,
}

/// `GET /search`
pub(crate) async fn show(call: Arc<Call>) -> Result<Search, Problem> {
    let text = call.typed("q", QUERY_BYTES_MAX + 1);
    let mut search = Search {
        query: text.clone(),
        mistake: None,
        events: Vec::new(),
        next: None,
    };
    if text.is_empty() {
        return Ok(search);
    }
    let query: Query = match text.parse() {
        Ok(query) => query,
        Err(mistake) => {
            // A program learns it by the status.
            if call.here.starts_with("/api/") {
                return Err(Problem::wrong(
                    mistake.to_string(),
                    "write the search so that it has a meaning",
                ));
            }
            search.mistake = Some(format!("{mistake}"));
            return Ok(search);
        }
    };
    let fleet = Fleet::read(&call).await?;
    let seen = narrowed(&fleet, &query);
    let part = Part {
        after: after(call.query("after")),
        count_max: EVENTS + 1,
    };
    let index = &call.web.server.index;
    let mut found = index.search(&query, &seen, call.now, part).await?;
    let page = usize::try_from(EVENTS).unwrap_or(usize::MAX);
    if found.len() > page {
        found.truncate(page);
        let last = found.last().map(|one| format!("{}.{}", one.at.0, one.id));
        search.next = last;
    }
    search.events = found
        .into_iter()
        // Each row is decided for, whatever the index was asked for.
        .filter(|one| fleet.may_see(&one.key.node))
        .map(|one| Event::of(one, &fleet))
        .collect();
    Ok(search)
}

/// Reads where a page begins.
fn after(text: &str) -> Option<(UnixMillis, i64)> {
    let (at, id) = text.split_once('.')?;
    Some((UnixMillis(at.parse().ok()?), id.parse().ok()?))
}

/// Says in whose sessions is looked: those that the caller may see, of the machines and people that are named.
fn narrowed(fleet: &Fleet, query: &Query) -> Seen {
    if query.users.is_empty() && query.machines.is_empty() {
        return fleet.seen();
    }
    let is_same = |wanted: &str, name: &str| wanted.eq_ignore_ascii_case(name);
    let is_user = |node: &NodeRow| {
        let owner = node
            .owner
            .as_ref()
            .map(|owner| (fleet.person(owner), owner.0.clone()));
        let is_one = |(name, id): &(String, String)| {
            let mut wanted = query.users.iter();
            wanted.any(|user| is_same(user, name) || user == id)
        };
        query.users.is_empty() || owner.as_ref().is_some_and(is_one)
    };
    let is_machine = |node: &NodeRow| {
        let mut wanted = query.machines.iter();
        query.machines.is_empty()
            || wanted.any(|one| is_same(one, &node.name) || one == node.id.as_str())
    };
    let nodes = fleet.nodes.iter();
    let nodes = nodes.filter(|node| fleet.may_see(&node.id) && is_user(node) && is_machine(node));
    Seen::Of(nodes.map(|node| node.id.clone()).collect())
}

impl Event {
    fn of(found: Found, fleet: &Fleet) -> Self {
        Self {
            machine: fleet.machine(&found.key.node),
            node: found.key.node.to_string(),
            session: found.key.session.as_str().to_owned(),
            seq: found.seq,
            at: found.at,
            kind: found.kind,
            request: found.request,
            verdict: found.verdict,
            rule: found.rule,
            decision: found.decision,
            text: found.text,
        }
    }
}

impl View for Search {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            form.filter method="get" action="/search" role="search" {
                div.wide {
                    label for="search" { "Search" }
                    input #search type="search" name="q" value=(self.query) maxlength=(QUERY_BYTES_MAX)
                        autocomplete="off" spellcheck="false" autocapitalize="off"
                        placeholder="kind:net verdict:deny host:*.paste.test since:7d";
                }
                .buttons { button.main { "Search" } }
            }
            @if let Some(mistake) = &self.mistake { (note(Mood::Bad, html! { (foreign(mistake)) "." })) }
            @if self.query.is_empty() || self.mistake.is_some() { (help()) }
            @else if self.events.is_empty() {
                (empty("Nothing was found.", html! {
                    "Only decisions, approvals, connections, changes, findings and beginnings and ends are in the index. "
                    "What is new is there after a second or two."
                }))
            } @else { (self.found(call)) }
        };
        Page::new("Search", body).lead("Anything that happened in sessions.")
    }
}

impl Search {
    fn found(&self, call: &Call) -> Markup {
        let more = self.next.as_ref().map(|next| {
            url::form_urlencoded::Serializer::new(String::new())
                .append_pair("q", &self.query)
                .append_pair("after", next)
                .finish()
        });
        html! {
            .table tabindex="0" role="region" aria-label="Events that were found" { table.events {
                thead { tr {
                    th scope="col" { "When" } th scope="col" { "Session" } th scope="col" { "Kind" }
                    th scope="col" { "What" } th scope="col" { "Verdict" }
                } }
                tbody { @for event in &self.events { (event.row(call.now)) } }
            } }
            @if let Some(more) = more { nav.pager aria-label="Pages" { a.button href={ "/search?" (more) } { "Older" } } }
        }
    }
}

impl Event {
    fn row(&self, now: UnixMillis) -> Markup {
        let path = format!("/sessions/{}/{}", self.node, self.session);
        let short = self.session.get(..8).unwrap_or(&self.session);
        html! {
            tr data-row {
                td.nowrap { a href={ (path) "?at=" (self.seq) "#e" (self.seq) } { (time(self.at, now)) } }
                td { code { (short) } span.hint { (foreign(&self.machine)) } }
                td.nowrap { code { (self.kind) } }
                td.line { (foreign(&self.text)) }
                td {
                    @match (&self.verdict, self.decision) {
                        (Some(word), Some(decision)) => {
                            a href={ "/decisions/" (self.node) "/" (self.session) "/" (decision) } { (verdict(word)) }
                        }
                        (Some(word), None) => (verdict(word)),
                        (None, _) => {}
                    }
                    @if let Some(rule) = &self.rule { span.hint { (foreign(rule)) } }
                }
            }
        }
    }
}

fn help() -> Markup {
    html! {
        h2 { "For example" }
        ul.plain { @for (query, words) in EXAMPLES {
            @let link: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("q", query).finish();
            li { a href={ "/search?" (link) } { code { (query) } } " " span.quiet { (words) } }
        } }
        h2 { "Fields" }
        dl.facts { @for (field, words) in FIELDS {
            dt { code { (field) ":" } } dd { (words.replace('`', "")) }
        } }
        p { "Fields of the same name widen a search, and different ones narrow it. Words without a field have to be there, and quotation marks make a phrase of them." }
    }
}
