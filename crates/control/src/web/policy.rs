//! The policy of the organisation: what is in force, and a new one.

use std::sync::Arc;

use axum::http::StatusCode;
use maud::{Markup, html};
use serde::Serialize;
use stockade_policy::{Problem as Mistake, Problems, Warning};
use stockade_types::{Digest, UnixMillis};

use super::{
    access::{Action, Who},
    call::Call,
    me::fresh,
    page::{Mood, Page, empty, foreign, lines, may, note, time, token},
    problem::Problem,
    serving::{Answer, View},
    standing::{Standing, mood, standing},
};
use crate::{
    policy::PublishError,
    state::{AckRow, BundleRow, ProposalState, RolloutState, UserRow},
};

/// Published policies that the page lists.
const HISTORY: u32 = 20;
/// Characters of the reason of a change.
const MESSAGE_CHARS_MAX: usize = 300;

/// The policy.
#[derive(Debug, Serialize)]
pub(crate) struct PolicyView {
    /// The newest first.
    published: Vec<Published>,
    /// What is in force everywhere.
    text: Option<String>,
    /// Where the newest one stands.
    standing: Standing,
    /// The rollout of the newest one, if it has one.
    rollout: Option<OwnRollout>,
    /// Proposals that wait for a review.
    open_proposals: usize,
    /// Whether the caller may publish without a review: nobody else could make it.
    alone: bool,
}

/// How the rollout of the newest policy stands.
#[derive(Debug, Serialize)]
struct OwnRollout {
    id: String,
    state: RolloutState,
    step: u32,
    steps: usize,
    why: String,
}

/// A policy that was published.
#[derive(Debug, Serialize)]
struct Published {
    serial: u64,
    digest: Digest,
    author: String,
    message: String,
    at: UnixMillis,
    /// Machines that have it, and those that refused it.
    stored: usize,
    failed: usize,
}

/// `GET /policy`
pub(crate) async fn show(call: Arc<Call>) -> Result<PolicyView, Problem> {
    let state = &call.web.server.state;
    let bundles = state.bundles(HISTORY).await?;
    let acks = state.acks().await?;
    let users = state.users().await?;
    let text = call.web.server.in_force().await?.map(|(_, text)| text);
    let serial = bundles.first().map_or(0, |bundle| bundle.serial);
    let rollouts = state.rollouts(1).await?;
    let rollout = rollouts.first().filter(|row| row.serial == serial);
    let proposals = state.proposals(HISTORY).await?;
    let is_open = |row: &&crate::state::ProposalRow| row.state == ProposalState::Open;
    let sight = call.sight(Action::SeeFleet)?;
    let published = |bundle: BundleRow| {
        let of = |ack: &&AckRow| ack.session.is_empty() && ack.serial == bundle.serial;
        let is_failed = |ack: &&AckRow| ack.state == "failed";
        Published {
            serial: bundle.serial,
            digest: bundle.digest,
            author: named(&bundle.author, &users),
            message: bundle.message,
            at: bundle.published,
            stored: acks.iter().filter(of).filter(|ack| !is_failed(ack)).count(),
            failed: acks.iter().filter(of).filter(is_failed).count(),
        }
    };
    Ok(PolicyView {
        standing: standing(&call.web.server, &sight, serial, rollout).await?,
        rollout: rollout.map(|row| OwnRollout {
            id: row.id.clone(),
            state: row.state,
            step: row.step,
            steps: row.plan.steps.len(),
            why: row.why.clone(),
        }),
        open_proposals: proposals.iter().filter(is_open).count(),
        alone: nobody_else(&call).await?,
        published: bundles.into_iter().map(published).collect(),
        text,
    })
}

/// Tells whether nobody but the caller could approve a proposal: then the caller publishes alone, and the
/// record says so.
async fn nobody_else(call: &Call) -> Result<bool, Problem> {
    let own = &call.caller()?.user;
    let state = &call.web.server.state;
    let users = state.users().await?;
    let could = |user: &crate::state::UserRow| {
        let who = Who::user(state.org(), user);
        user.is_active && user.id != *own && who.may(Action::PublishPolicy)
    };
    Ok(!users.iter().any(could))
}

impl View for PolicyView {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            @if call.query("done") == "published" {
                (note(Mood::Good, "The policy is published. Each machine verifies it; the next session runs under it."))
            }
            (waiting_note(self.open_proposals))
            @if let Some(rollout) = &self.rollout { (rollout.shown()) }
            @if self.published.is_empty() {
                (empty("No policy is published.", "Machines run under their own policy. Publish one to add yours to all of them."))
            } @else {
                (self.standing.shown())
                (self.history(call))
                @if let Some(text) = &self.text {
                    h2 { "In force" }
                    pre tabindex="0" aria-label="Policy in force" { (lines(text)) }
                }
            }
            (self.change(call))
        };
        Page::new("Policy", body)
            .lead("What is in force on the machines of the organisation, since when, and by whom.")
    }
}

