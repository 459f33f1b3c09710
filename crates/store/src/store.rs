//! The index, which is filled only from the journals.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Stat, statat},
    io::Errno,
};
use sqlx::SqliteConnection;
use stockade_event::{Summary, stats::Stats};
use stockade_journal::{
    ReadError,
    layout::{INDEX_FILE, JOURNAL_FILE, PACKED_FILE, SESSIONS_DIR, session_dir},
    read_from,
};
use stockade_types::{SessionId, chain};
use tokio::runtime::Runtime;

use crate::{
    database::{self, Indexed, OpenError, Progress},
    error::StoreError,
    row::SessionRow,
};

/// How many candidates an error about an ambiguous prefix names; more do not help a person choose.
const CANDIDATES_SHOWN_MAX: usize = 5;
/// The word for the newest session.
const LAST: &str = "last";

/// Time after which a transaction over many journals ends: another process waits at most for this
/// time and one journal.
const TRANSACTION: Duration = Duration::from_millis(100);

/// The index of the sessions of one state directory.
pub struct Store {
    runtime: Runtime,
    connection: SqliteConnection,
    state_dir: PathBuf,
    path: PathBuf,
    place: Place,
    /// Why the journal of each of these could not be read.
    unindexed: BTreeMap<SessionId, String>,
    notes: Vec<String>,
}

/// The place of the index.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    File,
    Memory,
}

