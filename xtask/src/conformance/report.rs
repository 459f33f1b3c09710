//! The table: for people, for programs, and as the document.

use std::fmt::Display;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{
    contender::Field,
    row::{Group, Row},
    trial::Cell,
};

/// One row with its results.
pub(super) struct Line {
    row: Row,
    pub(super) cells: Vec<(&'static str, Cell)>,
    pub(super) versions: Vec<String>,
    missing: Vec<String>,
}

/// All rows.
pub(super) struct Report {
    contenders: Vec<&'static str>,
    absent: Vec<String>,
    versions: Vec<String>,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    group: &'static str,
    name: &'static str,
    what: &'static str,
    results: Vec<JsonCell<'a>>,
    not_run: &'a [String],
}

#[derive(Serialize)]
struct JsonCell<'a> {
    contender: &'static str,
    result: &'a Cell,
}

impl Line {
    pub(super) const fn new(row: &Row) -> Self {
        Self {
            row: *row,
            cells: Vec::new(),
            versions: Vec::new(),
            missing: Vec::new(),
        }
    }

    pub(super) fn not_run(row: &Row, missing: Vec<String>) -> Self {
        Self {
            missing,
            ..Self::new(row)
        }
    }

    /// The row in one line, with the reason below it if ours failed.
    pub(super) fn text(&self) -> String {
        if !self.missing.is_empty() {
            return format!("{}: not run: {}", self.row.name, self.missing.join("; "));
        }
        let cells: Vec<String> = self
            .cells
            .iter()
            .map(|(name, cell)| format!("{name} {}", word(cell)))
            .collect();
        let mut text = format!("{}: {}", self.row.name, cells.join(", "));
        for (name, cell) in &self.cells {
            if !is_ours(name) {
                continue;
            }
            match cell {
                Cell::Breaks(reason) => {
                    for line in reason.lines() {
                        put(&mut text, format_args!("\n    | {line}"));
                    }
                }
                Cell::Asks(asked) => {
                    for question in asked {
                        put(&mut text, format_args!("\n    ? {question}"));
                    }
                }
                Cell::Works | Cell::Closed => {}
            }
        }
        text
    }

    /// Describes its problem in one line.
    fn problem(&self) -> Option<String> {
        let name = self.row.name;
        if !self.missing.is_empty() {
            return None;
        }
        let ours = self.cells.iter().find(|(name, _)| *name == "stockade");
        match (self.cells.first(), ours) {
            (Some((_, Cell::Works)), Some((_, cell))) => match cell {
                Cell::Breaks(_) => Some(format!("{name} breaks")),
                Cell::Asks(asked) if self.row.asked_because.is_empty() => {
                    Some(format!("{name} asks {} without a reason", asked.len()))
                }
                Cell::Asks(_) | Cell::Works | Cell::Closed => None,
            },
            _ => Some(format!("{name} does not work bare, so it says nothing")),
        }
    }
}

