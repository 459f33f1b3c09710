//! Findings: what a person should look at, and what people made of it.

use std::{collections::HashMap, sync::Arc};

use maud::{Markup, html};
use serde::Serialize;
use stockade_api::NodeId;
use stockade_trust::UserId;
use stockade_types::{SessionId, UnixMillis};

use super::{
    access::{self, Action, Circumstances},
    call::Call,
    page::{Mood, Page, empty, foreign, note, state, time, token},
    problem::Problem,
    serving::{Answer, View},
    sessions::Fleet,
};
use crate::{
    index::{RaisedRow, Seen},
    state::{AccusationRow, TriageRow},
};

/// Findings of one page, of journals and of machines.
const FINDINGS: u32 = 300;
/// Findings that a page shows.
const SHOWN: usize = 60;
/// Characters of a note.
const NOTE_CHARS_MAX: usize = 500;
/// What a finding can be, with its words.
const STATES: [(&str, &str); 4] = [
    ("open", "open"),
    ("expected", "expected"),
    ("mistake", "a mistake"),
    ("escalated", "escalated"),
];
/// Levels, the one that must be looked at first coming first.
const SEVERITIES: [&str; 3] = ["high", "medium", "low"];

/// Findings.
#[derive(Debug, Serialize)]
pub(crate) struct Findings {
    /// Which of them: `open`, `settled` or `all`.
    which: &'static str,
    /// Those that must be looked at first.
    findings: Vec<Finding>,
    /// Whether older ones were left out.
    more: bool,
    /// The one that was asked for.
    chosen: Option<usize>,
}

/// A finding.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// `NODE/SESSION/SEQ`, or `n-NUMBER` for what a machine did.
    id: String,
    severity: String,
    kind: String,
    title: String,
    detail: String,
    at: UnixMillis,
    node: String,
    machine: String,
    session: Option<String>,
    seq: Option<u64>,
    /// `open`, `expected`, `mistake` or `escalated`.
    state: String,
    assignee: Option<String>,
    note: String,
    /// Whether the caller may settle it.
    #[serde(skip)]
    may_settle: bool,
    /// Who said so, and when.
    by: Option<String>,
    settled: Option<UnixMillis>,
}

/// Reads all findings that the caller may see, with what became of them.
async fn all(call: &Call) -> Result<(Vec<Finding>, bool), Problem> {
    let fleet = Fleet::read(call).await?;
    let server = &call.web.server;
    let triaged = server.state.triaged().await?;
    let triaged: HashMap<String, TriageRow> = triaged
        .into_iter()
        .map(|row| (row.finding.clone(), row))
        .collect();
    let seen = fleet.seen();
    let nodes = match &seen {
        Seen::All => None,
        Seen::Of(nodes) => Some(nodes.as_slice()),
    };
    let accused = server.state.accusations(nodes, FINDINGS + 1).await?;
    let raised = server.index.raised(&seen, FINDINGS + 1).await?;
    let page = usize::try_from(FINDINGS).unwrap_or(usize::MAX);
    let more = raised.len() > page || accused.len() > page;
    // Each row is decided for, whatever the index was asked for.
    let raised = raised
        .into_iter()
        .filter(|row| fleet.may_see(&row.key.node));
    let raised = raised.map(|row| Finding::raised(row, &fleet));
    let accused = accused.into_iter();
    let accused = accused.filter_map(|row| Finding::accused(row, &fleet));
    let mut findings: Vec<Finding> = raised.chain(accused).collect();
    let settles = call.sight(Action::TriageFindings)?;
    for finding in &mut findings {
        let node = finding.node.parse().ok();
        let node = node.and_then(|id| fleet.node(&id));
        finding.may_settle = node.is_some_and(|node| settles.has(node));
        finding.settle(triaged.get(&finding.id), &fleet);
    }
    let rank = |finding: &Finding| {
        let place = SEVERITIES.iter().position(|one| *one == finding.severity);
        place.unwrap_or(SEVERITIES.len())
    };
    findings.sort_by(|a, b| rank(a).cmp(&rank(b)).then(b.at.0.cmp(&a.at.0)));
    Ok((findings, more))
}

impl Finding {
    fn raised(row: RaisedRow, fleet: &Fleet) -> Self {
        let session = row.key.session.as_str().to_owned();
        Self {
            id: format!("{}/{session}/{}", row.key.node, row.seq),
            severity: row.severity,
            kind: row.kind,
            title: row.title,
            detail: row.detail,
            at: row.at,
            machine: fleet.machine(&row.key.node),
            node: row.key.node.to_string(),
            session: Some(session),
            seq: Some(row.seq),
            state: "open".to_owned(),
            assignee: None,
            note: String::new(),
            may_settle: false,
            by: None,
            settled: None,
        }
    }

