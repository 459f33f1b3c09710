//! What a session promises, and by what.

use serde::{Deserialize, Serialize};
use stockade_types::GuaranteeName;

/// Whether one guarantee holds in this session, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarantee {
    /// Which.
    pub name: GuaranteeName,
    /// Whether it holds.
    pub holds: bool,
    /// By which mechanisms.
    pub how: String,
    /// What is missing, where it does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// The caller's reason for doing without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiver: Option<String>,
}
