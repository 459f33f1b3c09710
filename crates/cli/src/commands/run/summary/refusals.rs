//! What was refused, by whom, and the one step that would change it.

use stockade_event::{Summary, summary::Refusal};
use stockade_types::RuleId;

use super::{ITEM_CHARS_MAX, ITEMS_MAX, wrapped};
use crate::human::{cut, number, safe};

/// By whom a question is refused that is not put to anybody: too many of them, or denied so often
/// that it is not asked again.
const NOT_ASKED: [&str; 2] = ["desk: ", "denied-before: "];

/// Returns what was refused and the one step that would change each, as lines.
pub(super) fn refused(summary: &Summary, id: &str) -> Vec<String> {
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
pub(super) fn quiet(summary: &Summary) -> String {
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
            "asked, but there was no one to answer".to_owned()
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
