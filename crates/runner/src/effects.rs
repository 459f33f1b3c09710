//! Whether a run is made or only shown.

use stockade_plan::Network;

use crate::credentials::Find;

/// Whether preparing may write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effects {
    /// Only look.
    None,
    /// Make and seed the agent's state directories.
    State,
}

impl Effects {
    /// Says whether the values of credentials are found.
    pub(crate) const fn find(self, network: Network) -> Find {
        match (self, network) {
            (Self::State, Network::Proxied) => Find::Values,
            (Self::State, Network::Isolated) => Find::Logins,
            (Self::None, _) => Find::Nothing,
        }
    }
}