impl OwnRollout {
    fn shown(&self) -> Markup {
        html! {
            .card {
                h2 { "Rollout of the newest policy" }
                p { (mood(self.state)) ", step " (self.step) " of " (self.steps) ". " (foreign(&self.why)) }
                p { a href={ "/rollouts/" (self.id) } { "Look at it" } }
            }
        }
    }
}

impl PolicyView {
    fn history(&self, call: &Call) -> Markup {
        let is_on_trial = |index: usize| {
            let rollout = self.rollout.as_ref().filter(|_| index == 0);
            rollout.is_some_and(|rollout| rollout.state != RolloutState::Done)
        };
        html! {
            .table { table {
                thead { tr {
                    th scope="col" { "Serial" } th scope="col" { "Why" } th scope="col" { "By" }
                    th scope="col" { "When" } th scope="col" { "Machines" } th scope="col" { "Digest" }
                } }
                tbody { @for (index, one) in self.published.iter().enumerate() {
                    tr {
                        th scope="row" {
                            (one.serial)
                            @if is_on_trial(index) { " " span.open { "candidate" } }
                            @else if index == 0 { " " span.good { "in force" } }
                        }
                        td { (foreign(&one.message)) }
                        td { (foreign(&one.author)) }
                        td { (time(one.at, call.now)) }
                        td { (one.stored) " stored" @if one.failed > 0 { ", " span.bad { (one.failed) " failed" } } }
                        td { code { (one.digest.short()) } }
                    }
                } }
            } }
        }
    }

    /// The form of a change: a proposal, or a publication by who is alone.
    fn change(&self, call: &Call) -> Markup {
        let text = self.text.as_deref().unwrap_or(STARTER);
        let serial = self.published.first().map_or(0, |one| one.serial);
        let publishes = may(call, Action::PublishPolicy) && self.alone;
        html! {
            @if publishes {
                h2 #new { "New policy" }
                p.quiet { "Nobody else has a role that approves a policy, so you publish alone, and the record says so." }
                (form(call, text, "", serial))
            } @else if may(call, Action::ProposePolicy) {
                h2 #new { "Propose a change" }
                (text_form(call, text, "", serial, &[("propose", "Propose")]))
            }
        }
    }
}

/// What the form begins with if no policy is published.
const STARTER: &str = "schema = 1\n\n[[deny]]\nid = \"no-paste\"\nwhat = \"net\"\nhosts = [\"paste.test\"]\nreason = \"data leaves the company\"\n";

fn form(call: &Call, text: &str, message: &str, after: u64) -> Markup {
    form_to(
        call,
        "/policy",
        (text, message, after),
        &[("publish", "Check and publish")],
    )
}

/// The form of a proposal.
pub(crate) fn text_form(
    call: &Call,
    text: &str,
    message: &str,
    after: u64,
    buttons: &[(&str, &str)],
) -> Markup {
    form_to(call, "/policy/proposals", (text, message, after), buttons)
}

fn form_to(
    call: &Call,
    action: &str,
    (text, message, after): (&str, &str, u64),
    buttons: &[(&str, &str)],
) -> Markup {
    html! {
        form method="post" action=(action) {
            (token(call))
            input type="hidden" name="after" value=(after);
            p {
                label for="text" { "Text" span.hint { "TOML; machines add it as the layer of the organisation." } }
                textarea.policy #text name="text" spellcheck="false" required { (text) }
            }
            p {
                label for="message" { "Why" span.hint { "Others see it in the list." } }
                input #message name="message" maxlength=(MESSAGE_CHARS_MAX) value=(message);
            }
            .buttons {
                button name="do" value="check" { "Check" }
                @for (word, words) in buttons { button.main name="do" value=(word) { (words) } }
            }
        }
    }
}

/// What a check found.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    valid: bool,
    rules: usize,
    problems: Vec<Mistake>,
    warnings: Vec<Warning>,
}

/// Checks a policy as the layer of the organisation, with its own tests.
fn check(text: &str) -> Checked {
    match crate::policy::check_as("policy.toml", text) {
        Ok(policy) => Checked {
            valid: true,
            rules: policy.rules().len(),
            problems: Vec::new(),
            warnings: policy.warnings().clone(),
        },
        Err(Problems(problems)) => Checked {
            valid: false,
            rules: 0,
            problems,
            warnings: Vec::new(),
        },
    }
}

