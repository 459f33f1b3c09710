//! Counts how the effects of a session were joined.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use stockade_testkit::{ToolResult, events::Event};

use crate::script::{AGAIN_COMMAND, SUB_AGENT, mark, marks};

/// Kinds of effects, in the order of the table.
pub(crate) const KINDS: [&str; 4] = [
    "processes",
    "file changes",
    "connections",
    "refusals and questions",
];

/// What came of effects of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    /// They carry the mark of a call.
    pub(crate) labelled: usize,
    pub(crate) right: usize,
    pub(crate) right_exact: usize,
    pub(crate) wrong: usize,
    pub(crate) wrong_exact: usize,
    /// They name no call.
    pub(crate) missed: usize,
}

impl Count {
    pub(crate) fn add(&mut self, other: &Self) {
        self.labelled += other.labelled;
        self.right += other.right;
        self.right_exact += other.right_exact;
        self.wrong += other.wrong;
        self.wrong_exact += other.wrong_exact;
        self.missed += other.missed;
    }
}

/// What came of a session.
#[derive(Debug, Default)]
pub(crate) struct Score {
    pub(crate) counts: [Count; KINDS.len()],
    /// Calls of the script, and those of them that are in the record.
    pub(crate) calls: (usize, usize),
    /// Calls of sub-agents, and those of them that name the call which started the sub-agent; with them
    /// the calls of the agent itself that name one.
    pub(crate) of_sub_agents: (usize, usize, usize),
    /// Connections to the model, which are no call's; and those that name one.
    pub(crate) own: (usize, usize),
    /// Effects without a mark that name a call, and that name none.
    pub(crate) unmarked: (usize, usize),
    /// What went wrong, for whoever looks.
    pub(crate) faults: Vec<String>,
}

/// Which call each mark is of.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    calls: BTreeMap<String, String>,
    /// Of the two calls that name one file: the one that reads it, which changes nothing. The other
    /// one executes nothing.
    reads: BTreeMap<String, String>,
}

impl Labels {
    fn of(&self, mark: &str, kind: usize) -> Option<&String> {
        let read = self.reads.get(mark).filter(|_| kind == 0);
        read.or_else(|| self.calls.get(mark))
    }
}

/// Returns which call each mark is of.
pub(crate) fn labels(results: &[ToolResult]) -> Labels {
    let mut labels = Labels::default();
    let mut again = 0;
    for result in results {
        if result.command == AGAIN_COMMAND {
            labels
                .calls
                .insert(mark(900 + again), result.call_id.clone());
            again += 1;
        }
        for mark in marks(&result.command) {
            let before = labels.calls.insert(mark.clone(), result.call_id.clone());
            if let Some(read) = before {
                labels.reads.insert(mark, read);
            }
        }
    }
    labels
}

fn number(event: &Event, path: &[&str]) -> Option<u64> {
    let value = path
        .iter()
        .try_fold(&event.json, |value, name| value.get(name));
    value.and_then(Value::as_u64)
}

/// Returns the place of an effect among [`KINDS`]; `None` for what is no effect.
fn kind(event: &Event) -> Option<usize> {
    let is_plain = event.verdict() == "allow" || event.verdict().is_empty();
    match event.kind() {
        "process.started" => Some(0),
        "exec.decided" if is_plain => Some(0),
        "file.changed" => Some(1),
        "connection.decided" | "http.decided" | "name.decided" if is_plain => Some(2),
        "connection.closed" | "connection.failed" => Some(2),
        "exec.decided" | "file.denied" | "connection.decided" | "http.decided" | "name.decided"
        | "call.refused" | "approval.requested" | "approval.decided" | "approval.used" => Some(3),
        _ => None,
    }
}

/// Returns what of an event its mark can stand in: not what was said, and not who did it.
fn marked(event: &Event) -> Vec<String> {
    let mut own = event.json.clone();
    if let Some(fields) = own.as_object_mut() {
        for other in ["by", "process", "parent", "actors", "cause"] {
            fields.remove(other);
        }
    }
    marks(&own.to_string())
}

