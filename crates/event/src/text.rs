//! Events in words, for one line of a terminal: foreign text is escaped.

use stockade_types::{
    Access, CallEnd, DecisionId, DecisionRecord, LimitName, ModelProvider, RawText, RuleId,
    Subject, Verdict,
};

use crate::{
    cause::Said,
    model::{HostedToolSeen, Listed, ModelUsage, ToolCallSeen, ToolPin},
    totals::SessionOutcome,
};

/// Names of a list that one line has.
const NAMES_MAX: usize = 4;
/// Characters of what somebody said that one line has.
const LINE_CHARS_MAX: usize = 200;

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

/// Writes a number with a comma between thousands.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Cuts `text` to `columns` characters, and marks the cut.
pub fn cut(text: &str, columns: usize) -> String {
    if text.chars().nth(columns).is_none() {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Writes `1 file`, `2 files`.
pub fn plural(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(value), if value == 1 { one } else { many })
}

/// Writes a span of milliseconds: `850 ms`, `12.4 s`, `14 min`, `2 h 5 min`, `3 d 4 h`.
pub fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    let minutes = seconds / 60;
    let hours = minutes / 60;
    match () {
        () if millis < 1000 => format!("{millis} ms"),
        () if seconds < 60 => format!("{seconds}.{} s", millis % 1000 / 100),
        () if hours == 0 => format!("{minutes} min"),
        () if hours < 48 => format!("{hours} h {} min", minutes % 60),
        () => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// Shortens a path in the workspace to what people type there.
pub fn in_workspace(path: &RawText, workspace: &RawText) -> String {
    let inside = path
        .as_bytes()
        .strip_prefix(workspace.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"/"))
        .filter(|rest| !rest.is_empty() && !workspace.as_bytes().is_empty());
    inside.map_or_else(
        || path.display(),
        |rest| RawText::from_bytes(rest).display(),
    )
}

/// Writes a time in milliseconds.
pub(crate) fn duration(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        _ => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
    }
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

/// Says which file was changed and by whom, or the decision on it.
pub(crate) fn changed_line(
    decision: Option<&DecisionRecord>,
    access: Access,
    path: &RawText,
    by: &Subject,
) -> String {
    match decision {
        Some(decision) => decided(decision),
        None => format!("{access} {path} by {}", by.exe),
    }
}

/// Says what is recorded of a terminal.
pub(crate) fn recording_line(bytes: u64, hidden: u64, missing: Option<&str>) -> String {
    let secrets = match hidden {
        0 => String::new(),
        count => format!(", {count} secrets replaced"),
    };
    let missing = missing.map_or_else(String::new, |why| format!(", not all: {}", safe(why)));
    format!("what the terminal showed: {bytes} bytes{secrets}{missing}")
}

/// Says which login has new tokens, and whether its file has them.
pub(crate) fn login_line(
    login: &RuleId,
    decision: DecisionId,
    written: bool,
    reason: Option<&str>,
) -> String {
    if written {
        return format!("{login} by {decision}");
    }
    let why = because(reason);
    format!("{login} by {decision}, not in the owner's file{why}")
}

/// What one line says of a call of a model.
pub(crate) struct ModelCall<'a> {
    pub(crate) model: Option<&'a RawText>,
    pub(crate) provider: ModelProvider,
    pub(crate) usage: &'a ModelUsage,
    pub(crate) duration_ms: u64,
    pub(crate) finish: Option<&'a RawText>,
    /// The status of the answer and the error in it.
    pub(crate) error: Option<(Option<u16>, &'a RawText)>,
    pub(crate) declared: &'a [HostedToolSeen],
    pub(crate) used: &'a [HostedToolSeen],
    pub(crate) calls: &'a Listed<ToolCallSeen>,
    pub(crate) ended: CallEnd,
    pub(crate) unread: Option<&'a str>,
}

/// Says which model was called, with how many tokens, how it ended, and which tools it and its
/// provider use.
pub(crate) fn model_line(call: &ModelCall<'_>) -> String {
    let model = call.model.map(RawText::display);
    let model = model.unwrap_or_else(|| format!("a model of {}", call.provider));
    let mut parts = vec![format!("{model} {}", tokens(call.usage))];
    parts.push(duration(call.duration_ms));
    if let Some((status, error)) = call.error {
        let status = status.map(|status| format!(" (status {status})"));
        parts.push(format!("error: {error}{}", status.unwrap_or_default()));
    }
    if let Some(finish) = call.finish {
        parts.push(format!("stop: {finish}"));
    }
    if call.calls.count > 0 {
        let names = call.calls.first.iter().map(|call| call.name.display());
        parts.push(format!("calls {}", some(names, call.calls.count)));
    }
    if !call.used.is_empty() {
        parts.push(format!("provider ran {}", tools(call.used)));
    }
    if !call.declared.is_empty() {
        parts.push(format!("provider may run {}", tools(call.declared)));
    }
    if call.ended == CallEnd::Cut {
        parts.push("cut".to_owned());
    }
    if let Some(why) = call.unread {
        parts.push(format!("not read: {}", safe(why)));
    }
    parts.join(", ")
}

/// Says what a model was told: the last text, which is the person's where there is one.
pub(crate) fn prompt_line(parts: &Listed<Said>, aside: bool) -> String {
    let mut last = parts.first.iter().rev();
    let aside = if aside { " (aside)" } else { "" };
    if let Some(text) = last.find_map(|said| said.text.as_ref()) {
        return format!("{}{aside}", first_line(text));
    }
    let all = parts.first.iter().map(|said| said.bytes).sum();
    format!("{}{aside}", bytes(all))
}

/// Says which tool was called, and with what.
pub(crate) fn tool_line(name: &RawText, arguments: Option<&Said>) -> String {
    let text = arguments.and_then(|said| said.text.as_ref());
    match (text, arguments) {
        (Some(text), _) => format!("{name} {}", first_line(text)),
        (None, Some(said)) => format!("{name} with {}", bytes(said.bytes)),
        (None, None) => name.display(),
    }
}

/// Says which tools of a server are known from here on.
pub(crate) fn pins_line(server: &RawText, tools: &Listed<ToolPin>) -> String {
    let changed = tools.first.iter().filter(|one| one.before.is_some());
    let names = tools.first.iter().take(NAMES_MAX).map(|one| &one.tool);
    let names: Vec<String> = names.map(RawText::display).collect();
    let more = if tools.count > u64::try_from(names.len()).unwrap_or(u64::MAX) {
        ", …"
    } else {
        ""
    };
    let changed = match changed.count() {
        0 => String::new(),
        count => format!(", {count} of them accepted as changed"),
    };
    format!(
        "{server}: {} tools{changed}: {}{more}",
        tools.count,
        names.join(", ")
    )
}

/// Says what went over a connection, or why it was not made.
pub(crate) fn passed(bytes_out: u64, bytes_in: u64, failed: Option<&str>) -> String {
    failed.map_or_else(
        || format!("{} out, {} in", bytes(bytes_out), bytes(bytes_in)),
        |why| format!("not made: {}", safe(why)),
    )
}

/// Says which secret was sent where; `form` is its form, its length and its mark.
pub(crate) fn secret_line(
    what: &str,
    form: (&str, u64, &str),
    place: &RawText,
    host: &str,
    port: u16,
) -> String {
    let (form, bytes, mark) = form;
    let place = safe(&place.display());
    format!(
        "{} ({form}, {bytes} bytes, mark {mark}) in the {place} to {}:{port}",
        safe(what),
        safe(host)
    )
}

/// Says what a credential was used for.
pub(crate) fn credential_line(
    method: &str,
    user: Option<&str>,
    host: &str,
    port: u16,
    path: &RawText,
) -> String {
    let user = user.map(|user| format!("{}@", safe(user)));
    let user = user.unwrap_or_default();
    format!("{} {user}{}:{port}{path}", safe(method), safe(host))
}

/// Returns the first line of a text that is not empty, cut.
pub(crate) fn first_line(text: &RawText) -> String {
    let mut lines = text.as_bytes().split(|byte| *byte == b'\n');
    let line = lines.find(|line| !line.trim_ascii().is_empty());
    let line = RawText::from_bytes(line.unwrap_or_default().trim_ascii());
    line.display().chars().take(LINE_CHARS_MAX).collect()
}

/// Says how many tokens went in and came out.
fn tokens(usage: &ModelUsage) -> String {
    let (None, None) = (usage.input, usage.output) else {
        let known = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), number);
        let cached = usage.cached.filter(|cached| *cached > 0);
        let cached = cached.map(|cached| format!(" ({} cached)", number(cached)));
        return format!(
            "{} in{} {} out",
            known(usage.input),
            cached.unwrap_or_default(),
            known(usage.output)
        );
    };
    "tokens not said".to_owned()
}

