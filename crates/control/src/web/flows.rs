//! Who talks to whom, what is new, and what is refused.

use std::{collections::BTreeMap, sync::Arc};

use maud::{Markup, html};
use serde::Serialize;
use stockade_event::text::{bytes, cut};
use stockade_types::{RequestKind, Target, UnixMillis};

use super::{
    call::Call,
    decisions::{Draft, draft, policy_of, show_draft},
    page::{Page, empty, foreign, time, verdict},
    problem::Problem,
    serving::View,
    sessions::Fleet,
};
use crate::index::Flow as Row;

/// Flows that the page lists.
const FLOWS: u32 = 60;
/// Names in one column of the map; those beyond are in the table.
const NAMES: usize = 24;
/// Characters of a part of a host.
const HOST_CHARS_MAX: usize = 100;
/// Days that a person can choose.
const DAYS: [u64; 4] = [1, 7, 30, 90];
const DAY_MS: u64 = 86_400_000;
/// How long a host is new.
const NEW_DAYS: u64 = 7;
/// Sizes of the map.
const ROW: usize = 26;
const COLUMNS: [usize; 3] = [0, 330, 660];
const BOX: usize = 240;
const WIDTH: usize = 900;
const LABEL_CHARS: usize = 30;

/// Flows.
#[derive(Debug, Serialize)]
pub(crate) struct Flows {
    days: u64,
    /// Only hosts that have this text.
    host: String,
    /// Those with the most decisions first.
    flows: Vec<Flow>,
    /// Whether some were left out.
    more: bool,
    /// One that was chosen.
    chosen: Option<Chosen>,
}

/// Who talked to whom.
#[derive(Debug, Serialize)]
struct Flow {
    agent: String,
    program: String,
    host: String,
    port: u16,
    verdict: String,
    rule: String,
    sessions: u64,
    decisions: u64,
    connections: u64,
    bytes_out: u64,
    bytes_in: u64,
    first: UnixMillis,
    last: UnixMillis,
    /// Whether no session named the host more than seven days ago.
    new: bool,
    /// An event of it: machine, session, and number.
    node: String,
    session: String,
    seq: u64,
}

/// A flow that a person looks at.
#[derive(Debug, Serialize)]
struct Chosen {
    host: String,
    port: u16,
    /// The narrowest rule that would allow it.
    draft: Option<Draft>,
}

/// `GET /flows`
pub(crate) async fn show(call: Arc<Call>) -> Result<Flows, Problem> {
    let fleet = Fleet::read(&call).await?;
    let days = call.query("days").parse().ok();
    let days = days.filter(|days| DAYS.contains(days)).unwrap_or(7);
    let host = call.typed("host", HOST_CHARS_MAX);
    let since = UnixMillis(call.now.0.saturating_sub(days * DAY_MS));
    let index = &call.web.server.index;
    let rows = index.flows(&fleet.seen(), since, &host, FLOWS + 1).await?;
    let more = rows.len() > usize::try_from(FLOWS).unwrap_or(usize::MAX);
    let new_since = call.now.0.saturating_sub(NEW_DAYS * DAY_MS);
    let flows: Vec<Flow> = rows
        .into_iter()
        .take(usize::try_from(FLOWS).unwrap_or(usize::MAX))
        .filter(|row| fleet.may_see(&row.example.0.node))
        .map(|row| Flow::of(row, new_since))
        .collect();
    let chosen = chosen(&call, &flows).await?;
    Ok(Flows {
        days,
        host,
        flows,
        more,
        chosen,
    })
}

impl Flow {
    fn of(row: Row, new_since: u64) -> Self {
        let (key, seq) = row.example;
        Self {
            agent: row.agent,
            program: row.exe,
            host: row.host,
            port: row.port,
            verdict: row.verdict,
            rule: row.rule,
            sessions: row.sessions,
            decisions: row.count,
            connections: row.connections,
            bytes_out: row.bytes_out,
            bytes_in: row.bytes_in,
            first: row.first_at,
            last: row.last_at,
            new: row.known_since.0 >= new_since,
            node: key.node.to_string(),
            session: key.session.as_str().to_owned(),
            seq,
        }
    }
}

