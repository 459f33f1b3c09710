//! The events of a session as a person reads them: one block for each command that the agent ran.

mod claims;
mod wanted;

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use stockade_event::{
    Envelope, Event, HostedToolSeen,
    tree::{
        Life, Moment, Wanted, folds,
        words::{answer, asked, changed, first_level, reach, target},
    },
};
use stockade_shown::tool_call::{Meaning, looks_at_shell, meaning, starts_hook};
use stockade_types::{Access, ApprovalId, DecisionId, DecisionRecord, RawText, Subject, Verdict};

use super::lines::{Line, Mark, noted, refused};
use crate::human::{cut, safe, words};

/// How many different lines a block keeps; a command with more of them is read with `events`.
const LINES_MAX: usize = 100;
/// How many blocks are kept; the terminal scrolls no further back either.
const ENTRIES_MAX: usize = 50_000;
/// Characters of a command line within a sentence.
const TITLE_CHARS_MAX: usize = 60;
/// Characters of the command line of a block; a terminal shows what fits.
const COMMAND_CHARS_MAX: usize = 500;
/// Command lines of tool calls that are remembered, to tell what was started by which.
const TOOLS_MAX: usize = 10_000;

/// A session in order of time.
#[derive(Debug, Default, Serialize)]
pub(super) struct Timeline {
    /// Blocks and single lines.
    pub(super) entries: Vec<Entry>,
    /// Entries that were not kept.
    pub(super) more: u64,
    #[serde(skip)]
    pub(super) life: Life,
    /// Where the block of a command is.
    #[serde(skip)]
    runs: HashMap<String, usize>,
    /// Where the line of an open approval is: entry and line within it.
    #[serde(skip)]
    asks: BTreeMap<ApprovalId, (usize, usize)>,
    /// Where the line of an open connection is.
    #[serde(skip)]
    connections: HashMap<DecisionId, (usize, usize)>,
    /// Where the lines of refusals are that may be said to have come again.
    #[serde(skip)]
    refusals: HashMap<DecisionId, (usize, usize)>,
    /// The tools that the provider of the last call may run.
    #[serde(skip)]
    declared: Vec<HostedToolSeen>,
    /// Which block the command lines of tool calls belong to.
    #[serde(skip)]
    tools: HashMap<String, usize>,
    /// Where the block of a tool call is, by the number of its event.
    #[serde(skip)]
    calls: HashMap<u64, usize>,
    /// Whether the event that is being added was asked for.
    #[serde(skip)]
    unwanted: bool,
}

/// A block or a single line.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Entry {
    Run(Run),
    Line(Line),
}

/// One command of the agent with all that came of it.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) time_unix_ns: u64,
    pub(super) command: String,
    pub(super) processes: u64,
    pub(super) lines: Vec<Line>,
    /// Lines that were not kept.
    pub(super) more: u64,
    /// Whether it is a tool call of the agent.
    pub(super) tool: bool,
    /// The tool, where the model's call is in the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// How it ended, if it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<End>,
    #[serde(skip)]
    titled: bool,
    /// The call itself was not asked for, only perhaps what came of it.
    #[serde(skip)]
    unwanted: bool,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct End {
    /// Exit code of the process that began it.
    pub(super) code: Option<i32>,
    /// Signal that ended that process.
    pub(super) signal: Option<i32>,
    /// As long as it had processes.
    pub(super) duration_ms: u64,
}

impl Timeline {
    /// Adds the next event. One that is not wanted only says where others belong.
    pub(super) fn add(&mut self, envelope: &Envelope, wanted: Wanted) {
        self.unwanted = !wanted.is_wanted();
        if wanted == Wanted::ByKind && folds(&envelope.event) {
            let run = self.run_of(envelope);
            let event = &envelope.event;
            let text = format!(
                "{}  {}",
                event.kind(),
                cut(&event.line(), COMMAND_CHARS_MAX)
            );
            self.line(run, Line::new(envelope.time_unix_ns, Mark::Note, text));
        }
        self.take(envelope);
    }

