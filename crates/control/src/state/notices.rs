//! What is to be told, and each delivery of it.

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_event::text::cut;
use stockade_types::UnixMillis;

use super::{State, Writing, from_json, millis, signed, to_json, unsigned};
use crate::{
    ControlError,
    act::{Act, Action},
    notice::Notice,
    random,
};

/// What one machine can have people told of one kind in some minutes: it fills no queue, and questions of it
/// keep no finding about it from being told.
const SOURCE_MAX: i64 = 30;
const SOURCE_MS: u64 = 10 * 60 * 1_000;
/// Deliveries that wait for one channel; what comes then is counted and not told.
const WAITING_MAX: i64 = 1_000;
/// Of these, what is kept for what people alone can do, such as overriding all stages.
const WAITING_KEPT: i64 = 100;
/// Characters of what the lists of the pages show.
const SUMMARY_CHARS_MAX: usize = 1_200;
/// Notices that are spread at once.
const SPREAD: i64 = 64;
/// How long it is remembered what was told, and what could not be delivered.
const KEPT_MS: u64 = 35 * 24 * 60 * 60 * 1_000;
/// How long deliveries that have arrived are kept for the page.
const SENT_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// Deliveries of one channel that could not be made and are kept.
const DEAD_MAX: i64 = 500;

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The receiver has it.
    Sent,
    /// Nobody has to hear of it any more.
    Moot,
    /// It is tried again at this time.
    Again { due: UnixMillis, why: String },
    /// It is not tried any more.
    Dead { why: String },
}

/// A delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeliveryRow {
    /// `msg_` and 16 hexadecimal digits: the same for all attempts.
    pub(crate) id: String,
    pub(crate) channel: String,
    pub(crate) notice: Notice,
    /// Attempts that have failed.
    pub(crate) attempts: u64,
    pub(crate) created: UnixMillis,
    pub(crate) ended: Option<UnixMillis>,
    /// Why the last attempt failed; words of the receiver are in it.
    pub(crate) error: Option<String>,
}

/// How the deliveries of a channel stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) waiting: u64,
    pub(crate) dead: u64,
    /// When the last one arrived.
    pub(crate) sent: Option<UnixMillis>,
    /// Why the next one has not.
    pub(crate) error: Option<String>,
}

const COLUMNS: &str = "id, channel_id, notice, attempts, created, ended, error";

impl State {
    /// Notes what is to be told, in the transaction that makes it happen. What was noted under the same event
    /// is not told twice, and nothing is noted as long as no channel is there.
    pub(crate) async fn tell(
        &self,
        writing: &mut Writing,
        event: &str,
        notice: &Notice,
    ) -> Result<(), ControlError> {
        let failed = || ControlError::state("note what is to be told");
        let mut notice = notice.clone();
        notice.summary = cut(&notice.summary, SUMMARY_CHARS_MAX);
        // What people alone can do is always told: no machine keeps it from being told.
        let node = notice
            .node
            .as_ref()
            .filter(|_| notice.kind.is_by_machines());
        let source = node.map(|node| format!("{node} {}", notice.kind.word()));
        if let Some(source) = &source {
            let sql = "SELECT COUNT(*) FROM notices WHERE org_id = $1 AND source = $2 AND at > $3";
            let since = notice.at.0.saturating_sub(SOURCE_MS);
            let row = sqlx::query(sql)
                .bind(self.org())
                .bind(source)
                .bind(signed(since))
                .fetch_one(&mut **writing);
            let count: i64 = row.await.map_err(failed())?.try_get(0).map_err(failed())?;
            if count >= SOURCE_MAX {
                return Ok(());
            }
            notice.last = count + 1 == SOURCE_MAX;
        }
        let sql = "INSERT INTO notices (org_id, event, source, notice, at) \
                   SELECT $1, $2, $3, $4, $5 WHERE EXISTS (SELECT 1 FROM channels WHERE org_id = $1) \
                   ON CONFLICT DO NOTHING";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(event)
            .bind(source.unwrap_or_default())
            .bind(to_json("a notice", &notice)?)
            .bind(signed(notice.at.0))
            .execute(&mut **writing);
        done.await.map(|_| ()).map_err(failed())
    }

    /// Returns what is not spread over the channels yet, the oldest first.
    pub(crate) async fn unspread(&self) -> Result<Vec<(i64, Notice)>, ControlError> {
        let failed = || ControlError::state("read what is to be told");
        let sql = "SELECT id, notice FROM notices WHERE org_id = $1 AND spread IS NULL ORDER BY id LIMIT $2";
        let rows = sqlx::query(sql).bind(self.org()).bind(SPREAD);
        let rows = rows.fetch_all(&self.pool).await.map_err(failed())?;
        let one = |row: &SqliteRow| {
            let text: String = row.try_get(1).map_err(failed())?;
            Ok((
                row.try_get(0).map_err(failed())?,
                from_json("a notice", &text)?,
            ))
        };
        rows.iter().map(one).collect()
    }