impl Store {
    /// Opens the index of `state_dir`, which must exist. An empty index replaces a damaged one, and
    /// an index in memory replaces one that cannot be written (the disk is full or read-only).
    /// [`Self::notes`] reports both, and the next [`Self::ingest_all`] fills the index.
    ///
    /// # Errors
    /// When not even an index in memory can be made.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(INDEX_FILE);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StoreError::Runtime)?;
        let mut notes = Vec::new();
        let (connection, place) = match open_file(&runtime, &path, &mut notes) {
            Ok(connection) => (connection, Place::File),
            Err(error) => {
                notes.push(in_memory_because(&error));
                (open_memory(&runtime, &path)?, Place::Memory)
            }
        };
        Ok(Self {
            runtime,
            connection,
            state_dir: state_dir.to_owned(),
            path,
            place,
            unindexed: BTreeMap::new(),
            notes,
        })
    }

    /// Returns notes about the index for a person.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Reads the new part of the journal of `session`.
    ///
    /// # Errors
    /// When the journal cannot be read or the index cannot be written.
    pub fn ingest(&mut self, session: &SessionId) -> Result<(), StoreError> {
        let Self {
            runtime,
            connection,
            path,
            state_dir,
            ..
        } = self;
        runtime.block_on(async {
            let mut transaction = database::begin(connection)
                .await
                .map_err(|source| failed(path, source))?;
            ingest_in(&mut transaction, path, state_dir, session).await?;
            transaction
                .commit()
                .await
                .map_err(|source| failed(path, source))
        })
    }

    /// Reads the new parts of all journals; calls `report` with the number of finished and of all
    /// sessions. An unreadable journal is noted and does not stop the others. If the index can no
    /// longer be written, one in memory replaces it.
    ///
    /// # Errors
    /// When the folder of sessions cannot be read or the index fails in memory too.
    pub fn ingest_all(&mut self, report: &mut dyn FnMut(usize, usize)) -> Result<(), StoreError> {
        match self.ingest_each(report) {
            Err(error @ StoreError::Database { .. }) if self.place == Place::File => {
                self.notes.push(in_memory_because(&error));
                self.connection = open_memory(&self.runtime, &self.path)?;
                self.place = Place::Memory;
                self.ingest_each(report)
            }
            result => result,
        }
    }

    fn ingest_each(&mut self, report: &mut dyn FnMut(usize, usize)) -> Result<(), StoreError> {
        let sessions = self.on_disk()?;
        let known = self
            .runtime
            .block_on(database::progress(&mut self.connection))
            .map_err(|source| failed(&self.path, source))?;
        let before = std::mem::take(&mut self.unindexed);
        let folder = self.state_dir.join(SESSIONS_DIR);
        // Paths below a descriptor are resolved in fewer steps, and there are thousands of them. A
        // missing folder has no sessions.
        let folder = File::open(&folder).ok();
        let is_due = |(session, kind): &(SessionId, Kind)| {
            let known = known.get(session.as_str()).zip(folder.as_ref());
            !known.is_some_and(|(known, folder)| {
                known.covers(there(folder, session.as_str().as_ref(), *kind))
            })
        };
        let total = sessions.len();
        let due = sessions.into_iter().filter(is_due).map(|(id, _)| id);
        let due: Vec<SessionId> = due.collect();
        let mut rest = due.as_slice();
        while !rest.is_empty() {
            report(total - rest.len(), total);
            rest = self.ingest_some(rest, &before)?;
        }
        report(total, total);
        Ok(())
    }

    /// Reads the new parts of the first of these journals, in one transaction; returns the others.
    fn ingest_some<'a>(
        &mut self,
        sessions: &'a [SessionId],
        before: &BTreeMap<SessionId, String>,
    ) -> Result<&'a [SessionId], StoreError> {
        let Self {
            runtime,
            connection,
            path,
            state_dir,
            unindexed,
            notes,
            ..
        } = self;
        runtime.block_on(async {
            let began = Instant::now();
            let mut transaction = database::begin(connection)
                .await
                .map_err(|source| failed(path, source))?;
            let mut rest = sessions;
            while let Some((session, others)) = rest.split_first()
                && (rest.len() == sessions.len() || began.elapsed() < TRANSACTION)
            {
                rest = others;
                match ingest_in(&mut transaction, path, state_dir, session).await {
                    Err(error @ StoreError::Journal { .. }) => {
                        let why = chain(&error);
                        if before.get(session) != Some(&why) {
                            notes.push(why.clone());
                        }
                        unindexed.insert(session.clone(), why);
                    }
                    result => result?,
                }
            }
            transaction
                .commit()
                .await
                .map_err(|source| failed(path, source))?;
            Ok(rest)
        })
    }

    /// Forgets a session whose owner has removed its record.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn forget(&mut self, session: &SessionId) -> Result<(), StoreError> {
        self.unindexed.remove(session);
        let Self {
            runtime,
            connection,
            path,
            ..
        } = self;
        runtime
            .block_on(database::remove(connection, session.as_str()))
            .map_err(|source| failed(path, source))
    }

    /// Forgets everything and reads all journals from their beginning.
    ///
    /// # Errors
    /// As [`Self::ingest_all`].
    pub fn rebuild(&mut self, report: &mut dyn FnMut(usize, usize)) -> Result<(), StoreError> {
        let Self {
            runtime,
            connection,
            path,
            ..
        } = self;
        runtime
            .block_on(database::clear(connection))
            .map_err(|source| failed(path, source))?;
        self.ingest_all(report)
    }

    /// Returns all sessions, the newest first: those that were read, and unreadable ones, of which
    /// only the name is known.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn sessions(&mut self) -> Result<Vec<SessionRow>, StoreError> {
        let on_disk = self.on_disk()?.into_iter().map(|(id, _)| id);
        let mut unknown: BTreeSet<SessionId> = on_disk.collect();
        let known = self.known()?;
        let mut rows = Vec::with_capacity(known.len());
        for row in known {
            rows.push(SessionRow {
                missing: !unknown.remove(&row.id),
                unindexed: self.unindexed.contains_key(&row.id),
                ..row
            });
        }
        rows.extend(unknown.into_iter().map(|id| SessionRow {
            // A session that began after the last ingest is merely new.
            unindexed: self.unindexed.contains_key(&id),
            ..SessionRow::new(id, &Summary::default(), 0)
        }));
        Ok(rows)
    }

    /// Returns what each session that was read came to.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn stats(&mut self) -> Result<HashMap<SessionId, Stats>, StoreError> {
        let Self {
            runtime,
            connection,
            path,
            ..
        } = self;
        let all = runtime
            .block_on(database::stats(connection))
            .map_err(|source| failed(path, source))?;
        let named = |(id, stats): (String, Stats)| Some((id.parse().ok()?, stats));
        Ok(all.into_iter().filter_map(named).collect())
    }

    /// Resolves `text` to a session: an id, the beginning of one, `last`, or a name, which means
    /// the newest session of that name. The beginning of an id takes precedence over a name. A
    /// session without its journal is still found, so that no other session silently takes its
    /// place. Call [`Self::ingest_all`] first: it finds the sessions and their beginnings.
    ///
    /// # Errors
    /// When no session or more than one matches, with the text to write instead; for `last` also
    /// when a session could not be read, since it may be the newest.
    pub fn resolve(&mut self, text: &str) -> Result<SessionId, StoreError> {
        if text == LAST {
            return self.last();
        }
        let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
        let digits = text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let known = self.known()?;
        // The newest first.
        let named = known.iter().find(|row| row.name.as_deref() == Some(text));
        let named = named.map(|row| row.id.clone()).filter(|_| !text.is_empty());
        if text.is_empty() || !digits {
            return named.ok_or(StoreError::NotASession(shown));
        }
        let known = known.into_iter().map(|row| row.id);
        let all: BTreeSet<SessionId> = self
            .on_disk()?
            .into_iter()
            .map(|(id, _)| id)
            .chain(known)
            .collect();
        let mut found: Vec<SessionId> = all
            .into_iter()
            .filter(|id| id.as_str().starts_with(text))
            .collect();
        if found.len() > 1 {
            let shown: Vec<_> = found
                .iter()
                .take(CANDIDATES_SHOWN_MAX)
                .map(SessionId::as_str)
                .collect();
            return Err(StoreError::Ambiguous {
                prefix: text.to_owned(),
                count: found.len(),
                shown: shown.join(", "),
            });
        }
        found.pop().or(named).ok_or(StoreError::NoMatch(shown))
    }

    /// Lists every entry with the name of a session, of any kind: a link in place of a session must
    /// not hide it.
    fn on_disk(&self) -> Result<Vec<(SessionId, Kind)>, StoreError> {
        let path = self.state_dir.join(SESSIONS_DIR);
        let failed = |source| StoreError::Io {
            act: "read",
            path: path.clone(),
            source,
        };
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut sessions = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(session) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let is_folder = entry.file_type().map_err(failed)?.is_dir();
            let kind = if is_folder { Kind::Folder } else { Kind::Other };
            sessions.push((session, kind));
        }
        Ok(sessions)
    }

    /// Returns the newest of the sessions that were read.
    fn last(&mut self) -> Result<SessionId, StoreError> {
        if !self.unindexed.is_empty() {
            // An unreadable session causes no doubt if its beginning is known from before.
            let rows = self.sessions()?;
            let mut unknown = rows
                .iter()
                .filter(|row| row.unindexed && row.started_unix_ns.is_none());
            if let Some(first) = unknown.next() {
                return Err(StoreError::NotIndexed {
                    count: unknown.count() + 1,
                    first: first.id.clone(),
                });
            }
        }
        self.runtime
            .block_on(database::newest(&mut self.connection))
            .map_err(|source| failed(&self.path, source))?
            .and_then(|id| id.parse().ok())
            .ok_or(StoreError::NoSessions)
    }

    /// Returns the lines of the sessions that were read, the newest first.
    fn known(&mut self) -> Result<Vec<SessionRow>, StoreError> {
        let lines = self
            .runtime
            .block_on(database::lines(&mut self.connection))
            .map_err(|source| failed(&self.path, source))?;
        let row = |(id, line): (String, Option<SessionRow>)| {
            let id: SessionId = id.parse().ok()?;
            Some(line.unwrap_or_else(|| SessionRow::new(id, &Summary::default(), 0)))
        };
        Ok(lines.into_iter().filter_map(row).collect())
    }
}

