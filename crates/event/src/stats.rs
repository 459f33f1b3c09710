//! What many sessions came to: a fold over the events of one, small enough to be kept for each, and sums of
//! them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stockade_types::{Answerer, ApprovalId, DecisionId, DecisionRecord, RawText, Verdict};

use crate::{envelope::Envelope, event::Event, summary::Traffic, text::safe, usage::Usage};

/// How many rules, targets, hosts, tools, models and answers of one session are listed one by one, of
/// each; a session can name any number. What is beyond is counted under [`OTHERS`].
const ENTRIES_MAX: usize = 64;
/// The name of what is beyond. No name of a record has brackets and stands for itself alone.
pub const OTHERS: &str = "(others)";
/// Characters of a name.
const NAME_CHARS_MAX: usize = 120;
/// Times that persons took to answer, of one session; more are not part of the median.
const ANSWERS_MAX: usize = 512;
/// Questions, refusals and tool calls of which later events may tell; the oldest are forgotten.
const OPEN_MAX: usize = 512;

/// What sessions came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Sessions.
    pub sessions: u64,
    /// From start to end, of those that have ended, in milliseconds.
    pub duration_ms: u64,
    /// Commands that the agents started.
    pub commands: u64,
    /// Prompts from which something could come.
    pub prompts: u64,
    /// Questions.
    pub asked: u64,
    /// How they were settled: `allowed once`, `denied`, or the circumstance.
    pub answers: BTreeMap<String, u64>,
    /// How long persons took to answer, in milliseconds.
    pub answer_ms: Vec<u64>,
    /// Refusals, repeats included.
    pub refused: u64,
    /// Refusals by rule.
    pub rules: BTreeMap<String, u64>,
    /// Refusals by what was refused.
    pub targets: BTreeMap<String, u64>,
    /// Traffic by host and port.
    pub hosts: BTreeMap<String, Traffic>,
    /// Tool calls by tool, as the agents say.
    pub tools: BTreeMap<String, ToolUse>,
    /// Calls of models by model, as their services say.
    pub models: BTreeMap<String, ModelUse>,
    /// What the sessions used, as far as it is in the record.
    pub usage: Usage,
    /// What the supervisors and egress processes used, of those sessions whose record says it.
    pub own_usage: Usage,
    /// How many sessions say that.
    pub own_known: u64,
    /// Events that could not be recorded.
    pub events_lost: u64,
    /// What later events of a session that has not ended may tell of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<Box<Open>>,
}

/// What later events may tell of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Open {
    /// When each open question was asked.
    asked: BTreeMap<ApprovalId, u64>,
    /// Rule and target of the last refusals.
    refusals: Vec<(DecisionId, String, String)>,
    /// Tools of the last calls.
    calls: BTreeMap<u64, String>,
    /// What the session used as of the last sample.
    usage: Usage,
}

/// The calls of one tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolUse {
    /// Calls.
    pub calls: u64,
    /// Commands of them that ended with another exit code than 0, or by a signal.
    pub failed: u64,
    /// Refusals of what they wanted to do.
    pub refused: u64,
}

/// The calls of one model. Tokens are those that its service has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelUse {
    /// Calls.
    pub calls: u64,
    /// Those of them whose answer was an error.
    pub failed: u64,
    /// Those of them of which no tokens were said.
    pub unsaid: u64,
    /// Tokens that were read, those from and into a cache too.
    pub input: u64,
    /// Those of them that came from a cache.
    pub cached: u64,
    /// Those of them that were put into a cache.
    pub cache_written: u64,
    /// Tokens that were made.
    pub output: u64,
}

