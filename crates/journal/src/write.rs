//! The writer.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::fs::{Mode, OFlags};
use stockade_event::{Durability, Event, Stamp};
use stockade_types::{Digest, SessionId, Subject};

use crate::{
    bound::RECORD_BYTES_MAX,
    compact::{Compactor, Entry, Position, Unwritable},
    format::{
        Checkpoint, Header, checkpoint_chain, checkpoint_line, event_chain, event_line, genesis,
        signed_message,
    },
    key::SigningKey,
    layout::{HEAD_FILE, JOURNAL_FILE},
};

/// Why something is not in the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file could not be created; it must not exist.
    #[error("cannot create the journal `{path}`")]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file could not be written.
    #[error("cannot write to the journal `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file could not be synced to disk.
    #[error("cannot sync the journal `{path}` to disk")]
    Sync {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The event could not be put into JSON.
    #[error("cannot encode an event of kind `{kind}`")]
    Encode {
        /// Its kind.
        kind: &'static str,
        /// What went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The event stays too large even when its fields are cut.
    #[error("an event of kind `{kind}` does not fit into {RECORD_BYTES_MAX} bytes")]
    TooLarge {
        /// Its kind.
        kind: &'static str,
    },
    /// An earlier operation failed, so later lines could not be trusted.
    #[error("the journal stopped after an earlier failure: {first}")]
    Failed {
        /// The earlier failure.
        first: String,
    },
}

/// The target of a journal's writes; a seam for segments and for tests. It can be synced while more
/// is written to it.
pub(super) trait Medium: Send + Sync {
    fn write(&self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// A new file, and its directory until the file's entry in it is on the disk.
struct NewFile {
    file: File,
    dir: Mutex<Option<File>>,
}

impl Medium for NewFile {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        // One `write(2)`, unless the disk fills up in the middle; then the rest is tried again to
        // learn the reason, and the torn line stays for `verify` to report.
        (&self.file).write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        // A record on the disk without a directory entry would be lost if the machine crashed. The
        // first sync is soon enough, and by then the disk usually has both.
        let mut unsynced = self.dir.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dir) = &*unsynced {
            dir.sync_all()?;
            *unsynced = None;
        }
        Ok(())
    }
}

/// The journal of one running session.
///
/// An error of any operation is final: all later ones fail too, so that a caller that must record
/// before acting stops acting.
pub struct Journal {
    medium: Arc<dyn Medium>,
    dir: PathBuf,
    session: SessionId,
    key: SigningKey,
    /// Number of the last event.
    seq: u64,
    /// Bytes that were written.
    bytes: u64,
    /// Chain value of the last line.
    chain: Digest,
    /// Whether there is an event after the last checkpoint.
    unsigned: bool,
    /// The first failure; also set while an operation runs, so that a panic counts as one.
    failed: Option<String>,
    compactor: Compactor,
    body: Vec<u8>,
    lines: Vec<u8>,
}

impl Journal {
    /// Creates the journal of `session` in its directory `dir`, which must exist.
    ///
    /// # Errors
    /// When there is already one, or it cannot be written.
    pub fn create(dir: &Path, session: SessionId, key: SigningKey) -> Result<Self, JournalError> {
        let path = dir.join(JOURNAL_FILE);
        let failed = |source| JournalError::Create {
            path: path.clone(),
            source,
        };
        let file = create_plain(&path).map_err(failed)?;
        let medium = NewFile {
            file,
            dir: Mutex::new(Some(File::open(dir).map_err(failed)?)),
        };
        Self::on(Arc::new(medium), dir, session, key)
    }

    /// Starts a journal on `medium`.
    pub(crate) fn on(
        medium: Arc<dyn Medium>,
        dir: &Path,
        session: SessionId,
        key: SigningKey,
    ) -> Result<Self, JournalError> {
        let header = Header::new(&session, &key.verifying_key());
        let mut line = header.line().map_err(|source| JournalError::Encode {
            kind: "header",
            source,
        })?;
        let chain = genesis(&line);
        line.push(b'\n');
        medium.write(&line).map_err(|source| JournalError::Write {
            path: dir.join(JOURNAL_FILE),
            source,
        })?;
        Ok(Self {
            medium,
            dir: dir.to_owned(),
            session,
            key,
            seq: 0,
            bytes: u64::try_from(line.len()).unwrap_or(u64::MAX),
            chain,
            unsigned: true,
            failed: None,
            compactor: Compactor::new(),
            body: Vec::new(),
            lines: line,
        })
    }

    /// Appends `event` and returns its number, once it is as safe as `durability` asks.
    ///
    /// `process` is for events that do not name one themselves, `scope` is the first-level command.
    /// Fields that would make the record larger than 64 KiB are cut; the record says which, with
    /// their size and digest.
    ///
    /// # Errors
    /// When it is not certain that the record is written; every later call fails too.
    pub fn append(
        &mut self,
        stamp: Stamp,
        source: &str,
        process: Option<&Subject>,
        scope: Option<&str>,
        event: &Event,
        durability: Durability,
    ) -> Result<u64, JournalError> {
        let entry = Entry {
            process,
            scope,
            cause: None,
            event,
        };
        self.append_all(stamp, source, &[entry], durability)
    }

    /// Appends events that belong together, with one write; returns the number of the last one.
    ///
    /// # Errors
    /// As [`Self::append`]; then none of them counts as recorded.
    pub fn append_all(
        &mut self,
        stamp: Stamp,
        source: &str,
        entries: &[Entry<'_>],
        durability: Durability,
    ) -> Result<u64, JournalError> {
        self.guarded(|journal| {
            let (mut seq, mut chain) = (journal.seq, journal.chain);
            journal.lines.clear();
            for entry in entries {
                seq += 1;
                let position = Position {
                    session: &journal.session,
                    seq,
                    stamp,
                    source,
                };
                let kind = entry.event.kind();
                journal
                    .compactor
                    .encode(&mut journal.body, position, *entry)
                    .map_err(|error| match error {
                        Unwritable::Json(source) => JournalError::Encode { kind, source },
                        Unwritable::TooLarge => JournalError::TooLarge { kind },
                    })?;
                chain = event_chain(&chain, &journal.body);
                event_line(&mut journal.lines, &chain, &journal.body);
                journal.lines.push(b'\n');
            }
            journal.write_lines()?;
            journal.seq = seq;
            journal.chain = chain;
            journal.unsigned = true;
            match durability {
                Durability::Written => {}
                Durability::Synced => journal.sync()?,
            }
            Ok(seq)
        })
    }

    /// Signs everything so far and syncs it to disk; does nothing if nothing is new.
    ///
    /// # Errors
    /// When it cannot be written or synced; every later call fails too.
    pub fn checkpoint(&mut self, stamp: Stamp) -> Result<(), JournalError> {
        if self.sign_new(stamp)? {
            self.guarded(Self::sync)?;
        }
        Ok(())
    }

    /// Signs everything so far without syncing it; returns whether anything was new.
    pub(crate) fn sign_new(&mut self, stamp: Stamp) -> Result<bool, JournalError> {
        if self.failed.is_none() && !self.unsigned {
            return Ok(false);
        }
        self.guarded(|journal| journal.sign(stamp, End::Open))?;
        Ok(true)
    }

    /// Returns the target of its writes, so that it can be synced while more is written.
    pub(crate) fn medium(&self) -> Arc<dyn Medium> {
        Arc::clone(&self.medium)
    }

    /// Returns the file, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(JOURNAL_FILE)
    }

    /// Makes every later operation fail, because earlier writes may not be on the disk.
    pub(crate) fn fail(&mut self, why: &JournalError) {
        self.failed.get_or_insert_with(|| describe(why));
    }

    /// Signs the end, syncs it to disk, and stores the signed end in a separate file, so that a
    /// closed journal cannot be cut back to an earlier checkpoint. Returns the final chain value.
    ///
    /// # Errors
    /// When any of that fails; the journal then counts as unfinished.
    pub fn finish(mut self, stamp: Stamp) -> Result<Digest, JournalError> {
        self.guarded(|journal| {
            journal.sign(stamp, End::Closed)?;
            journal.sync()?;
            write_head(&journal.dir, &journal.lines).map_err(|source| JournalError::Write {
                path: journal.dir.join(HEAD_FILE),
                source,
            })
        })?;
        Ok(self.chain)
    }

    /// Returns the number of the last event, 0 before the first.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns how many bytes were written.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Runs one operation; records a failure, or a panic in it.
    fn guarded<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        if let Some(first) = &self.failed {
            return Err(JournalError::Failed {
                first: first.clone(),
            });
        }
        self.failed = Some(String::new());
        let result = act(self);
        self.failed = result.as_ref().err().map(describe);
        result
    }

    fn sign(&mut self, stamp: Stamp, end: End) -> Result<(), JournalError> {
        let checkpoint = Checkpoint {
            session: self.session.clone(),
            seq: self.seq,
            time_unix_ns: stamp.time_unix_ns,
            mono_ns: stamp.mono_ns,
            closed: end == End::Closed,
            key: self.key.verifying_key().to_string(),
        };
        self.body.clear();
        serde_json::to_writer(&mut self.body, &checkpoint).map_err(|source| {
            JournalError::Encode {
                kind: "checkpoint",
                source,
            }
        })?;
        let chain = checkpoint_chain(&self.chain, &self.body);
        let signature = self.key.sign(&signed_message(&chain, &self.body));
        self.lines.clear();
        checkpoint_line(&mut self.lines, &chain, &self.body, &signature);
        self.lines.push(b'\n');
        self.write_lines()?;
        self.chain = chain;
        self.unsigned = false;
        Ok(())
    }

    fn write_lines(&mut self) -> Result<(), JournalError> {
        self.medium
            .write(&self.lines)
            .map_err(|source| JournalError::Write {
                path: self.path(),
                source,
            })?;
        let written = u64::try_from(self.lines.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(written);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        self.medium.sync().map_err(|source| JournalError::Sync {
            path: self.path(),
            source,
        })
    }
}

/// Whether a checkpoint is the last one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Closed,
}

