//! Proposals of policy: what would change, what is wrong with it, and the review of another person.

use std::sync::Arc;

use axum::http::StatusCode;
use maud::{Markup, html};
use serde::Serialize;
use stockade_policy::{
    access::Thing,
    diff::{Change, Direction, PolicyDiff},
};
use stockade_trust::{PlanStep, StepKind, UserId};
use stockade_types::{Digest, UnixMillis};

use super::{
    access::{Action, Circumstances},
    call::Call,
    me::fresh,
    page::{Mood, Page, empty, foreign, may, state, time, token},
    policy::{Checked, check_apart, named, text_form},
    problem::Problem,
    serving::{Answer, View},
};
use crate::{
    policy::{Line, ProposalError, Review, compared, difference},
    rollouts::usual_plan,
    state::{ProposalRow, ProposalState, UserRow},
};

/// Proposals that the page lists.
const LISTED: u32 = 50;
/// Characters of what is said about a proposal.
const REASON_CHARS_MAX: usize = 300;
/// Lines of a difference on a page.
const LINES_SHOWN: usize = 2_000;
/// Changes on a page.
const CHANGES_SHOWN: usize = 500;
/// Changes that are acknowledged one by one; more of them are with one mark.
const MARKS_MAX: usize = 20;
/// Milliseconds of a minute.
const MINUTE_MS: u64 = 60_000;

/// A proposal, as lists show it.
#[derive(Debug, Serialize)]
struct Listed {
    id: String,
    base: u64,
    message: String,
    author: String,
    created: UnixMillis,
    state: ProposalState,
    reviewer: Option<String>,
    reviewed: Option<UnixMillis>,
    reason: Option<String>,
    serial: Option<u64>,
}

impl Listed {
    fn of(row: &ProposalRow, users: &[UserRow]) -> Self {
        Self {
            id: row.id.clone(),
            base: row.base,
            message: row.message.clone(),
            author: named(&row.author, users),
            created: row.created,
            state: row.state,
            reviewer: row.reviewer.as_ref().map(|by| named(by, users)),
            reviewed: row.reviewed,
            reason: row.reason.clone(),
            serial: row.serial,
        }
    }
}

fn mood(proposal: ProposalState) -> Markup {
    match proposal {
        ProposalState::Open => state(Mood::Open, "waits for a review"),
        ProposalState::Published => state(Mood::Good, "published"),
        ProposalState::Rejected => state(Mood::Bad, "rejected"),
        ProposalState::Withdrawn => state(Mood::Plain, "withdrawn"),
    }
}

/// All proposals.
#[derive(Debug, Serialize)]
pub(crate) struct Proposals {
    proposals: Vec<Listed>,
    /// What a new one begins with, and the serial of that.
    #[serde(skip)]
    text: String,
    serial: u64,
}

/// `GET /policy/proposals`
pub(crate) async fn show(call: Arc<Call>) -> Result<Proposals, Problem> {
    let server = &call.web.server;
    let users = server.state.users().await?;
    let rows = server.state.proposals(LISTED).await?;
    let (serial, text) = server.in_force().await?.unwrap_or_default();
    Ok(Proposals {
        proposals: rows.iter().map(|row| Listed::of(row, &users)).collect(),
        text,
        serial,
    })
}

impl View for Proposals {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            @if self.proposals.is_empty() {
                (empty("Nothing is proposed.", "Whoever has the role policy-author proposes a change; another person with the role policy-approver approves it."))
            } @else {
                .table { table {
                    thead { tr {
                        th scope="col" { "Why" } th scope="col" { "State" } th scope="col" { "By" }
                        th scope="col" { "When" } th scope="col" { "On serial" } th scope="col" { "Reviewed by" }
                    } }
                    tbody { @for one in &self.proposals {
                        tr data-row {
                            th scope="row" { a href={ "/policy/proposals/" (one.id) } {
                                @if one.message.is_empty() { (one.id) } @else { (foreign(&one.message)) }
                            } }
                            td { (mood(one.state)) }
                            td { (foreign(&one.author)) }
                            td { (time(one.created, call.now)) }
                            td { (one.base) }
                            td { @if let Some(by) = &one.reviewer { (foreign(by)) } @else { span.quiet { "nobody yet" } } }
                        }
                    } }
                } }
            }
            @if may(call, Action::ProposePolicy) {
                h2 #new { "Propose a change" }
                (text_form(call, &self.text, "", self.serial, &[("propose", "Propose")]))
            }
        };
        Page::new("Proposals", body)
            .lead("A change of policy is written by one person and approved by another one.")
            .live("fleet")
    }
}

