//! Mistakes in a policy and entries without effect, with the place and the fix.

use std::fmt;

use serde::{Deserialize, Serialize};
use stockade_types::RawText;

/// One mistake in one file.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as it was named at load.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Path of the field, for example `allow[0].hosts[1]`.
    pub field: String,
    /// What is wrong and how to correct it.
    pub message: String,
}

/// Displays one line, in which no text of the file can control the terminal or be hidden.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let safe = |text: &str| RawText::from(text).display();
        write!(f, "{}:{}:{}  ", safe(&self.file), self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", safe(&self.field))?;
        }
        f.write_str(&safe(&self.message))
    }
}

/// Everything that is wrong with all files; never empty.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} error{plural}, nothing loaded", self.0.len())
    }
}

impl std::error::Error for Problems {}

/// One entry of a policy that has no effect.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The place, as `file:line`.
    pub source: String,
    /// What has no effect, why, and what to write instead.
    pub message: String,
}

/// Displays one line, in which no text of the file can control the terminal or be hidden.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let safe = |text: &str| RawText::from(text).display();
        write!(
            f,
            "{}  warning: {}",
            safe(&self.source),
            safe(&self.message)
        )
    }
}