impl Checked {
    pub(crate) const fn is_valid(&self) -> bool {
        self.valid
    }

    pub(crate) fn shown(&self) -> Markup {
        html! {
            @if self.valid {
                (note(Mood::Good, html! { "The policy can be loaded. With the presets it has " (self.rules) " rules." }))
            } @else {
                (note(Mood::Bad, html! { (self.problems.len()) @if self.problems.len() == 1 { " mistake" } @else { " mistakes" } "; nothing was published." }))
                .table { table {
                    thead { tr { th scope="col" { "Line" } th scope="col" { "Field" } th scope="col" { "What is wrong" } } }
                    tbody { @for problem in &self.problems {
                        tr {
                            td.nowrap { (problem.line) ":" (problem.column) }
                            td { code { (foreign(&problem.field)) } }
                            td { (foreign(&problem.message)) }
                        }
                    } }
                } }
            }
            @for warning in &self.warnings {
                (note(Mood::Open, html! { code { (foreign(&warning.source)) } " " (foreign(&warning.message)) }))
            }
        }
    }
}

/// Checks a policy where it keeps nobody waiting: a large one takes seconds.
pub(crate) async fn check_apart(call: &Call, text: String) -> Result<Checked, Problem> {
    call.web
        .server
        .blocking(move || check(&text))
        .await
        .map_err(Problem::from)
}

/// `POST /policy`
pub(crate) async fn submit(call: Arc<Call>) -> Result<Answer, Problem> {
    let text = call.form.get("text").replace("\r\n", "\n");
    let message: String = call
        .form
        .get("message")
        .trim()
        .chars()
        .take(MESSAGE_CHARS_MAX)
        .collect();
    let after = call.form.get("after").parse().unwrap_or_default();
    let checked = check_apart(&call, text.clone()).await?;
    if call.form.get("do") == "publish" && checked.valid {
        return publish(&call, &text, &message, after).await;
    }
    let code = if checked.valid {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    let body = html! { (checked.shown()) (form(&call, &text, &message, after)) };
    Ok(Answer::Again(code, Page::new("New policy", body)))
}

/// `POST /api/v1/policy/check`: the text is the field `text` of a form.
pub(crate) async fn check_data(call: Arc<Call>) -> Result<Answer, Problem> {
    let checked = check_apart(&call, call.form.get("text").to_owned()).await?;
    Ok(Answer::Json(super::serving::data_of(&checked)?))
}

/// Publishes a policy that was checked, of a person whom nobody could review.
async fn publish(call: &Call, text: &str, message: &str, after: u64) -> Result<Answer, Problem> {
    fresh(call)?;
    if !nobody_else(call).await? {
        return Err(Problem::forbidden(
            "another person has to approve a policy",
            "propose it; a person with the role policy-approver publishes it",
        ));
    }
    let by = call.caller()?.user.0.clone();
    let published = call.web.server.publish(text, message, &by, after).await?;
    match published {
        Ok(_) => Ok(Answer::See("/policy?done=published".to_owned(), None)),
        Err(error) => Err(refused(&error)),
    }
}

/// Says why a policy is not published.
pub(crate) fn refused(error: &PublishError) -> Problem {
    let said = error.to_string();
    match error {
        PublishError::TooLong => Problem::wrong(said, "write less"),
        PublishError::Mistakes(_) => Problem::wrong(said, "correct them"),
        PublishError::People(_) => Problem::conflict(
            said,
            "give people the roles on the page of people, or change the stages",
        ),
        PublishError::Plan(_) => Problem::wrong(said, "correct the plan"),
        PublishError::NothingBefore => Problem::conflict(said, "publish it at once"),
        PublishError::Changed { .. } | PublishError::Reviewed => {
            Problem::conflict(said, "load the page again")
        }
    }
}

/// Returns the name of a person, or of what did it.
pub(crate) fn named(id: &str, users: &[UserRow]) -> String {
    let found = users.iter().find(|user| user.id.0 == id);
    found.map_or_else(|| id.to_owned(), |user| user.name.clone())
}

/// Says where a proposal stands that was just looked at.
pub(crate) fn waiting_note(open: usize) -> Markup {
    html! {
        @if open > 0 {
            (note(Mood::Open, html! {
                a href="/policy/proposals" { (open) @if open == 1 { " proposal waits" } @else { " proposals wait" } " for a review" } "."
            }))
        }
    }
}
