//! The part of a file that a question about its new content shows: the lines that differ.

/// Lines around each difference that are shown too.
const AROUND: usize = 2;
/// Lines of the differing parts, multiplied, that are compared one by one; more are shown whole.
const COMPARED_MAX: usize = 1 << 20;

/// One line of the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'t> {
    Same(&'t [u8]),
    Old(&'t [u8]),
    New(&'t [u8]),
}

impl Line<'_> {
    /// Returns the line with the sign of its side.
    pub(super) fn text(self) -> Vec<u8> {
        let (sign, line) = match self {
            Self::Same(line) => (b"  ", line),
            Self::Old(line) => (b"- ", line),
            Self::New(line) => (b"+ ", line),
        };
        [sign, line].concat()
    }
}

/// Returns the lines that differ, each with a few around it; `None` between omitted lines.
pub(super) fn lines<'t>(old: &'t [u8], new: &'t [u8]) -> Vec<Option<Line<'t>>> {
    let all = all(&split(old), &split(new));
    let changed: Vec<usize> = (0..all.len())
        .filter(|at| !matches!(all.get(*at), Some(Line::Same(_))))
        .collect();
    let near = |at: usize| {
        let next = changed.partition_point(|other| *other + AROUND < at);
        changed.get(next).is_some_and(|other| *other <= at + AROUND)
    };
    let mut shown = Vec::new();
    for (at, line) in all.iter().enumerate() {
        if near(at) {
            shown.push(Some(*line));
        } else if shown.last().is_some_and(Option::is_some) {
            shown.push(None);
        }
    }
    if shown.last() == Some(&None) {
        shown.pop();
    }
    shown
}

/// Lines without their ends. A missing last line end is not a line, so text says it.
fn split(text: &[u8]) -> Vec<&[u8]> {
    if text.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    if lines.pop_if(|last| last.is_empty()).is_none() {
        lines.push(b"(no line end)");
    }
    lines
}

fn all<'t>(old: &[&'t [u8]], new: &[&'t [u8]]) -> Vec<Line<'t>> {
    let front = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (tail(old, front), tail(new, front));
    let pairs = old_rest.iter().rev().zip(new_rest.iter().rev());
    let back = pairs.take_while(|(a, b)| a == b).count();
    let middle = |all: &[&'t [u8]]| -> Vec<&'t [u8]> {
        let end = all.len().saturating_sub(back);
        all.get(..end).unwrap_or_default().to_vec()
    };
    let same = |lines: &[&'t [u8]]| -> Vec<Line<'t>> {
        lines.iter().map(|line| Line::Same(line)).collect()
    };
    let mut lines = same(old.get(..front).unwrap_or_default());
    lines.extend(differing(&middle(old_rest), &middle(new_rest)));
    let end = old_rest.len().saturating_sub(back);
    lines.extend(same(tail(old_rest, end)));
    lines
}

fn tail<'s, 't>(lines: &'s [&'t [u8]], from: usize) -> &'s [&'t [u8]] {
    lines.get(from..).unwrap_or_default()
}

/// Compares by the longest common subsequence.
fn differing<'t>(old: &[&'t [u8]], new: &[&'t [u8]]) -> Vec<Line<'t>> {
    let width = new.len() + 1;
    if old.len().saturating_mul(new.len()) > COMPARED_MAX {
        let gone = old.iter().map(|line| Line::Old(line));
        return gone.chain(new.iter().map(|line| Line::New(line))).collect();
    }
    // The number of common lines in the rests behind two places.
    let mut common = vec![0_u32; (old.len() + 1) * width];
    let at = |common: &[u32], i: usize, j: usize| common.get(i * width + j).copied().unwrap_or(0);
    for (i, one) in old.iter().enumerate().rev() {
        for (j, other) in new.iter().enumerate().rev() {
            let best = if one == other {
                at(&common, i + 1, j + 1) + 1
            } else {
                at(&common, i + 1, j).max(at(&common, i, j + 1))
            };
            if let Some(place) = common.get_mut(i * width + j) {
                *place = best;
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    loop {
        match (old.get(i), new.get(j)) {
            (Some(one), Some(other)) if one == other => {
                lines.push(Line::Same(one));
                (i, j) = (i + 1, j + 1);
            }
            (Some(one), other)
                if other.is_none() || at(&common, i + 1, j) >= at(&common, i, j + 1) =>
            {
                lines.push(Line::Old(one));
                i += 1;
            }
            (_, Some(other)) => {
                lines.push(Line::New(other));
                j += 1;
            }
            (_, None) => return lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::lines;

    fn shown(old: &str, new: &str) -> String {
        let lines = lines(old.as_bytes(), new.as_bytes());
        let text = |line: Option<super::Line<'_>>| {
            line.map_or("…".to_owned(), |line| {
                String::from_utf8(line.text()).unwrap()
            })
        };
        lines.into_iter().map(text).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn only_what_differs_is_shown_with_a_little_around_it() {
        for (old, new, expected) in [
            ("", "a\nb\n", "+ a|+ b"),
            ("a\n", "", "- a"),
            ("a\n", "a\n", ""),
            ("a\nb\nc\n", "a\nx\nc\n", "  a|- b|+ x|  c"),
            ("a", "a\n", "  a|- (no line end)"),
            (
                "1\n2\n3\n4\n5\n6\n7\n8\n9\n",
                "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n",
                "+ 0|  1|  2|…|  8|  9|+ 10",
            ),
            ("a\nb\nc\nd\n", "b\nc\ne\nd\n", "- a|  b|  c|+ e|  d"),
        ] {
            assert_eq!(shown(old, new), expected, "{old:?} {new:?}");
        }
    }
}
