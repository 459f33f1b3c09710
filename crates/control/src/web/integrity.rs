//! Whether records are whole: per machine and day, and what exactly is wrong where they are not.

use std::{collections::BTreeMap, sync::Arc};

use maud::{Markup, html};
use serde::Serialize;
use stockade_api::NodeId;
use stockade_journal::{VerificationVerdict, VerifyingKey};
use stockade_types::UnixMillis;

use super::{
    access::Action,
    call::Call,
    page::{Mood, Page, empty, foreign, note, state, time, token},
    problem::Problem,
    serving::{Answer, View},
    sessions,
};
use crate::{
    act::{Act, Action as Done},
    state::SessionRow,
};

const DAY_MS: u64 = 86_400_000;
/// Days that the page has.
const DAYS: u64 = 14;
/// Sessions that are looked at for it, the last ones first.
const SESSIONS: u32 = 20_000;
/// Faults that are listed one by one, and machines with days of one page.
const FAULTS: usize = 40;
const ROWS: usize = 60;
/// Bytes of a journal that a person can have verified again on the page.
const VERIFY_BYTES_MAX: u64 = 512 << 20;

/// Records.
#[derive(Debug, Serialize)]
pub(crate) struct Integrity {
    /// The newest day first.
    days: Vec<Day>,
    /// Sessions with a fault, or that lost events.
    faults: Vec<Fault>,
    /// Whether sessions or faults were left out.
    more: bool,
    /// Where the next page of days begins: `?from=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<usize>,
}

/// The sessions of one machine that began on one day.
#[derive(Debug, Default, Serialize)]
struct Day {
    /// In days since 1970.
    day: u64,
    node: String,
    machine: String,
    sessions: u64,
    /// Events that are here and for which the machine has a receipt.
    events: u64,
    /// Sessions whose signed end is here.
    ended: u64,
    /// Sessions that run.
    running: u64,
    /// Sessions that neither run nor have an end.
    unfinished: u64,
    /// Sessions with a fault.
    broken: u64,
    /// Events that sessions could not record.
    lost: u64,
}

/// What is wrong with a record.
#[derive(Debug, Serialize)]
struct Fault {
    node: String,
    session: String,
    machine: String,
    started: Option<UnixMillis>,
    /// What exactly.
    what: String,
    /// Whether the journal is not what its machine signed.
    broken: bool,
}

/// `GET /integrity`
pub(crate) async fn show(call: Arc<Call>) -> Result<Integrity, Problem> {
    let sight = call.sight(Action::SeeIntegrity)?;
    let server = &call.web.server;
    let nodes = server.state.nodes().await?;
    let names: BTreeMap<String, String> = nodes
        .iter()
        .filter(|node| sight.has(node))
        .map(|node| (node.id.to_string(), node.name.clone()))
        .collect();
    let since = UnixMillis(call.now.0.saturating_sub(DAYS * DAY_MS));
    let seen: Vec<NodeId> = nodes
        .iter()
        .filter(|node| sight.has(node))
        .map(|node| node.id.clone())
        .collect();
    let seen = (!sight.is_whole()).then_some(seen.as_slice());
    let rows = server.state.records(seen, since, SESSIONS + 1).await?;
    let losses: BTreeMap<(String, String), u64> = server
        .index
        .losses()
        .await?
        .into_iter()
        .map(|(key, lost)| {
            (
                (key.node.to_string(), key.session.as_str().to_owned()),
                lost,
            )
        })
        .collect();
    let more = rows.len() > usize::try_from(SESSIONS).unwrap_or(usize::MAX);
    let mut days: BTreeMap<(u64, String), Day> = BTreeMap::new();
    let mut faults = Vec::new();
    for row in &rows {
        let node = row.key.node.to_string();
        let Some(name) = names.get(&node) else {
            continue;
        };
        let key = (node, row.key.session.as_str().to_owned());
        let lost = losses.get(&key).copied().unwrap_or_default();
        let begun = row.started.unwrap_or(row.updated).0 / DAY_MS;
        let day = days.entry((begun, key.0.clone())).or_default();
        day.add(row, lost);
        day.day = begun;
        day.node.clone_from(&key.0);
        day.machine.clone_from(name);
        faults.extend(Fault::of(row, lost, name));
    }
    let too_many = faults.len() > FAULTS;
    faults.sort_by_key(|fault| {
        (
            !fault.broken,
            std::cmp::Reverse(fault.started.map(|at| at.0)),
        )
    });
    faults.truncate(FAULTS);
    let from: usize = call.query("from").parse().unwrap_or_default();
    let next = from.saturating_add(ROWS);
    Ok(Integrity {
        next: (days.len() > next).then_some(next),
        days: days.into_values().rev().skip(from).take(ROWS).collect(),
        faults,
        more: more || too_many,
    })
}

