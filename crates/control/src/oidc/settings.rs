//! What the server is told of the provider by which people sign in.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::{Deserialize, Serialize};

use crate::{ControlError, kept, outbound};

/// The file, among the keys: it holds a secret.
const FILE: &str = "oidc.json";
/// Groups that give roles.
const GROUPS_MAX: usize = 500;
/// Bytes of a name.
const WORD_BYTES_MAX: usize = 256;

/// The provider by which people sign in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcSettings {
    /// Its address, exactly as it names itself.
    pub issuer: String,
    /// The name under which it knows this server.
    pub client_id: String,
    /// What this server shows it; a public client has none and relies on PKCE.
    pub client_secret: Option<String>,
    /// The claim with the groups of a person.
    pub groups_claim: String,
    /// The claim by which a new person is named.
    pub name_claim: String,
    /// Which groups give which roles.
    pub roles: BTreeMap<String, Vec<String>>,
    /// Whether the provider may be in a private network.
    pub private: bool,
    /// Certificates of the authorities by which the provider is known, PEM; without them those of the
    /// system.
    pub authorities: Option<String>,
}

impl fmt::Debug for OidcSettings {
    /// Shows nothing of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcSettings")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

impl OidcSettings {
    /// Checks what was given.
    ///
    /// # Errors
    /// The first thing that is not accepted.
    pub fn check(&self) -> Result<(), ControlError> {
        let value = |what, value: &str, expected| ControlError::Value {
            what,
            value: value.chars().take(80).collect(),
            expected,
        };
        if outbound::checked(&self.issuer).is_err() || self.issuer.contains(['?', '#']) {
            let expected = "`https://HOST/…` as the provider names itself, without a query";
            return Err(value("the issuer", &self.issuer, expected));
        }
        for (what, word) in [
            ("the client id", &self.client_id),
            ("the claim with groups", &self.groups_claim),
            ("the claim with the name", &self.name_claim),
        ] {
            if word.is_empty() || word.len() > WORD_BYTES_MAX || word.chars().any(char::is_control)
            {
                let expected = "1 to 256 bytes without control characters";
                return Err(value(what, word, expected));
            }
        }
        if self.roles.is_empty() || self.roles.len() > GROUPS_MAX {
            let expected = "1 to 500 groups that give roles: `--role GROUP=ROLE`";
            return Err(value("the groups", &self.roles.len().to_string(), expected));
        }
        let roles = self.roles.values().flatten();
        for role in roles {
            if !crate::roles::is_role_name(role) {
                let expected = "lower-case letters, digits and `-`, for example `code-owner`";
                return Err(value("the role", role, expected));
            }
        }
        Ok(())
    }

    /// Keeps the settings among the keys in `dir`, in place of those that are there.
    ///
    /// # Errors
    /// When they are not accepted, or cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), ControlError> {
        self.check()?;
        kept::write(dir, FILE, self)
    }

    /// Forgets the settings in `dir`.
    ///
    /// # Errors
    /// When they cannot be removed. `Ok(false)` if there were none.
    pub fn remove(dir: &Path) -> Result<bool, ControlError> {
        kept::remove(dir, FILE)
    }

    /// Reads the settings among the keys in `dir`; `None` if people sign in with passkeys and passwords
    /// alone.
    ///
    /// # Errors
    /// When others could have read or written them, or they are not accepted.
    pub fn read(dir: &Path) -> Result<Option<Self>, ControlError> {
        let settings: Option<Self> = kept::read(dir, FILE)?;
        if let Some(settings) = &settings {
            settings.check()?;
        }
        Ok(settings)
    }

    /// Returns the roles that these groups give.
    pub fn roles_of(&self, groups: &[String]) -> Vec<String> {
        let given = groups.iter().filter_map(|group| self.roles.get(group));
        let mut roles: Vec<String> = given.flatten().cloned().collect();
        roles.sort();
        roles.dedup();
        roles
    }
}
