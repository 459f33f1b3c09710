//! Terminals in which people are signed in: what a terminal shows is a secret, of which a hash is kept.

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_trust::UserId;
use stockade_types::UnixMillis;

use super::{State, millis, signed};
use crate::{
    ControlError,
    act::{Act, Action},
};

/// How far the noted time of the last use may be behind, in milliseconds: a terminal that follows
/// questions asks every few seconds.
const USE_NOTED_MS: u64 = 60_000;
/// Terminals in which a person is signed in at one time.
pub(crate) const TERMINALS_MAX: u32 = 20;

/// A terminal in which a person is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminalRow {
    /// Names it.
    pub id: String,
    /// Who.
    pub user: UserId,
    /// The name of the machine, in its own words.
    pub machine: String,
    /// Where it asked from.
    pub address: String,
    /// When the person had last proved in a browser who it is.
    pub signed_in: UnixMillis,
    /// Since when.
    pub created: UnixMillis,
    /// After this it is over.
    pub expires: UnixMillis,
    /// When it was last used, by the minute.
    pub last_used: UnixMillis,
}

impl State {
    /// Notes that a person is signed in in a terminal, of which `hash` is kept.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(false)` if the person has [`TERMINALS_MAX`] already.
    pub async fn add_terminal(&self, hash: &str, row: &TerminalRow) -> Result<bool, ControlError> {
        let failed = || ControlError::state("sign a terminal in");
        let mut writing = self.write().await?;
        let sql = "SELECT COUNT(*) FROM terminals \
                   WHERE org_id = $1 AND user_id = $2 AND revoked IS NULL AND expires > $3";
        let count = sqlx::query(sql)
            .bind(self.org())
            .bind(&row.user.0)
            .bind(signed(row.created.0))
            .fetch_one(&mut *writing)
            .await
            .and_then(|row| row.try_get::<i64, _>(0))
            .map_err(failed())?;
        if count >= i64::from(TERMINALS_MAX) {
            return Ok(false);
        }
        let sql = "INSERT INTO terminals (org_id, id, hash, user_id, machine, address, signed_in, \
                   created, expires, last_used, revoked) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $8, NULL)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&row.id)
            .bind(hash)
            .bind(&row.user.0)
            .bind(&row.machine)
            .bind(&row.address)
            .bind(signed(row.signed_in.0))
            .bind(signed(row.created.0))
            .bind(signed(row.expires.0))
            .execute(&mut *writing)
            .await
            .map_err(failed())?;
        let act = Act::new(Action::TerminalSignedIn)
            .by(&row.user.0)
            .about(&row.id)
            .detail(format!("{} at {}", row.machine, row.address));
        self.note(&mut writing, &act, row.created).await?;
        self.commit(writing).await?;
        Ok(true)
    }

    /// Returns the terminal of that hash, if it is not over, and notes its use.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub async fn terminal(
        &self,
        hash: &str,
        now: UnixMillis,
    ) -> Result<Option<TerminalRow>, ControlError> {
        let failed = || ControlError::state("read a terminal");
        let sql = "SELECT id, user_id, machine, address, signed_in, created, expires, last_used \
                   FROM terminals WHERE org_id = $1 AND hash = $2 AND expires > $3 AND revoked IS NULL";
        let found = sqlx::query(sql)
            .bind(self.org())
            .bind(hash)
            .bind(signed(now.0));
        let found = found.fetch_optional(&self.pool).await.map_err(failed())?;
        let Some(row) = found.as_ref().map(terminal).transpose().map_err(failed())? else {
            return Ok(None);
        };
        if now.0.saturating_sub(row.last_used.0) >= USE_NOTED_MS {
            sqlx::query("UPDATE terminals SET last_used = $1 WHERE org_id = $2 AND id = $3")
                .bind(signed(now.0))
                .bind(self.org())
                .bind(&row.id)
                .execute(&self.pool)
                .await
                .map_err(failed())?;
        }
        Ok(Some(row))
    }

    /// Returns the terminals in which a person is signed in.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn terminals(
        &self,
        user: &UserId,
        now: UnixMillis,
    ) -> Result<Vec<TerminalRow>, ControlError> {
        let failed = || ControlError::state("read terminals");
        let sql = "SELECT id, user_id, machine, address, signed_in, created, expires, last_used \
                   FROM terminals WHERE org_id = $1 AND user_id = $2 AND expires > $3 \
                   AND revoked IS NULL ORDER BY created DESC, id";
        let rows = sqlx::query(sql)
            .bind(self.org())
            .bind(&user.0)
            .bind(signed(now.0));
        let rows = rows.fetch_all(&self.pool).await.map_err(failed())?;
        let all: Result<Vec<_>, sqlx::Error> = rows.iter().map(terminal).collect();
        all.map_err(failed())
    }

    /// Signs a person out of a terminal.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(false)` if the person is not signed in there.
    pub async fn revoke_terminal(
        &self,
        user: &UserId,
        id: &str,
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let mut writing = self.write().await?;
        let sql = "UPDATE terminals SET revoked = $1 \
                   WHERE org_id = $2 AND id = $3 AND user_id = $4 AND revoked IS NULL";
        let done = sqlx::query(sql)
            .bind(signed(now.0))
            .bind(self.org())
            .bind(id)
            .bind(&user.0)
            .execute(&mut *writing)
            .await
            .map_err(ControlError::state("sign a terminal out"))?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let act = Act::new(Action::TerminalSignedOut).by(&user.0).about(id);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(true)
    }

    /// Notes one step of signing a terminal in.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub(crate) async fn note_device(
        &self,
        action: Action,
        by: &str,
        detail: String,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let mut writing = self.write().await?;
        let who = if by.is_empty() { "a terminal" } else { by };
        let act = Act::new(action).by(who).detail(detail);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await
    }
}

fn terminal(row: &SqliteRow) -> Result<TerminalRow, sqlx::Error> {
    Ok(TerminalRow {
        id: row.try_get(0)?,
        user: UserId(row.try_get(1)?),
        machine: row.try_get(2)?,
        address: row.try_get(3)?,
        signed_in: millis(row.try_get(4)?),
        created: millis(row.try_get(5)?),
        expires: millis(row.try_get(6)?),
        last_used: millis(row.try_get(7)?),
    })
}