/// A proposal.
#[derive(Debug, Serialize)]
pub(crate) struct OneProposal {
    #[serde(flatten)]
    proposal: Listed,
    author_id: String,
    /// The serial in force now.
    in_force: u64,
    text: String,
    lines: Vec<OwnLine>,
    /// What it would newly allow, ask and deny; none if one of the two policies cannot be loaded.
    changes: Option<Vec<Change>>,
    /// Names all changes that let more happen, or could.
    acknowledges: Option<Digest>,
    checked: Checked,
    /// Whether the caller is its author.
    own: bool,
}

/// A line of the difference to what is in force.
#[derive(Debug, Serialize)]
#[serde(tag = "is", content = "line", rename_all = "lowercase")]
enum OwnLine {
    Same(String),
    Removed(String),
    Added(String),
    Skipped(usize),
}

impl From<Line<'_>> for OwnLine {
    fn from(line: Line<'_>) -> Self {
        match line {
            Line::Same(line) => Self::Same(line.to_owned()),
            Line::Removed(line) => Self::Removed(line.to_owned()),
            Line::Added(line) => Self::Added(line.to_owned()),
            Line::Skipped(count) => Self::Skipped(count),
        }
    }
}

/// `GET /policy/proposals/{proposal}`
pub(crate) async fn one(call: Arc<Call>) -> Result<OneProposal, Problem> {
    let server = &call.web.server;
    let row = server.state.proposal(call.param("proposal")).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    let users = server.state.users().await?;
    let (in_force, before) = server.in_force().await?.unwrap_or_default();
    let checked = check_apart(&call, row.text.clone()).await?;
    let new = row.text.clone();
    let (lines, diff) = server
        .blocking(move || {
            let lines = difference(&before, &new).into_iter();
            (lines.map(OwnLine::from).collect(), compared(&before, &new))
        })
        .await?;
    Ok(OneProposal {
        proposal: Listed::of(&row, &users),
        own: call.caller()?.user.0 == row.author,
        author_id: row.author,
        in_force,
        text: row.text,
        lines,
        acknowledges: diff.as_ref().and_then(PolicyDiff::acknowledges),
        changes: diff.map(|diff| diff.changes),
        checked,
    })
}

impl View for OneProposal {
    fn page(&self, call: &Call) -> Page {
        let one = &self.proposal;
        let is_open = one.state == ProposalState::Open;
        let body = html! {
            dl.facts {
                dt { "State" } dd { (mood(one.state)) }
                dt { "Why" } dd { (foreign(&one.message)) }
                dt { "By" } dd { (foreign(&one.author)) ", " (time(one.created, call.now)) }
                dt { "Made on" } dd {
                    "serial " (one.base)
                    @if is_open && one.base != self.in_force { ", and " strong { "serial " (self.in_force) " is in force now" } }
                }
                @if let Some(by) = &one.reviewer { dt { "Reviewed by" } dd { (foreign(by)) } }
                @if let Some(reason) = one.reason.as_ref().filter(|reason| !reason.is_empty()) {
                    dt { "Said" } dd { (foreign(reason)) }
                }
                @if let Some(serial) = one.serial { dt { "Published as" } dd { "serial " (serial) } }
            }
            h2 { "Checked" }
            (self.checked.shown())
            h2 { "What would change" }
            (self.words())
            (self.difference())
            @if is_open { (self.review(call)) }
            p { a href="/policy/proposals" { "All proposals" } }
        };
        Page::new("Proposal", body)
            .lead("What this change would do, and who wants it.")
            .live("fleet")
    }
}

