//! A session in numbers and short lists: one fold over its events, used for the end of a run, for
//! `show` and for `sessions`.

mod claims;
mod models;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stockade_types::{
    Access, ApprovalId, DecisionId, DecisionRecord, RawText, RequestKind, RuleId, SessionId,
    Target, Verdict,
};

use crate::{
    envelope::Envelope,
    event::Event,
    text::limit_text,
    totals::{Counts, PolicyUse, SessionOutcome},
    usage::Usage,
};

pub use claims::ClaimCounts;
pub use models::{HostedUse, ModelCalls};

/// How many different paths, hosts, refusals and open asks are listed one by one; the totals count
/// all. A person reads tens; ten thousand keep the summary of a hostile session below a few MiB.
const ENTRIES_MAX: usize = 10_000;
/// How many different refusals are listed one by one; each new one is compared with all of them.
const REFUSED_MAX: usize = 256;

/// The traffic to one host and port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Connections that were made and ended.
    pub connections: u64,
    /// Connections that were allowed but could not be made.
    #[serde(default)]
    pub failed: u64,
    /// Bytes from the session to the host.
    pub bytes_out: u64,
    /// Bytes from the host to the session.
    pub bytes_in: u64,
}

/// A refusal, with the number of times it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What sort of effect.
    pub kind: RequestKind,
    /// Its target, for one line of a terminal; hostile bytes are escaped.
    pub target: String,
    /// The same as it was decided, without what shows the process.
    #[serde(default)]
    pub at: Target,
    /// The rule that refused, or that asked.
    pub rule: Option<RuleId>,
    /// Why.
    pub reason: String,
    /// The one step that would change the answer.
    pub remedy: String,
    /// Who answered an ask with no, and why; `None` if a rule refused by itself.
    pub answered: Option<String>,
    /// How often.
    pub count: u64,
    /// The latest decision.
    pub decision: DecisionId,
}

/// A guarantee that does not hold in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weakness {
    /// Which guarantee.
    pub guarantee: String,
    /// What the machine lacks.
    pub missing: Option<String>,
    /// The reason given with `--waive`.
    pub waiver: Option<String>,
}

/// A session in numbers and short lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The session; `None` before the first event.
    pub session: Option<SessionId>,
    /// Name given with `--name`.
    pub name: Option<String>,
    /// The command and its arguments.
    pub command: Vec<RawText>,
    /// The workspace on the host.
    pub workspace: RawText,
    /// The tier in use.
    pub tier: String,
    /// The preset in use.
    pub preset: String,
    /// Start, nanoseconds since the epoch.
    pub started_unix_ns: Option<u64>,
    /// End, nanoseconds since the epoch.
    pub ended_unix_ns: Option<u64>,
    /// From start to end, in milliseconds.
    pub duration_ms: Option<u64>,
    /// How it ended; `None` while it runs and after the supervisor was killed.
    pub outcome: Option<SessionOutcome>,
    /// What it used, as of the last sample.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Guarantees that do not hold, or were waived.
    pub weaknesses: Vec<Weakness>,
    /// Events.
    pub events: u64,
    /// Programs that were permitted to run.
    pub processes: u64,
    /// Those of them whose execution was not verified.
    #[serde(default)]
    pub unconfirmed: u64,
    /// First-level commands that ran.
    pub commands: u64,
    /// Approvals that were requested.
    pub asked: u64,
    /// Approvals that were answered with yes.
    pub asks_allowed: u64,
    /// Approvals that were answered with no, or not in time.
    pub asks_denied: u64,
    /// Changes of files by path.
    pub changed_files: BTreeMap<RawText, u64>,
    /// Changes of files that are not listed by path.
    pub changed_files_more: u64,
    /// The listed files that did not exist before.
    #[serde(skip)]
    pub created_files: BTreeSet<RawText>,
    /// Traffic by `host:port`.
    pub connections: BTreeMap<String, Traffic>,
    /// Traffic that is not listed by host.
    pub connections_more: Traffic,
    /// The outcome of the last allowed connection that could not be made, by `host:port`.
    #[serde(default)]
    pub unreached: BTreeMap<String, String>,
    /// Prompts and tool calls.
    #[serde(default)]
    pub claims: ClaimCounts,
    /// Calls of models, by the model.
    #[serde(default)]
    pub models: BTreeMap<String, ModelCalls>,
    /// Calls of models that are not listed by model.
    #[serde(default)]
    pub models_more: ModelCalls,
    /// Tools that providers run, by the tool.
    #[serde(default)]
    pub hosted_tools: BTreeMap<String, HostedUse>,
    /// Ports of the session, by the ports of the machine's loopback that reached them.
    #[serde(default)]
    pub published: BTreeMap<u16, u16>,
    /// Refusals, in the order in which they first occurred.
    pub refused: Vec<Refusal>,
    /// The refusal that a decision belongs to.
    #[serde(skip)]
    pub refused_by: BTreeMap<DecisionId, usize>,
    /// Refusals that are not listed one by one.
    pub refused_more: u64,
    /// Refusals by quiet rules, which are only counted.
    #[serde(default)]
    pub quiet: Vec<Refusal>,
    /// The quiet rules.
    #[serde(default)]
    pub quiet_rules: BTreeSet<RuleId>,
    /// Limits that were hit, as one line each.
    pub limits: Vec<String>,
    /// Findings, as one line each.
    pub findings: Vec<String>,
    /// Events that could not be recorded.
    pub events_lost: u64,
    /// Asks without an answer yet.
    pub open_asks: BTreeMap<ApprovalId, DecisionRecord>,
    /// First-level commands that ran.
    pub scopes: BTreeSet<String>,
    /// What it came to under its policy.
    #[serde(default)]
    pub policy: PolicyUse,
}

