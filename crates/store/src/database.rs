//! The SQL: one table, opened so that only its owner can read it.

use std::{
    collections::HashMap, fs::File, io, os::unix::fs::PermissionsExt as _, path::Path,
    time::Duration,
};

use rustix::fs::{Mode, OFlags};
use sqlx::{
    ConnectOptions as _, Connection as _, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};
use stockade_event::{Summary, stats::Stats};
use stockade_types::SessionId;

use crate::row::SessionRow;

/// Version of the table; if the file has another one, the table is built again.
const SCHEMA: i64 = 3;
/// How long to wait for another process that writes: reading a large journal takes seconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Kibibytes of the index that are kept in memory, as SQLite counts them: a few ten thousand sessions.
const CACHE: &str = "-32768";

const CREATE: &str = "
CREATE TABLE IF NOT EXISTS sessions (
    id          TEXT    NOT NULL PRIMARY KEY,
    position    INTEGER NOT NULL,
    unreadable  INTEGER NOT NULL,
    ended       INTEGER NOT NULL,
    started_ns  INTEGER NOT NULL,
    line        TEXT    NOT NULL,
    summary     TEXT    NOT NULL,
    stats       TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_by_start ON sessions (started_ns);
";

/// The stored state of one session.
#[derive(Debug, Default)]
pub(crate) struct Indexed {
    /// The byte of the journal up to which it was read.
    pub(crate) position: u64,
    /// Lines that were unreadable.
    pub(crate) unreadable: u64,
    /// The summary of the lines.
    pub(crate) summary: Summary,
    /// What the session came to.
    pub(crate) stats: Stats,
}

/// How far the journal of a session was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The byte of the journal up to which it was read.
    pub(crate) position: u64,
    /// Whether its end was read.
    pub(crate) ended: bool,
}

/// Why the file cannot be used.
#[derive(Debug)]
pub(crate) enum OpenError {
    Io(io::Error),
    /// It is not our table, or it is damaged.
    Unusable(String),
    Database(sqlx::Error),
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        if is_corrupt(&error) {
            Self::Unusable(error.to_string())
        } else {
            Self::Database(error)
        }
    }
}

/// Whether the file, not a passing condition, is the cause (SQLITE_ERROR in our own fixed
/// statements, SQLITE_CORRUPT, SQLITE_NOTADB, <https://sqlite.org/rescode.html>).
pub(crate) fn is_corrupt(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<u32>().ok());
            // The low byte is the primary code.
            code.is_some_and(|code| matches!(code & 0xff, 1 | 11 | 26))
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => true,
        _ => false,
    }
}

/// Opens the database at `path`, making it if there is none.
pub(crate) async fn open(path: &Path) -> Result<SqliteConnection, OpenError> {
    private(path).map_err(OpenError::Io)?;
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        // The journals contain everything that a power cut could lose.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(BUSY_TIMEOUT)
        // The check, the progress and the list each read all pages.
        .pragma("cache_size", CACHE)
        .connect()
        .await?;
    let found: i64 = sqlx::query("PRAGMA user_version")
        .fetch_one(&mut connection)
        .await?
        .try_get(0)?;
    if found != 0 && found != SCHEMA {
        return Err(OpenError::Unusable(format!(
            "its version is {found}, ours is {SCHEMA}"
        )));
    }
    let check: String = sqlx::query("PRAGMA quick_check(1)")
        .fetch_one(&mut connection)
        .await?
        .try_get(0)?;
    if check != "ok" {
        return Err(OpenError::Unusable(check));
    }
    sqlx::raw_sql(CREATE).execute(&mut connection).await?;
    // This fails if a table of that name has other columns.
    get(&mut connection, "").await?;
    if found != SCHEMA {
        // Statements cannot take the version as a parameter; it is `SCHEMA`.
        sqlx::query("PRAGMA user_version = 3")
            .execute(&mut connection)
            .await?;
    }
    Ok(connection)
}

