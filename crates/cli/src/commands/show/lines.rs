//! What single events say, as lines of the timeline.

use serde::Serialize;
use stockade_event::{
    Event, Listed, PlanStepSeen, step_line,
    summary::{Traffic, is_kept_by_git},
};
use stockade_types::{Access, Answerer, DecisionRecord, RawText, StepState, Subject, Verdict};

use crate::{
    archive::count,
    commands::run::summary::in_workspace,
    human::{cut, number, safe, span, words},
};

/// Characters of a command line within a sentence.
const TITLE_CHARS_MAX: usize = 60;
/// How many programs of the chain behind a refusal are named, and how much of each.
const CHAIN_MAX: usize = 3;
const CHAIN_CHARS_MAX: usize = 24;
/// Characters of a step of a plan.
const STEP_CHARS_MAX: usize = 80;

/// What sort of line it is, which gives its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    Started,
    Prompt,
    Changed,
    Connected,
    Called,
    Plan,
    Refused,
    Asked,
    Note,
    Ended,
}

/// One line; what happened in the same way again is counted.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) time_unix_ns: u64,
    pub(super) mark: Mark,
    pub(super) text: String,
    /// What explains it, on a line of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    /// What went over connections that have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) traffic: Option<Traffic>,
    pub(super) count: u64,
    /// How many of them did not come about; the detail says why the last one did not.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) failed: u64,
    /// It was not asked for, only perhaps what came of it.
    #[serde(skip)]
    pub(super) unwanted: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Line {
    pub(super) fn new(time_unix_ns: u64, mark: Mark, text: String) -> Self {
        Self {
            time_unix_ns,
            mark,
            text,
            detail: None,
            traffic: None,
            count: 1,
            failed: 0,
            unwanted: false,
        }
    }
}

/// Returns what the agent of a preset is called.
pub(super) fn agent(preset: &str) -> String {
    match preset {
        "" | "generic" => "the agent".to_owned(),
        preset => safe(preset),
    }
}

/// Says that a guarantee does not hold, and why.
pub(super) fn not_held(guarantee: &str, why: Option<&str>) -> String {
    let why = safe(why.unwrap_or("no reason recorded"));
    format!("not held here: {} ({why})", safe(guarantee))
}

/// Writes how far an answer given at `time` reaches: of a time how long it is.
pub(super) fn reach(scope: &str, time_unix_ns: u64) -> String {
    let end = scope
        .strip_prefix("until:")
        .and_then(|end| end.parse::<u64>().ok());
    end.map_or_else(
        || safe(scope),
        |end| format!("for {}", span(end.saturating_sub(time_unix_ns / 1_000_000))),
    )
}

/// Writes an answer behind the question.
pub(super) fn answer(
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
pub(super) fn changed(path: &RawText, access: Access, workspace: &RawText) -> String {
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

/// Renders what is only noted, neither judged nor done by a command.
pub(super) fn noted(time: u64, event: &Event) -> Line {
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
    Line {
        detail,
        ..Line::new(time, Mark::Note, text)
    }
}

/// Names the steps of a plan, each with a sign of how far it is.
pub(super) fn steps(steps: &Listed<PlanStepSeen>) -> Vec<String> {
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
    let more = steps.count.saturating_sub(count(lines.len()));
    if more > 0 {
        lines.push(format!("and {} more", number(more)));
    }
    lines
}

/// Returns the command line of the agent's own child that `subject` is or comes from: the last but
/// one of its parents, since the last is the session's first process.
pub(super) fn first_level(subject: &Subject) -> Option<String> {
    match subject.ancestry.len() {
        0 => None,
        1 => Some(words(&subject.argv)),
        count => subject.ancestry.get(count - 2).map(RawText::display),
    }
}

/// Returns what a decision is about, for files also how they would change, escaped also where the
/// target has plain text.
pub(super) fn target(decision: &DecisionRecord) -> String {
    let target = safe(&decision.target.summary());
    match &decision.target.access {
        Some(access) => format!("{access} {target}"),
        None => target,
    }
}

pub(super) fn asked(decision: &DecisionRecord) -> String {
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
pub(super) fn denied(decision: &DecisionRecord) -> String {
    let rule = decision
        .rule
        .as_ref()
        .map_or("no rule allows it", |rule| rule.as_str());
    let target = target(decision);
    format!("{:<4} {target} denied ({rule})", decision.kind.as_str())
}

pub(super) fn refused(time: u64, decision: &DecisionRecord) -> Line {
    let subject = &decision.subject;
    let mut chain: Vec<String> = vec![String::new()];
    for text in std::iter::once(&subject.exe)
        .chain(&subject.ancestry)
        .take(CHAIN_MAX)
    {
        let text = text.display();
        // The name of the program; what follows are its arguments.
        let program = text.split(' ').next().unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or_default();
        if !name.is_empty() && chain.last().is_none_or(|last| last != name) {
            chain.push(cut(name, CHAIN_CHARS_MAX));
        }
    }
    // The empty first one gives each name its arrow.
    let by = chain.join(" ← ");
    let text = format!("{}{by}", denied(decision));
    Line {
        detail: Some(safe(&decision.reason)).filter(|reason| !reason.is_empty()),
        ..Line::new(time, Mark::Refused, text)
    }
}
