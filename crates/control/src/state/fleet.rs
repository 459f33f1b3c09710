//! Machines: tokens by which they enrol, certificates by which they are known, and what they say.

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_api::{
    NodeId,
    node::{Ack, BundleHere, Facts, Install},
};
use stockade_trust::{Envelope, PublicKey, TeamId, UserId};
use stockade_types::{Digest, UnixMillis};

use super::{State, from_json, millis, parsed, signed, to_json, unsigned};
use crate::{
    ControlError,
    act::{Act, Action},
    authority::NodeCertificate,
};

/// Findings about one machine that are noted in an hour.
const FINDINGS_MAX: u64 = 100;
const FINDINGS_MS: u64 = 60 * 60 * 1_000;

/// A token for one enrolment, of which only the hash is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolTokenRow {
    /// Whose machine it will be.
    pub owner: Option<UserId>,
    /// The team that it will belong to.
    pub team: Option<TeamId>,
    /// Who made it.
    pub created_by: String,
    /// After this it does not work.
    pub expires: UnixMillis,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Names the machine.
    pub id: NodeId,
    /// For people.
    pub name: String,
    /// Whose it is.
    pub owner: Option<UserId>,
    /// The team that it belongs to.
    pub team: Option<TeamId>,
    /// Grows by each change of the team; 0 as long as there was none.
    pub team_serial: u64,
    /// How Stockade is installed on it.
    pub install: Install,
    /// Its key.
    pub key: PublicKey,
    /// The key of its journals.
    pub journal_key: String,
    /// What it says about itself.
    pub facts: Facts,
    /// Since when it belongs to the organisation.
    pub enrolled: UnixMillis,
    /// Since when it does not any more.
    pub retired: Option<UnixMillis>,
    /// When it was last here.
    pub last_seen: Option<UnixMillis>,
    /// The serial of the directory that it has.
    pub directory_serial: u64,
    /// The bundle that it has.
    pub bundle: Option<BundleHere>,
    /// How far its clock is ahead, in milliseconds.
    pub clock_skew_ms: i64,
}

/// A machine that enrols.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// The name that it gets.
    pub id: NodeId,
    /// For people.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
    /// The key of its journals.
    pub journal_key: String,
    /// What it says about itself.
    pub facts: Facts,
    /// How Stockade is installed on it.
    pub install: Install,
    /// Its first certificate.
    pub certificate: NodeCertificate,
}

/// What came of an enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolled {
    /// It belongs to the organisation, and to this person.
    Yes(Option<UserId>),
    /// There is no such token.
    Unknown,
    /// The token was used.
    Used,
    /// The token is too old.
    Expired,
    /// Another machine has the key.
    KeyTaken,
}