impl Day {
    fn add(&mut self, row: &SessionRow, lost: u64) {
        self.sessions += 1;
        self.events = self.events.saturating_add(row.stored.events);
        self.lost = self.lost.saturating_add(lost);
        self.broken += u64::from(row.fault.is_some());
        self.ended += u64::from(row.stored.closed);
        let is_running = row.is_live && !row.stored.closed;
        self.running += u64::from(is_running);
        self.unfinished += u64::from(!is_running && !row.stored.closed);
    }
}

impl Fault {
    fn of(row: &SessionRow, lost: u64, machine: &str) -> Option<Self> {
        let broken = row.fault.is_some();
        let what = match (&row.fault, lost) {
            (Some(fault), _) => fault.clone(),
            (None, 0) => return None,
            (None, lost) => format!("{lost} events could not be recorded on the machine"),
        };
        Some(Self {
            node: row.key.node.to_string(),
            session: row.key.session.as_str().to_owned(),
            machine: machine.to_owned(),
            started: row.started,
            what,
            broken,
        })
    }
}

impl View for Integrity {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            h2 { "What is wrong" }
            @if self.faults.is_empty() { (note(Mood::Good, "No record of the last two weeks has a fault, and no event was lost.")) }
            @else { (self.faults(call.now)) }
            h2 #days { "By machine and day" }
            @if self.days.is_empty() { (empty("No record of the last two weeks is here.", html! {
                "Machines send theirs as soon as they are connected: " a href="/fleet" { "which are" } "?"
            })) }
            @else { (self.days()) }
            @if let Some(next) = self.next { nav.pager aria-label="Pages" { a.button href={ "/integrity?from=" (next) "#days" } { "Earlier" } } }
            @if self.more { p.quiet { "There are more than the page lists." } }
            p.quiet {
                "Every event here is in an unbroken chain of numbers from 1, signed by its machine, and on the disk of this server; "
                "its machine has a signed receipt for it. A gap, a changed byte or a wrong signature is a fault, and nothing of such a session is taken any more."
            }
        };
        Page::new("Integrity", body).lead("Is the record complete and unchanged?")
    }
}

impl Integrity {
    fn faults(&self, now: UnixMillis) -> Markup {
        html! {
            .table tabindex="0" role="region" aria-label="Faults" { table {
                thead { tr {
                    th scope="col" { "Session" } th scope="col" { "Fault" } th scope="col" { "Machine" } th scope="col" { "Began" }
                } }
                tbody { @for fault in &self.faults { tr data-row {
                    th scope="row" { a href={ "/integrity/" (fault.node) "/" (fault.session) } { code { (fault.session) } } }
                    td { @if fault.broken { (state(Mood::Bad, "broken")) } @else { (state(Mood::Open, "events lost")) } span.hint { (foreign(&fault.what)) } }
                    td { (foreign(&fault.machine)) }
                    td.nowrap { @if let Some(at) = fault.started { (time(at, now)) } @else { "unknown" } }
                } } }
            } }
        }
    }

