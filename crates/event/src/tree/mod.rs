//! The events of a session by what they came of: prompt, tool call, processes, and what these did.
//!
//! Which processes belong to a command is what the kernel says. Which of them started which is found
//! by the command lines of their parents within the command, because the record has no event for a
//! process that runs no program of its own; of two parents with the same command line it is the later
//! one.

mod life;
mod node;
mod order;
pub mod said;
mod wanted;
pub mod words;

use std::collections::HashMap;

use serde::Serialize;
use stockade_types::{
    Access, ApprovalId, Certainty, DecisionId, DecisionRecord, ProcessId, RawText, Subject, Verdict,
};

use self::words::{answer, asked, changed, denied, first_level, noted, reach, steps, target};
pub use self::{
    life::{Life, Moment},
    node::{Node, Sort},
    wanted::{Wanted, folds},
};
use crate::{
    envelope::Envelope,
    event::Event,
    model::Listed,
    plan::PlanStepSeen,
    text::{cut, in_workspace, safe, words as joined},
};

/// Nodes that are kept: those of a session of some hours. What is beyond is counted.
const NODES_MAX: usize = 200_000;
/// Levels below the session. Deeper processes stand beside their parents.
const DEPTH_MAX: usize = 40;
/// Characters of the text of a node.
const TEXT_CHARS_MAX: usize = 500;
/// Characters of what explains one.
const DETAIL_CHARS_MAX: usize = 4_000;
/// Bytes of the texts of all nodes that are kept, so that a hostile session is held in bounded memory.
const BYTES_MAX: usize = 32 << 20;
/// Where the session itself is.
const ROOT: usize = 0;

/// A command of the agent.
#[derive(Clone, Debug, Default)]
struct Command {
    call: Option<usize>,
    /// What has no parent within the command.
    roots: Vec<usize>,
    /// Its first process.
    first: Option<usize>,
    /// The last process with a command line.
    lines: HashMap<String, usize>,
}

/// A session while it is read.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: Vec<Node>,
    /// Bytes of their texts.
    bytes: usize,
    more: u64,
    life: Life,
    turns: HashMap<u64, usize>,
    calls: HashMap<u64, usize>,
    commands: HashMap<String, Command>,
    processes: HashMap<ProcessId, usize>,
    /// Where equal leaves are.
    leaves: HashMap<(usize, Sort, String), usize>,
    decisions: HashMap<DecisionId, usize>,
    asks: HashMap<ApprovalId, usize>,
}

/// A session as it was read: parents before what came of them.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Grown {
    /// The session itself comes first.
    pub nodes: Vec<Node>,
    /// Nodes that were not kept.
    pub more: u64,
}

impl Tree {
    /// Adds the next event. One that is not wanted only says where others belong.
    pub fn add(&mut self, envelope: &Envelope, wanted: Wanted) {
        let before = self.nodes.len();
        let event = &envelope.event;
        if wanted == Wanted::ByKind && folds(event) {
            let text = format!("{}  {}", event.kind(), event.line());
            self.leaf(envelope, Node::new(Sort::Note, envelope, &text), wanted);
        }
        self.take(envelope, wanted);
        if wanted.is_wanted() {
            for node in self.nodes.get_mut(before..).into_iter().flatten() {
                node.wanted = true;
            }
        }
    }

