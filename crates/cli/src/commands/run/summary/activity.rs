//! What a session did: processes, files, connections, ports.

use std::cmp::Reverse;

use stockade_event::{
    Summary,
    summary::{ModelCalls, Traffic},
};
use stockade_types::RawText;

use super::{Extra, ITEM_CHARS_MAX, ITEMS_MAX, wrapped};
use crate::human::{bytes, cut, number, plural, safe, span};
use stockade_event::text::in_workspace;

pub(super) fn ran(summary: &Summary) -> String {
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

/// Says what the session used, as far as it is known.
pub(super) fn used(summary: &Summary) -> Option<String> {
    let usage = summary.usage.as_ref()?;
    let cpu = usage.cpu_us();
    let cpu = cpu.map(|us| format!("{} of processor time", span(us / 1000)));
    let memory = usage.memory_peak_bytes;
    let memory = memory.map(|peak| format!("{} of memory at most", bytes(peak)));
    let parts: Vec<String> = cpu.into_iter().chain(memory).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

pub(super) fn changed(summary: &Summary, extra: Extra<'_>, id: &str) -> Option<String> {
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
pub(super) fn files_that_run_later(summary: &Summary, extra: Extra<'_>) -> Vec<String> {
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

pub(super) fn runs_later(summary: &Summary, extra: Extra<'_>) -> Option<String> {
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

pub(super) fn connected(summary: &Summary) -> String {
    let mut hosts: Vec<(&str, Traffic)> = summary
        .connections
        .iter()
        .filter(|(_, traffic)| traffic.connections > 0)
        .map(|(name, traffic)| (name.strip_suffix(":443").unwrap_or(name), *traffic))
        .collect();
    hosts.sort_by_key(|(_, traffic)| Reverse((traffic.bytes_out, traffic.connections)));
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

/// Says how often the agent was told what to do, and which tools it was asked for.
pub(super) fn said(summary: &Summary) -> String {
    let claims = &summary.claims;
    let mut tools: Vec<(&String, &u64)> = claims.tools.iter().collect();
    tools.sort_by_key(|(_, count)| Reverse(**count));
    let named = tools.iter().take(ITEMS_MAX);
    let mut named: Vec<String> = named
        .map(|(name, count)| {
            let name = cut(&safe(name), ITEM_CHARS_MAX / 2);
            format!("{name} {}×", number(**count))
        })
        .collect();
    if tools.len() > ITEMS_MAX {
        named.push("…".to_owned());
    }
    let mut items = vec![plural(claims.prompts, "prompt", "prompts")];
    if claims.calls > 0 {
        items.push(format!(
            "{} ({})",
            plural(claims.calls, "tool call", "tool calls"),
            named.join(" ")
        ));
    }
    if claims.inferred > 0 {
        let commands = plural(claims.exact + claims.inferred, "command", "commands");
        items.push(format!(
            "{commands} for them, {} inferred",
            number(claims.inferred)
        ));
    }
    wrapped(&items, " · ")
}

/// Says which models were called, and how many tokens went in and came out, as their services say.
pub(super) fn models(summary: &Summary) -> String {
    let mut all: Vec<(&str, ModelCalls)> = summary
        .models
        .iter()
        .map(|(name, calls)| (name.as_str(), *calls))
        .collect();
    all.sort_by_key(|(_, calls)| Reverse(calls.calls));
    let mut items: Vec<String> = all
        .iter()
        .take(ITEMS_MAX)
        .map(|(name, calls)| called(&cut(&safe(name), ITEM_CHARS_MAX / 2), *calls))
        .collect();
    let others = u64::try_from(all.len().saturating_sub(items.len())).unwrap_or(u64::MAX);
    if others > 0 || summary.models_more.calls > 0 {
        items.push("… others".to_owned());
    }
    wrapped(&items, " · ")
}

fn called(name: &str, calls: ModelCalls) -> String {
    let cached = match calls.tokens_cached {
        0 => String::new(),
        cached => format!(" ({} cached)", number(cached)),
    };
    let failed = match calls.failed {
        0 => String::new(),
        failed => format!(", {} failed", number(failed)),
    };
    format!(
        "{name} {}× {} in{cached} {} out{failed}",
        number(calls.calls),
        number(calls.tokens_in),
        number(calls.tokens_out)
    )
}

/// Says which tools providers could run, and which ran, as they say.
pub(super) fn hosted_tools(summary: &Summary) -> String {
    let all = summary.hosted_tools.iter().take(ITEMS_MAX);
    let mut items: Vec<String> = all
        .map(|(name, tool)| {
            let name = cut(&safe(name), ITEM_CHARS_MAX / 2);
            let calls = plural(tool.declared, "call", "calls");
            match (tool.used, tool.declared) {
                (0, _) => format!("may run {name} (in {calls})"),
                (used, 0) => format!("ran {name} {}×", number(used)),
                (used, _) => format!("ran {name} {}× (possible in {calls})", number(used)),
            }
        })
        .collect();
    if summary.hosted_tools.len() > ITEMS_MAX {
        items.push(format!("… {} more", summary.hosted_tools.len() - ITEMS_MAX));
    }
    wrapped(&items, " · ")
}

/// Says which ports of the session were there on the machine's loopback.
pub(super) fn published(summary: &Summary) -> String {
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
pub(super) fn unreached(summary: &Summary) -> String {
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
