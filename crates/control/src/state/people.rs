//! People: who they are, what they may do, and how they show who they are.

use sqlx::{Row as _, sqlite::SqliteRow};
use stockade_policy::Role;
use stockade_trust::{Directory, User, UserId, role_in};
use stockade_types::UnixMillis;

use super::{State, Writing, from_json, millis, parsed, signed, to_json, unsigned};
use crate::{
    ControlError,
    act::{Act, Action},
    roles::{HeldRole, TeamRole},
};

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// Names the person.
    pub id: UserId,
    /// For people; no two active people have the same one.
    pub name: String,
    /// Whether the person may sign in and vote.
    pub is_active: bool,
    /// Since when.
    pub created: UnixMillis,
    /// When the person was last here.
    pub last_seen: Option<UnixMillis>,
    /// The roles that the person holds for the whole organisation.
    pub roles: Vec<String>,
    /// Those that the person holds for one team.
    pub team_roles: Vec<TeamRole>,
    /// Grows by each change.
    pub version: u64,
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// The first administrator.
    Setup,
    /// A further person.
    Invite,
}

impl LinkKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Invite => "invite",
        }
    }
}

/// A link that works once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRow {
    /// What it is for.
    pub kind: LinkKind,
    /// The name of who is invited; empty for the first administrator.
    pub name: String,
    /// The roles that the person holds then, as `role` or `role@TEAM`.
    pub roles: Vec<String>,
    /// Who invites.
    pub created_by: String,
    /// After this it does not work.
    pub expires: UnixMillis,
}

