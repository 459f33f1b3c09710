//! Teams: their names, their machines, and the roles that people hold for them.

use std::collections::{BTreeMap, HashMap};

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_api::NodeId;
use stockade_trust::{TeamId, UserId};
use stockade_types::UnixMillis;

use super::{State, UserRow, Writing, millis, signed, unsigned};
use crate::{
    ControlError,
    act::{Act, Action},
    roles::{HELD_MAX, HeldRole, ROLES_MAX, TeamRole},
};

/// Teams of an organisation.
pub const TEAMS_MAX: usize = 100;

/// A team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamRow {
    /// Names the team.
    pub id: TeamId,
    /// For people; no two teams have the same one.
    pub name: String,
    /// Since when.
    pub created: UnixMillis,
    /// Grows by each change.
    pub version: u64,
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is done.
    Done,
    /// It is not there.
    Gone,
    /// Somebody else has changed it since it was seen.
    Stale,
    /// The name is taken.
    NameTaken,
    /// There are too many.
    TooMany,
    /// Machines, roles, links or tokens still name it.
    InUse,
    /// No administrator would be left.
    LastAdmin,
}

/// The roles that a person shall hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedRoles {
    /// For the whole organisation.
    pub whole: Vec<String>,
    /// For teams; those of a team that is not named here stay as they are.
    pub teams: BTreeMap<TeamId, Vec<String>>,
}

