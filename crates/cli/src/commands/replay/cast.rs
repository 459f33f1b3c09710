//! Reads a recording of asciicast version 2, whoever wrote it.

use std::{
    io::{BufRead, Read as _},
    time::Duration,
};

use serde::Deserialize;

/// Bytes of one line: far more than one of ours has.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Seconds of a recording: a year.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// What a recording begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Header {
    version: u8,
    /// Columns.
    pub(super) width: u16,
    /// Rows.
    pub(super) height: u16,
}

/// One event of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Output(String),
    /// The size of the terminal that was recorded changes.
    Resized,
    /// A place to stop at.
    Marked(String),
    /// Something that players pass over.
    Other,
}

/// Why a recording cannot be read further.
#[derive(Debug, thiserror::Error)]
pub(super) enum CastError {
    /// The file cannot be read.
    #[error("cannot read the recording")]
    Io(#[from] std::io::Error),
    /// It is not asciicast 2.
    #[error("line {line} of the recording is not asciicast 2: {what}")]
    Line {
        /// From 1.
        line: u64,
        /// What was expected.
        what: &'static str,
    },
}

/// The events of a recording, one by one.
pub(super) struct Cast<R> {
    from: R,
    line: u64,
}

impl<R: BufRead> Cast<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// When it is not that of a recording.
    pub(super) fn open(from: R) -> Result<(Self, Header), CastError> {
        let mut cast = Self { from, line: 0 };
        let what = "expected a header with version 2, width and height";
        let header = cast.text()?.and_then(|text| {
            let header = serde_json::from_str::<Header>(&text).ok()?;
            (header.version == 2).then_some(header)
        });
        header
            .map(|header| (cast, header))
            .ok_or(CastError::Line { line: 1, what })
    }

    /// Reads the next event and when it happened, from the beginning on.
    ///
    /// # Errors
    /// When the line is not an event.
    pub(super) fn next(&mut self) -> Result<Option<(Duration, Change)>, CastError> {
        let Some(text) = self.text()? else {
            return Ok(None);
        };
        let what = "expected [seconds, code, text]";
        let wrong = || CastError::Line {
            line: self.line,
            what,
        };
        let (at, code, data): (f64, String, String) =
            serde_json::from_str(&text).map_err(|_| wrong())?;
        if !(0.0..=SECONDS_MAX).contains(&at) {
            return Err(wrong());
        }
        let change = match code.as_str() {
            "o" => Change::Output(data),
            "r" => Change::Resized,
            "m" => Change::Marked(data),
            _ => Change::Other,
        };
        Ok(Some((Duration::from_secs_f64(at), change)))
    }

    /// Reads a line; the last one may be unfinished while a session runs, and is then no line yet.
    fn text(&mut self) -> Result<Option<String>, CastError> {
        self.line += 1;
        let mut bytes = Vec::new();
        let from = &mut self.from;
        from.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
        let is_whole = bytes.pop() == Some(b'\n');
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if !is_whole && length + 1 < LINE_BYTES_MAX {
            return Ok(None);
        }
        let text = String::from_utf8(bytes).ok().filter(|_| is_whole);
        text.map(Some).ok_or(CastError::Line {
            line: self.line,
            what: "expected text of at most a mebibyte",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Cast, Change};

    const HEADER: &str = "{\"version\": 2, \"width\": 80, \"height\": 24}\n";

    fn read(text: &str) -> Result<Vec<(Duration, Change)>, String> {
        let (mut cast, header) = Cast::open(text.as_bytes()).map_err(|e| e.to_string())?;
        assert_eq!((header.width, header.height), (80, 24));
        let mut all = Vec::new();
        while let Some(next) = cast.next().map_err(|e| e.to_string())? {
            all.push(next);
        }
        Ok(all)
    }

    #[test]
    fn each_kind_of_event_is_read_and_unknown_ones_are_passed_over() {
        let text = format!(
            "{HEADER}[0.5, \"o\", \"a\\u001b[1m\"]\n[1, \"r\", \"10x5\"]\n[2, \"m\", \"x\"]\n\
             [2.5, \"i\", \"secret\"]\n[3, \"o\", \"unfinish"
        );
        let all = read(&text).unwrap();
        let changes: Vec<&Change> = all.iter().map(|(_, change)| change).collect();
        let output = Change::Output("a\u{1b}[1m".to_owned());
        let marked = Change::Marked("x".to_owned());
        assert_eq!(
            changes,
            [&output, &Change::Resized, &marked, &Change::Other]
        );
        assert_eq!(all[0].0, Duration::from_millis(500));
    }

    #[test]
    fn what_is_no_recording_is_refused_with_its_line() {
        for (text, line) in [
            (String::new(), 1),
            (
                "{\"version\": 1, \"width\": 80, \"height\": 24}\n".to_owned(),
                1,
            ),
            (
                "{\"version\": 2, \"width\": -1, \"height\": 24}\n".to_owned(),
                1,
            ),
            (format!("{HEADER}[-1, \"o\", \"\"]\n"), 2),
            (format!("{HEADER}[1e300, \"o\", \"\"]\n"), 2),
            (format!("{HEADER}[0, \"o\"]\n"), 2),
            (format!("{HEADER}[0, \"o\", \"\"]\n{{}}\n"), 3),
            (format!("{HEADER}{}\n", "[".repeat(2 << 20)), 2),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(&format!("line {line} ")), "{error}");
        }
    }
}
