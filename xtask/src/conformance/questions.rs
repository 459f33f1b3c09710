//! The person who answers: a second terminal that allows everything for the session, and counts.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

use super::{contender::Contender, ground::Ground};
use crate::process;

/// The questions of one session.
#[derive(Default)]
pub(super) struct Questions {
    /// The text of each question, by its id.
    seen: BTreeMap<String, String>,
}

impl Questions {
    /// Answers the open questions.
    pub(super) fn answer(&mut self, contender: &Contender, ground: &Ground) {
        let Contender::Stockade { program } = contender else {
            return;
        };
        let ask = |arguments: &[&str]| {
            let mut command = Command::new(program);
            command.arg("approvals").args(arguments);
            ground.prepare(&mut command);
            process::stdout(&mut command).ok()
        };
        let Some(list) = ask(&["list", "--json"]) else {
            return;
        };
        for line in list.lines() {
            let Ok(value) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let entries = value.as_array().cloned().unwrap_or_else(|| vec![value]);
            for entry in entries {
                let Some(id) = entry.get("id").and_then(Value::as_str) else {
                    continue;
                };
                self.seen.insert(id.to_owned(), words(&entry));
                drop(ask(&["allow", id, "--scope", "session"]));
            }
        }
    }

    /// Returns the texts of the questions, in no particular order.
    pub(super) fn texts(&self) -> Vec<String> {
        self.seen.values().cloned().collect()
    }
}

/// Returns the subject of a question in one line.
fn words(entry: &Value) -> String {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let whole = entry.to_string();
    let [rule, title] = [text("rule"), text("title")];
    if title.is_empty() {
        return whole;
    }
    format!("{rule}: {title}")
}
