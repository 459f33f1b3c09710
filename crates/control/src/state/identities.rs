//! People as identity providers know them, and the roles that their groups give them there.

use sqlx::Row as _;
use stockade_trust::UserId;
use stockade_types::UnixMillis;

use super::{State, UserRow, signed};
use crate::ControlError;

/// Who has given a role that comes of a group: such a role goes again with the group, and others stay.
const BY_GROUP: &str = "sso";

/// A person as a provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// The name of the person there, which stays.
    pub subject: String,
    /// The name for people, for a person who was never here.
    pub name: String,
    /// The roles that the groups of the person give.
    pub roles: Vec<String>,
}

/// What came of a sign-in at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// It is this person. The second value tells whether machines have to learn of it.
    Yes(UserRow, bool),
    /// The person was removed here.
    Removed,
    /// Another person has the name.
    NameTaken,
    /// No group of the person gives a role, and nobody has given one here.
    NoRole,
}

impl State {
    /// Finds the person of an identity, or makes one of it, and gives and takes the roles of the groups.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub async fn recognise(
        &self,
        identity: &Identity,
        new: &UserId,
        now: UnixMillis,
    ) -> Result<Recognised, ControlError> {
        let mut writing = self.write().await?;
        let failed = || ControlError::state("find a person of a provider");
        let sql =
            "SELECT user_id FROM identities WHERE org_id = $1 AND issuer = $2 AND subject = $3";
        let row = sqlx::query(sql)
            .bind(self.org())
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .fetch_optional(&mut *writing)
            .await
            .map_err(failed())?;
        let users = self.users_in(&mut writing).await?;
        let known: Option<String> = row
            .map(|row| row.try_get(0))
            .transpose()
            .map_err(failed())?;
        let user = known.and_then(|id| users.iter().find(|user| user.id.0 == id));
        let id = match user {
            Some(user) if !user.is_active => return Ok(Recognised::Removed),
            Some(user) => user.id.clone(),
            None if identity.roles.is_empty() => return Ok(Recognised::NoRole),
            None if users.iter().any(|user| user.name == identity.name) => {
                return Ok(Recognised::NameTaken);
            }
            None => {
                self.insert_user(&mut writing, new, &identity.name, now)
                    .await?;
                new.clone()
            }
        };
        let sql = "INSERT INTO identities (org_id, issuer, subject, user_id, created, last_in) \
                   VALUES ($1, $2, $3, $4, $5, $5) \
                   ON CONFLICT (org_id, issuer, subject) DO UPDATE SET last_in = excluded.last_in";
        sqlx::query(sql)
            .bind(self.org())
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .bind(&id.0)
            .bind(signed(now.0))
            .execute(&mut *writing)
            .await
            .map_err(failed())?;
        let changed = self
            .roles_of_groups(&mut writing, &id, &identity.roles, now)
            .await?;
        let users = self.users_in(&mut writing).await?;
        let user = users.into_iter().find(|user| user.id == id);
        let has_none = |user: &UserRow| user.roles.is_empty() && user.team_roles.is_empty();
        let without_role = user.as_ref().is_none_or(has_none);
        if without_role {
            // Whoever has lost the last role is signed in nowhere any more.
            sqlx::query("DELETE FROM web_sessions WHERE org_id = $1 AND user_id = $2")
                .bind(self.org())
                .bind(&id.0)
                .execute(&mut *writing)
                .await
                .map_err(failed())?;
        }
        self.commit(writing).await?;
        Ok(match user {
            Some(user) if !without_role => Recognised::Yes(user, changed),
            Some(_) | None => Recognised::NoRole,
        })
    }

    /// Makes the roles that come of groups those of `wanted`; tells whether any has changed. The last
    /// administrator can lose the role so: `serve init` makes a link for another one then.
    async fn roles_of_groups(
        &self,
        writing: &mut super::Writing,
        user: &UserId,
        wanted: &[String],
        now: UnixMillis,
    ) -> Result<bool, ControlError> {
        let failed = || ControlError::state("change the roles of groups");
        let sql = "SELECT role, granted_by FROM role_bindings WHERE org_id = $1 AND user_id = $2";
        let rows = sqlx::query(sql).bind(self.org()).bind(&user.0);
        let rows = rows.fetch_all(&mut **writing).await.map_err(failed())?;
        let mut here: Vec<(String, String)> = Vec::new();
        for row in &rows {
            let text = |index: usize| row.try_get::<String, _>(index).map_err(failed());
            here.push((text(0)?, text(1)?));
        }
        let mut changed = false;
        for role in wanted {
            if here.iter().any(|(found, _)| found == role) {
                continue;
            }
            self.bind_role(writing, user, role, BY_GROUP, now).await?;
            changed = true;
        }
        for (role, by) in &here {
            if by != BY_GROUP || wanted.contains(role) {
                continue;
            }
            self.unbind_role(writing, user, role, BY_GROUP, now).await?;
            changed = true;
        }
        if changed {
            self.touch_user(writing, user).await?;
        }
        Ok(changed)
    }
}
