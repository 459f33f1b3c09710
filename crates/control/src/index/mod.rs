//! The index of journals: what can be looked for in them. It is a database of its own beside the state, so
//! that it takes nothing from what machines wait for, and it holds nothing that is not in the journals: a
//! server that finds none, or one of another version, makes it anew.

mod flows;
pub(crate) mod row;
mod search;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sqlx::{
    Row as _, Sqlite, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use stockade_types::ignored;

use crate::ControlError;

pub(crate) use self::{
    flows::{Flow, RaisedRow},
    search::{Found, Page, Seen},
};

/// The version of the tables; an index of another version is made anew.
const VERSION: i64 = 1;
const SCHEMA: &str = include_str!("schema.sql");
/// Looks at one time; others wait for their turn.
const LOOKS: u32 = 4;
/// How long a statement waits for another one that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one look into the index may take.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// Steps of the database between two looks at the clock.
const STEPS: i32 = 20_000;

/// The index.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    /// For the one who writes.
    pub(crate) pool: SqlitePool,
    /// For those who look: what takes too long on these connections is ended.
    looks: SqlitePool,
}

impl Index {
    /// Opens the index in `path`, or makes it anew.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) async fn open(path: &Path) -> Result<Self, ControlError> {
        if let Ok(index) = Self::connect(path).await {
            return Ok(index);
        }
        // Nothing is lost: it is made of the journals.
        for end in ["", "-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            ignored(
                std::fs::remove_file(PathBuf::from(name)),
                "a file that cannot be removed cannot be opened either, which is an error below",
            );
        }
        Self::connect(path).await
    }

    async fn connect(path: &Path) -> Result<Self, ControlError> {
        let failed = || ControlError::state("open the index");
        crate::state::private(path).map_err(ControlError::file("open", path))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            // What a power cut takes is read from the journals again.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect_with(options.clone()).await.map_err(failed())?;
        let row = sqlx::query("PRAGMA user_version").fetch_one(&pool);
        let found: i64 = row.await.map_err(failed())?.try_get(0).map_err(failed())?;
        if found == 0 {
            let mut writing = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
            sqlx::raw_sql(SCHEMA)
                .execute(&mut *writing)
                .await
                .map_err(failed())?;
            // Statements cannot take the version as a parameter.
            let version = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {VERSION}"));
            sqlx::query(version)
                .execute(&mut *writing)
                .await
                .map_err(failed())?;
            writing.commit().await.map_err(failed())?;
        } else if found != VERSION {
            pool.close().await;
            return Err(ControlError::Newer {
                found,
                known: VERSION,
            });
        }
        let looks = SqlitePoolOptions::new().max_connections(LOOKS);
        let looks = looks.connect_with(options).await.map_err(failed())?;
        Ok(Self { pool, looks })
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.looks.close().await;
        self.pool.close().await;
    }

    /// Takes a connection on which a look that takes too long is ended.
    async fn look(&self) -> Result<PoolConnection<Sqlite>, ControlError> {
        let failed = || ControlError::state("look into the index");
        let mut connection = self.looks.acquire().await.map_err(failed())?;
        let until = Instant::now() + LOOK_MAX;
        let mut handle = connection.lock_handle().await.map_err(failed())?;
        handle.set_progress_handler(STEPS, move || Instant::now() < until);
        drop(handle);
        Ok(connection)
    }
}