    /// Makes a finding of what a machine did and must not, if the caller may see the machine.
    fn accused(row: AccusationRow, fleet: &Fleet) -> Option<Self> {
        let node: NodeId = row.node.parse().ok()?;
        if !fleet.may_see(&node) {
            return None;
        }
        Some(Self {
            id: format!("n-{}", row.id),
            severity: "high".to_owned(),
            title: format!("the machine: {}", row.kind),
            kind: row.kind,
            detail: row.detail,
            at: row.at,
            machine: fleet.machine(&node),
            node: row.node,
            session: row.session,
            seq: None,
            state: "open".to_owned(),
            assignee: None,
            note: String::new(),
            may_settle: false,
            by: None,
            settled: None,
        })
    }

    fn settle(&mut self, row: Option<&TriageRow>, fleet: &Fleet) {
        let Some(row) = row else { return };
        self.state.clone_from(&row.state);
        self.note.clone_from(&row.note);
        self.assignee = row.assignee.as_ref().map(|user| fleet.person(user));
        self.by = Some(fleet.person(&row.by));
        self.settled = Some(row.at);
    }

    fn is_open(&self) -> bool {
        matches!(self.state.as_str(), "open" | "escalated")
    }
}

/// `GET /findings`
pub(crate) async fn show(call: Arc<Call>) -> Result<Findings, Problem> {
    let which = match call.query("which") {
        "settled" => "settled",
        "all" => "all",
        _ => "open",
    };
    let wanted = call.query("id");
    let (mut findings, more) = all(&call).await?;
    findings.retain(|finding| {
        let is_which = match which {
            "settled" => !finding.is_open(),
            "all" => true,
            _ => finding.is_open(),
        };
        is_which || finding.id == wanted
    });
    let too_many = findings.len() > SHOWN;
    let place = findings.iter().position(|finding| finding.id == wanted);
    // The one that was asked for is there in any case.
    if let Some(place) = place.filter(|place| *place >= SHOWN) {
        findings.swap(0, place);
    }
    findings.truncate(SHOWN);
    let chosen = findings.iter().position(|finding| finding.id == wanted);
    Ok(Findings {
        which,
        findings,
        more: more || too_many,
        chosen,
    })
}

impl View for Findings {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            @if call.query("done") == "settled" { (note(Mood::Good, "It is noted what this finding is.")) }
            nav.choices aria-label="Which findings" {
                @for (which, words) in [("open", "Open"), ("settled", "Settled"), ("all", "All")] {
                    a href={ "/findings?which=" (which) } aria-current=[(which == self.which).then_some("true")] { (words) }
                }
            }
            @if let Some(chosen) = self.chosen.and_then(|at| self.findings.get(at)) { (detail(chosen, call, self.similar(chosen))) }
            @if self.findings.is_empty() { (empty(
                match self.which { "settled" => "No finding is settled.", "all" => "There is no finding.", _ => "No finding is open." },
                "A finding is raised when a secret is sent, a program cannot be verified, events are lost, or a machine sends a record that is not whole.",
            )) }
            @else { (self.table(call.now)) }
            @if self.more { p.quiet { "Older findings are not shown; " a href="/search?q=kind%3Afinding" { "search" } " has them." } }
        };
        Page::new("Findings", body).lead("What is wrong, and is it expected, a mistake, or worse?")
    }
}

impl Findings {
    fn similar(&self, chosen: &Finding) -> usize {
        let same = |one: &&Finding| {
            one.kind == chosen.kind && one.title == chosen.title && one.id != chosen.id
        };
        self.findings.iter().filter(same).count()
    }

    fn table(&self, now: UnixMillis) -> Markup {
        html! {
            .table tabindex="0" role="region" aria-label="Findings" { table {
                thead { tr {
                    th scope="col" { "Finding" } th scope="col" { "Severity" } th scope="col" { "State" }
                    th scope="col" { "Machine" } th scope="col" { "When" }
                } }
                tbody { @for finding in &self.findings {
                    @let link: String = url::form_urlencoded::Serializer::new(String::new())
                        .append_pair("which", self.which).append_pair("id", &finding.id).finish();
                    tr data-row {
                        th scope="row" { a href={ "/findings?" (link) "#chosen" } { (foreign(&finding.title)) } span.hint { (foreign(&finding.detail)) } }
                        td { (severity(&finding.severity)) }
                        td { (words_of(&finding.state)) @if let Some(name) = &finding.assignee { span.hint { (foreign(name)) } } }
                        td { (foreign(&finding.machine)) }
                        td.nowrap { (time(finding.at, now)) }
                    }
                } }
            } }
        }
    }
}

fn severity(word: &str) -> Markup {
    match word {
        "high" => state(Mood::Bad, "high"),
        "medium" => state(Mood::Open, "medium"),
        _ => state(Mood::Plain, "low"),
    }
}