    /// Makes a delivery of a notice for each of these channels, all or none. Returns how many channels have
    /// too many already.
    pub(crate) async fn spread(
        &self,
        (id, notice): (i64, &Notice),
        channels: &[&str],
        now: UnixMillis,
    ) -> Result<u64, ControlError> {
        let failed = || ControlError::state("spread what is to be told");
        let text = to_json("a notice", notice)?;
        let mut skipped = 0;
        let places = if notice.kind.is_by_machines() {
            WAITING_MAX - WAITING_KEPT
        } else {
            WAITING_MAX
        };
        let mut writing = self.write().await?;
        for channel in channels {
            let sql = "INSERT INTO deliveries (org_id, id, channel_id, notice, state, attempts, due, created) \
                       SELECT $1, $2, $3, $4, 'waiting', 0, $5, $5 WHERE (SELECT COUNT(*) FROM deliveries \
                       WHERE org_id = $1 AND state = 'waiting' AND channel_id = $3) < $6";
            let done = sqlx::query(sql)
                .bind(self.org())
                .bind(random::name("msg_")?)
                .bind(*channel)
                .bind(&text)
                .bind(signed(now.0))
                .bind(places)
                .execute(&mut *writing);
            if done.await.map_err(failed())?.rows_affected() == 0 {
                skipped += 1;
                let sql = "UPDATE channels SET skipped = skipped + 1 WHERE org_id = $1 AND id = $2";
                let done = sqlx::query(sql).bind(self.org()).bind(*channel);
                done.execute(&mut *writing).await.map_err(failed())?;
            }
        }
        let sql = "UPDATE notices SET spread = $1 WHERE org_id = $2 AND id = $3";
        let done = sqlx::query(sql)
            .bind(signed(now.0))
            .bind(self.org())
            .bind(id);
        done.execute(&mut *writing).await.map_err(failed())?;
        self.commit(writing).await?;
        Ok(skipped)
    }

    /// Returns the channels for which a delivery is due.
    pub(crate) async fn channels_due(&self, now: UnixMillis) -> Result<Vec<String>, ControlError> {
        let failed = || ControlError::state("read what is to be delivered");
        let sql = "SELECT channel_id, MIN(due) FROM deliveries \
                   WHERE org_id = $1 AND state = 'waiting' AND due <= $2 GROUP BY channel_id ORDER BY 2";
        let rows = sqlx::query(sql).bind(self.org()).bind(signed(now.0));
        let rows = rows.fetch_all(&self.pool).await.map_err(failed())?;
        let id = |row: &SqliteRow| row.try_get::<String, _>(0).map_err(failed());
        rows.iter().map(id).collect()
    }

