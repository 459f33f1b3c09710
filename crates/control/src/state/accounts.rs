//! How people and programs show who they are: passkeys, secrets, browser sessions and tokens.

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_trust::{Passkey, UserId};
use stockade_types::UnixMillis;

use super::{State, Writing, from_json, millis, signed, to_json};
use crate::{
    ControlError,
    act::{Act, Action},
};

/// A passkey of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasskeyRow {
    /// Its id, in base64url.
    pub id: String,
    /// Whose it is.
    pub user: UserId,
    /// The key.
    pub passkey: Passkey,
    /// What the person calls it.
    pub label: String,
    /// Since when.
    pub created: UnixMillis,
    /// When it was last used.
    pub last_used: Option<UnixMillis>,
}

/// A browser in which a person is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSessionRow {
    /// SHA-256 of what the browser shows.
    pub hash: String,
    /// Who.
    pub user: UserId,
    /// What forms have to repeat.
    pub csrf: String,
    /// How the person has signed in: `passkey`, `password` or `password+totp`.
    pub method: String,
    /// When the person last proved who it is.
    pub signed_in: UnixMillis,
    /// After this it is over.
    pub expires: UnixMillis,
}

/// A token of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Names the token.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it may do.
    pub role: String,
    /// Who made it.
    pub created_by: String,
    /// Since when.
    pub created: UnixMillis,
    /// After this it does not work.
    pub expires: UnixMillis,
    /// When it was last used.
    pub last_used: Option<UnixMillis>,
    /// Since when it does not work any more.
    pub revoked: Option<UnixMillis>,
}

impl State {
    /// Adds a passkey.
    ///
    /// # Errors
    /// When the state cannot be written, or there is one of that id.
    pub async fn add_passkey(&self, row: &PasskeyRow) -> Result<(), ControlError> {
        let mut writing = self.write().await?;
        let sql = "INSERT INTO passkeys (org_id, id, user_id, passkey, label, created, last_used, revoked) \
                   VALUES ($1, $2, $3, $4, $5, $6, NULL, NULL)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&row.id)
            .bind(&row.user.0)
            .bind(to_json("a passkey", &row.passkey)?)
            .bind(&row.label)
            .bind(signed(row.created.0))
            .execute(&mut *writing)
            .await
            .map_err(ControlError::state("add a passkey"))?;
        let act = Act::new(Action::PasskeyAdded)
            .by(&row.user.0)
            .about(&row.user.0)
            .detail(&row.label);
        self.note(&mut writing, &act, row.created).await?;
        self.commit(writing).await
    }