impl State {
    /// Makes tokens for enrolment, of which the hashes are kept.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn add_enrol_tokens(
        &self,
        hashes: &[String],
        row: &EnrolTokenRow,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let mut writing = self.write().await?;
        for hash in hashes {
            let sql = "INSERT INTO enrol_tokens \
                       (org_id, hash, owner, created_by, created, expires, used, node_id, team) \
                       VALUES ($1, $2, $3, $4, $5, $6, NULL, NULL, $7)";
            sqlx::query(sql)
                .bind(self.org())
                .bind(hash)
                .bind(row.owner.as_ref().map(|owner| owner.0.clone()))
                .bind(&row.created_by)
                .bind(signed(now.0))
                .bind(signed(row.expires.0))
                .bind(row.team.as_ref().map(TeamId::as_str))
                .execute(&mut *writing)
                .await
                .map_err(ControlError::state("make a token for enrolment"))?;
        }
        let owner = row.owner.as_ref().map_or("", |owner| &owner.0);
        let act = Act::new(Action::TokenIssued)
            .by(&row.created_by)
            .about(owner)
            .detail(match hashes.len() {
                1 => "for one enrolment".to_owned(),
                count => format!("for {count} enrolments, one each"),
            });
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await
    }

    /// Uses a token up, and makes the machine.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn enrol(
        &self,
        hash: &str,
        node: &NewNode,
        now: UnixMillis,
    ) -> Result<Enrolled, ControlError> {
        let failed = || ControlError::state("enrol a machine");
        let mut writing = self.write().await?;
        let sql =
            "SELECT owner, expires, used, team FROM enrol_tokens WHERE org_id = $1 AND hash = $2";
        let row = sqlx::query(sql).bind(self.org()).bind(hash);
        let row = row.fetch_optional(&mut *writing).await.map_err(failed())?;
        let Some(row) = row else {
            return Ok(Enrolled::Unknown);
        };
        let owner: Option<String> = row.try_get(0).map_err(failed())?;
        let expires: i64 = row.try_get(1).map_err(failed())?;
        let used: Option<i64> = row.try_get(2).map_err(failed())?;
        if used.is_some() {
            return Ok(Enrolled::Used);
        }
        if millis(expires) <= now {
            return Ok(Enrolled::Expired);
        }
        if self.has_key(&mut writing, node).await? {
            return Ok(Enrolled::KeyTaken);
        }
        let owner = owner.map(UserId);
        let team: Option<String> = row.try_get(3).map_err(failed())?;
        let sql = "UPDATE enrol_tokens SET used = $1, node_id = $2 WHERE org_id = $3 AND hash = $4";
        sqlx::query(sql)
            .bind(signed(now.0))
            .bind(node.id.as_str())
            .bind(self.org())
            .bind(hash)
            .execute(&mut *writing)
            .await
            .map_err(failed())?;
        let place = (owner.as_ref(), team.map(TeamId));
        self.insert_node(&mut writing, node, place, now).await?;
        self.commit(writing).await?;
        Ok(Enrolled::Yes(owner))
    }

    /// Tells whether a machine has the key of a new one.
    pub(super) async fn has_key(
        &self,
        writing: &mut super::Writing,
        node: &NewNode,
    ) -> Result<bool, ControlError> {
        let sql = "SELECT 1 FROM nodes WHERE org_id = $1 AND key = $2";
        let taken = sqlx::query(sql).bind(self.org()).bind(node.key.to_string());
        let taken = taken.fetch_optional(&mut **writing).await;
        taken
            .map(|taken| taken.is_some())
            .map_err(ControlError::state("look for a key"))
    }

    /// Adds a machine with its first certificate.
    pub(super) async fn insert_node(
        &self,
        writing: &mut super::Writing,
        node: &NewNode,
        (owner, team): (Option<&UserId>, Option<TeamId>),
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let failed = || ControlError::state("add a machine");
        let owner = owner.map_or("", |owner| &owner.0);
        let sql = "INSERT INTO nodes (org_id, id, name, owner, install, key, journal_key, facts, enrolled, \
                   retired, last_seen, directory_serial, bundle, clock_skew_ms, version, team, team_serial) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL, NULL, 0, NULL, 0, 1, $10, $11)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(node.id.as_str())
            .bind(&node.name)
            .bind((!owner.is_empty()).then_some(owner))
            .bind(to_json("an installation", &node.install)?)
            .bind(node.key.to_string())
            .bind(&node.journal_key)
            .bind(to_json("facts", &node.facts)?)
            .bind(signed(now.0))
            .bind(team.as_ref().map(TeamId::as_str))
            .bind(i64::from(team.is_some()))
            .execute(&mut **writing)
            .await
            .map_err(failed())?;
        self.insert_certificate(writing, &node.id, &node.certificate)
            .await?;
        let act = Act::new(Action::NodeEnrolled)
            .about(owner)
            .node(node.id.as_str())
            .digest(node.certificate.fingerprint)
            .detail(&node.name);
        self.note(writing, &act, now).await
    }

    async fn insert_certificate(
        &self,
        writing: &mut super::Writing,
        node: &NodeId,
        certificate: &NodeCertificate,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO node_certs (org_id, fingerprint, node_id, not_before, not_after) \
                   VALUES ($1, $2, $3, $4, $5)";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(certificate.fingerprint.to_string())
            .bind(node.as_str())
            .bind(signed(certificate.not_before.0))
            .bind(signed(certificate.not_after.0))
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep a certificate"))
    }

    /// Keeps a further certificate of a machine, and forgets those that are over.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn add_certificate(
        &self,
        node: &NodeId,
        certificate: &NodeCertificate,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let mut writing = self.write().await?;
        let sql = "DELETE FROM node_certs WHERE org_id = $1 AND node_id = $2 AND not_after < $3";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(node.as_str())
            .bind(signed(now.0));
        let done = done.execute(&mut *writing).await;
        done.map_err(ControlError::state("forget certificates"))?;
        self.insert_certificate(&mut writing, node, certificate)
            .await?;
        self.commit(writing).await
    }

    /// Returns whose certificate it is: a machine that belongs to the organisation, and a certificate that
    /// is not over.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn node_of(
        &self,
        fingerprint: &Digest,
        now: UnixMillis,
    ) -> Result<Option<NodeRow>, ControlError> {
        let sql = "SELECT n.* FROM nodes n JOIN node_certs c ON c.org_id = n.org_id AND c.node_id = n.id \
                   WHERE c.org_id = $1 AND c.fingerprint = $2 AND c.not_after > $3 AND n.retired IS NULL";
        let row = sqlx::query(sql)
            .bind(self.org())
            .bind(fingerprint.to_string())
            .bind(signed(now.0))
            .fetch_optional(&self.pool);
        let row = row.await.map_err(ControlError::state("find a machine"))?;
        row.as_ref().map(node).transpose()
    }

    /// Returns a machine.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn node(&self, id: &NodeId) -> Result<Option<NodeRow>, ControlError> {
        let sql = "SELECT * FROM nodes WHERE org_id = $1 AND id = $2";
        let row = sqlx::query(sql)
            .bind(self.org())
            .bind(id.as_str())
            .fetch_optional(&self.pool);
        let row = row.await.map_err(ControlError::state("read a machine"))?;
        row.as_ref().map(node).transpose()
    }

    /// Returns all machines, those that were retired too.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, ControlError> {
        let sql = "SELECT * FROM nodes WHERE org_id = $1 ORDER BY name, id";
        let rows = sqlx::query(sql).bind(self.org()).fetch_all(&self.pool);
        let rows = rows.await.map_err(ControlError::state("read machines"))?;
        rows.iter().map(node).collect()
    }

    /// Keeps what a machine says of itself.
    pub(super) async fn heard(
        &self,
        writing: &mut super::Writing,
        id: &NodeId,
        hello: &stockade_api::node::Hello,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let ahead = i128::from(hello.now.0) - i128::from(now.0);
        let skew = i64::try_from(ahead).unwrap_or(i64::MAX);
        let bundle = hello.bundle.as_ref();
        let bundle = bundle
            .map(|bundle| to_json("a bundle", bundle))
            .transpose()?;
        let sql = "UPDATE nodes SET facts = $1, last_seen = $2, directory_serial = $3, bundle = $4, \
                   clock_skew_ms = $5, version = version + 1 WHERE org_id = $6 AND id = $7";
        let done = sqlx::query(sql)
            .bind(to_json("facts", &hello.facts)?)
            .bind(signed(now.0))
            .bind(signed(hello.directory_serial))
            .bind(bundle)
            .bind(skew)
            .bind(self.org())
            .bind(id.as_str())
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep what a machine says"))
    }

    /// Lets a machine belong to the organisation no more.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(false)` if it does not anyway.
    pub async fn retire(
        &self,
        id: &NodeId,
        by: &str,
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let failed = || ControlError::state("retire a machine");
        let mut writing = self.write().await?;
        let sql = "UPDATE nodes SET retired = $1, version = version + 1 \
                   WHERE org_id = $2 AND id = $3 AND retired IS NULL";
        let done = sqlx::query(sql)
            .bind(signed(now.0))
            .bind(self.org())
            .bind(id.as_str());
        let done = done.execute(&mut *writing).await.map_err(failed())?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let sql = "DELETE FROM node_certs WHERE org_id = $1 AND node_id = $2";
        let done = sqlx::query(sql).bind(self.org()).bind(id.as_str());
        done.execute(&mut *writing).await.map_err(failed())?;
        let act = Act::new(Action::NodeRetired).by(by).node(id.as_str());
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(true)
    }

    /// Keeps what became of a bundle.
    pub(super) async fn acknowledge(
        &self,
        writing: &mut super::Writing,
        id: &NodeId,
        ack: &Ack,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let session = ack.session.as_ref().map_or("", |session| session.as_str());
        let rollout = ack.rollout.as_ref();
        let sql = "INSERT INTO acks (org_id, node_id, channel, session_id, serial, state, error, at, step, arm) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
                   ON CONFLICT (org_id, node_id, channel, session_id) DO UPDATE SET \
                   serial = excluded.serial, state = excluded.state, error = excluded.error, \
                   at = excluded.at, step = excluded.step, arm = excluded.arm";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(id.as_str())
            .bind(&ack.channel)
            .bind(session)
            .bind(signed(ack.serial))
            .bind(to_json("a state", &ack.state)?)
            .bind(&ack.error)
            .bind(signed(now.0))
            .bind(rollout.map(|here| i64::from(here.step)))
            .bind(rollout.map(|here| here.arm.as_str()))
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep what became of a bundle"))
    }

    /// Notes that a machine did what it must not; a hundred times an hour for one machine, so that it cannot
    /// fill the disk with that.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn accuse(
        &self,
        id: &NodeId,
        session: Option<&stockade_types::SessionId>,
        kind: &str,
        detail: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let mut writing = self.write().await?;
        let failed = || ControlError::state("count findings");
        let sql = "SELECT COUNT(*) FROM findings WHERE org_id = $1 AND node_id = $2 AND at > $3";
        let since = now.0.saturating_sub(FINDINGS_MS);
        let row = sqlx::query(sql)
            .bind(self.org())
            .bind(id.as_str())
            .bind(signed(since));
        let row = row.fetch_one(&mut *writing).await.map_err(failed())?;
        let count: i64 = row.try_get(0).map_err(failed())?;
        if unsigned(count) >= FINDINGS_MAX {
            return Ok(());
        }
        let sql = "INSERT INTO findings (org_id, node_id, session_id, kind, detail, at) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(id.as_str())
            .bind(session.map(|session| session.as_str().to_owned()))
            .bind(kind)
            .bind(detail)
            .bind(signed(now.0))
            .execute(&mut *writing)
            .await
            .map_err(ControlError::state("note a finding"))?;
        let mut act = Act::new(Action::NodeAccused)
            .node(id.as_str())
            .detail(format!("{kind}: {detail}"));
        act.session = session.map(|session| session.as_str().to_owned());
        self.note(&mut writing, &act, now).await?;
        let told = crate::notice::finding(id, "", format!("the machine: {kind}: {detail}"), now);
        let event = format!("accused {id} {kind} {}", now.0 / FINDINGS_MS);
        self.tell(&mut writing, &event, &told).await?;
        self.commit(writing).await
    }

    pub(crate) async fn add_order(
        &self,
        writing: &mut super::Writing,
        order: &stockade_api::Order,
        envelope: &Envelope,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO orders \
                   (org_id, id, node_id, session_id, envelope, given_by, issued, not_after) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let done = sqlx::query(sql)
            .bind(self.org())
            .bind(&order.id)
            .bind(order.node.as_str())
            .bind(order.session.as_str())
            .bind(to_json("an order", envelope)?)
            .bind(&order.by.0)
            .bind(signed(now.0))
            .bind(signed(order.not_after.0))
            .execute(&mut **writing);
        let done = done.await;
        done.map(|_| ())
            .map_err(ControlError::state("keep an order"))
    }

    /// Returns the orders of a machine that still count. It carries each out once, however often it is told.
    pub(crate) async fn orders(
        &self,
        node: &NodeId,
        now: UnixMillis,
    ) -> Result<Vec<Envelope>, ControlError> {
        let failed = || ControlError::state("read orders");
        let sql = "SELECT envelope FROM orders \
                   WHERE org_id = $1 AND node_id = $2 AND not_after > $3 ORDER BY issued";
        let rows = sqlx::query(sql)
            .bind(self.org())
            .bind(node.as_str())
            .bind(signed(now.0));
        let rows = rows.fetch_all(&self.pool).await.map_err(failed())?;
        let order = |row: &SqliteRow| {
            let text: String = row.try_get(0).map_err(failed())?;
            from_json("an order", &text)
        };
        rows.iter().map(order).collect()
    }
}

