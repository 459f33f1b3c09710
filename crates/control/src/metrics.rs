//! What the server counts of itself, as text that Prometheus reads (exposition format 0.0.4).

use std::{
    fmt::Write as _,
    fs,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use stockade_types::ignored;

use crate::{notice::Form, state::Settled};

/// Upper bounds of the time until a receipt, in microseconds, with their text in seconds.
const BOUNDS: [(u64, &str); 12] = [
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (10_000_000, "10"),
];
/// Why pieces are refused; each is the kind of a problem, and the last stands for all others.
const REASONS: [&str; 4] = ["busy", "gap", "record-broken", "other"];
/// What proc_pid_stat(5) counts time in: `sysconf(_SC_CLK_TCK)` is 100 on every Linux that we build for.
const TICKS_PER_SECOND: u64 = 100;
/// Fields of that file behind the name, from `state`: user time, and then system time.
const USER_TIME: usize = 11;
/// What proc_pid_status(5) has memory in.
const KIB: u64 = 1_024;

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    events: AtomicU64,
    bytes: AtomicU64,
    refused: [AtomicU64; REASONS.len()],
    /// Receipts by the first bound that their time does not exceed; the last one is for those beyond.
    receipts: [AtomicU64; BOUNDS.len() + 1],
    receipts_us: AtomicU64,
    /// Attempts to tell something, by form and outcome.
    notices: [[AtomicU64; OUTCOMES.len()]; FORMS.len()],
    notices_skipped: AtomicU64,
}

/// How something is told, and what becomes of an attempt.
const FORMS: [&str; 3] = ["webhook", "chat", "mail"];
const OUTCOMES: [&str; 4] = ["sent", "failed", "dead", "moot"];

