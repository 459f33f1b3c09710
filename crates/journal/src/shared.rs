//! A journal that several threads append to.

use std::sync::{Mutex, PoisonError};

use stockade_event::{Durability, Stamp};
use stockade_types::Digest;

use crate::{Entry, Journal, JournalError};

/// Why an event was not taken; whoever wanted to let something happen must deny it.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The journal refused.
    #[error("the event was not recorded")]
    Journal(#[source] JournalError),
    /// The journal was finished.
    #[error("the journal of this session is closed; nothing more can be recorded")]
    Closed,
    /// The journal has the size that it may have.
    #[error("the journal has reached its {bytes_max} bytes (`record.journal_bytes_max`)")]
    Full {
        /// The bound.
        bytes_max: u64,
    },
}

/// A journal that several threads append to, with a clock.
pub struct SharedJournal<C> {
    journal: Mutex<Option<Journal>>,
    clock: C,
}

impl<C: Fn() -> Stamp> SharedJournal<C> {
    /// Shares `journal`; `clock` stamps what is emitted (normally [`crate::now`]).
    pub const fn new(journal: Journal, clock: C) -> Self {
        Self {
            journal: Mutex::new(Some(journal)),
            clock,
        }
    }

    /// Records events that belong together, with one write; returns the number of the last one.
    ///
    /// # Errors
    /// When it is not certain that they are recorded.
    pub fn emit_all(
        &self,
        source: &str,
        entries: &[Entry<'_>],
        durability: Durability,
    ) -> Result<u64, SinkError> {
        self.with(|journal, stamp| journal.append_all(stamp, source, entries, durability))
    }

    /// Returns how many bytes were written; 0 after the end.
    pub fn bytes(&self) -> u64 {
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.as_ref().map_or(0, Journal::bytes)
    }

    /// Signs and syncs what is there; to be called once a second.
    ///
    /// # Errors
    /// When the journal has failed.
    pub fn checkpoint(&self) -> Result<(), SinkError> {
        self.with(Journal::checkpoint)
    }

    /// Signs the end; later events are refused.
    ///
    /// # Errors
    /// When the journal has failed or was finished before.
    pub fn finish(&self) -> Result<Digest, SinkError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let finished = journal.take().ok_or(SinkError::Closed)?;
        finished.finish((self.clock)()).map_err(SinkError::Journal)
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut Journal, Stamp) -> Result<T, JournalError>,
    ) -> Result<T, SinkError> {
        // A panic of another thread cannot leave half a record in memory that matters: the journal
        // marks itself failed before it writes and clears the mark after.
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = journal.as_mut().ok_or(SinkError::Closed)?;
        // The clock is read under the lock, so that the order of numbers is the order of times.
        act(journal, (self.clock)()).map_err(SinkError::Journal)
    }
}
