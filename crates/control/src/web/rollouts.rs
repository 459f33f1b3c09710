//! Rollouts: which step it is, what was seen of it on both sides, and what a person can do.

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;
use stockade_trust::{PlanStep, StepKind};
use stockade_types::UnixMillis;

use super::{
    access::Action,
    call::Call,
    me::fresh,
    page::{Mood, Page, empty, foreign, may, note, time, token},
    policy::named,
    problem::Problem,
    serving::{Answer, View},
    standing::{Standing, mood, standing},
};
use crate::{
    policy::{Publication, PublishError},
    rollouts::{CONTROLLER, Guard, MoveError, Next, Order},
    state::{RolloutRow, RolloutState, UserRow},
};

/// Rollouts that the page lists.
const LISTED: u32 = 50;
/// Characters of a reason.
const REASON_CHARS_MAX: usize = 300;

/// A rollout, as lists show it.
#[derive(Debug, Serialize)]
struct Listed {
    id: String,
    serial: u64,
    state: RolloutState,
    step: u32,
    steps: Vec<PlanStep>,
    started: UnixMillis,
    step_since: UnixMillis,
    why: String,
}

impl Listed {
    fn of(row: &RolloutRow) -> Self {
        Self {
            id: row.id.clone(),
            serial: row.serial,
            state: row.state,
            step: row.step,
            steps: row.plan.steps.clone(),
            started: row.started,
            step_since: row.step_since,
            why: row.why.clone(),
        }
    }
}

/// All rollouts.
#[derive(Debug, Serialize)]
pub(crate) struct Rollouts {
    rollouts: Vec<Listed>,
}

/// `GET /rollouts`
pub(crate) async fn show(call: Arc<Call>) -> Result<Rollouts, Problem> {
    let rows = call.web.server.state.rollouts(LISTED).await?;
    Ok(Rollouts {
        rollouts: rows.iter().map(Listed::of).collect(),
    })
}

impl View for Rollouts {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            @if self.rollouts.is_empty() {
                (empty("No policy was rolled out step by step.", "Whoever approves a proposal chooses how it reaches the machines."))
            } @else {
                .table { table {
                    thead { tr {
                        th scope="col" { "Serial" } th scope="col" { "State" } th scope="col" { "Step" }
                        th scope="col" { "Why" } th scope="col" { "Begun" }
                    } }
                    tbody { @for one in &self.rollouts {
                        tr data-row {
                            th scope="row" { a href={ "/rollouts/" (one.id) } { "Serial " (one.serial) } }
                            td { (mood(one.state)) }
                            td.nowrap { (one.step) " of " (one.steps.len()) }
                            td { (foreign(&one.why)) }
                            td { (time(one.started, call.now)) }
                        }
                    } }
                } }
            }
        };
        Page::new("Rollouts", body)
            .lead("A new policy is compared first, then tried on a part of the machines, then in force everywhere.")
            .live("fleet")
    }
}

/// A rollout.
#[derive(Debug, Serialize)]
pub(crate) struct OneRollout {
    #[serde(flatten)]
    rollout: Listed,
    standing: Standing,
    guards: Vec<Guard>,
    next: Option<Next>,
    /// Decisions in which the candidate was compared, and those in which it differs.
    compared: (u64, u64),
    moves: Vec<Moved>,
    /// Whether it is the newest policy, so that it can be rolled back.
    newest: bool,
}

/// One move.
#[derive(Debug, Serialize)]
struct Moved {
    at: UnixMillis,
    by: String,
    from: u32,
    to: u32,
    state: RolloutState,
    why: String,
}