impl Stats {
    /// Adds the next event of a session.
    pub fn add(&mut self, envelope: &Envelope) {
        let event = &envelope.event;
        if let Event::RefusalRepeated { decision, count } = event {
            self.refused_again(*decision, *count);
        } else if let Event::ConnectionClosed { .. } = event {
            self.closed(event);
        } else if let Event::ScopeEnded { code, signal, .. } = event {
            let failed = signal.is_some() || code.is_some_and(|code| code != 0);
            self.count_tool(envelope, |tool| tool.failed += u64::from(failed));
            self.commands += 1;
        } else if let Event::ToolCalled { name, .. } = event {
            self.called_tool(envelope.seq, &name.display());
        } else if let Event::PromptSubmitted { aside: false, .. } = event {
            self.prompts += 1;
        } else if let Event::ModelCalled { .. } = event {
            self.called_model(event);
        } else if let Event::ResourcesSampled { usage, .. } = event {
            self.open().usage = *usage;
        } else if let Event::EventsLost { count, .. } = event {
            self.events_lost = self.events_lost.saturating_add(*count);
        } else if let Event::ApprovalRequested { approval, .. } = event {
            self.asked += 1;
            let open = &mut self.open().asked;
            if open.len() < OPEN_MAX {
                open.insert(approval.clone(), envelope.time_unix_ns);
            }
        } else if let Event::ApprovalDecided { .. } = event {
            self.answered(envelope);
        } else if let Event::SessionStarted { .. } = event {
            self.sessions += 1;
        } else if let Event::SessionEnded { .. } = event {
            self.ended(event);
        } else if let Some(decision) = event.decision()
            && decision.verdict == Verdict::Deny
        {
            self.count_tool(envelope, |tool| tool.refused += 1);
            self.denied(decision);
        }
    }

    fn open(&mut self) -> &mut Open {
        self.open.get_or_insert_default()
    }

    fn ended(&mut self, event: &Event) {
        if let Event::SessionEnded {
            duration_ms,
            own_usage,
            ..
        } = event
        {
            self.duration_ms = self.duration_ms.saturating_add(*duration_ms);
            if let Some(own) = own_usage {
                self.own_usage.add(own);
                self.own_known += 1;
            }
        }
        if let Some(open) = self.open.take() {
            self.usage.add(&open.usage);
        }
    }

    fn answered(&mut self, envelope: &Envelope) {
        let Event::ApprovalDecided {
            approval,
            verdict,
            scope,
            by,
            ..
        } = &envelope.event
        else {
            return;
        };
        let asked = self.open().asked.remove(approval);
        let how = match by {
            Answerer::Person(_) | Answerer::People(_) if *verdict == Verdict::Allow => {
                // Of a time it is known that it is one.
                let reach = scope.as_deref().unwrap_or("once").split(':').next();
                format!("allowed {}", safe(reach.unwrap_or_default()))
            }
            Answerer::Person(_) | Answerer::People(_) => "denied".to_owned(),
            Answerer::Approval(_) => "settled by another answer".to_owned(),
            Answerer::Rule(_) => "settled by a rule".to_owned(),
            Answerer::Circumstance(circumstance) => circumstance.as_str().to_owned(),
        };
        *entry(&mut self.answers, how) += 1;
        if let (Answerer::Person(_) | Answerer::People(_), Some(asked)) = (by, asked)
            && self.answer_ms.len() < ANSWERS_MAX
        {
            self.answer_ms
                .push(envelope.time_unix_ns.saturating_sub(asked) / 1_000_000);
        }
    }

    fn denied(&mut self, decision: &DecisionRecord) {
        let rule = decision.rule.as_ref().map(|rule| rule.as_str().to_owned());
        let rule = rule.unwrap_or_else(|| "no rule allows it".to_owned());
        let target = name(&safe(&decision.target.summary()));
        let open = self.open();
        if open.refusals.len() >= OPEN_MAX {
            open.refusals.remove(0);
        }
        (open.refusals).push((decision.decision, rule.clone(), target.clone()));
        self.count_refusals(rule, target, 1);
    }

    fn refused_again(&mut self, decision: DecisionId, count: u64) {
        let mut refusals = self.open().refusals.iter().rev();
        let known = refusals.find(|(known, _, _)| *known == decision).cloned();
        let (rule, target) = known.map_or_else(
            || (OTHERS.to_owned(), OTHERS.to_owned()),
            |(_, rule, target)| (rule, target),
        );
        self.count_refusals(rule, target, count);
    }

    fn count_refusals(&mut self, rule: String, target: String, count: u64) {
        self.refused = self.refused.saturating_add(count);
        for (map, key) in [(&mut self.rules, rule), (&mut self.targets, target)] {
            let known = entry(map, key);
            *known = known.saturating_add(count);
        }
    }

