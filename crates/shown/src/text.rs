//! The text of a question: structured, complete, and harmless on a terminal.

use std::fmt;

use serde::{Deserialize, Serialize};
use stockade_types::Digest;

/// One labelled line; the text may be long and is wrapped when it is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What the text is, in a word or two; empty if it continues the row before.
    pub label: String,
    /// The text, without control or invisible characters.
    pub text: String,
}

/// The exact text of a question.
///
/// All foreign text went through [`stockade_types::RawText::display`], so no terminal interprets
/// any of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// `codex wants to`.
    pub title: String,
    /// Effect, origin, reason and reach, in this order.
    pub rows: Vec<Row>,
    /// The full text of what is too long for most readers, such as all variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Row>,
    /// What could mislead a reader.
    pub warnings: Vec<String>,
}

/// Stands first in what is hashed.
const DIGEST_TAG: &str = "stockade shown 1";

impl Shown {
    /// Returns the hash of all of it: what a vote says that its voter saw.
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        let mut add = |text: &str| {
            // No two lists of texts become the same bytes.
            bytes.extend_from_slice(text.len().to_string().as_bytes());
            bytes.push(b':');
            bytes.extend_from_slice(text.as_bytes());
        };
        add(DIGEST_TAG);
        add(&self.title);
        for rows in [&self.rows, &self.details] {
            add(&rows.len().to_string());
            for row in rows {
                add(&row.label);
                add(&row.text);
            }
        }
        for warning in &self.warnings {
            add(warning);
        }
        Digest::of(&bytes)
    }

    /// Returns the first row in one line, for lists.
    pub fn summary(&self) -> String {
        self.rows
            .first()
            .map(|row| format!("{} {}", row.label, row.text))
            .unwrap_or_default()
    }
}

/// Width of the label column, and of the gap after it.
const LABEL_COLUMNS: usize = 10;

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        for row in &self.rows {
            writeln!(f, "  {:<LABEL_COLUMNS$}{}", row.label, row.text)?;
        }
        for row in &self.details {
            writeln!(f, "  {:<LABEL_COLUMNS$}{}", row.label, row.text)?;
        }
        for warning in &self.warnings {
            writeln!(f, "  {:<LABEL_COLUMNS$}{warning}", "! careful")?;
        }
        Ok(())
    }
}
