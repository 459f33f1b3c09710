//! `/run/stockade/why`: prints the last refusal of this session, from inside.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
};

use stockade_types::DecisionRecord;

use crate::human::safe;

/// Where the session's denials are, inside.
const DENIALS: &str = "/run/stockade/denials.jsonl";

/// Prints the last denial in words; exit code 1 when there is none.
pub(crate) fn main() -> u8 {
    let mut out = std::io::stdout().lock();
    let Ok(file) = File::open(DENIALS) else {
        drop(writeln!(
            out,
            "{DENIALS} cannot be read; this is not inside a Stockade session"
        ));
        return 3;
    };
    let last = BufReader::new(file).lines().map_while(Result::ok).last();
    let Some(line) = last else {
        drop(writeln!(out, "nothing was refused in this session"));
        return 1;
    };
    let text = match serde_json::from_str::<DecisionRecord>(&line) {
        Ok(decision) => render(&decision),
        Err(_) => safe(&line),
    };
    drop(writeln!(out, "{text}"));
    0
}

fn render(decision: &DecisionRecord) -> String {
    let mut lines = vec![
        format!("{} was refused ({})", decision.effect(), decision.decision),
        match &decision.rule {
            Some(rule) => format!("rule    {rule}"),
            None => "rule    none allows it".to_owned(),
        },
        format!("reason  {}", decision.reason),
    ];
    if let Some(condition) = &decision.failed_condition {
        lines.push(format!("failed  {condition}"));
    }
    if let Some(nearest) = &decision.nearest_allow {
        lines.push(format!("allowed {nearest}"));
    }
    lines.push(format!("remedy  {}", decision.remedy));
    let lines: Vec<String> = lines.iter().map(|line| safe(line)).collect();
    lines.join("\n")
}
