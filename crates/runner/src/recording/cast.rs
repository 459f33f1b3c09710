//! The lines of asciicast version 2: a header, then one event a line.

use std::time::Duration;

use serde_json::{Value, json};

use super::RecordedTerminal;

/// Bytes of a variable in the header; a longer one is left out.
const VARIABLE_BYTES_MAX: usize = 256;

/// Returns the first line; `unix_s` is when the recording begins.
pub(super) fn header(terminal: &RecordedTerminal, unix_s: u64) -> String {
    let (rows, columns) = terminal.size;
    let mut env = serde_json::Map::new();
    for (name, value) in [("TERM", &terminal.term), ("SHELL", &terminal.shell)] {
        if !value.is_empty() && value.len() <= VARIABLE_BYTES_MAX {
            env.insert(name.to_owned(), Value::from(value.as_str()));
        }
    }
    let header = json!({
        "version": 2,
        "width": columns,
        "height": rows,
        "timestamp": unix_s,
        "env": env,
    });
    format!("{header}\n")
}

/// Returns the line for output.
pub(super) fn output(at: Duration, bytes: &[u8]) -> String {
    event(at, "o", &String::from_utf8_lossy(bytes))
}

/// Returns the line for another size of the terminal.
pub(super) fn resized(at: Duration, rows: u16, columns: u16) -> String {
    event(at, "r", &format!("{columns}x{rows}"))
}

/// Returns the line for a place that players can stop at.
pub(super) fn marker(at: Duration, label: &str) -> String {
    event(at, "m", label)
}

fn event(at: Duration, code: &str, data: &str) -> String {
    let data = Value::from(data);
    let (seconds, micros) = (at.as_secs(), at.subsec_micros());
    format!("[{seconds}.{micros:06}, \"{code}\", {data}]\n")
}