    fn take(&mut self, envelope: &Envelope) {
        let time = envelope.time_unix_ns;
        let run = self.run_of(envelope);
        let event = &envelope.event;
        match event {
            Event::SessionStarted { .. }
            | Event::SessionEnded { .. }
            | Event::GuaranteeStated { .. }
            | Event::PolicyLoaded { .. } => self.lived(envelope),
            Event::ProcessStarted { .. } => self.started(run),
            Event::ScopeEnded { .. } => self.ended(run, event),
            Event::FileChanged { path, access, .. } => self.wrote(run, time, path, *access),
            Event::ApprovalRequested {
                approval, decision, ..
            } => self.requested(run, time, approval, decision),
            Event::ApprovalDecided { .. } => self.answered(event, time),
            Event::ConnectionDecided { decision, .. } if decision.verdict == Verdict::Allow => {
                self.allowed(run, time, event);
            }
            Event::ConnectionClosed {
                decision,
                bytes_out,
                bytes_in,
                failed,
                ..
            } => self.closed(*decision, *bytes_out, *bytes_in, failed.as_deref()),
            Event::LimitReached { .. }
            | Event::EventsLost { .. }
            | Event::TerminalRecorded { .. }
            | Event::OperatorActed { .. }
            | Event::PolicyTightened { .. }
            | Event::ApprovalReviewed { .. }
            | Event::SecretSent { .. }
            | Event::FindingRaised { .. }
            | Event::ExecUnconfirmed { .. } => {
                self.line(run, noted(time, event));
            }
            Event::ModelCalled { .. } => self.called(time, event),
            Event::PlanChanged { steps, .. } => self.planned(envelope, steps),
            Event::RefusalRepeated { decision, count } => {
                self.refused_again(*decision, *count, time);
            }
            Event::ExecDecided { decision }
            | Event::FileDenied { decision }
            | Event::CallRefused { decision }
            | Event::CredentialRefused { decision }
            | Event::NameDecided { decision }
            | Event::ToolDecided { decision, .. }
            | Event::ConnectionDecided { decision, .. }
            | Event::HttpDecided { decision } => self.denied(run, time, decision),
            // The summary says which ports there were, and what an answer let through is shown.
            Event::PortPublished { .. }
            | Event::PolicyDiffered { .. }
            | Event::PolicyCompared { .. }
            | Event::ToolsPinned { .. }
            | Event::ApprovalUsed { .. }
            | Event::CredentialUsed { .. }
            | Event::LoginRenewed { .. }
            | Event::ProcessEnded { .. }
            | Event::ResourcesSampled { .. }
            | Event::AgentStarted { .. }
            | Event::AgentEnded { .. }
            | Event::ClaimRepeated { .. }
            | Event::ToolReturned { .. } => {}
            Event::PromptSubmitted { .. } | Event::ToolCalled { .. } | Event::ScopeBound { .. } => {
                self.claimed(envelope);
            }
        }
    }

    /// Adds a connection that was allowed.
    fn allowed(&mut self, run: Option<usize>, time: u64, event: &Event) {
        if let Event::ConnectionDecided {
            decision,
            address,
            detail,
            ..
        } = event
        {
            let why = detail.as_deref().unwrap_or("no address");
            self.connected(run, time, decision, address.is_none().then_some(why));
        }
    }

    /// Adds a question.
    fn requested(
        &mut self,
        run: Option<usize>,
        time: u64,
        approval: &ApprovalId,
        decision: &DecisionRecord,
    ) {
        let place = self.line(run, Line::new(time, Mark::Asked, asked(decision)));
        self.asks
            .extend(place.map(|place| (approval.clone(), place)));
    }

    /// Adds an event of the session's own life.
    fn lived(&mut self, envelope: &Envelope) {
        let Some((moment, text)) = self.life.take(&envelope.event, TITLE_CHARS_MAX) else {
            return;
        };
        let time = envelope.time_unix_ns;
        match moment {
            // What a session is is said in any case.
            Moment::Started => {
                let text = format!("session {}: {text}", envelope.session);
                self.push(Entry::Line(Line::new(time, Mark::Started, text)));
            }
            Moment::Noted => {
                self.line(None, Line::new(time, Mark::Note, text));
            }
            Moment::Ended => {
                self.line(None, Line::new(time, Mark::Ended, text));
            }
        }
    }

    fn started(&mut self, run: Option<usize>) {
        let entry = run.and_then(|index| self.entries.get_mut(index));
        if let Some(Entry::Run(run)) = entry
            && !self.unwanted
        {
            run.processes += 1;
        }
    }

    /// Adds a change of a file.
    fn wrote(&mut self, run: Option<usize>, time: u64, path: &RawText, access: Access) {
        let text = changed(path, access, &self.life.workspace);
        self.line(run, Line::new(time, Mark::Changed, text));
    }

    /// Adds how a command ended.
    fn ended(&mut self, run: Option<usize>, event: &Event) {
        if let Event::ScopeEnded {
            code,
            signal,
            duration_ms,
            ..
        } = event
            && let Some(Entry::Run(run)) = run.and_then(|index| self.entries.get_mut(index))
        {
            let end = run.end.get_or_insert_default();
            end.duration_ms += duration_ms;
            if code.is_some() || signal.is_some() {
                (end.code, end.signal) = (*code, *signal);
            }
        }
    }

