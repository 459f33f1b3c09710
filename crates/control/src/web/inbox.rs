//! Questions, and the answers of people.

use std::{collections::BTreeMap, sync::Arc};

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::{Markup, html};
use serde::Serialize;
use stockade_api::node::StageStanding;
use stockade_policy::{Scope, Strength};
use stockade_shown::Shown;
use stockade_trust::{Choice, Proof, UserId, Vote};
use stockade_types::{Digest, UnixMillis};

use super::{
    access::{Action, Reach},
    call::Call,
    caller::Caller,
    me::fresh,
    page::{Mood, Page, empty, foreign, may, note, state, time, token},
    problem::Problem,
    serving::{Answer, View, data_of},
    sign_in::Challenge,
    waiting::{QUESTIONS, stages_of, waits_for},
};
use crate::{
    cases::{CaseError, Choosing, Voter},
    state::{QuestionRow, QuestionState},
};

/// Characters of a reason.
const REASON_CHARS_MAX: usize = 500;
/// Counted uses that the form offers beside one.
const USES: u32 = 5;

/// Questions.
#[derive(Debug, Serialize)]
pub(crate) struct Inbox {
    /// Those that are open first, then the newest.
    questions: Vec<Question>,
}

/// A question in a list.
#[derive(Debug, Serialize)]
struct Question {
    id: String,
    node: String,
    machine: String,
    session: String,
    approval: String,
    /// Who asks, and for what, in one line.
    title: String,
    summary: String,
    /// `open`, `granted`, `denied`, `expired` or `closed`.
    state: &'static str,
    /// Whether the caller's vote is one of those that are waited for.
    waits_for_you: bool,
    /// The names of people who have no vote, since they ask.
    requesters: Vec<String>,
    asked: UnixMillis,
    expires: UnixMillis,
    stages: Vec<StageStanding>,
    why: Option<String>,
}

/// Tells whether the caller may see a question.
fn is_seen(row: &QuestionRow, caller: &Caller, reach: Reach) -> bool {
    reach == Reach::All
        || row.requesters.contains(&caller.user)
        || !stages_of(row, caller).is_empty()
}

/// Names of machines and people.
struct Names {
    machines: BTreeMap<String, String>,
    people: BTreeMap<UserId, String>,
}

impl Names {
    async fn read(call: &Call) -> Result<Self, Problem> {
        let state = &call.web.server.state;
        let machines = state.nodes().await?.into_iter();
        let people = state.users().await?.into_iter();
        Ok(Self {
            machines: machines
                .map(|node| (node.id.to_string(), node.name))
                .collect(),
            people: people.map(|user| (user.id, user.name)).collect(),
        })
    }

    fn person(&self, id: &UserId) -> String {
        self.people.get(id).unwrap_or(&id.0).clone()
    }
}

async fn question(
    call: &Call,
    row: &QuestionRow,
    names: &Names,
) -> Result<(Question, Vec<Vote>), Problem> {
    let server = &call.web.server;
    let votes = server.state.votes(&row.id).await?;
    let is_open = row.state == QuestionState::Open;
    let stages = if is_open {
        server.stages(row, &votes)
    } else {
        Vec::new()
    };
    let shown = row.sent.question.shown();
    let node = row.key.node.to_string();
    let question = Question {
        waits_for_you: waits_for(row, &votes, &stages, call.caller()?),
        machine: names.machines.get(&node).unwrap_or(&node).clone(),
        session: row.key.session.as_str().to_owned(),
        approval: row.approval.as_str().to_owned(),
        summary: shown.summary(),
        title: shown.title,
        state: row.state.word(),
        requesters: row.requesters.iter().map(|id| names.person(id)).collect(),
        asked: row.asked,
        expires: row.expires,
        stages,
        why: row.why.clone(),
        id: row.id.clone(),
        node,
    };
    Ok((question, votes))
}

/// `GET /inbox`
pub(crate) async fn show(call: Arc<Call>) -> Result<Inbox, Problem> {
    let reach = call.reach(Action::SeeQuestions)?;
    let names = Names::read(&call).await?;
    let mut questions = Vec::new();
    for row in call.web.server.state.questions(QUESTIONS).await? {
        if is_seen(&row, call.caller()?, reach) {
            questions.push(question(&call, &row, &names).await?.0);
        }
    }
    Ok(Inbox { questions })
}

impl View for Inbox {
    fn page(&self, call: &Call) -> Page {
        let (open, over): (Vec<_>, Vec<_>) = self
            .questions
            .iter()
            .partition(|question| question.state == "open");
        let body = html! {
            @if open.is_empty() {
                (empty("No question is open.", "A session asks here when a rule of its policy has stages."))
            } @else { (list(&open, call)) }
            @if !over.is_empty() { h2 { "Answered" } (list(&over, call)) }
        };
        Page::new("Inbox", body)
            .lead("What exactly would happen, and should it?")
            .live("questions")
    }
}

