//! The supervisor's end of the spool (`stockade_event::spool`).
//!
//! The egress process may append to it only under a lease: a range of decision numbers, and with it a
//! bound on what can lie there. The supervisor takes everything in before it writes any event of its
//! own, so that the journal has the order in which things took effect, and at least once a second. It
//! empties the file when it grants a lease, because only then nobody appends.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use stockade_event::{
    Event,
    spool::{self, Lease},
};
use stockade_types::{Verdict, ignored};

use crate::{
    SPOOL_BYTES_MAX, layout,
    sink::{SinkError, SpoolFault},
};

/// The file, and how far it was taken in.
pub struct Spool {
    file: File,
    path: PathBuf,
    /// Bytes that are in the journal; also the answer to whether there is more, without a lock.
    taken: AtomicU64,
    lease: Mutex<Option<Lease>>,
}

impl Spool {
    /// Makes the spool in the session's directory; returns it with the egress process's end.
    ///
    /// # Errors
    /// When there is already one, or it cannot be made.
    pub fn create(dir: &Path) -> io::Result<(Self, File)> {
        let path = dir.join(layout::SPOOL_FILE);
        let mut new = OpenOptions::new();
        let file = new
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        // This end can only append: whatever holds it cannot take back what it wrote.
        let writer = OpenOptions::new().append(true).open(&path)?;
        let spool = Self {
            file,
            path,
            taken: AtomicU64::new(0),
            lease: Mutex::default(),
        };
        Ok((spool, writer))
    }

    /// Has `write` journal what is new; nothing counts as taken in before it returns.
    ///
    /// # Errors
    /// When that fails, or the file has what does not belong there; the session ends then.
    pub fn take_in(
        &self,
        write: impl FnOnce(&[Event]) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        if self.length().map_err(SinkError::Spool)? == self.taken.load(Ordering::Acquire) {
            return Ok(());
        }
        let lease = self.lock();
        self.take_in_locked(lease.as_ref(), write)
    }

    /// Takes everything in, empties the file and lets the egress process append `lease`; without one it
    /// must not append any more. Returns what was granted: nothing after a write that failed halfway.
    ///
    /// # Errors
    /// As [`Self::take_in`].
    pub fn renew(
        &self,
        lease: Option<Lease>,
        write: impl FnOnce(&[Event]) -> Result<(), SinkError>,
    ) -> Result<Option<Lease>, SinkError> {
        let mut own = self.lock();
        self.take_in_locked(own.as_ref(), write)?;
        let taken = self.taken.load(Ordering::Acquire);
        // What is left of a write that failed in the middle has no end, and nothing can follow it.
        let granted = lease.filter(|_| self.length().is_ok_and(|length| length == taken));
        if granted.is_some() {
            let emptied = self.file.set_len(0).map_err(SpoolFault::Io);
            emptied.map_err(SinkError::Spool)?;
            self.taken.store(0, Ordering::Release);
        }
        *own = granted;
        Ok(granted)
    }

    /// Removes the file once the journal has everything.
    pub fn remove(&self) {
        ignored(
            std::fs::remove_file(&self.path),
            "a closed journal has everything that is in it",
        );
    }

    fn length(&self) -> Result<u64, SpoolFault> {
        self.file
            .metadata()
            .map(|metadata| metadata.len())
            .map_err(SpoolFault::Io)
    }

    /// Reads the whole entries after `taken`, and returns them with their bytes.
    fn new_events(
        &self,
        taken: u64,
        lease: Option<&Lease>,
    ) -> Result<(Vec<Event>, u64), SpoolFault> {
        let new = self.length()?.min(SPOOL_BYTES_MAX).saturating_sub(taken);
        let mut bytes = vec![0; usize::try_from(new).unwrap_or_default()];
        self.file
            .read_exact_at(&mut bytes, taken)
            .map_err(SpoolFault::Io)?;
        let (events, length) = spool::entries(&bytes).map_err(SpoolFault::Entry)?;
        for event in &events {
            belongs(event, lease).map_err(SpoolFault::Foreign)?;
        }
        Ok((events, u64::try_from(length).unwrap_or(u64::MAX)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in_locked(
        &self,
        lease: Option<&Lease>,
        write: impl FnOnce(&[Event]) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        let taken = self.taken.load(Ordering::Acquire);
        let (events, length) = self.new_events(taken, lease).map_err(SinkError::Spool)?;
        if !events.is_empty() {
            write(&events)?;
            self.taken.store(taken + length, Ordering::Release);
        }
        Ok(())
    }
}

/// Tells whether the egress process may write an event without waiting.
fn belongs(event: &Event, lease: Option<&Lease>) -> Result<(), &'static str> {
    let (Event::NameDecided { decision }
    | Event::HttpDecided { decision }
    | Event::ConnectionDecided { decision, .. }) = event
    else {
        return Err("it is no decision about the network");
    };
    if decision.verdict != Verdict::Allow {
        return Err("only what is allowed goes on without an answer");
    }
    if !lease.is_some_and(|lease| lease.has(decision.decision)) {
        return Err("its number was not given out");
    }
    Ok(())
}