    /// Returns the passkeys of a person that are not revoked.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn passkeys(&self, user: &UserId) -> Result<Vec<PasskeyRow>, ControlError> {
        let mut reading = self.read().await?;
        let all = self.passkeys_in(&mut reading).await?;
        Ok(all.into_iter().filter(|row| row.user == *user).collect())
    }

    pub(crate) async fn passkeys_in(
        &self,
        reading: &mut Writing,
    ) -> Result<Vec<PasskeyRow>, ControlError> {
        let failed = || ControlError::state("read passkeys");
        let sql = "SELECT id, user_id, passkey, label, created, last_used FROM passkeys \
                   WHERE org_id = $1 AND revoked IS NULL ORDER BY created, id";
        let rows = sqlx::query(sql).bind(self.org()).fetch_all(&mut **reading);
        let rows = rows.await.map_err(failed())?;
        let one = |row: &SqliteRow| {
            let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
            Ok(PasskeyRow {
                id: text(0)?,
                user: UserId(text(1)?),
                passkey: from_json("a passkey", &text(2)?)?,
                label: text(3)?,
                created: millis(row.try_get(4).map_err(failed())?),
                last_used: row
                    .try_get::<Option<i64>, _>(5)
                    .map_err(failed())?
                    .map(millis),
            })
        };
        rows.iter().map(one).collect()
    }

    /// Notes that a passkey was used.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn touch_passkey(&self, id: &str, now: UnixMillis) -> Result<(), ControlError> {
        let sql = "UPDATE passkeys SET last_used = $1 WHERE org_id = $2 AND id = $3";
        let done = sqlx::query(sql)
            .bind(signed(now.0))
            .bind(self.org())
            .bind(id);
        let done = done.execute(&self.pool).await;
        done.map(|_| ())
            .map_err(ControlError::state("note a passkey"))
    }

    /// Revokes a passkey of a person.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(false)` if the person has no such passkey.
    pub async fn revoke_passkey(
        &self,
        user: &UserId,
        id: &str,
        by: &str,
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let mut writing = self.write().await?;
        let sql = "UPDATE passkeys SET revoked = $1 \
                   WHERE org_id = $2 AND id = $3 AND user_id = $4 AND revoked IS NULL";
        let done = sqlx::query(sql)
            .bind(signed(now.0))
            .bind(self.org())
            .bind(id)
            .bind(&user.0)
            .execute(&mut *writing)
            .await
            .map_err(ControlError::state("revoke a passkey"))?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let act = Act::new(Action::PasskeyRevoked)
            .by(by)
            .about(&user.0)
            .detail(id);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(true)
    }

    /// Returns a secret of a person, as it is kept: `password` or `totp`.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn secret(&self, user: &UserId, kind: &str) -> Result<Option<String>, ControlError> {
        let failed = || ControlError::state("read a secret");
        let sql = "SELECT value FROM secrets WHERE org_id = $1 AND user_id = $2 AND kind = $3";
        let row = sqlx::query(sql).bind(self.org()).bind(&user.0).bind(kind);
        let row = row.fetch_optional(&self.pool).await.map_err(failed())?;
        row.map(|row| row.try_get(0).map_err(failed())).transpose()
    }

    /// Keeps a secret of a person: `value` is a hash of the password, or the secret of TOTP.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn set_secret(
        &self,
        user: &UserId,
        kind: &str,
        value: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let mut writing = self.write().await?;
        let sql = "INSERT INTO secrets (org_id, user_id, kind, value) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (org_id, user_id, kind) DO UPDATE SET value = excluded.value";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&user.0)
            .bind(kind)
            .bind(value)
            .execute(&mut *writing)
            .await
            .map_err(ControlError::state("keep a secret"))?;
        let act = Act::new(Action::SecretSet)
            .by(&user.0)
            .about(&user.0)
            .detail(kind);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await
    }

    /// Notes that a person has signed in, in a browser session of which `row.hash` is kept.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn sign_in(&self, row: &WebSessionRow, now: UnixMillis) -> Result<(), ControlError> {
        let failed = || ControlError::state("sign in");
        let mut writing = self.write().await?;
        let sql = "INSERT INTO web_sessions \
                   (org_id, hash, user_id, csrf, method, created, seen, signed_in, expires) \
                   VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&row.hash)
            .bind(&row.user.0)
            .bind(&row.csrf)
            .bind(&row.method)
            .bind(signed(now.0))
            .bind(signed(row.signed_in.0))
            .bind(signed(row.expires.0))
            .execute(&mut *writing)
            .await
            .map_err(failed())?;
        sqlx::query("UPDATE users SET last_seen = $1 WHERE org_id = $2 AND id = $3")
            .bind(signed(now.0))
            .bind(self.org())
            .bind(&row.user.0)
            .execute(&mut *writing)
            .await
            .map_err(failed())?;
        let act = Act::new(Action::SignedIn)
            .by(&row.user.0)
            .detail(&row.method);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await
    }

    /// Returns the browser session of that hash, if it is not over and its person is active.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn web_session(
        &self,
        hash: &str,
        now: UnixMillis,
    ) -> Result<Option<WebSessionRow>, ControlError> {
        let failed = || ControlError::state("read a browser session");
        let sql = "SELECT s.hash, s.user_id, s.csrf, s.method, s.signed_in, s.expires \
                   FROM web_sessions s JOIN users u ON u.org_id = s.org_id AND u.id = s.user_id \
                   WHERE s.org_id = $1 AND s.hash = $2 AND s.expires > $3 AND u.state = 'active'";
        let row = sqlx::query(sql)
            .bind(self.org())
            .bind(hash)
            .bind(signed(now.0));
        let row = row.fetch_optional(&self.pool).await.map_err(failed())?;
        let Some(row) = row else { return Ok(None) };
        let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
        Ok(Some(WebSessionRow {
            hash: text(0)?,
            user: UserId(text(1)?),
            csrf: text(2)?,
            method: text(3)?,
            signed_in: millis(row.try_get(4).map_err(failed())?),
            expires: millis(row.try_get(5).map_err(failed())?),
        }))
    }

    /// Notes that the person of a browser session has proved again who it is.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn step_up(
        &self,
        hash: &str,
        method: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql =
            "UPDATE web_sessions SET signed_in = $1, method = $2 WHERE org_id = $3 AND hash = $4";
        let done = sqlx::query(sql)
            .bind(signed(now.0))
            .bind(method)
            .bind(self.org())
            .bind(hash);
        let done = done.execute(&self.pool).await;
        done.map(|_| ())
            .map_err(ControlError::state("sign in again"))
    }

    /// Ends a browser session.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn sign_out(&self, hash: &str) -> Result<(), ControlError> {
        let sql = "DELETE FROM web_sessions WHERE org_id = $1 AND hash = $2";
        let done = sqlx::query(sql).bind(self.org()).bind(hash);
        let done = done.execute(&self.pool).await;
        done.map(|_| ()).map_err(ControlError::state("sign out"))
    }

    /// Makes a token for programs, of which `hash` is kept.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn add_token(&self, hash: &str, row: &TokenRow) -> Result<(), ControlError> {
        let mut writing = self.write().await?;
        let sql = "INSERT INTO tokens \
                   (org_id, id, hash, name, role, created_by, created, expires, last_used, revoked) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, NULL)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&row.id)
            .bind(hash)
            .bind(&row.name)
            .bind(&row.role)
            .bind(&row.created_by)
            .bind(signed(row.created.0))
            .bind(signed(row.expires.0))
            .execute(&mut *writing)
            .await
            .map_err(ControlError::state("make a token"))?;
        let act = Act::new(Action::TokenIssued)
            .by(&row.created_by)
            .about(&row.id)
            .detail(format!("{} as {}", row.name, row.role));
        self.note(&mut writing, &act, row.created).await?;
        self.commit(writing).await
    }

    /// Lets a token for programs work no more.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(false)` if there is none of this id that works.
    pub async fn revoke_token(
        &self,
        id: &str,
        by: &str,
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let mut writing = self.write().await?;
        let sql =
            "UPDATE tokens SET revoked = $1 WHERE org_id = $2 AND id = $3 AND revoked IS NULL";
        let done = sqlx::query(sql)
            .bind(signed(now.0))
            .bind(self.org())
            .bind(id)
            .execute(&mut *writing)
            .await
            .map_err(ControlError::state("revoke a token"))?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let act = Act::new(Action::TokenRevoked).by(by).about(id);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(true)
    }

    /// Returns all tokens for programs.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, ControlError> {
        let failed = || ControlError::state("read tokens");
        let sql = "SELECT id, name, role, created_by, created, expires, last_used, revoked \
                   FROM tokens WHERE org_id = $1 ORDER BY created DESC, id";
        let rows = sqlx::query(sql).bind(self.org()).fetch_all(&self.pool);
        let rows = rows.await.map_err(failed())?;
        let tokens: Result<Vec<_>, sqlx::Error> = rows.iter().map(token).collect();
        tokens.map_err(failed())
    }

    /// Returns the token of that hash, if it works, and notes its use.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub async fn token(
        &self,
        hash: &str,
        now: UnixMillis,
    ) -> Result<Option<TokenRow>, ControlError> {
        let failed = || ControlError::state("read a token");
        let sql = "UPDATE tokens SET last_used = $1 \
                   WHERE org_id = $2 AND hash = $3 AND expires > $1 AND revoked IS NULL \
                   RETURNING id, name, role, created_by, created, expires, last_used, revoked";
        let row = sqlx::query(sql)
            .bind(signed(now.0))
            .bind(self.org())
            .bind(hash);
        let row = row.fetch_optional(&self.pool).await.map_err(failed())?;
        row.as_ref().map(token).transpose().map_err(failed())
    }
}

fn token(row: &SqliteRow) -> Result<TokenRow, sqlx::Error> {
    Ok(TokenRow {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        role: row.try_get(2)?,
        created_by: row.try_get(3)?,
        created: millis(row.try_get(4)?),
        expires: millis(row.try_get(5)?),
        last_used: row.try_get::<Option<i64>, _>(6)?.map(millis),
        revoked: row.try_get::<Option<i64>, _>(7)?.map(millis),
    })
}