    fn closed(&mut self, event: &Event) {
        if let Event::ConnectionClosed {
            host,
            port,
            bytes_out,
            bytes_in,
            failed,
            ..
        } = event
        {
            let host = if host.contains(':') {
                format!("[{}]:{port}", safe(host))
            } else {
                format!("{}:{port}", safe(host))
            };
            entry(&mut self.hosts, host).add(Traffic {
                connections: u64::from(failed.is_none()),
                failed: u64::from(failed.is_some()),
                bytes_out: *bytes_out,
                bytes_in: *bytes_in,
            });
        }
    }

    fn called_tool(&mut self, seq: u64, tool: &str) {
        let tool = name(tool);
        let calls = &mut self.open().calls;
        if calls.len() >= OPEN_MAX {
            calls.pop_first();
        }
        calls.insert(seq, tool.clone());
        entry(&mut self.tools, tool).calls += 1;
    }

    /// Counts something for the tool whose call an event came of.
    fn count_tool(&mut self, envelope: &Envelope, add: impl FnOnce(&mut ToolUse)) {
        let call = envelope.cause.and_then(|cause| cause.call);
        let open = self.open.as_ref();
        let tool = call.and_then(|call| open?.calls.get(&call).cloned());
        if let Some(tool) = tool {
            add(entry(&mut self.tools, tool));
        }
    }

    fn called_model(&mut self, event: &Event) {
        let Event::ModelCalled {
            provider,
            model,
            model_asked,
            usage,
            error,
            ..
        } = event
        else {
            return;
        };
        let said = model.as_ref().or(model_asked.as_ref());
        let model = said.map_or_else(|| format!("a model of {provider}"), RawText::display);
        let is_unsaid = usage.input.is_none() && usage.output.is_none();
        entry(&mut self.models, name(&model)).add(ModelUse {
            calls: 1,
            failed: u64::from(error.is_some()),
            unsaid: u64::from(is_unsaid),
            input: usage.input.unwrap_or(0),
            cached: usage.cached.unwrap_or(0),
            cache_written: usage.cache_written.unwrap_or(0),
            output: usage.output.unwrap_or(0),
        });
    }

    /// Adds what other sessions came to.
    pub fn merge(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.duration_ms = self.duration_ms.saturating_add(other.duration_ms);
        self.commands += other.commands;
        self.prompts += other.prompts;
        self.asked += other.asked;
        self.refused = self.refused.saturating_add(other.refused);
        self.events_lost = self.events_lost.saturating_add(other.events_lost);
        self.own_known += other.own_known;
        self.answer_ms.extend(&other.answer_ms);
        self.usage.add(&other.usage);
        self.own_usage.add(&other.own_usage);
        if let Some(open) = &other.open {
            self.usage.add(&open.usage);
        }
        for (mine, others) in [
            (&mut self.answers, &other.answers),
            (&mut self.rules, &other.rules),
            (&mut self.targets, &other.targets),
        ] {
            for (name, count) in others {
                let known = mine.entry(name.clone()).or_default();
                *known = known.saturating_add(*count);
            }
        }
        for (name, more) in &other.hosts {
            self.hosts.entry(name.clone()).or_default().add(*more);
        }
        for (name, more) in &other.models {
            self.models.entry(name.clone()).or_default().add(*more);
        }
        for (name, more) in &other.tools {
            let tool = self.tools.entry(name.clone()).or_default();
            tool.calls += more.calls;
            tool.failed += more.failed;
            tool.refused += more.refused;
        }
    }

    /// Returns the median of the times that persons took to answer, in milliseconds: of an even number the
    /// lower of the two in the middle.
    pub fn median_answer_ms(&self) -> Option<u64> {
        let mut sorted = self.answer_ms.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().checked_sub(1)? / 2).copied()
    }
}

impl ModelUse {
    fn add(&mut self, other: Self) {
        for (mine, more) in [
            (&mut self.calls, other.calls),
            (&mut self.failed, other.failed),
            (&mut self.unsaid, other.unsaid),
            (&mut self.input, other.input),
            (&mut self.cached, other.cached),
            (&mut self.cache_written, other.cache_written),
            (&mut self.output, other.output),
        ] {
            *mine = mine.saturating_add(more);
        }
    }
}

/// Returns what is known under a name, or of the others if there are too many.
fn entry<V: Default>(map: &mut BTreeMap<String, V>, key: String) -> &mut V {
    let is_full = map.len() >= ENTRIES_MAX && !map.contains_key(&key);
    let key = if is_full { OTHERS.to_owned() } else { key };
    map.entry(key).or_default()
}

fn name(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}
