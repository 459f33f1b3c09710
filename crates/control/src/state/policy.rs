//! What the server has said under its signatures: who may sign, who the people are, and the policy.

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_trust::Envelope;
use stockade_types::{Digest, UnixMillis};

use super::{State, Writing, from_json, millis, parsed, signed, to_json, unsigned};
use crate::{
    ControlError,
    act::{Act, Action},
};

/// A directory of people that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryRow {
    /// Grows by each change.
    pub serial: u64,
    /// SHA-256 of the people in it, by which a change is known.
    pub digest: Digest,
    /// The statement.
    pub envelope: Envelope,
    /// When it was signed.
    pub issued: UnixMillis,
}

/// A policy that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRow {
    /// The channel.
    pub channel: String,
    /// Grows by each change.
    pub serial: u64,
    /// SHA-256 of its text.
    pub digest: Digest,
    /// The policy, TOML.
    pub text: String,
    /// The statement.
    pub envelope: Envelope,
    /// Who published it.
    pub author: String,
    /// Why, in that person's words.
    pub message: String,
    /// When.
    pub published: UnixMillis,
}

impl State {
    /// Returns who may sign what.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn newest_root(&self) -> Result<Option<Envelope>, ControlError> {
        let failed = || ControlError::state("read the root");
        let sql = "SELECT envelope FROM roots WHERE org_id = $1 ORDER BY version DESC LIMIT 1";
        let row = sqlx::query(sql).bind(self.org()).fetch_optional(&self.pool);
        let Some(row) = row.await.map_err(failed())? else {
            return Ok(None);
        };
        let text: String = row.try_get(0).map_err(failed())?;
        Ok(Some(from_json("the root", &text)?))
    }

    /// Returns the newest directory.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(crate) async fn newest_directory(
        &self,
        reading: &mut Writing,
    ) -> Result<Option<DirectoryRow>, ControlError> {
        let failed = || ControlError::state("read the directory");
        let sql = "SELECT serial, digest, envelope, issued FROM directories \
                   WHERE org_id = $1 ORDER BY serial DESC LIMIT 1";
        let row = sqlx::query(sql)
            .bind(self.org())
            .fetch_optional(&mut **reading);
        let Some(row) = row.await.map_err(failed())? else {
            return Ok(None);
        };
        let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
        let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
        Ok(Some(DirectoryRow {
            serial: unsigned(number(0)?),
            digest: parsed("a digest", &text(1)?)?,
            envelope: from_json("a directory", &text(2)?)?,
            issued: millis(number(3)?),
        }))
    }

    /// Keeps a directory, and forgets those before the last few: machines need the newest only.
    pub(crate) async fn add_directory(
        &self,
        writing: &mut Writing,
        row: &DirectoryRow,
        people: usize,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO directories (org_id, serial, digest, envelope, issued) \
                   VALUES ($1, $2, $3, $4, $5)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(signed(row.serial))
            .bind(row.digest.to_string())
            .bind(to_json("a directory", &row.envelope)?)
            .bind(signed(row.issued.0))
            .execute(&mut **writing)
            .await
            .map_err(ControlError::state("keep a directory"))?;
        let act = Act::new(Action::DirectoryPublished)
            .about(&row.serial.to_string())
            .digest(row.digest)
            .detail(format!("{people} people"));
        self.note(writing, &act, row.issued).await
    }

    /// Returns the newest bundle of the one channel.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn newest_bundle_row(&self) -> Result<Option<BundleRow>, ControlError> {
        Ok(self.bundles(1).await?.pop())
    }

    /// Returns the newest bundle, as machines get it.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn newest_bundle(&self) -> Result<Option<Envelope>, ControlError> {
        Ok(self.newest_bundle_row().await?.map(|row| row.envelope))
    }

    /// Returns bundles, the newest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn bundles(&self, count_max: u32) -> Result<Vec<BundleRow>, ControlError> {
        let failed = || ControlError::state("read bundles");
        let sql = "SELECT channel, serial, digest, text, envelope, author, message, published \
                   FROM bundles WHERE org_id = $1 ORDER BY serial DESC LIMIT $2";
        let rows = sqlx::query(sql).bind(self.org()).bind(i64::from(count_max));
        let rows = rows.fetch_all(&self.pool).await.map_err(failed())?;
        let bundle = |row: &SqliteRow| {
            let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
            let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
            Ok(BundleRow {
                channel: text(0)?,
                serial: unsigned(number(1)?),
                digest: parsed("a digest", &text(2)?)?,
                text: text(3)?,
                envelope: from_json("a bundle", &text(4)?)?,
                author: text(5)?,
                message: text(6)?,
                published: millis(number(7)?),
            })
        };
        rows.iter().map(bundle).collect()
    }

    /// Returns the serial of the newest bundle of a channel; 0 if there is none.
    pub(crate) async fn bundle_serial(
        &self,
        reading: &mut Writing,
        channel: &str,
    ) -> Result<u64, ControlError> {
        let failed = || ControlError::state("read bundles");
        let sql = "SELECT COALESCE(MAX(serial), 0) FROM bundles WHERE org_id = $1 AND channel = $2";
        let row = sqlx::query(sql).bind(self.org()).bind(channel);
        let row = row.fetch_one(&mut **reading).await.map_err(failed())?;
        Ok(unsigned(row.try_get(0).map_err(failed())?))
    }

    /// Returns the policy in force of a bundle.
    pub(crate) async fn bundle_text(
        &self,
        reading: &mut Writing,
        channel: &str,
        serial: u64,
    ) -> Result<String, ControlError> {
        let failed = || ControlError::state("read a bundle");
        let sql = "SELECT text FROM bundles WHERE org_id = $1 AND channel = $2 AND serial = $3";
        let row = sqlx::query(sql)
            .bind(self.org())
            .bind(channel)
            .bind(signed(serial));
        let row = row.fetch_one(&mut **reading).await.map_err(failed())?;
        row.try_get(0).map_err(failed())
    }

    pub(crate) async fn add_bundle(
        &self,
        writing: &mut Writing,
        row: &BundleRow,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO bundles \
                   (org_id, channel, serial, digest, text, envelope, author, message, published) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(&row.channel)
            .bind(signed(row.serial))
            .bind(row.digest.to_string())
            .bind(&row.text)
            .bind(to_json("a bundle", &row.envelope)?)
            .bind(&row.author)
            .bind(&row.message)
            .bind(signed(row.published.0))
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep a bundle"))
    }

    pub(crate) async fn add_root(
        &self,
        version: u64,
        envelope: &Envelope,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO roots (org_id, version, envelope, issued) VALUES ($1, $2, $3, $4)";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(signed(version))
            .bind(to_json("the root", envelope)?)
            .bind(signed(now.0))
            .execute(&self.pool);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep the root"))
    }
}
