//! One question with its whole text, and the forms to answer it.

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;
use stockade_policy::{Scope, Strength};
use stockade_shown::Shown;
use stockade_trust::{Choice, Proof, Stage, Vote};
use stockade_types::{Digest, Span, UnixMillis};

use super::{Names, Override, Question, REASON_CHARS_MAX, asked_by, question, row, standing};
use crate::web::{
    access::Action,
    call::Call,
    page::{Mood, Page, foreign, note, state, time, token},
    problem::Problem,
    serving::View,
    waiting::wanted,
};

/// Counted uses that the form offers beside one.
const USES: u32 = 5;

/// One question.
#[derive(Debug, Serialize)]
pub(crate) struct OneQuestion {
    #[serde(flatten)]
    question: Question,
    /// Its whole text, which the server has made of the request.
    text: Shown,
    /// What a vote says that its voter saw.
    rendered: Digest,
    /// How far a yes may reach.
    scopes: Vec<Scope>,
    reason_required: bool,
    /// Whether a stage that waits for the caller needs a passkey.
    passkey_required: bool,
    /// How the caller may override all stages.
    glass: Option<Glass>,
    /// What became of it, if one person has overridden all stages.
    overridden: Option<Override>,
    votes: Vec<Cast>,
    /// Which of its machine and its session the caller may see.
    #[serde(skip)]
    sees: Vec<Action>,
}

/// How one person may override all stages.
#[derive(Debug, Serialize)]
struct Glass {
    /// How long what it allows lasts at most.
    lasts: Span,
    passkey_required: bool,
}

/// A vote.
#[derive(Debug, Serialize)]
struct Cast {
    person: String,
    stage: String,
    choice: Choice,
    scope: Scope,
    /// How it is known to be the person's: `session`, `passkey` or `key`.
    by: &'static str,
    reason: Option<String>,
    at: UnixMillis,
}

/// `GET /inbox/{question}`
pub(crate) async fn one(call: Arc<Call>) -> Result<OneQuestion, Problem> {
    let (row, _) = row(&call).await?;
    let caller = call.caller()?;
    let names = Names::read(&call).await?;
    let (question, votes) = question(&call, &row, &names).await?;
    let asked = (caller, names.team(&row));
    let wanted = wanted(&call, &row, &votes, asked, call.now);
    let machine = names.machine(&row);
    let is_seen =
        |action: &Action| machine.is_some_and(|machine| caller.sight(*action).has(machine));
    let sees = [Action::SeeFleet, Action::SeeSessions];
    let review = &row.sent.review;
    // A browser has no approver key, so a stage that takes one needs a passkey here.
    let is_strong = |stage: &&Stage| stage.strength != Strength::Session;
    let passkey_required = wanted.stages.iter().any(is_strong);
    let glass = review.break_glass.as_ref().filter(|_| wanted.glass);
    let glass = glass.map(|glass| Glass {
        lasts: glass.max(),
        passkey_required: glass.strength != Strength::Session,
    });
    let task = call.web.server.state.review_task(&row.id).await?;
    let matter = row.sent.question.matter();
    let offered = [Scope::Once, Scope::Uses(USES), Scope::Paths, Scope::Session];
    let is_offered = |scope: &Scope| scope.is_within(review.scope_max) && matter.offers(*scope);
    let cast = |vote: Vote| Cast {
        person: names.person(&vote.user),
        stage: vote.stage,
        choice: vote.choice,
        scope: vote.scope,
        by: match vote.proof {
            Proof::Session {} => "session",
            Proof::Passkey(_) => "passkey",
            Proof::Key { .. } => "key",
        },
        reason: vote.reason,
        at: vote.at,
    };
    Ok(OneQuestion {
        sees: sees.into_iter().filter(is_seen).collect(),
        text: row.sent.question.shown(),
        rendered: row.sent.rendered,
        scopes: offered.into_iter().filter(is_offered).collect(),
        reason_required: review.reason_required,
        passkey_required,
        glass,
        overridden: task
            .map(|task| Override::new(&task, &row, &call, &names))
            .transpose()?,
        votes: votes.into_iter().map(cast).collect(),
        question,
    })
}

impl View for OneQuestion {
    fn page(&self, call: &Call) -> Page {
        let question = &self.question;
        let session = format!("/sessions/{}/{}", question.node, question.session);
        let body = html! {
            @if call.query("done") == "voted" { (note(Mood::Good, "Your answer counts.")) }
            @if call.query("done") == "reviewed" { (note(Mood::Good, "It is noted.")) }
            p {
                (standing(question)) " "
                @if question.state == "open" { "ends " (time(question.expires, call.now)) }
                @if let Some(why) = &question.why { ": " (foreign(why)) }
            }
            (text(&self.text))
            dl.facts {
                dt { "Machine" } dd {
                    @if self.sees.contains(&Action::SeeFleet) {
                        a href={ "/fleet/" (question.node) } { (foreign(&question.machine)) }
                    } @else { (foreign(&question.machine)) }
                }
                dt { "Session" } dd {
                    @if self.sees.contains(&Action::SeeSessions) {
                        a href=(session) { code { (question.session) } }
                    } @else { code { (question.session) } }
                }
                dt { "Asked by" } dd { (asked_by(question)) }
                dt { "Asked" } dd { (time(question.asked, call.now)) }
                @for stage in &question.stages {
                    dt { "Stage " (foreign(&stage.name)) }
                    dd {
                        (stage.have) " of " (stage.need) " have said yes"
                        @if let Some(role) = &stage.also { "; " (foreign(role)) " is asked too, since it takes long" }
                    }
                }
            }
            (self.votes(call))
            @if let Some(overridden) = &self.overridden { (overridden.about(call)) }
            @if question.waits_for_you { (self.form(call)) }
            @if let Some(glass) = &self.glass { (self.glass(glass, call)) }
        };
        let title = stockade_types::RawText::from(self.text.title.as_str()).display();
        let page = Page::new(title, body);
        // While a person writes an answer, the page stays as it is; the server says if it is too late.
        let is_asked = question.waits_for_you || self.glass.is_some();
        let is_to_review = self
            .overridden
            .as_ref()
            .is_some_and(|one| one.waits_for_you);
        if is_asked || is_to_review {
            page
        } else {
            page.live("questions")
        }
    }
}

