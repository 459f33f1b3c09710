//! Who has to say yes: people in roles, stage by stage. How their votes stand is counted in `trust`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Scope;

/// Paths of a review, stages of a path, and votes that a stage can need: more than people go through.
const PATHS_MAX: usize = 8;
const STAGES_MAX: usize = 8;
const NEED_MAX: u32 = 16;

/// A role, for example `security`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Role(pub String);

/// How a vote has to be proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// The server says that the person was signed in.
    Session,
    /// The machine that asked checks a passkey or a key of the person itself.
    Passkey,
}

/// People of one role who are asked together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Names the stage.
    pub name: String,
    /// Who is asked.
    pub role: Role,
    /// How many different people must say yes.
    pub need: u32,
    /// How many must say no to deny.
    pub veto: u32,
    /// How each vote has to be proved.
    pub strength: Strength,
}

/// Who may override all stages, once, for a short time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// Who may.
    pub role: Role,
    /// How the vote has to be proved.
    pub strength: Strength,
    /// How long what it allows lasts at most, in milliseconds.
    pub max_ms: u64,
}

/// What a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// Ways to a yes: each is a list of stages, one after the other. One that is complete suffices.
    pub paths: Vec<Vec<Stage>>,
    /// The widest answer.
    pub scope_max: Scope,
    /// A vote has to say why.
    pub reason_required: bool,
    /// Who may override.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlass>,
}

/// Why a review cannot be answered by anybody, or by too few.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// There is no path, or an empty one.
    #[error("a path of stages is empty: name at least one stage")]
    Empty,
    /// There are too many.
    #[error(
        "at most {PATHS_MAX} paths of {STAGES_MAX} stages each, and {NEED_MAX} votes in a stage"
    )]
    TooMany,
    /// A stage needs nobody.
    #[error("stage `{0}`: `need` and `veto` are at least 1")]
    NeedsNobody(String),
    /// A path has a stage twice, or two stages have one name and are not the same.
    #[error("stage `{0}` is there twice in one path, or is not the same in all")]
    Twice(String),
}

impl Review {
    /// Checks that it can be answered.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ReviewError> {
        if self.paths.is_empty() || self.paths.iter().any(Vec::is_empty) {
            return Err(ReviewError::Empty);
        }
        let is_long = |path: &Vec<Stage>| path.len() > STAGES_MAX;
        if self.paths.len() > PATHS_MAX || self.paths.iter().any(is_long) {
            return Err(ReviewError::TooMany);
        }
        let mut known: BTreeMap<&str, &Stage> = BTreeMap::new();
        for stage in self.stages() {
            if stage.need == 0 || stage.veto == 0 {
                return Err(ReviewError::NeedsNobody(stage.name.clone()));
            }
            if stage.need > NEED_MAX || stage.veto > NEED_MAX {
                return Err(ReviewError::TooMany);
            }
            if known
                .insert(&stage.name, stage)
                .is_some_and(|other| other != stage)
            {
                return Err(ReviewError::Twice(stage.name.clone()));
            }
        }
        for path in &self.paths {
            let mut names = BTreeSet::new();
            if let Some(twice) = path.iter().find(|stage| !names.insert(&stage.name)) {
                return Err(ReviewError::Twice(twice.name.clone()));
            }
        }
        Ok(())
    }

    /// Returns a stage by its name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages().find(|stage| stage.name == name)
    }

    /// Iterates over the stages of all paths; one that two paths have comes twice.
    pub fn stages(&self) -> impl Iterator<Item = &Stage> {
        self.paths.iter().flatten()
    }
}
