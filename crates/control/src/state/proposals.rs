//! Proposals of policy: a text that one person has written, and what another one said of it.

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_types::UnixMillis;

use super::{State, Writing, millis, signed, unsigned};
use crate::ControlError;

/// Where a proposal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProposalState {
    /// It waits for a review.
    Open,
    /// A reviewer has approved it, and it was published.
    Published,
    /// A reviewer does not want it.
    Rejected,
    /// Its author does not want it any more.
    Withdrawn,
}

impl ProposalState {
    const ALL: [Self; 4] = [Self::Open, Self::Published, Self::Rejected, Self::Withdrawn];

    /// Returns its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Published => "published",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalRow {
    /// Names it.
    pub id: String,
    /// The serial that was in force when it was made; 0 for none.
    pub base: u64,
    /// The policy, TOML.
    pub text: String,
    /// Why, in the author's words.
    pub message: String,
    /// Who made it.
    pub author: String,
    /// When.
    pub created: UnixMillis,
    /// Where it stands.
    pub state: ProposalState,
    /// Who reviewed it.
    pub reviewer: Option<String>,
    /// When.
    pub reviewed: Option<UnixMillis>,
    /// What the reviewer said.
    pub reason: Option<String>,
    /// The serial under which it was published.
    pub serial: Option<u64>,
}

/// What became of a proposal, and by whom.
#[derive(Clone, Debug)]
pub(crate) struct Reviewed<'a> {
    pub(crate) state: ProposalState,
    pub(crate) by: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) serial: Option<u64>,
    pub(crate) at: UnixMillis,
}

const COLUMNS: &str =
    "id, base, text, message, author, created, state, reviewer, reviewed, reason, serial";

impl State {
    /// Returns proposals, the newest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn proposals(&self, count_max: u32) -> Result<Vec<ProposalRow>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM proposals WHERE org_id = $1 ORDER BY created DESC, id LIMIT $2"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(i64::from(count_max))
            .fetch_all(&self.pool);
        let rows = rows.await.map_err(ControlError::state("read proposals"))?;
        rows.iter().map(proposal).collect()
    }

    /// Returns a proposal.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn proposal(&self, id: &str) -> Result<Option<ProposalRow>, ControlError> {
        let sql = format!("SELECT {COLUMNS} FROM proposals WHERE org_id = $1 AND id = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(id)
            .fetch_optional(&self.pool);
        let row = row.await.map_err(ControlError::state("read a proposal"))?;
        row.as_ref().map(proposal).transpose()
    }

    /// Returns how many proposals wait for a review.
    pub(crate) async fn open_proposals(&self, reading: &mut Writing) -> Result<u64, ControlError> {
        let failed = || ControlError::state("count proposals");
        let sql = "SELECT COUNT(*) FROM proposals WHERE org_id = $1 AND state = 'open'";
        let row = sqlx::query(sql).bind(self.org()).fetch_one(&mut **reading);
        let row = row.await.map_err(failed())?;
        Ok(unsigned(row.try_get(0).map_err(failed())?))
    }

    pub(crate) async fn add_proposal(
        &self,
        writing: &mut Writing,
        row: &ProposalRow,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO proposals (org_id, id, base, text, message, author, created, state) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(&row.id)
            .bind(signed(row.base))
            .bind(&row.text)
            .bind(&row.message)
            .bind(&row.author)
            .bind(signed(row.created.0))
            .bind(row.state.word())
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep a proposal"))
    }

    /// Notes what became of an open proposal; `false` if it is not open any more.
    pub(crate) async fn review(
        &self,
        writing: &mut Writing,
        id: &str,
        reviewed: &Reviewed<'_>,
    ) -> Result<bool, ControlError> {
        let sql = "UPDATE proposals SET state = $3, reviewer = $4, reviewed = $5, reason = $6, serial = $7 \
                   WHERE org_id = $1 AND id = $2 AND state = 'open'";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(id)
            .bind(reviewed.state.word())
            .bind(reviewed.by)
            .bind(signed(reviewed.at.0))
            .bind(reviewed.reason)
            .bind(reviewed.serial.map(signed))
            .execute(&mut **writing);
        let done = done.await.map_err(ControlError::state("keep a review"))?;
        Ok(done.rows_affected() == 1)
    }
}

fn proposal(row: &SqliteRow) -> Result<ProposalRow, ControlError> {
    let failed = || ControlError::state("read a proposal");
    let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
    let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
    let maybe = |index: usize| row.try_get::<Option<String>, _>(index).map_err(failed());
    let count = |index: usize| row.try_get::<Option<i64>, _>(index).map_err(failed());
    let word = text(6)?;
    let mut states = ProposalState::ALL.into_iter();
    let state = states.find(|state| state.word() == word);
    Ok(ProposalRow {
        id: text(0)?,
        base: unsigned(number(1)?),
        text: text(2)?,
        message: text(3)?,
        author: text(4)?,
        created: millis(number(5)?),
        state: state.ok_or(ControlError::Stored {
            what: "the state of a proposal",
            why: word,
        })?,
        reviewer: maybe(7)?,
        reviewed: count(8)?.map(millis),
        reason: maybe(9)?,
        serial: count(10)?.map(unsigned),
    })
}
