//! The result: rows of medians, the targets, and three ways to write them.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// Everything that one run measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    date: String,
    machine: String,
    as_user: String,
    runs: u16,
    versions: Vec<String>,
    pub(super) rows: Vec<Row>,
    pub(super) not_measured: Vec<String>,
}

/// One thing that was measured, for every contender that took part.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) unit: &'static str,
    pub(super) samples: Vec<Sample>,
}

/// What one contender took.
#[derive(Debug, Serialize)]
pub(super) struct Sample {
    pub(super) name: &'static str,
    median: f64,
    /// A quarter of the samples is below.
    low: f64,
    /// A quarter of the samples is above.
    high: f64,
    values: Vec<f64>,
}

/// A promise of the design and what became of it.
#[derive(Debug, PartialEq, Serialize)]
struct Target {
    what: String,
    needed: String,
    measured: Option<String>,
    reached: Option<bool>,
}

/// The order of columns.
const COLUMNS: &[&str] = &[
    "bare",
    "stockade",
    "bubblewrap",
    "codex sandbox",
    "sandbox-runtime",
];

impl Sample {
    pub(super) fn new(name: &'static str, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            values
                .get(values.len() * quarter / 4)
                .copied()
                .unwrap_or(f64::NAN)
        };
        Self {
            name,
            median: median(&values),
            low: at(1),
            high: at(3),
            values,
        }
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle).copied().unwrap_or(f64::NAN);
    if sorted.len().is_multiple_of(2) {
        let lower = middle
            .checked_sub(1)
            .and_then(|index| sorted.get(index))
            .copied()
            .unwrap_or(f64::NAN);
        f64::midpoint(lower, upper)
    } else {
        upper
    }
}

/// Names the row of decisions with so many rules.
pub(super) fn decision_row(rules: u32) -> String {
    format!("policy decision, {rules} rules")
}

impl Report {
    pub(super) fn new(versions: Vec<String>, as_test_user: bool, runs: u16) -> Result<Self> {
        let as_user = if as_test_user {
            "an ordinary user"
        } else {
            "the calling user"
        };
        Ok(Self {
            date: jiff::Zoned::now().strftime("%Y-%m-%d").to_string(),
            machine: machine()?,
            as_user: as_user.into(),
            runs,
            versions,
            rows: Vec::new(),
            not_measured: Vec::new(),
        })
    }

    fn median(&self, what: &str, name: &str) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.what == what)?;
        row.samples
            .iter()
            .find(|sample| sample.name == name)
            .map(|sample| sample.median)
    }

    /// The targets of now; later ones are 2 × and 0.25 × for the start, 1.03 × inside, 20 MB.
    fn targets(&self) -> Vec<Target> {
        let start = super::workload::START.name;
        let mut targets = vec![
            self.ratio(start, "bubblewrap", 3.0),
            self.ratio(start, "codex sandbox", 0.4),
        ];
        targets.extend(
            super::workload::INSIDE
                .iter()
                .map(|work| self.ratio(work.name, "bare", work.most)),
        );
        let memory = self.median("memory of all supervisors", "stockade");
        targets.push(Target::new(
            "memory of all supervisors".into(),
            "≤ 30 MB".into(),
            memory.map(|mb| (format!("{mb:.1} MB"), mb <= 30.0)),
        ));
        let largest = self.median(&decision_row(10_000), "stockade");
        targets.push(Target::new(
            decision_row(10_000),
            "p50 ≤ 20 µs".into(),
            largest.map(|us| (format!("{us:.1} µs"), us <= 20.0)),
        ));
        // Flat: a thousand times the rules lie further from the processor, about a dozen reads of
        // each decision. Ten rules stay in its nearest cache, so some multiple is left of that.
        let flat = largest
            .zip(self.median(&decision_row(10), "stockade"))
            .map(|(large, small)| large / small);
        targets.push(Target::new(
            "policy decision, 10,000 rules against 10".into(),
            "≤ 3 ×".into(),
            flat.map(|ratio| (format!("{ratio:.2} ×"), ratio <= 3.0)),
        ));
        targets
    }

    fn ratio(&self, what: &str, against: &str, most: f64) -> Target {
        let ratio = self
            .median(what, "stockade")
            .zip(self.median(what, against))
            .map(|(ours, theirs)| ours / theirs);
        Target::new(
            what.into(),
            format!("≤ {most} × {against}"),
            ratio.map(|ratio| (format!("{ratio:.2} ×"), ratio <= most)),
        )
    }

    /// Writes the result for a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            put(&mut text, format_args!("{} [{}]", row.what, row.unit));
            for sample in &row.samples {
                put(
                    &mut text,
                    format_args!(
                        "  {:<16} {:>9.2}   ({:.2} to {:.2})",
                        sample.name, sample.median, sample.low, sample.high
                    ),
                );
            }
        }
        put(&mut text, format_args!(""));
        for target in self.targets() {
            let (measured, verdict) = target.outcome();
            put(
                &mut text,
                format_args!(
                    "{:<42} {:<24} {measured:>10}  {verdict}",
                    target.what, target.needed
                ),
            );
        }
        for line in &self.not_measured {
            put(&mut text, format_args!("not measured: {line}"));
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// Writes the result as a document.
    pub(super) fn markdown(&self) -> String {
        let mut text =
            String::from("# Benchmarks\n\nWritten by `cargo xtask bench`; do not edit.\n\n");
        put(
            &mut text,
            format_args!(
                "{}, {}, as {}. Medians of {} rounds after a warm-up, the contenders taking turns (memory: 3, decisions: 9, each the program's own median); in brackets the middle half. Times of work inside the session exclude its start. Compare within a row only.\n",
                self.date, self.machine, self.as_user, self.runs
            ),
        );
        put(
            &mut text,
            format_args!(
                "| | {} |\n|---|{}",
                COLUMNS.join(" | "),
                "---:|".repeat(COLUMNS.len())
            ),
        );
        for row in &self.rows {
            let cells = COLUMNS.iter().map(|name| {
                row.samples
                    .iter()
                    .find(|sample| sample.name == *name)
                    .map_or_else(|| "–".into(), cell)
            });
            put(
                &mut text,
                format_args!(
                    "| {} [{}] | {} |",
                    row.what,
                    row.unit,
                    cells.collect::<Vec<_>>().join(" | ")
                ),
            );
        }
        put(
            &mut text,
            format_args!("\n## Targets\n\n| what | needed | measured | |\n|---|---|---:|---|"),
        );
        for target in self.targets() {
            let (measured, verdict) = target.outcome();
            put(
                &mut text,
                format_args!(
                    "| {} | {} | {measured} | {verdict} |",
                    target.what, target.needed
                ),
            );
        }
        put(
            &mut text,
            format_args!("\nMeasured: {}.", self.versions.join(" · ")),
        );
        if !self.not_measured.is_empty() {
            put(&mut text, format_args!("\n## Not measured\n"));
            for line in &self.not_measured {
                put(&mut text, format_args!("- {}", line.replace('\n', " ")));
            }
        }
        text
    }

    /// Writes the result for programs, every sample included.
    pub(super) fn json(&self) -> Result<String> {
        let mut value =
            serde_json::to_value(self).context("the result cannot be written as JSON")?;
        if let Some(object) = value.as_object_mut() {
            object.insert(
                "targets".into(),
                serde_json::to_value(self.targets())
                    .context("the targets cannot be written as JSON")?,
            );
        }
        serde_json::to_string_pretty(&value).context("the result cannot be written as JSON")
    }
}