    /// Adds a call of a model, beside the blocks of commands: it is what the agent does between them.
    fn called(&mut self, time: u64, event: &Event) {
        let mut event = event.clone();
        // Most calls say the same of what their provider may run.
        if let Event::ModelCalled {
            hosted_declared, ..
        } = &mut event
        {
            if *hosted_declared == self.declared {
                hosted_declared.clear();
            } else {
                self.declared.clone_from(hosted_declared);
            }
        }
        let text = format!("model  {}", event.line());
        self.line(None, Line::new(time, Mark::Called, text));
    }

    /// Adds an allowed connection; `unmade` says why it was not made.
    fn connected(
        &mut self,
        run: Option<usize>,
        time: u64,
        decision: &DecisionRecord,
        unmade: Option<&str>,
    ) {
        let text = format!("net  {}", target(decision));
        let place = self.line(run, Line::new(time, Mark::Connected, text));
        match unmade {
            Some(why) => self.not_made(place, why),
            None => self
                .connections
                .extend(place.map(|place| (decision.decision, place))),
        }
    }

    /// Notes that an allowed connection was not made.
    fn not_made(&mut self, place: Option<(usize, usize)>, why: &str) {
        if let Some(line) = place.and_then(|(entry, line)| self.line_at(entry, line)) {
            line.failed += 1;
            line.detail = Some(safe(why));
        }
    }

    /// Adds a line for a decision that is a refusal.
    fn denied(&mut self, run: Option<usize>, time: u64, decision: &DecisionRecord) {
        if decision.verdict != Verdict::Deny || self.life.is_quiet(decision.rule.as_ref()) {
            return;
        }
        let place = self.line(run, refused(time, decision));
        if self.refusals.len() >= ENTRIES_MAX {
            self.refusals.clear();
        }
        self.refusals
            .extend(place.map(|place| (decision.decision, place)));
    }

    /// Adds refusals that were only counted to the line of the one before them.
    fn refused_again(&mut self, decision: DecisionId, count: u64, time: u64) {
        let place = self.refusals.get(&decision).copied();
        if let Some(line) = place.and_then(|(entry, line)| self.line_at(entry, line)) {
            line.count += count;
        } else {
            let text = format!("{decision} was refused {count} times more");
            self.line(None, Line::new(time, Mark::Refused, text));
        }
    }

    /// Adds what became of an allowed connection.
    fn closed(
        &mut self,
        decision: DecisionId,
        bytes_out: u64,
        bytes_in: u64,
        failed: Option<&str>,
    ) {
        let place = self.connections.remove(&decision);
        if let Some(why) = failed {
            self.not_made(place, why);
        } else if let Some(line) = place.and_then(|(entry, line)| self.line_at(entry, line)) {
            let traffic = line.traffic.get_or_insert_default();
            traffic.connections += 1;
            traffic.bytes_out += bytes_out;
            traffic.bytes_in += bytes_in;
        }
    }

    fn line_at(&mut self, entry: usize, line: usize) -> Option<&mut Line> {
        match self.entries.get_mut(entry)? {
            Entry::Run(run) => run.lines.get_mut(line),
            Entry::Line(line) => Some(line),
        }
    }

    fn answered(&mut self, event: &Event, time: u64) {
        let Event::ApprovalDecided {
            approval,
            verdict,
            scope,
            by,
            reason,
            // Whoever wants to check it reads the event.
            statement: _,
        } = event
        else {
            return;
        };
        let reach = scope.as_deref().map(|scope| reach(scope, time));
        let Some((entry, line)) = self.asks.remove(approval) else {
            return;
        };
        let Some(line) = self.line_at(entry, line) else {
            return;
        };
        line.text = format!(
            "{} {}",
            line.text,
            answer(*verdict, reach, by, reason.as_deref())
        );
    }

    /// Returns the block that an event belongs to, making it at the first event of a command.
    fn run_of(&mut self, envelope: &Envelope) -> Option<usize> {
        if claims::is_claim(&envelope.event) {
            return None;
        }
        if let Some(index) = self.of_call(envelope) {
            return Some(index);
        }
        let subject = envelope.event.subject().or(envelope.process.as_ref());
        let first = || subject.and_then(first_level);
        let key = envelope.scope.clone().or_else(first)?;
        let index = if let Some(index) = self.runs.get(&key) {
            *index
        } else if let Some(index) = subject.and_then(|subject| self.tool_of(subject)) {
            self.runs.insert(key, index);
            index
        } else {
            let run = Run {
                unwanted: self.unwanted,
                ..Run::new(envelope.time_unix_ns, safe(&key))
            };
            let index = self.push(Entry::Run(run))?;
            self.runs.insert(key, index);
            index
        };
        // The process is still what it was forked from; what it wants to run is the command.
        let wanted = if let Event::ExecDecided { decision }
        | Event::ApprovalRequested { decision, .. } = &envelope.event
        {
            decision.target.argv.as_slice()
        } else {
            &[]
        };
        self.title(index, wanted, first);
        if let Some(Entry::Run(run)) = self.entries.get(index)
            && run.tool
            && !wanted.is_empty()
            && self.tools.len() < TOOLS_MAX
        {
            self.tools.insert(words(wanted), index);
        }
        Some(index)
    }