/// Describes a failure with its cause in one line, for the errors that follow it.
pub(crate) fn describe(error: &JournalError) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// Creates a file that must not exist, for appending, readable by its owner alone.
fn create_plain(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::EXCL
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(
        path,
        flags,
        Mode::RUSR | Mode::WUSR,
    )?))
}

/// Writes the head file in one step: it exists with all its bytes or not at all.
fn write_head(dir: &Path, line: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{HEAD_FILE}.new"));
    let mut file = create_plain(&new)?;
    file.write_all(line)?;
    file.sync_all()?;
    std::fs::rename(&new, dir.join(HEAD_FILE))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io,
        sync::{
            Arc, Mutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use stockade_types::SessionId;

    use stockade_event::{Durability, Event, Stamp};

    use super::{Journal, JournalError, Medium, NewFile};
    use crate::SigningKey;

    /// Accepts `room` operations and then fails always, or once.
    struct Failing {
        room: Mutex<usize>,
        once: bool,
        calls: Arc<AtomicUsize>,
    }

    impl Failing {
        fn step(&self) -> io::Result<()> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let mut room = self.room.lock().unwrap();
            if *room == 0 {
                if self.once {
                    *room = usize::MAX;
                }
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            *room -= 1;
            Ok(())
        }
    }

    impl Medium for Failing {
        fn write(&self, _: &[u8]) -> io::Result<()> {
            self.step()
        }

        fn sync(&self) -> io::Result<()> {
            self.step()
        }
    }

    fn event() -> Event {
        Event::EventsLost {
            source: "test".to_owned(),
            count: 1,
            reason: String::new(),
        }
    }

    fn append(journal: &mut Journal, durability: Durability) -> Result<u64, JournalError> {
        journal.append(
            Stamp::default(),
            "supervisor",
            None,
            None,
            &event(),
            durability,
        )
    }

    fn on(dir: &std::path::Path, room: usize, calls: &Arc<AtomicUsize>) -> Journal {
        let key = SigningKey::load_or_create(&dir.join("key")).unwrap();
        let medium = Failing {
            room: Mutex::new(room),
            once: true,
            calls: Arc::clone(calls),
        };
        Journal::on(Arc::new(medium), dir, SessionId::from_random(1), key).unwrap()
    }

    #[test]
    fn a_failure_is_final_even_when_the_medium_recovers() {
        let dir = tempfile::tempdir().unwrap();
        let calls = Arc::default();
        // Header and one event fit; the second event does not.
        let mut journal = on(dir.path(), 2, &calls);
        assert_eq!(append(&mut journal, Durability::Written).unwrap(), 1);
        let error = append(&mut journal, Durability::Written).unwrap_err();
        assert!(matches!(error, JournalError::Write { .. }), "{error}");
        let seen = calls.load(Ordering::Relaxed);
        for _ in 0..3 {
            let error = append(&mut journal, Durability::Written).unwrap_err();
            assert!(matches!(error, JournalError::Failed { .. }), "{error}");
        }
        assert!(journal.checkpoint(Stamp::default()).is_err());
        assert_eq!(journal.seq(), 1);
        assert!(journal.finish(Stamp::default()).is_err());
        assert_eq!(
            calls.load(Ordering::Relaxed),
            seen,
            "nothing more was written"
        );
        assert!(!dir.path().join("head").exists());
    }

    #[test]
    fn a_record_that_cannot_be_synced_is_not_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let calls = Arc::default();
        let mut journal = on(dir.path(), 2, &calls);
        let error = append(&mut journal, Durability::Synced).unwrap_err();
        assert!(matches!(error, JournalError::Sync { .. }), "{error}");
        assert!(append(&mut journal, Durability::Written).is_err());
    }

    #[test]
    fn a_journal_whose_name_is_not_on_disk_is_not_synced() {
        let dir = tempfile::tempdir().unwrap();
        let on = |parent: &std::path::Path| NewFile {
            file: tempfile::tempfile_in(dir.path()).unwrap(),
            dir: Mutex::new(Some(File::open(parent).unwrap())),
        };
        let journal = on(dir.path());
        journal.sync().unwrap();
        // Once is enough: the entry stays on the disk.
        assert!(journal.dir.lock().unwrap().is_none());
        journal.sync().unwrap();
        // A file that cannot be synced represents a directory whose sync fails (fsync(2), EINVAL).
        let journal = on(std::path::Path::new("/dev/null"));
        for _ in 0..2 {
            assert!(journal.sync().is_err());
        }
    }

    #[test]
    fn a_checkpoint_writes_only_what_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let mut journal = on(dir.path(), 100, &calls);
        append(&mut journal, Durability::Written).unwrap();
        journal.checkpoint(Stamp::default()).unwrap();
        let seen = calls.load(Ordering::Relaxed);
        assert_eq!(seen, 4, "header, event, signature, sync");
        journal.checkpoint(Stamp::default()).unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), seen);
    }

    #[test]
    fn a_panic_in_the_middle_counts_as_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = on(dir.path(), 100, &Arc::default());
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            journal.guarded(|_| -> Result<(), JournalError> { panic!("in the middle") })
        }));
        assert!(caught.is_err());
        assert!(append(&mut journal, Durability::Written).is_err());
    }
}
