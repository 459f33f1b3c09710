//! What many sessions came to: who talked to whom, what is new, and what was found.

use sqlx::{QueryBuilder, Row as _, Sqlite};
use stockade_types::UnixMillis;

use super::{
    Index,
    search::{Seen, push_seen},
};
use crate::{
    ControlError,
    state::{SessionKey, millis, parsed, signed, unsigned},
};

/// Who talked to whom, over all sessions.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) agent: String,
    pub(crate) exe: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) verdict: String,
    pub(crate) rule: String,
    pub(crate) sessions: u64,
    /// Decisions.
    pub(crate) count: u64,
    /// Connections that were made and have ended.
    pub(crate) connections: u64,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) first_at: UnixMillis,
    pub(crate) last_at: UnixMillis,
    /// When any session named the host first.
    pub(crate) known_since: UnixMillis,
    /// An event of it in one of the sessions.
    pub(crate) example: (SessionKey, u64),
}

/// A host that no session named before.
#[derive(Clone, Debug)]
pub(crate) struct NewHost {
    pub(crate) host: String,
    pub(crate) first_at: UnixMillis,
    pub(crate) verdict: String,
    pub(crate) sessions: u64,
}

/// An hour.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) denies: u64,
    pub(crate) asks: u64,
}

/// A finding.
#[derive(Clone, Debug)]
pub(crate) struct RaisedRow {
    pub(crate) key: SessionKey,
    pub(crate) seq: u64,
    pub(crate) at: UnixMillis,
    pub(crate) kind: String,
    pub(crate) severity: String,
    pub(crate) title: String,
    pub(crate) detail: String,
}

const HOUR_MS: u64 = 3_600_000;

impl Index {
    /// Returns who talked to whom since a time, the most decisions first. A text narrows to hosts that
    /// contain it.
    ///
    /// # Errors
    /// When the index cannot be read, or it takes too long.
    pub(crate) async fn flows(
        &self,
        seen: &Seen,
        since: UnixMillis,
        host: &str,
        count_max: u32,
    ) -> Result<Vec<Flow>, ControlError> {
        let failed = || ControlError::state("read flows");
        let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new(
            "SELECT i.agent, f.exe, f.host, f.port, f.verdict, f.rule, COUNT(*), SUM(f.count), \
             SUM(f.connections), SUM(f.bytes_out), SUM(f.bytes_in), MIN(f.first_at), MAX(f.last_at), \
             COALESCE(h.first_at, 0), i.node_id, i.session_id, f.last_seq \
             FROM flows f JOIN indexed i ON i.id = f.session LEFT JOIN hosts h ON h.host = f.host \
             WHERE f.last_at >= ",
        );
        sql.push_bind(signed(since.0));
        if !host.is_empty() {
            sql.push(" AND instr(f.host, ");
            sql.push_bind(host.to_lowercase()).push(") > 0");
        }
        push_seen(&mut sql, seen, "f.session");
        sql.push(
            " GROUP BY i.agent, f.exe, f.host, f.port, f.verdict, f.rule ORDER BY SUM(f.count) DESC, f.host, \
             f.exe, f.verdict LIMIT ",
        );
        sql.push_bind(i64::from(count_max));
        let mut connection = self.look().await?;
        let rows = sql.build().fetch_all(&mut *connection);
        let rows = rows.await.map_err(failed())?;
        let flow = |row: &sqlx::sqlite::SqliteRow| {
            let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
            let number = |index: usize| {
                let number = row.try_get::<i64, _>(index).map_err(failed());
                number.map(unsigned)
            };
            Ok(Flow {
                agent: text(0)?,
                exe: text(1)?,
                host: text(2)?,
                port: u16::try_from(number(3)?).unwrap_or_default(),
                verdict: text(4)?,
                rule: text(5)?,
                sessions: number(6)?,
                count: number(7)?,
                connections: number(8)?,
                bytes_out: number(9)?,
                bytes_in: number(10)?,
                first_at: UnixMillis(number(11)?),
                last_at: UnixMillis(number(12)?),
                known_since: UnixMillis(number(13)?),
                example: (
                    SessionKey {
                        node: parsed("a machine", &text(14)?)?,
                        session: parsed("a session", &text(15)?)?,
                    },
                    number(16)?,
                ),
            })
        };
        rows.iter().map(flow).collect()
    }

