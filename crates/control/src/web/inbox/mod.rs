//! Questions, the answers of people, and overrides that are to be looked at.

mod answer;
mod groups;
mod one;
mod overrides;

use std::{collections::BTreeMap, sync::Arc};

use maud::{Markup, html};
use serde::Serialize;
use stockade_api::node::StageStanding;
use stockade_trust::{TeamId, UserId, Vote};
use stockade_types::UnixMillis;

use super::{
    access::{Action, Circumstances},
    call::Call,
    caller::Caller,
    page::{Mood, Page, empty, foreign, note, state, time},
    problem::Problem,
    serving::View,
    waiting::{QUESTIONS, wanted},
};
use crate::state::{NodeRow, QuestionRow, QuestionState};

pub(crate) use answer::{challenge, choosing, may_vote, refused, review, vote};
use groups::{Group, card, groups, key};
pub(crate) use groups::{together, vote_together};
pub(crate) use one::one;
use overrides::{Override, overrides};

/// Characters of a reason.
const REASON_CHARS_MAX: usize = 500;

/// Questions.
#[derive(Debug, Serialize)]
pub(crate) struct Inbox {
    /// Those that are open first, then the newest.
    questions: Vec<Question>,
    /// Those that wait for the caller and are equal, so that one form answers them.
    groups: Vec<Group>,
    /// Overrides that nobody has looked at.
    overrides: Vec<Override>,
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
    /// Whether the caller may override all stages.
    you_may_override: bool,
    /// The names of people who have no vote, since they ask.
    requesters: Vec<String>,
    asked: UnixMillis,
    expires: UnixMillis,
    stages: Vec<StageStanding>,
    why: Option<String>,
}

/// Machines, and the names of people.
struct Names {
    machines: BTreeMap<String, NodeRow>,
    people: BTreeMap<UserId, String>,
}

impl Names {
    async fn read(call: &Call) -> Result<Self, Problem> {
        let state = &call.web.server.state;
        let machines = state.nodes().await?.into_iter();
        let people = state.users().await?.into_iter();
        Ok(Self {
            machines: machines.map(|node| (node.id.to_string(), node)).collect(),
            people: people.map(|user| (user.id, user.name)).collect(),
        })
    }

    /// Returns the machine of a question.
    fn machine(&self, row: &QuestionRow) -> Option<&NodeRow> {
        self.machines.get(row.key.node.as_str())
    }

    /// Returns the team of the machine of a question.
    fn team(&self, row: &QuestionRow) -> Option<&TeamId> {
        self.machine(row)?.team.as_ref()
    }

    /// Tells whether the caller may see a question.
    fn is_seen(&self, row: &QuestionRow, caller: &Caller) -> bool {
        let team = self.team(row);
        caller.allows_question(Action::SeeQuestions, row, team, Circumstances::BEST)
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
    let votes = server.votes(row).await?;
    let is_open = row.state == QuestionState::Open;
    let stages = if is_open {
        server.stages(row, &votes)
    } else {
        Vec::new()
    };
    let shown = row.sent.question.shown();
    let node = row.key.node.to_string();
    let asked = (call.caller()?, names.team(row));
    let wanted = wanted(call, row, &votes, asked, call.now);
    let name = names.machine(row).map(|machine| machine.name.clone());
    let question = Question {
        waits_for_you: !wanted.stages.is_empty(),
        you_may_override: wanted.glass,
        machine: name.unwrap_or_else(|| node.clone()),
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

/// Returns the question that the caller names, if the caller may see it.
pub(crate) async fn row(call: &Call) -> Result<(QuestionRow, Option<TeamId>), Problem> {
    let caller = call.caller()?;
    let state = &call.web.server.state;
    let found = state.question(call.param("question")).await?;
    let row = found.ok_or_else(Problem::not_found)?;
    let team = state.team_of(&row.key.node).await?;
    let how = Circumstances::BEST;
    if !caller.allows_question(Action::SeeQuestions, &row, team.as_ref(), how) {
        return Err(Problem::not_found());
    }
    Ok((row, team))
}

/// `GET /inbox`
pub(crate) async fn show(call: Arc<Call>) -> Result<Inbox, Problem> {
    let names = Names::read(&call).await?;
    let caller = call.caller()?;
    let mut questions = Vec::new();
    let mut waiting = Vec::new();
    let state = &call.web.server.state;
    let teams = caller.teams();
    let rows = state.questions_of(teams.as_deref(), QUESTIONS).await?;
    for row in &rows {
        if !names.is_seen(row, caller) {
            continue;
        }
        let (question, votes) = question(&call, row, &names).await?;
        questions.push(question);
        let of = (caller, names.team(row));
        if let Some((id, stage)) = key(row, &wanted(&call, row, &votes, of, call.now)) {
            waiting.push((id, stage, row));
        }
    }
    let groups = groups(&waiting);
    let overrides = overrides(&call).await?;
    Ok(Inbox {
        questions,
        groups,
        overrides,
    })
}

impl View for Inbox {
    fn page(&self, call: &Call) -> Page {
        let (open, over): (Vec<_>, Vec<_>) = self
            .questions
            .iter()
            .partition(|question| question.state == "open");
        let is_grouped = |question: &&&Question| {
            let mut groups = self.groups.iter();
            groups.any(|group| group.questions.contains(&question.id))
        };
        let alone: Vec<&Question> = open
            .iter()
            .filter(|question| !is_grouped(question))
            .copied()
            .collect();
        let body = html! {
            @if call.query("done") == "together" { (note(Mood::Good, "Your answers count.")) }
            (overrides::list(&self.overrides, call))
            @for group in &self.groups { (card(group, &open, call)) }
            @if open.is_empty() {
                (empty("No question is open.", "A session asks here when a rule of its policy has stages."))
            } @else if !alone.is_empty() { (list(&alone, call)) }
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
