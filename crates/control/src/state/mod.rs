//! What the server knows beside the journals of machines: people, machines, questions, policies. One
//! database; all SQL of the server is below this module.
//!
//! What happens to people, policies and machines is noted in the same transaction as an event, and
//! `record` moves the events to the server's own journal.

mod accounts;
mod approver_keys;
mod channels;
mod fleet;
mod grouped;
mod identities;
mod notices;
mod people;
mod policy;
mod proposals;
mod questions;
mod reading;
mod reviews;
mod rollouts;
mod sessions;
mod teams;
mod terminals;
mod views;
mod workloads;

use std::{
    fs::File,
    ops::{Deref, DerefMut},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustix::fs::{Mode, OFlags};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    Row as _, Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};

use stockade_types::UnixMillis;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{ControlError, act::Act};

pub use accounts::{PasskeyRow, TokenRow, WebSessionRow};
pub use approver_keys::{ApproverKeyRow, Registered};
pub use channels::ChannelRow;
pub use fleet::{EnrolTokenRow, Enrolled, NewNode, NodeRow};
pub(crate) use grouped::Write;
pub use identities::{Identity, Recognised};
#[cfg(test)]
pub(crate) use notices::Told;
pub(crate) use notices::{DeliveryRow, Settled};
pub use people::{LinkKind, LinkRow, UserRow};
pub use policy::{BundleRow, DirectoryRow};
pub(crate) use proposals::Reviewed;
pub use proposals::{ProposalRow, ProposalState};
pub use questions::{QuestionRow, QuestionState};
pub(crate) use reading::Grown;
pub use reading::{AccusationRow, ContentReadRow, TriageRow};
pub use reviews::{ReviewDone, ReviewTaskRow};
pub(crate) use rollouts::SampleRow;
pub use rollouts::{MoveRow, RolloutRow, RolloutState};
pub(crate) use sessions::Tip;
pub(crate) use sessions::{Listing, Standing};
pub use sessions::{SessionKey, SessionRow, Stored};
pub use teams::{Change, TEAMS_MAX, TeamRow, WantedRoles};
pub use terminals::TerminalRow;
pub use views::AckRow;
pub use workloads::{Job, JobEnrolled, RuleRow};

/// The migrations, in order; the first one makes version 1.
const MIGRATIONS: &[&str] = &[
    include_str!("schema_1.sql"),
    include_str!("rollouts.sql"),
    include_str!("schema_reading.sql"),
    include_str!("schema_approvals.sql"),
    include_str!("schema_people.sql"),
    include_str!("schema_notify.sql"),
    include_str!("schema_terminals.sql"),
    include_str!("schema_teams.sql"),
];
/// How long a statement waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections: one writes at a time, the others read.
const CONNECTIONS: u32 = 8;

/// The state of the server.
#[derive(Clone, Debug)]
pub struct State {
    pool: SqlitePool,
    org: String,
    /// Who writes; the others wait in the order in which they came. SQLite itself has them try again and
    /// again, and whoever is unlucky waits long.
    writer: Arc<Mutex<()>>,
    /// What is written together.
    waiting: grouped::Waiting,
}

/// What happened, and is not in the record of the server yet.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) id: i64,
    pub(crate) at: UnixMillis,
    pub(crate) act: Act,
}

/// A transaction.
pub(crate) struct Writing {
    transaction: Transaction<'static, Sqlite>,
    /// Released after the transaction; `None` for one that only reads.
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Deref for Writing {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.transaction
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }
}

impl State {
    /// Opens the state in `path`, making or migrating it.
    ///
    /// # Errors
    /// When it cannot be opened, is damaged, or is of a newer version.
    pub async fn open(path: &Path, org: &str) -> Result<Self, ControlError> {
        private(path).map_err(ControlError::file("open", path))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            // A vote that was confirmed to a person survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(false)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            // They are threads of this process: there is nothing that could break off.
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(ControlError::state("open"))?;
        let state = Self {
            pool,
            org: org.to_owned(),
            writer: Arc::default(),
            waiting: grouped::Waiting::default(),
        };
        state.migrate().await?;
        Ok(state)
    }

    async fn migrate(&self) -> Result<(), ControlError> {
        let failed = || ControlError::state("migrate");
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        let mut writing = self.write().await?;
        let row = sqlx::query("PRAGMA user_version").fetch_one(&mut *writing);
        let found: i64 = row.await.map_err(failed())?.try_get(0).map_err(failed())?;
        if found > known {
            return Err(ControlError::Newer { found, known });
        }
        let done = usize::try_from(found).unwrap_or_default();
        for (index, sql) in MIGRATIONS.iter().copied().enumerate().skip(done) {
            sqlx::raw_sql(sql)
                .execute(&mut *writing)
                .await
                .map_err(failed())?;
            // Statements cannot take the version as a parameter.
            let version = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", index + 1));
            sqlx::query(version)
                .execute(&mut *writing)
                .await
                .map_err(failed())?;
        }
        writing.transaction.commit().await.map_err(failed())
    }