    /// Names a block by the first event that knows its command line.
    fn title(&mut self, index: usize, wanted: &[RawText], first: impl FnOnce() -> Option<String>) {
        let Some(Entry::Run(run)) = self.entries.get_mut(index) else {
            return;
        };
        if run.titled {
            return;
        }
        let known = match meaning(wanted) {
            Meaning::ToolToCome => {
                run.tool = true;
                return;
            }
            Meaning::Tool(text) => {
                run.tool = true;
                Some(safe(&text))
            }
            Meaning::Script(text) if starts_hook(&text) => {
                Some("(tells the boundary of a tool call)".to_owned())
            }
            Meaning::Script(text) if !looks_at_shell(&text) => Some(safe(&text)),
            Meaning::Script(_) => Some("(looks at the person's shell)".to_owned()),
            Meaning::Program if !wanted.is_empty() => Some(words(wanted)),
            // Its process is still the script around the command.
            Meaning::Program if run.tool => None,
            Meaning::Program => first(),
        };
        if let Some(title) = known {
            run.command = cut(&title, COMMAND_CHARS_MAX);
            run.titled = true;
        }
    }

    /// Returns the block of the tool call that a process comes from, where that is known.
    fn tool_of(&self, subject: &Subject) -> Option<usize> {
        if self.tools.is_empty() {
            return None;
        }
        let own = self.tools.get(&words(&subject.argv));
        let mut parents = subject.ancestry.iter().map(RawText::display);
        own.copied()
            .or_else(|| parents.find_map(|line| self.tools.get(&line).copied()))
    }

    /// Returns how many processes and commands were the agent's own, neither a tool call nor with
    /// anything to tell; nothing where no tool call is known.
    pub(super) fn own(&self) -> (u64, u64) {
        if self.tools.is_empty() && self.calls.is_empty() {
            return (0, 0);
        }
        let own = self.entries.iter().filter(|entry| entry.is_own());
        own.fold((0, 0), |(processes, commands), entry| match entry {
            Entry::Run(run) => (processes + run.processes, commands + 1),
            Entry::Line(_) => (processes, commands),
        })
    }

    /// Puts a line into a block, or beside the blocks; returns where it is.
    fn line(&mut self, run: Option<usize>, line: Line) -> Option<(usize, usize)> {
        if self.unwanted {
            return None;
        }
        let Some(index) = run else {
            return self.push(Entry::Line(line)).map(|index| (index, 0));
        };
        let Some(Entry::Run(run)) = self.entries.get_mut(index) else {
            return None;
        };
        // Each ask keeps its own line, because each has its own answer.
        let is_same = |l: &Line| l.mark == line.mark && l.text == line.text;
        if line.mark != Mark::Asked
            && let Some(at) = run.lines.iter().position(is_same)
            && let Some(same) = run.lines.get_mut(at)
        {
            same.count += 1;
            return Some((index, at));
        }
        if run.lines.len() >= LINES_MAX {
            run.more += 1;
            return None;
        }
        run.lines.push(line);
        Some((index, run.lines.len() - 1))
    }

    fn push(&mut self, entry: Entry) -> Option<usize> {
        if self.entries.len() >= ENTRIES_MAX {
            self.more += 1;
            return None;
        }
        self.entries.push(entry);
        Some(self.entries.len() - 1)
    }
}

impl Entry {
    /// Whether it is a command that is no tool call and has nothing to tell.
    pub(super) const fn is_own(&self) -> bool {
        match self {
            Self::Run(run) => !run.tool && run.lines.is_empty() && run.more == 0,
            Self::Line(_) => false,
        }
    }
}

impl Run {
    fn new(time_unix_ns: u64, command: String) -> Self {
        Self {
            time_unix_ns,
            command,
            processes: 0,
            lines: Vec::new(),
            more: 0,
            tool: false,
            name: None,
            end: None,
            titled: false,
            unwanted: false,
        }
    }
}