fn list(questions: &[&Question], call: &Call) -> Markup {
    html! {
        ul.questions { @for question in questions {
            li {
                a.question data-row href={ "/inbox/" (question.id) } {
                    span { strong { (foreign(&question.title)) " " (foreign(&question.summary)) } }
                    span.nowrap {
                        @if question.waits_for_you { (state(Mood::Open, "waits for you")) }
                        @else { (standing(question)) }
                    }
                    span.quiet { (foreign(&question.machine)) " · asked by " (asked_by(question)) }
                    span.quiet {
                        @if question.state == "open" { "ends " (time(question.expires, call.now)) }
                        @else { (time(question.asked, call.now)) }
                    }
                }
            }
        } }
    }
}

fn asked_by(question: &Question) -> Markup {
    html! {
        @if question.requesters.is_empty() { "an unknown person" }
        @else { (foreign(&question.requesters.join(", "))) }
    }
}

fn standing(question: &Question) -> Markup {
    match question.state {
        "open" => state(Mood::Open, "open"),
        "granted" => state(Mood::Good, "allowed"),
        "denied" => state(Mood::Bad, "denied"),
        "expired" => state(Mood::Bad, "nobody answered in time"),
        _ => state(Mood::Plain, "not asked any more"),
    }
}

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
    votes: Vec<Cast>,
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

async fn row(call: &Call) -> Result<QuestionRow, Problem> {
    let reach = call.reach(Action::SeeQuestions)?;
    let found = call
        .web
        .server
        .state
        .question(call.param("question"))
        .await?;
    let caller = call.caller()?;
    found
        .filter(|row| is_seen(row, caller, reach))
        .ok_or_else(Problem::not_found)
}

/// `GET /inbox/{question}`
pub(crate) async fn one(call: Arc<Call>) -> Result<OneQuestion, Problem> {
    let row = row(&call).await?;
    let names = Names::read(&call).await?;
    let (question, votes) = question(&call, &row, &names).await?;
    let own = stages_of(&row, call.caller()?);
    let review = &row.sent.review;
    let needs_passkey = |name: &str| {
        let is_open = question.stages.iter().any(|open| open.name == name);
        is_open
            && review
                .stage(name)
                .is_some_and(|stage| stage.strength == Strength::Passkey)
    };
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
        text: row.sent.question.shown(),
        rendered: row.sent.rendered,
        scopes: offered.into_iter().filter(is_offered).collect(),
        reason_required: review.reason_required,
        passkey_required: own.iter().any(|name| needs_passkey(name)),
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
            p {
                (standing(question)) " "
                @if question.state == "open" { "ends " (time(question.expires, call.now)) }
                @if let Some(why) = &question.why { ": " (foreign(why)) }
            }
            (self.text())
            dl.facts {
                dt { "Machine" } dd {
                    @if may(call, Action::SeeFleet) {
                        a href={ "/fleet/" (question.node) } { (foreign(&question.machine)) }
                    } @else { (foreign(&question.machine)) }
                }
                dt { "Session" } dd {
                    @if call.reach(Action::SeeSessions).ok() == Some(Reach::All) {
                        a href=(session) { code { (question.session) } }
                    } @else { code { (question.session) } }
                }
                dt { "Asked by" } dd { (asked_by(question)) }
                dt { "Asked" } dd { (time(question.asked, call.now)) }
                @for stage in &question.stages {
                    dt { "Stage " (foreign(&stage.name)) }
                    dd { (stage.have) " of " (stage.need) " have said yes" }
                }
            }
            (self.votes(call))
            @if question.waits_for_you { (self.form(call)) }
        };
        let title = stockade_types::RawText::from(self.text.title.as_str()).display();
        let page = Page::new(title, body);
        // While a person writes an answer, the page stays as it is; the server says if it is too late.
        if question.waits_for_you {
            page
        } else {
            page.live("questions")
        }
    }
}

