//! Why there is no plan.

use stockade_types::AbsPath;

use crate::GuaranteeName;

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
    #[error("the native tier needs {0}")]
    Missing(&'static str),
    /// The policy asks for something that does not exist yet.
    #[error("{0}")]
    Unsupported(&'static str),
}
