//! Who has to say yes: people in roles, stage by stage. How their votes stand is counted in `trust`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stockade_types::Span;

use crate::Scope;

/// Paths of a review, stages of a path, votes that a stage can need, and votes that a path can need:
/// more than people go through, and no more than a grant can hold.
const PATHS_MAX: usize = 16;
const STAGES_MAX: usize = 16;
const NEED_MAX: u32 = 16;
const VOTES_MAX: u32 = 32;
/// How long a stage can wait, and after which time it can ask others at the latest: a day, in milliseconds.
const TIME_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// Numbers that are written as words.
const NUMBERS: [&str; 10] = [
    "none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];

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
    /// The machine that asked checks an approver key or a passkey of the person itself. An approver key is a
    /// file, so whoever copies it has it.
    Key,
    /// The machine that asked checks a passkey of the person itself, which an authenticator keeps.
    Passkey,
}

impl Strength {
    /// Returns the word used in policy files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Key => "key",
            Self::Passkey => "passkey",
        }
    }
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
    /// How long after the stage has begun to wait a yes counts first, in milliseconds. A no counts at once.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub wait_ms: u64,
    /// Who is asked too when an answer takes long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<Escalation>,
}

/// Who is asked too when a stage takes long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escalation {
    /// How long after the stage has begun to wait, in milliseconds.
    pub after_ms: u64,
    /// Who.
    pub role: Role,
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
        "at most {PATHS_MAX} paths of {STAGES_MAX} stages each, {NEED_MAX} votes in a stage and {VOTES_MAX} in a \
         path"
    )]
    TooMany,
    /// A stage needs nobody.
    #[error("stage `{0}`: `need` and `veto` are at least 1")]
    NeedsNobody(String),
    /// A path has a stage twice, or two stages have one name and are not the same.
    #[error("stage `{0}` is there twice in one path, or is not the same in all")]
    Twice(String),
    /// A stage waits for longer than a question can be open.
    #[error("stage `{0}`: `wait` and `escalate_after` are at most {max}", max = Span::from_millis(TIME_MAX_MS))]
    Late(String),
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
        let is_long = |path: &Vec<Stage>| {
            let needs = path.iter().map(|stage| stage.need);
            path.len() > STAGES_MAX || needs.fold(0, u32::saturating_add) > VOTES_MAX
        };
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
            let after = stage.escalation.as_ref().map_or(0, |then| then.after_ms);
            if stage.wait_ms.max(after) > TIME_MAX_MS {
                return Err(ReviewError::Late(stage.name.clone()));
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

    /// Says in words who is asked, for example `owner, then two of security; or security-manager`.
    pub fn in_words(&self) -> String {
        let path = |path: &Vec<Stage>| {
            let stages: Vec<String> = path.iter().map(Stage::in_words).collect();
            stages.join(", then ")
        };
        let paths: Vec<String> = self.paths.iter().map(path).collect();
        paths.join("; or ")
    }

    /// Combines what two rules ask for. A path of the result completes a path of each, so the result is
    /// never answered by fewer people than either.
    ///
    /// # Errors
    /// When there are more paths, stages or votes than a review can have.
    pub(crate) fn and(&self, other: &Self) -> Result<Self, ReviewError> {
        let mut paths: Vec<Vec<Stage>> = Vec::new();
        for own in &self.paths {
            for more in &other.paths {
                let new = more.iter().filter(|stage| !has(own, &stage.name));
                paths.push(own.iter().chain(new).cloned().collect());
            }
        }
        let review = Self {
            paths: shortest(paths),
            scope_max: self.scope_max.narrower(other.scope_max),
            reason_required: self.reason_required || other.reason_required,
            break_glass: BreakGlass::of_both(self.break_glass.as_ref(), other.break_glass.as_ref()),
        };
        review.check().map(|()| review)
    }

    /// Tells whether whoever has answered this review, in whichever way, has answered `other` too.
    pub(crate) fn answers(&self, other: &Self) -> bool {
        let goes_through =
            |path: &Vec<Stage>, inner: &Vec<Stage>| inner.iter().all(|stage| path.contains(stage));
        let is_enough = |path| other.paths.iter().any(|inner| goes_through(path, inner));
        let glass = match (&self.break_glass, &other.break_glass) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(wanted)) => {
                own.role == wanted.role
                    && own.strength >= wanted.strength
                    && own.max_ms <= wanted.max_ms
            }
        };
        glass
            && !self.paths.is_empty()
            && self.paths.iter().all(is_enough)
            && (self.reason_required || !other.reason_required)
    }
}

impl Stage {
    /// The most votes that one can need.
    pub(crate) const VOTES_MAX: u32 = NEED_MAX;
    /// How long one can wait, and after which time it can ask others at the latest.
    pub(crate) const TIME_MAX: Span = Span::from_millis(TIME_MAX_MS);

    /// Says in words who is asked, for example `two of security (after 5m also on-call)`.
    pub fn in_words(&self) -> String {
        let number = usize::try_from(self.need).ok();
        let word = number.and_then(|number| NUMBERS.get(number));
        let who = match (self.need, word) {
            (1, _) => self.name.clone(),
            (_, Some(word)) => format!("{word} of {}", self.name),
            (need, None) => format!("{need} of {}", self.name),
        };
        let mut more = Vec::new();
        if self.wait_ms > 0 {
            more.push(format!("not before {}", Span::from_millis(self.wait_ms)));
        }
        if let Some(then) = &self.escalation {
            let after = Span::from_millis(then.after_ms);
            more.push(format!("after {after} also {}", then.role.0));
        }
        if more.is_empty() {
            return who;
        }
        format!("{who} ({})", more.join(", "))
    }
}

/// Tells whether a time is none: it is not written, so that stages without one are as they always were.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_nothing(millis: &u64) -> bool {
    *millis == 0
}

impl BreakGlass {
    /// Returns how long what it allows lasts at most.
    pub const fn max(&self) -> Span {
        Span::from_millis(self.max_ms)
    }

    /// Returns who may override two reviews at once: the person has to be the one of both.
    fn of_both(one: Option<&Self>, other: Option<&Self>) -> Option<Self> {
        let (one, other) = (one?, other?);
        (one.role == other.role).then(|| Self {
            role: one.role.clone(),
            strength: one.strength.max(other.strength),
            max_ms: one.max_ms.min(other.max_ms),
        })
    }
}

fn has(path: &[Stage], name: &str) -> bool {
    path.iter().any(|stage| stage.name == name)
}

/// Leaves out each path that goes through all stages of another one: it is never complete before that.
fn shortest(paths: Vec<Vec<Stage>>) -> Vec<Vec<Stage>> {
    let mut kept: Vec<Vec<Stage>> = Vec::new();
    let covers = |long: &[Stage], short: &[Stage]| short.iter().all(|stage| has(long, &stage.name));
    for path in paths {
        if kept.iter().any(|short| covers(&path, short)) {
            continue;
        }
        kept.retain(|long| !covers(long, &path));
        kept.push(path);
    }
    kept
}
