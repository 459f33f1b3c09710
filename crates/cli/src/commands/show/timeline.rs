//! The events of a session as a person reads them: one block for each command that the agent ran.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use stockade_event::{
    Envelope, Event,
    summary::{Traffic, is_kept_by_git, limit_text},
};
use stockade_types::{ApprovalId, DecisionId, DecisionRecord, RawText, RuleId, Subject, Verdict};

use crate::{
    commands::run::summary::in_workspace,
    human::{cut, outcome, safe, span, words},
};

/// How many different lines a block keeps; a command with more of them is read with `events`.
const LINES_MAX: usize = 100;
/// How many blocks are kept; the terminal scrolls no further back either.
const ENTRIES_MAX: usize = 50_000;
/// Characters of the command line of a block.
const TITLE_CHARS_MAX: usize = 60;
/// How many programs of the chain behind a refusal are named, and how much of each.
const CHAIN_MAX: usize = 3;
const CHAIN_CHARS_MAX: usize = 24;

/// A session in order of time.
#[derive(Debug, Default, Serialize)]
pub(super) struct Timeline {
    /// Blocks and single lines.
    pub(super) entries: Vec<Entry>,
    /// Entries that were not kept.
    pub(super) more: u64,
    #[serde(skip)]
    workspace: RawText,
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
    #[serde(skip)]
    policies: u64,
    /// Rules whose refusals are counted in the summary alone.
    #[serde(skip)]
    quiet_rules: BTreeSet<RuleId>,
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
    #[serde(skip)]
    titled: bool,
}

/// What sort of line it is, which gives its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    Started,
    Changed,
    Connected,
    Refused,
    Asked,
    Note,
    Ended,
}

