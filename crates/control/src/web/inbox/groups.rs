//! Equal questions of several sessions, answered with one form: those of the same rule and the same shape of
//! request, which wait for the same stage.
//!
//! A vote stays what it is: each question gets its own, for the text that the form showed. The form names the
//! questions and their texts; a question that joins later is not among them. A passkey signs one ballot, so
//! questions that need one are answered one by one.

use std::{collections::BTreeMap, sync::Arc};

use axum::http::StatusCode;
use maud::{Markup, html};
use serde::Serialize;
use stockade_policy::{Scope, Strength};
use stockade_shown::Shown;
use stockade_trust::{Choice, Proof};
use stockade_types::Digest;

use super::{
    Names, Question, REASON_CHARS_MAX,
    answer::{refused, votable},
    asked_by,
    one::text,
    question,
};
use crate::{
    cases::{CaseError, Choosing, Voter, Wanted},
    state::{QuestionRow, QuestionState},
    web::{
        call::Call,
        me::fresh,
        page::{Mood, Page, foreign, note, state, time, token},
        problem::Problem,
        serving::{Answer, View},
        waiting::{QUESTIONS, wanted},
    },
};

/// Questions that one form answers.
const GROUP_MAX: usize = 20;
/// Characters of the id of a group.
const ID_CHARS: usize = 32;

/// Equal questions that wait for the caller.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    pub(super) id: String,
    /// The rule that asks.
    rule: String,
    /// The stage that waits for the caller.
    stage: String,
    /// The ids of the questions, the newest first.
    pub(super) questions: Vec<String>,
}

/// Says which group a question would be in; `None` if it is answered by itself: it does not wait for the
/// caller, or a stage of it needs a passkey or a key.
pub(super) fn key(row: &QuestionRow, wanted: &Wanted<'_>) -> Option<(String, String)> {
    let stage = wanted.stages.first()?;
    let is_strong = |strength: Strength| strength != Strength::Session;
    if wanted.stages.iter().any(|stage| is_strong(stage.strength)) {
        return None;
    }
    let rule = row.sent.question.grounds.rule.as_ref()?;
    let shape = row.sent.question.request.request().shape();
    let whole = format!(
        "{rule}\n{}\n{}\n{shape}",
        stage.name, row.sent.review.reason_required
    );
    let digest = Digest::of(whole.as_bytes()).to_string();
    let id = digest.get(..ID_CHARS).unwrap_or(&digest).to_owned();
    Some((id, stage.name.clone()))
}

/// Groups what waits for the caller; a question alone is no group.
pub(super) fn groups(waiting: &[(String, String, &QuestionRow)]) -> Vec<Group> {
    let mut found: BTreeMap<&str, Group> = BTreeMap::new();
    for (id, stage, row) in waiting {
        let rule = row.sent.question.grounds.rule.as_ref();
        let group = found.entry(id).or_insert_with(|| Group {
            id: id.clone(),
            rule: rule.map(ToString::to_string).unwrap_or_default(),
            stage: stage.clone(),
            questions: Vec::new(),
        });
        group.questions.push(row.id.clone());
    }
    let several = found.into_values().filter(|one| one.questions.len() > 1);
    several.collect()
}

/// The card of a group in the inbox, with every request.
pub(super) fn card(group: &Group, questions: &[&Question], call: &Call) -> Markup {
    let own = questions
        .iter()
        .filter(|question| group.questions.contains(&question.id));
    html! {
        section.card aria-labelledby={ "group-" (group.id) } {
            h2 id={ "group-" (group.id) } {
                (group.questions.len()) " equal questions of rule " code { (foreign(&group.rule)) }
            }
            ul.plain { @for question in own {
                li {
                    a data-row href={ "/inbox/" (question.id) } {
                        (foreign(&question.title)) " " (foreign(&question.summary))
                    }
                    span.hint {
                        (foreign(&question.machine)) " · asked by " (asked_by(question)) " · ends "
                        (time(question.expires, call.now))
                    }
                }
            } }
            p { (state(Mood::Open, "waits for you")) }
            .buttons { a.button href={ "/inbox/together/" (group.id) } { "Answer together" } }
        }
    }
}