impl Progress {
    /// Whether the whole journal was read.
    fn covers(self, there: There) -> bool {
        match there {
            There::Nothing => true,
            There::Bytes(size) => self.position == size,
            There::Packed => self.ended,
            There::Other => false,
        }
    }
}

/// Opens the index in its file; a damaged one is removed first, with a note.
fn open_file(
    runtime: &Runtime,
    path: &Path,
    notes: &mut Vec<String>,
) -> Result<SqliteConnection, StoreError> {
    let mut opened = runtime.block_on(database::open(path));
    if let Err(OpenError::Unusable(why)) = &opened {
        let note = format!("the index was damaged ({why}) and is built again from the journals");
        database::discard(path).map_err(|source| StoreError::Io {
            act: "remove the damaged index",
            path: path.to_owned(),
            source,
        })?;
        notes.push(note);
        opened = runtime.block_on(database::open(path));
    }
    opened.map_err(|error| match error {
        OpenError::Io(source) => StoreError::Io {
            act: "open the index",
            path: path.to_owned(),
            source,
        },
        OpenError::Database(source) => failed(path, source),
        OpenError::Unusable(why) => failed(path, sqlx::Error::Protocol(why)),
    })
}

/// Makes an index in memory, with the information in the file at `path` about sessions whose
/// journals may be gone.
fn open_memory(runtime: &Runtime, path: &Path) -> Result<SqliteConnection, StoreError> {
    runtime
        .block_on(database::open_memory(path))
        .map_err(|source| failed(path, source))
}