    fn take(&mut self, envelope: &Envelope, wanted: Wanted) {
        let event = &envelope.event;
        let leaf = match event {
            Event::SessionStarted { .. }
            | Event::SessionEnded { .. }
            | Event::GuaranteeStated { .. }
            | Event::PolicyLoaded { .. } => return self.lived(envelope, wanted),
            Event::PromptSubmitted { .. } | Event::ToolCalled { .. } | Event::ScopeBound { .. } => {
                return self.claimed(envelope);
            }
            Event::ProcessStarted { process, .. } => return self.started(envelope, process),
            Event::ApprovalDecided { .. }
            | Event::ConnectionClosed { .. }
            | Event::RefusalRepeated { .. } => return self.ended(envelope, wanted),
            Event::ToolReturned { call, text, .. } => return self.returned(*call, text.bytes),
            Event::FileChanged { path, access, .. } => self.changed(envelope, path, *access),
            Event::ApprovalRequested { decision, .. } => question(envelope, decision),
            Event::ExecDecided { decision }
            | Event::FileDenied { decision }
            | Event::CallRefused { decision }
            | Event::CredentialRefused { decision }
            | Event::NameDecided { decision }
            | Event::ToolDecided { decision, .. }
            | Event::ConnectionDecided { decision, .. }
            | Event::HttpDecided { decision } => match self.decided(envelope, decision) {
                Some(node) => node,
                None => return,
            },
            Event::ModelCalled { host, port, .. } => {
                Node::new(Sort::Called, envelope, &format!("model  {}", event.line()))
                    .about(Some(format!("{}:{port}", safe(host))))
                    .said("a call of a model")
            }
            Event::PlanChanged { steps: plan, .. } => planned(envelope, plan),
            Event::LimitReached { .. }
            | Event::EventsLost { .. }
            | Event::TerminalRecorded { .. }
            | Event::OperatorActed { .. }
            | Event::PolicyTightened { .. }
            | Event::SecretSent { .. }
            | Event::FindingRaised { .. }
            | Event::ExecUnconfirmed { .. }
            | Event::PortPublished { .. }
            | Event::ToolsPinned { .. }
            | Event::ApprovalReviewed { .. }
            | Event::CredentialUsed { .. }
            | Event::LoginRenewed { .. } => {
                let (text, detail) = noted(event);
                Node::new(Sort::Note, envelope, &text)
                    .explained(detail.as_deref().unwrap_or_default())
            }
            // What was let through is shown; how things ended, and what they used, is in the timeline.
            Event::ApprovalUsed { .. }
            | Event::PolicyDiffered { .. }
            | Event::PolicyCompared { .. }
            | Event::ProcessEnded { .. }
            | Event::AgentStarted { .. }
            | Event::AgentEnded { .. }
            | Event::ClaimRepeated { .. }
            | Event::ScopeEnded { .. }
            | Event::ResourcesSampled { .. } => return,
        };
        let place = self.leaf(envelope, leaf, wanted);
        if let Event::ApprovalRequested { approval, .. } = event {
            self.asks
                .extend(place.map(|place| (approval.clone(), place)));
        }
        if let (Some(place), Some(decision)) = (place, event.decision()) {
            self.decisions.insert(decision.decision, place);
        }
    }

    fn changed(&self, envelope: &Envelope, path: &RawText, access: Access) -> Node {
        let text = changed(path, access, &self.life.workspace);
        let name = in_workspace(path, &self.life.workspace);
        Node::new(Sort::Changed, envelope, &text).about(Some(name))
    }

    /// Counts what came of a tool call.
    fn returned(&mut self, call: Option<u64>, bytes: u64) {
        let call = call.and_then(|call| self.calls.get(&call));
        if let Some(node) = call.and_then(|call| self.nodes.get_mut(*call)) {
            node.traffic.get_or_insert_default().bytes_in += bytes;
        }
    }

    /// Makes a leaf of a decision that a person wants to know of.
    fn decided(&mut self, envelope: &Envelope, decision: &DecisionRecord) -> Option<Node> {
        if decision.verdict == Verdict::Deny {
            let is_quiet = self.life.is_quiet(decision.rule.as_ref());
            return (!is_quiet).then(|| {
                Node::new(Sort::Refused, envelope, &denied(decision))
                    .explained(&safe(&decision.reason))
                    .about(about(decision))
                    .judged(Verdict::Deny)
            });
        }
        let is_shown = matches!(
            &envelope.event,
            Event::ConnectionDecided { .. } | Event::HttpDecided { .. }
        );
        if decision.verdict != Verdict::Allow || !is_shown {
            return None;
        }
        let text = format!("{:<4} {}", decision.kind.as_str(), target(decision));
        let mut node = Node::new(Sort::Connected, envelope, &text)
            .about(about(decision))
            .judged(Verdict::Allow);
        if let Event::ConnectionDecided {
            address: None,
            detail,
            ..
        } = &envelope.event
        {
            node = node.explained(&safe(detail.as_deref().unwrap_or("no address")));
            node.failed = 1;
        }
        Some(node)
    }

    /// Adds an event of the session's own life.
    fn lived(&mut self, envelope: &Envelope, wanted: Wanted) {
        let Some((moment, text)) = self.life.take(&envelope.event, TEXT_CHARS_MAX) else {
            return;
        };
        let sort = match moment {
            Moment::Started if self.nodes.is_empty() => {
                self.nodes.push(Node {
                    wanted: true,
                    ..Node::new(Sort::Session, envelope, &text)
                });
                return;
            }
            Moment::Started => return,
            Moment::Noted => Sort::Note,
            Moment::Ended => Sort::Ended,
        };
        self.leaf(envelope, Node::new(sort, envelope, &text), wanted);
    }

