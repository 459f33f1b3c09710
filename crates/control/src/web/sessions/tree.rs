//! Which part of a session a page shows: the tree below one node, as deep as it has room for.

use serde::Serialize;
use stockade_event::tree::{Node, Sort};
use stockade_types::Verdict;

/// Rows of one page.
pub(super) const ROWS: usize = 120;
/// Ancestors that are named above what is shown.
const ANCESTORS_MAX: usize = 12;
/// Columns of the strip of a whole session.
const STRIP: usize = 60;

/// What of a session was asked for.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Wish {
    /// Only nodes of this sort.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sort: Option<Sort>,
    /// Only what was judged so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<Verdict>,
    /// Only what has this text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) text: String,
}

impl Wish {
    pub(super) const fn is_empty(&self) -> bool {
        self.sort.is_none() && self.verdict.is_none() && self.text.is_empty()
    }

    fn is_met(&self, row: &Row) -> bool {
        let has = |text: &String| text.to_lowercase().contains(&self.text);
        self.sort.is_none_or(|sort| sort == row.sort)
            && self
                .verdict
                .is_none_or(|verdict| Some(verdict) == row.verdict)
            && (self.text.is_empty() || has(&row.text) || row.about.as_ref().is_some_and(has))
    }
}

/// A node as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// Levels below what is shown first.
    pub(super) depth: usize,
    pub(super) sort: Sort,
    /// The number of its first event.
    pub(super) seq: u64,
    pub(super) at_ns: u64,
    pub(super) text: String,
    /// Whether the text stands for what a person or a model said, which is not shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) withheld: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) about: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<Verdict>,
    /// Count, traffic and how it is known, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) facts: String,
    /// Nodes below it that are not shown.
    pub(super) below: usize,
}

impl Row {
    fn of(node: &Node, may_read: bool) -> Self {
        let instead = node.instead.as_ref().filter(|_| !may_read);
        let shows = |text: &Option<String>| text.clone().filter(|_| instead.is_none());
        Self {
            depth: node.depth,
            sort: node.sort,
            seq: node.seq,
            at_ns: node.time_unix_ns,
            text: instead.cloned().unwrap_or_else(|| node.text.clone()),
            withheld: instead.is_some(),
            detail: shows(&node.detail),
            about: shows(&node.about),
            verdict: node.verdict,
            facts: node.facts(),
            below: 0,
        }
    }
}

/// The part that is shown.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Part {
    /// Where it is: from the session down to the node below which everything is.
    pub(super) path: Vec<Row>,
    pub(super) rows: Vec<Row>,
    /// Where the page before begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<usize>,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<usize>,
    /// Nodes of the whole session that meet what was asked for.
    pub(super) found: usize,
    /// The event that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<u64>,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Below the node of this event.
    pub(super) at: Option<u64>,
    /// Behind so many nodes of the first level.
    pub(super) from: Option<usize>,
    /// Whether a page without a place begins so that the end is on it.
    pub(super) is_live: bool,
}

/// Chooses what is shown of the nodes of a session, which stand before what is below them.
pub(super) fn part(nodes: &[Node], wish: &Wish, place: Place, may_read: bool) -> Part {
    let all: Vec<Row> = nodes.iter().map(|node| Row::of(node, may_read)).collect();
    let (all, found) = wanted(all, wish);
    let (root, at) = place.at.map_or((0, None), |seq| root_of(&all, seq));
    let Some(top) = all.get(root) else {
        return Part::default();
    };
    let level = top.depth;
    let behind = all.get(root + 1..).unwrap_or_default();
    let end = behind.iter().position(|row| row.depth <= level);
    let below = behind
        .get(..end.unwrap_or(behind.len()))
        .unwrap_or_default();
    let depth = depth_for(below, level);
    let (rows, previous, next) = cut(below, level, depth, place);
    Part {
        path: ancestors(&all, root),
        rows,
        previous,
        next,
        found,
        at,
    }
}

/// Keeps what was asked for with everything above it; without a wish, all.
fn wanted(mut all: Vec<Row>, wish: &Wish) -> (Vec<Row>, usize) {
    if wish.is_empty() {
        let count = all.len();
        return (all, count);
    }
    let mut kept = vec![false; all.len()];
    let mut found = 0;
    // Of the nodes behind this one that are kept, the level whose ancestor comes next.
    let mut needed: Option<usize> = None;
    for (row, kept) in all.iter().zip(&mut kept).rev() {
        let is_met = wish.is_met(row);
        found += usize::from(is_met);
        let is_above = needed.is_some_and(|needed| row.depth < needed);
        *kept = is_met || is_above || row.depth == 0;
        if is_above {
            needed = Some(row.depth);
        } else if is_met {
            needed = Some(needed.map_or(row.depth, |needed| needed.max(row.depth)));
        }
    }
    let mut kept = kept.into_iter();
    all.retain(|_| kept.next().unwrap_or(false));
    (all, found)
}

