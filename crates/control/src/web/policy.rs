//! The policy of the organisation: what is in force, and a new one.

use std::sync::Arc;

use axum::http::StatusCode;
use maud::{Markup, html};
use serde::Serialize;
use stockade_policy::{
    HostSets, Origin, Problem as Mistake, Problems, Source, Warning, builtin, load,
};
use stockade_types::{Digest, UnixMillis};

use super::{
    access::Action,
    call::Call,
    me::fresh,
    page::{Mood, Page, empty, foreign, lines, may, note, time, token},
    problem::Problem,
    serving::{Answer, View},
};
use crate::policy::PublishError;
use crate::state::{AckRow, BundleRow};

/// What every policy of an organisation stands on when it is checked.
const PRESET: &str = "generic";
/// Published policies that the page lists.
const HISTORY: u32 = 20;
/// Characters of the reason of a change.
const MESSAGE_CHARS_MAX: usize = 300;

/// The policy.
#[derive(Debug, Serialize)]
pub(crate) struct PolicyView {
    /// In force; the newest first.
    published: Vec<Published>,
    /// Its text.
    text: Option<String>,
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
    let text = bundles.first().map(|bundle| bundle.text.clone());
    let published = |bundle: BundleRow| {
        let of = |ack: &&AckRow| ack.session.is_empty() && ack.serial == bundle.serial;
        let is_failed = |ack: &&AckRow| ack.state == "failed";
        let author = users.iter().find(|user| user.id.0 == bundle.author);
        Published {
            serial: bundle.serial,
            digest: bundle.digest,
            author: author.map_or(bundle.author.clone(), |user| user.name.clone()),
            message: bundle.message,
            at: bundle.published,
            stored: acks.iter().filter(of).filter(|ack| !is_failed(ack)).count(),
            failed: acks.iter().filter(of).filter(is_failed).count(),
        }
    };
    Ok(PolicyView {
        published: bundles.into_iter().map(published).collect(),
        text,
    })
}

impl View for PolicyView {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            @if call.query("done") == "published" {
                (note(Mood::Good, "The policy is published. Each machine verifies it; the next session runs under it."))
            }
            @if self.published.is_empty() {
                (empty("No policy is published.", "Machines run under their own policy. Publish one to add yours to all of them."))
            } @else {
                .table { table {
                    thead { tr {
                        th scope="col" { "Serial" } th scope="col" { "Why" } th scope="col" { "By" }
                        th scope="col" { "When" } th scope="col" { "Machines" } th scope="col" { "Digest" }
                    } }
                    tbody { @for (index, one) in self.published.iter().enumerate() {
                        tr {
                            th scope="row" { (one.serial) @if index == 0 { " " span.good { "in force" } } }
                            td { (foreign(&one.message)) }
                            td { (foreign(&one.author)) }
                            td { (time(one.at, call.now)) }
                            td { (one.stored) " stored" @if one.failed > 0 { ", " span.bad { (one.failed) " failed" } } }
                            td { code { (one.digest.short()) } }
                        }
                    } }
                } }
                @if let Some(text) = &self.text {
                    h2 { "In force" }
                    pre tabindex="0" aria-label="Policy in force" { (lines(text)) }
                }
            }
            @if may(call, Action::PublishPolicy) {
                h2 #new { "New policy" }
                (form(call, self.text.as_deref().unwrap_or(STARTER), "", self.published.first().map_or(0, |one| one.serial)))
            }
        };
        Page::new("Policy", body)
            .lead("What is in force on the machines of the organisation, since when, and by whom.")
    }
}

/// What the form begins with if no policy is published.
const STARTER: &str = "schema = 1\n\n[[deny]]\nid = \"no-paste\"\nwhat = \"net\"\nhosts = [\"paste.test\"]\nreason = \"data leaves the company\"\n";

fn form(call: &Call, text: &str, message: &str, after: u64) -> Markup {
    html! {
        form method="post" action="/policy" {
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
                button.main name="do" value="publish" { "Check and publish" }
            }
        }
    }
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Checked {
    valid: bool,
    rules: usize,
    problems: Vec<Mistake>,
    warnings: Vec<Warning>,
}

/// Checks a policy as the layer of the organisation, with its own tests.
fn check(text: &str) -> Checked {
    let source = |origin, name: &str, text: &str| Source {
        origin,
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let sources = [
        source(Origin::Builtin, PRESET, builtin(PRESET).unwrap_or_default()),
        source(Origin::Organisation, "policy.toml", text),
    ];
    match load(&sources, &HostSets::default()) {
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
    fn shown(&self) -> Markup {
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
async fn check_apart(call: &Call, text: String) -> Result<Checked, Problem> {
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

/// Publishes a policy that was checked.
async fn publish(call: &Call, text: &str, message: &str, after: u64) -> Result<Answer, Problem> {
    fresh(call)?;
    let by = call.caller()?.user.0.clone();
    let published = call.web.server.publish(text, message, &by, after).await?;
    match published {
        Ok(_) => Ok(Answer::See("/policy?done=published".to_owned(), None)),
        Err(error @ PublishError::TooLong) => Err(Problem::wrong(error.to_string(), "write less")),
        Err(error @ PublishError::Mistakes(_)) => {
            Err(Problem::wrong(error.to_string(), "correct them"))
        }
        Err(error @ PublishError::Changed { .. }) => {
            Err(Problem::conflict(error.to_string(), "load the page again"))
        }
    }
}