/// One line; what happened in the same way again is counted.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) time_unix_ns: u64,
    pub(super) mark: Mark,
    pub(super) text: String,
    /// What explains it, on a line of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    /// What went over connections that have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) traffic: Option<Traffic>,
    pub(super) count: u64,
    /// How many of them did not come about; the detail says why the last one did not.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) failed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Timeline {
    /// Adds the next event.
    pub(super) fn add(&mut self, envelope: &Envelope) {
        let time = envelope.time_unix_ns;
        match &envelope.event {
            Event::SessionStarted {
                command,
                workspace,
                tier,
                preset,
                ..
            } => {
                self.workspace.clone_from(workspace);
                let text = format!(
                    "session {}: {} in {workspace} ({}, profile {})",
                    envelope.session,
                    cut(&words(command), TITLE_CHARS_MAX),
                    safe(tier),
                    if preset.is_empty() {
                        "generic".to_owned()
                    } else {
                        safe(preset)
                    }
                );
                self.line(None, Line::new(time, Mark::Started, text));
            }
            Event::SessionEnded { outcome: how, .. } => {
                let text = outcome(how, "the command");
                self.line(None, Line::new(time, Mark::Ended, text));
            }
            Event::GuaranteeStated {
                guarantee,
                holds: false,
                missing,
                waiver,
                ..
            } => {
                let why = waiver
                    .as_deref()
                    .or(missing.as_deref())
                    .unwrap_or("no reason recorded");
                let text = format!("not held here: {} ({})", safe(guarantee), safe(why));
                self.line(None, Line::new(time, Mark::Note, text));
            }
            Event::PolicyLoaded {
                revision, quiet, ..
            } => {
                self.policies += 1;
                self.quiet_rules = quiet.iter().flatten().cloned().collect();
                if self.policies > 1 {
                    let text = format!("policy replaced by {}", revision.short());
                    self.line(None, Line::new(time, Mark::Note, text));
                }
            }
            Event::ProcessStarted { .. } => self.started(envelope),
            _ => self.happened(envelope),
        }
    }

    fn started(&mut self, envelope: &Envelope) {
        let Some(index) = self.run_of(envelope) else {
            return;
        };
        let Some(Entry::Run(run)) = self.entries.get_mut(index) else {
            return;
        };
        run.processes += 1;
    }

    /// Adds what is shown as a line within its block.
    fn happened(&mut self, envelope: &Envelope) {
        let time = envelope.time_unix_ns;
        let run = self.run_of(envelope);
        let line = match &envelope.event {
            Event::FileChanged { path, .. } if is_kept_by_git(path, &self.workspace) => {
                Line::new(time, Mark::Changed, ".git (git's own files)".to_owned())
            }
            Event::FileChanged { path, access, .. } => {
                let name = in_workspace(path, &self.workspace);
                let how = match access.as_str() {
                    "write" => String::new(),
                    other => format!(" ({})", safe(other)),
                };
                Line::new(time, Mark::Changed, format!("{name}{how}"))
            }
            Event::ApprovalRequested {
                approval, decision, ..
            } => {
                let line = Line::new(time, Mark::Asked, asked(decision));
                let place = self.line(run, line);
                self.asks
                    .extend(place.map(|place| (approval.clone(), place)));
                return;
            }
            Event::ApprovalDecided {
                approval,
                verdict,
                scope,
                by,
                reason,
            } => {
                let reach = scope.as_deref().map(|scope| reach(scope, time));
                self.answered(approval, *verdict, reach, by, reason.as_deref());
                return;
            }
            Event::ConnectionDecided { .. } | Event::ConnectionClosed { .. } => {
                self.connected(run, time, &envelope.event);
                return;
            }
            Event::LimitReached { .. }
            | Event::EventsLost { .. }
            | Event::OperatorActed { .. }
            | Event::FindingRaised { .. }
            | Event::ExecUnconfirmed { .. } => noted(time, &envelope.event),
            Event::RefusalRepeated { decision, count } => {
                self.refused_again(*decision, *count, time);
                return;
            }
            event => match event.decision() {
                Some(decision) => {
                    self.denied(run, time, decision);
                    return;
                }
                None => return,
            },
        };
        self.line(run, line);
    }

    /// Adds a connection, or what became of it.
    fn connected(&mut self, run: Option<usize>, time: u64, event: &Event) {
        match event {
            Event::ConnectionDecided {
                decision,
                address,
                detail,
                ..
            } if decision.verdict == Verdict::Allow => {
                let text = format!("net  {}", target(decision));
                let place = self.line(run, Line::new(time, Mark::Connected, text));
                if address.is_none() {
                    self.not_made(place, detail.as_deref().unwrap_or("no address"));
                } else {
                    self.connections
                        .extend(place.map(|place| (decision.decision, place)));
                }
            }
            Event::ConnectionDecided { decision, .. } => self.denied(run, time, decision),
            Event::ConnectionClosed {
                decision,
                bytes_out,
                bytes_in,
                failed,
                ..
            } => {
                let place = self.connections.remove(decision);
                match failed {
                    Some(why) => self.not_made(place, why),
                    None => self.closed(place, *bytes_out, *bytes_in),
                }
            }
            _ => {}
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
        let rule = decision.rule.as_ref();
        if decision.verdict != Verdict::Deny
            || rule.is_some_and(|rule| self.quiet_rules.contains(rule))
        {
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

    fn closed(&mut self, place: Option<(usize, usize)>, bytes_out: u64, bytes_in: u64) {
        let line = place.and_then(|(entry, line)| self.line_at(entry, line));
        if let Some(line) = line {
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

    fn answered(
        &mut self,
        approval: &ApprovalId,
        verdict: Verdict,
        reach: Option<String>,
        by: &str,
        reason: Option<&str>,
    ) {
        let Some((entry, line)) = self.asks.remove(approval) else {
            return;
        };
        let Some(line) = self.line_at(entry, line) else {
            return;
        };
        let answer = if verdict == Verdict::Allow {
            "allowed"
        } else {
            "denied"
        };
        let reach = reach.map(|text| format!(" {text}")).unwrap_or_default();
        let reason = reason
            .map(|why| format!(": {}", safe(why)))
            .unwrap_or_default();
        line.text = format!("{} → {answer}{reach} by {}{reason}", line.text, safe(by));
    }

    /// Returns the block that an event belongs to, making it at the first event of a command.
    fn run_of(&mut self, envelope: &Envelope) -> Option<usize> {
        let subject = envelope.event.subject().or(envelope.process.as_ref());
        let first = subject.and_then(first_level);
        let key = envelope.scope.clone().or_else(|| first.clone())?;
        let index = if let Some(index) = self.runs.get(&key) {
            *index
        } else {
            let run = Run::new(envelope.time_unix_ns, safe(&key));
            let index = self.push(Entry::Run(run))?;
            self.runs.insert(key, index);
            index
        };
        // The first event that knows the command line names the block.
        if let Some(Entry::Run(run)) = self.entries.get_mut(index)
            && !run.titled
        {
            let known = match &envelope.event {
                // The process is still what it was forked from; what it wants to run is the
                // command.
                Event::ExecDecided { decision } | Event::ApprovalRequested { decision, .. }
                    if !decision.target.argv.is_empty() =>
                {
                    Some(words(&decision.target.argv))
                }
                _ => first,
            };
            if let Some(title) = known {
                run.command = cut(&title, TITLE_CHARS_MAX);
                run.titled = true;
            }
        }
        Some(index)
    }

    /// Puts a line into a block, or beside the blocks; returns where it is.
    fn line(&mut self, run: Option<usize>, line: Line) -> Option<(usize, usize)> {
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

impl Line {
    fn new(time_unix_ns: u64, mark: Mark, text: String) -> Self {
        Self {
            time_unix_ns,
            mark,
            text,
            detail: None,
            traffic: None,
            count: 1,
            failed: 0,
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
            titled: false,
        }
    }
}

/// Writes how far an answer given at `time` reaches: of a time how long it is.
fn reach(scope: &str, time_unix_ns: u64) -> String {
    let end = scope
        .strip_prefix("until:")
        .and_then(|end| end.parse::<u64>().ok());
    end.map_or_else(
        || safe(scope),
        |end| format!("for {}", span(end.saturating_sub(time_unix_ns / 1_000_000))),
    )
}

/// Renders what is only noted, neither judged nor done by a command.
fn noted(time: u64, event: &Event) -> Line {
    let text = match event {
        Event::LimitReached {
            limit,
            configured,
            usage,
            detail,
        } => {
            let text = limit_text(limit, *configured, *usage, detail);
            format!("limit {}", safe(&text))
        }
        Event::EventsLost {
            source,
            count,
            reason,
        } => {
            format!("{count} events of {} lost: {}", safe(source), safe(reason))
        }
        Event::OperatorActed { action, by, detail } => {
            format!("{} by {}: {}", safe(action), safe(by), safe(detail))
        }
        Event::FindingRaised {
            severity, title, ..
        } => {
            format!("{}, {}", safe(title), safe(severity))
        }
        Event::ExecUnconfirmed { process, .. } => {
            format!(
                "nobody saw {} run",
                cut(&words(&process.argv), TITLE_CHARS_MAX)
            )
        }
        event => event.kind().to_owned(),
    };
    let detail = match event {
        Event::FindingRaised { detail, .. } | Event::ExecUnconfirmed { why: detail, .. } => {
            Some(safe(detail))
        }
        _ => None,
    };
    Line {
        detail,
        ..Line::new(time, Mark::Note, text)
    }
}

/// Returns the command line of the agent's own child that `subject` is or comes from: the last but
/// one of its parents, since the last is the session's first process.
fn first_level(subject: &Subject) -> Option<String> {
    match subject.ancestry.len() {
        0 => None,
        1 => Some(words(&subject.argv)),
        count => subject.ancestry.get(count - 2).map(RawText::display),
    }
}

/// Returns what a decision is about, for files also how they would change, escaped also where the
/// target has plain text.
fn target(decision: &DecisionRecord) -> String {
    let target = safe(&decision.target.summary());
    match &decision.target.access {
        Some(access) => format!("{} {target}", safe(access)),
        None => target,
    }
}

fn asked(decision: &DecisionRecord) -> String {
    let rule = decision
        .rule
        .as_ref()
        .map_or("no rule", |rule| rule.as_str());
    format!(
        "{:<4} {} ({rule})",
        decision.kind.as_str(),
        target(decision)
    )
}

fn refused(time: u64, decision: &DecisionRecord) -> Line {
    let rule = decision
        .rule
        .as_ref()
        .map_or("no rule allows it", |rule| rule.as_str());
    let subject = &decision.subject;
    let mut chain: Vec<String> = vec![String::new()];
    for text in std::iter::once(&subject.exe)
        .chain(&subject.ancestry)
        .take(CHAIN_MAX)
    {
        let text = text.display();
        // The name of the program; what follows are its arguments.
        let program = text.split(' ').next().unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or_default();
        if !name.is_empty() && chain.last().is_none_or(|last| last != name) {
            chain.push(cut(name, CHAIN_CHARS_MAX));
        }
    }
    // The empty first one gives each name its arrow.
    let by = chain.join(" ← ");
    let target = target(decision);
    Line {
        detail: Some(safe(&decision.reason)).filter(|reason| !reason.is_empty()),
        ..Line::new(
            time,
            Mark::Refused,
            format!("{:<4} {target} denied ({rule}){by}", decision.kind.as_str()),
        )
    }
}
