//! Rollouts: where each stands, and what was seen of its steps.

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_trust::{Plan, UserId};
use stockade_types::{RolloutArm, UnixMillis};

use super::{SessionKey, State, Writing, from_json, millis, parsed, signed, to_json, unsigned};
use crate::{
    ControlError,
    guards::{ArmSeen, Sums},
};

/// Moves of a rollout that are shown.
const MOVES_SHOWN: u32 = 100;

/// How a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RolloutState {
    /// The controller moves it.
    Running,
    /// A person holds it at its step.
    Held,
    /// It is back at step 0.
    Halted,
    /// The candidate is in force.
    Done,
    /// Another policy was published.
    Replaced,
}

impl RolloutState {
    const ALL: [Self; 5] = [
        Self::Running,
        Self::Held,
        Self::Halted,
        Self::Done,
        Self::Replaced,
    ];

    /// Returns its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Held => "held",
            Self::Halted => "halted",
            Self::Done => "done",
            Self::Replaced => "replaced",
        }
    }

    fn read(word: &str) -> Result<Self, ControlError> {
        let found = Self::ALL.into_iter().find(|state| state.word() == word);
        found.ok_or_else(|| ControlError::Stored {
            what: "the state of a rollout",
            why: word.to_owned(),
        })
    }
}

/// A rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutRow {
    /// Names it.
    pub id: String,
    /// The channel.
    pub channel: String,
    /// The serial of its bundle.
    pub serial: u64,
    /// The candidate.
    pub text: String,
    /// The signed plan.
    pub plan: Plan,
    /// How it stands.
    pub state: RolloutState,
    /// Its step.
    pub step: u32,
    /// Since when.
    pub step_since: UnixMillis,
    /// The time in the last pointer; the next one has a later one.
    pub issued: UnixMillis,
    /// When it began.
    pub started: UnixMillis,
    /// Why it stands there.
    pub why: String,
    /// Grows by each change.
    pub version: u64,
}

/// One move of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveRow {
    /// When.
    pub at: UnixMillis,
    /// Who; the controller is not a person.
    pub by: String,
    /// From where.
    pub from: u32,
    /// To where.
    pub to: u32,
    /// How the rollout stood then.
    pub state: RolloutState,
    /// Why.
    pub why: String,
}

/// What a session that began in a step came to so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SampleRow {
    pub(crate) rollout: String,
    pub(crate) step: u32,
    pub(crate) key: SessionKey,
    pub(crate) arm: RolloutArm,
    /// Decisions, denials of them, questions, milliseconds, and whether it did not start.
    pub(crate) own: [u64; 5],
    /// What the candidate was compared in: decisions, differing ones, denials and the candidate's, questions
    /// and the candidate's.
    pub(crate) compared: [u64; 6],
}

const COLUMNS: &str =
    "id, channel, serial, text, plan, state, step, step_since, issued, started, why, version";

/// Pairs of what is counted and of how much, by session: in its own arm, and of those that compare.
const PAIRS: [(&str, &str); 7] = [
    ("denied", "decisions"),
    ("asked", "lasts_ms"),
    ("not_started", "1"),
    ("compared_denied", "compared"),
    ("candidate_denied", "compared"),
    ("compared_asked", "lasts_ms"),
    ("candidate_asked", "lasts_ms"),
];
/// Milliseconds of an hour.
const HOUR_MS: f64 = 3_600_000.0;

/// What was seen of a step, by the two sorts of comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct StepSeen {
    /// Sessions under the candidate.
    pub(crate) canary: ArmSeen,
    /// Sessions under the policy in force.
    pub(crate) control: ArmSeen,
    /// What was said in sessions that compare.
    pub(crate) shadow: ArmSeen,
    /// What the candidate would have said in them.
    pub(crate) shadow_candidate: ArmSeen,
    /// Decisions that were compared, and those that differ.
    pub(crate) compared: (u64, u64),
}

