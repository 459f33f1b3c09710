//! The result: rows of medians, what is needed of them, and three ways to write them.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{
    figures::{figure, median},
    rows::{Bound, ROWS, RowPlan},
};

/// Everything that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    machine: String,
    as_user: String,
    versions: Vec<String>,
    pub(super) rows: Vec<Row>,
    absent: Vec<String>,
}

/// One thing that was measured, for every contender that took part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) name: String,
    /// Day and program.
    pub(super) measured: String,
    /// Samples that each contender should have.
    pub(super) runs: usize,
    pub(super) samples: Vec<Sample>,
    /// Who failed, and why.
    pub(super) failures: Vec<String>,
}

/// What one contender took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) name: String,
    median: f64,
    /// A quarter of the samples is below.
    low: f64,
    /// A quarter of the samples is above.
    high: f64,
    pub(super) values: Vec<f64>,
}

/// What is needed of a row and what became of it.
#[derive(Debug, PartialEq, Serialize)]
struct Target {
    what: String,
    needed: String,
    measured: Option<String>,
    reached: Option<bool>,
}

/// The order of columns.
pub(super) const COLUMNS: &[&str] = &[
    "bare",
    "stockade",
    "bubblewrap",
    "codex sandbox",
    "sandbox-runtime",
];
const OURS: &str = "stockade";

/// What the document says above the table.
const HEAD: &str = "Medians, the contenders taking turns; in brackets the middle half, and how many rounds there were if \
the time of the row ended first. In a busy row each core has one more process that always wants to run. Times of \
work inside exclude the start of the session. Compare within a row only.";

impl Sample {
    pub(super) fn new(name: &str, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            values
                .get(values.len() * quarter / 4)
                .copied()
                .unwrap_or(f64::NAN)
        };
        Self {
            name: name.to_owned(),
            median: median(&values),
            low: at(1),
            high: at(3),
            values,
        }
    }
}

impl Row {
    fn median(&self, contender: &str) -> Option<f64> {
        self.samples
            .iter()
            .find(|sample| sample.name == contender)
            .map(|sample| sample.median)
    }

    /// Returns our median divided by that of another contender, if that is not zero.
    fn ratio(&self, against: &str) -> Option<f64> {
        let ratio = self.median(OURS)? / self.median(against)?;
        ratio.is_finite().then_some(ratio)
    }

    fn cell(&self, contender: &str) -> String {
        let Some(sample) = self.samples.iter().find(|sample| sample.name == contender) else {
            return "–".to_owned();
        };
        let Sample {
            median, low, high, ..
        } = sample;
        let rounds = sample.values.len();
        let (short, single) = (rounds < self.runs, rounds == 1);
        let count = format!("{rounds} of {} runs", self.runs);
        match (single, short) {
            (true, false) => figure(*median),
            (true, true) => format!("{} ({count})", figure(*median)),
            (false, false) => format!("{} ({}–{})", figure(*median), figure(*low), figure(*high)),
            (false, true) => format!(
                "{} ({}–{}, {count})",
                figure(*median),
                figure(*low),
                figure(*high)
            ),
        }
    }
}

impl Report {
    pub(super) fn new(
        as_user: &str,
        in_memory: bool,
        versions: Vec<String>,
        absent: Vec<String>,
    ) -> Result<Self> {
        let place = if in_memory { "in memory" } else { "on disk" };
        Ok(Self {
            machine: machine()?,
            as_user: format!("{as_user}, workspaces {place}, record and home on disk"),
            versions,
            rows: Vec::new(),
            absent,
        })
    }

