//! Names of roles, and roles that are held for one team.

use std::{fmt, str::FromStr};

use stockade_policy::access::is_for_teams;
use stockade_trust::TeamId;

/// Characters of the name of a role.
const ROLE_CHARS_MAX: usize = 40;
/// Roles that one person holds at most, for the whole organisation and for each team.
pub const ROLES_MAX: usize = 20;
/// Roles that one person holds at most, in all places together.
pub const HELD_MAX: usize = 200;

/// Tells whether a text can be the name of a role: a lower-case letter, then lower-case letters, digits
/// and `-`.
pub(crate) fn is_role_name(text: &str) -> bool {
    text.len() <= ROLE_CHARS_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A role that is held for one team.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TeamRole {
    /// The team.
    pub team: TeamId,
    /// The role.
    pub role: String,
}

/// A role that is held for the whole organisation or for one team: `viewer`, or `viewer@TEAM`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HeldRole {
    pub(crate) role: String,
    pub(crate) team: Option<TeamId>,
}

impl FromStr for HeldRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (role, team) = match text.split_once('@') {
            None => (text, None),
            Some((role, team)) => {
                let id = TeamId::new(team);
                (role, Some(id.ok_or("it names no team after `@`")?))
            }
        };
        if !is_role_name(role) {
            return Err("a role has lower-case letters, digits and `-`".to_owned());
        }
        if team.is_some() && !is_for_teams(role) {
            return Err(format!("`{role}` is held for the whole organisation alone"));
        }
        Ok(Self {
            role: role.to_owned(),
            team,
        })
    }
}

impl fmt::Display for HeldRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.team {
            None => f.write_str(&self.role),
            Some(team) => write!(f, "{}@{}", self.role, team.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HeldRole, is_role_name};

    #[test]
    fn names_of_roles_are_plain() {
        assert!(is_role_name("code-owner"));
        for wrong in ["", "Admin", "-x", "a b", "a\u{202e}", "ä", &"a".repeat(41)] {
            assert!(!is_role_name(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_role_is_held_for_the_organisation_or_for_one_team() {
        for text in ["viewer", "security@tm-1", "admin"] {
            assert_eq!(text.parse::<HeldRole>().unwrap().to_string(), text);
        }
        for wrong in [
            "admin@tm-1",
            "viewer@",
            "@tm-1",
            "viewer@a@b",
            "viewer@*",
            "a b@tm-1",
        ] {
            assert!(wrong.parse::<HeldRole>().is_err(), "{wrong}");
        }
    }
}
