//! What people make of what they read: findings that they settle, and content that they look at.

use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};
use stockade_api::NodeId;
use stockade_trust::UserId;
use stockade_types::UnixMillis;

use super::{SessionKey, State, millis, parsed, sessions::push_nodes, signed, unsigned};
use crate::{
    ControlError,
    act::{Act, Action},
};

/// What a person made of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriageRow {
    /// Which finding: `NODE/SESSION/SEQ`, or `n-NUMBER` for what a machine did.
    pub finding: String,
    /// `open`, `expected`, `mistake` or `escalated`.
    pub state: String,
    /// Who looks into it.
    pub assignee: Option<UserId>,
    /// Why.
    pub note: String,
    /// Who said so.
    pub by: UserId,
    /// When.
    pub at: UnixMillis,
}

/// Something that a machine did and must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccusationRow {
    /// Its number.
    pub id: i64,
    /// The machine.
    pub node: String,
    /// The session on it.
    pub session: Option<String>,
    /// What sort.
    pub kind: String,
    /// What exactly.
    pub detail: String,
    /// When.
    pub at: UnixMillis,
}

/// That a person looked at what was said in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentReadRow {
    /// Its id.
    pub id: String,
    /// The session.
    pub key: SessionKey,
    /// Whose machine it was.
    pub owner: Option<UserId>,
    /// Who looked.
    pub by: UserId,
    /// Why, in the words of who looked.
    pub reason: String,
    /// When.
    pub at: UnixMillis,
    /// Until when it may be looked at for this reason.
    pub not_after: UnixMillis,
}

/// How far a session has grown, as far as it is verified.
#[derive(Clone, Debug)]
pub(crate) struct Grown {
    pub(crate) key: SessionKey,
    /// Events that are verified.
    pub(crate) events: u64,
    pub(crate) updated: u64,
    /// Whether its signed end is here.
    pub(crate) closed: bool,
}

impl State {
    /// Returns how far sessions have grown that changed at this time or later, in milliseconds since 1970,
    /// the oldest first.
    pub(crate) async fn grown(&self, since: u64) -> Result<Vec<Grown>, ControlError> {
        let failed = || ControlError::state("read how sessions have grown");
        let sql = "SELECT node_id, session_id, events, updated, closed FROM sessions \
                   WHERE org_id = $1 AND updated >= $2 ORDER BY updated";
        let rows = sqlx::query(sql).bind(self.org()).bind(signed(since));
        let rows = rows.fetch_all(&self.pool).await.map_err(failed())?;
        let one = |row: &SqliteRow| {
            let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
            let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
            Ok(Grown {
                key: SessionKey {
                    node: parsed("a machine", &text(0)?)?,
                    session: parsed("a session", &text(1)?)?,
                },
                events: unsigned(number(2)?),
                updated: unsigned(number(3)?),
                closed: number(4)? != 0,
            })
        };
        rows.iter().map(one).collect()
    }

