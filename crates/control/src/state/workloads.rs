//! Machines of jobs: rules of enrolment, and tokens of jobs that were used.

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_api::NodeId;
use stockade_trust::{TeamId, UserId};
use stockade_types::UnixMillis;

use super::{NewNode, State, from_json, millis, signed, to_json, unsigned};
use crate::{
    ControlError,
    act::{Act, Action},
    oidc::{EnrolRule, RULES_MAX},
};

/// A rule with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRow {
    /// Names the rule.
    pub id: String,
    /// The rule.
    pub rule: EnrolRule,
    /// Since when.
    pub created: UnixMillis,
}

/// The machine of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The rule by which it is let in.
    pub rule: String,
    /// The issuer of its token.
    pub issuer: String,
    /// What makes its token the only one of its kind.
    pub jti: String,
    /// Until when its token counts, with the difference that clocks may have.
    pub expires: UnixMillis,
    /// Who has caused it.
    pub person: Option<UserId>,
    /// The team that the machine belongs to.
    pub team: Option<TeamId>,
}

/// What came of the enrolment of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnrolled {
    /// It belongs to the organisation.
    Yes,
    /// The token was used.
    Used,
    /// Another machine has the key.
    KeyTaken,
}

impl State {
    /// Adds a rule.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(false)` if there are too many.
    pub async fn add_rule(&self, row: &RuleRow) -> Result<bool, ControlError> {
        let failed = || ControlError::state("add a rule of enrolment");
        let mut writing = self.write().await?;
        let sql = "SELECT COUNT(*) FROM enrol_rules WHERE org_id = $1";
        let count = sqlx::query(sql).bind(self.org()).fetch_one(&mut *writing);
        let count: i64 = count
            .await
            .map_err(failed())?
            .try_get(0)
            .map_err(failed())?;
        if usize::try_from(unsigned(count)).is_ok_and(|count| count >= RULES_MAX) {
            return Ok(false);
        }
        let sql = "INSERT INTO enrol_rules (org_id, id, rule, created) VALUES ($1, $2, $3, $4)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&row.id)
            .bind(to_json("a rule", &row.rule)?)
            .bind(signed(row.created.0))
            .execute(&mut *writing)
            .await
            .map_err(failed())?;
        let claims: Vec<String> = row.rule.claims.iter().map(ToString::to_string).collect();
        let act = Act::new(Action::RuleAdded).about(&row.id).detail(format!(
            "{} {}",
            row.rule.issuer,
            claims.join(" ")
        ));
        self.note(&mut writing, &act, row.created).await?;
        self.commit(writing).await?;
        Ok(true)
    }

    /// Removes a rule. Machines that were let in by it stay.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(false)` if there is no such rule.
    pub async fn remove_rule(&self, id: &str, now: UnixMillis) -> Result<bool, ControlError> {
        let mut writing = self.write().await?;
        let sql = "DELETE FROM enrol_rules WHERE org_id = $1 AND id = $2";
        let done = sqlx::query(sql).bind(self.org()).bind(id);
        let done = done.execute(&mut *writing).await;
        let done = done.map_err(ControlError::state("remove a rule of enrolment"))?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let act = Act::new(Action::RuleRemoved).about(id);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(true)
    }

