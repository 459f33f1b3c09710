//! What is said at the end of a run.

#![deny(clippy::wildcard_enum_match_arm)]

mod activity;
mod allowing;
mod refusals;

use serde_json::{Value, json};
use stockade_event::Summary;
use stockade_journal::{Verification, VerificationVerdict};
use stockade_policy::{LastingRule, WorkspaceSettings};
use stockade_types::{RawText, SessionId};

use self::{
    activity::{
        changed, connected, files_that_run_later, hosted_tools, models, published, ran, runs_later,
        said, unreached, used,
    },
    refusals::{quiet, refused},
};
use crate::human::{cut, number, plural, safe, span};

pub(crate) use allowing::allowing;
pub(crate) use refusals::why;

/// Columns of the text.
const COLUMNS: usize = 80;
/// Column at which the second part of a line begins.
const INDENT: usize = 13;
/// How many items of a list are named; the rest is a number and a command that shows them.
const ITEMS_MAX: usize = 6;
/// Characters of one item.
const ITEM_CHARS_MAX: usize = 60;

/// What the supervisor knows beyond the events.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extra<'a> {
    /// The journal, verified after it was closed.
    pub(crate) verification: Option<&'a Verification>,
    /// Lines added to and removed from files of the workspace.
    pub(crate) lines_changed: Option<(u64, u64)>,
    /// Whether the supervisor of the session runs.
    pub(crate) running: bool,
    /// Which names of the workspace mean something to other programs.
    pub(crate) names: Option<&'a WorkspaceSettings>,
    /// The rules that would allow what was refused because nobody could be asked.
    pub(crate) rules: &'a [LastingRule],
}

/// Renders the end of a run: lines of at most 80 columns, readable without colour. The session is
/// given, since a record that was emptied does not name it.
pub(crate) fn render(summary: &Summary, session: &SessionId, extra: Extra<'_>) -> String {
    let id = session.short();
    let mut lines = vec![headline(summary, id, extra)];
    let mut line = |label: &str, rest: &str| {
        lines.push(format!("  {label:<width$}{rest}", width = INDENT - 2));
    };
    for (label, rest) in did(summary, extra, id) {
        line(label, &rest);
    }
    let made = connected(summary);
    if !made.is_empty() {
        line("connected", &made);
    }
    let not_made = unreached(summary);
    if !not_made.is_empty() {
        line("unreached", &not_made);
    }
    if summary.claims.prompts + summary.claims.calls > 0 {
        line("said", &said(summary));
    }
    let called = models(summary);
    if !called.is_empty() {
        line("models", &called);
    }
    if !summary.hosted_tools.is_empty() {
        line("provider", &hosted_tools(summary));
    }
    if !summary.published.is_empty() {
        line("published", &published(summary));
    }
    if summary.denials() > 0 {
        let label = number(summary.denials());
        for (index, refusal) in refused(summary, id).into_iter().enumerate() {
            match index {
                0 => line("refused", &format!("{label}: {refusal}")),
                _ => line("", &refusal),
            }
        }
    }
    if summary.quiet_denials() > 0 {
        line("quiet", &quiet(summary));
    }
    for limit in &summary.limits {
        line("limit", &sentence(limit));
    }
    for finding in &summary.findings {
        line("finding", &sentence(finding));
    }
    if summary.unconfirmed > 0 {
        let programs = plural(summary.unconfirmed, "program", "programs");
        line("unseen", &format!("{programs} ended before verification"));
    }
    if summary.events_lost > 0 {
        let lost = plural(summary.events_lost, "event was", "events were");
        line("lost", &format!("{lost} not recorded"));
    }
    let record = record(summary, extra, id);
    lines.push(format!(
        "  {:<width$}{record}\n",
        "record",
        width = INDENT - 2
    ));
    let rules = allowing::text(extra.rules, id);
    if !rules.is_empty() {
        lines.push(rules);
    }
    lines.join("\n")
}

/// Returns the lines about processes and files.
fn did(
    summary: &Summary,
    extra: Extra<'_>,
    id: &str,
) -> impl Iterator<Item = (&'static str, String)> {
    let all = [
        ("ran", Some(ran(summary))),
        ("used", used(summary)),
        ("changed", changed(summary, extra, id)),
        ("later", runs_later(summary, extra)),
    ];
    all.into_iter()
        .filter_map(|(label, rest)| Some((label, rest?)))
}

/// Returns the same as one JSON value.
pub(crate) fn to_json(summary: &Summary, extra: Extra<'_>) -> Value {
    json!({
        "session": summary.session,
        "summary": summary,
        "denials": summary.denials(),
        "rules": extra.rules.iter().map(allowing::to_json).collect::<Vec<_>>(),
        "runs_later": files_that_run_later(summary, extra),
        "lines_changed": extra.lines_changed.map(|(added, removed)| {
            json!({ "added": added, "removed": removed })
        }),
        "verification": extra.verification,
    })
}

fn headline(summary: &Summary, id: &str, extra: Extra<'_>) -> String {
    let command = command_name(summary);
    let after = summary
        .duration_ms
        .map_or_else(String::new, |ms| format!(" after {}", span(ms)));
    match &summary.outcome {
        Some(how) => {
            format!(
                "stockade: session {id} ended, {}{after}",
                how.text(&command)
            )
        }
        None if extra.running => {
            format!("stockade: session {id} has not ended, {command} may be running")
        }
        None => format!("stockade: session {id} is unfinished, its record has no end"),
    }
}

/// Returns the file name of the command.
pub(crate) fn command_name(summary: &Summary) -> String {
    let path = summary
        .command
        .first()
        .map(RawText::display)
        .unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.is_empty() {
        "the command".to_owned()
    } else {
        cut(name, ITEM_CHARS_MAX)
    }
}

fn record(summary: &Summary, extra: Extra<'_>, id: &str) -> String {
    let events = plural(summary.events, "event", "events");
    let state = match extra.verification.map(|verification| &verification.verdict) {
        None => format!("{events}, not verified yet"),
        Some(VerificationVerdict::Intact) => format!("intact, {events}, signed"),
        Some(VerificationVerdict::Unfinished { .. }) => {
            format!("{events}, without a closing signature")
        }
        Some(VerificationVerdict::Broken { faults, .. }) => {
            let first = faults
                .first()
                .map(|fault| fault.what.as_str())
                .unwrap_or_default();
            format!("BROKEN ({first})")
        }
    };
    format!("{state} · stockade log verify {id}")
}

/// Breaks text between words.
fn sentence(text: &str) -> String {
    let words: Vec<String> = safe(text).split(' ').map(str::to_owned).collect();
    wrapped(&words, " ")
}

/// Joins items into lines of at most 80 columns that begin at the indent; an item is never split.
fn wrapped(items: &[String], separator: &str) -> String {
    let mut text = String::new();
    let mut column = INDENT;
    for (index, item) in items.iter().enumerate() {
        let width = item.chars().count();
        if index > 0 {
            let mark = separator.trim_end();
            // Room for the mark that ends a line, in case another item follows.
            if column + separator.chars().count() + width + mark.chars().count() > COLUMNS {
                text.push_str(mark);
                text.push('\n');
                text.push_str(&" ".repeat(INDENT));
                column = INDENT;
            } else {
                text.push_str(separator);
                column += separator.chars().count();
            }
        }
        text.push_str(item);
        column += width;
    }
    text
}

#[cfg(test)]
mod tests;