impl Report {
    pub(super) fn new(field: &Field) -> Self {
        Self {
            contenders: field
                .present
                .iter()
                .map(super::contender::Contender::name)
                .collect(),
            absent: field.absent.clone(),
            versions: field.versions.clone(),
            lines: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// Rows of ours that break or ask without a reason, and rows without a result.
    pub(super) fn problems(&self) -> Vec<String> {
        self.lines.iter().filter_map(Line::problem).collect()
    }

    pub(super) fn text(&self) -> String {
        let mut text = self.counts();
        for problem in self.problems() {
            put(&mut text, format_args!("\nproblem: {problem}"));
        }
        for line in self.lines.iter().filter(|line| !line.missing.is_empty()) {
            put(&mut text, format_args!("\n{}", line.text()));
        }
        for absent in &self.absent {
            put(&mut text, format_args!("\nnot beside: {absent}"));
        }
        text
    }

    pub(super) fn json(&self) -> Result<String> {
        let lines: Vec<JsonLine<'_>> = self
            .lines
            .iter()
            .map(|line| JsonLine {
                group: line.row.group.name(),
                name: line.row.name,
                what: line.row.what,
                results: line
                    .cells
                    .iter()
                    .map(|(contender, result)| JsonCell { contender, result })
                    .collect(),
                not_run: &line.missing,
            })
            .collect();
        serde_json::to_string(&lines).context("the result cannot be written as JSON")
    }

    /// Returns how many rows work for each contender.
    fn counts(&self) -> String {
        let run = self.lines.iter().filter(|line| line.missing.is_empty());
        let total = run.clone().count();
        let counts: Vec<String> = self
            .contenders
            .iter()
            .map(|contender| {
                let works = run
                    .clone()
                    .filter(|line| {
                        line.cells.iter().any(|(name, cell)| {
                            name == contender && matches!(cell, Cell::Works | Cell::Asks(_))
                        })
                    })
                    .count();
                format!("{contender} {works}")
            })
            .collect();
        format!("of {total} rows work: {}", counts.join(", "))
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = String::from(
            "# Ordinary work inside\n\n\
             Generated by `cargo xtask conformance`: real programs, each with a home and a workspace of its\n\
             own, as an ordinary user. Stockade runs without configuration, and the answer to each question is\n\
             \"allow for the session\". Codex's sandbox is `workspace-write` with the network open;\n\
             sandbox-runtime may write the project and `/tmp` and reach the registries of npm and pip.\n\
             `xtask/src/conformance/rows` has the commands of each row.\n\n",
        );
        put(&mut text, format_args!("{}.\n\n", capital(&self.counts())));
        for group in Group::ALL {
            self.section(&mut text, *group);
        }
        self.asked(&mut text);
        self.closed(&mut text);
        self.not_run(&mut text);
        let mut versions: Vec<&str> = self
            .lines
            .iter()
            .flat_map(|line| line.versions.iter())
            .chain(&self.versions)
            .map(String::as_str)
            .collect();
        versions.sort_unstable();
        versions.dedup();
        text.push_str("## Versions\n\n");
        for version in versions {
            put(&mut text, format_args!("- {version}\n"));
        }
        text
    }

    fn section(&self, text: &mut String, group: Group) {
        let lines = self
            .lines
            .iter()
            .filter(|line| line.row.group == group && line.missing.is_empty());
        if lines.clone().next().is_none() {
            return;
        }
        put(text, format_args!("## {}\n\n", group.title()));
        put(
            text,
            format_args!("| row | what is done | {} |\n", self.contenders.join(" | ")),
        );
        put(
            text,
            format_args!("|---|---|{}\n", "---|".repeat(self.contenders.len())),
        );
        for line in lines {
            let cells: Vec<String> = self
                .contenders
                .iter()
                .map(|contender| {
                    let cell = line.cells.iter().find(|(name, _)| name == contender);
                    cell.map_or_else(|| "–".to_owned(), |(_, cell)| word(cell))
                })
                .collect();
            put(
                text,
                format_args!(
                    "| `{}` | {} | {} |\n",
                    line.row.name,
                    line.row.what,
                    cells.join(" | ")
                ),
            );
        }
        text.push('\n');
    }

    fn asked(&self, text: &mut String) {
        let asks = |line: &&Line| {
            line.cells
                .iter()
                .any(|(name, cell)| is_ours(name) && matches!(cell, Cell::Asks(_)))
        };
        let lines: Vec<&Line> = self.lines.iter().filter(asks).collect();
        if lines.is_empty() {
            return;
        }
        text.push_str("## What is asked, and why\n\n| row | why |\n|---|---|\n");
        for line in lines {
            let why = if line.row.asked_because.is_empty() {
                "no reason: this is a fault"
            } else {
                line.row.asked_because
            };
            put(text, format_args!("| `{}` | {why} |\n", line.row.name));
        }
        text.push('\n');
    }

    fn closed(&self, text: &mut String) {
        let closed = |line: &&Line| {
            line.cells
                .iter()
                .any(|(_, cell)| matches!(cell, Cell::Closed))
        };
        let lines: Vec<&Line> = self.lines.iter().filter(closed).collect();
        if lines.is_empty() {
            return;
        }
        text.push_str(
            "## What is closed, and what is said\n\n| row | why | what is said |\n|---|---|---|\n",
        );
        for line in lines {
            put(
                text,
                format_args!(
                    "| `{}` | {} | {} |\n",
                    line.row.name, line.row.closed_because, line.row.refusal
                ),
            );
        }
        text.push('\n');
    }

    fn not_run(&self, text: &mut String) {
        let lines: Vec<&Line> = self
            .lines
            .iter()
            .filter(|line| !line.missing.is_empty())
            .collect();
        if lines.is_empty() && self.absent.is_empty() {
            return;
        }
        text.push_str("## Not run\n\n");
        for line in lines {
            put(
                text,
                format_args!("- `{}`: {}\n", line.row.name, line.missing.join("; ")),
            );
        }
        for absent in &self.absent {
            put(text, format_args!("- {absent}\n"));
        }
        text.push('\n');
    }
}

/// Adds to a text.
fn put(text: &mut String, what: impl Display) {
    text.push_str(&what.to_string());
}

fn is_ours(contender: &str) -> bool {
    contender == "stockade" || contender == "bare"
}

fn word(cell: &Cell) -> String {
    match cell {
        Cell::Works => "works".to_owned(),
        Cell::Asks(asked) => format!("asks {}", asked.len()),
        Cell::Closed => "closed".to_owned(),
        Cell::Breaks(_) => "breaks".to_owned(),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
