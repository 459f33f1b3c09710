//! Overrides: one person has allowed what several should have, and another one says whether it was right.

use maud::{Markup, html};
use serde::Serialize;
use stockade_types::UnixMillis;

use super::{Names, REASON_CHARS_MAX};
use crate::{
    Server,
    state::{QuestionRow, ReviewTaskRow},
    web::{
        call::Call,
        page::{Mood, foreign, note, state, time, token},
        problem::Problem,
    },
};

/// Overrides on one page.
const OVERRIDES: u32 = 100;

/// An override.
#[derive(Debug, Serialize)]
pub(crate) struct Override {
    question: String,
    /// What was asked, in one line.
    summary: String,
    /// Who overrode the stages.
    person: String,
    at: UnixMillis,
    /// Until when another person has to look at it.
    due: UnixMillis,
    /// Whether the caller may.
    pub(crate) waits_for_you: bool,
    /// What came of it.
    review: Option<Said>,
}

/// What a person said about an override.
#[derive(Debug, Serialize)]
struct Said {
    person: String,
    justified: bool,
    note: String,
    at: UnixMillis,
}

impl Override {
    pub(super) fn new(
        task: &ReviewTaskRow,
        row: &QuestionRow,
        call: &Call,
        names: &Names,
    ) -> Result<Self, Problem> {
        let caller = call.caller()?;
        let roles = caller.roles_within(names.team(row));
        let may = Server::may_review(row, task, &caller.user, &roles).is_ok();
        let shown = row.sent.question.shown();
        Ok(Self {
            question: task.question.clone(),
            summary: format!("{} {}", shown.title, shown.summary()),
            person: names.person(&task.breaker),
            at: task.made,
            due: task.due,
            waits_for_you: may && task.done.is_none() && caller.is_browser(),
            review: task.done.as_ref().map(|done| Said {
                person: names.person(&done.by),
                justified: done.justified,
                note: done.note.clone(),
                at: done.at,
            }),
        })
    }

    /// What the page of a question says of it, with the form of who may look at it.
    pub(super) fn about(&self, call: &Call) -> Markup {
        html! {
            h2 { "Overridden" }
            @match &self.review {
                Some(said) => p {
                    (foreign(&said.person))
                    @if said.justified { " found it " (state(Mood::Good, "justified")) }
                    @else { " found it " (state(Mood::Bad, "not justified")) }
                    " " (time(said.at, call.now)) ": " (foreign(&said.note))
                },
                None => (note(Mood::Open, html! {
                    (foreign(&self.person)) " has overridden all stages. Another person has to look at it: "
                    (self.until(call))
                })),
            }
            @if self.waits_for_you {
                form .fields method="post" action={ "/inbox/" (self.question) "/review" } {
                    (token(call))
                    div {
                        label for="note" { "What you found" span.hint { "Needed." } }
                        input #note name="note" maxlength=(REASON_CHARS_MAX) autocomplete="off" required;
                    }
                    .buttons {
                        button name="verdict" value="justified" { "It was justified" }
                        button.no name="verdict" value="not-justified" { "It was not" }
                    }
                }
            }
        }
    }

    fn until(&self, call: &Call) -> Markup {
        html! {
            @if self.due <= call.now { (state(Mood::Bad, "overdue")) " since " } @else { "until " }
            (time(self.due, call.now))
        }
    }
}

/// Lists the overrides that nobody has looked at, as far as the caller may see their questions.
pub(crate) async fn overrides(call: &Call) -> Result<Vec<Override>, Problem> {
    let server = &call.web.server;
    let tasks = server.state.review_tasks(OVERRIDES).await?;
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let caller = call.caller()?;
    let names = Names::read(call).await?;
    let mut all = Vec::new();
    for task in tasks {
        let row = server.state.question(&task.question).await?;
        if let Some(row) = row.filter(|row| names.is_seen(row, caller)) {
            all.push(Override::new(&task, &row, call, &names)?);
        }
    }
    Ok(all)
}

/// The list above the questions.
pub(super) fn list(overrides: &[Override], call: &Call) -> Markup {
    html! {
        @if !overrides.is_empty() {
            h2 { "Overrides to look at" }
            ul.questions { @for one in overrides {
                li {
                    a.question data-row href={ "/inbox/" (one.question) } {
                        span { strong { (foreign(&one.summary)) } }
                        span.nowrap {
                            @if one.due <= call.now { (state(Mood::Bad, "overdue")) }
                            @else if one.waits_for_you { (state(Mood::Open, "waits for you")) }
                            @else { (state(Mood::Open, "to be looked at")) }
                        }
                        span.quiet { "overridden by " (foreign(&one.person)) }
                        span.quiet { (one.until(call)) }
                    }
                }
            } }
            h2 { "Questions" }
        }
    }
}