/// Returns whether a path is git's own at the top of the workspace: `.git`, and everything below
/// it.
pub fn is_kept_by_git(path: &RawText, workspace: &RawText) -> bool {
    path.as_bytes()
        .strip_prefix(workspace.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"/.git"))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

impl Summary {
    /// Folds all of `envelopes`.
    pub fn of<'a>(envelopes: impl IntoIterator<Item = &'a Envelope>) -> Self {
        let mut summary = Self::default();
        envelopes
            .into_iter()
            .for_each(|envelope| summary.add(envelope));
        summary
    }

    /// Returns the number of refusals that are only counted.
    pub fn quiet_denials(&self) -> u64 {
        self.quiet.iter().map(|refusal| refusal.count).sum()
    }

    /// Returns the number of refusals, repeats included, except those that are only counted.
    pub fn denials(&self) -> u64 {
        self.refused
            .iter()
            .map(|refusal| refusal.count)
            .sum::<u64>()
            + self.refused_more
    }

    /// Returns the traffic to all hosts together.
    pub fn traffic(&self) -> Traffic {
        let mut all = self.connections_more;
        for one in self.connections.values() {
            all.add(*one);
        }
        all
    }

    /// Adds the next event.
    pub fn add(&mut self, envelope: &Envelope) {
        self.events += 1;
        self.session.get_or_insert_with(|| envelope.session.clone());
        self.started_unix_ns.get_or_insert(envelope.time_unix_ns);
        self.count_command(envelope);
        self.count(envelope);
        match &envelope.event {
            Event::RefusalRepeated { decision, count } => self.repeated(*decision, *count),
            Event::FileChanged { path, access, .. } => self.changed(path, *access),
            Event::ConnectionClosed { .. } => self.closed(&envelope.event),
            Event::PortPublished { port, outside, .. } => {
                self.published.insert(*outside, *port);
            }
            Event::PolicyLoaded { .. } | Event::PolicyCompared { .. } => {
                self.governed(&envelope.event);
            }
            Event::ModelCalled { .. } => self.called(&envelope.event),
            Event::PromptSubmitted { .. } | Event::ToolCalled { .. } | Event::ScopeBound { .. } => {
                self.claimed(&envelope.event);
            }
            Event::LimitReached {
                limit,
                configured,
                usage,
                detail,
            } => {
                let line = limit_text(*limit, *configured, *usage, detail);
                push_bounded(&mut self.limits, line);
            }
            Event::ResourcesSampled { usage, .. } => self.usage = Some(*usage),
            Event::FindingRaised {
                severity,
                title,
                detail,
                ..
            } => push_bounded(&mut self.findings, format!("{severity}: {title}: {detail}")),
            Event::SessionStarted { .. }
            | Event::SessionEnded { .. }
            | Event::GuaranteeStated { .. } => self.lived(envelope),
            Event::ExecDecided { .. }
            | Event::FileDenied { .. }
            | Event::CallRefused { .. }
            | Event::CredentialRefused { .. }
            | Event::NameDecided { .. }
            | Event::ConnectionDecided { .. }
            | Event::HttpDecided { .. }
            | Event::ToolDecided { .. }
            | Event::ApprovalRequested { .. }
            | Event::ApprovalDecided { .. } => self.judged(&envelope.event),
            // The timeline shows these, or they are only counted.
            Event::ApprovalUsed { .. }
            | Event::PolicyDiffered { .. }
            | Event::PolicyTightened { .. }
            | Event::ApprovalReviewed { .. }
            | Event::CredentialUsed { .. }
            | Event::LoginRenewed { .. }
            | Event::OperatorActed { .. }
            | Event::SecretSent { .. }
            | Event::ProcessStarted { .. }
            | Event::ProcessEnded { .. }
            | Event::ScopeEnded { .. }
            | Event::ExecUnconfirmed { .. }
            | Event::ToolReturned { .. }
            | Event::PlanChanged { .. }
            | Event::ToolsPinned { .. }
            | Event::AgentStarted { .. }
            | Event::AgentEnded { .. }
            | Event::ClaimRepeated { .. }
            | Event::TerminalRecorded { .. }
            | Event::EventsLost { .. } => {}
        }
    }

    /// Adds what is said of the policy.
    fn governed(&mut self, event: &Event) {
        if let Event::PolicyLoaded { quiet, bundle, .. } = event {
            self.quiet_rules = quiet.iter().flatten().cloned().collect();
            self.policy.bundle.clone_from(bundle);
        } else if let Event::PolicyCompared { counts } = event {
            self.policy.shadow = *counts;
        }
    }

    /// Counts a command that ran; a refused one has a scope too.
    fn count_command(&mut self, envelope: &Envelope) {
        if let (Some(scope), Event::ProcessStarted { .. }) = (&envelope.scope, &envelope.event)
            && self.scopes.len() < ENTRIES_MAX
            && self.scopes.insert(scope.clone())
        {
            self.commands += 1;
        }
    }

    /// Adds what a connection passed.
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
            let one = Traffic {
                connections: u64::from(failed.is_none()),
                failed: u64::from(failed.is_some()),
                bytes_out: *bytes_out,
                bytes_in: *bytes_in,
            };
            self.connected(host, *port, one);
            self.note_unreached(host, *port, failed.as_deref());
        }
    }

    /// Adds the numbers that the end of the journal has too, by the same fold.
    fn count(&mut self, envelope: &Envelope) {
        self.policy.last_unix_ns = self.policy.last_unix_ns.max(envelope.time_unix_ns);
        let mut one = Counts::default();
        one.add(&envelope.event);
        self.processes = self.processes.saturating_add(one.processes);
        self.unconfirmed = self.unconfirmed.saturating_add(one.unconfirmed);
        self.policy.decisions = self.policy.decisions.saturating_add(one.decisions);
        self.policy.denied = self.policy.denied.saturating_add(one.denials);
        self.asked = self.asked.saturating_add(one.asks);
        self.events_lost = self.events_lost.saturating_add(one.events_lost);
    }

    /// Adds an event of the session's own life.
    fn lived(&mut self, envelope: &Envelope) {
        let event = &envelope.event;
        if let Event::SessionStarted {
            name,
            command,
            workspace,
            tier,
            preset,
            ..
        } = event
        {
            self.name.clone_from(name);
            self.command.clone_from(command);
            self.workspace.clone_from(workspace);
            tier.as_str().clone_into(&mut self.tier);
            self.preset.clone_from(preset);
        } else if let Event::SessionEnded {
            outcome,
            duration_ms,
            ..
        } = event
        {
            self.outcome = Some(outcome.clone());
            self.duration_ms = Some(*duration_ms);
            self.ended_unix_ns = Some(envelope.time_unix_ns);
        } else if let Event::GuaranteeStated {
            guarantee,
            holds,
            missing,
            waiver,
            ..
        } = event
            && (!holds || waiver.is_some())
        {
            self.weaknesses.push(Weakness {
                guarantee: guarantee.clone(),
                missing: missing.clone(),
                waiver: waiver.clone(),
            });
        }
    }

    /// Adds an event about a decision or an approval.
    fn judged(&mut self, event: &Event) {
        if let Event::ApprovalRequested {
            approval, decision, ..
        } = event
        {
            if self.open_asks.len() < ENTRIES_MAX {
                self.open_asks.insert(approval.clone(), decision.clone());
            }
        } else if let Event::ApprovalDecided {
            approval,
            verdict,
            by,
            reason,
            ..
        } = event
        {
            let asked = self.open_asks.remove(approval);
            if *verdict == Verdict::Allow {
                self.asks_allowed += 1;
                return;
            }
            self.asks_denied += 1;
            if let Some(decision) = asked {
                let answer = reason
                    .as_ref()
                    .map_or_else(|| by.to_string(), |reason| format!("{by}: {reason}"));
                self.refuse(&decision, Some(answer));
            }
        } else if let Event::ConnectionDecided {
            decision,
            address: None,
            detail,
            ..
        } = event
            && decision.verdict == Verdict::Allow
        {
            // It was allowed, but no address was found to dial.
            let one = Traffic {
                failed: 1,
                ..Traffic::default()
            };
            let target = &decision.target;
            let (host, port) = (target.host.as_deref(), target.port);
            let (host, port) = (host.unwrap_or_default(), port.unwrap_or_default());
            self.connected(host, port, one);
            self.note_unreached(host, port, detail.as_deref());
        } else if let Some(decision) = event.decision()
            && decision.verdict == Verdict::Deny
        {
            self.refuse(decision, unasked(decision));
        }
    }

    /// Adds one change. Git's own files below `.git` are not changes of the work, and neither is a
    /// file that was created and removed again.
    fn changed(&mut self, path: &RawText, access: Access) {
        if is_kept_by_git(path, &self.workspace) {
            return;
        }
        if access == Access::Remove && self.created_files.remove(path) {
            self.changed_files.remove(path);
            return;
        }
        if let Some(count) = self.changed_files.get_mut(path) {
            *count += 1;
        } else if self.changed_files.len() < ENTRIES_MAX {
            self.changed_files.insert(path.clone(), 1);
            if access == Access::Create {
                self.created_files.insert(path.clone());
            }
        } else {
            self.changed_files_more += 1;
        }
    }

    fn note_unreached(&mut self, host: &str, port: u16, outcome: Option<&str>) {
        let name = format!("{host}:{port}");
        if let Some(outcome) = outcome
            && (self.unreached.len() < ENTRIES_MAX || self.unreached.contains_key(&name))
        {
            self.unreached.insert(name, outcome.to_owned());
        }
    }

    fn connected(&mut self, host: &str, port: u16, one: Traffic) {
        let name = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        if self.connections.len() < ENTRIES_MAX || self.connections.contains_key(&name) {
            self.connections.entry(name).or_default().add(one);
        } else {
            self.connections_more.add(one);
        }
    }

    /// Adds refusals that were only counted.
    fn repeated(&mut self, decision: DecisionId, count: u64) {
        let mut quiet = self.quiet.iter_mut();
        if let Some(refusal) = quiet.find(|refusal| refusal.decision == decision) {
            refusal.count += count;
            return;
        }
        let place = self.refused_by.get(&decision).copied();
        match place.and_then(|place| self.refused.get_mut(place)) {
            Some(refusal) => refusal.count += count,
            None => self.refused_more += count,
        }
    }

    /// Counts a refusal by a quiet rule; returns whether it was one.
    fn refuse_quietly(&mut self, decision: &DecisionRecord) -> bool {
        let rule = decision.rule.as_ref();
        if !rule.is_some_and(|rule| self.quiet_rules.contains(rule)) {
            return false;
        }
        let target = RawText::from(decision.target.summary().as_str()).display();
        let full = self.quiet.len() >= REFUSED_MAX;
        let is_same =
            |known: &&mut Refusal| known.rule.as_ref() == rule && (known.target == target || full);
        match self.quiet.iter_mut().find(is_same) {
            Some(known) => {
                known.count += 1;
                known.decision = decision.decision;
            }
            None => self.quiet.push(Refusal {
                kind: decision.kind,
                target,
                at: decision.target.clone(),
                rule: decision.rule.clone(),
                reason: decision.reason.clone(),
                remedy: String::new(),
                answered: None,
                count: 1,
                decision: decision.decision,
            }),
        }
        true
    }

    fn refuse(&mut self, decision: &DecisionRecord, answered: Option<String>) {
        if answered.is_none() && self.refuse_quietly(decision) {
            return;
        }
        // Escapes plain text in the target too.
        let target = RawText::from(decision.target.summary().as_str()).display();
        let full = self.refused.len() >= REFUSED_MAX;
        let mut all = self.refused.iter();
        let place = all.position(|refusal| {
            refusal.kind == decision.kind
                && refusal.rule == decision.rule
                && refusal.target == target
        });
        if self.refused_by.len() < ENTRIES_MAX && (place.is_some() || !full) {
            let place = place.unwrap_or(self.refused.len());
            self.refused_by.insert(decision.decision, place);
        }
        match place.and_then(|place| self.refused.get_mut(place)) {
            // The refusal after an answer repeats the decision that asked.
            Some(known) if known.decision == decision.decision => {}
            Some(known) => {
                known.count += 1;
                known.decision = decision.decision;
                known.answered = answered.or_else(|| known.answered.take());
            }
            None if !full => self.refused.push(Refusal {
                kind: decision.kind,
                target,
                at: decision.target.clone(),
                rule: decision.rule.clone(),
                reason: decision.reason.clone(),
                remedy: decision.remedy.clone(),
                answered,
                count: 1,
                decision: decision.decision,
            }),
            None => self.refused_more += 1,
        }
    }
}

impl Traffic {
    /// Adds the traffic of others.
    pub(crate) fn add(&mut self, other: Self) {
        self.connections = self.connections.saturating_add(other.connections);
        self.failed = self.failed.saturating_add(other.failed);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
    }
}

/// Returns who refused to ask and why, if an ask was refused without a question; if there was one, its
/// answer was added before.
fn unasked(decision: &DecisionRecord) -> Option<String> {
    let by = decision.answered.as_ref()?;
    Some(format!("{by}: {}", decision.reason))
}

fn push_bounded(list: &mut Vec<String>, line: String) {
    if list.len() < ENTRIES_MAX {
        list.push(line);
    }
}