    fn days(&self) -> Markup {
        html! {
            .table tabindex="0" role="region" aria-label="Records by machine and day" { table {
                thead { tr {
                    th scope="col" { "Day" } th scope="col" { "Machine" } th.number scope="col" { "Sessions" }
                    th.number scope="col" { "Events, all with receipts" } th.number scope="col" { "Signed ends" }
                    th.number scope="col" { "Running" } th.number scope="col" { "No end" }
                    th.number scope="col" { "Broken" } th.number scope="col" { "Events lost" }
                } }
                tbody { @for day in &self.days { tr data-row {
                    th.nowrap scope="row" { (date(day.day)) }
                    td { a href={ "/sessions?node=" (day.node) } { (foreign(&day.machine)) } }
                    td.number { (day.sessions) }
                    td.number { (day.events) }
                    td.number { (day.ended) }
                    td.number { (day.running) }
                    td.number { @if day.unfinished > 0 { span.open { (day.unfinished) } } @else { "0" } }
                    td.number { @if day.broken > 0 { span.bad { (day.broken) } } @else { "0" } }
                    td.number { @if day.lost > 0 { span.bad { (day.lost) } } @else { "0" } }
                } } }
            } }
        }
    }
}

fn date(day: u64) -> String {
    let text = stockade_event::rfc3339(day.saturating_mul(DAY_MS).saturating_mul(1_000_000));
    text.get(..10).unwrap_or(&text).to_owned()
}

/// The record of one session.
#[derive(Debug, Serialize)]
pub(crate) struct OneRecord {
    node: String,
    session: String,
    machine: String,
    /// Events, and bytes, that are here and were checked.
    events: u64,
    bytes: u64,
    /// The chain value of the last line.
    chain: String,
    /// Whether the signed end is here.
    closed: bool,
    fault: Option<String>,
    /// What the verification said that a person has just asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<Verified>,
}

/// What a verification said.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verified {
    /// `intact`, `unfinished` or `broken`.
    verdict: &'static str,
    events: u64,
    /// What is wrong, one line each.
    faults: Vec<String>,
    /// Whether the last line is the one of the receipt.
    receipted: bool,
}

/// `GET /integrity/{node}/{session}`
pub(crate) async fn one(call: Arc<Call>) -> Result<OneRecord, Problem> {
    let (_, row, session) = sessions::find_for(&call, Action::SeeIntegrity).await?;
    Ok(OneRecord::of(&row, session.machine, None))
}

impl OneRecord {
    fn of(row: &SessionRow, machine: String, verified: Option<Verified>) -> Self {
        Self {
            node: row.key.node.to_string(),
            session: row.key.session.as_str().to_owned(),
            machine,
            events: row.stored.events,
            bytes: row.stored.offset,
            chain: row.stored.chain.to_string(),
            closed: row.stored.closed,
            fault: row.fault.clone(),
            verified,
        }
    }
}

impl View for OneRecord {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            @if let Some(verified) = &self.verified { (said(verified)) }
            @if let Some(fault) = &self.fault { (note(Mood::Bad, html! { "The record is broken: " (foreign(fault)) })) }
            dl.facts {
                dt { "Machine" } dd { a href={ "/fleet/" (self.node) } { (foreign(&self.machine)) } }
                dt { "Here" } dd { (self.events) " events, " (stockade_event::text::bytes(self.bytes)) }
                dt { "Signed end" } dd { @if self.closed { (state(Mood::Good, "here")) } @else { (state(Mood::Open, "not yet")) } }
                dt { "Last line" } dd { code { (self.chain) } span.hint { "The receipt of the machine has this value; " code { "stockade log verify" } " compares it there." } }
            }
            form.stop method="post" action={ "/integrity/" (self.node) "/" (self.session) } {
                (token(call))
                button { "Verify now" }
            }
            p { a href={ "/sessions/" (self.node) "/" (self.session) } { "The session" } }
        };
        Page::new(format!("Record {}", self.session), body)
            .lead("Every line of the journal, with its chain and its signatures.")
    }
}