/// The questions of a group with their whole texts.
#[derive(Debug, Serialize)]
pub(crate) struct Together {
    id: String,
    rule: String,
    stage: String,
    reason_required: bool,
    questions: Vec<Exact>,
    /// How many more wait, for which the form is drawn again.
    more: usize,
}

/// A question with its whole text.
#[derive(Debug, Serialize)]
struct Exact {
    #[serde(flatten)]
    question: Question,
    text: Shown,
    /// What a vote says that its voter saw.
    rendered: Digest,
}

/// `GET /inbox/together/{group}`
pub(crate) async fn together(call: Arc<Call>) -> Result<Together, Problem> {
    let caller = call.caller()?;
    let server = &call.web.server;
    let names = Names::read(&call).await?;
    let id = call.param("group");
    let mut found = Together {
        id: id.to_owned(),
        rule: String::new(),
        stage: String::new(),
        reason_required: false,
        questions: Vec::new(),
        more: 0,
    };
    let teams = caller.teams();
    for row in server
        .state
        .questions_of(teams.as_deref(), QUESTIONS)
        .await?
    {
        if row.state != QuestionState::Open {
            break;
        }
        if !names.is_seen(&row, caller) {
            continue;
        }
        let votes = server.votes(&row).await?;
        let asks = wanted(&call, &row, &votes, (caller, names.team(&row)), call.now);
        let Some((_, stage)) = key(&row, &asks).filter(|(group, _)| group == id) else {
            continue;
        };
        if found.questions.len() == GROUP_MAX {
            found.more += 1;
            continue;
        }
        found.stage = stage;
        found.reason_required = row.sent.review.reason_required;
        let rule = row.sent.question.grounds.rule.as_ref();
        found.rule = rule.map(ToString::to_string).unwrap_or_default();
        found.questions.push(Exact {
            question: question(&call, &row, &names).await?.0,
            text: row.sent.question.shown(),
            rendered: row.sent.rendered,
        });
    }
    if found.questions.is_empty() {
        return Err(Problem::not_found());
    }
    Ok(found)
}

impl View for Together {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            p {
                "Each question gets a vote of yours, for exactly the text that is shown here. What comes later is not \
                 answered. Take out what you do not want to answer so."
            }
            form .fields.wide method="post" action={ "/inbox/together/" (self.id) } {
                (token(call))
                input type="hidden" name="stage" value=(self.stage);
                @for exact in &self.questions { (exact.shown(call)) }
                div {
                    label for="reason" {
                        "Why" span.hint { (if self.reason_required { "Needed." } else { "The agents and others see it." }) }
                    }
                    input #reason name="reason" maxlength=(REASON_CHARS_MAX) autocomplete="off" required[self.reason_required];
                }
                p.hint { "A yes reaches exactly this, once, for each. For more, answer a question by itself." }
                .buttons {
                    button name="choice" value="allow" { "Allow all that are chosen" }
                    button.no name="choice" value="deny" { "Deny all that are chosen" }
                }
            }
            @if self.more > 0 { p { (self.more) " more of these wait; they come when these are answered." } }
            p { a href="/inbox" { "Back to the inbox" } }
        };
        Page::new("Equal questions", body).lead(html! {
            "Rule " code { (foreign(&self.rule)) } " asks " (self.questions.len()) " times, at stage " (foreign(&self.stage)) "."
        })
    }
}

impl Exact {
    fn shown(&self, call: &Call) -> Markup {
        let question = &self.question;
        html! {
            fieldset {
                legend { (foreign(&self.text.title)) }
                (text(&self.text))
                label.choice {
                    input type="checkbox" name="of" value={ (question.id) " " (self.rendered) } checked;
                    span {
                        "Answer this, on " (foreign(&question.machine)) ", asked by " (asked_by(question)) ", ends "
                        (time(question.expires, call.now))
                    }
                }
                p { a href={ "/inbox/" (question.id) } { "By itself" span.visually-hidden { " " (foreign(&question.summary)) } } }
            }
        }
    }
}