fn in_memory_because(error: &StoreError) -> String {
    let why = match error {
        // Advice to delete it would not help on a disk that cannot be written.
        StoreError::Database { path, reason } => {
            format!("cannot use the index `{}`: {reason}", path.display())
        }
        other => chain(other),
    };
    format!("{why}; the journals are read into an index in memory")
}

/// The metadata of a journal, without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    /// No file.
    Nothing,
    /// So many bytes.
    Bytes(u64),
    /// It is compressed, so its session has ended and no event comes any more.
    Packed,
    /// Another kind of file is in its place.
    Other,
}

/// The kind of an entry with the name of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    Other,
}

/// Inspects the session directory `dir`, relative to `base`.
fn there(base: impl AsFd, dir: &Path, kind: Kind) -> There {
    if kind == Kind::Other {
        return There::Other;
    }
    let is_file = |stat: &Stat| FileType::from_raw_mode(stat.st_mode).is_file();
    let look = |name| statat(base.as_fd(), dir.join(name), AtFlags::SYMLINK_NOFOLLOW);
    match look(JOURNAL_FILE) {
        Ok(stat) if is_file(&stat) => There::Bytes(u64::try_from(stat.st_size).unwrap_or_default()),
        Err(Errno::NOENT) => match look(PACKED_FILE) {
            Ok(stat) if is_file(&stat) => There::Packed,
            Err(Errno::NOENT) => There::Nothing,
            Ok(_) | Err(_) => There::Other,
        },
        Ok(_) | Err(_) => There::Other,
    }
}

/// Inspects an entry with the name of a session, and its content.
fn there_now(dir: &Path) -> There {
    match fs::symlink_metadata(dir) {
        Ok(meta) if meta.is_dir() => there(CWD, dir, Kind::Folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => There::Nothing,
        Ok(_) | Err(_) => There::Other,
    }
}

fn failed(path: &Path, source: sqlx::Error) -> StoreError {
    let reason = match source {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    };
    StoreError::Database {
        path: path.to_owned(),
        reason,
    }
}

/// Reads the new part of the journal of `session`, in an open transaction.
async fn ingest_in(
    transaction: &mut SqliteConnection,
    path: &Path,
    state_dir: &Path,
    session: &SessionId,
) -> Result<(), StoreError> {
    let known = database::get(transaction, session.as_str())
        .await
        .map_err(|source| failed(path, source))?;
    let indexed = advance(&session_dir(state_dir, session), session, known)?;
    database::put(transaction, session, &indexed)
        .await
        .map_err(|source| failed(path, source))
}

/// Adds the part of the journal in `dir` that the index lacks.
fn advance(dir: &Path, session: &SessionId, known: Indexed) -> Result<Indexed, StoreError> {
    let failed = |source| StoreError::Journal {
        session: session.clone(),
        source,
    };
    // A journal never gets shorter; if it did, the indexed state is wrong.
    let mut indexed = match there_now(dir) {
        // The session has only just begun, or its journal was removed.
        There::Nothing => return Ok(known),
        There::Bytes(size) if size < known.position => Indexed::default(),
        There::Bytes(_) | There::Packed | There::Other => known,
    };
    let mut reader = read_from(dir, indexed.position).map_err(failed)?;
    for event in &mut reader {
        match event {
            Ok(envelope) => {
                indexed.summary.add(&envelope);
                indexed.stats.add(&envelope);
            }
            Err(ReadError::Line { .. }) => indexed.unreadable += 1,
            // It may still be written to; the next ingest begins there.
            Err(ReadError::Torn { .. }) => break,
            Err(error @ ReadError::Io { .. }) => return Err(failed(error)),
        }
    }
    indexed.position = reader.offset();
    Ok(indexed)
}
