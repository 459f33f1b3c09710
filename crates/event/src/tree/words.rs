//! What single events say to a person, in words. Foreign text is escaped.

use stockade_types::{Access, Answerer, DecisionRecord, RawText, StepState, Subject, Verdict};

use crate::{
    event::Event,
    model::Listed,
    plan::{PlanStepSeen, step_line},
    summary::is_kept_by_git,
    text::{cut, in_workspace, number, safe, span, words},
};

/// Characters of a command line within a sentence.
const TITLE_CHARS_MAX: usize = 60;
/// Characters of a step of a plan.
const STEP_CHARS_MAX: usize = 80;

/// Returns what the agent of a preset is called.
pub fn agent(preset: &str) -> String {
    match preset {
        "" | "generic" => "the agent".to_owned(),
        preset => safe(preset),
    }
}

/// Says that a guarantee does not hold, and why.
pub fn not_held(guarantee: &str, why: Option<&str>) -> String {
    let why = safe(why.unwrap_or("no reason recorded"));
    format!("not held here: {} ({why})", safe(guarantee))
}

/// Writes how far an answer given at `time` reaches: of a time how long it is.
pub fn reach(scope: &str, time_unix_ns: u64) -> String {
    let end = scope
        .strip_prefix("until:")
        .and_then(|end| end.parse::<u64>().ok());
    end.map_or_else(
        || safe(scope),
        |end| format!("for {}", span(end.saturating_sub(time_unix_ns / 1_000_000))),
    )
}

/// Writes an answer behind the question.
pub fn answer(
    verdict: Verdict,
    reach: Option<String>,
    by: &Answerer,
    reason: Option<&str>,
) -> String {
    let answer = if verdict == Verdict::Allow {
        "allowed"
    } else {
        "denied"
    };
    let reach = reach.map(|text| format!(" {text}")).unwrap_or_default();
    let reason = reason
        .map(|why| format!(": {}", safe(why)))
        .unwrap_or_default();
    format!("→ {answer}{reach} by {by}{reason}")
}

/// Says which file was changed; what git keeps for itself is one.
pub fn changed(path: &RawText, access: Access, workspace: &RawText) -> String {
    if is_kept_by_git(path, workspace) {
        return ".git (git's own files)".to_owned();
    }
    let name = in_workspace(path, workspace);
    match access {
        Access::Write => name,
        Access::Create | Access::Remove | Access::Rename | Access::Mode => {
            format!("{name} ({access})")
        }
    }
}

/// Says what is only noted, neither judged nor done by a command, and what explains it.
pub fn noted(event: &Event) -> (String, Option<String>) {
    let mut detail = None;
    let text = if let Event::LimitReached { .. } = event {
        format!("limit {}", event.line())
    } else if let Event::EventsLost {
        source,
        count,
        reason,
    } = event
    {
        format!("{count} events of {} lost: {}", safe(source), safe(reason))
    } else if let Event::FindingRaised {
        severity,
        title,
        detail: more,
        ..
    } = event
    {
        detail = Some(safe(more));
        format!("{}, {severity}", safe(title))
    } else if let Event::ExecUnconfirmed { process, why, .. } = event {
        detail = Some(safe(why));
        format!(
            "not verified: {}",
            cut(&words(&process.argv), TITLE_CHARS_MAX)
        )
    } else {
        event.line()
    };
    (text, detail)
}

/// Names the steps of a plan, each with a sign of how far it is.
pub fn steps(steps: &Listed<PlanStepSeen>) -> Vec<String> {
    let one = |step: &PlanStepSeen| {
        let sign = match step.state {
            Some(StepState::Done) => "✓",
            Some(StepState::Active) => "▸",
            Some(StepState::Cancelled | StepState::Removed) => "✗",
            Some(StepState::Blocked) => "‖",
            Some(StepState::Pending | StepState::Unknown) | None => "·",
        };
        // The sign says it already.
        let words = PlanStepSeen {
            state: None,
            ..step.clone()
        };
        format!("{sign} {}", cut(&step_line(&words), STEP_CHARS_MAX))
    };
    let mut lines: Vec<String> = steps.first.iter().map(one).collect();
    let more = steps
        .count
        .saturating_sub(u64::try_from(lines.len()).unwrap_or(u64::MAX));
    if more > 0 {
        lines.push(format!("and {} more", number(more)));
    }
    lines
}

/// Returns the command line of the agent's own child that `subject` is or comes from: the last but
/// one of its parents, since the last is the session's first process.
pub fn first_level(subject: &Subject) -> Option<String> {
    match subject.ancestry.len() {
        0 => None,
        1 => Some(words(&subject.argv)),
        count => subject.ancestry.get(count - 2).map(RawText::display),
    }
}

/// Returns what a decision is about, for files also how they would change, escaped also where the
/// target has plain text.
pub fn target(decision: &DecisionRecord) -> String {
    let target = safe(&decision.target.summary());
    match &decision.target.access {
        Some(access) => format!("{access} {target}"),
        None => target,
    }
}

/// Says what a question is about, and which rule asks it.
pub fn asked(decision: &DecisionRecord) -> String {
    let rule = decision
        .rule
        .as_ref()
        .map_or("no rule", |rule| rule.as_str());
    format!(
        "{:<4} {} ({rule})",
        decision.kind.as_str(),
        target(decision)
    )
}

/// Says what was refused, and by which rule.
pub fn denied(decision: &DecisionRecord) -> String {
    let rule = decision
        .rule
        .as_ref()
        .map_or("no rule allows it", |rule| rule.as_str());
    let target = target(decision);
    format!("{:<4} {target} denied ({rule})", decision.kind.as_str())
}
