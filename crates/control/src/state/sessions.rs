//! Sessions of machines: how much of each journal is here, and what it said last.

use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};
use stockade_api::NodeId;
use stockade_trust::UserId;
use stockade_types::{Digest, SessionId, UnixMillis};

use super::{State, Writing, millis, parsed, signed, unsigned};
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

/// How far the journal of a session is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) stored: Stored,
    /// What is wrong with it.
    pub(crate) fault: Option<String>,
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

/// Which sessions a list has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Listing<'a> {
    /// Only those of these machines.
    pub(crate) nodes: Option<&'a [NodeId]>,
    pub(crate) standing: Standing,
    /// Only those whose journals grew last before this.
    pub(crate) before: Option<UnixMillis>,
    pub(crate) count_max: u32,
}

/// How sessions of a list stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In any way.
    #[default]
    Any,
    /// They run, as their machines say.
    Running,
    /// Their record has a fault.
    Broken,
}

impl Listing<'_> {
    fn push(&self, sql: &mut QueryBuilder<Sqlite>) {
        match self.standing {
            Standing::Any => {}
            Standing::Running => {
                sql.push(" AND live <> 0 AND ended IS NULL");
            }
            Standing::Broken => {
                sql.push(" AND fault IS NOT NULL");
            }
        }
        push_nodes(sql, self.nodes);
    }
}

