//! Which credentials a session has: those whose variable is set outside, and that its owner did not
//! put inside.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Credential, CredentialSource};
use crate::{Origin, Settings};

/// What is known of the caller's variables: never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// Names of those that are long enough for a key.
    pub set: BTreeSet<String>,
    /// Names of those among them that hold an address of plain HTTP.
    pub plain: BTreeSet<String>,
}

/// Why a credential is not used in a session.
pub(crate) enum Unused {
    /// Its variable is not set.
    Unset,
    /// A file of the owner passes its variable by name.
    Passed,
    /// The client uses it without TLS, at the address in the second variable.
    Plain(String, String),
}

impl Unused {
    /// Says what the owner should know of it.
    pub(crate) fn note(&self) -> Option<String> {
        match self {
            Self::Unset | Self::Passed => None,
            Self::Plain(name, address) => Some(format!(
                "`{name}` is inside as it is: `{address}` has an address without TLS, where no credential \
                 takes the place of a placeholder"
            )),
        }
    }
}

impl Credential {
    /// Returns why it is not used in a session.
    pub(crate) fn unused(&self, settings: &Settings, outside: &Outside) -> Option<Unused> {
        let CredentialSource::Variable(name) = &self.source else {
            return None;
        };
        if !self.optional {
            return None;
        }
        if !outside.set.contains(name) {
            return Some(Unused::Unset);
        }
        let mut pass = settings.environment.pass.iter();
        let is_own = |origin: Origin| self.origin == Origin::Builtin && origin != Origin::Builtin;
        if pass.any(|pattern| is_own(pattern.origin) && pattern.value == *name) {
            return Some(Unused::Passed);
        }
        let address = self.address.as_ref();
        address
            .filter(|address| outside.plain.contains(*address))
            .map(|address| Unused::Plain(name.clone(), address.clone()))
    }
}
