//! Who may answer: people, their roles, and what they prove themselves with. A machine pins it, and
//! takes a newer one only under the organisation's signature.

use serde::{Deserialize, Serialize};
use stockade_policy::Role;
use stockade_types::UnixMillis;

use crate::{
    envelope::Statement,
    key::{KeyId, PublicKey},
    passkey::Passkey,
};

/// Names a person within the organisation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub String);

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Names the person.
    pub id: UserId,
    /// For people.
    pub name: String,
    /// What the person may answer for.
    pub roles: Vec<Role>,
    /// Passkeys that are not revoked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passkeys: Vec<Passkey>,
    /// Approver keys that are not revoked, for places without passkeys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<PublicKey>,
}

/// All people who may answer. Whoever is not in it has no vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// The organisation.
    pub org: String,
    /// Grows by each change; a machine refuses a lower one than it has.
    pub serial: u64,
    /// After this it is not used.
    pub not_after: UnixMillis,
    /// The people.
    pub people: Vec<User>,
}

impl Statement for Directory {
    const TYPE: &'static str = "application/vnd.stockade.directory.1+json";
}

impl Directory {
    /// Returns a person, if there is exactly one of that name.
    pub fn user(&self, id: &UserId) -> Option<&User> {
        let mut found = self.people.iter().filter(|user| user.id == *id);
        let user = found.next()?;
        found.next().is_none().then_some(user)
    }

    /// Tells whether more than one person has a key. Then it names nobody: one of them could vote as all.
    pub fn is_shared(&self, key: KeyId) -> bool {
        let has = |user: &&User| user.keys.iter().any(|one| one.id() == key);
        self.people.iter().filter(has).nth(1).is_some()
    }
}

impl User {
    /// Tells whether the person has a role.
    pub fn has(&self, role: &Role) -> bool {
        self.roles.contains(role)
    }
}
