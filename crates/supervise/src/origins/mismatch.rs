//! Where what an agent said and what the kernel saw differ: findings with both sides.

use std::collections::HashSet;

use stockade_agents::Intent;
use stockade_event::Event;
use stockade_secrets::hide;
use stockade_types::{RawText, Severity, Verdict};

/// Findings of a session; a person does not read more, and each has its event in the record anyway.
const FINDINGS_MAX: usize = 100;
/// Bytes of what was said that a finding has.
const SAID_BYTES_MAX: usize = 300;

/// The findings that are not in the record yet, and which there were.
#[derive(Default)]
pub(super) struct Mismatches {
    pending: Vec<Event>,
    known: HashSet<(u64, RawText)>,
}

impl Mismatches {
    /// Takes what is to be recorded.
    pub(super) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.pending)
    }

    /// A tool call returned that names a command, and no process began for it.
    pub(super) fn nothing_ran(&mut self, call: u64, command: &RawText) {
        let detail = format!("said: event {call}, `{}`; seen: no process", shown(command));
        self.add(
            call,
            command.clone(),
            "a command that was said did not run",
            detail,
        );
    }

    /// The agent changed a file that no open call names.
    pub(super) fn unsaid_change(&mut self, path: &RawText) {
        let detail = format!("said: nothing; seen: the agent changed {}", path.display());
        self.add(0, path.clone(), "a change that no tool call names", detail);
    }

    /// What runs for a call that only names files changed another file, or connected.
    pub(super) fn more_than_said(&mut self, call: u64, named: &RawText, event: &Event) {
        let detail = format!(
            "said: event {call}, which names only {}; seen: {} {}",
            shown(named),
            event.kind(),
            event.line()
        );
        self.add(
            call,
            named.clone(),
            "a tool did more than its call says",
            detail,
        );
    }

    /// Two sources tell of the same call, and name other commands or files.
    pub(super) fn sources_differ(&mut self, call: u64, event: &Event, intent: &Intent) {
        let named = intent.commands.first().or_else(|| intent.paths.first());
        let Some((named, Event::ToolCalled { learned_from, .. })) = named.map(|one| (one, event))
        else {
            return;
        };
        let detail = format!(
            "said: event {call}; said by {learned_from}: `{}`",
            shown(named)
        );
        self.add(
            call,
            named.clone(),
            "two sources differ about a tool call",
            detail,
        );
    }

    fn add(&mut self, call: u64, what: RawText, title: &str, detail: String) {
        if self.known.len() >= FINDINGS_MAX || !self.known.insert((call, what)) {
            return;
        }
        self.pending.push(Event::FindingRaised {
            severity: Severity::Low,
            title: format!("intent-mismatch: {title}"),
            detail,
            decisions: Vec::new(),
        });
    }
}

/// Writes what was said, without secrets, cut.
fn shown(said: &RawText) -> String {
    let said = hide(said).unwrap_or_else(|| said.clone());
    let bytes = said.as_bytes();
    let cut = bytes.get(..SAID_BYTES_MAX).unwrap_or(bytes);
    RawText::from_bytes(cut).display()
}

/// An effect beside that of processes.
pub(super) enum Effect<'e> {
    /// A file was changed.
    Change(&'e RawText),
    /// A connection was let through.
    Connection,
}

impl<'e> Effect<'e> {
    /// Returns the effect that an event tells of.
    pub(super) fn of(event: &'e Event) -> Option<Self> {
        if let Event::FileChanged { path, .. } = event {
            return Some(Self::Change(path));
        }
        if let Event::ConnectionDecided { decision, .. } = event
            && decision.verdict == Verdict::Allow
        {
            return Some(Self::Connection);
        }
        None
    }

    /// Returns the file that was changed.
    pub(super) const fn path(&self) -> Option<&'e RawText> {
        match self {
            Self::Change(path) => Some(path),
            Self::Connection => None,
        }
    }
}