    /// Returns the organisation.
    pub fn org(&self) -> &str {
        &self.org
    }

    /// Begins a transaction in which nobody else writes, so that nothing changes between a read and what
    /// follows from it.
    pub(crate) async fn write(&self) -> Result<Writing, ControlError> {
        let turn = Arc::clone(&self.writer).lock_owned().await;
        let begun = self.pool.begin_with("BEGIN IMMEDIATE").await;
        Ok(Writing {
            transaction: begun.map_err(ControlError::state("begin to write"))?,
            _turn: Some(turn),
        })
    }

    /// Begins a transaction that sees one state.
    pub(crate) async fn read(&self) -> Result<Writing, ControlError> {
        let begun = self.pool.begin().await;
        Ok(Writing {
            transaction: begun.map_err(ControlError::state("begin to read"))?,
            _turn: None,
        })
    }

    /// Ends a transaction: what it wrote is on the disk.
    pub(crate) async fn commit(&self, writing: Writing) -> Result<(), ControlError> {
        let done = writing.transaction.commit().await;
        done.map_err(ControlError::state("keep a change"))
    }

    /// Notes what happened, in the transaction that makes it happen.
    pub(crate) async fn note(
        &self,
        writing: &mut Writing,
        act: &Act,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO records (org_id, at, event) VALUES ($1, $2, $3)";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(signed(now.0))
            .bind(to_json("an act", act)?)
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ()).map_err(ControlError::state("note an act"))
    }

    /// Returns what was noted and is not in the record yet, the oldest first.
    pub(crate) async fn noted(&self, count_max: u32) -> Result<Vec<Noted>, ControlError> {
        let failed = || ControlError::state("read what was noted");
        let sql = "SELECT id, at, event FROM records WHERE org_id = $1 ORDER BY id LIMIT $2";
        let rows = sqlx::query(sql).bind(self.org()).bind(i64::from(count_max));
        let rows = rows.fetch_all(&self.pool).await.map_err(failed())?;
        let one = |row: &SqliteRow| {
            let event: String = row.try_get(2).map_err(failed())?;
            Ok(Noted {
                id: row.try_get(0).map_err(failed())?,
                at: millis(row.try_get(1).map_err(failed())?),
                act: from_json("an act", &event)?,
            })
        };
        rows.iter().map(one).collect()
    }

    /// Forgets what was noted up to `id`: it is in the record.
    pub(crate) async fn recorded(&self, id: i64) -> Result<(), ControlError> {
        let sql = "DELETE FROM records WHERE org_id = $1 AND id <= $2";
        let done = sqlx::query(sql).bind(self.org()).bind(id);
        let done = done.execute(&self.pool).await;
        done.map(|_| ())
            .map_err(ControlError::state("forget what is recorded"))
    }

    /// Writes a copy of the state, as it is at one moment, to a new file.
    pub(crate) async fn copy_to(&self, path: &Path) -> Result<(), ControlError> {
        let failed = || ControlError::state("copy");
        let text = path.to_str().ok_or_else(|| ControlError::Wrong {
            path: path.to_owned(),
            what: "is not UTF-8, as the database needs it".to_owned(),
        })?;
        let done = sqlx::query("VACUUM INTO $1").bind(text).execute(&self.pool);
        done.await.map_err(failed())?;
        private(path).map_err(ControlError::file("open", path))?;
        let synced = File::open(path).and_then(|file| file.sync_all());
        synced.map_err(ControlError::file("sync", path))
    }

    /// Checks that the file is whole.
    pub(crate) async fn check(&self) -> Result<(), ControlError> {
        let failed = || ControlError::state("check");
        let row = sqlx::query("PRAGMA integrity_check(1)").fetch_one(&self.pool);
        let said: String = row.await.map_err(failed())?.try_get(0).map_err(failed())?;
        if said == "ok" {
            return Ok(());
        }
        Err(ControlError::Stored {
            what: "a page",
            why: said,
        })
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Makes sure that the file exists, is a plain file and is readable by its owner alone; SQLite gives the
/// files beside it the same mode.
pub(crate) fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

/// Reads a value that is stored as JSON.
pub(crate) fn from_json<T: DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, ControlError> {
    serde_json::from_str(text).map_err(|error| ControlError::Stored {
        what,
        why: error.to_string(),
    })
}

/// Writes a value as JSON.
pub(crate) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String, ControlError> {
    serde_json::to_string(value).map_err(|error| ControlError::Stored {
        what,
        why: error.to_string(),
    })
}

/// Takes a text back into what it names.
pub(crate) fn parsed<T: std::str::FromStr<Err: ToString>>(
    what: &'static str,
    text: &str,
) -> Result<T, ControlError> {
    text.parse().map_err(|error: T::Err| ControlError::Stored {
        what,
        why: error.to_string(),
    })
}

/// Takes a number for the database, which has signed ones.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Takes a number of the database.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Takes a time of the database.
pub(crate) fn millis(number: i64) -> UnixMillis {
    UnixMillis(unsigned(number))
}
