//! What pages read beside what other parts of the server need.

use sqlx::Row as _;

use super::{PasskeyRow, State, from_json, millis, unsigned};
use crate::ControlError;

/// What became of a policy on a machine, or in a session of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckRow {
    /// The machine.
    pub node: String,
    /// The session; empty for the machine itself.
    pub session: String,
    /// The serial of the policy.
    pub serial: u64,
    /// `stored`, `active` or `failed`.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
    /// The step of its rollout there.
    pub step: Option<u32>,
    /// On which side of the step the machine says that it is.
    pub arm: Option<String>,
}

impl State {
    /// Tells whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn is_alive(&self) -> Result<(), ControlError> {
        let one = sqlx::query("SELECT 1").fetch_one(&self.pool).await;
        one.map(|_| ()).map_err(ControlError::state("read"))
    }

    /// Returns a passkey by its id, if it counts and its person is active.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn passkey(&self, id: &str) -> Result<Option<PasskeyRow>, ControlError> {
        let failed = || ControlError::state("read a passkey");
        let sql = "SELECT p.id, p.user_id, p.passkey, p.label, p.created, p.last_used FROM passkeys p \
                   JOIN users u ON u.org_id = p.org_id AND u.id = p.user_id \
                   WHERE p.org_id = $1 AND p.id = $2 AND p.revoked IS NULL AND u.state = 'active'";
        let row = sqlx::query(sql).bind(self.org()).bind(id);
        let row = row.fetch_optional(&self.pool).await.map_err(failed())?;
        let Some(row) = row else { return Ok(None) };
        let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
        let number = |index: usize| row.try_get::<Option<i64>, _>(index).map_err(failed());
        Ok(Some(PasskeyRow {
            id: text(0)?,
            user: stockade_trust::UserId(text(1)?),
            passkey: from_json("a passkey", &text(2)?)?,
            label: text(3)?,
            created: millis(number(4)?.unwrap_or_default()),
            last_used: number(5)?.map(millis),
        }))
    }

    /// Returns what became of policies on machines and in sessions.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn acks(&self) -> Result<Vec<AckRow>, ControlError> {
        let failed = || ControlError::state("read what became of policies");
        let sql = "SELECT node_id, session_id, serial, state, error, step, arm FROM acks WHERE org_id = $1";
        let rows = sqlx::query(sql).bind(self.org()).fetch_all(&self.pool);
        let rows = rows.await.map_err(failed())?;
        let ack = |row: &sqlx::sqlite::SqliteRow| {
            Ok(AckRow {
                node: row.try_get(0)?,
                session: row.try_get(1)?,
                serial: unsigned(row.try_get(2)?),
                state: row.try_get::<String, _>(3)?.trim_matches('"').to_owned(),
                error: row.try_get(4)?,
                step: row
                    .try_get::<Option<i64>, _>(5)?
                    .and_then(|step| step.try_into().ok()),
                arm: row.try_get(6)?,
            })
        };
        let acks: Result<Vec<_>, sqlx::Error> = rows.iter().map(ack).collect();
        acks.map_err(failed())
    }
}
