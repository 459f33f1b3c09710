//! The egress process's end of the spool (`stockade_event::spool`): what is allowed without a question
//! takes effect once it is there, without a word of the supervisor.

use std::{
    fs::File,
    io::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use stockade_event::spool::{Lease, entry};
use stockade_policy::Request;
use stockade_types::{DecisionRecord, Digest, SessionId, UnixMillis, Verdict};

use super::Decided;
use crate::limits::{LEASE_MAX, LEASE_MIN, UNLEASED};

/// Appends decisions, as long as there is a lease.
#[derive(Debug)]
pub(super) struct Spool {
    file: Option<File>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lease: Option<Lease>,
    /// What each record states besides the decision; known from the first one of the supervisor.
    known: Option<(Digest, SessionId)>,
    /// Decisions that could have been here, up to the first lease.
    unleased: u32,
    /// How many numbers to ask for.
    size: u64,
    /// Whether somebody asks now.
    asks: bool,
    /// Whether a write failed halfway: nothing can follow it.
    broken: bool,
}

impl Spool {
    pub(super) fn new(file: Option<File>) -> Self {
        let state = State {
            lease: None,
            known: None,
            unleased: 0,
            size: LEASE_MIN,
            asks: false,
            broken: file.is_none(),
        };
        Self {
            file,
            state: Mutex::new(state),
        }
    }

    /// Appends a decision, and returns its record; `None` if the supervisor has to journal it.
    pub(super) fn put(&self, decided: &Decided) -> Option<DecisionRecord> {
        if !needs_no_answer(decided) {
            return None;
        }
        let mut state = self.lock();
        let (revision, session) = state.known.clone()?;
        let number = state.lease.as_mut()?.take()?;
        let Decided {
            request, decision, ..
        } = decided;
        let record = decision.record(number, request, revision, session, now());
        let bytes = entry(&decided.event(record.clone())).ok()?;
        let written = self.file.as_ref()?.write(&bytes);
        if written.is_ok_and(|count| count == bytes.len()) {
            return Some(record);
        }
        state.lease = None;
        state.broken = true;
        None
    }

    /// Begins to ask for numbers, where a decision that goes to the supervisor shows that there are many.
    pub(super) fn wish(&self, decided: &Decided) -> Wish<'_> {
        let mut state = self.lock();
        let count = state.wanted(decided);
        if count > 0 {
            // What is left of it must not be used while the supervisor empties the file.
            state.lease = None;
            state.asks = true;
        }
        drop(state);
        Wish { spool: self, count }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wanted(&mut self, decided: &Decided) -> u64 {
        let has = self.lease.is_some_and(|lease| lease.count > 0);
        if self.broken || self.asks || has || !needs_no_answer(decided) {
            return 0;
        }
        // A session with few decisions has them in one row of numbers.
        if self.unleased < UNLEASED {
            self.unleased += 1;
            return 0;
        }
        self.size
    }
}

/// A request for numbers that is under way; over when it is dropped.
pub(super) struct Wish<'a> {
    spool: &'a Spool,
    count: u64,
}

impl Wish<'_> {
    /// Returns how many numbers are asked for.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Takes what the supervisor gives, with the record of the decision that it journaled.
    pub(super) fn grant(&self, lease: Option<Lease>, record: &DecisionRecord) {
        if self.count == 0 {
            return;
        }
        let mut state = self.spool.lock();
        state.known = Some((record.policy_revision, record.session.clone()));
        state.lease = lease;
        state.size = (state.size * 2).min(LEASE_MAX);
    }
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.spool.lock().asks = false;
        }
    }
}

/// Whether the policy allows it by itself: no answer is used up for it, and it need not be on the disk.
fn needs_no_answer(decided: &Decided) -> bool {
    let of_network = match &decided.request {
        Request::Net(_) | Request::Http(_) | Request::Name(_) => true,
        Request::Exec(_)
        | Request::File(_)
        | Request::Port(_)
        | Request::Tool(_)
        | Request::Definition(_) => false,
    };
    of_network && decided.decision.verdict == Verdict::Allow && decided.approvals.is_empty()
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map(|since| since.as_millis()).unwrap_or_default();
    UnixMillis(u64::try_from(millis).unwrap_or(u64::MAX))
}
