//! One checked rule in Cedar.

use std::fmt;

use cedar_policy::Policy;
use serde_json::Value;
use stockade_types::{RawText, RequestKind};

use super::bounds::{self, Attribute};

/// A `forbid` that was validated.
#[derive(Clone, Debug)]
pub(crate) struct CedarBody {
    /// The text as written.
    pub(crate) text: String,
    pub(crate) policy: Policy,
    /// The same as Cedar's JSON.
    pub(crate) tree: Value,
    /// The kinds that its `action` names.
    pub(crate) kinds: Vec<RequestKind>,
}

impl CedarBody {
    pub(crate) fn is_about(&self, kind: RequestKind) -> bool {
        self.kinds.contains(&kind)
    }

    pub(crate) fn looks_at(&self, attribute: Attribute) -> bool {
        bounds::mentions(&self.tree, attribute)
    }

    /// Returns whether the rule treats some connections differently depending on the program.
    pub(crate) fn names_programs_of_connections(&self) -> bool {
        let connects = self.is_about(RequestKind::Net) || self.is_about(RequestKind::Http);
        connects && self.looks_at(Attribute::Program)
    }

    /// Returns whether the rule could treat connections of this program differently. That is only
    /// possible through a text or a pattern with which it compares the program's path.
    pub(crate) fn could_name(&self, program: &RawText) -> bool {
        let path = String::from_utf8_lossy(program.as_bytes());
        bounds::texts(&self.tree)
            .iter()
            .any(|text| bounds::is_like(text, &path))
    }

    /// Returns the program names with which it could compare; the caller looks for copies of these
    /// programs.
    pub(crate) fn command_names(&self) -> Vec<String> {
        if !self.is_about(RequestKind::Exec) {
            return Vec::new();
        }
        let is_name = |text: &String| !text.is_empty() && !text.contains(['/', '*', ' ']);
        bounds::literals(&self.tree)
            .into_iter()
            .filter(is_name)
            .collect()
    }
}

impl fmt::Display for CedarBody {
    /// Writes the text in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.text.split_whitespace().collect();
        write!(f, "cedar {}", words.join(" "))
    }
}