/// Makes a database in memory and copies the readable part of the file at `path` into it.
pub(crate) async fn open_memory(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = SqliteConnectOptions::new()
        .in_memory(true)
        .connect()
        .await?;
    sqlx::raw_sql(CREATE).execute(&mut connection).await?;
    // Unreadable rows are read again from the journals; only the rows of missing journals are lost.
    for raw in read_only(path).await.unwrap_or_default() {
        insert(&mut connection, raw).await?;
    }
    Ok(connection)
}

/// Reads the file at `path` without writing anything beside it, if it is ours and sound.
async fn read_only(path: &Path) -> Result<Vec<Raw>, sqlx::Error> {
    let is_plain = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    if !is_plain {
        return Ok(Vec::new());
    }
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        // Otherwise SQLite would need files beside it, and a full disk has no room for them.
        .immutable(true)
        .connect()
        .await?;
    let version = sqlx::query("PRAGMA user_version").fetch_one(&mut connection);
    let version: i64 = version.await?.try_get(0)?;
    let check = sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut connection);
    let check: String = check.await?.try_get(0)?;
    if version != SCHEMA || check != "ok" {
        return Ok(Vec::new());
    }
    let sql =
        "SELECT id, position, unreadable, ended, started_ns, line, summary, stats FROM sessions";
    let rows = sqlx::query(sql).fetch_all(&mut connection).await?;
    let raw = |row: &SqliteRow| {
        Ok(Raw {
            id: row.try_get(0)?,
            numbers: [
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get(3)?,
                row.try_get(4)?,
            ],
            line: row.try_get(5)?,
            summary: row.try_get(6)?,
            stats: row.try_get(7)?,
        })
    };
    rows.iter().map(raw).collect()
}

/// A row of the table.
struct Raw {
    id: String,
    /// Position, unreadable lines, whether it ended, start.
    numbers: [i64; 4],
    line: String,
    summary: String,
    stats: String,
}