/// What became of one vote.
struct Voted {
    question: String,
    why: Option<String>,
}

/// `POST /inbox/together/{group}`
pub(crate) async fn vote_together(call: Arc<Call>) -> Result<Answer, Problem> {
    let caller = call.caller()?;
    if !caller.is_browser() {
        return Err(Problem::forbidden(
            "a person has to answer",
            "sign in on the page",
        ));
    }
    fresh(&call)?;
    let chosen = chosen(&call)?;
    let server = &call.web.server;
    let names = Names::read(&call).await?;
    let voter = Voter {
        user: caller.user.clone(),
        signed_in: caller.signed_in,
    };
    let mut all = Vec::new();
    for (id, choosing) in chosen {
        let row = server.state.question(&id).await?;
        let voted = match row.filter(|row| names.is_seen(row, caller)) {
            Some(row) => match votable(&call, caller, (&row, names.team(&row)), false) {
                Ok(()) => {
                    let proof = Proof::Session {};
                    server.vote(&voter, &id, &choosing, proof).await?
                }
                Err(error) => Err(error),
            },
            None => Err(CaseError::Unknown),
        };
        match voted {
            Err(CaseError::Stale) => return Err(Problem::stale()),
            Err(error) => all.push(Voted {
                question: id,
                why: Some(refused(&error).told.title),
            }),
            Ok(_) => all.push(Voted {
                question: id,
                why: None,
            }),
        }
    }
    if all.iter().all(|one| one.why.is_none()) {
        return Ok(Answer::See("/inbox?done=together".to_owned(), None));
    }
    let page = Page::new("Equal questions", outcome(&all));
    Ok(Answer::Again(StatusCode::CONFLICT, page))
}

/// Reads which questions the caller answers, and how.
fn chosen(call: &Call) -> Result<Vec<(String, Choosing)>, Problem> {
    let form = &call.form;
    let wrong = |what: &str| {
        Problem::wrong(
            format!("`{what}` is missing or wrong"),
            "load the page again",
        )
    };
    let choice = match form.get("choice") {
        "allow" => Choice::Allow,
        "deny" => Choice::Deny,
        _ => return Err(wrong("choice")),
    };
    let stage = form.get("stage");
    if stage.is_empty() {
        return Err(wrong("stage"));
    }
    let reason = form.get("reason").trim();
    let mut all: Vec<(String, Choosing)> = Vec::new();
    for one in form.all("of") {
        let (id, rendered) = one.split_once(' ').ok_or_else(|| wrong("of"))?;
        let choosing = Choosing {
            stage: Some(stage.to_owned()),
            breaks_glass: false,
            choice,
            scope: Scope::Once,
            not_after: None,
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            rendered: rendered.parse().map_err(|_| wrong("of"))?,
        };
        if all.iter().all(|(known, _)| known != id) {
            all.push((id.to_owned(), choosing));
        }
    }
    if all.is_empty() {
        return Err(Problem::wrong(
            "no question is chosen",
            "choose what you answer",
        ));
    }
    if all.len() > GROUP_MAX {
        return Err(wrong("of"));
    }
    Ok(all)
}

fn outcome(all: &[Voted]) -> Markup {
    let done = all.iter().filter(|one| one.why.is_none()).count();
    html! {
        (note(Mood::Bad, html! { (done) " of " (all.len()) " votes count." }))
        ul.plain { @for one in all {
            li {
                a href={ "/inbox/" (one.question) } { code { (foreign(&one.question)) } } " "
                @match &one.why {
                    None => (state(Mood::Good, "your answer counts")),
                    Some(why) => { (state(Mood::Bad, "not answered")) ": " (foreign(why)) },
                }
            }
        } }
        p { a href="/inbox" { "Back to the inbox" } }
    }
}