    /// Returns all rules, the oldest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn rules(&self) -> Result<Vec<RuleRow>, ControlError> {
        let failed = || ControlError::state("read rules of enrolment");
        let sql =
            "SELECT id, rule, created FROM enrol_rules WHERE org_id = $1 ORDER BY created, id";
        let rows = sqlx::query(sql).bind(self.org()).fetch_all(&self.pool);
        let rows = rows.await.map_err(failed())?;
        let one = |row: &SqliteRow| {
            let text: String = row.try_get(1).map_err(failed())?;
            Ok(RuleRow {
                id: row.try_get(0).map_err(failed())?,
                rule: from_json("a rule", &text)?,
                created: millis(row.try_get(2).map_err(failed())?),
            })
        };
        rows.iter().map(one).collect()
    }

    /// Uses the token of a job up, and makes its machine.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn enrol_job(
        &self,
        node: &NewNode,
        job: &Job,
        now: UnixMillis,
    ) -> Result<JobEnrolled, ControlError> {
        let failed = || ControlError::state("enrol the machine of a job");
        let mut writing = self.write().await?;
        // What has expired is refused by its time.
        let sql = "DELETE FROM used_tokens WHERE org_id = $1 AND expires < $2";
        let done = sqlx::query(sql).bind(self.org()).bind(signed(now.0));
        done.execute(&mut *writing).await.map_err(failed())?;
        let sql = "INSERT INTO used_tokens (org_id, issuer, jti, expires) \
                   VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(&job.issuer)
            .bind(&job.jti)
            .bind(signed(job.expires.0))
            .execute(&mut *writing)
            .await
            .map_err(failed())?;
        if done.rows_affected() == 0 {
            return Ok(JobEnrolled::Used);
        }
        if self.has_key(&mut writing, node).await? {
            return Ok(JobEnrolled::KeyTaken);
        }
        let place = (job.person.as_ref(), job.team.clone());
        self.insert_node(&mut writing, node, place, now).await?;
        let sql = "INSERT INTO job_nodes (org_id, node_id, rule, created) VALUES ($1, $2, $3, $4)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(node.id.as_str())
            .bind(&job.rule)
            .bind(signed(now.0))
            .execute(&mut *writing)
            .await
            .map_err(failed())?;
        self.commit(writing).await?;
        Ok(JobEnrolled::Yes)
    }

    /// Tells whether a machine is that of a job: it belongs to the organisation as long as its first
    /// certificate is valid.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn is_job(&self, node: &NodeId) -> Result<bool, ControlError> {
        let sql = "SELECT 1 FROM job_nodes WHERE org_id = $1 AND node_id = $2";
        let row = sqlx::query(sql).bind(self.org()).bind(node.as_str());
        let row = row.fetch_optional(&self.pool).await;
        row.map(|row| row.is_some())
            .map_err(ControlError::state("read machines of jobs"))
    }

    /// Returns the machines of jobs whose certificates are over and that are not retired yet.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(crate) async fn jobs_that_are_over(
        &self,
        now: UnixMillis,
    ) -> Result<Vec<NodeId>, ControlError> {
        let failed = || ControlError::state("read machines of jobs");
        let sql = "SELECT n.id FROM nodes n JOIN job_nodes j ON j.org_id = n.org_id AND j.node_id = n.id \
                   WHERE n.org_id = $1 AND n.retired IS NULL AND NOT EXISTS \
                   (SELECT 1 FROM node_certs c WHERE c.org_id = n.org_id AND c.node_id = n.id \
                   AND c.not_after > $2) LIMIT 1000";
        let rows = sqlx::query(sql).bind(self.org()).bind(signed(now.0));
        let rows = rows.fetch_all(&self.pool).await.map_err(failed())?;
        let one = |row: &SqliteRow| {
            let id: String = row.try_get(0).map_err(failed())?;
            super::parsed("a machine", &id)
        };
        rows.iter().map(one).collect()
    }

    /// Returns until when the newest certificate of a machine was valid; `None` if it has none.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn last_certificate(
        &self,
        node: &NodeId,
    ) -> Result<Option<UnixMillis>, ControlError> {
        let failed = || ControlError::state("read certificates");
        let sql = "SELECT MAX(not_after) FROM node_certs WHERE org_id = $1 AND node_id = $2";
        let row = sqlx::query(sql).bind(self.org()).bind(node.as_str());
        let row = row.fetch_one(&self.pool).await.map_err(failed())?;
        let last: Option<i64> = row.try_get(0).map_err(failed())?;
        Ok(last.map(millis))
    }
}