impl State {
    /// Returns all people, by name.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn users(&self) -> Result<Vec<UserRow>, ControlError> {
        let mut reading = self.read().await?;
        self.users_in(&mut reading).await
    }

    pub(crate) async fn users_in(
        &self,
        reading: &mut Writing,
    ) -> Result<Vec<UserRow>, ControlError> {
        let failed = || ControlError::state("read people");
        let sql = "SELECT id, name, state, created, last_seen, version FROM users WHERE org_id = $1 ORDER BY name";
        let rows = sqlx::query(sql).bind(self.org()).fetch_all(&mut **reading);
        let rows = rows.await.map_err(failed())?;
        let sql = "SELECT user_id, role FROM role_bindings WHERE org_id = $1 ORDER BY role";
        let bindings = sqlx::query(sql).bind(self.org()).fetch_all(&mut **reading);
        let bindings: Vec<(String, String)> = bindings
            .await
            .and_then(|rows| {
                let pair = |row: &SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?));
                rows.iter().map(pair).collect()
            })
            .map_err(failed())?;
        let mut of_teams = self.team_roles_in(reading).await?;
        let mut user = |row: &SqliteRow| {
            let id: String = row.try_get(0)?;
            let state: &str = row.try_get(2)?;
            let own = bindings.iter().filter(|(user, _)| *user == id);
            Ok(UserRow {
                roles: own.map(|(_, role)| role.clone()).collect(),
                team_roles: of_teams.remove(&id).unwrap_or_default(),
                version: unsigned(row.try_get(5)?),
                name: row.try_get(1)?,
                is_active: state == "active",
                created: millis(row.try_get(3)?),
                last_seen: row.try_get::<Option<i64>, _>(4)?.map(millis),
                id: UserId(id),
            })
        };
        let users: Result<Vec<_>, sqlx::Error> = rows.iter().map(&mut user).collect();
        users.map_err(failed())
    }

    /// Returns a person.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn user(&self, id: &UserId) -> Result<Option<UserRow>, ControlError> {
        let users = self.users().await?;
        Ok(users.into_iter().find(|user| user.id == *id))
    }

    /// Returns an active person by name.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn user_named(&self, name: &str) -> Result<Option<UserRow>, ControlError> {
        let users = self.users().await?;
        Ok(users
            .into_iter()
            .find(|user| user.is_active && user.name == name))
    }

    /// Makes a link, of which `hash` is kept.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn add_link(
        &self,
        hash: &str,
        link: &LinkRow,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let mut writing = self.write().await?;
        let sql = "INSERT INTO links (org_id, hash, kind, name, roles, created_by, created, expires, used) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(hash)
            .bind(link.kind.word())
            .bind(&link.name)
            .bind(to_json("roles", &link.roles)?)
            .bind(&link.created_by)
            .bind(signed(now.0))
            .bind(signed(link.expires.0))
            .execute(&mut *writing)
            .await
            .map_err(ControlError::state("write a link"))?;
        let act = Act::new(Action::LinkIssued)
            .by(&link.created_by)
            .about(&link.name)
            .detail(format!("{} {}", link.kind.word(), link.roles.join(" ")));
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await
    }

    /// Returns a link that works.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn link(&self, hash: &str, now: UnixMillis) -> Result<Option<LinkRow>, ControlError> {
        let mut reading = self.read().await?;
        self.link_in(&mut reading, hash, now).await
    }

    async fn link_in(
        &self,
        reading: &mut Writing,
        hash: &str,
        now: UnixMillis,
    ) -> Result<Option<LinkRow>, ControlError> {
        let failed = || ControlError::state("read a link");
        let sql = "SELECT kind, name, roles, created_by, expires FROM links \
                   WHERE org_id = $1 AND hash = $2 AND used IS NULL AND expires > $3";
        let row = sqlx::query(sql)
            .bind(self.org())
            .bind(hash)
            .bind(signed(now.0))
            .fetch_optional(&mut **reading)
            .await
            .map_err(failed())?;
        let Some(row) = row else { return Ok(None) };
        let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
        Ok(Some(LinkRow {
            kind: match text(0)?.as_str() {
                "setup" => LinkKind::Setup,
                _ => LinkKind::Invite,
            },
            name: text(1)?,
            roles: from_json("roles", &text(2)?)?,
            created_by: text(3)?,
            expires: millis(row.try_get(4).map_err(failed())?),
        }))
    }

    /// Uses a link up, and makes the person that it is for. A link of an administrator works only as long
    /// as there is none.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(None)` if the link does not work, or the name is taken.
    pub async fn redeem_link(
        &self,
        hash: &str,
        id: &UserId,
        name: &str,
        now: UnixMillis,
    ) -> Result<Option<UserRow>, ControlError> {
        let mut writing = self.write().await?;
        let Some(link) = self.link_in(&mut writing, hash, now).await? else {
            return Ok(None);
        };
        let users = self.users_in(&mut writing).await?;
        let is_admin =
            |user: &UserRow| user.is_active && user.roles.iter().any(|role| role == "admin");
        let is_late = link.kind == LinkKind::Setup && users.iter().any(is_admin);
        if is_late || users.iter().any(|user| user.name == name) {
            return Ok(None);
        }
        let failed = || ControlError::state("make a person");
        sqlx::query("UPDATE links SET used = $1 WHERE org_id = $2 AND hash = $3")
            .bind(signed(now.0))
            .bind(self.org())
            .bind(hash)
            .execute(&mut *writing)
            .await
            .map_err(failed())?;
        self.insert_user(&mut writing, id, name, now).await?;
        let by = if link.created_by.is_empty() {
            "setup"
        } else {
            &link.created_by
        };
        for role in &link.roles {
            let held: HeldRole = parsed("a role of a link", role)?;
            self.bind_held(&mut writing, id, &held, by, now).await?;
        }
        self.commit(writing).await?;
        self.user(id).await
    }

    pub(super) async fn insert_user(
        &self,
        writing: &mut Writing,
        id: &UserId,
        name: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO users (org_id, id, name, state, created, last_seen, version) \
                   VALUES ($1, $2, $3, 'active', $4, NULL, 1)";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&id.0)
            .bind(name)
            .bind(signed(now.0))
            .execute(&mut **writing)
            .await
            .map_err(ControlError::state("make a person"))?;
        let act = Act::new(Action::UserAdded).about(&id.0).detail(name);
        self.note(writing, &act, now).await
    }

    pub(super) async fn bind_role(
        &self,
        writing: &mut Writing,
        user: &UserId,
        role: &str,
        by: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let sql = "INSERT INTO role_bindings (org_id, user_id, role, granted_by, granted) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&user.0)
            .bind(role)
            .bind(by)
            .bind(signed(now.0))
            .execute(&mut **writing)
            .await
            .map_err(ControlError::state("give a role"))?;
        let act = Act::new(Action::RoleGiven)
            .by(by)
            .about(&user.0)
            .detail(role);
        self.note(writing, &act, now).await
    }

    /// Gives a person a role.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn give_role(
        &self,
        user: &UserId,
        role: &str,
        by: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let mut writing = self.write().await?;
        self.bind_role(&mut writing, user, role, by, now).await?;
        self.touch_user(&mut writing, user).await?;
        self.commit(writing).await
    }

    /// Takes a role from a person.
    pub(super) async fn unbind_role(
        &self,
        writing: &mut Writing,
        user: &UserId,
        role: &str,
        by: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        sqlx::query("DELETE FROM role_bindings WHERE org_id = $1 AND user_id = $2 AND role = $3")
            .bind(self.org())
            .bind(&user.0)
            .bind(role)
            .execute(&mut **writing)
            .await
            .map_err(ControlError::state("take a role"))?;
        let act = Act::new(Action::RoleTaken)
            .by(by)
            .about(&user.0)
            .detail(role);
        self.note(writing, &act, now).await
    }

    /// Lets a person sign in and vote no more, and ends the person's browser sessions.
    ///
    /// # Errors
    /// When the state cannot be written. `Ok(false)` if that would leave no administrator.
    pub async fn deactivate_user(
        &self,
        user: &UserId,
        by: &str,
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let failed = || ControlError::state("deactivate a person");
        let mut writing = self.write().await?;
        let users = self.users_in(&mut writing).await?;
        if !has_admin_beside(&users, user) {
            return Ok(false);
        }
        for sql in [
            "UPDATE users SET state = 'inactive', version = version + 1 WHERE org_id = $1 AND id = $2",
            "DELETE FROM web_sessions WHERE org_id = $1 AND user_id = $2",
        ] {
            let done = sqlx::query(sql).bind(self.org()).bind(&user.0);
            done.execute(&mut *writing).await.map_err(failed())?;
        }
        let act = Act::new(Action::UserRemoved).by(by).about(&user.0);
        self.note(&mut writing, &act, now).await?;
        self.commit(writing).await?;
        Ok(true)
    }

    /// Makes a directory of all active people, with the next serial. The caller signs and stores it in the
    /// same transaction.
    pub(crate) async fn next_directory(
        &self,
        writing: &mut Writing,
        not_after: UnixMillis,
    ) -> Result<Directory, ControlError> {
        let failed = || ControlError::state("read the directory");
        let sql = "SELECT COALESCE(MAX(serial), 0) FROM directories WHERE org_id = $1";
        let row = sqlx::query(sql).bind(self.org()).fetch_one(&mut **writing);
        let last: i64 = row.await.map_err(failed())?.try_get(0).map_err(failed())?;
        let users = self.users_in(writing).await?;
        let passkeys = self.passkeys_in(writing).await?;
        let keys = self.keys_in(writing).await?;
        let person = |row: UserRow| {
            let own = passkeys.iter().filter(|passkey| passkey.user == row.id);
            let approved = keys.iter().filter(|key| key.approved.is_some());
            let own_keys = approved.filter(|key| key.user == row.id);
            let own_keys: Vec<_> = own_keys.map(|key| key.key).collect();
            User {
                passkeys: own.map(|row| row.passkey.clone()).collect(),
                roles: said_roles(&row),
                name: row.name,
                id: row.id,
                keys: own_keys,
            }
        };
        let active = users.into_iter().filter(|user| user.is_active);
        Ok(Directory {
            org: self.org().to_owned(),
            serial: unsigned(last).saturating_add(1),
            not_after,
            people: active.map(person).collect(),
        })
    }
}

/// Writes the roles of a person as the directory has them.
fn said_roles(row: &UserRow) -> Vec<Role> {
    let whole = row.roles.iter().cloned().map(Role);
    let of_team = |held: &TeamRole| role_in(&Role(held.role.clone()), &held.team);
    whole.chain(row.team_roles.iter().map(of_team)).collect()
}

/// Tells whether an administrator is left when one person is none any more.
pub(super) fn has_admin_beside(users: &[UserRow], user: &UserId) -> bool {
    let is_admin = |row: &&UserRow| row.is_active && row.roles.iter().any(|role| role == "admin");
    users.iter().filter(is_admin).any(|row| row.id != *user)
}
