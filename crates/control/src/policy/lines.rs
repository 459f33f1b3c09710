//! Which lines of a text are other ones in the next.

use serde::Serialize;

/// Cells of the table by which lines are matched; longer texts are shown as replaced between the lines that
/// begin and end both.
const CELLS_MAX: usize = 4_000_000;
/// Equal lines that are shown around a change.
const AROUND: usize = 2;

/// One line of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "is", content = "line", rename_all = "lowercase")]
pub enum Line<'t> {
    /// In both texts, near a change.
    Same(&'t str),
    /// Only in the old one.
    Removed(&'t str),
    /// Only in the new one.
    Added(&'t str),
    /// So many equal lines are left out.
    Skipped(usize),
}

/// Returns the difference of two texts, with a few equal lines around each change.
pub fn difference<'t>(old: &'t str, new: &'t str) -> Vec<Line<'t>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let before = common(old.iter(), new.iter());
    let (rest_old, rest_new) = (
        old.get(before..).unwrap_or_default(),
        new.get(before..).unwrap_or_default(),
    );
    let after = common(rest_old.iter().rev(), rest_new.iter().rev());
    let middle_old = rest_old.get(..rest_old.len() - after).unwrap_or_default();
    let middle_new = rest_new.get(..rest_new.len() - after).unwrap_or_default();
    let mut all: Vec<Line<'t>> = old
        .iter()
        .take(before)
        .map(|line| Line::Same(line))
        .collect();
    matched(middle_old, middle_new, &mut all);
    let last = old.iter().skip(old.len() - after);
    all.extend(last.map(|line| Line::Same(line)));
    shortened(&all)
}

fn common<'a>(
    one: impl Iterator<Item = &'a &'a str>,
    other: impl Iterator<Item = &'a &'a str>,
) -> usize {
    one.zip(other)
        .take_while(|(one, other)| one == other)
        .count()
}

/// Adds the lines of both middles, matched by their longest common subsequence.
fn matched<'t>(old: &[&'t str], new: &[&'t str], all: &mut Vec<Line<'t>>) {
    let width = new.len() + 1;
    if (old.len() + 1).saturating_mul(width) > CELLS_MAX {
        all.extend(old.iter().map(|line| Line::Removed(line)));
        all.extend(new.iter().map(|line| Line::Added(line)));
        return;
    }
    // How many lines are common from each place on.
    let mut table = vec![0_u32; (old.len() + 1) * width];
    let at = |table: &[u32], i: usize, j: usize| table.get(i * width + j).copied().unwrap_or(0);
    for (i, line) in old.iter().enumerate().rev() {
        for (j, other) in new.iter().enumerate().rev() {
            let count = if line == other {
                at(&table, i + 1, j + 1) + 1
            } else {
                at(&table, i + 1, j).max(at(&table, i, j + 1))
            };
            if let Some(cell) = table.get_mut(i * width + j) {
                *cell = count;
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    loop {
        match (old.get(i), new.get(j)) {
            (Some(line), Some(other)) if line == other => {
                all.push(Line::Same(line));
                (i, j) = (i + 1, j + 1);
            }
            (Some(line), Some(_)) if at(&table, i + 1, j) >= at(&table, i, j + 1) => {
                all.push(Line::Removed(line));
                i += 1;
            }
            (_, Some(other)) => {
                all.push(Line::Added(other));
                j += 1;
            }
            (Some(line), None) => {
                all.push(Line::Removed(line));
                i += 1;
            }
            (None, None) => return,
        }
    }
}

/// Leaves out equal lines that are not near a change.
fn shortened<'t>(all: &[Line<'t>]) -> Vec<Line<'t>> {
    let is_change = |line: &Line<'_>| !matches!(line, Line::Same(_));
    let near = |index: usize| {
        let from = index.saturating_sub(AROUND);
        let around = all.get(from..(index + AROUND + 1).min(all.len()));
        around.unwrap_or_default().iter().any(is_change)
    };
    let mut short = Vec::new();
    for (index, line) in all.iter().enumerate() {
        if near(index) {
            short.push(*line);
        } else if let Some(Line::Skipped(count)) = short.last_mut() {
            *count += 1;
        } else {
            short.push(Line::Skipped(1));
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::{Line, difference};

    #[test]
    fn both_texts_come_back_from_their_difference() {
        let texts = [
            "",
            "a\n",
            "a\nb\nc\n",
            "b\na\nc\nd\n",
            "x\na\nb\ny\nc\n",
            "a\na\na\nb\n",
        ];
        for old in texts {
            for new in texts {
                let lines = difference(old, new);
                if lines.iter().any(|line| matches!(line, Line::Skipped(_))) {
                    continue;
                }
                let side = |is_new: bool| {
                    let mut text = String::new();
                    for line in &lines {
                        match line {
                            Line::Removed(line) if !is_new => text.extend([line, "\n"]),
                            Line::Added(line) if is_new => text.extend([line, "\n"]),
                            Line::Same(line) => text.extend([line, "\n"]),
                            Line::Removed(_) | Line::Added(_) | Line::Skipped(_) => {}
                        }
                    }
                    text
                };
                assert_eq!((side(false).as_str(), side(true).as_str()), (old, new));
            }
        }
        assert_eq!(
            difference("1\n2\n3\n4\n5\n6\n", "1\n2\n3\n4\n5\n7\n"),
            [
                Line::Skipped(3),
                Line::Same("4"),
                Line::Same("5"),
                Line::Removed("6"),
                Line::Added("7")
            ]
        );
    }

    #[test]
    fn texts_without_bound_take_bounded_work() {
        let text = |letter: &str| {
            let lines: Vec<String> = (0..20_000).map(|n| format!("{letter}{n}\n")).collect();
            lines.concat()
        };
        let old = text("a");
        let new = text("b");
        assert_eq!(difference(&old, &new).len(), 40_000);
    }
}
