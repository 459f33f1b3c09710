//! Controls that are in no file, and that no file can remove.

use stockade_types::Verdict;

use crate::{
    Origin,
    rule::{Body, Rule},
};

/// Ids that no rule of a file may have.
pub(crate) const RESERVED: [&str; 5] = [
    "metadata",
    "private-address",
    "protected",
    "view",
    "name-mismatch",
];

/// Number of the control on cloud metadata in every list of rules.
pub(crate) const METADATA: usize = 0;
/// Number of the control on private addresses.
pub(crate) const PRIVATE: usize = 1;
/// Number of the control on protected files.
pub(crate) const PROTECTED: usize = 2;
/// Number of the allowance for files within the writable view.
pub(crate) const VIEW: usize = 3;

/// Returns the controls as rules; they come first in every list of rules.
pub(crate) fn controls() -> Vec<Rule> {
    let control = |id: &str, effect, reason: &str| {
        id.parse().ok().map(|id| Rule {
            id,
            effect,
            origin: Origin::Builtin,
            place: "builtin".to_owned(),
            reason: reason.to_owned(),
            stage: None,
            body: Body::Control,
        })
    };
    [
        control(
            "metadata",
            Verdict::Deny,
            "cloud metadata holds credentials; never reachable",
        ),
        control(
            "private-address",
            Verdict::Deny,
            "an address of this machine or its networks",
        ),
        control(
            "protected",
            Verdict::Deny,
            "changing it could run code outside the boundary",
        ),
        control(
            "view",
            Verdict::Allow,
            "the file lies within the writable view",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}
