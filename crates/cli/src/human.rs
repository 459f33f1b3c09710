//! Numbers, times and foreign text in the form for people.

use jiff::{Timestamp, tz::TimeZone};

pub(crate) use stockade_event::text::{bytes, cut, number, plural, safe, span, words};

/// Escapes as [`safe`] does, but keeps the line breaks.
pub(crate) fn safe_lines(text: &str) -> String {
    text.split('\n').map(safe).collect::<Vec<_>>().join("\n")
}

/// Cuts `text` to its last `columns` characters, and marks the cut.
pub(crate) fn cut_front(text: &str, columns: usize) -> String {
    let count = text.chars().count();
    if count <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(count + 1 - columns.max(1)).collect();
    format!("…{kept}")
}

/// Breaks text between words so that no line exceeds `columns`, if there is such a limit; the text
/// begins at column `indent`, and so do its other lines.
pub(crate) fn wrapped(text: &str, indent: usize, columns: Option<usize>) -> String {
    let Some(columns) = columns else {
        return text.to_owned();
    };
    let mut broken = String::new();
    let mut column = indent;
    for (index, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > columns {
            broken.push('\n');
            broken.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if index > 0 {
            broken.push(' ');
            column += 1;
        }
        broken.push_str(word);
        column += width;
    }
    broken
}

/// Writes a moment as date, hour and minute in `zone`.
pub(crate) fn minute(time_unix_ns: u64, zone: &TimeZone) -> String {
    formatted(time_unix_ns, zone, "%Y-%m-%d %H:%M")
}

/// Writes a moment as day, hour and minute in `zone`.
pub(crate) fn day_and_minute(time_unix_ns: u64, zone: &TimeZone) -> String {
    formatted(time_unix_ns, zone, "%m-%d %H:%M")
}

/// Writes a moment as time of day in `zone`.
pub(crate) fn time_of_day(time_unix_ns: u64, zone: &TimeZone) -> String {
    formatted(time_unix_ns, zone, "%H:%M:%S")
}

fn formatted(time_unix_ns: u64, zone: &TimeZone, format: &str) -> String {
    Timestamp::from_nanosecond(i128::from(time_unix_ns)).map_or_else(
        |_| "?".to_owned(),
        |time| time.to_zoned(zone.clone()).strftime(format).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::{bytes, cut, number, plural, safe, safe_lines, span, wrapped};

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(number(4318), "4,318");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_000_000), "1,000,000");
        assert_eq!(plural(1, "file", "files"), "1 file");
        assert_eq!(plural(0, "file", "files"), "0 files");
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(11_000), "11 kB");
        assert_eq!(bytes(1_234_567), "1.2 MB");
        assert_eq!(bytes(u64::MAX), "18446744 TB");
    }

    #[test]
    fn spans_read_as_people_say_them() {
        assert_eq!(span(850), "850 ms");
        assert_eq!(span(12_430), "12.4 s");
        assert_eq!(span(14 * 60_000), "14 min");
        assert_eq!(span(125 * 60_000), "2 h 5 min");
        assert_eq!(span(76 * 3_600_000), "3 d 4 h");
    }

    #[test]
    fn long_text_is_broken_between_words() {
        let text = "one two three four five";
        assert_eq!(
            wrapped(text, 4, Some(12)),
            "one two\n    three\n    four\n    five"
        );
        assert_eq!(wrapped(text, 4, Some(80)), text);
        assert_eq!(wrapped(text, 4, None), text);
        assert_eq!(wrapped("longerthanall x", 2, Some(8)), "longerthanall\n  x");
    }

    #[test]
    fn foreign_text_is_harmless_and_short() {
        assert_eq!(safe("a\u{1b}[2J\n"), "a\\u{1b}[2J\\u{a}");
        assert_eq!(safe_lines("a\u{9b}2J\n\u{202e}b"), "a\\u{9b}2J\n\\u{202e}b");
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
    }
}
