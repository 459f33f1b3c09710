//! A journal to which several threads append.

use std::{
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use stockade_event::{Durability, Stamp};
use stockade_types::Digest;

use crate::{
    Entry, Journal, JournalError,
    sink::SinkError,
    write::{Medium, describe},
};

/// A journal to which several threads append, with a clock.
///
/// Writers take turns; a sync does not delay threads that only write, and threads that wait for the
/// disk at the same time share one `fdatasync(2)`.
pub struct SharedJournal<C> {
    journal: Mutex<Option<Journal>>,
    disk: Disk,
    clock: C,
}

/// Brings the journal to the disk.
struct Disk {
    medium: Arc<dyn Medium>,
    path: PathBuf,
    progress: Mutex<Progress>,
    changed: Condvar,
}

/// The part of the journal that is on the disk.
#[derive(Default)]
struct Progress {
    /// Bytes of the journal on the disk.
    synced: u64,
    /// Whether a thread is syncing now.
    busy: bool,
    /// The failure after which nothing counts as synced.
    failed: Option<String>,
}

impl<C: Fn() -> Stamp> SharedJournal<C> {
    /// Shares `journal`; `clock` gives each event its time (normally [`crate::now`]).
    pub fn new(journal: Journal, clock: C) -> Self {
        let disk = Disk {
            medium: journal.medium(),
            path: journal.path(),
            progress: Mutex::default(),
            changed: Condvar::new(),
        };
        Self {
            journal: Mutex::new(Some(journal)),
            disk,
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
        let (number, bytes) = self.with(|journal, stamp| {
            let number = journal.append_all(stamp, source, entries, Durability::Written)?;
            Ok((number, journal.bytes()))
        })?;
        match durability {
            Durability::Written => {}
            Durability::Synced => self.sync_to(bytes)?,
        }
        Ok(number)
    }

    /// Returns how many bytes were written; 0 after the end.
    pub fn bytes(&self) -> u64 {
        self.lock().as_ref().map_or(0, Journal::bytes)
    }

    /// Signs and syncs the journal; must be called once a second.
    ///
    /// # Errors
    /// When the journal has failed.
    pub fn checkpoint(&self) -> Result<(), SinkError> {
        let new = self.with(|journal, stamp| {
            let signed = journal.sign_new(stamp)?;
            Ok(signed.then(|| journal.bytes()))
        })?;
        new.map_or(Ok(()), |bytes| self.sync_to(bytes))
    }

    /// Signs the end; later events are refused.
    ///
    /// # Errors
    /// When the journal has failed or was already finished.
    pub fn finish(&self) -> Result<Digest, SinkError> {
        let mut journal = self.lock();
        let finished = journal.take().ok_or(SinkError::Closed)?;
        finished.finish((self.clock)()).map_err(SinkError::Journal)
    }

    /// Returns when the first `bytes` of the journal are on the disk: through its own sync, or
    /// through another thread's that began after they were written.
    fn sync_to(&self, bytes: u64) -> Result<(), SinkError> {
        let disk = &self.disk;
        let mut progress = disk.lock();
        loop {
            if let Some(first) = &progress.failed {
                let first = first.clone();
                return Err(SinkError::Journal(JournalError::Failed { first }));
            }
            if progress.synced >= bytes {
                return Ok(());
            }
            if !progress.busy {
                break;
            }
            let woken = disk.changed.wait(progress);
            progress = woken.unwrap_or_else(PoisonError::into_inner);
        }
        progress.busy = true;
        drop(progress);
        // This sync also serves every thread that has written by now.
        let reached = self.lock().as_ref().map_or(bytes, Journal::bytes);
        let result = disk.medium.sync();
        let mut progress = disk.lock();
        progress.busy = false;
        let outcome = match result {
            Ok(()) => {
                progress.synced = progress.synced.max(reached);
                Ok(())
            }
            Err(source) => {
                let path = disk.path.clone();
                let error = JournalError::Sync { path, source };
                progress.failed = Some(describe(&error));
                Err(error)
            }
        };
        drop(progress);
        disk.changed.notify_all();
        if let (Err(error), Some(journal)) = (&outcome, self.lock().as_mut()) {
            journal.fail(error);
        }
        outcome.map_err(SinkError::Journal)
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut Journal, Stamp) -> Result<T, JournalError>,
    ) -> Result<T, SinkError> {
        // A panic of another thread cannot leave a relevant half record in memory: the journal
        // marks itself as failed before it writes and clears the mark afterwards.
        let mut journal = self.lock();
        let journal = journal.as_mut().ok_or(SinkError::Closed)?;
        // The clock is read under the lock, so that numbers and times have the same order.
        act(journal, (self.clock)()).map_err(SinkError::Journal)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Journal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Arc, Barrier,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    use stockade_event::{Durability, Event, Stamp};
    use stockade_types::SessionId;

    use super::{SharedJournal, SinkError};
    use crate::{Entry, Journal, SigningKey, write::Medium};

    /// A disk for which a test decides when a sync ends, and with which result.
    #[derive(Default)]
    struct Slow {
        written: AtomicUsize,
        /// Number of writes when the last successful sync began.
        synced: AtomicUsize,
        syncs: AtomicUsize,
        broken: AtomicBool,
        /// Reached when a sync begins, and again before it ends.
        gate: Option<Arc<Barrier>>,
    }

    impl Medium for Slow {
        fn write(&self, _: &[u8]) -> io::Result<()> {
            self.written.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            let written = self.written.load(Ordering::SeqCst);
            self.syncs.fetch_add(1, Ordering::SeqCst);
            if let Some(gate) = &self.gate {
                gate.wait();
                gate.wait();
            } else {
                thread::sleep(Duration::from_millis(2));
            }
            if self.broken.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.synced.fetch_max(written, Ordering::SeqCst);
            Ok(())
        }
    }

    fn shared(slow: &Arc<Slow>) -> (tempfile::TempDir, SharedJournal<fn() -> Stamp>) {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_create(&dir.path().join("key")).unwrap();
        let medium: Arc<dyn Medium> = Arc::<Slow>::clone(slow);
        let journal = Journal::on(medium, dir.path(), SessionId::from_random(1), key).unwrap();
        (dir, SharedJournal::new(journal, Stamp::default))
    }

    fn emit(
        journal: &SharedJournal<fn() -> Stamp>,
        durability: Durability,
    ) -> Result<u64, SinkError> {
        let event = Event::EventsLost {
            source: "test".to_owned(),
            count: 1,
            reason: String::new(),
        };
        let entry = Entry {
            process: None,
            scope: None,
            cause: None,
            event: &event,
        };
        journal.emit_all("supervisor", &[entry], durability)
    }

    #[test]
    fn those_who_wait_for_the_disk_together_share_a_sync() {
        const THREADS: usize = 8;
        const EACH: usize = 20;
        let slow = Arc::new(Slow::default());
        let (_dir, journal) = shared(&slow);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        let number = emit(&journal, Durability::Synced).unwrap();
                        // The header is the first write.
                        let synced = slow.synced.load(Ordering::SeqCst);
                        assert!(
                            synced > usize::try_from(number).unwrap(),
                            "{number} {synced}"
                        );
                    }
                });
            }
        });
        let syncs = slow.syncs.load(Ordering::SeqCst);
        assert!(syncs < THREADS * EACH / 2, "{syncs}");
    }

    #[test]
    fn who_only_writes_does_not_wait_for_the_sync_of_another() {
        let gate = Arc::new(Barrier::new(2));
        let slow = Arc::new(Slow {
            gate: Some(Arc::clone(&gate)),
            ..Slow::default()
        });
        let (_dir, journal) = shared(&slow);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| emit(&journal, Durability::Synced));
            gate.wait();
            // The other thread is in its sync, which ends only after this.
            assert_eq!(emit(&journal, Durability::Written).unwrap(), 2);
            assert!(journal.bytes() > 0);
            gate.wait();
            assert_eq!(waiting.join().unwrap().unwrap(), 1);
        });
        assert_eq!(slow.synced.load(Ordering::SeqCst), 2, "header and first");
    }

    #[test]
    fn a_sync_that_fails_is_final_for_everybody() {
        let slow = Arc::new(Slow::default());
        slow.broken.store(true, Ordering::SeqCst);
        let (_dir, journal) = shared(&slow);
        emit(&journal, Durability::Written).unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(emit(&journal, Durability::Synced).is_err()));
            }
        });
        // A disk that recovers does not restore what it had lost.
        slow.broken.store(false, Ordering::SeqCst);
        for durability in [Durability::Written, Durability::Synced] {
            assert!(emit(&journal, durability).is_err());
        }
        assert!(journal.checkpoint().is_err());
        assert!(journal.finish().is_err());
    }

    #[test]
    fn a_checkpoint_is_on_the_disk_when_it_returns_and_is_made_of_what_is_new() {
        let slow = Arc::new(Slow::default());
        let (_dir, journal) = shared(&slow);
        emit(&journal, Durability::Written).unwrap();
        journal.checkpoint().unwrap();
        assert_eq!(
            slow.synced.load(Ordering::SeqCst),
            3,
            "header, event, signature"
        );
        journal.checkpoint().unwrap();
        assert_eq!(slow.syncs.load(Ordering::SeqCst), 1);
    }
}