/// Drafts a rule for the flow that was chosen; only for one that the caller sees.
async fn chosen(call: &Call, flows: &[Flow]) -> Result<Option<Chosen>, Problem> {
    let (host, port) = (call.query("draft"), call.query("port"));
    let Ok(port) = port.parse::<u16>() else {
        return Ok(None);
    };
    if !flows
        .iter()
        .any(|flow| flow.host == host && flow.port == port)
    {
        return Ok(None);
    }
    let bundle = call.web.server.state.bundles(1).await?.into_iter().next();
    let target = Target {
        host: Some(host.to_owned()),
        port: Some(if port == 0 { 443 } else { port }),
        ..Target::default()
    };
    let drafted = super::blocking(move || {
        let policy = bundle.as_ref().and_then(policy_of);
        draft(policy.as_ref(), &[(RequestKind::Net, &target)])
    });
    Ok(Some(Chosen {
        host: host.to_owned(),
        port,
        draft: drafted.await?,
    }))
}

impl View for Flows {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            form.filter method="get" action="/flows" {
                div {
                    label for="days" { "Days" }
                    select #days name="days" { @for days in DAYS {
                        option value=(days) selected[days == self.days] { (days) }
                    } }
                }
                div.wide {
                    label for="host" { "Host contains" }
                    input #host name="host" value=(self.host) autocomplete="off";
                }
                .buttons { button { "Show" } }
            }
            @if let Some(chosen) = &self.chosen { (show_chosen(chosen)) }
            @if self.flows.is_empty() { (self.nothing()) }
            @else {
                (map(&self.flows))
                h2 #table { "The same as a table" }
                (self.table(call.now))
                @if self.more { p.quiet { "Only the " (FLOWS) " with the most decisions are shown. Narrow the hosts to see others." } }
            }
        };
        Page::new("Flows", body).lead("Who talks to whom, what is new, and what is refused.")
    }
}

impl Flows {
    /// Says which of the causes it is that there is nothing.
    fn nothing(&self) -> Markup {
        if self.host.is_empty() {
            empty(
                "No session had a connection in this time.",
                html! { "Choose more days, or look at " a href="/fleet" { "the machines" } ": one that is not connected sends later." },
            )
        } else {
            empty(
                "No host with this text was named in this time.",
                html! { a href={ "/flows?days=" (self.days) } { "All hosts" } },
            )
        }
    }

    fn table(&self, now: UnixMillis) -> Markup {
        html! {
            .table tabindex="0" role="region" aria-label="Flows" { table {
                thead { tr {
                    th scope="col" { "Host" } th scope="col" { "Program" } th scope="col" { "Verdict" }
                    th.number scope="col" { "Decisions" } th.number scope="col" { "Sent" }
                    th.number scope="col" { "Received" } th scope="col" { "Last" } th scope="col" { "Next" }
                } }
                tbody { @for flow in &self.flows { (self.row(flow, now)) } }
            } }
        }
    }

    fn row(&self, flow: &Flow, now: UnixMillis) -> Markup {
        let evidence = format!(
            "/sessions/{}/{}?at={}#e{}",
            flow.node, flow.session, flow.seq, flow.seq
        );
        let more: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("days", &self.days.to_string())
            .append_pair("host", &self.host)
            .append_pair("draft", &flow.host)
            .append_pair("port", &flow.port.to_string())
            .finish();
        html! {
            tr data-row {
                th scope="row" {
                    a href=(evidence) { (foreign(&flow.host)) @if flow.port > 0 { ":" (flow.port) } }
                    @if flow.new { " " span.new { "new" } }
                    span.hint { (flow.sessions) @if flow.sessions == 1 { " session" } @else { " sessions" } }
                }
                td { (foreign(&flow.program)) span.hint { (foreign(&flow.agent)) } }
                td { (verdict(&flow.verdict)) @if !flow.rule.is_empty() { span.hint { (foreign(&flow.rule)) } } }
                td.number { (flow.decisions) }
                td.number { (bytes(flow.bytes_out)) }
                td.number { (bytes(flow.bytes_in)) }
                td.nowrap { (time(flow.last, now)) }
                td { @if flow.verdict != "allow" {
                    a href={ "/flows?" (more) "#draft" } { "Draft a rule" span.visually-hidden { " for " (flow.host) } }
                } }
            }
        }
    }
}

fn show_chosen(chosen: &Chosen) -> Markup {
    html! {
        @match &chosen.draft {
            Some(draft) => (show_draft(draft)),
            None => section #draft aria-label="Draft of a rule" {
                (super::page::note(super::page::Mood::Plain, html! {
                    "No rule is needed or possible for " (foreign(&chosen.host)) ": the policy of the organisation "
                    "allows it, or a deny stands that no allow lifts, or answers may not be kept."
                }))
            },
        }
    }
}