/// `GET /rollouts/{rollout}`
pub(crate) async fn one(call: Arc<Call>) -> Result<OneRollout, Problem> {
    let server = &call.web.server;
    let row = server.state.rollout(call.param("rollout")).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    let users = server.state.users().await?;
    let report = match row.state {
        RolloutState::Running | RolloutState::Held => server.step_report(&row, call.now).await?,
        RolloutState::Halted | RolloutState::Done | RolloutState::Replaced => None,
    };
    let moves = server.state.moves(&row.id).await?;
    let newest = server.state.newest_bundle_row().await?;
    let newest = newest.is_some_and(|bundle| bundle.serial == row.serial);
    let (guards, next, compared) = match report {
        Some(report) => (report.guards, Some(report.next), report.compared),
        None => (Vec::new(), None, (0, 0)),
    };
    Ok(OneRollout {
        rollout: Listed::of(&row),
        standing: if newest {
            standing(
                server,
                &call.sight(Action::SeeFleet)?,
                row.serial,
                Some(&row),
            )
            .await?
        } else {
            Standing::default()
        },
        guards,
        next,
        compared,
        moves: moves
            .into_iter()
            .map(|moved| Moved {
                at: moved.at,
                by: by_words(&moved.by, &users),
                from: moved.from,
                to: moved.to,
                state: moved.state,
                why: moved.why,
            })
            .collect(),
        newest,
    })
}

fn by_words(by: &str, users: &[UserRow]) -> String {
    if by == CONTROLLER {
        "the controller".to_owned()
    } else {
        named(by, users)
    }
}

impl View for OneRollout {
    fn page(&self, call: &Call) -> Page {
        let one = &self.rollout;
        let body = html! {
            @match call.query("done") {
                "moved" => (note(Mood::Good, "Done, and said to all machines that are connected.")),
                "reported" => (note(Mood::Good, "Your report is noted. Three people's reports halt the rollout.")),
                _ => {}
            }
            @if one.state == RolloutState::Halted {
                (note(Mood::Bad, html! { "Halted: " (foreign(&one.why)) }))
            }
            dl.facts {
                dt { "State" } dd { (mood(one.state)) }
                @if one.state != RolloutState::Halted { dt { "Why" } dd { (foreign(&one.why)) } }
                dt { "Begun" } dd { (time(one.started, call.now)) }
                dt { "At this step" } dd { "since " (time(one.step_since, call.now)) }
            }
            h2 { "Steps" }
            (self.track())
            @if self.newest { (self.standing.shown()) }
            @if let Some(next) = &self.next { (self.seen(next)) }
            @if may(call, Action::PublishPolicy) { (self.orders(call)) }
            @if matches!(one.state, RolloutState::Running | RolloutState::Held) { (report_form(call, &one.id)) }
            h2 { "What was done" }
            (self.history(call))
            p { a href="/rollouts" { "All rollouts" } }
        };
        Page::new(format!("Rollout of serial {}", one.serial), body)
            .lead("Is it safe to go on?")
            .live("fleet")
    }
}

/// Says what a step is.
fn step_words(step: &PlanStep) -> String {
    match step.kind {
        StepKind::Shadow => format!("Compare on {} %", step.percent),
        StepKind::Canary => format!("Try on {} %", step.percent),
        StepKind::Enforce => "In force everywhere".to_owned(),
    }
}

