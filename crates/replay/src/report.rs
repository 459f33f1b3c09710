//! What came of a replay, in groups of bounded number.

use std::collections::BTreeMap;

use serde::Serialize;
use stockade_types::{RequestKind, RuleId, SessionId, Verdict};

use crate::Missing;

/// Most groups that name their target; further targets of the same rules are one group.
const TARGETS_MAX: usize = 2_000;
/// Most groups; what is beyond them is counted in one group for each outcome and kind.
const GROUPS_MAX: usize = 3_000;
/// Examples of one group.
const EXAMPLES_MAX: usize = 3;
/// Characters of a target, in a group and in an example.
const TEXT_MAX: usize = 200;

/// What another policy would make of requests.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// They would be denied, and were not.
    NewlyDenied,
    /// They would be asked about, and were not.
    NewlyAsked,
    /// They would be allowed, and were not.
    NewlyAllowed,
    /// They would be judged as they were.
    Unchanged,
}

impl Outcome {
    /// Compares two verdicts.
    pub fn of(recorded: Verdict, proposed: Verdict) -> Self {
        match proposed {
            _ if recorded == proposed => Self::Unchanged,
            Verdict::Deny => Self::NewlyDenied,
            Verdict::Ask => Self::NewlyAsked,
            Verdict::Allow => Self::NewlyAllowed,
        }
    }

    /// Returns the heading of such groups.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::NewlyDenied => "newly denied",
            Self::NewlyAsked => "newly asked",
            Self::NewlyAllowed => "newly allowed",
            Self::Unchanged => "unchanged",
        }
    }
}

/// One request of a group.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The session.
    pub session: SessionId,
    /// Number of the event in it.
    pub seq: u64,
    /// The request, in one line.
    pub request: String,
}

/// Requests of one kind that the same rules judge.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What would become of them.
    pub outcome: Outcome,
    /// The kind of request.
    pub kind: RequestKind,
    /// The recorded verdict, before people answered.
    pub recorded: Verdict,
    /// The verdict of the proposed policy.
    pub proposed: Verdict,
    /// The rule that decided then.
    pub recorded_rule: Option<RuleId>,
    /// The rule that would decide.
    pub proposed_rule: Option<RuleId>,
    /// What they were about; `None` for all further targets.
    pub target: Option<String>,
    /// What the record lacks; without it the verdict is exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inexact: Option<Missing>,
    /// How many there were.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<Example>,
}

/// What came of a replay.
#[derive(Serialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Sessions that were read.
    pub sessions: u64,
    /// Events that were read.
    pub events: u64,
    /// Decisions that were judged again.
    pub decisions: u64,
    /// Those of them whose verdict is exact.
    pub exact: u64,
    /// Decisions that no rule makes, or whose request cannot be made again.
    pub not_judged: u64,
    /// How many decisions have each outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// The decisions in groups: by outcome, the most frequent first.
    pub groups: Vec<Group>,
}

/// What tells groups apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    outcome: Outcome,
    kind: &'static str,
    verdicts: (Verdict, Verdict),
    rules: (Option<String>, Option<String>),
    target: Option<String>,
    inexact: Option<Missing>,
}

/// One decision that was judged again.
#[derive(Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) kind: RequestKind,
    pub(crate) recorded: Verdict,
    pub(crate) proposed: Verdict,
    pub(crate) recorded_rule: Option<&'a RuleId>,
    pub(crate) proposed_rule: Option<&'a RuleId>,
    /// What the group is about.
    pub(crate) target: String,
    /// The request in one line.
    pub(crate) line: String,
    pub(crate) inexact: Option<Missing>,
    pub(crate) count: u64,
    pub(crate) session: &'a SessionId,
    pub(crate) seq: u64,
}

/// The groups so far.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    all: BTreeMap<Key, Group>,
    pub(crate) totals: Report,
}

impl Groups {
    pub(crate) fn add(&mut self, judged: &Judged<'_>) {
        let outcome = Outcome::of(judged.recorded, judged.proposed);
        self.totals.decisions += judged.count;
        if judged.inexact.is_none() {
            self.totals.exact += judged.count;
        }
        let word = outcome.in_words();
        *self.totals.outcomes.entry(word).or_default() += judged.count;
        let name = |rule: Option<&RuleId>| rule.map(ToString::to_string);
        let mut key = Key {
            outcome,
            kind: judged.kind.as_str(),
            verdicts: (judged.recorded, judged.proposed),
            rules: (name(judged.recorded_rule), name(judged.proposed_rule)),
            target: Some(cut(&judged.target)),
            inexact: judged.inexact,
        };
        if self.all.len() >= TARGETS_MAX && !self.all.contains_key(&key) {
            key.target = None;
        }
        if self.all.len() >= GROUPS_MAX && !self.all.contains_key(&key) {
            key.rules = (None, None);
        }
        let group = self.all.entry(key).or_insert_with_key(|key| {
            let is_named = key.rules != (None, None);
            Group {
                outcome,
                kind: judged.kind,
                recorded: judged.recorded,
                proposed: judged.proposed,
                recorded_rule: judged.recorded_rule.filter(|_| is_named).cloned(),
                proposed_rule: judged.proposed_rule.filter(|_| is_named).cloned(),
                target: key.target.clone(),
                inexact: judged.inexact,
                count: 0,
                examples: Vec::new(),
            }
        });
        group.count += judged.count;
        if group.examples.len() < EXAMPLES_MAX {
            group.examples.push(Example {
                session: judged.session.clone(),
                seq: judged.seq,
                request: cut(&judged.line),
            });
        }
    }

    /// Makes the report of what was added so far.
    pub(crate) fn report(&self) -> Report {
        let mut groups: Vec<Group> = self.all.values().cloned().collect();
        groups.sort_by(|a, b| {
            let order = a.outcome.cmp(&b.outcome);
            order.then_with(|| b.count.cmp(&a.count))
        });
        Report {
            groups,
            ..self.totals.clone()
        }
    }
}

/// Cuts a text that a program chose.
fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
