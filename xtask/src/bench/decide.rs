//! How long policy takes to decide, asked of the program itself.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

/// Sizes of policy: a person's, a company's, and one that grew for years.
pub(super) const RULES: &[u32] = &[10, 1_000, 10_000];

/// What `stockade __bench decide N` prints: one JSON object.
#[derive(Debug, Deserialize, PartialEq)]
pub(super) struct Decisions {
    /// Median time of one decision.
    p50_ns: f64,
}

/// Returns the median time of a decision in microseconds.
pub(super) fn microseconds(program: &Path, rules: u32) -> Result<f64> {
    let text =
        process::stdout(Command::new(program).args(["__bench", "decide", &rules.to_string()]))?;
    parse(&text)
}

fn parse(text: &str) -> Result<f64> {
    let decisions: Decisions = serde_json::from_str(text)
        .context("`__bench decide` must print a JSON object with `p50_ns`")?;
    Ok(decisions.p50_ns / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_read_and_anything_else_refused() {
        assert!((parse(r#"{"rules": 10, "p50_ns": 1500}"#).unwrap() - 1.5).abs() < 1e-9);
        for bad in ["", "1500", r#"{"p50": 1}"#] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