impl OneProposal {
    /// The changes in words, those that let more happen marked.
    fn words(&self) -> Markup {
        let Some(changes) = &self.changes else {
            return html! { p.quiet { "One of the two policies cannot be loaded, so only their lines can be compared." } };
        };
        html! {
            @if changes.is_empty() { p { "The two policies do the same." } }
            @else {
                ul.changes { @for change in changes.iter().take(CHANGES_SHOWN) {
                    li { (state(mood_of(change.direction), change.direction.in_words())) " " (said(change)) }
                } }
                @if changes.len() > CHANGES_SHOWN { p.quiet { "… and " (changes.len() - CHANGES_SHOWN) " more changes; " code { "stockade policy diff" } " lists all." } }
            }
        }
    }

    /// The changes that whoever approves has to acknowledge.
    fn acknowledgements(&self) -> Markup {
        let changes = self.changes.as_deref().unwrap_or_default();
        let loosens = |change: &&Change| change.loosens();
        let loosening: Vec<&Change> = changes.iter().filter(loosens).collect();
        let mark = |digest: Digest, words: Markup| {
            html! {
                label.choice { input type="checkbox" name="acknowledged" value=(digest) required; span { (words) } }
            }
        };
        html! {
            @if let Some(all) = self.acknowledges {
                fieldset {
                    legend { "It lets more happen" }
                    @if loosening.len() > MARKS_MAX {
                        (mark(all, html! { "I have read all " (loosening.len()) " changes that let more happen, or could" }))
                    } @else {
                        @for change in loosening { (mark(change.digest, said(change))) }
                    }
                }
            }
        }
    }

    fn difference(&self) -> Markup {
        let changes = |line: &&OwnLine| matches!(line, OwnLine::Added(_) | OwnLine::Removed(_));
        html! {
            @if !self.lines.iter().any(|line| changes(&line)) { p.quiet { "No line differs from what is in force." } }
            @else {
                pre.difference tabindex="0" aria-label="Lines that change" {
                    @for line in self.lines.iter().take(LINES_SHOWN) {
                        @match line {
                            OwnLine::Same(line) => { "  " (foreign(line)) "\n" }
                            OwnLine::Removed(line) => del { "- " (foreign(line)) "\n" },
                            OwnLine::Added(line) => ins { "+ " (foreign(line)) "\n" },
                            OwnLine::Skipped(count) => span.quiet { "  … " (count) " equal lines\n" },
                        }
                    }
                    @if self.lines.len() > LINES_SHOWN { span.quiet { "  … and " (self.lines.len() - LINES_SHOWN) " more lines\n" } }
                }
            }
            details {
                summary { "The whole text" }
                pre tabindex="0" aria-label="The proposed policy" { (super::page::lines(&self.text)) }
            }
        }
    }

    /// The forms of a review.
    fn review(&self, call: &Call) -> Markup {
        let action = format!("/policy/proposals/{}", self.proposal.id);
        html! {
            h2 #review { "Review" }
            @if self.own {
                p { "You wrote it, so another person reviews it." }
                form method="post" action=(action) {
                    (token(call))
                    .buttons { button.no name="do" value="withdraw" { "Withdraw" } }
                }
            } @else if may(call, Action::PublishPolicy) {
                form.fields method="post" action=(action) {
                    (token(call))
                    div {
                        label for="reason" { "What you say" span.hint { "Others see it." } }
                        input #reason name="reason" maxlength=(REASON_CHARS_MAX);
                    }
                    (self.acknowledgements())
                    (plan_fields(self.in_force > 0))
                    .buttons {
                        button.main name="do" value="approve" disabled[!self.checked.is_valid()] { "Approve and publish" }
                        button.no name="do" value="reject" formnovalidate { "Reject" }
                    }
                }
            } @else {
                p { "A person with the role policy-approver reviews it." }
            }
        }
    }
}

