//! The numbers as a person reads them, in 80 columns.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::Serialize;
use stockade_event::stats::{ModelUse, Stats};

use super::{Report, prices::Prices};
use crate::{
    archive::count,
    human::{bytes, cut, cut_front, minute, number, plural, span},
};

/// Rows of each list; the JSON has all.
const ROWS: usize = 8;
/// Columns of the word in front.
const WORD: usize = 12;
/// Columns of a name in a list with several numbers, and in one with one.
const NAME: usize = 25;
const WIDE_NAME: usize = 50;
/// Columns of a line where there is no terminal to fit.
const COLUMNS: usize = 80;

/// What the calls of models cost.
#[derive(Debug, Default, Serialize)]
pub(super) struct Bill {
    /// Millionths of a US dollar, of each model whose price is known.
    pub(super) cost_micro_usd: BTreeMap<String, u64>,
    /// The sum of these.
    pub(super) total_micro_usd: u64,
    /// Models whose price is not known; their calls are not in the sum.
    pub(super) unknown: Vec<String>,
}

impl Bill {
    pub(super) fn of(stats: &Stats, prices: &Prices) -> Self {
        let mut bill = Self::default();
        for (model, used) in &stats.models {
            match prices.cost(model, used) {
                Some(cost) => {
                    bill.total_micro_usd = bill.total_micro_usd.saturating_add(cost);
                    bill.cost_micro_usd.insert(model.clone(), cost);
                }
                None => bill.unknown.push(model.clone()),
            }
        }
        bill
    }
}

/// Lines that begin with a word, or with room for one.
struct Lines {
    lines: Vec<String>,
    width: usize,
}

impl Lines {
    fn push(&mut self, word: &str, text: &str) {
        let line = format!("  {word:<WORD$}{text}");
        self.lines.push(cut(line.trim_end(), self.width));
    }

    /// Adds the rows with the most, and says how many there are beside them.
    fn top<'m, V>(
        &mut self,
        word: &str,
        head: &str,
        map: &'m BTreeMap<String, V>,
        weight: impl Fn(&V) -> u64,
        row: impl Fn(&str, &V) -> String,
    ) {
        if map.is_empty() {
            return;
        }
        let mut rows: Vec<(&'m String, &'m V)> = map.iter().collect();
        // The sort is stable, so that equal ones stay in the order of their names.
        rows.sort_by_key(|(_, value)| std::cmp::Reverse(weight(value)));
        self.push(word, head);
        for (name, value) in rows.iter().take(ROWS) {
            self.push("", &row(name, value));
        }
        if let Some(more) = rows.len().checked_sub(ROWS).filter(|more| *more > 0) {
            self.push("", &format!("and {} more (--json)", number(count(more))));
        }
    }
}

/// Renders the report; `width` is that of the terminal, where there is one.
pub(super) fn render(
    report: &Report,
    as_of: &str,
    zone: &TimeZone,
    width: Option<usize>,
) -> Vec<String> {
    let stats = &report.stats;
    let mut lines = Lines {
        lines: vec![headline(report, zone)],
        width: width.unwrap_or(COLUMNS).max(COLUMNS),
    };
    lines.push(
        "ran",
        &format!(
            "{}, {} of agents",
            plural(stats.prompts, "prompt", "prompts"),
            plural(stats.commands, "command", "commands"),
        ),
    );
    questions(&mut lines, report);
    lines.push("refused", &number(stats.refused));
    let plain = |name: &str, count: &u64| {
        let name = cut_front(name, WIDE_NAME);
        format!("{name:<WIDE_NAME$} {:>8}", number(*count))
    };
    let weigh = |count: &u64| *count;
    lines.top("", "by rule", &stats.rules, weigh, plain);
    lines.top("", "by target", &stats.targets, weigh, plain);
    let head = columns("", ["made", "failed", "sent", "received"]);
    let weigh = |traffic: &stockade_event::summary::Traffic| traffic.connections + traffic.failed;
    lines.top("hosts", &head, &stats.hosts, weigh, |name, traffic| {
        columns(
            name,
            [
                &number(traffic.connections),
                &number(traffic.failed),
                &bytes(traffic.bytes_out),
                &bytes(traffic.bytes_in),
            ],
        )
    });
    let head = columns("", ["calls", "failed", "refused", ""]);
    let weigh = |tool: &stockade_event::stats::ToolUse| tool.calls;
    lines.top("tools", &head, &stats.tools, weigh, |name, tool| {
        let numbers = [tool.calls, tool.failed, tool.refused].map(number);
        let [calls, failed, refused] = &numbers;
        columns(name, [calls, failed, refused, ""])
    });
    models(&mut lines, report, as_of);
    overhead(&mut lines, stats);
    if stats.events_lost > 0 {
        let lost = plural(stats.events_lost, "event", "events");
        lines.push("lost", &format!("{lost}, which are not in these numbers"));
    }
    lines.lines
}