    /// Returns the delivery of a channel that is due first.
    pub(crate) async fn delivery_due(
        &self,
        channel: &str,
        now: UnixMillis,
    ) -> Result<Option<DeliveryRow>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM deliveries WHERE org_id = $1 AND state = 'waiting' AND channel_id = $2 \
             AND due <= $3 ORDER BY due, created, id LIMIT 1"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(channel)
            .bind(signed(now.0))
            .fetch_optional(&self.pool);
        let row = row.await.map_err(ControlError::state("read a delivery"))?;
        row.as_ref().map(delivery).transpose()
    }

    /// Keeps what became of an attempt. A delivery that will not be made is in the record.
    pub(crate) async fn settle_delivery(
        &self,
        row: &DeliveryRow,
        settled: &Settled,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let (state, failures, due, error) = match settled {
            Settled::Sent => ("sent", 0, now, None),
            Settled::Moot => ("moot", 0, now, None),
            Settled::Again { due, why } => ("waiting", 1, *due, Some(why)),
            Settled::Dead { why } => ("dead", 1, now, Some(why)),
        };
        let ended = (state != "waiting").then(|| signed(now.0));
        let mut writing = self.write().await?;
        let sql = "UPDATE deliveries SET state = $1, attempts = attempts + $2, due = $3, error = $4, ended = $5 \
                   WHERE org_id = $6 AND id = $7 AND state = 'waiting'";
        let done = sqlx::query(sql)
            .bind(state)
            .bind(failures)
            .bind(signed(due.0))
            .bind(error)
            .bind(ended)
            .bind(self.org())
            .bind(&row.id)
            .execute(&mut *writing);
        let done = done
            .await
            .map_err(ControlError::state("keep what became of a delivery"))?;
        if let (Settled::Dead { why }, 1) = (settled, done.rows_affected()) {
            let act = Act::new(Action::NoticeFailed)
                .about(&row.channel)
                .detail(format!("{} {}: {why}", row.id, row.notice.kind.word()));
            self.note(&mut writing, &act, now).await?;
        }
        self.commit(writing).await
    }

    /// Has a delivery tried again that was given up, from its first attempt on and under the same id;
    /// `false` if there is none.
    pub(crate) async fn redeliver(
        &self,
        id: &str,
        by: &str,
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let mut writing = self.write().await?;
        let sql = "UPDATE deliveries SET state = 'waiting', attempts = 0, due = $1, ended = NULL \
                   WHERE org_id = $2 AND id = $3 AND state = 'dead'";
        let done = sqlx::query(sql)
            .bind(signed(now.0))
            .bind(self.org())
            .bind(id)
            .execute(&mut *writing);
        let done = done
            .await
            .map_err(ControlError::state("deliver something again"))?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let act = Act::new(Action::NoticeResent).by(by).about(id);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(true)
    }

    /// Returns deliveries that were given up, the newest first.
    pub(crate) async fn dead(&self, count_max: u32) -> Result<Vec<DeliveryRow>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM deliveries WHERE org_id = $1 AND state = 'dead' \
             ORDER BY ended DESC, id LIMIT $2"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(i64::from(count_max));
        let rows = rows.fetch_all(&self.pool).await;
        let rows = rows.map_err(ControlError::state("read what was not delivered"))?;
        rows.iter().map(delivery).collect()
    }

    /// Returns how the deliveries of a channel stand.
    pub(crate) async fn standing_of(&self, channel: &str) -> Result<Told, ControlError> {
        let failed = || ControlError::state("count deliveries");
        let sql = "SELECT COUNT(CASE WHEN state = 'waiting' THEN 1 END), COUNT(CASE WHEN state = 'dead' THEN 1 END), \
                   MAX(CASE WHEN state = 'sent' THEN ended END) FROM deliveries \
                   WHERE org_id = $1 AND channel_id = $2";
        let row = sqlx::query(sql).bind(self.org()).bind(channel);
        let row = row.fetch_one(&self.pool).await.map_err(failed())?;
        let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
        let sent: Option<i64> = row.try_get(2).map_err(failed())?;
        let sql = "SELECT error FROM deliveries WHERE org_id = $1 AND state = 'waiting' AND channel_id = $2 \
                   AND error IS NOT NULL ORDER BY due LIMIT 1";
        let error = sqlx::query(sql).bind(self.org()).bind(channel);
        let error = error.fetch_optional(&self.pool).await.map_err(failed())?;
        let error = error.map(|row| row.try_get::<String, _>(0)).transpose();
        Ok(Told {
            waiting: unsigned(number(0)?),
            dead: unsigned(number(1)?),
            sent: sent.map(millis),
            error: error.map_err(failed())?,
        })
    }

    /// Counts the deliveries that wait.
    pub(crate) async fn deliveries_waiting(&self) -> Result<u64, ControlError> {
        let failed = || ControlError::state("count deliveries");
        let sql = "SELECT COUNT(*) FROM deliveries WHERE org_id = $1 AND state = 'waiting'";
        let row = sqlx::query(sql).bind(self.org()).fetch_one(&self.pool);
        let count: i64 = row.await.map_err(failed())?.try_get(0).map_err(failed())?;
        Ok(unsigned(count))
    }

    /// Forgets what is old.
    pub(crate) async fn forget_notices(&self, now: UnixMillis) -> Result<(), ControlError> {
        let failed = || ControlError::state("forget what was told");
        let kept = signed(now.0.saturating_sub(KEPT_MS));
        let sent = signed(now.0.saturating_sub(SENT_KEPT_MS));
        let mut writing = self.write().await?;
        let sql = "DELETE FROM notices WHERE org_id = $1 AND spread IS NOT NULL AND at < $2";
        let done = sqlx::query(sql).bind(self.org()).bind(kept);
        done.execute(&mut *writing).await.map_err(failed())?;
        let sql = "DELETE FROM deliveries WHERE org_id = $1 \
                   AND (state IN ('sent', 'moot') AND ended < $2 OR state = 'dead' AND ended < $3)";
        let done = sqlx::query(sql).bind(self.org()).bind(sent).bind(kept);
        done.execute(&mut *writing).await.map_err(failed())?;
        let sql = "DELETE FROM deliveries WHERE org_id = $1 AND id IN (SELECT id FROM (SELECT id, \
                   ROW_NUMBER() OVER (PARTITION BY channel_id ORDER BY ended DESC, id) AS place \
                   FROM deliveries WHERE org_id = $1 AND state = 'dead') AS given_up WHERE place > $2)";
        let done = sqlx::query(sql).bind(self.org()).bind(DEAD_MAX);
        done.execute(&mut *writing).await.map_err(failed())?;
        self.commit(writing).await
    }
}

fn delivery(row: &SqliteRow) -> Result<DeliveryRow, ControlError> {
    let failed = || ControlError::state("read a delivery");
    let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
    let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
    let ended: Option<i64> = row.try_get(5).map_err(failed())?;
    Ok(DeliveryRow {
        id: text(0)?,
        channel: text(1)?,
        notice: from_json("a notice", &text(2)?)?,
        attempts: unsigned(number(3)?),
        created: millis(number(4)?),
        ended: ended.map(millis),
        error: row.try_get(6).map_err(failed())?,
    })
}
