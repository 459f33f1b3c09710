//! What is said at the end of a run.

use serde_json::{Value, json};
use stockade_event::{
    Summary,
    summary::{Refusal, Traffic},
};
use stockade_journal::{Verification, VerificationVerdict};
use stockade_policy::WorkspaceSettings;
use stockade_types::{RawText, RuleId, SessionId};

use crate::human::{bytes, cut, number, outcome, plural, safe, span};

/// Columns of the text.
const COLUMNS: usize = 80;
/// Column at which the second part of a line begins.
const INDENT: usize = 13;
/// How many items of a list are named; the rest is a number and a command that shows them.
const ITEMS_MAX: usize = 6;
/// Characters of one item.
const ITEM_CHARS_MAX: usize = 60;
/// By whom a question is refused that is not put to anybody: too many of them, or denied so often
/// that it is not asked again.
const NOT_ASKED: [&str; 2] = ["desk: ", "denied-before: "];

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
}

/// Renders the end of a run: lines of at most 80 columns, readable without colour. The session is
/// given, since a record that was emptied does not name it.
pub(crate) fn render(summary: &Summary, session: &SessionId, extra: Extra<'_>) -> String {
    let id = session.short();
    let mut lines = vec![headline(summary, id, extra)];
    let mut line = |label: &str, rest: &str| {
        lines.push(format!("  {label:<width$}{rest}", width = INDENT - 2));
    };
    line("ran", &ran(summary));
    if let Some(rest) = changed(summary, extra, id) {
        line("changed", &rest);
    }
    if let Some(rest) = runs_later(summary, extra) {
        line("later", &rest);
    }
    let made = connected(summary);
    if !made.is_empty() {
        line("connected", &made);
    }
    let not_made = unreached(summary);
    if !not_made.is_empty() {
        line("unreached", &not_made);
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
        line("limit", &safe(limit));
    }
    for finding in &summary.findings {
        line("finding", &safe(finding));
    }
    if summary.unconfirmed > 0 {
        let programs = plural(summary.unconfirmed, "program", "programs");
        line("unseen", &format!("{programs} ended before a second look"));
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
    lines.join("\n")
}

/// Returns the same as one JSON value.
pub(crate) fn to_json(summary: &Summary, extra: Extra<'_>) -> Value {
    json!({
        "session": summary.session,
        "summary": summary,
        "denials": summary.denials(),
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
                outcome(how, &command)
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

fn ran(summary: &Summary) -> String {
    let processes = plural(summary.processes, "process", "processes");
    let commands = plural(summary.commands, "command", "commands");
    let mut text = if summary.commands > 0 {
        format!("{processes} in {commands}")
    } else {
        processes
    };
    if summary.asked > 0 {
        let mut answers = vec![
            format!("{} allowed", summary.asks_allowed),
            format!("{} denied", summary.asks_denied),
        ];
        let open = summary
            .asked
            .saturating_sub(summary.asks_allowed + summary.asks_denied);
        if open > 0 {
            answers.push(format!("{open} open"));
        }
        text = format!("{text:<36}asked {} ({})", summary.asked, answers.join(", "));
    }
    text
}

fn changed(summary: &Summary, extra: Extra<'_>, id: &str) -> Option<String> {
    let named = u64::try_from(summary.changed_files.len()).unwrap_or(u64::MAX);
    let total = named.saturating_add(summary.changed_files_more);
    if total == 0 {
        return None;
    }
    let lines = extra
        .lines_changed
        .map_or_else(String::new, |(added, removed)| {
            format!(": +{added} −{removed}")
        });
    let mut items = vec![format!("{}{lines}", plural(total, "file", "files"))];
    items.extend(
        summary
            .changed_files
            .keys()
            .take(ITEMS_MAX)
            .map(|path| cut(&in_workspace(path, &summary.workspace), ITEM_CHARS_MAX)),
    );
    if total > u64::try_from(ITEMS_MAX).unwrap_or(u64::MAX) {
        items.push("…".to_owned());
    }
    items.push(format!("(`stockade show {id}`)"));
    Some(wrapped(&items, "  "))
}

/// Returns the changed files that make something run outside later, as people know them.
fn files_that_run_later(summary: &Summary, extra: Extra<'_>) -> Vec<String> {
    let Some(names) = extra.names else {
        return Vec::new();
    };
    let changed = summary.changed_files.keys();
    let below = changed.filter_map(|path| {
        let rest = path.as_bytes().strip_prefix(summary.workspace.as_bytes())?;
        rest.strip_prefix(b"/")
    });
    let mut files: Vec<&[u8]> = below.filter(|below| names.runs_later(below)).collect();
    // A directory says nothing that a file in it does not.
    let all = files.clone();
    files.retain(|path| {
        let is_above = |other: &&[u8]| {
            let rest = other.strip_prefix(*path);
            rest.is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        !all.iter().any(is_above)
    });
    files
        .into_iter()
        .map(|below| RawText::from_bytes(below).display())
        .collect()
}

fn runs_later(summary: &Summary, extra: Extra<'_>) -> Option<String> {
    let files = files_that_run_later(summary, extra);
    if files.is_empty() {
        return None;
    }
    let mut items = vec!["runs outside later:".to_owned()];
    let named = files.iter().take(ITEMS_MAX);
    items.extend(named.map(|file| cut(file, ITEM_CHARS_MAX)));
    if files.len() > ITEMS_MAX {
        items.push(format!("… {} more", files.len() - ITEMS_MAX));
    }
    Some(wrapped(&items, "  "))
}

/// Shortens a path in the workspace to what people type there.
pub(crate) fn in_workspace(path: &RawText, workspace: &RawText) -> String {
    let inside = path
        .as_bytes()
        .strip_prefix(workspace.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"/"))
        .filter(|rest| !rest.is_empty() && !workspace.as_bytes().is_empty());
    inside.map_or_else(
        || path.display(),
        |rest| RawText::from_bytes(rest).display(),
    )
}

fn connected(summary: &Summary) -> String {
    let mut hosts: Vec<(&str, Traffic)> = summary
        .connections
        .iter()
        .filter(|(_, traffic)| traffic.connections > 0)
        .map(|(name, traffic)| (name.strip_suffix(":443").unwrap_or(name), *traffic))
        .collect();
    hosts.sort_by_key(|(_, traffic)| std::cmp::Reverse((traffic.bytes_out, traffic.connections)));
    let mut items: Vec<String> = hosts
        .iter()
        .take(ITEMS_MAX)
        .map(|(name, traffic)| {
            let name = cut(&safe(name), ITEM_CHARS_MAX);
            format!(
                "{name} {}× {} out",
                number(traffic.connections),
                bytes(traffic.bytes_out)
            )
        })
        .collect();
    if hosts.len() > ITEMS_MAX {
        items.push(format!("… {} more", hosts.len() - ITEMS_MAX));
    }
    wrapped(&items, " · ")
}

/// Says which ports of the session were there on the machine's loopback.
fn published(summary: &Summary) -> String {
    let all = summary.published.iter();
    let items: Vec<String> = all
        .map(|(outside, inside)| {
            let inside = match inside {
                inside if inside == outside => String::new(),
                inside => format!(" (port {inside} inside)"),
            };
            format!("127.0.0.1:{outside}{inside}")
        })
        .collect();
    wrapped(&items, " · ")
}

/// Says which hosts were allowed and not reached, and what became of the try.
fn unreached(summary: &Summary) -> String {
    let mut items: Vec<String> = summary
        .connections
        .iter()
        .filter(|(_, traffic)| traffic.failed > 0)
        .take(ITEMS_MAX)
        .map(|(name, traffic)| {
            let times = match traffic.failed {
                1 => String::new(),
                more => format!(" {}×", number(more)),
            };
            let outcome = summary.unreached.get(name);
            let outcome = outcome.map_or_else(String::new, |why| {
                format!(" ({})", cut(&safe(why), ITEM_CHARS_MAX))
            });
            format!("{}{times}{outcome}", cut(&safe(name), ITEM_CHARS_MAX))
        })
        .collect();
    let all = summary.connections.values();
    let more = all.filter(|traffic| traffic.failed > 0).count();
    if more > items.len() {
        items.push(format!("… {} more", more - items.len()));
    }
    wrapped(&items, " · ")
}

/// Returns what was refused and the one step that would change each, as lines.
fn refused(summary: &Summary, id: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, refusal) in summary.refused.iter().take(ITEMS_MAX).enumerate() {
        let times = if refusal.count > 1 {
            format!(" {}×", number(refusal.count))
        } else {
            String::new()
        };
        let inside = refusal
            .target
            .strip_prefix(&format!("{}/", summary.workspace));
        let target = cut(inside.unwrap_or(&refusal.target), ITEM_CHARS_MAX);
        let head: Vec<String> = vec![format!("{target}{times}"), format!("({})", why(refusal))];
        lines.push(wrapped(&head, " "));
        let next = summary.refused.get(index + 1);
        let is_said_below =
            index + 1 < ITEMS_MAX && next.is_some_and(|next| next.remedy == refusal.remedy);
        if !refusal.remedy.is_empty() && !is_said_below {
            let words: Vec<String> = format!("→ {}", safe(&refusal.remedy))
                .split(' ')
                .map(str::to_owned)
                .collect();
            lines.push(wrapped(&words, " "));
        }
    }
    if summary.refused.len() > ITEMS_MAX || summary.refused_more > 0 {
        lines.push(format!("… `stockade show {id}`"));
    }
    lines
}

/// Returns what rules refused that are to be counted alone, in one line.
fn quiet(summary: &Summary) -> String {
    let first = summary.quiet.first();
    let target = first.map_or("", |refusal| refusal.target.as_str());
    let rule = first.and_then(|refusal| refusal.rule.as_ref());
    let rule = rule.map_or("", RuleId::as_str);
    let more = if summary.quiet.len() > 1 { ", …" } else { "" };
    let count = number(summary.quiet_denials());
    let target = cut(&safe(target), ITEM_CHARS_MAX / 2);
    format!("{count} refused as wished: {target}{more} (deny {rule})")
}

/// Returns who refused, in a few words.
pub(crate) fn why(refusal: &Refusal) -> String {
    let rule = refusal.rule.as_ref().map(RuleId::as_str);
    match (&refusal.answered, rule) {
        (Some(answer), _) if answer.starts_with("no-one-to-ask") => {
            "asked, and there was nobody to answer".to_owned()
        }
        // What the desk itself refuses was never shown to anybody.
        (Some(answer), _) if NOT_ASKED.iter().any(|by| answer.starts_with(by)) => {
            let (_, reason) = answer.split_once(": ").unwrap_or(("", answer.as_str()));
            format!("not asked: {}", cut(&safe(reason), ITEM_CHARS_MAX))
        }
        (Some(answer), _) => format!("asked, denied by {}", cut(&safe(answer), ITEM_CHARS_MAX)),
        (None, Some(rule)) => format!("deny {rule}"),
        (None, None) => "no rule allows it".to_owned(),
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
mod tests {
    use stockade_event::{
        SessionOutcome, Summary,
        summary::{Refusal, Traffic},
    };
    use stockade_types::{DecisionId, RequestKind, SessionId};

    use super::{Extra, render, to_json};

    fn refusal(target: &str, rule: Option<&str>, answered: Option<&str>, count: u64) -> Refusal {
        Refusal {
            kind: RequestKind::Net,
            target: target.to_owned(),
            rule: rule.map(|rule| rule.parse().unwrap()),
            reason: "because".to_owned(),
            remedy: match rule {
                Some(_) => String::new(),
                None => "no rule can allow it".to_owned(),
            },
            answered: answered.map(str::to_owned),
            count,
            decision: DecisionId::new(1),
        }
    }

    fn session() -> SessionId {
        SessionId::from_random(0x3f2a_0000_0000_0001)
    }

    fn sample() -> Summary {
        let mut summary = Summary {
            session: Some(session()),
            command: vec!["/usr/bin/codex".into(), "exec".into()],
            workspace: "/home/u/shop".into(),
            outcome: Some(SessionOutcome::Exited { code: 0 }),
            duration_ms: Some(14 * 60_000),
            events: 4318,
            processes: 412,
            commands: 31,
            asked: 2,
            asks_allowed: 1,
            asks_denied: 1,
            ..Summary::default()
        };
        for path in ["src/cart.rs", "src/lib.rs"] {
            summary
                .changed_files
                .insert(format!("/home/u/shop/{path}").as_str().into(), 2);
        }
        let traffic = |connections, bytes_out| Traffic {
            failed: 0,
            connections,
            bytes_out,
            bytes_in: 0,
        };
        summary
            .connections
            .insert("registry.test:443".to_owned(), traffic(4, 11_000));
        summary
            .connections
            .insert("model.test:443".to_owned(), traffic(96, 1_200_000));
        summary.refused = vec![
            refusal("paste.test", Some("paste-sites"), None, 1),
            refusal(
                "git push --force",
                Some("push"),
                Some("terminal: open a PR instead"),
                1,
            ),
            refusal("169.254.169.254", None, None, 2),
        ];
        summary
    }

    #[test]
    fn the_end_of_a_run_reads_at_a_glance() {
        let text = render(
            &sample(),
            &session(),
            Extra {
                lines_changed: Some((212, 40)),
                ..Extra::default()
            },
        );
        let expected = "\
stockade: session 3f2a ended, codex exited 0 after 14 min
  ran        412 processes in 31 commands        asked 2 (1 allowed, 1 denied)
  changed    2 files: +212 −40  src/cart.rs  src/lib.rs  (`stockade show 3f2a`)
  connected  model.test 96× 1.2 MB out · registry.test 4× 11 kB out
  refused    4: paste.test (deny paste-sites)
             git push --force (asked, denied by terminal: open a PR instead)
             169.254.169.254 2× (no rule allows it)
             → no rule can allow it
  record     4,318 events, not verified yet · stockade log verify 3f2a
";
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.chars().count() <= 80));
        let json = to_json(&sample(), Extra::default());
        assert_eq!(json["summary"]["processes"], 412);
        assert_eq!(json["denials"], 4);
    }

    #[test]
    fn a_quiet_run_takes_three_lines() {
        let summary = Summary {
            session: Some(session()),
            command: vec!["true".into()],
            outcome: Some(SessionOutcome::Killed {
                reason: "wall time".to_owned(),
            }),
            duration_ms: Some(900),
            processes: 1,
            events: 5,
            ..Summary::default()
        };
        let text = render(&summary, &session(), Extra::default());
        assert_eq!(
            text,
            "stockade: session 3f2a ended, killed by stockade: wall time after 900 ms\n  \
             ran        1 process\n  \
             record     5 events, not verified yet · stockade log verify 3f2a\n"
        );
    }

    #[test]
    fn a_session_without_an_end_is_running_or_was_cut_off() {
        let headline = |summary: &Summary, running| {
            let extra = Extra {
                running,
                ..Extra::default()
            };
            let text = render(summary, &session(), extra);
            text.lines().next().unwrap_or_default().to_owned()
        };
        let open = Summary {
            outcome: None,
            ..sample()
        };
        assert_eq!(
            headline(&open, true),
            "stockade: session 3f2a has not ended, codex may be running"
        );
        let cut_off = "stockade: session 3f2a is unfinished, its record has no end";
        assert_eq!(headline(&open, false), cut_off);
        // A record that was emptied does not even name its session.
        assert_eq!(headline(&Summary::default(), false), cut_off);
    }

    #[test]
    fn what_nobody_was_asked_about_is_not_called_an_answer() {
        let mut summary = sample();
        summary.refused = vec![
            refusal(
                "a",
                Some("e1"),
                Some("desk: too many questions are open"),
                1,
            ),
            refusal("b", Some("e1"), Some("denied-before: denied 3 times"), 1),
            refusal("c", Some("e1"), Some("inbox uid 1000"), 1),
        ];
        let text = render(&summary, &session(), Extra::default());
        for line in [
            "a (not asked: too many questions are open)",
            "b (not asked: denied 3 times)",
            "c (asked, denied by inbox uid 1000)",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn hostile_names_stay_inert() {
        let mut summary = sample();
        summary.command = vec!["/bin/\u{1b}[2J".into()];
        summary
            .changed_files
            .insert("/home/u/shop/\u{202e}x\n".into(), 1);
        summary
            .connections
            .insert("a\u{1b}]0;x\u{7}".to_owned(), Traffic::default());
        summary.limits.push("memory\r\n\u{9b}2J".to_owned());
        let text = render(&summary, &session(), Extra::default());
        let visible = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
        assert!(text.chars().all(visible), "{text:?}");
    }
}