/// Narrows to what is of these machines; `None` does not narrow.
pub(super) fn push_nodes(sql: &mut QueryBuilder<Sqlite>, nodes: Option<&[NodeId]>) {
    let Some(nodes) = nodes else { return };
    sql.push(" AND node_id IN (");
    let mut list = sql.separated(", ");
    for node in nodes {
        list.push_bind(node.as_str().to_owned());
    }
    sql.push(")");
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

    /// Returns how far the journal of a session is here.
    pub(crate) async fn tip(&self, key: &SessionKey) -> Result<Option<Tip>, ControlError> {
        let failed = || ControlError::state("read a session");
        let sql = "SELECT stored_offset, events, chain, closed, fault FROM sessions \
                   WHERE org_id = $1 AND node_id = $2 AND session_id = $3";
        let row = sqlx::query(sql)
            .bind(self.org())
            .bind(key.node.as_str())
            .bind(key.session.as_str())
            .fetch_optional(&self.pool);
        let Some(row) = row.await.map_err(failed())? else {
            return Ok(None);
        };
        let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
        let chain: String = row.try_get(2).map_err(failed())?;
        Ok(Some(Tip {
            stored: Stored {
                offset: unsigned(number(0)?),
                events: unsigned(number(1)?),
                chain: parsed("a chain value", &chain)?,
                closed: number(3)? != 0,
            },
            fault: row.try_get(4).map_err(failed())?,
        }))
    }

    /// Returns sessions whose journals have not ended, those that grew last first.
    pub(crate) async fn open_sessions(
        &self,
        count_max: u32,
    ) -> Result<Vec<SessionKey>, ControlError> {
        let failed = || ControlError::state("read sessions");
        let sql = "SELECT node_id, session_id FROM sessions \
                   WHERE org_id = $1 AND closed = 0 ORDER BY updated DESC LIMIT $2";
        let rows = sqlx::query(sql).bind(self.org()).bind(i64::from(count_max));
        let rows = rows.fetch_all(&self.pool).await.map_err(failed())?;
        let key = |row: &SqliteRow| {
            let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
            Ok(SessionKey {
                node: parsed("a machine", &text(0)?)?,
                session: parsed("a session", &text(1)?)?,
            })
        };
        rows.iter().map(key).collect()
    }

    /// Returns sessions that a list asks for, those whose journals grew last first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(crate) async fn listed(&self, list: &Listing<'_>) -> Result<Vec<SessionRow>, ControlError> {
        let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT ");
        sql.push(COLUMNS).push(" FROM sessions WHERE org_id = ");
        sql.push_bind(self.org().to_owned());
        list.push(&mut sql);
        if let Some(before) = list.before {
            sql.push(" AND updated < ").push_bind(signed(before.0));
        }
        sql.push(" ORDER BY updated DESC LIMIT ");
        sql.push_bind(i64::from(list.count_max));
        let rows = sql.build().fetch_all(&self.pool).await;
        let rows = rows.map_err(ControlError::state("list sessions"))?;
        rows.iter().map(session).collect()
    }

    /// Returns how many sessions a list has, whatever part of it is asked for.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(crate) async fn count(&self, list: &Listing<'_>) -> Result<u64, ControlError> {
        let failed = || ControlError::state("count sessions");
        let mut sql: QueryBuilder<Sqlite> =
            QueryBuilder::new("SELECT COUNT(*) FROM sessions WHERE org_id = ");
        sql.push_bind(self.org().to_owned());
        list.push(&mut sql);
        let row = sql.build().fetch_one(&self.pool).await.map_err(failed())?;
        Ok(unsigned(row.try_get(0).map_err(failed())?))
    }

    /// Returns sessions on machines of a person, those whose journals grew last first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn sessions_of(
        &self,
        owner: &UserId,
        count_max: u32,
    ) -> Result<Vec<SessionRow>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sessions WHERE org_id = $1 AND node_id IN \
             (SELECT id FROM nodes WHERE org_id = $1 AND owner = $2) ORDER BY updated DESC LIMIT $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(&owner.0)
            .bind(i64::from(count_max))
            .fetch_all(&self.pool);
        let rows = rows.await.map_err(ControlError::state("read sessions"))?;
        rows.iter().map(session).collect()
    }

    /// Returns sessions that began or changed at a time or later, without what their events came to, the
    /// last ones first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn records(
        &self,
        nodes: Option<&[NodeId]>,
        since: UnixMillis,
        count_max: u32,
    ) -> Result<Vec<SessionRow>, ControlError> {
        let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT ");
        sql.push(COLUMNS.replace("summary", "''"));
        sql.push(" FROM sessions WHERE org_id = ");
        sql.push_bind(self.org().to_owned());
        push_nodes(&mut sql, nodes);
        sql.push(" AND (started >= ").push_bind(signed(since.0));
        sql.push(" OR updated >= ").push_bind(signed(since.0));
        sql.push(") ORDER BY started DESC LIMIT ");
        sql.push_bind(i64::from(count_max));
        let rows = sql.build().fetch_all(&self.pool).await;
        let rows = rows.map_err(ControlError::state("read records"))?;
        rows.iter().map(session).collect()
    }

    /// Keeps how much of a journal is here. The bytes are on the disk already.
    pub(super) async fn keep_stored(
        &self,
        writing: &mut Writing,
        key: &SessionKey,
        stored: &Stored,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO sessions (org_id, node_id, session_id, live, started, ended, summary, \
                   stored_offset, events, chain, closed, fault, updated) \
                   VALUES ($1, $2, $3, $4, $5, $6, '', $7, $8, $9, $10, NULL, $5) \
                   ON CONFLICT (org_id, node_id, session_id) DO UPDATE SET live = excluded.live, \
                   ended = excluded.ended, stored_offset = excluded.stored_offset, \
                   events = excluded.events, chain = excluded.chain, closed = excluded.closed, \
                   updated = excluded.updated";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(key.node.as_str())
            .bind(key.session.as_str())
            .bind(i64::from(!stored.closed))
            .bind(signed(now.0))
            .bind(stored.closed.then_some(signed(now.0)))
            .bind(signed(stored.offset))
            .bind(signed(stored.events))
            .bind(stored.chain.to_string())
            .bind(i64::from(stored.closed))
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep a session"))
    }

    /// Keeps what is wrong with a journal: nothing of it is taken any more.
    pub(super) async fn keep_fault(
        &self,
        writing: &mut Writing,
        key: &SessionKey,
        fault: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO sessions (org_id, node_id, session_id, live, started, ended, summary, \
                   stored_offset, events, chain, closed, fault, updated) \
                   VALUES ($1, $2, $3, 1, $4, NULL, '', 0, 0, $5, 0, $6, $4) \
                   ON CONFLICT (org_id, node_id, session_id) DO UPDATE SET fault = excluded.fault, \
                   updated = excluded.updated";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(key.node.as_str())
            .bind(key.session.as_str())
            .bind(signed(now.0))
            .bind(Digest::from_bytes([0; 32]).to_string())
            .bind(fault)
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep what is wrong with a journal"))
    }

    /// Keeps what the journal of a session has come to.
    pub(super) async fn keep_summary(
        &self,
        writing: &mut Writing,
        key: &SessionKey,
        started: Option<UnixMillis>,
        summary: &str,
    ) -> Result<(), ControlError> {
        let sql = "UPDATE sessions SET summary = $1, started = COALESCE($2, started) \
                   WHERE org_id = $3 AND node_id = $4 AND session_id = $5";
        let done = sqlx::query(sql)
            .bind(summary)
            .bind(started.map(|time| signed(time.0)))
            .bind(self.org())
            .bind(key.node.as_str())
            .bind(key.session.as_str())
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep what a session has come to"))
    }

    /// Keeps which sessions of a machine run.
    pub(super) async fn keep_live(
        &self,
        writing: &mut Writing,
        node: &NodeId,
        live: &[SessionId],
    ) -> Result<(), ControlError> {
        let failed = || ControlError::state("keep which sessions run");
        let sql = "UPDATE sessions SET live = 0 WHERE org_id = $1 AND node_id = $2 AND live <> 0";
        let done = sqlx::query(sql).bind(self.org()).bind(node.as_str());
        done.execute(&mut **writing).await.map_err(failed())?;
        for session in live {
            let sql = "UPDATE sessions SET live = 1 \
                       WHERE org_id = $1 AND node_id = $2 AND session_id = $3 AND closed = 0";
            let done = sqlx::query(sql)
                .bind(self.org())
                .bind(node.as_str())
                .bind(session.as_str());
            done.execute(&mut **writing).await.map_err(failed())?;
        }
        Ok(())
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
