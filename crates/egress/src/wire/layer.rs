//! A layer of policy in parts that fit into frames.

use serde::{Deserialize, Serialize};

use crate::limits::LAYER_PART_BYTES;

/// A part of a layer of policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerPart {
    /// The layer of the organisation that it stands for, by its name.
    pub before: Option<String>,
    /// Its own name.
    pub name: String,
    /// The next part of its text.
    pub text: String,
    /// No more follows.
    pub is_last: bool,
}

impl LayerPart {
    /// Cuts a layer into parts that fit into frames.
    pub fn all(before: Option<&str>, name: &str, text: &str) -> Vec<Self> {
        let part = |text: &str, is_last| Self {
            before: before.map(str::to_owned),
            name: name.to_owned(),
            text: text.to_owned(),
            is_last,
        };
        let (mut parts, mut rest) = (Vec::new(), text);
        loop {
            let end = rest.floor_char_boundary(LAYER_PART_BYTES);
            let (first, more) = rest.split_at(end);
            parts.push(part(first, more.is_empty()));
            if more.is_empty() {
                return parts;
            }
            rest = more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LAYER_PART_BYTES, LayerPart};

    #[test]
    fn the_parts_of_a_layer_are_the_layer_and_short() {
        for text in [
            String::new(),
            "a".repeat(LAYER_PART_BYTES),
            "\u{1f600}a".repeat(LAYER_PART_BYTES / 2),
        ] {
            let parts = LayerPart::all(Some("before"), "name", &text);
            let whole: String = parts.iter().map(|part| part.text.as_str()).collect();
            assert!(whole == text);
            assert!(parts.iter().all(|part| part.text.len() <= LAYER_PART_BYTES));
            let ends = parts.iter().filter(|part| part.is_last).count();
            assert!(ends == 1 && parts.last().is_some_and(|part| part.is_last));
        }
    }
}
