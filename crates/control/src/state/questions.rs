//! Questions of machines, the votes on them, and what came of them.

use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};
use stockade_api::{NodeId, node::QuestionSent};
use stockade_trust::{Envelope, TeamId, UserId, Vote};
use stockade_types::{ApprovalId, UnixMillis};

use super::{SessionKey, State, Writing, from_json, millis, parsed, signed, to_json, unsigned};
use crate::ControlError;

/// How a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionState {
    /// It waits for votes.
    Open,
    /// People have allowed it.
    Granted,
    /// A person, or as many as deny, has denied it.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// The machine asks no more.
    Closed,
}

impl QuestionState {
    /// Returns its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Closed => "closed",
        }
    }

    fn of_word(word: &str) -> Result<Self, ControlError> {
        let all = [
            Self::Open,
            Self::Granted,
            Self::Denied,
            Self::Expired,
            Self::Closed,
        ];
        let known = all.into_iter().find(|state| state.word() == word);
        known.ok_or_else(|| ControlError::Stored {
            what: "the state of a question",
            why: word.to_owned(),
        })
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionRow {
    /// Names the question here: `q-` and 16 hexadecimal digits.
    pub id: String,
    /// The session that asks.
    pub key: SessionKey,
    /// Names the question there.
    pub approval: ApprovalId,
    /// What the machine sent.
    pub sent: QuestionSent,
    /// Who asks: people who have no vote. Empty if that is not known; then nobody has one.
    pub requesters: Vec<UserId>,
    /// How it stands.
    pub state: QuestionState,
    /// When it came, by the clock of the server.
    pub asked: UnixMillis,
    /// When it becomes a deny by itself.
    pub expires: UnixMillis,
    /// When it was closed.
    pub closed: Option<UnixMillis>,
    /// Why.
    pub why: Option<String>,
    /// When the machine said that it has the answer.
    pub delivered: Option<UnixMillis>,
    /// Grows by each change.
    pub version: u64,
}

const COLUMNS: &str = "id, node_id, session_id, approval_id, sent, requesters, state, asked, expires, closed, \
                       why, delivered, version";

impl State {
    /// Returns a question.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn question(&self, id: &str) -> Result<Option<QuestionRow>, ControlError> {
        let mut reading = self.read().await?;
        self.question_in(&mut reading, id).await
    }

    pub(crate) async fn question_in(
        &self,
        reading: &mut Writing,
        id: &str,
    ) -> Result<Option<QuestionRow>, ControlError> {
        let sql = format!("SELECT {COLUMNS} FROM questions WHERE org_id = $1 AND id = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(id);
        let row = row.fetch_optional(&mut **reading).await;
        let row = row.map_err(ControlError::state("read a question"))?;
        row.as_ref().map(question).transpose()
    }

    /// Returns the question that a session calls `approval`.
    pub(crate) async fn question_of(
        &self,
        reading: &mut Writing,
        key: &SessionKey,
        approval: &ApprovalId,
    ) -> Result<Option<QuestionRow>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM questions \
             WHERE org_id = $1 AND node_id = $2 AND session_id = $3 AND approval_id = $4"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(key.node.as_str())
            .bind(key.session.as_str())
            .bind(approval.as_str())
            .fetch_optional(&mut **reading);
        let row = row.await.map_err(ControlError::state("read a question"))?;
        row.as_ref().map(question).transpose()
    }

    /// Returns questions: those that are open first, then the newest.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn questions(&self, count_max: u32) -> Result<Vec<QuestionRow>, ControlError> {
        self.questions_of(None, count_max).await
    }

    /// Returns questions of the machines of some teams: those that are open first, then the newest. `None` does
    /// not narrow.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn questions_of(
        &self,
        teams: Option<&[TeamId]>,
        count_max: u32,
    ) -> Result<Vec<QuestionRow>, ControlError> {
        let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT ");
        sql.push(COLUMNS).push(" FROM questions WHERE org_id = ");
        sql.push_bind(self.org().to_owned());
        if let Some(teams) = teams {
            sql.push(" AND node_id IN (SELECT id FROM nodes WHERE org_id = ");
            sql.push_bind(self.org().to_owned()).push(" AND team IN (");
            let mut list = sql.separated(", ");
            for team in teams {
                list.push_bind(team.0.clone());
            }
            sql.push("))");
        }
        sql.push(" ORDER BY CASE state WHEN 'open' THEN 0 ELSE 1 END, asked DESC, id LIMIT ");
        sql.push_bind(i64::from(count_max));
        let rows = sql.build().fetch_all(&self.pool).await;
        let rows = rows.map_err(ControlError::state("read questions"))?;
        rows.iter().map(question).collect()
    }

    /// Returns questions whose answers a machine may not have yet.
    pub(crate) async fn undelivered(
        &self,
        node: &NodeId,
        now: UnixMillis,
    ) -> Result<Vec<QuestionRow>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM questions WHERE org_id = $1 AND node_id = $2 AND delivered IS NULL \
             AND state IN ('granted', 'denied') AND expires > $3 ORDER BY asked"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(node.as_str())
            .bind(signed(now.0))
            .fetch_all(&self.pool);
        let rows = rows.await.map_err(ControlError::state("read answers"))?;
        rows.iter().map(question).collect()
    }

    /// Counts the open questions of a machine.
    pub(crate) async fn open_count(
        &self,
        reading: &mut Writing,
        node: &NodeId,
    ) -> Result<u32, ControlError> {
        let failed = || ControlError::state("count questions");
        let sql = "SELECT COUNT(*) FROM questions \
                   WHERE org_id = $1 AND node_id = $2 AND state = 'open'";
        let row = sqlx::query(sql).bind(self.org()).bind(node.as_str());
        let row = row.fetch_one(&mut **reading).await.map_err(failed())?;
        let count: i64 = row.try_get(0).map_err(failed())?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    pub(crate) async fn add_question(
        &self,
        writing: &mut Writing,
        row: &QuestionRow,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO questions (org_id, id, node_id, session_id, approval_id, sent, rendered, \
                   requesters, asked, expires, state, closed, why, delivered, version) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'open', NULL, NULL, NULL, 1)";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(&row.id)
            .bind(row.key.node.as_str())
            .bind(row.key.session.as_str())
            .bind(row.approval.as_str())
            .bind(to_json("a question", &row.sent)?)
            .bind(row.sent.rendered.to_string())
            .bind(to_json("people", &row.requesters)?)
            .bind(signed(row.asked.0))
            .bind(signed(row.expires.0))
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep a question"))
    }

    /// Moves a question from open to another state; `false` if it is not open, or has changed since it was
    /// read. There is no other way out of a state, so no denied question is ever granted.
    pub(crate) async fn settle_question(
        &self,
        writing: &mut Writing,
        row: &QuestionRow,
        state: QuestionState,
        why: Option<&str>,
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let sql = "UPDATE questions SET state = $1, closed = $2, why = $3, version = version + 1 \
                   WHERE org_id = $4 AND id = $5 AND state = 'open' AND version = $6";
        let done = sqlx::query(sql)
            .bind(state.word())
            .bind(signed(now.0))
            .bind(why)
            .bind(self.org())
            .bind(&row.id)
            .bind(signed(row.version))
            .execute(&mut **writing);
        let done = done
            .await
            .map_err(ControlError::state("settle a question"))?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes that the machine asks no more.
    pub(crate) async fn delivered(
        &self,
        writing: &mut Writing,
        row: &QuestionRow,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql = "UPDATE questions SET delivered = $1 WHERE org_id = $2 AND id = $3 AND delivered IS NULL";
        let done = sqlx::query(sql)
            .bind(signed(now.0))
            .bind(self.org())
            .bind(&row.id);
        let done = done.execute(&mut **writing).await;
        done.map(|_| ())
            .map_err(ControlError::state("note an answer"))
    }

    /// Returns the open questions that are over.
    pub(crate) async fn overdue(&self, now: UnixMillis) -> Result<Vec<QuestionRow>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM questions WHERE org_id = $1 AND state = 'open' AND expires <= $2 LIMIT 256"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(signed(now.0));
        let rows = rows.fetch_all(&self.pool).await;
        let rows = rows.map_err(ControlError::state("read questions"))?;
        rows.iter().map(question).collect()
    }

    /// Returns the votes on a question, in the order in which they came.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn votes(&self, id: &str) -> Result<Vec<Vote>, ControlError> {
        let mut reading = self.read().await?;
        self.votes_in(&mut reading, id).await
    }

    pub(crate) async fn votes_in(
        &self,
        reading: &mut Writing,
        id: &str,
    ) -> Result<Vec<Vote>, ControlError> {
        let failed = || ControlError::state("read votes");
        let sql =
            "SELECT vote FROM votes WHERE org_id = $1 AND question_id = $2 ORDER BY at, rowid";
        let rows = sqlx::query(sql).bind(self.org()).bind(id);
        let rows = rows.fetch_all(&mut **reading).await.map_err(failed())?;
        let vote = |row: &SqliteRow| {
            let text: String = row.try_get(0).map_err(failed())?;
            from_json("a vote", &text)
        };
        rows.iter().map(vote).collect()
    }

    /// Keeps a vote; `false` if the person has voted before.
    pub(crate) async fn add_vote(
        &self,
        writing: &mut Writing,
        id: &str,
        vote: &Vote,
    ) -> Result<bool, ControlError> {
        let sql = "INSERT INTO votes (org_id, question_id, user_id, stage, choice, at, vote) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(id)
            .bind(&vote.user.0)
            .bind(&vote.stage)
            .bind(to_json("a choice", &vote.choice)?)
            .bind(signed(vote.at.0))
            .bind(to_json("a vote", vote)?)
            .execute(&mut **writing);
        let done = done.await.map_err(ControlError::state("keep a vote"))?;
        Ok(done.rows_affected() == 1)
    }

    pub(crate) async fn add_grant(
        &self,
        writing: &mut Writing,
        id: &str,
        envelope: &Envelope,
        not_after: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO grants (org_id, question_id, envelope, issued, not_after) \
                   VALUES ($1, $2, $3, $4, $5)";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(id)
            .bind(to_json("a grant", envelope)?)
            .bind(signed(now.0))
            .bind(signed(not_after.0))
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep a grant"))
    }

    /// Returns the grant of a question.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn grant(&self, id: &str) -> Result<Option<Envelope>, ControlError> {
        let failed = || ControlError::state("read a grant");
        let sql = "SELECT envelope FROM grants WHERE org_id = $1 AND question_id = $2";
        let row = sqlx::query(sql).bind(self.org()).bind(id);
        let Some(row) = row.fetch_optional(&self.pool).await.map_err(failed())? else {
            return Ok(None);
        };
        let text: String = row.try_get(0).map_err(failed())?;
        Ok(Some(from_json("a grant", &text)?))
    }
}

fn question(row: &SqliteRow) -> Result<QuestionRow, ControlError> {
    let failed = || ControlError::state("read a question");
    let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
    let maybe = |index: usize| row.try_get::<Option<String>, _>(index).map_err(failed());
    let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
    let time = |index: usize| row.try_get::<Option<i64>, _>(index).map_err(failed());
    Ok(QuestionRow {
        id: text(0)?,
        key: SessionKey {
            node: parsed("a machine", &text(1)?)?,
            session: parsed("a session", &text(2)?)?,
        },
        approval: parsed("a question", &text(3)?)?,
        sent: from_json("a question", &text(4)?)?,
        requesters: from_json("people", &text(5)?)?,
        state: QuestionState::of_word(&text(6)?)?,
        asked: millis(number(7)?),
        expires: millis(number(8)?),
        closed: time(9)?.map(millis),
        why: maybe(10)?,
        delivered: time(11)?.map(millis),
        version: unsigned(number(12)?),
    })
}
