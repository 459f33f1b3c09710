//! Text in columns: measured, wrapped and cut as a terminal draws it.

use unicode_width::UnicodeWidthChar as _;

/// Makes every character take one or two columns: combining marks, and other characters without
/// width, are written by number, so that nothing leaves its cell or the box.
pub fn solid(text: &str) -> String {
    let mut solid = String::with_capacity(text.len());
    for c in text.chars() {
        match c.width() {
            Some(1 | 2) => solid.push(c),
            _ => solid.extend(c.escape_unicode()),
        }
    }
    solid
}

/// Returns the columns of solid text.
pub fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Cuts solid text into lines of at most `width` columns, after a space if there is one in the
/// second half; no character is lost.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w > width {
            let at_space = line.rfind(' ').map(|at| at + 1);
            let kept =
                at_space.filter(|at| columns(line.get(..*at).unwrap_or_default()) * 2 > width);
            let rest = kept.map_or_else(String::new, |at| line.split_off(at));
            lines.push(std::mem::replace(&mut line, rest));
            used = columns(&line);
        }
        line.push(c);
        used += w;
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Cuts solid text to at most `width` columns; `…` marks a cut.
pub fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w + 1 > width {
            break;
        }
        short.push(c);
        used += w;
    }
    if width > 0 {
        short.push('…');
    }
    short
}

/// Cuts or fills solid text to exactly `width` columns.
pub fn fit(text: &str, width: usize) -> String {
    let mut line = cut(text, width);
    let missing = width.saturating_sub(columns(&line));
    line.push_str(&" ".repeat(missing));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_by_wrapping() {
        for text in [
            "",
            "a",
            "one two three",
            "漢字漢字漢字",
            "-----------------------",
            "a  b   c",
        ] {
            for width in 2..12 {
                let lines = wrap(text, width);
                assert_eq!(lines.concat(), text);
                assert!(
                    lines.iter().all(|l| columns(l) <= width),
                    "{lines:?} at {width}"
                );
            }
        }
        assert_eq!(wrap("cargo test --all", 12), ["cargo test ", "--all"]);
    }

    #[test]
    fn every_line_fits_exactly() {
        for text in ["", "abc", "漢字漢字", "a漢"] {
            for width in 0..6 {
                assert_eq!(columns(&fit(text, width)), width, "{text} at {width}");
            }
        }
    }

    #[test]
    fn marks_without_width_are_written_out() {
        assert_eq!(solid("e\u{301}x\u{20dd}"), "e\\u{301}x\\u{20dd}");
    }
}
