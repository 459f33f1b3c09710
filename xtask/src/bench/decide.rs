//! How long policy takes to decide, asked of the program itself.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::bounded;

/// What `stockade __bench decide RULES CEDAR` prints: one JSON object.
#[derive(Debug, Deserialize, PartialEq)]
struct Decisions {
    /// Rules in Cedar; an older program does not know of them.
    #[serde(default)]
    cedar: u32,
    /// Median time of one decision.
    p50_ns: f64,
}

/// Returns the median time of a decision in microseconds, with rules and rules in Cedar.
pub(super) fn microseconds(program: &Path, rules: u32, cedar: u32) -> Result<f64> {
    let mut command = Command::new(program);
    command.args(["__bench", "decide", &rules.to_string()]);
    if cedar > 0 {
        command.arg(cedar.to_string());
    }
    let (text, _) = bounded::run(&mut command)?;
    parse(&text, cedar)
}

fn parse(text: &str, cedar: u32) -> Result<f64> {
    let decisions: Decisions = serde_json::from_str(text)
        .context("`__bench decide` must print a JSON object with `p50_ns`")?;
    ensure!(
        decisions.cedar == cedar,
        "it was about {} rules in Cedar, not {cedar}",
        decisions.cedar
    );
    Ok(decisions.p50_ns / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_read_and_anything_else_refused() {
        let text = r#"{"rules": 10, "cedar": 0, "p50_ns": 1500}"#;
        assert!((parse(text, 0).unwrap() - 1.5).abs() < 1e-9);
        for bad in ["", "1500", r#"{"p50": 1}"#] {
            assert!(parse(bad, 0).is_err(), "{bad}");
        }
        assert!(parse(text, 100).is_err());
    }
}