    fn claimed(&mut self, envelope: &Envelope) {
        let event = &envelope.event;
        if let Event::PromptSubmitted {
            aside: false,
            parts,
            ..
        } = event
        {
            let node = Node::new(Sort::Prompt, envelope, &said::prompt(parts))
                .explained(&said::whole_prompt(parts))
                .said("a prompt");
            if let Some(index) = self.push(node) {
                self.turns.insert(envelope.seq, index);
            }
        } else if let Event::ToolCalled {
            name, arguments, ..
        } = event
        {
            let about = said::about(arguments.as_ref());
            let text = about.map_or_else(String::new, |about| format!(": {about}"));
            let whole = arguments.as_ref().and_then(|said| said.text.as_ref());
            let mut node = Node::new(Sort::Tool, envelope, &format!("{}{text}", name.display()))
                .explained(&whole.map(RawText::display).unwrap_or_default())
                .said(&name.display());
            node.parent = self.turn_of(envelope);
            if let Some(index) = self.push(node) {
                self.calls.insert(envelope.seq, index);
            }
        } else if let Event::ScopeBound {
            scope,
            call,
            certainty,
            ..
        } = event
        {
            self.bound(scope, *call, *certainty);
        }
    }

    /// Moves what a command has below the call that it turned out to be for.
    fn bound(&mut self, scope: &str, call: u64, certainty: Certainty) {
        let Some(call) = self.calls.get(&call).copied() else {
            return;
        };
        let command = self.commands.entry(scope.to_owned()).or_default();
        command.call = Some(call);
        for root in &command.roots {
            if let Some(node) = self.nodes.get_mut(*root) {
                node.parent = call;
            }
        }
        if let Some(node) = self.nodes.get_mut(call) {
            node.certainty = Some(certainty);
        }
    }

    fn turn_of(&self, envelope: &Envelope) -> usize {
        let turn = envelope.cause.and_then(|cause| cause.turn);
        let known = turn.and_then(|turn| self.turns.get(&turn));
        known.copied().unwrap_or(ROOT)
    }

    fn started(&mut self, envelope: &Envelope, process: &Subject) {
        let Some(key) = key(envelope) else {
            // The agent itself, which the session names.
            return;
        };
        let line = joined(&process.argv);
        let (parent, is_root) = self.place(envelope, true);
        let mut node = Node::new(Sort::Process, envelope, &line);
        node.parent = parent;
        let Some(index) = self.push(node) else {
            return;
        };
        let command = self.commands.entry(key).or_default();
        if is_root {
            command.roots.push(index);
        }
        command.first.get_or_insert(index);
        command.lines.insert(line, index);
        if let Some(id) = process.id {
            self.processes.insert(id, index);
        }
    }

    /// Finds the node that an event belongs below; says also whether that is outside its command.
    fn place(&self, envelope: &Envelope, is_start: bool) -> (usize, bool) {
        let cause = envelope.cause;
        let call = cause.and_then(|cause| cause.call);
        let outside = || {
            let call = call.and_then(|call| self.calls.get(&call)).copied();
            call.unwrap_or_else(|| self.turn_of(envelope))
        };
        let Some(key) = key(envelope) else {
            return (outside(), false);
        };
        let Some(command) = self.commands.get(&key) else {
            return (outside(), true);
        };
        let subject = envelope.event.subject().or(envelope.process.as_ref());
        let by_id = subject
            .and_then(|subject| subject.id)
            .and_then(|id| self.processes.get(&id));
        let by_line = || {
            let subject = subject?;
            let own = (!is_start).then(|| joined(&subject.argv));
            let parents = subject.ancestry.iter().map(RawText::display);
            let mut lines = own.into_iter().chain(parents);
            lines.find_map(|line| command.lines.get(&line))
        };
        let rest = || (!is_start).then_some(command.first.as_ref()).flatten();
        let inside = by_id.or_else(by_line).or_else(rest);
        match (inside, command.call) {
            (Some(index), _) => (*index, false),
            (None, Some(call)) => (call, true),
            (None, None) => (outside(), true),
        }
    }