/// Says what is different, and what becomes of requests.
fn said(change: &Change) -> Markup {
    let at = change.new.as_ref().or(change.old.as_ref());
    html! {
        (foreign(&change.what))
        @if let Some(id) = at.and_then(|at| at.id.as_ref()) { " (" code { (foreign(id.as_str())) } ")" }
        @for effect in &change.effects {
            br; span.quiet { (foreign(&effect.with_example())) }
        }
    }
}

fn mood_of(direction: Direction) -> Mood {
    match direction {
        Direction::Loosens | Direction::Both => Mood::Open,
        Direction::Tightens => Mood::Good,
        Direction::Neither => Mood::Plain,
    }
}

/// Asks how the policy reaches the machines.
fn plan_fields(is_later: bool) -> Markup {
    if !is_later {
        return html! { p.quiet { "It is the first policy, so it is in force at once." } };
    }
    let usual = usual_plan();
    let minutes = |kind: StepKind| {
        let step = usual.iter().find(|step| step.kind == kind);
        step.map_or(0, |step| step.min_time_ms / MINUTE_MS)
    };
    let canaries: Vec<String> = usual
        .iter()
        .filter(|step| step.kind == StepKind::Canary)
        .map(|step| step.percent.to_string())
        .collect();
    let number = |id: &'static str, name: &str, hint: &str, value: u64| {
        html! {
            div {
                label for=(id) { (name) span.hint { (hint) } }
                input id=(id) name=(id) type="number" min="0" value=(value);
            }
        }
    };
    html! {
        fieldset {
            legend { "How it reaches the machines" }
            label.choice { input type="radio" name="plan" value="steps" checked; "Step by step, and back by itself if a guard is hit" }
            label.choice { input type="radio" name="plan" value="now"; "At once, on all machines" }
        }
        (number("shadow_minutes", "Compare for, in minutes", "The policy in force decides, and both are compared. 0 leaves this step out.", minutes(StepKind::Shadow)))
        div {
            label for="canaries" { "Then on so many percent of the machines" span.hint { "One number for each step, growing, for example 5 25." } }
            input #canaries name="canaries" value=(canaries.join(" "));
        }
        (number("canary_minutes", "Each for, in minutes", "At least so long.", minutes(StepKind::Canary)))
        (number("min_sessions", "And until so many sessions were seen", "On the machines of the step.", 20))
        (number("min_decisions", "And so many decisions", "In these sessions.", 500))
    }
}

/// Reads a plan from the form; none for "at once".
fn steps(call: &Call) -> Result<Vec<PlanStep>, Problem> {
    let form = &call.form;
    if form.get("plan") != "steps" {
        return Ok(Vec::new());
    }
    let wrong = |name: &str| {
        Problem::wrong(
            format!("`{name}` is no number that a plan can have"),
            "write whole numbers; percents from 1 to 99, growing",
        )
    };
    let number = |name: &str| form.get(name).parse::<u64>().map_err(|_| wrong(name));
    let (sessions, decisions) = (number("min_sessions")?, number("min_decisions")?);
    let step = |kind, percent, minutes: u64| PlanStep {
        kind,
        percent,
        min_time_ms: minutes.saturating_mul(MINUTE_MS),
        min_decisions: decisions,
        min_sessions: sessions,
    };
    let mut steps = Vec::new();
    match number("shadow_minutes")? {
        0 => {}
        minutes => steps.push(step(StepKind::Shadow, 100, minutes)),
    }
    let minutes = number("canary_minutes")?;
    for percent in form.get("canaries").split_whitespace() {
        let percent = percent.parse().map_err(|_| wrong("canaries"))?;
        steps.push(step(StepKind::Canary, percent, minutes));
    }
    steps.push(PlanStep {
        min_decisions: 0,
        min_sessions: 0,
        ..step(StepKind::Enforce, 100, 0)
    });
    Ok(steps)
}

