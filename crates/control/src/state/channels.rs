//! Channels over which people are told, and the mail addresses of people.

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_trust::UserId;
use stockade_types::UnixMillis;

use super::{State, Writing, from_json, millis, signed, to_json, unsigned};
use crate::{
    ControlError,
    act::{Act, Action},
    notice::{CHANNELS_MAX, Channel},
};

/// A channel with its id.
#[derive(Clone, PartialEq, Eq)]
pub struct ChannelRow {
    /// Names the channel: `c-` and 16 hexadecimal digits.
    pub id: String,
    /// What was set.
    pub channel: Channel,
    /// What its messages are signed with: `whsec_…`; empty if it is no webhook.
    pub secret: String,
    /// The person whose mail address it is.
    pub owner: Option<UserId>,
    /// Since when.
    pub created: UnixMillis,
    /// How many notices it was not told because too many waited.
    pub skipped: u64,
}

impl std::fmt::Debug for ChannelRow {
    /// Shows neither the secret nor an address that is one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelRow")
            .field("id", &self.id)
            .field("name", &self.channel.name)
            .finish_non_exhaustive()
    }
}

const COLUMNS: &str = "id, settings, secret, owner, created, skipped";

impl State {
    /// Adds a channel. That of a person takes the place of the one before.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(false)` if there are too many.
    pub async fn add_channel(&self, row: &ChannelRow, by: &str) -> Result<bool, ControlError> {
        let failed = || ControlError::state("add a channel");
        let mut writing = self.write().await?;
        if let Some(owner) = &row.owner {
            self.drop_address(&mut writing, owner).await?;
        } else {
            let sql = "SELECT COUNT(*) FROM channels WHERE org_id = $1 AND owner = ''";
            let count = sqlx::query(sql).bind(self.org()).fetch_one(&mut *writing);
            let count: i64 = count
                .await
                .map_err(failed())?
                .try_get(0)
                .map_err(failed())?;
            if usize::try_from(unsigned(count)).is_ok_and(|count| count >= CHANNELS_MAX) {
                return Ok(false);
            }
        }
        let owner = row.owner.as_ref().map_or("", |owner| &owner.0);
        let sql = "INSERT INTO channels (org_id, id, settings, secret, owner, created, skipped) \
                   VALUES ($1, $2, $3, $4, $5, $6, 0)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&row.id)
            .bind(to_json("a channel", &row.channel)?)
            .bind(&row.secret)
            .bind(owner)
            .bind(signed(row.created.0))
            .execute(&mut *writing)
            .await
            .map_err(failed())?;
        let act = Act::new(Action::ChannelAdded)
            .by(by)
            .about(&row.id)
            .detail(described(&row.channel));
        self.note(&mut writing, &act, row.created).await?;
        self.commit(writing).await?;
        Ok(true)
    }

    /// Removes a channel, and what waits for it.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(false)` if there is no such channel.
    pub async fn remove_channel(
        &self,
        id: &str,
        by: &str,
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let mut writing = self.write().await?;
        if !self.drop_channel(&mut writing, id).await? {
            return Ok(false);
        }
        let act = Act::new(Action::ChannelRemoved).by(by).about(id);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(true)
    }

    /// Forgets the mail address of a person; `false` if there is none.
    pub(crate) async fn remove_address(
        &self,
        owner: &UserId,
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let mut writing = self.write().await?;
        let Some(id) = self.drop_address(&mut writing, owner).await? else {
            return Ok(false);
        };
        let act = Act::new(Action::ChannelRemoved).by(&owner.0).about(&id);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(true)
    }

    async fn drop_address(
        &self,
        writing: &mut Writing,
        owner: &UserId,
    ) -> Result<Option<String>, ControlError> {
        let failed = || ControlError::state("forget an address");
        let sql = "SELECT id FROM channels WHERE org_id = $1 AND owner = $2";
        let row = sqlx::query(sql).bind(self.org()).bind(&owner.0);
        let row = row.fetch_optional(&mut **writing).await.map_err(failed())?;
        let Some(row) = row else { return Ok(None) };
        let id: String = row.try_get(0).map_err(failed())?;
        self.drop_channel(writing, &id).await?;
        Ok(Some(id))
    }

    async fn drop_channel(&self, writing: &mut Writing, id: &str) -> Result<bool, ControlError> {
        let failed = || ControlError::state("remove a channel");
        let sql = "DELETE FROM deliveries WHERE org_id = $1 AND channel_id = $2";
        let done = sqlx::query(sql).bind(self.org()).bind(id);
        done.execute(&mut **writing).await.map_err(failed())?;
        let sql = "DELETE FROM channels WHERE org_id = $1 AND id = $2";
        let done = sqlx::query(sql).bind(self.org()).bind(id);
        let done = done.execute(&mut **writing).await.map_err(failed())?;
        Ok(done.rows_affected() == 1)
    }

    /// Returns all channels, with those of people, the oldest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn channels(&self) -> Result<Vec<ChannelRow>, ControlError> {
        let sql = format!("SELECT {COLUMNS} FROM channels WHERE org_id = $1 ORDER BY created, id");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(self.org());
        let rows = rows.fetch_all(&self.pool).await;
        let rows = rows.map_err(ControlError::state("read channels"))?;
        rows.iter().map(channel).collect()
    }

    /// Returns a channel.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn channel(&self, id: &str) -> Result<Option<ChannelRow>, ControlError> {
        self.one_channel("id", id).await
    }

    /// Returns the mail address of a person, as a channel.
    pub(crate) async fn address_of(
        &self,
        owner: &UserId,
    ) -> Result<Option<ChannelRow>, ControlError> {
        self.one_channel("owner", &owner.0).await
    }

    async fn one_channel(
        &self,
        column: &'static str,
        value: &str,
    ) -> Result<Option<ChannelRow>, ControlError> {
        let sql = format!("SELECT {COLUMNS} FROM channels WHERE org_id = $1 AND {column} = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(value)
            .fetch_optional(&self.pool);
        let row = row.await.map_err(ControlError::state("read a channel"))?;
        row.as_ref().map(channel).transpose()
    }
}

/// Says what a channel is, for the record.
fn described(channel: &Channel) -> String {
    let kinds: Vec<&str> = channel.kinds.iter().map(|kind| kind.word()).collect();
    let roles: Vec<&str> = channel.roles.iter().map(String::as_str).collect();
    let private = if channel.private { ", private" } else { "" };
    let details = if channel.details { ", details" } else { "" };
    format!(
        "{} to {}{private}{details}, kinds {}, roles {}",
        channel.form.word(),
        channel.shown(),
        kinds.join(" "),
        if roles.is_empty() {
            "all".to_owned()
        } else {
            roles.join(" ")
        }
    )
}

fn channel(row: &SqliteRow) -> Result<ChannelRow, ControlError> {
    let failed = || ControlError::state("read a channel");
    let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
    let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
    let owner = text(3)?;
    Ok(ChannelRow {
        id: text(0)?,
        channel: from_json("a channel", &text(1)?)?,
        secret: text(2)?,
        owner: (!owner.is_empty()).then_some(UserId(owner)),
        created: millis(number(4)?),
        skipped: unsigned(number(5)?),
    })
}