    /// Reads what an earlier run left, if it is there.
    pub(super) fn load(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    /// Takes the rows of an earlier run that this one does not measure.
    pub(super) fn keep_others(&mut self, earlier: Self, measured: &[&RowPlan]) {
        let others = earlier
            .rows
            .into_iter()
            .filter(|row| measured.iter().all(|plan| plan.name != row.name));
        self.rows.extend(others);
    }

    /// Puts a row in its place.
    pub(super) fn put(&mut self, row: Row) {
        self.rows.retain(|other| other.name != row.name);
        self.rows.push(row);
        let place = |row: &Row| ROWS.iter().position(|plan| plan.name == row.name);
        self.rows.sort_by_key(place);
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Returns the rows that are known, with their plans.
    fn planned(&self) -> impl Iterator<Item = (&'static RowPlan, &Row)> {
        ROWS.iter()
            .filter_map(|plan| Some((plan, self.row(plan.name)?)))
    }

    fn targets(&self) -> Vec<Target> {
        let of_row = |(plan, row): (&'static RowPlan, _)| {
            plan.bounds
                .iter()
                .map(move |bound| self.target(plan, row, *bound))
        };
        self.planned().flat_map(of_row).collect()
    }

    fn target(&self, plan: &RowPlan, row: &Row, bound: Bound) -> Target {
        let unit = plan.unit;
        let ours = row.median(OURS);
        let ratio = |ratio: f64| format!("{ratio:.2} ×");
        let absolute = |value: f64| format!("{} {unit}", figure(value)).trim().to_owned();
        let (needed, outcome) = match bound {
            Bound::Times(most, against) => (
                format!("≤ {most} × {against}"),
                row.ratio(against).map(|r| (ratio(r), r <= most)),
            ),
            Bound::AtLeast(least, against) => (
                format!("≥ {least} × {against}"),
                row.ratio(against).map(|r| (ratio(r), r >= least)),
            ),
            Bound::Added(most) => (
                format!("≤ bare + {most} {unit}"),
                ours.zip(row.median("bare")).map(|(ours, bare)| {
                    (format!("+ {}", absolute(ours - bare)), ours - bare <= most)
                }),
            ),
            Bound::Most(most) => (
                format!("≤ {most} {unit}").trim().to_owned(),
                ours.map(|ours| (absolute(ours), ours <= most)),
            ),
            Bound::TimesRow(most, other) => (
                format!("≤ {most} × `{other}`"),
                ours.zip(self.row(other).and_then(|row| row.median(OURS)))
                    .map(|(ours, other)| (ratio(ours / other), ours / other <= most)),
            ),
        };
        let (measured, reached) = outcome.unzip();
        Target {
            what: heading(plan),
            needed,
            measured,
            reached,
        }
    }

    /// Lists what was not measured and why.
    fn gaps(&self) -> Vec<String> {
        let failures = self.planned().flat_map(|(plan, row)| {
            row.failures
                .iter()
                .map(move |failure| format!("`{}`: {}", plan.name, failure.replace('\n', " ")))
        });
        let missing = ROWS
            .iter()
            .filter(|plan| self.row(plan.name).is_none())
            .map(|plan| format!("`{}`: not in this run", plan.name));
        self.absent
            .iter()
            .cloned()
            .chain(failures)
            .chain(missing)
            .collect()
    }

    /// Writes the result for a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (plan, row) in self.planned() {
            put(&mut text, format_args!("{}", heading(plan)));
            for sample in &row.samples {
                let ratio = row
                    .ratio(&sample.name)
                    .filter(|_| sample.name != OURS)
                    .map_or(String::new(), |ratio| format!("  ours {ratio:.2} ×"));
                put(
                    &mut text,
                    format_args!("  {:<16} {}{ratio}", sample.name, row.cell(&sample.name)),
                );
            }
        }
        put(&mut text, format_args!(""));
        for target in self.targets() {
            let (measured, verdict) = target.outcome();
            put(
                &mut text,
                format_args!(
                    "{:<60} {:<24} {measured:>10}  {verdict}",
                    target.what, target.needed
                ),
            );
        }
        for line in self.gaps() {
            put(&mut text, format_args!("not measured: {line}"));
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// Writes the result as a document.
    pub(super) fn markdown(&self) -> String {
        let mut text =
            String::from("# Benchmarks\n\nWritten by `cargo xtask bench`; do not edit.\n\n");
        let measured = self.rows.last().map_or("", |row| &row.measured);
        put(
            &mut text,
            format_args!(
                "{measured}, on {}, as {}. {HEAD}\n",
                self.machine, self.as_user
            ),
        );
        let columns = COLUMNS.join(" | ");
        put(
            &mut text,
            format_args!(
                "| what | {columns} | ÷ bare | ÷ bubblewrap |\n|---|{}---:|---:|",
                "---:|".repeat(COLUMNS.len())
            ),
        );
        for (plan, row) in self.planned() {
            let cells: Vec<String> = COLUMNS.iter().map(|name| row.cell(name)).collect();
            let ratio = |against| {
                row.ratio(against)
                    .map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
            };
            put(
                &mut text,
                format_args!(
                    "| {} | {} | {} | {} |",
                    heading(plan),
                    cells.join(" | "),
                    ratio("bare"),
                    ratio("bubblewrap")
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
        self.put_gaps(&mut text, measured);
        text
    }

    fn put_gaps(&self, text: &mut String, measured: &str) {
        let others: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| row.measured != measured)
            .collect();
        if !others.is_empty() {
            put(
                text,
                format_args!("\n## Measured at another time, or beside other work\n"),
            );
            for row in others {
                put(text, format_args!("- `{}`: {}", row.name, row.measured));
            }
        }
        let gaps = self.gaps();
        if !gaps.is_empty() {
            put(text, format_args!("\n## Not measured\n"));
            for line in gaps {
                put(text, format_args!("- {line}"));
            }
        }
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
    fn outcome(&self) -> (&str, &'static str) {
        let verdict = match self.reached {
            Some(true) => "reached",
            Some(false) => "not reached",
            None => "not measured",
        };
        (self.measured.as_deref().unwrap_or("–"), verdict)
    }
}

/// Names a row for people: what, its load if there is one, and the unit.
pub(super) fn heading(plan: &RowPlan) -> String {
    let load = match plan.load {
        super::busy::Load::Idle => "",
        super::busy::Load::Busy => ", busy",
    };
    let unit = if plan.unit.is_empty() {
        String::new()
    } else {
        format!(" [{}]", plan.unit)
    };
    format!("{}{load}{unit}", plan.what)
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.push_str(&line.to_string());
    text.push('\n');
}

/// Says what is measured on.
pub(crate) fn machine() -> Result<String> {
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
            machine: "lab".into(),
            as_user: "u".into(),
            versions: vec![],
            rows,
            absent: vec!["x: gone".into()],
        }
    }

    fn row(name: &str, samples: &[(&'static str, &[f64])]) -> Row {
        let samples = samples
            .iter()
            .map(|(name, values)| Sample::new(name, values.to_vec()))
            .collect();
        Row {
            name: name.into(),
            measured: "2026-01-01, commit 1".into(),
            runs: 3,
            samples,
            failures: vec![],
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
    }

    #[test]
    fn a_target_is_reached_missed_or_not_measured() {
        let rows = vec![
            row("start", &[("stockade", &[10.0]), ("bubblewrap", &[6.0])]),
            row("connect", &[("stockade", &[900.0]), ("bare", &[100.0])]),
            row("sessions", &[("stockade", &[200.0])]),
            row("decide", &[("stockade", &[1.0])]),
            row("decide-10000", &[("stockade", &[4.0])]),
        ];
        let targets = report(rows).targets();
        let all: Vec<_> = targets.iter().map(Target::outcome).collect();
        assert_eq!(
            all,
            [
                ("1.67 ×", "reached"),
                ("–", "not measured"),
                ("+ 800 µs", "not reached"),
                ("200 ms", "reached"),
                ("4.00 µs", "reached"),
                ("4.00 ×", "not reached"),
            ]
        );
    }

    #[test]
    fn every_form_names_rows_targets_and_gaps() {
        let mut failed = row("start", &[("stockade", &[1.0, 2.0, 3.0])]);
        failed.failures = vec!["bubblewrap: broken".into()];
        let report = report(vec![failed]);
        for text in [report.text(), report.markdown()] {
            for part in ["start of /bin/true", "gone", "2.00", "broken", "`make`"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        assert!(report.json().unwrap().contains("\"targets\""));
        assert!(
            report.markdown().contains("| – | 2.00 (1.00–3.00) | – |"),
            "{}",
            report.markdown()
        );
        assert!(!report.markdown().contains("NaN"));
    }

    #[test]
    fn a_row_that_ran_out_of_time_says_how_many_rounds_it_has() {
        let row = row("start", &[("stockade", &[1.0, 1.0]), ("bare", &[2.0])]);
        assert_eq!(row.cell("stockade"), "1.00 (1.00–1.00, 2 of 3 runs)");
        assert_eq!(row.cell("bare"), "2.00 (1 of 3 runs)");
    }

    #[test]
    fn rows_of_an_earlier_run_stay_unless_measured_again() {
        let mut now = report(vec![]);
        let earlier = report(vec![row("start", &[]), row("make", &[])]);
        let plans: Vec<&RowPlan> = ROWS.iter().filter(|plan| plan.name == "make").collect();
        now.keep_others(earlier, &plans);
        let mut make = row("make", &[("stockade", &[1.0])]);
        make.measured = "2026-01-02, commit 2".into();
        now.put(make);
        let names: Vec<&str> = now.rows.iter().map(|row| &*row.name).collect();
        assert_eq!(names, ["start", "make"]);
        let text = now.markdown();
        assert!(
            text.contains("2026-01-02, commit 2, on lab")
                && text.contains("- `start`: 2026-01-01, commit 1"),
            "{text}"
        );
    }
}