    /// Keeps what a person made of a finding.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn triage(&self, row: &TriageRow) -> Result<(), ControlError> {
        let failed = || ControlError::state("keep what became of a finding");
        let mut writing = self.write().await?;
        let sql = "INSERT INTO triage (org_id, finding, state, assignee, note, by_user, at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (org_id, finding) DO UPDATE SET \
                   state = excluded.state, assignee = excluded.assignee, note = excluded.note, \
                   by_user = excluded.by_user, at = excluded.at";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(&row.finding)
            .bind(&row.state)
            .bind(row.assignee.as_ref().map(|user| user.0.clone()))
            .bind(&row.note)
            .bind(&row.by.0)
            .bind(signed(row.at.0));
        done.execute(&mut *writing).await.map_err(failed())?;
        let act = Act::new(Action::FindingTriaged)
            .by(&row.by.0)
            .about(&row.finding)
            .detail(format!("{}: {}", row.state, row.note));
        self.note(&mut writing, &act, row.at).await?;
        self.commit(writing).await
    }

    /// Returns what people made of findings.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn triaged(&self) -> Result<Vec<TriageRow>, ControlError> {
        let failed = || ControlError::state("read what became of findings");
        let sql =
            "SELECT finding, state, assignee, note, by_user, at FROM triage WHERE org_id = $1";
        let rows = sqlx::query(sql).bind(self.org()).fetch_all(&self.pool);
        let rows = rows.await.map_err(failed())?;
        let one = |row: &SqliteRow| {
            let assignee: Option<String> = row.try_get(2)?;
            Ok(TriageRow {
                finding: row.try_get(0)?,
                state: row.try_get(1)?,
                assignee: assignee.map(UserId),
                note: row.try_get(3)?,
                by: UserId(row.try_get(4)?),
                at: millis(row.try_get(5)?),
            })
        };
        let rows: Result<Vec<_>, sqlx::Error> = rows.iter().map(one).collect();
        rows.map_err(failed())
    }

    /// Returns what machines did and must not, the newest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn accusations(
        &self,
        nodes: Option<&[NodeId]>,
        count_max: u32,
    ) -> Result<Vec<AccusationRow>, ControlError> {
        let failed = || ControlError::state("read what machines did");
        let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new(
            "SELECT id, node_id, session_id, kind, detail, at FROM findings WHERE org_id = ",
        );
        sql.push_bind(self.org().to_owned());
        push_nodes(&mut sql, nodes);
        sql.push(" ORDER BY id DESC LIMIT ");
        sql.push_bind(i64::from(count_max));
        let rows = sql.build().fetch_all(&self.pool).await.map_err(failed())?;
        let one = |row: &SqliteRow| {
            Ok(AccusationRow {
                id: row.try_get(0)?,
                node: row.try_get(1)?,
                session: row.try_get(2)?,
                kind: row.try_get(3)?,
                detail: row.try_get(4)?,
                at: millis(row.try_get(5)?),
            })
        };
        let rows: Result<Vec<_>, sqlx::Error> = rows.iter().map(one).collect();
        rows.map_err(failed())
    }

    /// Notes that a person looks at what was said in a session, before it is shown.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn read_content(&self, row: &ContentReadRow) -> Result<(), ControlError> {
        let failed = || ControlError::state("note who looks at content");
        let mut writing = self.write().await?;
        let sql = "INSERT INTO content_reads (org_id, id, node_id, session_id, owner, by_user, reason, at, \
                   not_after) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(&row.id)
            .bind(row.key.node.as_str())
            .bind(row.key.session.as_str())
            .bind(row.owner.as_ref().map(|user| user.0.clone()))
            .bind(&row.by.0)
            .bind(&row.reason)
            .bind(signed(row.at.0))
            .bind(signed(row.not_after.0));
        done.execute(&mut *writing).await.map_err(failed())?;
        let mut act = Act::new(Action::ContentRead)
            .by(&row.by.0)
            .node(row.key.node.as_str())
            .session(row.key.session.as_str())
            .detail(&row.reason);
        act.about = row.owner.as_ref().map(|user| user.0.clone());
        self.note(&mut writing, &act, row.at).await?;
        self.commit(writing).await
    }

    /// Returns who looked at what was said on the machines of a person, the last ones first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn content_reads(
        &self,
        owner: &UserId,
        count_max: u32,
    ) -> Result<Vec<ContentReadRow>, ControlError> {
        let sql = "SELECT id, node_id, session_id, owner, by_user, reason, at, not_after FROM content_reads \
                   WHERE org_id = $1 AND owner = $2 ORDER BY at DESC LIMIT $3";
        let rows = sqlx::query(sql)
            .bind(self.org())
            .bind(&owner.0)
            .bind(i64::from(count_max))
            .fetch_all(&self.pool);
        let rows = rows
            .await
            .map_err(ControlError::state("read who looked at content"))?;
        rows.iter().map(content_read).collect()
    }

    /// Returns that a person may look at what was said in a session, and why, if that is so now.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn may_read_content(
        &self,
        key: &SessionKey,
        by: &UserId,
        now: UnixMillis,
    ) -> Result<Option<ContentReadRow>, ControlError> {
        let sql = "SELECT id, node_id, session_id, owner, by_user, reason, at, not_after FROM content_reads \
                   WHERE org_id = $1 AND node_id = $2 AND session_id = $3 AND by_user = $4 AND not_after > $5 \
                   ORDER BY at DESC LIMIT 1";
        let row = sqlx::query(sql)
            .bind(self.org())
            .bind(key.node.as_str())
            .bind(key.session.as_str())
            .bind(&by.0)
            .bind(signed(now.0))
            .fetch_optional(&self.pool);
        let row = row
            .await
            .map_err(ControlError::state("read who may look at content"))?;
        row.as_ref().map(content_read).transpose()
    }
}

fn content_read(row: &SqliteRow) -> Result<ContentReadRow, ControlError> {
    let failed = || ControlError::state("read who looked at content");
    let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
    let time = |index: usize| row.try_get::<i64, _>(index).map_err(failed()).map(millis);
    let owner: Option<String> = row.try_get(3).map_err(failed())?;
    Ok(ContentReadRow {
        id: text(0)?,
        key: SessionKey {
            node: parsed("a machine", &text(1)?)?,
            session: parsed("a session", &text(2)?)?,
        },
        owner: owner.map(UserId),
        by: UserId(text(4)?),
        reason: text(5)?,
        at: time(6)?,
        not_after: time(7)?,
    })
}