/// `POST /policy/proposals`
pub(crate) async fn propose(call: Arc<Call>) -> Result<Answer, Problem> {
    let text = call.form.get("text").replace("\r\n", "\n");
    let message: String = call
        .form
        .get("message")
        .trim()
        .chars()
        .take(REASON_CHARS_MAX)
        .collect();
    let after = call.form.get("after").parse().unwrap_or_default();
    if call.form.get("do") == "check" {
        let checked = check_apart(&call, text.clone()).await?;
        let code = if checked.is_valid() {
            StatusCode::OK
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        };
        let form = text_form(&call, &text, &message, after, &[("propose", "Propose")]);
        let body = html! { (checked.shown()) (form) };
        return Ok(Answer::Again(code, Page::new("Propose a change", body)));
    }
    let by = call.caller()?.user.0.clone();
    let made = call.web.server.propose(&text, &message, &by, after).await?;
    let row = made.map_err(|error| refused(&error))?;
    Ok(Answer::See(format!("/policy/proposals/{}", row.id), None))
}

/// `POST /policy/proposals/{proposal}`
pub(crate) async fn review(call: Arc<Call>) -> Result<Answer, Problem> {
    let id = call.param("proposal").to_owned();
    let reason: String = call
        .form
        .get("reason")
        .trim()
        .chars()
        .take(REASON_CHARS_MAX)
        .collect();
    let by: UserId = call.caller()?.user.clone();
    let server = &call.web.server;
    let state = match call.form.get("do") {
        "approve" => {
            approver(&call)?;
            approves_another(&call, &id).await?;
            let marks = call.form.all("acknowledged");
            let review = Review {
                reason,
                acknowledged: marks.filter_map(|mark| mark.parse().ok()).collect(),
                steps: steps(&call)?,
            };
            let done = server.approve(&id, &by, review).await?;
            let row = done.map_err(|error| refused(&error))?;
            let rollout = server.state.rollouts(1).await?;
            let path = match rollout
                .first()
                .filter(|rollout| rollout.serial == row.serial)
            {
                Some(rollout) => format!("/rollouts/{}", rollout.id),
                None => "/policy?done=published".to_owned(),
            };
            return Ok(Answer::See(path, None));
        }
        "reject" => {
            approver(&call)?;
            ProposalState::Rejected
        }
        "withdraw" => ProposalState::Withdrawn,
        _ => {
            return Err(Problem::wrong(
                "`do` is none of approve, reject and withdraw",
                "use the buttons of the page",
            ));
        }
    };
    let done = server.turn_down(&id, &by, state, &reason).await?;
    done.map_err(|error| refused(&error))?;
    Ok(Answer::See(format!("/policy/proposals/{id}"), None))
}

/// Lets through who may approve, and has proved lately who it is.
fn approver(call: &Call) -> Result<(), Problem> {
    if !may(call, Action::PublishPolicy) {
        return Err(Problem::forbidden(
            format!(
                "your roles do not let you {}",
                super::access::words(Action::PublishPolicy)
            ),
            "ask a person with the role policy-approver",
        ));
    }
    fresh(call)
}

/// Lets through who has not made the proposal.
async fn approves_another(call: &Call, id: &str) -> Result<(), Problem> {
    let row = call.web.server.state.proposal(id).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    let own = &call.caller()?.user.0;
    if row.author == *own {
        return Err(refused(&ProposalError::Own));
    }
    let thing = Thing::Proposal(&row.author);
    call.permit(Action::PublishPolicy, &thing, Circumstances::default())
}

fn refused(error: &ProposalError) -> Problem {
    let said = error.to_string();
    match error {
        ProposalError::Unknown => Problem::not_found(),
        ProposalError::Own => {
            Problem::forbidden(said, "ask a person with the role policy-approver")
        }
        ProposalError::NotOwn => {
            Problem::forbidden(said, "reject it, with the role policy-approver")
        }
        ProposalError::Settled(_) | ProposalError::Behind { .. } => {
            Problem::conflict(said, "load the page again")
        }
        ProposalError::Unacknowledged(..) => Problem::conflict(
            said,
            "load the page again, read what it lets happen, and mark each",
        ),
        ProposalError::TooMany => Problem::conflict(said, "review some of them first"),
        ProposalError::Publish(error) => super::policy::refused(error),
    }
}
