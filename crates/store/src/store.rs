//! The index and its one way of being filled: from the journals.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use sqlx::SqliteConnection;
use stockade_event::{
    ReadError,
    layout::{INDEX_FILE, JOURNAL_FILE, SESSIONS_DIR, session_dir},
    read_from,
};
use stockade_types::SessionId;
use tokio::runtime::Runtime;

use crate::{
    database::{self, Indexed, OpenError},
    error::StoreError,
    row::SessionRow,
};

/// How many candidates an error about an ambiguous prefix names; more do not help to choose.
const CANDIDATES_SHOWN_MAX: usize = 5;
/// The word for the newest session.
const LAST: &str = "last";

/// The index of the sessions of one state directory.
pub struct Store {
    runtime: Runtime,
    connection: SqliteConnection,
    state_dir: PathBuf,
    path: PathBuf,
    notes: Vec<String>,
}

impl Store {
    /// Opens the index of `state_dir`, which must exist. A damaged one is replaced by an empty one,
    /// which [`Self::notes`] says, and filled by the next [`Self::ingest_all`].
    ///
    /// # Errors
    /// When the file cannot be made or opened.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(INDEX_FILE);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StoreError::Runtime)?;
        let mut notes = Vec::new();
        let mut opened = runtime.block_on(database::open(&path));
        if let Err(OpenError::Unusable(why)) = &opened {
            notes.push(format!(
                "the index was damaged ({why}) and is built again from the journals"
            ));
            database::discard(&path).map_err(|source| StoreError::Io {
                act: "remove the damaged index",
                path: path.clone(),
                source,
            })?;
            opened = runtime.block_on(database::open(&path));
        }
        let connection = match opened {
            Ok(connection) => connection,
            Err(OpenError::Io(source)) => {
                return Err(StoreError::Io {
                    act: "open the index",
                    path,
                    source,
                });
            }
            Err(OpenError::Database(source)) => return Err(failed(&path, source)),
            Err(OpenError::Unusable(why)) => {
                let source = sqlx::Error::Protocol(why);
                return Err(failed(&path, source));
            }
        };
        Ok(Self {
            runtime,
            connection,
            state_dir: state_dir.to_owned(),
            path,
            notes,
        })
    }

    /// Returns what a person should know about the index.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Reads what is new in the journal of `session`.
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
        let dir = session_dir(state_dir, session);
        runtime.block_on(async {
            let mut transaction = database::begin(connection)
                .await
                .map_err(|source| failed(path, source))?;
            let known = database::get(&mut transaction, session.as_str())
                .await
                .map_err(|source| failed(path, source))?;
            let indexed = advance(&dir, session, known)?;
            database::put(&mut transaction, session.as_str(), &indexed)
                .await
                .map_err(|source| failed(path, source))?;
            transaction
                .commit()
                .await
                .map_err(|source| failed(path, source))
        })
    }

    /// Reads what is new in all journals; `report` is told how many of how many sessions are done.
    /// A journal that cannot be read is noted and does not stop the others.
    ///
    /// # Errors
    /// When the folder of sessions cannot be read or the index cannot be written.
    pub fn ingest_all(&mut self, report: &mut dyn FnMut(usize, usize)) -> Result<(), StoreError> {
        let sessions = self.on_disk()?;
        let known = self.known()?;
        for (done, session) in sessions.iter().enumerate() {
            report(done, sessions.len());
            let size = fs::metadata(session_dir(&self.state_dir, session).join(JOURNAL_FILE))
                .map_or(0, |meta| meta.len());
            let position = known
                .iter()
                .find(|(id, _)| id == session)
                .map(|(_, indexed)| indexed.position);
            if position == Some(size) {
                continue;
            }
            match self.ingest(session) {
                Err(StoreError::Journal { session, source }) => {
                    self.notes
                        .push(format!("session {session} could not be indexed: {source}"));
                }
                result => result?,
            }
        }
        report(sessions.len(), sessions.len());
        Ok(())
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

    /// Returns all sessions that were ingested, the newest first.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn sessions(&mut self) -> Result<Vec<SessionRow>, StoreError> {
        let on_disk = self.on_disk()?;
        let known = self.known()?;
        Ok(known
            .into_iter()
            .map(|(id, indexed)| {
                let missing = !on_disk.contains(&id);
                SessionRow::new(id, &indexed.summary, indexed.unreadable, missing)
            })
            .collect())
    }

    /// Finds the session that `text` means: an id, the beginning of one, or `last`. A session whose
    /// journal was taken away is still found, so that its place is not quietly taken by another.
    ///
    /// # Errors
    /// When it means none or more than one, with what to write instead.
    pub fn resolve(&mut self, text: &str) -> Result<SessionId, StoreError> {
        if text == LAST {
            self.ingest_all(&mut |_, _| {})?;
            let newest = self.known()?.into_iter().next();
            return newest.map(|(id, _)| id).ok_or(StoreError::NoSessions);
        }
        let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
        let digits = text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if text.is_empty() || !digits {
            return Err(StoreError::NotASession(shown));
        }
        let known = self.known()?.into_iter().map(|(id, _)| id);
        let all: BTreeSet<SessionId> = self.on_disk()?.into_iter().chain(known).collect();
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
        found.pop().ok_or(StoreError::NoMatch(shown))
    }

    /// Lists the sessions that have a directory; anything else there is left alone.
    fn on_disk(&self) -> Result<Vec<SessionId>, StoreError> {
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
            let is_dir = entry.file_type().map_err(failed)?.is_dir();
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            sessions.extend(id.filter(|_| is_dir));
        }
        Ok(sessions)
    }

    fn known(&mut self) -> Result<Vec<(SessionId, Indexed)>, StoreError> {
        let rows = self
            .runtime
            .block_on(database::all(&mut self.connection))
            .map_err(|source| failed(&self.path, source))?;
        Ok(rows
            .into_iter()
            .filter_map(|(id, indexed)| Some((id.parse().ok()?, indexed)))
            .collect())
    }
}

fn failed(path: &Path, source: sqlx::Error) -> StoreError {
    StoreError::Database {
        path: path.to_owned(),
        source: Box::new(source),
    }
}

/// Folds what the journal in `dir` has beyond what is known.
fn advance(dir: &Path, session: &SessionId, known: Indexed) -> Result<Indexed, StoreError> {
    let failed = |source| StoreError::Journal {
        session: session.clone(),
        source,
    };
    let size = match fs::metadata(dir.join(JOURNAL_FILE)) {
        Ok(meta) => meta.len(),
        // A session that has only just begun, or whose journal was taken away.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(known),
        Err(source) => {
            return Err(failed(ReadError::Io {
                path: dir.join(JOURNAL_FILE),
                source,
            }));
        }
    };
    // A journal never gets shorter; if it did, what was known of it is no longer true.
    let mut indexed = if size < known.position {
        Indexed::default()
    } else {
        known
    };
    let mut reader = read_from(dir, indexed.position).map_err(failed)?;
    for event in &mut reader {
        match event {
            Ok(envelope) => indexed.summary.add(&envelope),
            Err(ReadError::Line { .. }) => indexed.unreadable += 1,
            // It may still be written to; the next ingest begins there.
            Err(ReadError::Torn { .. }) => break,
            Err(error @ ReadError::Io { .. }) => return Err(failed(error)),
        }
    }
    indexed.position = reader.offset();
    Ok(indexed)
}