    /// Returns hosts that no session named before a time, those with the most sessions first.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) async fn new_hosts(
        &self,
        seen: &Seen,
        since: UnixMillis,
        count_max: u32,
    ) -> Result<Vec<NewHost>, ControlError> {
        let failed = || ControlError::state("read new hosts");
        let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new(
            "SELECT h.host, h.first_at, MAX(f.verdict), COUNT(DISTINCT f.session) FROM hosts h \
             JOIN flows f ON f.host = h.host WHERE h.first_at >= ",
        );
        sql.push_bind(signed(since.0));
        sql.push(" AND f.last_at >= ").push_bind(signed(since.0));
        push_seen(&mut sql, seen, "f.session");
        sql.push(
            " GROUP BY h.host ORDER BY COUNT(DISTINCT f.session) DESC, h.first_at DESC LIMIT ",
        );
        sql.push_bind(i64::from(count_max));
        let mut connection = self.look().await?;
        let rows = sql.build().fetch_all(&mut *connection);
        let rows = rows.await.map_err(failed())?;
        let host = |row: &sqlx::sqlite::SqliteRow| {
            Ok(NewHost {
                host: row.try_get(0)?,
                first_at: millis(row.try_get(1)?),
                verdict: row.try_get(2)?,
                sessions: unsigned(row.try_get(3)?),
            })
        };
        let hosts: Result<Vec<_>, sqlx::Error> = rows.iter().map(host).collect();
        hosts.map_err(failed())
    }

    /// Returns denies and asks of each of the last hours, the oldest first.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) async fn hours(
        &self,
        seen: &Seen,
        now: UnixMillis,
        hours: u64,
    ) -> Result<Vec<Bucket>, ControlError> {
        let failed = || ControlError::state("count decisions");
        let first = (now.0 / HOUR_MS + 1).saturating_sub(hours);
        let mut buckets = vec![Bucket::default(); usize::try_from(hours).unwrap_or_default()];
        for (verdict, is_deny) in [("deny", true), ("ask", false)] {
            let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT at / ");
            sql.push_bind(signed(HOUR_MS));
            sql.push(", COUNT(*) FROM events_ix WHERE verdict = ");
            sql.push_bind(verdict);
            sql.push(" AND at >= ").push_bind(signed(first * HOUR_MS));
            push_seen(&mut sql, seen, "session");
            sql.push(" GROUP BY 1");
            let mut connection = self.look().await?;
            let rows = sql.build().fetch_all(&mut *connection);
            for row in rows.await.map_err(failed())? {
                let hour = unsigned(row.try_get(0).map_err(failed())?);
                let count = unsigned(row.try_get(1).map_err(failed())?);
                let place = usize::try_from(hour.saturating_sub(first)).unwrap_or(usize::MAX);
                if let Some(bucket) = buckets.get_mut(place) {
                    if is_deny {
                        bucket.denies = count;
                    } else {
                        bucket.asks = count;
                    }
                }
            }
        }
        Ok(buckets)
    }

    /// Returns findings, the newest first.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) async fn raised(
        &self,
        seen: &Seen,
        count_max: u32,
    ) -> Result<Vec<RaisedRow>, ControlError> {
        let failed = || ControlError::state("read findings");
        let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new(
            "SELECT i.node_id, i.session_id, r.seq, r.at, r.kind, r.severity, r.title, r.detail \
             FROM raised r JOIN indexed i ON i.id = r.session WHERE 1 = 1",
        );
        push_seen(&mut sql, seen, "r.session");
        sql.push(" ORDER BY r.at DESC LIMIT ");
        sql.push_bind(i64::from(count_max));
        let mut connection = self.look().await?;
        let rows = sql.build().fetch_all(&mut *connection);
        let rows = rows.await.map_err(failed())?;
        let one = |row: &sqlx::sqlite::SqliteRow| {
            let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
            let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
            Ok(RaisedRow {
                key: SessionKey {
                    node: parsed("a machine", &text(0)?)?,
                    session: parsed("a session", &text(1)?)?,
                },
                seq: unsigned(number(2)?),
                at: millis(number(3)?),
                kind: text(4)?,
                severity: text(5)?,
                title: text(6)?,
                detail: text(7)?,
            })
        };
        rows.iter().map(one).collect()
    }

    /// Tells whether an event is a finding.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) async fn is_raised(&self, key: &SessionKey, seq: u64) -> Result<bool, ControlError> {
        let sql = "SELECT 1 FROM raised r JOIN indexed i ON i.id = r.session \
                   WHERE i.node_id = $1 AND i.session_id = $2 AND r.seq = $3";
        let mut connection = self.look().await?;
        let row = sqlx::query(sql)
            .bind(key.node.as_str())
            .bind(key.session.as_str())
            .bind(signed(seq))
            .fetch_optional(&mut *connection);
        let row = row.await.map_err(ControlError::state("find a finding"))?;
        Ok(row.is_some())
    }

    /// Returns how many events sessions could not record, by session; those that lost some.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) async fn losses(&self) -> Result<Vec<(SessionKey, u64)>, ControlError> {
        let failed = || ControlError::state("read losses");
        let sql = "SELECT node_id, session_id, lost FROM indexed WHERE lost > 0 LIMIT 10000";
        let mut connection = self.look().await?;
        let rows = sqlx::query(sql).fetch_all(&mut *connection);
        let rows = rows.await.map_err(failed())?;
        let one = |row: &sqlx::sqlite::SqliteRow| {
            let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
            let key = SessionKey {
                node: parsed("a machine", &text(0)?)?,
                session: parsed("a session", &text(1)?)?,
            };
            let lost: i64 = row.try_get(2).map_err(failed())?;
            Ok((key, unsigned(lost)))
        };
        rows.iter().map(one).collect()
    }
}
