//! The plan itself.

use serde::{Deserialize, Serialize};
use stockade_types::{AbsPath, Digest, RawText, SessionId, Tier};

use crate::{Boundary, Guarantee, Step, Unfounded};

/// Version of the plan's meaning; an executor refuses every other one.
pub const PLAN_VERSION: u32 = 2;

/// Whom the command runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id, inside and outside.
    pub uid: u32,
    /// Group id, inside and outside.
    pub gid: u32,
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program inside.
    pub program: RawText,
    /// Arguments, the name first.
    pub argv: Vec<RawText>,
    /// The whole environment.
    pub environment: Vec<(RawText, RawText)>,
    /// Working directory inside.
    pub cwd: AbsPath,
}

/// A complete launch: the executor does these steps in this order and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchPlan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// The session.
    pub session: SessionId,
    /// Isolation tier.
    pub tier: Tier,
    /// What its walls are made of.
    pub boundary: Boundary,
    /// Whom the command runs as.
    pub identity: Identity,
    /// What is executed.
    pub command: Command,
    /// The steps.
    pub steps: Vec<Step>,
    /// What they add up to.
    pub guarantees: Vec<Guarantee>,
    /// What the caller should know of the view, one line each.
    pub notes: Vec<String>,
    /// Index of a step that fails instead of being done. Only tests set it; a fault can only stop
    /// a launch, never weaken one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<usize>,
}

impl LaunchPlan {
    /// Checks that the steps make what the plan states of its boundary.
    ///
    /// # Errors
    /// The first statement that nothing stands behind.
    pub fn check(&self) -> Result<(), Unfounded> {
        self.boundary.check(&self.steps, &self.guarantees)
    }

    /// Returns the bytes that are handed to the executor and their digest.
    ///
    /// # Errors
    /// Never for a plan made by [`crate::compile`]; serde's own otherwise.
    pub fn seal(&self) -> Result<(Vec<u8>, Digest), serde_json::Error> {
        let bytes = serde_json::to_vec(self)?;
        let digest = Digest::of(&bytes);
        Ok((bytes, digest))
    }

    /// Returns the name of the session's control groups, below the parent that each step names.
    pub fn group_name(&self) -> String {
        format!("stockade-{}", self.session)
    }
}