/// Finds the node of an event, and the one below which it is shown.
fn root_of(all: &[Row], seq: u64) -> (usize, Option<u64>) {
    let known = all.iter().enumerate().filter(|(_, row)| row.seq <= seq);
    let Some((index, row)) = known.max_by_key(|(index, row)| (row.seq, *index)) else {
        return (0, None);
    };
    let has_below = all
        .get(index + 1)
        .is_some_and(|next| next.depth > row.depth);
    if has_below {
        return (index, None);
    }
    let before = all.get(..index).unwrap_or_default();
    let parent = before.iter().rposition(|one| one.depth < row.depth);
    (parent.unwrap_or(0), Some(row.seq))
}

fn ancestors(all: &[Row], root: usize) -> Vec<Row> {
    let mut path = Vec::new();
    let mut depth = usize::MAX;
    for row in all.get(..=root).unwrap_or_default().iter().rev() {
        if row.depth < depth && path.len() < ANCESTORS_MAX {
            depth = row.depth;
            path.push(row.clone());
        }
    }
    path.reverse();
    path
}

/// Says how many levels there is room for; one at least.
fn depth_for(below: &[Row], level: usize) -> usize {
    let mut counts: Vec<usize> = Vec::new();
    for row in visible(below) {
        let depth = row.depth.saturating_sub(level + 1);
        if counts.len() <= depth {
            counts.resize(depth + 1, 0);
        }
        if let Some(count) = counts.get_mut(depth) {
            *count += 1;
        }
    }
    let mut sum = 0;
    let fits = counts.iter().take_while(|count| {
        sum += **count;
        sum <= ROWS
    });
    fits.count().max(1)
}

/// Leaves out what is below the agent's own commands, which are one line until they are opened.
fn visible(below: &[Row]) -> impl Iterator<Item = &Row> {
    let mut hidden: Option<usize> = None;
    below.iter().filter(move |row| {
        if hidden.is_some_and(|depth| row.depth > depth) {
            return false;
        }
        hidden = (row.sort == Sort::Own).then_some(row.depth);
        true
    })
}

type Cut = (Vec<Row>, Option<usize>, Option<usize>);

/// Takes the rows of a page, and counts below each what has no room.
fn cut(below: &[Row], level: usize, depth: usize, place: Place) -> Cut {
    let firsts = below.iter().filter(|row| row.depth == level + 1).count();
    let has_pages = depth == 1 && firsts > ROWS;
    let last = firsts.saturating_sub(ROWS);
    let default = if place.is_live && place.at.is_none() {
        last
    } else {
        0
    };
    let from = if has_pages {
        place.from.unwrap_or(default).min(firsts)
    } else {
        0
    };
    let mut rows: Vec<Row> = Vec::new();
    let (mut first, mut hidden): (usize, Option<usize>) = (0, None);
    for row in below {
        if row.depth == level + 1 {
            first += 1;
        }
        if first <= from {
            continue;
        }
        if has_pages && first > from + ROWS {
            break;
        }
        let is_hidden = hidden.is_some_and(|depth| row.depth > depth);
        if is_hidden || row.depth > level + depth {
            if let Some(shown) = rows.last_mut() {
                shown.below += 1;
            }
            continue;
        }
        hidden = (row.sort == Sort::Own).then_some(row.depth);
        rows.push(Row {
            depth: row.depth - level,
            ..row.clone()
        });
    }
    let previous = (from > 0).then(|| from.saturating_sub(ROWS));
    let next = (has_pages && from + ROWS < firsts).then_some(from + ROWS);
    (rows, previous, next)
}

/// What happened in one part of the time of a session.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Strip {
    pub(super) count: u64,
    pub(super) denied: u64,
    pub(super) asked: u64,
}

/// Counts nodes over the time of a session.
pub(super) fn strip(nodes: &[Node]) -> Vec<Strip> {
    let times = || nodes.iter().map(|node| node.time_unix_ns);
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        return Vec::new();
    };
    let width = (last - first) / u64::try_from(STRIP).unwrap_or(1) + 1;
    let mut strip = vec![Strip::default(); STRIP];
    for node in nodes {
        let place = usize::try_from((node.time_unix_ns - first) / width).unwrap_or(usize::MAX);
        let Some(one) = strip.get_mut(place) else {
            continue;
        };
        one.count += node.count;
        one.denied += if node.sort == Sort::Refused {
            node.count
        } else {
            0
        };
        one.asked += u64::from(node.sort == Sort::Asked);
    }
    strip
}

#[cfg(test)]
mod tests;