    /// Adds a leaf, or counts it with an equal one; returns where it is.
    fn leaf(&mut self, envelope: &Envelope, mut node: Node, wanted: Wanted) -> Option<usize> {
        if !wanted.is_wanted() {
            return None;
        }
        let (parent, is_root) = self.place(envelope, false);
        node.parent = parent;
        // Each question has its own answer.
        let is_counted = node.sort != Sort::Asked;
        let equal = (parent, node.sort, node.text.clone());
        if is_counted && let Some(index) = self.leaves.get(&equal) {
            if let Some(same) = self.nodes.get_mut(*index) {
                same.count += 1;
                same.failed += node.failed;
            }
            return Some(*index);
        }
        let index = self.push(node)?;
        if is_counted {
            self.leaves.insert(equal, index);
        }
        if is_root && let Some(key) = key(envelope) {
            self.commands.entry(key).or_default().roots.push(index);
        }
        Some(index)
    }

    /// Adds what became of something.
    fn ended(&mut self, envelope: &Envelope, wanted: Wanted) {
        if !wanted.is_wanted() {
            return;
        }
        let event = &envelope.event;
        if let Event::ApprovalDecided {
            approval,
            verdict,
            scope,
            by,
            reason,
            // Whoever wants to check it reads the event.
            statement: _,
        } = event
        {
            let asked = self.asks.remove(approval);
            if let Some(node) = asked.and_then(|index| self.nodes.get_mut(index)) {
                let reach = scope
                    .as_deref()
                    .map(|scope| reach(scope, envelope.time_unix_ns));
                let answer = answer(*verdict, reach, by, reason.as_deref());
                node.text = cut(&format!("{} {answer}", node.text), TEXT_CHARS_MAX);
                node.verdict = Some(*verdict);
            }
        } else if let Event::ConnectionClosed {
            decision,
            bytes_out,
            bytes_in,
            failed,
            ..
        } = event
        {
            let open = self.decisions.get(decision).copied();
            let Some(node) = open.and_then(|index| self.nodes.get_mut(index)) else {
                return;
            };
            if let Some(why) = failed {
                node.failed += 1;
                node.detail = Some(cut(&safe(why), DETAIL_CHARS_MAX));
            } else {
                let traffic = node.traffic.get_or_insert_default();
                traffic.connections += 1;
                traffic.bytes_out += bytes_out;
                traffic.bytes_in += bytes_in;
            }
        } else if let Event::RefusalRepeated { decision, count } = event {
            let first = self.decisions.get(decision).copied();
            if let Some(node) = first.and_then(|index| self.nodes.get_mut(index)) {
                node.count += count;
            }
        }
    }

    fn push(&mut self, node: Node) -> Option<usize> {
        let bytes = node.bytes();
        if self.nodes.len() >= NODES_MAX || self.bytes.saturating_add(bytes) > BYTES_MAX {
            self.more += 1;
            return None;
        }
        self.bytes += bytes;
        if self.nodes.is_empty() {
            // A record without its first event.
            self.nodes.push(Node {
                sort: Sort::Session,
                text: "a session whose beginning is not in the record".to_owned(),
                wanted: true,
                ..node.clone()
            });
        }
        self.nodes.push(node);
        Some(self.nodes.len() - 1)
    }
}

/// Makes a leaf of a question.
fn question(envelope: &Envelope, decision: &DecisionRecord) -> Node {
    Node::new(Sort::Asked, envelope, &asked(decision))
        .explained(&safe(&decision.reason))
        .about(about(decision))
        .judged(Verdict::Ask)
}

/// Makes a leaf of a change of the agent's plan.
fn planned(envelope: &Envelope, plan: &Listed<PlanStepSeen>) -> Node {
    let text = format!("plan  {}", envelope.event.line());
    Node::new(Sort::Plan, envelope, &text)
        .explained(&steps(plan).join("\n"))
        .said("a change of the plan")
}

/// Says what names the command that an event belongs to; nothing for the agent itself.
fn key(envelope: &Envelope) -> Option<String> {
    if envelope.scope.is_some() {
        return envelope.scope.clone();
    }
    if envelope.cause.is_some_and(|cause| cause.call.is_some()) {
        return None;
    }
    let subject = envelope.event.subject().or(envelope.process.as_ref())?;
    first_level(subject)
}

/// Names the host or the file of a decision.
fn about(decision: &DecisionRecord) -> Option<String> {
    let target = &decision.target;
    let port = target
        .port
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let host = (target.host.as_ref()).map(|host| format!("{}{port}", safe(host)));
    host.or_else(|| target.path.as_ref().map(RawText::display))
}