fn headline(report: &Report, zone: &TimeZone) -> String {
    let stats = &report.stats;
    let since = report.since_unix_ns;
    let since = since.map(|since| format!(" since {}", minute(since, zone)));
    format!(
        "{}{}, {} in all",
        plural(stats.sessions, "session", "sessions"),
        since.unwrap_or_default(),
        span(stats.duration_ms)
    )
}

fn questions(lines: &mut Lines, report: &Report) {
    let stats = &report.stats;
    let answers: Vec<String> = stats
        .answers
        .iter()
        .map(|(answer, count)| format!("{} {answer}", number(*count)))
        .collect();
    let answers = if answers.is_empty() {
        String::new()
    } else {
        format!(": {}", answers.join(", "))
    };
    let asked = plural(stats.asked, "question", "questions");
    lines.push("asked", &format!("{asked}{answers}"));
    if let Some(median) = report.median_answer_ms {
        let text = format!("a person answered after {} (median)", span(median));
        lines.push("", &text);
    }
}

fn models(lines: &mut Lines, report: &Report, as_of: &str) {
    let stats = &report.stats;
    if stats.models.is_empty() {
        return;
    }
    let head = columns("", ["calls", "in", "cached", "out"]) + "     cost";
    let weigh = |model: &ModelUse| model.input.saturating_add(model.output);
    let costs = &report.bill.cost_micro_usd;
    lines.top("models", &head, &stats.models, weigh, |name, model| {
        let tokens = [model.calls, model.input, model.cached, model.output].map(short);
        let [calls, input, cached, output] = &tokens;
        let cost = costs.get(name).copied();
        let cost = cost.map_or_else(|| "?".to_owned(), dollars);
        format!(
            "{} {cost:>8}",
            columns(name, [calls, input, cached, output])
        )
    });
    if !costs.is_empty() {
        let total = dollars(report.bill.total_micro_usd);
        let text = format!("{total} in all, by list prices of {as_of} or yours");
        lines.push("", &text);
    }
    if !report.bill.unknown.is_empty() {
        let unknown = plural(count(report.bill.unknown.len()), "model", "models");
        let text =
            format!("no price is known of {unknown}, which are not in the sum: --prices FILE");
        lines.push("", &text);
    }
}

fn overhead(lines: &mut Lines, stats: &Stats) {
    let used = stats.usage.cpu_us();
    if let Some(used) = used {
        let text = format!("the sessions: {} of processor", span(used / 1_000));
        lines.push("used", &text);
    }
    if let Some(own) = stats.own_usage.cpu_us() {
        let of = used.filter(|used| *used >= own.max(1)).map(|used| {
            let tenths = u128::from(own) * 1_000 / u128::from(used);
            format!(", {}.{} % of that", tenths / 10, tenths % 10)
        });
        let of = of.filter(|_| stats.own_known == stats.sessions);
        let word = if used.is_some() { "" } else { "used" };
        let text = format!(
            "stockade: {} (supervisor and egress, {}){}",
            span(own / 1_000),
            plural(stats.own_known, "session", "sessions"),
            of.unwrap_or_default()
        );
        lines.push(word, &text);
    }
}

fn columns(name: &str, all: [&str; 4]) -> String {
    let [a, b, c, d] = all;
    let name = cut_front(name, NAME);
    format!("{name:<NAME$} {a:>6} {b:>7} {c:>7} {d:>8}")
        .trim_end()
        .to_owned()
}

/// Writes a number of tokens in few characters.
fn short(value: u64) -> String {
    match value {
        0..10_000 => number(value),
        10_000..1_000_000 => format!("{} k", value / 1_000),
        1_000_000..1_000_000_000 => {
            format!("{}.{} M", value / 1_000_000, value % 1_000_000 / 100_000)
        }
        _ => format!("{} G", value / 1_000_000_000),
    }
}

/// Writes millionths of a dollar; what is less than a cent is not nothing.
fn dollars(micro: u64) -> String {
    match micro {
        0 => "$0".to_owned(),
        1..10_000 => "<$0.01".to_owned(),
        _ => format!(
            "${}.{:02}",
            number(micro / 1_000_000),
            micro % 1_000_000 / 10_000
        ),
    }
}
