//! Events in words, for one line of a terminal: foreign text is escaped.

use stockade_types::{DecisionRecord, LimitName, RawText, Verdict};

use crate::totals::SessionOutcome;

/// Escapes characters that a terminal would obey or hide.
pub fn safe(text: &str) -> String {
    RawText::from(text).display()
}

/// Joins an argument vector for one line, each word escaped.
pub fn words(argv: &[RawText]) -> String {
    argv.iter()
        .map(RawText::display)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Writes a number of bytes, with one decimal if that adds information.
pub fn bytes(value: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
    ];
    for (unit, factor) in UNITS {
        if value >= factor {
            let whole = value / factor;
            let tenth = value % factor / (factor / 10);
            return if whole < 10 && tenth > 0 {
                format!("{whole}.{tenth} {unit}")
            } else {
                format!("{whole} {unit}")
            };
        }
    }
    format!("{value} B")
}

impl SessionOutcome {
    /// Says how a session ended; `command` is the name of its command.
    pub fn text(&self, command: &str) -> String {
        match self {
            Self::Exited { code } => format!("{command} exited {code}"),
            Self::Signaled { signal } => format!("{command} was ended by signal {signal}"),
            Self::Killed { reason } => format!("killed by stockade: {}", safe(reason)),
            Self::NotStarted { step, reason } => {
                format!("not started: {} failed: {}", safe(step), safe(reason))
            }
        }
    }
}

/// Says for a person which limit was hit, with its unit.
pub fn limit_text(limit: LimitName, configured: u64, usage: u64, detail: &str) -> String {
    let amount = |value: u64| match limit {
        LimitName::Memory | LimitName::Journal => format!("{} MiB", value >> 20),
        LimitName::WallTime => format!("{}.{} s", value / 1000, value % 1000 / 100),
        LimitName::Processes | LimitName::Names => value.to_string(),
    };
    let (usage, configured) = (amount(usage), amount(configured));
    format!("{limit} {usage} of {configured}: {detail}")
}

/// Says what was decided, by which rule and why.
pub(crate) fn decided(decision: &DecisionRecord) -> String {
    let rule = decision
        .rule
        .as_ref()
        .map_or("no rule", |rule| rule.as_str());
    format!(
        "{} {} {}  ({rule}: {})",
        decision.verdict,
        decision.decision,
        safe(&decision.effect()),
        safe(&decision.reason)
    )
}

/// Says what was decided about a connection, and why an allowed one has no address.
pub(crate) fn connection_line(
    decision: &DecisionRecord,
    has_address: bool,
    detail: Option<&str>,
) -> String {
    let failed = if decision.verdict == Verdict::Allow && !has_address {
        format!(", not made: {}", safe(detail.unwrap_or("no address")))
    } else {
        String::new()
    };
    format!("{}{failed}", decided(decision))
}

/// Says whether a guarantee holds, and how or why not.
pub(crate) fn guarantee_line(guarantee: &str, holds: bool, why: &str) -> String {
    let state = if holds { "holds" } else { "does not hold" };
    format!("{} {state}: {}", safe(guarantee), safe(why))
}

/// Appends a reason to a sentence, if there is one.
pub(crate) fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |why| format!(": {}", safe(why)))
}