impl Target {
    fn new(what: String, needed: String, outcome: Option<(String, bool)>) -> Self {
        let (measured, reached) = outcome.unzip();
        Self {
            what,
            needed,
            measured,
            reached,
        }
    }

    fn outcome(&self) -> (&str, &'static str) {
        let verdict = match self.reached {
            Some(true) => "reached",
            Some(false) => "not reached",
            None => "not measured",
        };
        (self.measured.as_deref().unwrap_or("–"), verdict)
    }
}

fn cell(sample: &Sample) -> String {
    if sample.values.len() == 1 {
        return format!("{:.2}", sample.median);
    }
    format!(
        "{:.2} ({:.2}–{:.2})",
        sample.median, sample.low, sample.high
    )
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.push_str(&line.to_string());
    text.push('\n');
}

fn machine() -> Result<String> {
    let kernel = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let cpu = fs::read_to_string("/proc/cpuinfo").context("`/proc/cpuinfo` cannot be read")?;
    let model = cpu.lines().find_map(|line| {
        line.strip_prefix("model name")?
            .split_once(':')
            .map(|(_, name)| name.trim())
    });
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(format!(
        "Linux {kernel}, {} × {}",
        cores,
        model.unwrap_or("unknown processor")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rows: Vec<Row>) -> Report {
        Report {
            date: "2026-01-01".into(),
            machine: "lab".into(),
            as_user: "u".into(),
            runs: 15,
            versions: vec![],
            rows,
            not_measured: vec!["x: gone".into()],
        }
    }

    fn row(what: &str, samples: &[(&'static str, &[f64])]) -> Row {
        let samples = samples
            .iter()
            .map(|(name, values)| Sample::new(name, values.to_vec()))
            .collect();
        Row {
            what: what.into(),
            unit: "ms",
            samples,
        }
    }

    #[test]
    fn medians_and_quarters_are_those_of_the_sorted_values() {
        let sample = Sample::new("bare", vec![9.0, 1.0, 3.0, 5.0, 7.0]);
        assert!(
            (sample.median - 5.0).abs() < 1e-9
                && (sample.low - 3.0).abs() < 1e-9
                && (sample.high - 7.0).abs() < 1e-9
        );
        assert!((median(&[1.0, 2.0]) - 1.5).abs() < 1e-9 && median(&[]).is_nan());
    }

    #[test]
    fn a_target_is_reached_missed_or_not_measured() {
        let start = row(
            "start of /bin/true",
            &[
                ("stockade", &[10.0]),
                ("bubblewrap", &[6.0]),
                ("codex sandbox", &[20.0]),
            ],
        );
        let targets = report(vec![start]).targets();
        let verdicts: Vec<_> = targets.iter().map(|target| target.outcome().1).collect();
        assert_eq!(
            verdicts.get(..3).unwrap(),
            ["reached", "not reached", "not measured"]
        );
        assert_eq!(targets[0].measured.as_deref(), Some("1.67 ×"));
    }

    #[test]
    fn every_form_names_rows_targets_and_gaps() {
        let report = report(vec![row(
            "start of /bin/true",
            &[("stockade", &[1.0, 2.0, 3.0])],
        )]);
        for text in [report.text(), report.markdown(), report.json().unwrap()] {
            assert!(
                text.contains("start of /bin/true")
                    && text.contains("gone")
                    && text.contains("2.0"),
                "{text}"
            );
        }
        assert!(
            report
                .markdown()
                .contains("| – | 2.00 (1.00–3.00) | – | – | – |"),
            "{}",
            report.markdown()
        );
        assert!(!report.markdown().contains("NaN"));
    }
}