impl Metrics {
    /// Counts an attempt to tell something.
    pub(crate) fn notice(&self, form: Form, settled: &Settled) {
        let form = match form {
            Form::Webhook => 0,
            Form::Slack | Form::Mattermost | Form::Teams => 1,
            Form::Mail => 2,
        };
        let outcome = match settled {
            Settled::Sent => 0,
            Settled::Again { .. } => 1,
            Settled::Dead { .. } => 2,
            Settled::Moot => 3,
        };
        let of_form = self.notices.get(form);
        if let Some(count) = of_form.and_then(|of_form| of_form.get(outcome)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts what a channel was not told because too much waited for it.
    pub(crate) fn notices_skipped(&self, count: u64) {
        self.notices_skipped.fetch_add(count, Ordering::Relaxed);
    }

    fn notices(&self, text: &mut Text, waiting: u64) {
        text.head(
            "stockade_notices_total",
            "counter",
            "Attempts to tell people something.",
        );
        for (of_form, form) in self.notices.iter().zip(FORMS) {
            for (count, outcome) in of_form.iter().zip(OUTCOMES) {
                let labels = format!("{{form=\"{form}\",outcome=\"{outcome}\"}}");
                let count = count.load(Ordering::Relaxed);
                text.value("stockade_notices_total", &labels, count);
            }
        }
        text.counter(
            "stockade_notices_skipped_total",
            "What channels were not told because too much waited for them.",
            self.notices_skipped.load(Ordering::Relaxed),
        );
        text.gauge(
            "stockade_notices_waiting",
            "Deliveries that are still to be made.",
            waiting,
        );
    }

    /// Counts what was taken of a journal.
    pub(crate) fn taken(&self, events: u64, bytes: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a piece that was refused, by the kind of the problem.
    pub(crate) fn refused(&self, kind: &str) {
        let other = REASONS.len().saturating_sub(1);
        let reason = REASONS.iter().position(|reason| *reason == kind);
        if let Some(count) = self.refused.get(reason.unwrap_or(other)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a receipt, and how long its machine waited.
    pub(crate) fn acknowledged(&self, after: Duration) {
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let bound = BOUNDS.iter().position(|(bound, _)| us <= *bound);
        if let Some(count) = self.receipts.get(bound.unwrap_or(BOUNDS.len())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.receipts_us.fetch_add(us, Ordering::Relaxed);
    }

    fn receipts(&self, text: &mut Text) {
        text.head(
            "stockade_receipt_seconds",
            "histogram",
            "Time from the request with a piece of a journal to its receipt.",
        );
        let mut sum = 0;
        let bounds = BOUNDS.iter().map(|(_, text)| *text).chain(["+Inf"]);
        for (count, bound) in self.receipts.iter().zip(bounds) {
            sum += count.load(Ordering::Relaxed);
            let labels = format!("{{le=\"{bound}\"}}");
            text.value("stockade_receipt_seconds_bucket", &labels, sum);
        }
        let us = self.receipts_us.load(Ordering::Relaxed);
        text.value("stockade_receipt_seconds_sum", "", micros(us));
        text.value("stockade_receipt_seconds_count", "", sum);
    }

    fn refusals(&self, text: &mut Text) {
        text.head(
            "stockade_pieces_refused_total",
            "counter",
            "Pieces of journals that were refused.",
        );
        for (count, reason) in self.refused.iter().zip(REASONS) {
            let labels = format!("{{reason=\"{reason}\"}}");
            let count = count.load(Ordering::Relaxed);
            text.value("stockade_pieces_refused_total", &labels, count);
        }
    }
}

/// What is counted elsewhere.
#[derive(Debug)]
pub(crate) struct Present {
    /// Questions that are open.
    pub(crate) questions: u64,
    /// Machines that are connected.
    pub(crate) connected: usize,
    /// Bytes that they have not sent.
    pub(crate) unshipped: u64,
    /// How long the oldest of these waits, in milliseconds.
    pub(crate) oldest_ms: u64,
    /// How long machines collect lines, in milliseconds.
    pub(crate) pace_ms: u64,
    /// Deliveries that are still to be made.
    pub(crate) notices: u64,
}

impl Metrics {
    /// Writes everything.
    pub(crate) fn text(&self, present: &Present) -> String {
        let counted = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut text = Text(String::new());
        text.gauge(
            "stockade_nodes_connected",
            "Machines with a stream.",
            present.connected,
        );
        text.counter(
            "stockade_events_taken_total",
            "Events of journals that were checked, and are on the disk.",
            counted(&self.events),
        );
        text.counter(
            "stockade_bytes_taken_total",
            "Bytes of journals that were checked, and are on the disk.",
            counted(&self.bytes),
        );
        self.refusals(&mut text);
        self.receipts(&mut text);
        text.gauge(
            "stockade_questions_open",
            "Questions without an answer.",
            present.questions,
        );
        text.gauge(
            "stockade_unshipped_bytes",
            "Bytes of journals that connected machines have not sent, as they say.",
            present.unshipped,
        );
        text.gauge(
            "stockade_unshipped_oldest_seconds",
            "How long the oldest of these bytes waits.",
            millis(present.oldest_ms),
        );
        text.gauge(
            "stockade_pace_seconds",
            "How long machines are asked to collect lines before the next piece.",
            millis(present.pace_ms),
        );
        self.notices(&mut text, present.notices);
        text.process();
        text.0
    }
}

/// Returns CPU time in ticks, and memory in KiB.
fn own() -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ticks = number(USER_TIME)?.saturating_add(number(USER_TIME + 1)?);
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib = resident.split_whitespace().next()?.parse().ok()?;
    Some((ticks, kib))
}

fn millis(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

fn micros(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// The text as it grows.
struct Text(String);

impl Text {
    /// Adds what the process has used.
    fn process(&mut self) {
        let Some((ticks, kib)) = own() else {
            return;
        };
        let seconds = format!(
            "{}.{:02}",
            ticks / TICKS_PER_SECOND,
            ticks % TICKS_PER_SECOND
        );
        self.counter(
            "process_cpu_seconds_total",
            "User and system time of the server.",
            seconds,
        );
        self.gauge(
            "process_resident_memory_bytes",
            "Memory of the server.",
            kib.saturating_mul(KIB),
        );
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn value(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        self.line(format_args!("{name}{labels} {value}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, "gauge", help);
        self.value(name, "", value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, "counter", help);
        self.value(name, "", value);
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        ignored(writeln!(self.0, "{line}"), "a text takes any line");
    }
}