impl State {
    /// Returns rollouts, the newest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn rollouts(&self, count_max: u32) -> Result<Vec<RolloutRow>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM rollouts WHERE org_id = $1 ORDER BY serial DESC LIMIT $2"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(i64::from(count_max))
            .fetch_all(&self.pool);
        let rows = rows.await.map_err(ControlError::state("read rollouts"))?;
        rows.iter().map(rollout).collect()
    }

    /// Returns a rollout.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn rollout(&self, id: &str) -> Result<Option<RolloutRow>, ControlError> {
        let mut reading = self.read().await?;
        self.rollout_in(&mut reading, "id", id).await
    }

    /// Returns the rollout of a bundle, if it has one.
    pub(crate) async fn rollout_of(
        &self,
        reading: &mut Writing,
        serial: u64,
    ) -> Result<Option<RolloutRow>, ControlError> {
        self.rollout_in(reading, "serial", &signed(serial).to_string())
            .await
    }

    pub(crate) async fn rollout_in(
        &self,
        reading: &mut Writing,
        column: &'static str,
        value: &str,
    ) -> Result<Option<RolloutRow>, ControlError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM rollouts WHERE org_id = $1 AND CAST({column} AS TEXT) = $2"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(value)
            .fetch_optional(&mut **reading);
        let row = row.await.map_err(ControlError::state("read a rollout"))?;
        row.as_ref().map(rollout).transpose()
    }

    pub(crate) async fn add_rollout(
        &self,
        writing: &mut Writing,
        row: &RolloutRow,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO rollouts (org_id, id, channel, serial, text, plan, state, step, step_since, \
                   issued, started, why, version) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(&row.id)
            .bind(&row.channel)
            .bind(signed(row.serial))
            .bind(&row.text)
            .bind(to_json("a plan", &row.plan)?)
            .bind(row.state.word())
            .bind(i64::from(row.step))
            .bind(signed(row.step_since.0))
            .bind(signed(row.issued.0))
            .bind(signed(row.started.0))
            .bind(&row.why)
            .bind(signed(row.version))
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep a rollout"))
    }

    /// Keeps a move of a rollout. Rows of another version were changed meanwhile: `false`.
    pub(crate) async fn move_rollout(
        &self,
        writing: &mut Writing,
        row: &RolloutRow,
        moved: &MoveRow,
    ) -> Result<bool, ControlError> {
        let failed = || ControlError::state("move a rollout");
        let sql = "UPDATE rollouts SET state = $3, step = $4, step_since = $5, issued = $6, why = $7, \
                   version = version + 1 WHERE org_id = $1 AND id = $2 AND version = $8";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(&row.id)
            .bind(row.state.word())
            .bind(i64::from(row.step))
            .bind(signed(row.step_since.0))
            .bind(signed(row.issued.0))
            .bind(&row.why)
            .bind(signed(row.version))
            .execute(&mut **writing);
        if done.await.map_err(failed())?.rows_affected() != 1 {
            return Ok(false);
        }
        let sql = "INSERT INTO rollout_moves (org_id, rollout_id, at, moved_by, from_step, to_step, state, why) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(&row.id)
            .bind(signed(moved.at.0))
            .bind(&moved.by)
            .bind(i64::from(moved.from))
            .bind(i64::from(moved.to))
            .bind(moved.state.word())
            .bind(&moved.why)
            .execute(&mut **writing);
        done.await.map_err(failed())?;
        Ok(true)
    }

    /// Returns what was done with a rollout, the last thing first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn moves(&self, rollout: &str) -> Result<Vec<MoveRow>, ControlError> {
        let failed = || ControlError::state("read moves of a rollout");
        let sql = "SELECT at, moved_by, from_step, to_step, state, why FROM rollout_moves \
                   WHERE org_id = $1 AND rollout_id = $2 ORDER BY id DESC LIMIT $3";
        let rows = sqlx::query(sql)
            .bind(self.org())
            .bind(rollout)
            .bind(i64::from(MOVES_SHOWN))
            .fetch_all(&self.pool);
        let rows = rows.await.map_err(failed())?;
        let one = |row: &SqliteRow| {
            let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
            let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
            Ok(MoveRow {
                at: millis(number(0)?),
                by: text(1)?,
                from: small(number(2)?),
                to: small(number(3)?),
                state: RolloutState::read(&text(4)?)?,
                why: text(5)?,
            })
        };
        rows.iter().map(one).collect()
    }

    /// Keeps what sessions came to so far, in one transaction.
    pub(crate) async fn keep_samples(&self, rows: &[SampleRow]) -> Result<(), ControlError> {
        if rows.is_empty() {
            return Ok(());
        }
        let failed = || ControlError::state("keep what sessions came to");
        let mut writing = self.write().await?;
        for row in rows {
            let sql = "INSERT INTO rollout_sessions (org_id, rollout_id, step, node_id, session_id, arm, \
                       decisions, denied, asked, lasts_ms, not_started, compared, differed, compared_denied, \
                       candidate_denied, compared_asked, candidate_asked) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) \
                       ON CONFLICT (org_id, rollout_id, step, node_id, session_id) DO UPDATE SET \
                       decisions = excluded.decisions, denied = excluded.denied, asked = excluded.asked, \
                       lasts_ms = excluded.lasts_ms, not_started = excluded.not_started, \
                       compared = excluded.compared, differed = excluded.differed, \
                       compared_denied = excluded.compared_denied, \
                       candidate_denied = excluded.candidate_denied, \
                       compared_asked = excluded.compared_asked, candidate_asked = excluded.candidate_asked";
            let mut query = sqlx::query(sql)
                .bind(self.org())
                .bind(&row.rollout)
                .bind(i64::from(row.step))
                .bind(row.key.node.as_str())
                .bind(row.key.session.as_str())
                .bind(row.arm.as_str());
            for number in row.own.iter().chain(&row.compared) {
                query = query.bind(signed(*number));
            }
            query.execute(&mut *writing).await.map_err(failed())?;
        }
        self.commit(writing).await
    }

    /// Sums up what was seen of a step.
    pub(crate) async fn step_seen(
        &self,
        rollout: &str,
        step: u32,
    ) -> Result<StepSeen, ControlError> {
        let failed = || ControlError::state("sum up a step");
        let sums: Vec<String> = PAIRS
            .iter()
            .map(|(hits, base)| {
                let hits = format!("CAST({hits} AS REAL)");
                let base = format!("CAST({base} AS REAL)");
                format!(
                    "SUM({hits}), SUM({base}), SUM({hits} * {hits}), SUM({hits} * {base}), SUM({base} * {base})"
                )
            })
            .collect();
        let sql = format!(
            "SELECT arm, COUNT(*), COALESCE(SUM(compared), 0), COALESCE(SUM(differed), 0), {} \
             FROM rollout_sessions WHERE org_id = $1 AND rollout_id = $2 AND step = $3 GROUP BY arm",
            sums.join(", ")
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(self.org())
            .bind(rollout)
            .bind(i64::from(step))
            .fetch_all(&self.pool);
        let rows = rows.await.map_err(failed())?;
        let mut seen = StepSeen::default();
        for row in &rows {
            seen.add(row)?;
        }
        Ok(seen)
    }

    /// Returns how many machines that are not retired could not use a bundle. That a pointer was refused, for
    /// example because of a wrong clock, is not counted: such a machine stays under the policy in force.
    pub(crate) async fn failed_acks(
        &self,
        channel: &str,
        serial: u64,
    ) -> Result<u64, ControlError> {
        let failed = || ControlError::state("count machines");
        let sql = "SELECT COUNT(*) FROM acks a JOIN nodes n ON n.org_id = a.org_id AND n.id = a.node_id \
                   WHERE a.org_id = $1 AND a.channel = $2 AND a.serial = $3 AND a.session_id = '' \
                   AND a.state = '\"failed\"' AND a.step IS NULL AND n.retired IS NULL";
        let row = sqlx::query(sql)
            .bind(self.org())
            .bind(channel)
            .bind(signed(serial))
            .fetch_one(&self.pool);
        let row = row.await.map_err(failed())?;
        Ok(unsigned(row.try_get(0).map_err(failed())?))
    }

    /// Keeps that a person has reported a refusal; one person counts once in a step.
    pub(crate) async fn add_report(
        &self,
        writing: &mut Writing,
        (rollout, step): (&str, u32),
        by: &UserId,
        reason: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO rollout_reports (org_id, rollout_id, step, user_id, reason, at) \
                   VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT (org_id, rollout_id, step, user_id) DO NOTHING";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(rollout)
            .bind(i64::from(step))
            .bind(&by.0)
            .bind(reason)
            .bind(signed(now.0))
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep a report"))
    }

    /// Returns how many people have reported a refusal in a step.
    pub(crate) async fn reports(&self, rollout: &str, step: u32) -> Result<u64, ControlError> {
        let failed = || ControlError::state("count reports");
        let sql = "SELECT COUNT(*) FROM rollout_reports \
                   WHERE org_id = $1 AND rollout_id = $2 AND step = $3";
        let row = sqlx::query(sql)
            .bind(self.org())
            .bind(rollout)
            .bind(i64::from(step))
            .fetch_one(&self.pool);
        let row = row.await.map_err(failed())?;
        Ok(unsigned(row.try_get(0).map_err(failed())?))
    }

    /// Keeps under which serial sessions run, and forgets those that have ended.
    pub(crate) async fn keep_active(
        &self,
        running: &[(SessionKey, String, u64)],
        ended: &[SessionKey],
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        if running.is_empty() && ended.is_empty() {
            return Ok(());
        }
        let failed = || ControlError::state("keep under which policy sessions run");
        let mut writing = self.write().await?;
        for (key, channel, serial) in running {
            let sql = "INSERT INTO acks (org_id, node_id, channel, session_id, serial, state, error, at) \
                       VALUES ($1, $2, $3, $4, $5, '\"active\"', NULL, $6) \
                       ON CONFLICT (org_id, node_id, channel, session_id) DO UPDATE SET \
                       serial = excluded.serial, at = excluded.at";
            let done = sqlx::query(sql)
                .bind(self.org())
                .bind(key.node.as_str())
                .bind(channel)
                .bind(key.session.as_str())
                .bind(signed(*serial))
                .bind(signed(now.0));
            done.execute(&mut *writing).await.map_err(failed())?;
        }
        for key in ended {
            let sql = "DELETE FROM acks WHERE org_id = $1 AND node_id = $2 AND session_id = $3";
            let done = sqlx::query(sql)
                .bind(self.org())
                .bind(key.node.as_str())
                .bind(key.session.as_str());
            done.execute(&mut *writing).await.map_err(failed())?;
        }
        self.commit(writing).await
    }
}