impl OneQuestion {
    fn text(&self) -> Markup {
        html! {
            @for warning in &self.text.warnings { (note(Mood::Bad, html! { strong { "Careful: " } (foreign(warning)) })) }
            dl.shown {
                @for row in self.text.rows.iter().chain(&self.text.details) {
                    div { dt { (row.label) } dd { (foreign(&row.text)) } }
                }
            }
        }
    }

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

/// Reads what the caller chose.
fn choosing(call: &Call) -> Result<Choosing, Problem> {
    let form = &call.form;
    let wrong = |what: &str| {
        Problem::wrong(
            format!("`{what}` is missing or wrong"),
            "load the page again",
        )
    };
    let choice = match form.get("choice") {
        "" => form.get("passkey_choice"),
        choice => choice,
    };
    let not_after = match form.get("not_after") {
        "" => None,
        text => Some(UnixMillis(text.parse().map_err(|_| wrong("not_after"))?)),
    };
    let scope = match form.get("scope") {
        "" => Scope::Once,
        text => text.parse().map_err(|_| wrong("scope"))?,
    };
    let reason = form.get("reason").trim();
    Ok(Choosing {
        stage: Some(form.get("stage"))
            .filter(|stage| !stage.is_empty())
            .map(str::to_owned),
        breaks_glass: form.get("breaks_glass") == "yes",
        choice: match choice {
            "allow" => Choice::Allow,
            "deny" => Choice::Deny,
            _ => return Err(wrong("choice")),
        },
        scope,
        not_after,
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        rendered: form
            .get("rendered")
            .parse()
            .map_err(|_| wrong("rendered"))?,
    })
}

/// `POST /api/v1/questions/{question}/challenge`
pub(crate) async fn challenge(call: Arc<Call>) -> Result<Answer, Problem> {
    let row = row(&call).await?;
    let caller = call.caller()?;
    let server = &call.web.server;
    let ballot = server
        .ballot(&caller.user, &row.id, &choosing(&call)?)
        .await?;
    let (vote, digest) = ballot.map_err(|error| refused(&error))?;
    let passkeys = server.state.passkeys(&caller.user).await?;
    if passkeys.is_empty() {
        return Err(Problem::conflict(
            "you have no passkey",
            "register one on the page of your account",
        ));
    }
    let challenge = Challenge {
        signed: URL_SAFE_NO_PAD.encode(digest.as_bytes()),
        party: server.party.id.clone(),
        passkeys: passkeys.into_iter().map(|row| row.id).collect(),
        handle: None,
        name: None,
        not_after: Some(vote.not_after.0),
    };
    Ok(Answer::Json(data_of(&challenge)?))
}

/// `POST /inbox/{question}`
pub(crate) async fn vote(call: Arc<Call>) -> Result<Answer, Problem> {
    let row = row(&call).await?;
    let caller = call.caller()?;
    let proof =
        match call.form.get("passkey") {
            "" => {
                fresh(&call)?;
                Proof::Session {}
            }
            said => {
                let assertion = serde_json::from_str(said);
                Proof::Passkey(assertion.map_err(|_| {
                    Problem::wrong("the passkey's answer cannot be read", "try again")
                })?)
            }
        };
    if !caller.is_browser() {
        return Err(Problem::forbidden(
            "a person has to answer",
            "sign in on the page",
        ));
    }
    let voter = Voter {
        user: caller.user.clone(),
        signed_in: caller.signed_in,
    };
    let voted = call
        .web
        .server
        .vote(&voter, &row.id, &choosing(&call)?, proof)
        .await?;
    match voted {
        Ok(_) => Ok(Answer::See(format!("/inbox/{}?done=voted", row.id), None)),
        Err(CaseError::Stale) => Err(Problem::stale()),
        Err(error) => again(&call, &refused(&error)).await,
    }
}

/// Shows the question again with what was wrong, if the answer can be corrected.
async fn again(call: &Arc<Call>, problem: &Problem) -> Result<Answer, Problem> {
    let view = one(Arc::clone(call)).await?;
    let mut page = view.page(call);
    page.body = html! { (super::sign_in::failure(problem)) (page.body) };
    let code = StatusCode::from_u16(problem.told.status).unwrap_or(StatusCode::CONFLICT);
    Ok(Answer::Again(code, page))
}

/// Says why a vote is none.
fn refused(error: &CaseError) -> Problem {
    let words = error.to_string();
    match error {
        CaseError::Unknown => Problem::not_found(),
        CaseError::Over
        | CaseError::Twice
        | CaseError::Stage(_)
        | CaseError::Text
        | CaseError::Grant(_) => Problem::conflict(words, "read the question again"),
        CaseError::Role
        | CaseError::Requester
        | CaseError::RequesterUnknown
        | CaseError::NoGlass => Problem::forbidden(words, "another person has to answer"),
        CaseError::Reason => Problem::wrong(words, "say why"),
        CaseError::Scope(_) => Problem::wrong(words, "choose less"),
        CaseError::Stale => Problem::stale(),
        CaseError::Proof(_) => Problem::wrong(words, "try again with a passkey of your account"),
    }
}