impl OneQuestion {
    fn votes(&self, call: &Call) -> Markup {
        html! {
            @if !self.votes.is_empty() {
                h2 { "Answers so far" }
                .table { table {
                    thead { tr {
                        th scope="col" { "Person" } th scope="col" { "Stage" } th scope="col" { "Answer" }
                        th scope="col" { "Proved by" } th scope="col" { "Why" } th scope="col" { "When" }
                    } }
                    tbody { @for vote in &self.votes {
                        tr {
                            th scope="row" { (foreign(&vote.person)) }
                            td { (foreign(if vote.stage.is_empty() { "all, overridden" } else { &vote.stage })) }
                            td { @match vote.choice {
                                Choice::Allow => { (state(Mood::Good, "yes")) " " (reach_words(vote.scope)) },
                                Choice::Deny => (state(Mood::Bad, "no")),
                            } }
                            td { (vote.by) }
                            td { (foreign(vote.reason.as_deref().unwrap_or_default())) }
                            td { (time(vote.at, call.now)) }
                        }
                    } }
                } }
            }
        }
    }

    fn form(&self, call: &Call) -> Markup {
        let path = format!("/inbox/{}", self.question.id);
        let url = format!("/api/v1/questions/{}/challenge", self.question.id);
        html! {
            h2 #answer-title { "Your answer" }
            form #answer .fields method="post" action=(path) aria-labelledby="answer-title" {
                (token(call))
                input type="hidden" name="rendered" value=(self.rendered);
                input type="hidden" name="passkey";
                input type="hidden" name="passkey_choice";
                input type="hidden" name="not_after";
                fieldset {
                    legend { "A yes reaches" }
                    @for (index, scope) in self.scopes.iter().enumerate() {
                        label.choice {
                            input type="radio" name="scope" value=(scope) checked[index == 0];
                            (reach_words(*scope))
                        }
                    }
                }
                div {
                    label for="reason" {
                        "Why" span.hint { (if self.reason_required { "Needed." } else { "The agent and others see it." }) }
                    }
                    input #reason name="reason" maxlength=(REASON_CHARS_MAX) autocomplete="off" required[self.reason_required];
                }
                p.hint data-said role="status" {}
                .buttons data-with-passkeys hidden {
                    button.main type="button" data-passkey="get" data-choice="allow" data-url=(url) { "Allow with a passkey" }
                    button.no type="button" data-passkey="get" data-choice="deny" data-url=(url) { "Deny with a passkey" }
                }
                @if self.passkey_required {
                    p.hint { "This stage needs a passkey: the machine that asks verifies it itself." }
                } @else {
                    .buttons {
                        button name="choice" value="allow" { "Allow" }
                        button.no name="choice" value="deny" { "Deny" }
                    }
                }
            }
        }
    }

    /// The form of one person who overrides all stages: apart, so that nobody takes one for the other.
    fn glass(&self, glass: &Glass, call: &Call) -> Markup {
        let path = format!("/inbox/{}", self.question.id);
        let url = format!("/api/v1/questions/{}/challenge", self.question.id);
        html! {
            details.glass {
                summary { "Override all stages" }
                p {
                    "You alone allow this, for at most " (glass.lasts) ". The record names you and your reason, and \
                     another person has to look at it within 24 hours."
                }
                form #glass .fields method="post" action=(path) {
                    (token(call))
                    input type="hidden" name="rendered" value=(self.rendered);
                    input type="hidden" name="passkey";
                    input type="hidden" name="passkey_choice";
                    input type="hidden" name="not_after";
                    input type="hidden" name="breaks_glass" value="yes";
                    input type="hidden" name="scope" value=(Scope::Once);
                    div {
                        label for="glass-reason" { "Why it cannot wait" span.hint { "Needed." } }
                        input #glass-reason name="reason" maxlength=(REASON_CHARS_MAX) autocomplete="off" required;
                    }
                    p.hint data-said role="status" {}
                    .buttons data-with-passkeys hidden {
                        button.no type="button" data-passkey="get" data-choice="allow" data-url=(url) { "Override with a passkey" }
                    }
                    @if glass.passkey_required {
                        p.hint { "This needs a passkey: the machine that asks verifies it itself." }
                    } @else {
                        .buttons { button.no name="choice" value="allow" { "Override" } }
                    }
                }
            }
        }
    }
}

/// Shows the whole text of a question.
pub(super) fn text(shown: &Shown) -> Markup {
    html! {
        @for warning in &shown.warnings { (note(Mood::Bad, html! { strong { "Careful: " } (foreign(warning)) })) }
        dl.shown {
            @for row in shown.rows.iter().chain(&shown.details) {
                div { dt { (row.label) } dd { (foreign(&row.text)) } }
            }
        }
    }
}

/// Says how far a yes reaches.
fn reach_words(scope: Scope) -> String {
    match scope {
        Scope::Once => "exactly this, once".to_owned(),
        Scope::Uses(count) => format!("exactly this, {count} times"),
        Scope::Session => "what is shown, until the session ends".to_owned(),
        Scope::Until(_) => "what is shown, for a time".to_owned(),
        Scope::Paths => {
            "the methods and the path that are shown, until the session ends".to_owned()
        }
    }
}