fn said(verified: &Verified) -> Markup {
    let (mood, words) = match verified.verdict {
        "intact" => (
            Mood::Good,
            "Every line is as it was signed, to the signed end.",
        ),
        "unfinished" => (
            Mood::Good,
            "Every line is as it was signed; the signed end is not here.",
        ),
        _ => (
            Mood::Bad,
            "The journal on this server is not as it was signed.",
        ),
    };
    html! {
        (note(mood, html! { (words) " " (verified.events) " events were verified." }))
        @if !verified.receipted { (note(Mood::Bad, "The last line is not the one that this server has signed a receipt for.")) }
        @if !verified.faults.is_empty() { ul { @for fault in &verified.faults { li { (foreign(fault)) } } } }
    }
}

/// `POST /integrity/{node}/{session}`
pub(crate) async fn verify(call: Arc<Call>) -> Result<Answer, Problem> {
    let (fleet, row, session) = sessions::find_for(&call, Action::SeeIntegrity).await?;
    if row.stored.offset > VERIFY_BYTES_MAX {
        return Err(Problem::wrong(
            "the journal has more than 512 MiB",
            "run `stockade log verify` in the directory of the server",
        ));
    }
    let node = fleet.nodes.iter().find(|node| node.id == row.key.node);
    let key = node.and_then(|node| node.journal_key.parse::<VerifyingKey>().ok());
    let key = key.ok_or_else(Problem::not_found)?;
    let own = row.clone();
    let verified = sessions::read(&call, &row.key, move |dir| verify_now(dir, key, &own));
    let verified = verified.await?;
    let server = &call.web.server;
    let mut writing = server.state.write().await?;
    let act = Act::new(Done::JournalVerified)
        .by(&call.caller()?.user.0)
        .node(row.key.node.as_str())
        .session(row.key.session.as_str())
        .detail(verified.verdict);
    server.state.note(&mut writing, &act, call.now).await?;
    server.state.commit(writing).await?;
    let view = OneRecord::of(&row, session.machine, Some(verified));
    Ok(Answer::Page(view.page(&call)))
}

/// Verifies a journal on the disk of the server as far as it has signed a receipt; blocks.
fn verify_now(dir: &std::path::Path, key: VerifyingKey, row: &SessionRow) -> Verified {
    const FAULT_LINES: usize = 20;
    let failed = |why: String| Verified {
        verdict: "broken",
        events: 0,
        faults: vec![why],
        receipted: false,
    };
    let mut checker = stockade_journal::Checker::new(row.key.session.clone(), key);
    if let Err(error) = feed(dir, &mut checker, row.stored.offset) {
        return failed(format!("the journal cannot be read: {error}"));
    }
    let so_far = checker.so_far();
    let receipted = so_far.seq == row.stored.events && so_far.chain == row.stored.chain;
    let verification = checker.finish(None, 0);
    let (verdict, faults) = match verification.verdict {
        VerificationVerdict::Intact => ("intact", Vec::new()),
        VerificationVerdict::Unfinished { .. } => ("unfinished", Vec::new()),
        VerificationVerdict::Broken { faults, .. } => ("broken", faults),
    };
    let line = |fault: &stockade_journal::Fault| format!("line {}: {}", fault.line, fault.detail);
    Verified {
        verdict,
        events: so_far.seq,
        faults: faults.iter().take(FAULT_LINES).map(line).collect(),
        receipted,
    }
}

fn feed(
    dir: &std::path::Path,
    checker: &mut stockade_journal::Checker,
    until: u64,
) -> std::io::Result<()> {
    use std::io::Read as _;
    const CHUNK_BYTES: usize = 256 * 1024;
    let file = std::fs::File::open(dir.join(stockade_journal::layout::JOURNAL_FILE))?;
    let mut rest = file.take(until);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = rest.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        checker.feed(chunk.get(..read).unwrap_or_default());
    }
}
