//! Sessions of machines: how much of each journal is here, and what it said last.

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_api::NodeId;
use stockade_types::{Digest, SessionId, UnixMillis};

use super::{State, millis, parsed, signed, unsigned};
use crate::ControlError;

/// Names a session: its id alone is unique on one machine only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The machine.
    pub node: NodeId,
    /// The session.
    pub session: SessionId,
}

/// How much of a journal is here, checked and on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Bytes.
    pub offset: u64,
    /// The number of the last event.
    pub events: u64,
    /// The chain value of the last line.
    pub chain: Digest,
    /// Whether that is the signed end.
    pub closed: bool,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Which.
    pub key: SessionKey,
    /// Whether it runs, as its machine says.
    pub is_live: bool,
    /// When it began.
    pub started: Option<UnixMillis>,
    /// When it ended.
    pub ended: Option<UnixMillis>,
    /// What its events came to: `stockade_event::Summary` as JSON.
    pub summary: String,
    /// How much of its journal is here.
    pub stored: Stored,
    /// What is wrong with its journal.
    pub fault: Option<String>,
    /// When its journal last grew here.
    pub updated: UnixMillis,
}

impl SessionRow {
    /// Begins with a session of which nothing is here.
    pub(crate) fn new(key: SessionKey, now: UnixMillis) -> Self {
        Self {
            key,
            is_live: true,
            started: Some(now),
            ended: None,
            summary: String::new(),
            stored: Stored {
                offset: 0,
                events: 0,
                chain: Digest::from_bytes([0; 32]),
                closed: false,
            },
            fault: None,
            updated: now,
        }
    }
}

const COLUMNS: &str = "node_id, session_id, live, started, ended, summary, stored_offset, events, chain, \
                       closed, fault, updated";

impl State {
    /// Returns a session.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn session(&self, key: &SessionKey) -> Result<Option<SessionRow>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sessions WHERE org_id = $1 AND node_id = $2 AND session_id = $3"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(key.node.as_str())
            .bind(key.session.as_str())
            .fetch_optional(&self.pool);
        let row = row.await.map_err(ControlError::state("read a session"))?;
        row.as_ref().map(session).transpose()
    }

    /// Returns sessions, those whose journals grew last first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn sessions(&self, count_max: u32) -> Result<Vec<SessionRow>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sessions WHERE org_id = $1 ORDER BY updated DESC LIMIT $2"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(i64::from(count_max))
            .fetch_all(&self.pool);
        let rows = rows.await.map_err(ControlError::state("read sessions"))?;
        rows.iter().map(session).collect()
    }

    /// Keeps how much of a journal is here. The bytes are on the disk already.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn keep_session(&self, row: &SessionRow) -> Result<(), ControlError> {
        let sql = "INSERT INTO sessions (org_id, node_id, session_id, live, started, ended, summary, \
                   stored_offset, events, chain, closed, fault, updated) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
                   ON CONFLICT (org_id, node_id, session_id) DO UPDATE SET live = excluded.live, \
                   started = excluded.started, ended = excluded.ended, summary = excluded.summary, \
                   stored_offset = excluded.stored_offset, events = excluded.events, \
                   chain = excluded.chain, closed = excluded.closed, fault = excluded.fault, \
                   updated = excluded.updated";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(row.key.node.as_str())
            .bind(row.key.session.as_str())
            .bind(i64::from(row.is_live))
            .bind(row.started.map(|time| signed(time.0)))
            .bind(row.ended.map(|time| signed(time.0)))
            .bind(&row.summary)
            .bind(signed(row.stored.offset))
            .bind(signed(row.stored.events))
            .bind(row.stored.chain.to_string())
            .bind(i64::from(row.stored.closed))
            .bind(&row.fault)
            .bind(signed(row.updated.0))
            .execute(&self.pool);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep a session"))
    }

    /// Keeps which sessions of a machine run.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn keep_live(&self, node: &NodeId, live: &[SessionId]) -> Result<(), ControlError> {
        let failed = || ControlError::state("keep which sessions run");
        let mut writing = self.write().await?;
        let sql = "UPDATE sessions SET live = 0 WHERE org_id = $1 AND node_id = $2 AND live <> 0";
        let done = sqlx::query(sql).bind(self.org()).bind(node.as_str());
        done.execute(&mut *writing).await.map_err(failed())?;
        for session in live {
            let sql = "UPDATE sessions SET live = 1 \
                       WHERE org_id = $1 AND node_id = $2 AND session_id = $3 AND closed = 0";
            let done = sqlx::query(sql)
                .bind(self.org())
                .bind(node.as_str())
                .bind(session.as_str());
            done.execute(&mut *writing).await.map_err(failed())?;
        }
        self.commit(writing).await
    }
}

fn session(row: &SqliteRow) -> Result<SessionRow, ControlError> {
    let failed = || ControlError::state("read a session");
    let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
    let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
    let time = |index: usize| row.try_get::<Option<i64>, _>(index).map_err(failed());
    Ok(SessionRow {
        key: SessionKey {
            node: parsed("a machine", &text(0)?)?,
            session: parsed("a session", &text(1)?)?,
        },
        is_live: number(2)? != 0,
        started: time(3)?.map(millis),
        ended: time(4)?.map(millis),
        summary: text(5)?,
        stored: Stored {
            offset: unsigned(number(6)?),
            events: unsigned(number(7)?),
            chain: parsed("a chain value", &text(8)?)?,
            closed: number(9)? != 0,
        },
        fault: row.try_get(10).map_err(failed())?,
        updated: millis(number(11)?),
    })
}
