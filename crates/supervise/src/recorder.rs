//! The session's one writer: numbers decisions and journals them.

#![deny(clippy::wildcard_enum_match_arm)]

use std::{
    fs::File,
    io,
    path::Path,
    slice,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use stockade_agents::Intent;
use stockade_event::{Counts, Durability, Event, ShadowCounts, Stamp, Tally, spool::Lease};
use stockade_journal::{Entry, SharedJournal, SinkError, Spool};
use stockade_policy::{Decision, Policy, RecordContent, Request};
use stockade_secrets::{hide, hide_words};
use stockade_types::{
    ClaimSource, DecisionId, DecisionRecord, Digest, LimitName, RawText, RequestKind, SessionId,
    Subject, Target, UnixMillis, ignored,
};

use crate::{
    denials::DENIALS_BYTES_MAX,
    notices::{Notices, denial},
    origins::{self, Admitted, Bound, Origins, SubAgent},
    repeats::Repeats,
    shadow::Shadow,
};

/// Source of the supervisor's own events.
pub const SUPERVISOR: &str = "supervisor";

/// Source of the events of the egress process.
pub const EGRESS: &str = "egress";

/// Most decisions that may take effect before the supervisor has to be asked again.
const LEASE_MAX: u64 = 256;
/// Bytes of the journal that are left for these; only requests with very long lines need more.
const LEASE_BYTES: u64 = 4 << 20;

/// A clock that stamps events.
type StampClock = fn() -> Stamp;

/// Bytes of a journal if policy sets no limit: some millions of events.
const JOURNAL_BYTES_MAX: u64 = 1 << 30;

/// The limits of the record.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    journal_bytes: u64,
    /// Bytes of the file of refusals.
    pub denials_bytes: u64,
    /// Texts of what is said may be in it.
    has_texts: bool,
}

impl From<&Policy> for Bounds {
    fn from(policy: &Policy) -> Self {
        let settings = &policy.settings().record;
        let journal = settings.journal_bytes_max.as_ref();
        let denials = settings.denials_bytes_max.as_ref();
        Self {
            journal_bytes: journal.map_or(JOURNAL_BYTES_MAX, |set| set.value.bytes()),
            denials_bytes: denials.map_or(DENIALS_BYTES_MAX, |set| set.value.bytes()),
            has_texts: policy.record_content() <= RecordContent::Redacted,
        }
    }
}

/// Writes the journal of one session.
pub struct Recorder {
    session: SessionId,
    revision: Digest,
    journal: SharedJournal<StampClock>,
    /// What the egress process lets happen before it is in the journal.
    spool: OnceLock<Spool>,
    journal_bytes_max: u64,
    /// Whether the journal already says that it is full.
    full: AtomicBool,
    /// Events that had no room in it and that it does not mention yet.
    lost: AtomicU64,
    next_decision: AtomicU64,
    /// The counts of written events.
    written: Mutex<Tally>,
    repeats: Mutex<Repeats>,
    origins: Origins,
    /// Texts of what is said may be in the record.
    has_texts: bool,
    notices: Mutex<Notices>,
    /// The candidate of a rollout, if there is one.
    shadow: Shadow,
}

impl Recorder {
    /// Makes the writer of one session.
    pub fn new(
        session: SessionId,
        revision: Digest,
        journal: SharedJournal<StampClock>,
        notices: Notices,
        bounds: Bounds,
    ) -> Self {
        Self {
            session,
            revision,
            journal,
            spool: OnceLock::new(),
            journal_bytes_max: bounds.journal_bytes,
            full: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            next_decision: AtomicU64::new(1),
            written: Mutex::default(),
            repeats: Mutex::default(),
            origins: Origins::default(),
            has_texts: bounds.has_texts,
            notices: Mutex::new(notices),
            shadow: Shadow::default(),
        }
    }

    /// Compares decisions with those of a candidate from now on.
    pub fn compare(&self, own: Arc<Policy>, candidate: Policy) {
        self.shadow.begin(own, candidate);
    }

    /// Returns how often a candidate was compared; `None` if there is none.
    pub fn compared(&self) -> Option<ShadowCounts> {
        self.shadow.counts()
    }

