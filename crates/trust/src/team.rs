//! Teams: which one a machine belongs to, and the roles that people hold for one team alone.
//!
//! In the directory a role that is held for one team is written `security@TEAM`. No stage of a policy can name
//! such a role, so that a machine which does not know teams counts none of them. A machine that does reads the
//! directory by [`Directory::within`], with the team that its [`Membership`] says.

use serde::{Deserialize, Serialize};
use stockade_policy::Role;
use stockade_types::UnixMillis;

use crate::{
    envelope::{Envelope, Statement},
    node::StatementError,
    people::{Directory, User},
    root::Root,
};

/// Parts a role from the team for which it is held.
const AT: char = '@';
/// Bytes of the id of a team.
const TEAM_BYTES_MAX: usize = 40;

/// Names a team within the organisation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TeamId(pub String);

impl TeamId {
    /// Takes the id of a team: lower-case letters, digits and `-`. `None` if the text is none.
    pub fn new(text: &str) -> Option<Self> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_id = (1..=TEAM_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain);
        is_id.then(|| Self(text.to_owned()))
    }

    /// Returns it as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which team a machine belongs to, in the words of the organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The organisation.
    pub org: String,
    /// The machine.
    pub node: String,
    /// The team; `None` if it belongs to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamId>,
    /// Grows by each change; the machine refuses a lower one than it has.
    pub serial: u64,
    /// After this it is not used.
    pub not_after: UnixMillis,
}

impl Statement for Membership {
    const TYPE: &'static str = "application/vnd.stockade.membership.1+json";
}

impl Root {
    /// Takes the membership of the machine `node` that has at least the serial `known`.
    ///
    /// # Errors
    /// When the people keys have not signed it, it is of another organisation or machine, has expired, or is
    /// older.
    pub fn membership(
        &self,
        envelope: &Envelope,
        node: &str,
        known: u64,
        now: UnixMillis,
    ) -> Result<Membership, StatementError> {
        let membership: Membership = envelope.open(&self.people)?;
        self.is_ours(&membership.org)?;
        if membership.node != node {
            return Err(StatementError::Machine {
                found: membership.node.chars().take(80).collect(),
            });
        }
        if membership.not_after <= now {
            return Err(StatementError::Expired);
        }
        if membership.serial < known {
            let found = membership.serial;
            return Err(StatementError::Serial { found, known });
        }
        Ok(membership)
    }
}

/// Writes a role that is held for one team as the directory has it.
pub fn role_in(role: &Role, team: &TeamId) -> Role {
    Role(format!("{}{AT}{}", role.0, team.0))
}

impl User {
    /// Returns the roles that count for machines of a team: those that are held for the whole organisation, and
    /// those that are held for it.
    pub fn roles_within(&self, team: Option<&TeamId>) -> Vec<Role> {
        let counts = |role: &Role| match role.0.split_once(AT) {
            None => Some(role.clone()),
            Some((name, of)) => {
                let is_own = team.is_some_and(|team| team.0 == of);
                (is_own && !name.is_empty()).then(|| Role(name.to_owned()))
            }
        };
        let mut roles: Vec<Role> = Vec::with_capacity(self.roles.len());
        for role in self.roles.iter().filter_map(counts) {
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        roles
    }
}

impl Directory {
    /// Returns the people with the roles that count for machines of a team.
    #[must_use]
    pub fn within(&self, team: Option<&TeamId>) -> Self {
        let one = |user: &User| User {
            roles: user.roles_within(team),
            ..user.clone()
        };
        Self {
            people: self.people.iter().map(one).collect(),
            org: self.org.clone(),
            ..*self
        }
    }
}