/// Shows a number of a guard: whole, or with two places.
fn number(value: f64) -> String {
    if value.fract().abs() < f64::EPSILON {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

impl OneRollout {
    /// Shows the steps as a track; words say what the marks say.
    fn track(&self) -> Markup {
        let one = &self.rollout;
        html! {
            ol.track {
                @for (index, step) in one.steps.iter().enumerate() {
                    @let number = index + 1;
                    @let here = usize::try_from(one.step).unwrap_or_default();
                    @let (class, words) = if number < here || (number == here && one.state == RolloutState::Done) {
                        ("passed", "passed")
                    } else if number == here {
                        ("here", "now")
                    } else {
                        ("later", "not yet")
                    };
                    li class=(class) aria-current=[(class == "here").then_some("step")] {
                        strong { (step_words(step)) }
                        span.quiet { (words) }
                        @if step.kind != StepKind::Enforce {
                            span.hint { "at least " (step.min_time_ms / 60_000) " min, " (step.min_sessions) " sessions, " (step.min_decisions) " decisions" }
                        }
                    }
                }
            }
        }
    }

    /// Shows what was seen of the step on both sides.
    fn seen(&self, next: &Next) -> Markup {
        html! {
            h2 { "Guards" }
            @match next {
                Next::Hold { why } => (note(Mood::Open, html! { "Held: " (foreign(why)) "." })),
                Next::Advance => (note(Mood::Good, "Enough was seen, and no guard was hit; the next step follows.")),
                Next::Halt { why } => (note(Mood::Bad, html! { "A guard is hit: " (foreign(why)) })),
            }
            .table { table #guards {
                thead { tr {
                    th scope="col" { "Guard" } th.number scope="col" { "Candidate" } th.number scope="col" { "In force" }
                    th.number scope="col" { "Ratio" } th.number scope="col" { "95 % interval" } th.number scope="col" { "May be" } th scope="col" { "State" }
                } }
                tbody { @for guard in &self.guards { (guard_row(guard)) } }
            } }
            @if self.compared.0 > 0 {
                p { "The candidate was compared in " (self.compared.0) " decisions and differs in " strong { (self.compared.1) } "." }
            }
        }
    }

    /// The forms by which a person moves the rollout.
    fn orders(&self, call: &Call) -> Markup {
        let one = &self.rollout;
        let orders: &[(&str, &str, &str)] = match one.state {
            RolloutState::Running => &[
                ("advance", "Next step now", ""),
                ("hold", "Hold", ""),
                ("halt", "Halt, back to the policy in force", "no"),
            ],
            RolloutState::Held => &[
                ("resume", "Let it go on", "main"),
                ("advance", "Next step now", ""),
                ("halt", "Halt, back to the policy in force", "no"),
            ],
            RolloutState::Done if self.newest => {
                &[("back", "Roll back: publish the policy before", "no")]
            }
            RolloutState::Done | RolloutState::Halted | RolloutState::Replaced => &[],
        };
        html! {
            @if !orders.is_empty() {
                h2 { "Move it" }
                form.fields method="post" action={ "/rollouts/" (one.id) } {
                    (token(call))
                    div {
                        label for="why" { "Why" span.hint { "It stands in the record." } }
                        input #why name="why" maxlength=(REASON_CHARS_MAX);
                    }
                    .buttons { @for (word, words, class) in orders {
                        button class=[(!class.is_empty()).then_some(class)] name="do" value=(word) { (words) }
                    } }
                }
            }
        }
    }

    fn history(&self, call: &Call) -> Markup {
        html! {
            @if self.moves.is_empty() { p.quiet { "Nothing yet: it was published at its first step." } }
            @else {
                .table { table {
                    thead { tr { th scope="col" { "When" } th scope="col" { "By" } th scope="col" { "Step" } th scope="col" { "Why" } } }
                    tbody { @for moved in &self.moves {
                        tr {
                            td { (time(moved.at, call.now)) }
                            td { (foreign(&moved.by)) }
                            td.nowrap { (moved.from) " to " (moved.to) ", " (moved.state.word()) }
                            td { (foreign(&moved.why)) }
                        }
                    } }
                } }
            }
        }
    }
}

fn guard_row(guard: &Guard) -> Markup {
    let of = |(hits, base): (f64, f64)| {
        if base > 0.0 {
            format!("{} of {}", number(hits), number(base))
        } else {
            number(hits)
        }
    };
    let bound = |value: Option<f64>| {
        value.map_or_else(|| "no bound".to_owned(), |value| format!("{value:.2}"))
    };
    html! {
        tr {
            th scope="row" { (guard.name) }
            td.number { (of(guard.candidate)) }
            td.number { @if let Some(control) = guard.control { (of(control)) } @else { span.quiet { "none" } } }
            td.number { @if let Some(ratio) = guard.ratio { (format!("{ratio:.2}")) } @else { span.quiet { "unknown" } } }
            td.number.nowrap {
                @if let Some(lower) = guard.lower { (format!("{lower:.2}")) " to " (bound(guard.upper)) } @else { span.quiet { "none" } }
            }
            td.number { @if guard.control.is_some() { "≤ " } @else { "< " } (number(guard.threshold)) }
            td { @if guard.hit { (super::page::state(Mood::Bad, "hit")) } @else { (super::page::state(Mood::Good, "not hit")) } }
        }
    }
}

fn report_form(call: &Call, id: &str) -> Markup {
    html! {
        h2 { "Report a refusal" }
        p { "Was something refused that you need for your work? Say what. If three people report one, the rollout halts." }
        form.fields method="post" action={ "/rollouts/" (id) "/report" } {
            (token(call))
            div {
                label for="reason" { "What was refused" }
                input #reason name="reason" required maxlength=(REASON_CHARS_MAX);
            }
            .buttons { button { "Report" } }
        }
    }
}

/// `POST /rollouts/{rollout}`
pub(crate) async fn submit(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let id = call.param("rollout").to_owned();
    let by = call.caller()?.user.0.clone();
    let why: String = call
        .form
        .get("why")
        .trim()
        .chars()
        .take(REASON_CHARS_MAX)
        .collect();
    let why = if why.is_empty() {
        "by hand".to_owned()
    } else {
        why
    };
    let order = match call.form.get("do") {
        "advance" => Order::Advance,
        "hold" => Order::Hold,
        "resume" => Order::Resume,
        "halt" => Order::Halt,
        "back" => return roll_back(&call, &id, &by, &why).await,
        _ => {
            return Err(Problem::wrong(
                "`do` is none of advance, hold, resume, halt and back",
                "use the buttons of the page",
            ));
        }
    };
    let done = call.web.server.order_rollout(&id, order, &by, &why).await?;
    done.map_err(|error| refused(&error))?;
    Ok(Answer::See(format!("/rollouts/{id}?done=moved"), None))
}

/// Publishes what was in force before a rollout that is done.
async fn roll_back(call: &Call, id: &str, by: &str, why: &str) -> Result<Answer, Problem> {
    let server = &call.web.server;
    let row = server
        .state
        .rollout(id)
        .await?
        .ok_or_else(Problem::not_found)?;
    if row.state != RolloutState::Done {
        return Err(refused(&MoveError::State(row.state.word())));
    }
    let before = server.state.newest_bundle_row().await?;
    let before = before.filter(|bundle| bundle.serial == row.serial);
    let before = before.ok_or_else(|| refused(&MoveError::Changed))?;
    let message = format!("back to the policy before serial {}: {why}", row.serial);
    let publication = Publication::now(&before.text, &message, by, row.serial);
    match server.publish_as(&publication).await? {
        Ok(_) => Ok(Answer::See("/policy?done=published".to_owned(), None)),
        Err(PublishError::Changed { .. }) => Err(refused(&MoveError::Changed)),
        Err(error) => Err(super::policy::refused(&error)),
    }
}

/// `POST /rollouts/{rollout}/report`
pub(crate) async fn report(call: Arc<Call>) -> Result<Answer, Problem> {
    let id = call.param("rollout").to_owned();
    let caller = call.caller()?;
    if !caller.is_browser() {
        return Err(Problem::forbidden(
            "a person has to report it",
            "sign in on the page",
        ));
    }
    let by = caller.user.clone();
    let reason = call.form.get("reason").trim();
    if reason.is_empty() {
        return Err(Problem::wrong("`reason` is empty", "say what was refused"));
    }
    let done = call.web.server.report_refusal(&id, &by, reason).await?;
    done.map_err(|error| refused(&error))?;
    Ok(Answer::See(format!("/rollouts/{id}?done=reported"), None))
}

fn refused(error: &MoveError) -> Problem {
    match error {
        MoveError::Unknown => Problem::not_found(),
        MoveError::State(_) | MoveError::Changed => {
            Problem::conflict(error.to_string(), "load the page again")
        }
    }
}