/// Names tools of a provider, with the servers behind them.
pub fn tools(all: &[HostedToolSeen]) -> String {
    let one = |tool: &HostedToolSeen| {
        let server = tool.server.as_ref().map(|server| format!(" at {server}"));
        let times = (tool.count > 1).then(|| format!(" {}×", number(tool.count)));
        format!(
            "{}{}{}",
            tool.name,
            server.unwrap_or_default(),
            times.unwrap_or_default()
        )
    };
    let count = u64::try_from(all.len()).unwrap_or(u64::MAX);
    some(all.iter().map(one), count)
}

/// Writes the first names of `count`.
fn some(names: impl Iterator<Item = String>, count: u64) -> String {
    let named: Vec<String> = names.take(NAMES_MAX).collect();
    let more = count.saturating_sub(u64::try_from(named.len()).unwrap_or(u64::MAX));
    let text = named.join(", ");
    if more > 0 {
        return format!("{text} and {} more", number(more));
    }
    text
}

/// Says how a candidate differs from the policy in force.
pub(crate) fn differed_line(
    decision: DecisionId,
    (verdict, rule): (Verdict, Option<&RuleId>),
    (candidate, candidate_rule): (Verdict, Option<&RuleId>),
) -> String {
    let by = |rule: Option<&RuleId>| rule.map_or_else(|| "no rule".to_owned(), RuleId::to_string);
    format!(
        "{decision} {verdict} by {}; the candidate: {candidate} by {}",
        by(rule),
        by(candidate_rule)
    )
}
