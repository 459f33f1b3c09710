//! Approver keys: the person registers one, and another person approves it. Machines know only those that
//! are approved and not revoked.

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_trust::{PublicKey, UserId};
use stockade_types::UnixMillis;

use super::{State, Writing, millis, parsed, signed};
use crate::{
    ControlError,
    act::{Act, Action},
};

/// Keys of one person that are not revoked.
pub(crate) const KEYS_MAX: usize = 5;

/// An approver key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApproverKeyRow {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user: UserId,
    /// The public key.
    pub key: PublicKey,
    /// What the person calls it.
    pub label: String,
    /// When it was registered.
    pub created: UnixMillis,
    /// When another person approved it, and who.
    pub approved: Option<(UnixMillis, UserId)>,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// It waits for another person.
    Waits,
    /// It was registered before, by anybody, and may be revoked.
    Known,
    /// The person has [`KEYS_MAX`] already.
    TooMany,
}

impl State {
    /// Registers a key of a person. It counts once it is approved.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn register_key(&self, row: &ApproverKeyRow) -> Result<Registered, ControlError> {
        let failed = || ControlError::state("register an approver key");
        let mut writing = self.write().await?;
        let sql = "SELECT 1 FROM approver_keys WHERE org_id = $1 AND id = $2";
        let known = sqlx::query(sql).bind(self.org()).bind(&row.id);
        let known = known.fetch_optional(&mut *writing).await;
        if known.map_err(failed())?.is_some() {
            return Ok(Registered::Known);
        }
        let all = self.keys_in(&mut writing).await?;
        if all.iter().filter(|one| one.user == row.user).count() >= KEYS_MAX {
            return Ok(Registered::TooMany);
        }
        let sql = "INSERT INTO approver_keys (org_id, id, user_id, key, label, created) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&row.id)
            .bind(&row.user.0)
            .bind(row.key.to_string())
            .bind(&row.label)
            .bind(signed(row.created.0))
            .execute(&mut *writing)
            .await
            .map_err(failed())?;
        let act = Act::new(Action::ApproverKeyRegistered)
            .by(&row.user.0)
            .about(&row.user.0)
            .detail(format!("{} {}", row.key, row.label));
        self.note(&mut writing, &act, row.created).await?;
        self.commit(writing).await?;
        Ok(Registered::Waits)
    }

    /// Returns all keys that are not revoked, those that wait for approval first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn approver_keys(&self) -> Result<Vec<ApproverKeyRow>, ControlError> {
        let mut reading = self.read().await?;
        self.keys_in(&mut reading).await
    }

    pub(crate) async fn keys_in(
        &self,
        reading: &mut Writing,
    ) -> Result<Vec<ApproverKeyRow>, ControlError> {
        let failed = || ControlError::state("read approver keys");
        let sql = "SELECT id, user_id, key, label, created, approved, approved_by FROM approver_keys \
                   WHERE org_id = $1 AND revoked IS NULL ORDER BY approved IS NOT NULL, created, id";
        let rows = sqlx::query(sql).bind(self.org()).fetch_all(&mut **reading);
        let rows = rows.await.map_err(failed())?;
        let one = |row: &SqliteRow| {
            let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
            let approved: Option<i64> = row.try_get(5).map_err(failed())?;
            let by: Option<String> = row.try_get(6).map_err(failed())?;
            Ok(ApproverKeyRow {
                id: text(0)?,
                user: UserId(text(1)?),
                key: parsed("an approver key", &text(2)?)?,
                label: text(3)?,
                created: millis(row.try_get(4).map_err(failed())?),
                approved: approved.map(millis).zip(by.map(UserId)),
            })
        };
        rows.iter().map(one).collect()
    }

    /// Approves a key of another person, so that machines learn of it.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(false)` if there is none that waits, or it is the caller's own.
    pub async fn approve_key(
        &self,
        id: &str,
        by: &UserId,
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let sql = "UPDATE approver_keys SET approved = $1, approved_by = $2 \
                   WHERE org_id = $3 AND id = $4 AND user_id <> $2 AND approved IS NULL AND revoked IS NULL \
                   RETURNING user_id, key";
        let writing = self.write().await?;
        self.settle_key(writing, sql, Action::ApproverKeyApproved, (id, by), now)
            .await
    }

    /// Revokes a key, or refuses one that waits: of the caller, or of anybody for who manages people.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(false)` if there is none.
    pub async fn revoke_key(
        &self,
        id: &str,
        by: &UserId,
        manages_people: bool,
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let own = "UPDATE approver_keys SET revoked = $1, revoked_by = $2 \
                   WHERE org_id = $3 AND id = $4 AND revoked IS NULL AND user_id = $2 RETURNING user_id, key";
        let any = "UPDATE approver_keys SET revoked = $1, revoked_by = $2 \
                   WHERE org_id = $3 AND id = $4 AND revoked IS NULL RETURNING user_id, key";
        let sql = if manages_people { any } else { own };
        let writing = self.write().await?;
        self.settle_key(writing, sql, Action::ApproverKeyRevoked, (id, by), now)
            .await
    }

    async fn settle_key(
        &self,
        mut writing: Writing,
        sql: &'static str,
        action: Action,
        (id, by): (&str, &UserId),
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let failed = || ControlError::state("change an approver key");
        let done = sqlx::query(sql)
            .bind(signed(now.0))
            .bind(&by.0)
            .bind(self.org())
            .bind(id)
            .fetch_optional(&mut *writing)
            .await
            .map_err(failed())?;
        let Some(row) = done else { return Ok(false) };
        let user: String = row.try_get(0).map_err(failed())?;
        let key: String = row.try_get(1).map_err(failed())?;
        let act = Act::new(action).by(&by.0).about(&user).detail(key);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(true)
    }
}
