//! Overrides that are to be looked at, and when questions are looked at again.

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_trust::UserId;
use stockade_types::UnixMillis;

use super::{State, Writing, millis, signed};
use crate::ControlError;

/// Overdue rows that one round takes.
const ROUND: i64 = 256;

/// An override that another person has to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewTaskRow {
    /// The question.
    pub question: String,
    /// Who overrode its stages.
    pub breaker: UserId,
    /// When.
    pub made: UnixMillis,
    /// Until when it is to be looked at.
    pub due: UnixMillis,
    /// What came of it.
    pub done: Option<ReviewDone>,
}

/// What a person said about an override.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewDone {
    /// When.
    pub at: UnixMillis,
    /// Who.
    pub by: UserId,
    /// Whether it was right.
    pub justified: bool,
    /// Why.
    pub note: String,
}

const COLUMNS: &str = "question_id, breaker, made, due, done, done_by, justified, note";

impl State {
    pub(crate) async fn add_review_task(
        &self,
        writing: &mut Writing,
        row: &ReviewTaskRow,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO review_tasks (org_id, question_id, breaker, made, due) \
                   VALUES ($1, $2, $3, $4, $5)";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(&row.question)
            .bind(&row.breaker.0)
            .bind(signed(row.made.0))
            .bind(signed(row.due.0))
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep a review"))
    }

    /// Returns the review of an override.
    pub(crate) async fn review_task_in(
        &self,
        reading: &mut Writing,
        question: &str,
    ) -> Result<Option<ReviewTaskRow>, ControlError> {
        let sql =
            format!("SELECT {COLUMNS} FROM review_tasks WHERE org_id = $1 AND question_id = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(question);
        let row = row.fetch_optional(&mut **reading).await;
        let row = row.map_err(ControlError::state("read a review"))?;
        row.as_ref().map(task).transpose()
    }

    /// Returns the review of an override.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn review_task(&self, question: &str) -> Result<Option<ReviewTaskRow>, ControlError> {
        let mut reading = self.read().await?;
        self.review_task_in(&mut reading, question).await
    }

    /// Returns the overrides that nobody has looked at, the most urgent first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn review_tasks(&self, count_max: u32) -> Result<Vec<ReviewTaskRow>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM review_tasks WHERE org_id = $1 AND done IS NULL \
             ORDER BY due, question_id LIMIT $2"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(i64::from(count_max));
        let rows = rows.fetch_all(&self.pool).await;
        let rows = rows.map_err(ControlError::state("read reviews"))?;
        rows.iter().map(task).collect()
    }

    /// Returns the overrides that nobody has looked at in time, and of which that is not noted yet.
    pub(crate) async fn review_tasks_overdue(
        &self,
        now: UnixMillis,
    ) -> Result<Vec<ReviewTaskRow>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM review_tasks WHERE org_id = $1 AND done IS NULL AND due <= $2 \
             AND overdue IS NULL ORDER BY due LIMIT $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(signed(now.0))
            .bind(ROUND);
        let rows = rows.fetch_all(&self.pool).await;
        let rows = rows.map_err(ControlError::state("read reviews"))?;
        rows.iter().map(task).collect()
    }

    /// Notes that an override was not looked at in time.
    pub(crate) async fn note_overdue(
        &self,
        writing: &mut Writing,
        question: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql = "UPDATE review_tasks SET overdue = $1 WHERE org_id = $2 AND question_id = $3";
        let done = sqlx::query(sql)
            .bind(signed(now.0))
            .bind(self.org())
            .bind(question);
        let done = done.execute(&mut **writing).await;
        done.map(|_| ())
            .map_err(ControlError::state("note a review"))
    }

    /// Keeps what a person said about an override; `false` if somebody has before.
    pub(crate) async fn end_review_task(
        &self,
        writing: &mut Writing,
        question: &str,
        by: &UserId,
        (justified, note): (bool, &str),
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let sql = "UPDATE review_tasks SET done = $1, done_by = $2, justified = $3, note = $4 \
                   WHERE org_id = $5 AND question_id = $6 AND done IS NULL";
        let done = sqlx::query(sql)
            .bind(signed(now.0))
            .bind(&by.0)
            .bind(i64::from(justified))
            .bind(note)
            .bind(self.org())
            .bind(question)
            .execute(&mut **writing);
        let done = done.await.map_err(ControlError::state("keep a review"))?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes when a question is to be looked at again; `None` for never.
    pub(crate) async fn set_look(
        &self,
        writing: &mut Writing,
        question: &str,
        due: Option<UnixMillis>,
    ) -> Result<(), ControlError> {
        let failed = || ControlError::state("note when to look at a question");
        let sql = "DELETE FROM looks WHERE org_id = $1 AND question_id = $2";
        let done = sqlx::query(sql).bind(self.org()).bind(question);
        done.execute(&mut **writing).await.map_err(failed())?;
        let Some(due) = due else { return Ok(()) };
        let sql = "INSERT INTO looks (org_id, question_id, due) VALUES ($1, $2, $3)";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(question)
            .bind(signed(due.0));
        let done = done.execute(&mut **writing).await;
        done.map(|_| ()).map_err(failed())
    }

    /// Returns the questions that are to be looked at.
    pub(crate) async fn looks_due(&self, now: UnixMillis) -> Result<Vec<String>, ControlError> {
        let failed = || ControlError::state("read which questions to look at");
        let sql =
            "SELECT question_id FROM looks WHERE org_id = $1 AND due <= $2 ORDER BY due LIMIT $3";
        let rows = sqlx::query(sql)
            .bind(self.org())
            .bind(signed(now.0))
            .bind(ROUND);
        let rows = rows.fetch_all(&self.pool).await.map_err(failed())?;
        let id = |row: &SqliteRow| row.try_get::<String, _>(0).map_err(failed());
        rows.iter().map(id).collect()
    }
}

fn task(row: &SqliteRow) -> Result<ReviewTaskRow, ControlError> {
    let failed = || ControlError::state("read a review");
    let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
    let maybe = |index: usize| row.try_get::<Option<String>, _>(index).map_err(failed());
    let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
    let at = row.try_get::<Option<i64>, _>(4).map_err(failed())?;
    let done = match at {
        None => None,
        Some(at) => Some(ReviewDone {
            at: millis(at),
            by: UserId(maybe(5)?.unwrap_or_default()),
            justified: row.try_get::<Option<i64>, _>(6).map_err(failed())? == Some(1),
            note: maybe(7)?.unwrap_or_default(),
        }),
    };
    Ok(ReviewTaskRow {
        question: text(0)?,
        breaker: UserId(text(1)?),
        made: millis(number(2)?),
        due: millis(number(3)?),
        done,
    })
}