    /// Returns the revision of the policy that decides.
    pub const fn revision(&self) -> Digest {
        self.revision
    }

    /// Returns the number of the next decision.
    pub fn new_decision(&self) -> DecisionId {
        DecisionId::new(self.next_decision.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes the record of a decision, without writing it; secrets in a command are hidden. If a candidate
    /// would have decided otherwise, that is written.
    pub fn record(&self, id: DecisionId, request: &Request, decision: &Decision) -> DecisionRecord {
        if let Some(event) = self.shadow.seen(id, request, decision) {
            ignored(
                self.write(&event, Durability::Written),
                "the decision itself finds out that the journal has failed",
            );
        }
        let mut record = decision.record(id, request, self.revision, self.session.clone(), now());
        if let Some(hidden) = hide_words(&record.target.argv) {
            record.target.argv = hidden;
        }
        // Reasons and remedies can name the command.
        let texts = [&mut record.reason, &mut record.remedy].into_iter();
        for text in texts.chain(&mut record.nearest_allow) {
            if let Some(hidden) = hide(&RawText::from(text.as_str())) {
                *text = hidden.display();
            }
        }
        record
    }

    /// Makes the record of a decision about a system call, without writing it.
    pub fn record_call(
        &self,
        id: DecisionId,
        subject: Subject,
        call: String,
        decision: &Decision,
    ) -> DecisionRecord {
        let target = Target {
            call: Some(call),
            ..Target::default()
        };
        self.record_other(id, (RequestKind::Call, target), subject, decision)
    }

    /// Makes the record of a decision about a key that programs inside do not have, without writing it;
    /// `asked` says what for.
    pub fn record_credential(
        &self,
        id: DecisionId,
        subject: Subject,
        asked: String,
        decision: &Decision,
    ) -> DecisionRecord {
        let target = Target {
            call: Some(asked),
            ..Target::default()
        };
        self.record_other(id, (RequestKind::Credential, target), subject, decision)
    }

    /// Makes the record of a decision about something that no rule is about.
    fn record_other(
        &self,
        id: DecisionId,
        (kind, target): (RequestKind, Target),
        subject: Subject,
        decision: &Decision,
    ) -> DecisionRecord {
        DecisionRecord {
            decision: id,
            verdict: decision.verdict,
            kind,
            subject,
            target,
            rule: decision.rule.clone(),
            answered: None,
            reason: decision.reason.clone(),
            failed_condition: decision.failed_condition.clone(),
            nearest_allow: decision.nearest_allow.clone(),
            remedy: decision.remedy.clone(),
            policy_revision: self.revision,
            session: self.session.clone(),
            time: now(),
        }
    }

    /// Counts one more refusal for the reason of an earlier decision.
    pub fn count_again(&self, decision: DecisionId) {
        lock(&self.repeats).again(decision);
    }

    /// Moves a refusal that has its event to the end of the session's list.
    pub fn remind(&self, decision: &DecisionRecord) {
        lock(&self.notices).refused(&DecisionRecord {
            time: now(),
            ..decision.clone()
        });
    }

    /// Journals an event of the supervisor.
    ///
    /// # Errors
    /// When the journal cannot be written; the session ends then.
    pub fn write(&self, event: &Event, durability: Durability) -> Result<u64, SinkError> {
        self.write_from(SUPERVISOR, event, durability)
    }

    /// Journals an event; its effect may be visible only after this returns.
    ///
    /// # Errors
    /// When the journal cannot be written; the session ends then.
    pub fn write_from(
        &self,
        source: &str,
        event: &Event,
        durability: Durability,
    ) -> Result<u64, SinkError> {
        self.write_all(source, slice::from_ref(event), durability)
    }

    /// Journals events that belong together, with one write; returns the number of the last one, or
    /// 0 if the only one was counted and not written.
    ///
    /// # Errors
    /// When the journal cannot be written; the session ends then.
    pub fn write_all(
        &self,
        source: &str,
        events: &[Event],
        durability: Durability,
    ) -> Result<u64, SinkError> {
        self.take_in()?;
        self.room(events)?;
        if let ([event], Durability::Written) = (events, durability)
            && !self.needs_event(event)?
        {
            return Ok(0);
        }
        self.write_now(source, events, durability)
    }

    /// Makes the spool in the session's directory `dir`, and returns the end that the egress process
    /// appends to.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_spool(&self, dir: &Path) -> io::Result<File> {
        let (spool, writer) = Spool::create(dir)?;
        match self.spool.set(spool) {
            Ok(()) => Ok(writer),
            Err(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    /// Lets the egress process give out up to `count` numbers for decisions that take effect at once;
    /// none where the journal may not have the room.
    ///
    /// # Errors
    /// When what it wrote before cannot be journaled; the session ends then.
    pub fn lease(&self, count: u64) -> Result<Option<Lease>, SinkError> {
        // What the egress process records by itself could not be compared.
        let Some(spool) = self.spool.get().filter(|_| !self.shadow.compares()) else {
            return Ok(None);
        };
        let count = count.min(LEASE_MAX);
        let has_room = self.journal.bytes().saturating_add(LEASE_BYTES) < self.journal_bytes_max;
        let lease = (count > 0 && has_room).then(|| Lease {
            first: self.next_decision.fetch_add(count, Ordering::Relaxed),
            count,
        });
        spool.renew(lease, |events| self.write_spooled(events))
    }

    /// Journals what the egress process has let happen.
    fn take_in(&self) -> Result<(), SinkError> {
        let Some(spool) = self.spool.get() else {
            return Ok(());
        };
        spool.take_in(|events| self.write_spooled(events))
    }

    fn write_spooled(&self, events: &[Event]) -> Result<(), SinkError> {
        self.write_now(EGRESS, events, Durability::Written)
            .map(drop)
    }

    fn write_now(
        &self,
        source: &str,
        events: &[Event],
        durability: Durability,
    ) -> Result<u64, SinkError> {
        let origins: Vec<_> = events.iter().map(|event| self.origins.of(event)).collect();
        let entries: Vec<Entry<'_>> = events
            .iter()
            .zip(&origins)
            .map(|(event, (scope, cause))| Entry {
                process: None,
                scope: scope.as_deref(),
                cause: *cause,
                event,
            })
            .collect();
        let number = self.journal.emit_all(source, &entries, durability)?;
        let mut written = lock(&self.written);
        for entry in entries {
            written.add(entry.scope, entry.event);
        }
        drop(written);
        lock(&self.notices).take(events, now());
        Ok(number)
    }

    /// Refuses events that precede an effect once the journal has its maximum size; the closing
    /// events of the record always have room.
    fn room(&self, events: &[Event]) -> Result<(), SinkError> {
        let bytes_max = self.journal_bytes_max;
        let bytes = self.journal.bytes();
        if bytes < bytes_max || events.iter().all(Event::closes) {
            return Ok(());
        }
        if !self.full.swap(true, Ordering::Relaxed) {
            let reached = Event::LimitReached {
                limit: LimitName::Journal,
                configured: bytes_max,
                usage: bytes,
                detail: "nothing more is allowed, and the session ends".to_owned(),
            };
            self.write_now(SUPERVISOR, &[reached], Durability::Synced)?;
        }
        let lost = u64::try_from(events.len()).unwrap_or(u64::MAX);
        self.lost.fetch_add(lost, Ordering::Relaxed);
        Err(SinkError::Full { bytes_max })
    }

    /// Whether an event is to be written: one that repeats a refusal too often is only counted.
    fn needs_event(&self, event: &Event) -> Result<bool, SinkError> {
        let Some(decision) = denial(event) else {
            return Ok(true);
        };
        let mut repeats = lock(&self.repeats);
        let told = if repeats.is_full() {
            repeats.told()
        } else {
            Vec::new()
        };
        let needed = repeats.needs_event(event, decision);
        drop(repeats);
        self.tell(&told)?;
        Ok(needed)
    }

    /// Journals what is in the spool, and the number of repeated refusals and of events that had no room
    /// since the last such entry.
    fn tell_counted(&self) -> Result<(), SinkError> {
        self.take_in()?;
        let mut told = self.origins.findings();
        told.extend(lock(&self.repeats).told());
        let count = self.lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            told.push(Event::EventsLost {
                source: SUPERVISOR.to_owned(),
                count,
                reason: format!(
                    "the journal had its {} bytes (record.journal_bytes_max), so what they tell of \
                     was refused",
                    self.journal_bytes_max
                ),
            });
        }
        self.tell(&told)
    }

    fn tell(&self, counted: &[Event]) -> Result<(), SinkError> {
        if counted.is_empty() {
            return Ok(());
        }
        self.write_now(SUPERVISOR, counted, Durability::Written)
            .map(|_| ())
    }

    /// Journals what was only counted so far, and returns the totals of everything written.
    pub fn counts(&self) -> Counts {
        ignored(
            self.tell_counted(),
            "a journal that fails takes no later event either, so the caller's next write fails",
        );
        lock(&self.written).counts()
    }

    /// Journals what was only counted, and signs and syncs all; to be called once a second.
    ///
    /// # Errors
    /// When the journal cannot be written; the session ends then.
    pub fn checkpoint(&self) -> Result<(), SinkError> {
        self.tell_counted()?;
        self.journal.checkpoint()
    }

    /// Signs the end of the journal and returns the hash of its last line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(&self) -> Result<Digest, SinkError> {
        self.take_in()?;
        let end = self.journal.finish()?;
        if let Some(spool) = self.spool.get() {
            spool.remove();
        }
        Ok(end)
    }

    /// Returns where effects come from.
    pub const fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Returns what the tool call that a process works for says of itself, where policy lets texts into the
    /// record: a question is part of it.
    pub fn says(&self, subject: &Subject) -> Option<String> {
        self.has_texts
            .then(|| self.origins.says(subject.id?))
            .flatten()
    }

    /// Journals what an agent or a model said, and what becomes known by it; returns the number of the
    /// event that has the claim, or 0 if it was said before.
    ///
    /// # Errors
    /// When the journal cannot be written; the session ends then.
    pub fn write_claim(
        &self,
        source: &str,
        mut event: Event,
        intent: Intent,
    ) -> Result<u64, SinkError> {
        let (seq, learned) = match self.origins.admits(&mut event, &intent) {
            Admitted::Before => return Ok(0),
            Admitted::New => {
                let seq = self.write_from(source, &event, Durability::Written)?;
                (seq, self.origins.claimed(seq, &event, intent))
            }
            Admitted::Again { claim, agrees } => {
                if let Some(event) = repeated(claim, agrees, &event) {
                    self.write_from(source, &event, Durability::Written)?;
                }
                let learned = self.origins.repeated(claim, &event, intent);
                (claim, learned)
            }
        };
        if let Some(event) = learned.sub_agent.and_then(|one| sub_agent(one, &event)) {
            self.write_from(source, &event, Durability::Written)?;
        }
        for bound in learned.scopes {
            let process = Subject {
                id: Some(bound.first),
                ..Subject::default()
            };
            self.write(&scope_bound(&bound, process), Durability::Written)?;
        }
        Ok(seq)
    }
}

/// Says that another source has made a claim that is in the record as event `claim`.
fn repeated(claim: u64, agrees: bool, event: &Event) -> Option<Event> {
    Some(Event::ClaimRepeated {
        process: event.subject()?.clone(),
        learned_from: event.learned_from()?,
        claim,
        agrees,
    })
}

/// Says what became of a sub-agent by a claim.
fn sub_agent(sub_agent: SubAgent, claim: &Event) -> Option<Event> {
    let process = claim.subject()?.clone();
    let learned_from = ClaimSource::Traffic;
    Some(match sub_agent {
        SubAgent::Started { call, prompt } => Event::AgentStarted {
            process,
            learned_from,
            call,
            prompt,
        },
        SubAgent::Ended { call } => Event::AgentEnded {
            process,
            learned_from,
            call,
        },
    })
}

/// Says that the call of a scope has become known.
pub(crate) fn scope_bound(bound: &Bound, process: Subject) -> Event {
    Event::ScopeBound {
        scope: origins::name(bound.number),
        process,
        call: bound.call,
        certainty: bound.certainty,
    }
}

/// Returns the current time for decisions.
pub fn now() -> UnixMillis {
    UnixMillis(stockade_journal::now().time_unix_ns / 1_000_000)
}

/// Locks; a thread that panicked while it held the lock has already aborted the process.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