impl StepSeen {
    /// Adds the sums of one arm.
    fn add(&mut self, row: &SqliteRow) -> Result<(), ControlError> {
        let failed = || ControlError::state("sum up a step");
        let count = |index: usize| row.try_get::<i64, _>(index).map(unsigned).map_err(failed());
        let arm: String = row.try_get(0).map_err(failed())?;
        let sessions = crate::guards::real(count(1)?);
        let mut all = [Sums::default(); PAIRS.len()];
        for (index, sums) in all.iter_mut().enumerate() {
            let at = 4 + index * 5;
            let number = |more: usize| row.try_get::<f64, _>(at + more).map_err(failed());
            *sums = Sums {
                sessions,
                hits: number(0)?,
                base: number(1)?,
                hits_squared: number(2)?,
                products: number(3)?,
                base_squared: number(4)?,
            };
        }
        let [
            denied,
            asked,
            starts,
            before,
            candidate,
            before_asked,
            candidate_asked,
        ] = all;
        let seen = |denials, asks, not_started| ArmSeen {
            denials,
            asks: in_hours(asks),
            not_started,
        };
        match parsed("an arm of a rollout", &arm)? {
            RolloutArm::Canary => self.canary = seen(denied, asked, starts),
            RolloutArm::Control => self.control = seen(denied, asked, starts),
            RolloutArm::Shadow => {
                self.shadow = seen(before, before_asked, Sums::default());
                self.shadow_candidate = seen(candidate, candidate_asked, Sums::default());
                self.compared = (count(2)?, count(3)?);
            }
            RolloutArm::Enforced => {}
        }
        Ok(())
    }
}

/// Takes a base of milliseconds in hours.
fn in_hours(sums: Sums) -> Sums {
    Sums {
        base: sums.base / HOUR_MS,
        products: sums.products / HOUR_MS,
        base_squared: sums.base_squared / HOUR_MS / HOUR_MS,
        ..sums
    }
}

fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

fn rollout(row: &SqliteRow) -> Result<RolloutRow, ControlError> {
    let failed = || ControlError::state("read a rollout");
    let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
    let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed());
    Ok(RolloutRow {
        id: text(0)?,
        channel: text(1)?,
        serial: unsigned(number(2)?),
        text: text(3)?,
        plan: from_json("a plan", &text(4)?)?,
        state: RolloutState::read(&text(5)?)?,
        step: small(number(6)?),
        step_since: millis(number(7)?),
        issued: millis(number(8)?),
        started: millis(number(9)?),
        why: text(10)?,
        version: unsigned(number(11)?),
    })
}
