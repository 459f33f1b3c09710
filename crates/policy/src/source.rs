//! The origin of a policy: layers in their order of trust, files, and host sets.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use stockade_types::{Host, Port, RuleId};

/// The layer that a file, rule or setting belongs to.
///
/// The order of the variants is the order of the layers. [`Self::authority`] is another order:
/// `Builtin` is a default that every other layer may answer; the others yield only to those above
/// them.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Shipped with the program.
    Builtin,
    /// The organisation's policy of this machine.
    Organisation,
    /// The user's own configuration.
    User,
    /// This run's command line.
    Session,
}

impl Origin {
    /// Returns the lowercase word used in JSON and terminals.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Organisation => "organisation",
            Self::User => "user",
            Self::Session => "session",
        }
    }

    /// Returns how much the layer is trusted to answer other layers' asks; higher means more.
    pub(crate) const fn authority(self) -> u8 {
        match self {
            Self::Builtin => 0,
            Self::Session => 1,
            Self::User => 2,
            Self::Organisation => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a rule: an id names one rule of each layer.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleName {
    /// Its id.
    pub id: RuleId,
    /// Its layer.
    pub origin: Origin,
}

/// One policy file.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The layer it is loaded into.
    pub origin: Origin,
    /// The file name for display; for a builtin its bare name (`codex`).
    pub name: String,
    /// The TOML text.
    pub text: String,
}

/// Names of the host sets that a policy can have, each read from the configuration of clients.
pub const HOST_SETS: [&str; 9] = [
    "npm", "pip", "cargo", "go", "gem", "maven", "apt", "model", "remote",
];

/// A host of a set.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetHost {
    /// The host.
    pub host: Host,
    /// The one port in its address; `None` if there is none.
    pub port: Option<Port>,
}

impl fmt::Display for SetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{} {port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

/// Host lists from the clients' own configuration: `npm` → hosts, for `hosts = ["@npm"]`.
///
/// A set that is not present matches nothing.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSets(pub BTreeMap<String, Vec<SetHost>>);