async fn insert(connection: &mut SqliteConnection, raw: Raw) -> Result<(), sqlx::Error> {
    let [position, unreadable, ended, started] = raw.numbers;
    sqlx::query("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(raw.id)
        .bind(position)
        .bind(unreadable)
        .bind(ended)
        .bind(started)
        .bind(raw.line)
        .bind(raw.summary)
        .bind(raw.stats)
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes sure that the file exists, is a plain file and is readable by its owner alone; SQLite
/// gives the files beside it the same mode.
fn private(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

/// Removes the database and the files beside it.
pub(crate) fn discard(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Returns the state of `id`; an unreadable summary counts as empty.
pub(crate) async fn get(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Indexed, sqlx::Error> {
    let row = sqlx::query("SELECT position, unreadable, summary, stats FROM sessions WHERE id = ?")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    match row {
        Some(row) => indexed(&row).map(Option::unwrap_or_default),
        None => Ok(Indexed::default()),
    }
}

fn indexed(row: &SqliteRow) -> Result<Option<Indexed>, sqlx::Error> {
    let position: i64 = row.try_get(0)?;
    let unreadable: i64 = row.try_get(1)?;
    let (summary, stats): (&str, &str) = (row.try_get(2)?, row.try_get(3)?);
    let (Ok(summary), Ok(stats)) = (serde_json::from_str(summary), serde_json::from_str(stats))
    else {
        return Ok(None);
    };
    Ok(Some(Indexed {
        position: u64::try_from(position).unwrap_or_default(),
        unreadable: u64::try_from(unreadable).unwrap_or_default(),
        summary,
        stats,
    }))
}

/// Returns how far each journal was read.
///
/// The result is one row: SQLite has a thread of its own here, which passes rows one by one, each
/// with a wake-up.
pub(crate) async fn progress(
    connection: &mut SqliteConnection,
) -> Result<HashMap<String, Progress>, sqlx::Error> {
    let sql = "SELECT group_concat(id || ' ' || position || ' ' || ended, char(10)) FROM sessions";
    let progress = |line: &str| {
        let mut words = line.split(' ');
        let id = words.next()?.to_owned();
        let position: i64 = words.next()?.parse().ok()?;
        let progress = Progress {
            position: u64::try_from(position).unwrap_or_default(),
            ended: words.next()? != "0",
        };
        Some((id, progress))
    };
    // An unreadable session counts as unknown, so its journal is read again.
    let text = in_one_row(connection, sql).await?;
    Ok(text.lines().filter_map(progress).collect())
}

/// Returns the lines of all sessions, the newest first; `None` for an unreadable one.
pub(crate) async fn lines(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, Option<SessionRow>)>, sqlx::Error> {
    // In JSON, line ends are always escaped.
    let sql = "SELECT group_concat(id || ' ' || line, char(10) ORDER BY started_ns DESC, id) FROM sessions";
    let line = |text: &str| {
        let (id, line) = text.split_once(' ')?;
        Some((id.to_owned(), serde_json::from_str(line).ok()))
    };
    let text = in_one_row(connection, sql).await?;
    Ok(text.split('\n').filter_map(line).collect())
}

/// Returns what each session came to; one that is unreadable is not there.
pub(crate) async fn stats(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, Stats)>, sqlx::Error> {
    let sql = "SELECT group_concat(id || ' ' || stats, char(10)) FROM sessions";
    let stats = |text: &str| {
        let (id, stats) = text.split_once(' ')?;
        Some((id.to_owned(), serde_json::from_str(stats).ok()?))
    };
    let text = in_one_row(connection, sql).await?;
    Ok(text.split('\n').filter_map(stats).collect())
}

/// Returns the one text of a statement, empty if it has none.
async fn in_one_row(
    connection: &mut SqliteConnection,
    sql: &'static str,
) -> Result<String, sqlx::Error> {
    let row = sqlx::query(sql).fetch_one(connection).await?;
    let text: Option<String> = row.try_get(0)?;
    Ok(text.unwrap_or_default())
}

/// Returns the session that began last, of those with a known beginning.
pub(crate) async fn newest(
    connection: &mut SqliteConnection,
) -> Result<Option<String>, sqlx::Error> {
    let sql = "SELECT id FROM sessions ORDER BY started_ns DESC, id LIMIT 1";
    let row = sqlx::query(sql).fetch_optional(connection).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Begins a transaction in which no other process writes, so that no row changes between its read
/// and its replacement.
pub(crate) async fn begin(
    connection: &mut SqliteConnection,
) -> Result<sqlx::Transaction<'_, sqlx::Sqlite>, sqlx::Error> {
    connection.begin_with("BEGIN IMMEDIATE").await
}

/// Replaces the state of `id`. A session that has ended gets no more events, so its summary is not
/// kept; if its journal grows anyway, it is read from its beginning.
pub(crate) async fn put(
    connection: &mut SqliteConnection,
    id: &SessionId,
    indexed: &Indexed,
) -> Result<(), sqlx::Error> {
    let failed = |error: serde_json::Error| sqlx::Error::Encode(Box::new(error));
    let summary = &indexed.summary;
    let ended = summary.outcome.is_some();
    let line = SessionRow::new(id.clone(), summary, indexed.unreadable);
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let raw = Raw {
        id: id.as_str().to_owned(),
        numbers: [
            number(indexed.position),
            number(indexed.unreadable),
            i64::from(ended),
            number(summary.started_unix_ns.unwrap_or_default()),
        ],
        line: serde_json::to_string(&line).map_err(failed)?,
        summary: if ended {
            String::new()
        } else {
            serde_json::to_string(summary).map_err(failed)?
        },
        stats: serde_json::to_string(&indexed.stats).map_err(failed)?,
    };
    insert(connection, raw).await
}

/// Forgets `id`.
pub(crate) async fn remove(connection: &mut SqliteConnection, id: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM sessions WHERE id = ?")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets everything.
pub(crate) async fn clear(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM sessions")
        .execute(connection)
        .await?;
    Ok(())
}