impl State {
    /// Returns all teams, by name.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn teams(&self) -> Result<Vec<TeamRow>, ControlError> {
        let mut reading = self.read().await?;
        self.teams_in(&mut reading).await
    }

    async fn teams_in(&self, reading: &mut Writing) -> Result<Vec<TeamRow>, ControlError> {
        let failed = || ControlError::state("read teams");
        let sql = "SELECT id, name, created, version FROM teams WHERE org_id = $1 ORDER BY name";
        let rows = sqlx::query(sql).bind(self.org()).fetch_all(&mut **reading);
        let rows = rows.await.map_err(failed())?;
        let one = |row: &SqliteRow| {
            Ok(TeamRow {
                id: TeamId(row.try_get(0)?),
                name: row.try_get(1)?,
                created: millis(row.try_get(2)?),
                version: unsigned(row.try_get(3)?),
            })
        };
        let teams: Result<Vec<_>, sqlx::Error> = rows.iter().map(one).collect();
        teams.map_err(failed())
    }

    /// Returns a team by its name.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn team_named(&self, name: &str) -> Result<Option<TeamRow>, ControlError> {
        let teams = self.teams().await?;
        Ok(teams.into_iter().find(|team| team.name == name))
    }

    /// Makes a team.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn add_team(
        &self,
        id: &TeamId,
        name: &str,
        by: &str,
        now: UnixMillis,
    ) -> Result<Change, ControlError> {
        let mut writing = self.write().await?;
        let teams = self.teams_in(&mut writing).await?;
        if teams.iter().any(|team| team.name == name) {
            return Ok(Change::NameTaken);
        }
        if teams.len() >= TEAMS_MAX {
            return Ok(Change::TooMany);
        }
        let sql =
            "INSERT INTO teams (org_id, id, name, created, version) VALUES ($1, $2, $3, $4, 1)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&id.0)
            .bind(name)
            .bind(signed(now.0))
            .execute(&mut *writing)
            .await
            .map_err(ControlError::state("make a team"))?;
        let act = Act::new(Action::TeamMade).by(by).about(&id.0).detail(name);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(Change::Done)
    }

    /// Gives a team another name, if it has still the version that was seen.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn rename_team(
        &self,
        (id, seen): (&TeamId, u64),
        name: &str,
        by: &str,
        now: UnixMillis,
    ) -> Result<Change, ControlError> {
        let mut writing = self.write().await?;
        let teams = self.teams_in(&mut writing).await?;
        if let Some(why) = not_as_seen(&teams, id, seen) {
            return Ok(why);
        }
        if teams.iter().any(|team| team.name == name && team.id != *id) {
            return Ok(Change::NameTaken);
        }
        let sql = "UPDATE teams SET name = $1, version = version + 1 WHERE org_id = $2 AND id = $3";
        let done = sqlx::query(sql).bind(name).bind(self.org()).bind(&id.0);
        let done = done.execute(&mut *writing).await;
        done.map_err(ControlError::state("rename a team"))?;
        let act = Act::new(Action::TeamRenamed)
            .by(by)
            .about(&id.0)
            .detail(name);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(Change::Done)
    }

    /// Removes a team that has no machines, that no person holds a role for, and that nothing which is still to
    /// be used names.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn remove_team(
        &self,
        (id, seen): (&TeamId, u64),
        by: &str,
        now: UnixMillis,
    ) -> Result<Change, ControlError> {
        let failed = || ControlError::state("remove a team");
        let mut writing = self.write().await?;
        let teams = self.teams_in(&mut writing).await?;
        if let Some(why) = not_as_seen(&teams, id, seen) {
            return Ok(why);
        }
        // Links keep roles as `role@team`, and rules of enrolment are JSON: the id is in no other text.
        let sql = "SELECT (SELECT COUNT(*) FROM nodes WHERE org_id = $1 AND team = $2) \
                   + (SELECT COUNT(*) FROM team_roles WHERE org_id = $1 AND team = $2) \
                   + (SELECT COUNT(*) FROM enrol_tokens WHERE org_id = $1 AND team = $2 AND used IS NULL \
                      AND expires > $3) \
                   + (SELECT COUNT(*) FROM enrol_rules WHERE org_id = $1 AND instr(rule, $2) > 0) \
                   + (SELECT COUNT(*) FROM links WHERE org_id = $1 AND instr(roles, $2) > 0 AND used IS NULL \
                      AND expires > $3)";
        let row = sqlx::query(sql)
            .bind(self.org())
            .bind(&id.0)
            .bind(signed(now.0));
        let row = row.fetch_one(&mut *writing).await.map_err(failed())?;
        let uses: i64 = row.try_get(0).map_err(failed())?;
        if uses > 0 {
            return Ok(Change::InUse);
        }
        let sql = "DELETE FROM teams WHERE org_id = $1 AND id = $2";
        let done = sqlx::query(sql).bind(self.org()).bind(&id.0);
        done.execute(&mut *writing).await.map_err(failed())?;
        let act = Act::new(Action::TeamRemoved).by(by).about(&id.0);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(Change::Done)
    }

    /// Returns the roles that people hold for teams, by person.
    pub(super) async fn team_roles_in(
        &self,
        reading: &mut Writing,
    ) -> Result<HashMap<String, Vec<TeamRole>>, ControlError> {
        let failed = || ControlError::state("read roles of teams");
        let sql =
            "SELECT user_id, team, role FROM team_roles WHERE org_id = $1 ORDER BY team, role";
        let rows = sqlx::query(sql).bind(self.org()).fetch_all(&mut **reading);
        let mut all: HashMap<String, Vec<TeamRole>> = HashMap::new();
        for row in rows.await.map_err(failed())? {
            let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
            all.entry(text(0)?).or_default().push(TeamRole {
                team: TeamId(text(1)?),
                role: text(2)?,
            });
        }
        Ok(all)
    }

    /// Gives a person a role for one team.
    pub(super) async fn bind_team_role(
        &self,
        writing: &mut Writing,
        user: &UserId,
        held: &TeamRole,
        by: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO team_roles (org_id, user_id, team, role, granted_by, granted) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&user.0)
            .bind(&held.team.0)
            .bind(&held.role)
            .bind(by)
            .bind(signed(now.0))
            .execute(&mut **writing)
            .await
            .map_err(ControlError::state("give a role for a team"))?;
        let act = Act::new(Action::RoleGiven)
            .by(by)
            .about(&user.0)
            .detail(format!("{}@{}", held.role, held.team.0));
        self.note(writing, &act, now).await
    }

    async fn take_team_role(
        &self,
        writing: &mut Writing,
        user: &UserId,
        held: &TeamRole,
        by: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql = "DELETE FROM team_roles \
                   WHERE org_id = $1 AND user_id = $2 AND team = $3 AND role = $4";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&user.0)
            .bind(&held.team.0)
            .bind(&held.role)
            .execute(&mut **writing)
            .await
            .map_err(ControlError::state("take a role for a team"))?;
        let act = Act::new(Action::RoleTaken)
            .by(by)
            .about(&user.0)
            .detail(format!("{}@{}", held.role, held.team.0));
        self.note(writing, &act, now).await
    }

    /// Gives and takes roles so that a person holds those that are wanted, if nobody has changed the person
    /// since it was seen. All of it happens, or nothing.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn set_roles(
        &self,
        (id, seen): (&UserId, u64),
        wanted: &WantedRoles,
        by: &str,
        now: UnixMillis,
    ) -> Result<Change, ControlError> {
        let mut writing = self.write().await?;
        let users = self.users_in(&mut writing).await?;
        let Some(user) = users.iter().find(|user| user.id == *id && user.is_active) else {
            return Ok(Change::Gone);
        };
        if user.version != seen {
            return Ok(Change::Stale);
        }
        let teams = self.teams_in(&mut writing).await?;
        let is_there = |team: &TeamId| teams.iter().any(|row| row.id == *team);
        if !wanted.teams.keys().all(is_there) {
            return Ok(Change::Gone);
        }
        let is_admin = |roles: &[String]| roles.iter().any(|role| role == "admin");
        if is_admin(&user.roles)
            && !is_admin(&wanted.whole)
            && !super::people::has_admin_beside(&users, id)
        {
            return Ok(Change::LastAdmin);
        }
        let after = held_after(user, wanted);
        let places = after.values().map(Vec::len).chain([wanted.whole.len()]);
        if places.clone().any(|count| count > ROLES_MAX) || places.sum::<usize>() > HELD_MAX {
            return Ok(Change::TooMany);
        }
        for role in wanted
            .whole
            .iter()
            .filter(|role| !user.roles.contains(role))
        {
            self.bind_role(&mut writing, id, role, by, now).await?;
        }
        for role in user
            .roles
            .iter()
            .filter(|role| !wanted.whole.contains(role))
        {
            self.unbind_role(&mut writing, id, role, by, now).await?;
        }
        for (team, roles) in &wanted.teams {
            self.set_team_roles(&mut writing, user, (team, roles), by, now)
                .await?;
        }
        self.touch_user(&mut writing, id).await?;
        self.commit(writing).await?;
        Ok(Change::Done)
    }

    async fn set_team_roles(
        &self,
        writing: &mut Writing,
        user: &UserRow,
        (team, wanted): (&TeamId, &[String]),
        by: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let here: Vec<&TeamRole> = user
            .team_roles
            .iter()
            .filter(|held| held.team == *team)
            .collect();
        for role in wanted {
            if here.iter().any(|held| held.role == *role) {
                continue;
            }
            let held = TeamRole {
                team: team.clone(),
                role: role.clone(),
            };
            self.bind_team_role(writing, &user.id, &held, by, now)
                .await?;
        }
        for held in here.iter().filter(|held| !wanted.contains(&held.role)) {
            self.take_team_role(writing, &user.id, held, by, now)
                .await?;
        }
        Ok(())
    }

    /// Gives a person a role that is held for the whole organisation or for a team that is there.
    pub(super) async fn bind_held(
        &self,
        writing: &mut Writing,
        user: &UserId,
        held: &HeldRole,
        by: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let Some(team) = &held.team else {
            return self.bind_role(writing, user, &held.role, by, now).await;
        };
        let teams = self.teams_in(writing).await?;
        // A team that is gone gives no role.
        if !teams.iter().any(|row| row.id == *team) {
            return Ok(());
        }
        let role = TeamRole {
            team: team.clone(),
            role: held.role.clone(),
        };
        self.bind_team_role(writing, user, &role, by, now).await
    }

    /// Notes that a person has changed, so that a form that shows the person as it was is refused.
    pub(super) async fn touch_user(
        &self,
        writing: &mut Writing,
        user: &UserId,
    ) -> Result<(), ControlError> {
        let sql = "UPDATE users SET version = version + 1 WHERE org_id = $1 AND id = $2";
        let done = sqlx::query(sql).bind(self.org()).bind(&user.0);
        let done = done.execute(&mut **writing).await;
        done.map(|_| ())
            .map_err(ControlError::state("note a change of a person"))
    }

    /// Gives a machine to a team, or to none, if it still belongs to the one that was seen.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn set_team(
        &self,
        node: &NodeId,
        (seen, wanted): (Option<&TeamId>, Option<&TeamId>),
        by: &str,
        now: UnixMillis,
    ) -> Result<Change, ControlError> {
        let failed = || ControlError::state("give a machine to a team");
        let mut writing = self.write().await?;
        let sql = "SELECT team FROM nodes WHERE org_id = $1 AND id = $2 AND retired IS NULL";
        let row = sqlx::query(sql).bind(self.org()).bind(node.as_str());
        let row = row.fetch_optional(&mut *writing).await.map_err(failed())?;
        let Some(row) = row else {
            return Ok(Change::Gone);
        };
        let here: Option<String> = row.try_get(0).map_err(failed())?;
        if here.as_deref() != seen.map(TeamId::as_str) {
            return Ok(Change::Stale);
        }
        let teams = self.teams_in(&mut writing).await?;
        let is_there = |team: &TeamId| teams.iter().any(|row| row.id == *team);
        if !wanted.is_none_or(is_there) {
            return Ok(Change::Gone);
        }
        if seen == wanted {
            return Ok(Change::Done);
        }
        let sql = "UPDATE nodes SET team = $1, team_serial = team_serial + 1, version = version + 1 \
                   WHERE org_id = $2 AND id = $3";
        sqlx::query(sql)
            .bind(wanted.map(TeamId::as_str))
            .bind(self.org())
            .bind(node.as_str())
            .execute(&mut *writing)
            .await
            .map_err(failed())?;
        let name = |team: Option<&TeamId>| team.map_or("none", TeamId::as_str).to_owned();
        let act = Act::new(Action::NodeMoved)
            .by(by)
            .node(node.as_str())
            .detail(format!("from {} to {}", name(seen), name(wanted)));
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(Change::Done)
    }

    /// Returns the team of a machine.
    pub(crate) async fn team_in(
        &self,
        reading: &mut Writing,
        node: &NodeId,
    ) -> Result<Option<TeamId>, ControlError> {
        let failed = || ControlError::state("read the team of a machine");
        let sql = "SELECT team FROM nodes WHERE org_id = $1 AND id = $2";
        let row = sqlx::query(sql).bind(self.org()).bind(node.as_str());
        let row = row.fetch_optional(&mut **reading).await.map_err(failed())?;
        let team = row.map(|row| row.try_get::<Option<String>, _>(0).map_err(failed()));
        Ok(team.transpose()?.flatten().map(TeamId))
    }

    /// Returns the team of a machine.
    pub(crate) async fn team_of(&self, node: &NodeId) -> Result<Option<TeamId>, ControlError> {
        let mut reading = self.read().await?;
        self.team_in(&mut reading, node).await
    }

    /// Returns the machines that belong to teams.
    pub(crate) async fn teams_of_nodes(&self) -> Result<HashMap<String, TeamId>, ControlError> {
        let failed = || ControlError::state("read the teams of machines");
        let sql = "SELECT id, team FROM nodes WHERE org_id = $1 AND team IS NOT NULL";
        let rows = sqlx::query(sql).bind(self.org()).fetch_all(&self.pool);
        let rows = rows.await.map_err(failed())?;
        let one = |row: &SqliteRow| Ok((row.try_get(0)?, TeamId(row.try_get(1)?)));
        let all: Result<HashMap<_, _>, sqlx::Error> = rows.iter().map(one).collect();
        all.map_err(failed())
    }

    /// Returns the teams of machines that are not retired; `None` stands for machines without one.
    pub(crate) async fn places(&self) -> Result<Vec<Option<TeamId>>, ControlError> {
        let failed = || ControlError::state("read the teams of machines");
        let sql = "SELECT DISTINCT team FROM nodes WHERE org_id = $1 AND retired IS NULL";
        let rows = sqlx::query(sql).bind(self.org()).fetch_all(&self.pool);
        let rows = rows.await.map_err(failed())?;
        let one = |row: &SqliteRow| Ok(row.try_get::<Option<String>, _>(0)?.map(TeamId));
        let all: Result<Vec<_>, sqlx::Error> = rows.iter().map(one).collect();
        all.map_err(failed())
    }
}

/// Says why a team cannot be changed by a form that shows it as it was.
fn not_as_seen(teams: &[TeamRow], id: &TeamId, seen: u64) -> Option<Change> {
    match teams.iter().find(|team| team.id == *id) {
        None => Some(Change::Gone),
        Some(team) if team.version != seen => Some(Change::Stale),
        Some(_) => None,
    }
}

/// Returns the roles for teams that a person holds after a change, by team.
fn held_after(user: &UserRow, wanted: &WantedRoles) -> BTreeMap<TeamId, Vec<String>> {
    let mut after = wanted.teams.clone();
    for held in &user.team_roles {
        if !wanted.teams.contains_key(&held.team) {
            let roles = after.entry(held.team.clone()).or_default();
            roles.push(held.role.clone());
        }
    }
    after
}