fn node(row: &SqliteRow) -> Result<NodeRow, ControlError> {
    let failed = || ControlError::state("read a machine");
    let text = |name: &str| row.try_get::<String, _>(name).map_err(failed());
    let maybe = |name: &str| row.try_get::<Option<String>, _>(name).map_err(failed());
    let time = |name: &str| row.try_get::<Option<i64>, _>(name).map_err(failed());
    let number = |name: &str| row.try_get::<i64, _>(name).map_err(failed());
    let bundle = maybe("bundle")?;
    Ok(NodeRow {
        id: parsed("a machine", &text("id")?)?,
        name: text("name")?,
        owner: maybe("owner")?.map(UserId),
        team: maybe("team")?.map(TeamId),
        team_serial: unsigned(number("team_serial")?),
        install: from_json("an installation", &text("install")?)?,
        key: parsed("a key", &text("key")?)?,
        journal_key: text("journal_key")?,
        facts: from_json("facts", &text("facts")?)?,
        enrolled: millis(number("enrolled")?),
        retired: time("retired")?.map(millis),
        last_seen: time("last_seen")?.map(millis),
        directory_serial: unsigned(number("directory_serial")?),
        bundle: bundle
            .map(|text| from_json("a bundle", &text))
            .transpose()?,
        clock_skew_ms: number("clock_skew_ms")?,
    })
}
