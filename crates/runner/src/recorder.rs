//! The session's one writer: numbers decisions, journals them, and tells the agent its denials.

use std::{
    collections::HashMap,
    fs::File,
    io::Write,
    slice,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use stockade_event::{Counts, Durability, Entry, Event, SharedJournal, SinkError, Stamp};
use stockade_policy::{Decision, Request};
use stockade_types::{
    DecisionId, DecisionRecord, Digest, ProcessId, SessionId, UnixMillis, Verdict,
};

/// Source of the supervisor's own events.
pub(crate) const SUPERVISOR: &str = "supervisor";

/// A clock that stamps events.
type StampClock = fn() -> Stamp;

/// Writes the journal of one session.
pub(crate) struct Recorder {
    session: SessionId,
    revision: Digest,
    journal: SharedJournal<StampClock>,
    next_decision: AtomicU64,
    counts: Counters,
    scopes: Mutex<HashMap<ProcessId, String>>,
    denials: Mutex<File>,
}

#[derive(Debug, Default)]
struct Counters {
    processes: AtomicU64,
    commands: AtomicU64,
    denials: AtomicU64,
    asks: AtomicU64,
    connections: AtomicU64,
    file_changes: AtomicU64,
}

impl Recorder {
    pub(crate) fn new(
        session: SessionId,
        revision: Digest,
        journal: SharedJournal<StampClock>,
        denials: File,
    ) -> Self {
        Self {
            session,
            revision,
            journal,
            next_decision: AtomicU64::new(1),
            counts: Counters::default(),
            scopes: Mutex::new(HashMap::new()),
            denials: Mutex::new(denials),
        }
    }

    pub(crate) const fn revision(&self) -> Digest {
        self.revision
    }

    pub(crate) fn new_decision(&self) -> DecisionId {
        DecisionId::new(self.next_decision.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes the record of a decision, without writing it.
    pub(crate) fn record(
        &self,
        id: DecisionId,
        request: &Request,
        decision: &Decision,
    ) -> DecisionRecord {
        decision.record(id, request, self.revision, self.session.clone(), now())
    }

    /// Journals an event of the supervisor.
    pub(crate) fn write(&self, event: &Event, durability: Durability) -> Result<u64, SinkError> {
        self.write_from(SUPERVISOR, event, durability)
    }

    /// Journals an event; only when this returns may its effect be visible.
    pub(crate) fn write_from(
        &self,
        source: &str,
        event: &Event,
        durability: Durability,
    ) -> Result<u64, SinkError> {
        self.write_all(source, slice::from_ref(event), durability)
    }

    /// Journals events that belong together; returns the number of the last one.
    pub(crate) fn write_all(
        &self,
        source: &str,
        events: &[Event],
        durability: Durability,
    ) -> Result<u64, SinkError> {
        let scopes: Vec<Option<String>> = events
            .iter()
            .map(|event| self.scope_of(event.subject()?.id?))
            .collect();
        let entries: Vec<Entry<'_>> = events
            .iter()
            .zip(&scopes)
            .map(|(event, scope)| Entry {
                process: event.subject(),
                scope: scope.as_deref(),
                event,
            })
            .collect();
        for event in events {
            self.count(event);
        }
        let number = self.journal.emit_all(source, &entries, durability)?;
        for decision in events.iter().filter_map(denial) {
            self.tell(decision);
        }
        Ok(number)
    }

    fn count(&self, event: &Event) {
        let add = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match event {
            Event::ProcessStarted { .. } => add(&self.counts.processes),
            Event::ApprovalRequested { .. } => add(&self.counts.asks),
            Event::ConnectionClosed { .. } => add(&self.counts.connections),
            Event::FileChanged { .. } => add(&self.counts.file_changes),
            _ => {}
        }
        if denial(event).is_some() {
            add(&self.counts.denials);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            processes: get(&self.counts.processes),
            commands: get(&self.counts.commands),
            decisions: get(&self.next_decision).saturating_sub(1),
            denials: get(&self.counts.denials),
            asks: get(&self.counts.asks),
            connections: get(&self.counts.connections),
            file_changes: get(&self.counts.file_changes),
            events_lost: 0,
        }
    }

    /// Shows a denial to the agent. The journal has it already; a full disk here loses no record.
    fn tell(&self, decision: &DecisionRecord) {
        let Ok(mut line) = serde_json::to_vec(decision) else {
            return;
        };
        line.push(b'\n');
        drop(lock(&self.denials).write_all(&line));
    }

    pub(crate) fn checkpoint(&self) -> Result<(), SinkError> {
        self.journal.checkpoint()
    }

    pub(crate) fn finish(&self) -> Result<Digest, SinkError> {
        self.journal.finish()
    }

    /// Returns the first-level command that a process belongs to.
    pub(crate) fn scope_of(&self, process: ProcessId) -> Option<String> {
        lock(&self.scopes).get(&process).cloned()
    }

    /// Notes that a process belongs to a first-level command.
    pub(crate) fn set_scope(&self, process: ProcessId, scope: String) {
        let mut scopes = lock(&self.scopes);
        if scopes.len() >= SCOPES_MAX {
            // Ended processes stay until here; losing the join of old ones loses no event.
            scopes.clear();
        }
        scopes.insert(process, scope);
    }

    /// Makes the name of the next first-level command.
    pub(crate) fn new_scope(&self) -> String {
        format!(
            "c-{}",
            self.counts.commands.fetch_add(1, Ordering::Relaxed) + 1
        )
    }
}

/// Processes whose command is remembered: about 100 bytes each.
const SCOPES_MAX: usize = 50_000;

/// Returns the decision of an event that says no.
fn denial(event: &Event) -> Option<&DecisionRecord> {
    if matches!(event, Event::ApprovalRequested { .. }) {
        return None;
    }
    event
        .decision()
        .filter(|decision| decision.verdict == Verdict::Deny)
}

/// Returns the time as decisions carry it.
pub(crate) fn now() -> UnixMillis {
    UnixMillis(Stamp::now().time_unix_ns / 1_000_000)
}

/// Locks; a thread that panicked while it held the lock has aborted the process already.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
