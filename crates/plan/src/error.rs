//! Why there is no plan.

use stockade_types::{AbsPath, GuaranteeName, Tier};

use crate::Unfounded;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The workspace would expose what the boundary hides.
    #[error("the workspace `{path}` {problem}")]
    Workspace {
        /// The workspace.
        path: AbsPath,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A path that policy shares would expose what the boundary hides.
    #[error("`{path}` in `filesystem.{key}` of the policy {problem}")]
    Share {
        /// `read` or `write`.
        key: &'static str,
        /// The path.
        path: AbsPath,
        /// What is wrong with it, and the fix.
        problem: &'static str,
    },
    /// A required guarantee does not hold here.
    #[error("the guarantee `{}` is required and does not hold: {missing}", name.as_str())]
    Required {
        /// Which.
        name: GuaranteeName,
        /// Why not.
        missing: String,
    },
    /// The kernel lacks something the tier is made of.
    #[error("the {tier} tier needs {part}")]
    Missing {
        /// The tier.
        tier: Tier,
        /// What of it.
        part: &'static str,
    },
    /// The tier states more than its steps make: a fault of Stockade.
    #[error("the tier is not what it says")]
    Unfounded(#[source] Unfounded),
    /// The policy asks for something that does not exist yet.
    #[error("{0}")]
    Unsupported(&'static str),
}
