//! `/run/stockade/why`: prints the last refusal of this session, from inside.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
};

use stockade_runner::News;
use stockade_types::{DecisionRecord, UnixMillis, ignored};

use crate::{
    human::{safe, wrapped},
    output::columns,
};

/// The session's denials, inside.
const DENIALS: &str = "/run/stockade/denials.jsonl";

/// The session's open questions and news, inside.
const NEWS: &str = "/run/stockade/news.json";

/// Prints the last denial in words; exit code 1 if there is none.
pub(crate) fn main() -> u8 {
    let mut out = std::io::stdout().lock();
    let Ok(file) = File::open(DENIALS) else {
        ignored(
            writeln!(
                out,
                "{DENIALS} cannot be read; this is not inside a Stockade session"
            ),
            "a closed output needs no lines",
        );
        return 3;
    };
    let mut lines = BufReader::new(file).lines().map_while(Result::ok);
    let Some(first) = lines.next() else {
        let nothing = "no refusal is recorded in this session".to_owned();
        for line in news(None).into_iter().chain([nothing, UNSEEN.to_owned()]) {
            ignored(
                writeln!(out, "{}", fitted(&line)),
                "a closed output needs no lines",
            );
        }
        return 1;
    };
    let (last, earlier) = lines.fold((first, 0_u64), |(_, earlier), line| (line, earlier + 1));
    let decision = serde_json::from_str::<DecisionRecord>(&last).ok();
    for line in news(decision.as_ref().map(|decision| decision.time)) {
        ignored(
            writeln!(out, "{}", fitted(&line)),
            "a closed output needs no lines",
        );
    }
    let text = decision.as_ref().map_or_else(|| safe(&last), render);
    for line in text.lines() {
        ignored(
            writeln!(out, "{}", fitted(line)),
            "a closed output needs no lines",
        );
    }
    if earlier > 0 {
        ignored(
            writeln!(out, "earlier {earlier}, all in {DENIALS}"),
            "a closed output needs no lines",
        );
    }
    0
}

/// Columns of the word at the beginning of a line.
const LABEL: usize = 8;

/// Breaks a line for the terminal, aligned after its first word; unchanged if it has none.
fn fitted(line: &str) -> String {
    match line.split_at_checked(LABEL) {
        Some((label, rest)) if label.ends_with(' ') => {
            format!("{label}{}", wrapped(rest, LABEL, columns()))
        }
        Some(_) | None => wrapped(line, 0, columns()),
    }
}

/// Refusals by the kernel alone, which the boundary does not report.
const UNSEEN: &str = "not seen here: files that do not exist inside (hidden, or outside the view), files \
    that cannot be read, system directories (read-only), calls that the kernel seems not to have (ENOSYS), \
    and unknown requests of ioctl, fcntl and prctl; /run/stockade/boundary.md says what is here";

/// Why ssh fails although the boundary permitted it.
const SSH_FAILS: &str = "\
\"Permission denied\" is a login without a key (those that `ssh-add -L` lists are the only ones of the owner's), \
\"Host key verification failed\" a host that is not in the owner's known_hosts";

/// Returns the open questions, and the hosts that could not be reached since the last refusal.
fn news(refused: Option<UnixMillis>) -> Vec<String> {
    let Some(news) = fs::read(NEWS)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<News>(&bytes).ok())
    else {
        return Vec::new();
    };
    let open = news.open.iter().map(|open| {
        let effect = safe(&open.effect);
        format!("waiting {effect} ({}): the owner is asked", open.approval)
    });
    let last = news
        .unreached
        .back()
        .filter(|last| refused.is_none_or(|refused| last.time >= refused));
    let unreached = last.map(|last| {
        format!(
            "network {} was not reached: {}; the boundary allowed it",
            safe(&last.target),
            safe(&last.outcome)
        )
    });
    let ssh = news
        .ssh
        .as_ref()
        .filter(|last| refused.is_none_or(|refused| last.time >= refused));
    let ssh = ssh.map(|last| {
        format!(
            "ssh {} was allowed; if it fails: {SSH_FAILS}",
            safe(&last.target)
        )
    });
    open.chain(unreached).chain(ssh).collect()
}

fn render(decision: &DecisionRecord) -> String {
    let mut lines = vec![
        format!("{} was refused ({})", decision.effect(), decision.decision),
        match &decision.rule {
            Some(rule) => format!("rule    {rule}"),
            None => "rule    no rule allows it".to_owned(),
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