/// Returns the marks of who did it, for effects without one: of the processes that it came of, as the
/// kernel knows them.
fn inherited(event: &Event) -> Vec<String> {
    let process = event.json.get("process").or_else(|| event.json.get("by"));
    process.map_or_else(Vec::new, |process| marks(&process.to_string()))
}

impl Score {
    /// Adds up all kinds; what is the agent's own and names a call is wrong.
    pub(crate) fn all(&self) -> Count {
        let mut sum = Count::default();
        self.counts.iter().for_each(|count| sum.add(count));
        sum.wrong += self.own.1;
        sum
    }

    /// Counts which calls of sub-agents name the call that started it.
    fn sub_agents(&mut self, events: &[Event], results: &[ToolResult]) {
        let of_kind = |kind: &'static str| events.iter().filter(move |event| event.kind() == kind);
        let started: BTreeSet<u64> = of_kind("agent.started")
            .filter_map(|event| number(event, &["call"]))
            .collect();
        let starts = |call: &Event| {
            let id = call.field("id");
            let result = results.iter().find(|result| result.call_id == id);
            result.is_some_and(|result| marks(&result.command).contains(&mark(SUB_AGENT)))
        };
        let right: BTreeSet<u64> = of_kind("tool.called")
            .filter(|call| starts(call))
            .filter_map(|call| number(call, &["seq"]))
            .filter(|seq| started.contains(seq))
            .collect();
        for call in of_kind("tool.called") {
            let named = number(call, &["cause", "call"]);
            if call.field("id").starts_with("sub-") {
                self.of_sub_agents.0 += 1;
                let is_right = named.is_some_and(|named| right.contains(&named));
                self.of_sub_agents.1 += usize::from(is_right);
            } else {
                self.of_sub_agents.2 += usize::from(named.is_some());
            }
        }
    }
}

/// Counts the effects of a session; `model` is the host of its model.
pub(crate) fn score(events: &[Event], results: &[ToolResult], model: &str) -> Score {
    let labels = labels(results);
    let mut score = Score::default();
    let mut ids = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind() == "tool.called") {
        if let Some(seq) = number(event, &["seq"]) {
            ids.insert(seq, event.field("id").to_owned());
        }
    }
    let recorded: BTreeSet<&String> = ids.values().collect();
    let is_recorded = |result: &&ToolResult| recorded.contains(&result.call_id);
    score.calls = (results.len(), results.iter().filter(is_recorded).count());
    score.sub_agents(events, results);
    for event in events {
        let Some(kind) = kind(event) else { continue };
        let named = number(event, &["cause", "call"]).and_then(|seq| ids.get(&seq));
        let is_exact = event.json.pointer("/cause/certainty") == Some(&"exact".into());
        if kind == 2 && event.targets(model) {
            score.own.0 += 1;
            if named.is_some() {
                score.own.1 += 1;
                score
                    .faults
                    .push(format!("the agent's own, for {named:?}: {}", line(event)));
            }
            continue;
        }
        let mut marks = marked(event);
        if marks.is_empty() {
            marks = inherited(event);
        }
        let wanted: BTreeSet<&String> = marks
            .iter()
            .filter_map(|mark| labels.of(mark, kind))
            .collect();
        let mut wanted = wanted.into_iter();
        let (Some(wanted), None) = (wanted.next(), wanted.next()) else {
            if named.is_some() {
                score.unmarked.0 += 1;
            } else {
                score.unmarked.1 += 1;
            }
            continue;
        };
        let Some(count) = score.counts.get_mut(kind) else {
            continue;
        };
        count.labelled += 1;
        match named {
            Some(named) if named == wanted => {
                count.right += 1;
                count.right_exact += usize::from(is_exact);
            }
            Some(named) => {
                count.wrong += 1;
                count.wrong_exact += usize::from(is_exact);
                let text = format!("of {wanted}, for {named}: {}", line(event));
                score.faults.push(text);
            }
            None => {
                count.missed += 1;
                score
                    .faults
                    .push(format!("of {wanted}, for none: {}", line(event)));
            }
        }
    }
    score
}

fn line(event: &Event) -> String {
    let text = event.json.to_string();
    text.chars().take(900).collect()
}