fn words_of(word: &str) -> Markup {
    let words = STATES.iter().find(|(state, _)| *state == word);
    let words = words.map_or("open", |(_, words)| words);
    let mood = match word {
        "expected" => Mood::Good,
        "escalated" => Mood::Bad,
        "mistake" => Mood::Plain,
        _ => Mood::Open,
    };
    state(mood, words)
}

fn detail(finding: &Finding, call: &Call, similar: usize) -> Markup {
    html! {
        section.card #chosen aria-labelledby="chosen-title" {
            h2 #chosen-title { (foreign(&finding.title)) }
            dl.facts {
                dt { "Severity" } dd { (severity(&finding.severity)) }
                dt { "What" } dd { (foreign(&finding.detail)) }
                dt { "Kind" } dd { code { (foreign(&finding.kind)) } }
                dt { "Machine" } dd { a href={ "/fleet/" (finding.node) } { (foreign(&finding.machine)) } }
                dt { "When" } dd { (time(finding.at, call.now)) }
                @if let Some(session) = &finding.session {
                    dt { "Evidence" } dd {
                        @match finding.seq {
                            Some(seq) => a href={ "/sessions/" (finding.node) "/" (session) "?at=" (seq) "#e" (seq) } { "event " (seq) " in the timeline" },
                            None => a href={ "/sessions/" (finding.node) "/" (session) } { "the session" },
                        }
                    }
                }
                dt { "State" } dd {
                    (words_of(&finding.state))
                    @if let (Some(by), Some(at)) = (&finding.by, finding.settled) { ", said by " (foreign(by)) " " (time(at, call.now)) }
                    @if !finding.note.is_empty() { span.hint { (foreign(&finding.note)) } }
                }
                dt { "Similar" } dd { (similar) " more on this page" }
            }
            @if finding.may_settle { (form(finding, call)) }
        }
    }
}

fn form(finding: &Finding, call: &Call) -> Markup {
    html! {
        form.fields method="post" action="/findings" {
            (token(call))
            input type="hidden" name="id" value=(finding.id);
            fieldset {
                legend { "What is it?" }
                @for (state, words) in STATES {
                    label.choice { input type="radio" name="state" value=(state) checked[finding.state == state] required; (words) }
                }
            }
            label.choice { input type="checkbox" name="mine" value="1"; "I look into it" }
            div {
                label for="note" { "Note" span.hint { "Others see it." } }
                input #note name="note" maxlength=(NOTE_CHARS_MAX) value=(finding.note);
            }
            .buttons { button { "Settle" } }
        }
    }
}

/// `POST /findings`
pub(crate) async fn settle(call: Arc<Call>) -> Result<Answer, Problem> {
    let wanted = call.form.get("id");
    let (node, session, seq) = named(wanted);
    let state = call.form.get("state");
    if !STATES.iter().any(|(word, _)| *word == state) {
        return Err(Problem::wrong(
            "a finding is open, expected, a mistake or escalated",
            "choose what it is",
        ));
    }
    let server = &call.web.server;
    // It has to exist, for whoever settles it.
    let (findings, _) = all(&call).await?;
    let known = findings.iter().find(|finding| finding.id == wanted);
    let known = known.and_then(|finding| finding.node.parse().ok());
    let fleet = Fleet::read(&call).await?;
    let of = match (known, node, session, seq) {
        (Some(known), _, _, _) => Some(known),
        (None, Some(node), Some(session), Some(seq)) if fleet.may_see(&node) => {
            let key = crate::state::SessionKey { node, session };
            let is_raised = server.index.is_raised(&key, seq).await?;
            is_raised.then_some(key.node)
        }
        _ => None,
    };
    let of = of.and_then(|id| fleet.node(&id));
    let thing = access::session(of.ok_or_else(Problem::not_found)?);
    call.permit(Action::TriageFindings, &thing, Circumstances::default())?;
    let by = call.caller()?.user.clone();
    let text: String = call.form.get("note").chars().take(NOTE_CHARS_MAX).collect();
    let row = TriageRow {
        finding: wanted.to_owned(),
        state: state.to_owned(),
        assignee: (call.form.get("mine") == "1").then(|| UserId(by.0.clone())),
        note: text,
        by,
        at: call.now,
    };
    server.state.triage(&row).await?;
    Ok(Answer::See("/findings?done=settled".to_owned(), None))
}

/// Reads the id of a finding of a journal.
fn named(id: &str) -> (Option<NodeId>, Option<SessionId>, Option<u64>) {
    let mut parts = id.splitn(3, '/');
    let mut next = || parts.next().unwrap_or_default();
    (
        next().parse().ok(),
        next().parse().ok(),
        next().parse().ok(),
    )
}