/// The three columns of the map, each name with how many decisions it has.
struct Columns {
    names: [Vec<(String, u64)>; 3],
}

impl Columns {
    fn of(flows: &[Flow]) -> Self {
        let column = |name: &dyn Fn(&Flow) -> String| {
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            for flow in flows {
                *counts.entry(name(flow)).or_default() += flow.decisions;
            }
            let mut names: Vec<(String, u64)> = counts.into_iter().collect();
            names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            names.truncate(NAMES);
            names
        };
        Self {
            names: [
                column(&|flow| flow.agent.clone()),
                column(&|flow| flow.program.clone()),
                column(&|flow| flow.host.clone()),
            ],
        }
    }

    /// Returns the middle of a box from the top.
    fn y(&self, column: usize, name: &str) -> Option<usize> {
        let names = self.names.get(column)?;
        let place = names.iter().position(|(one, _)| one == name)?;
        Some(place * ROW + ROW / 2)
    }

    fn height(&self) -> usize {
        let most = self.names.iter().map(Vec::len).max().unwrap_or(0);
        most * ROW + 4
    }
}

/// An edge of the map: its ends, its verdict, and how wide it is.
struct Edge {
    from: usize,
    to: usize,
    column: usize,
    verdict: &'static str,
    width: u64,
}

/// Draws the map. What it says is in the table, too, which is what screen readers get.
fn map(flows: &[Flow]) -> Markup {
    let columns = Columns::of(flows);
    let edges = edges(flows, &columns);
    html! {
        figure.map {
            div.table tabindex="0" role="group" aria-label="Map of flows; the table below says the same" { svg viewBox={ "0 0 " (WIDTH) " " (columns.height()) } width=(WIDTH) height=(columns.height()) aria-hidden="true" focusable="false" {
                @for edge in &edges {
                    @let x = COLUMNS.get(edge.column).copied().unwrap_or(0) + BOX;
                    @let end = COLUMNS.get(edge.column + 1).copied().unwrap_or(WIDTH);
                    @let middle = usize::midpoint(x, end);
                    path class=(edge.verdict) stroke-width=(edge.width)
                        d={ "M" (x) " " (edge.from) " C" (middle) " " (edge.from) " " (middle) " " (edge.to) " " (end) " " (edge.to) } {}
                }
                @for (column, names) in columns.names.iter().enumerate() {
                    @let x = COLUMNS.get(column).copied().unwrap_or(0);
                    @for (place, (name, _)) in names.iter().enumerate() {
                        rect x=(x) y=(place * ROW + 3) width=(BOX) height=(ROW - 6) rx="4" {}
                        text x=(x + 8) y=(place * ROW + ROW / 2 + 4) { (label(name)) }
                    }
                }
            } }
            figcaption {
                "Agent, program and host; the width is the number of decisions. "
                span.key.allow { "allowed" } " " span.key.ask { "asked" } " " span.key.deny { "denied" }
            }
        }
    }
}

fn label(name: &str) -> String {
    let shown = stockade_types::RawText::from(name).display();
    if shown.is_empty() {
        "–".to_owned()
    } else {
        cut(&shown, LABEL_CHARS)
    }
}

fn edges(flows: &[Flow], columns: &Columns) -> Vec<Edge> {
    let word = |verdict: &str| match verdict {
        "allow" => "allow",
        "ask" => "ask",
        _ => "deny",
    };
    let mut counts: BTreeMap<(usize, usize, usize, &'static str), u64> = BTreeMap::new();
    for flow in flows {
        let places = (
            columns.y(0, &flow.agent),
            columns.y(1, &flow.program),
            columns.y(2, &flow.host),
        );
        let (Some(agent), Some(program), Some(host)) = places else {
            continue;
        };
        let verdict = word(&flow.verdict);
        *counts.entry((0, agent, program, verdict)).or_default() += flow.decisions;
        *counts.entry((1, program, host, verdict)).or_default() += flow.decisions;
    }
    let edge = |((column, from, to, verdict), count): (_, u64)| Edge {
        column,
        from,
        to,
        verdict,
        // One more for each doubling.
        width: u64::from(count.max(1).ilog2()).min(8) + 1,
    };
    counts.into_iter().map(edge).collect()
}
