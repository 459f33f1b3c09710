//! The tree of a session as lines of a terminal.

use jiff::tz::TimeZone;
use stockade_event::tree::{Grown, Node, Sort};

use super::{Paint, painted};
use crate::human::{cut, number, time_of_day};

/// Columns of a line where there is no terminal to fit.
const COLUMNS: usize = 120;
/// Columns of the text of a line at least: where there is no room for them a line is longer.
const TEXT_COLUMNS_MIN: usize = 24;
/// Levels that are indented; deeper ones stand below the last of them.
const INDENTED_MAX: usize = 16;
/// Columns of the time before each line.
const TIME_COLUMNS: usize = 9;

/// Renders the tree; `width` is that of the terminal, where there is one.
pub(super) fn render(
    grown: &Grown,
    zone: &TimeZone,
    paint: Paint,
    width: Option<usize>,
) -> Vec<String> {
    let nodes: Vec<&Node> = shown(&grown.nodes);
    let is_last = last_ones(&nodes);
    let mut lines = Vec::new();
    // Whether something follows at each level of the line before.
    let mut open: Vec<bool> = Vec::new();
    for (node, is_last) in nodes.iter().zip(is_last) {
        let depth = node.depth.min(INDENTED_MAX);
        open.truncate(depth.saturating_sub(1));
        let mut guides: String = open
            .iter()
            .map(|open| if *open { "│ " } else { "  " })
            .collect();
        if depth > 0 {
            guides.push_str(if is_last { "└ " } else { "├ " });
            open.push(!is_last);
        }
        let used = TIME_COLUMNS + 2 * depth;
        let room = width.unwrap_or(COLUMNS).saturating_sub(used);
        let (mark, style) = mark(node.sort, paint);
        let facts = node.facts();
        let taken = mark.chars().count() + facts.chars().count();
        let text = cut(&node.text, room.saturating_sub(taken).max(TEXT_COLUMNS_MIN));
        let time = painted(&time_of_day(node.time_unix_ns, zone), paint.quiet);
        let text = painted(&format!("{mark}{text}{facts}"), style);
        lines.push(format!("{time} {}{text}", painted(&guides, paint.quiet)));
        let explains = matches!(node.sort, Sort::Refused | Sort::Note) || node.failed > 0;
        if let Some(detail) = node.detail.as_ref().filter(|_| explains) {
            let below: String = open
                .iter()
                .map(|open| if *open { "│ " } else { "  " })
                .collect();
            let detail = cut(detail, room.saturating_sub(2).max(TEXT_COLUMNS_MIN));
            lines.push(format!(
                "{:TIME_COLUMNS$}{}  {detail}",
                "",
                painted(&below, paint.quiet)
            ));
        }
    }
    if grown.more > 0 {
        lines.push(format!(
            "… and {} more; `stockade events` has all",
            number(grown.more)
        ));
    }
    lines
}

/// Omits what is below the agent's own commands, which are one line.
fn shown(nodes: &[Node]) -> Vec<&Node> {
    let mut hidden_below = None;
    let mut kept = Vec::with_capacity(nodes.len());
    for node in nodes {
        if hidden_below.is_some_and(|depth| node.depth > depth) {
            continue;
        }
        hidden_below = (node.sort == Sort::Own).then_some(node.depth);
        kept.push(node);
    }
    kept
}

/// Says of each node whether it is the last one below its parent.
fn last_ones(nodes: &[&Node]) -> Vec<bool> {
    let mut is_last = vec![false; nodes.len()];
    let mut seen: Vec<bool> = Vec::new();
    for (node, is_last) in nodes.iter().zip(&mut is_last).rev() {
        let depth = node.depth.min(INDENTED_MAX);
        seen.resize(depth + 1, false);
        if let Some(seen) = seen.get_mut(depth) {
            *is_last = !std::mem::replace(seen, true);
        }
    }
    is_last
}

const fn mark(sort: Sort, paint: Paint) -> (&'static str, anstyle::Style) {
    let plain = anstyle::Style::new();
    match sort {
        Sort::Session => ("", paint.strong),
        Sort::Prompt => ("▸ prompt  ", paint.strong),
        Sort::Tool => ("▸ tool  ", plain),
        Sort::Process => ("$ ", plain),
        Sort::Own => ("▸ ", paint.quiet),
        Sort::Changed => ("✎ ", plain),
        Sort::Connected => ("→ ", plain),
        Sort::Called => ("◇ ", paint.quiet),
        Sort::Plan => ("☰ ", plain),
        Sort::Refused => ("✖ ", paint.refused),
        Sort::Asked => ("? ", paint.asked),
        Sort::Note => ("! ", plain),
        Sort::Ended => ("■ ", plain),
    }
}
