//! How the votes on a review stand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stockade_policy::{Review, Stage};
use stockade_types::UnixMillis;

use crate::people::{User, UserId};

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// It may happen.
    Allow,
    /// It must not.
    Deny,
}

/// A vote that counts: it was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Who.
    pub user: UserId,
    /// For which stage.
    pub stage: String,
    /// What.
    pub choice: Choice,
    /// When.
    pub at: UnixMillis,
}

/// Why a person does not vote in a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnError {
    /// The person has none of its roles.
    #[error("the person does not have the role")]
    Role,
    /// The stage asks the person only if it takes long.
    #[error("the stage does not ask the person yet")]
    NotYet,
    /// The stage waits for a while before a yes counts.
    #[error("a yes does not count yet in the stage")]
    Early,
}

/// How votes stand. A person has one vote in a case, so different stages are answered by different people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing<'r> {
    /// These stages wait for votes; of each path its first that is not complete.
    Open(Vec<&'r Stage>),
    /// A path is complete.
    Granted,
    /// A stage has as many votes against it as deny.
    Denied(&'r Stage),
}

/// Tells whether a person can vote so in a stage that has waited since `opened`, at the time `at`.
///
/// # Errors
/// Why not, or not yet.
pub fn turn(
    stage: &Stage,
    user: &User,
    choice: Choice,
    (opened, at): (UnixMillis, UnixMillis),
) -> Result<(), TurnError> {
    let waited = at.0.checked_sub(opened.0);
    let has_waited = |millis: u64| waited.is_some_and(|waited| waited >= millis);
    if !user.has(&stage.role) {
        let then = stage.escalation.as_ref();
        let then = then.filter(|then| user.has(&then.role));
        let then = then.ok_or(TurnError::Role)?;
        if !has_waited(then.after_ms) {
            return Err(TurnError::NotYet);
        }
    }
    if choice == Choice::Allow && stage.wait_ms > 0 && !has_waited(stage.wait_ms) {
        return Err(TurnError::Early);
    }
    Ok(())
}

/// Returns since when a stage waits: since the question was asked, or since the stages before it are
/// complete; of several paths the first. `None` if it does not wait yet.
pub fn opened(
    review: &Review,
    stage: &str,
    votes: &[Counted],
    asked: UnixMillis,
) -> Option<UnixMillis> {
    let completed = |stage: &Stage| {
        let yes = votes
            .iter()
            .filter(|vote| vote.stage == stage.name && vote.choice == Choice::Allow);
        let mut times: Vec<UnixMillis> = yes.map(|vote| vote.at).collect();
        times.sort_unstable();
        let last = usize::try_from(stage.need).ok()?.checked_sub(1)?;
        times.get(last).copied()
    };
    let on_path = |path: &Vec<Stage>| {
        let at = path.iter().position(|one| one.name == stage)?;
        let before = path.iter().take(at);
        before.map(completed).try_fold(asked, |latest, completed| {
            completed.map(|time| latest.max(time))
        })
    };
    review.paths.iter().filter_map(on_path).min()
}

impl<'r> Standing<'r> {
    /// Counts votes. A person's first vote is the only one that counts.
    pub fn of(review: &'r Review, votes: &[Counted]) -> Self {
        let mut voters: BTreeMap<&UserId, &Counted> = BTreeMap::new();
        for vote in votes {
            voters.entry(&vote.user).or_insert(vote);
        }
        let count = |stage: &Stage, choice: Choice| {
            let of_stage = voters.values().filter(|vote| vote.stage == stage.name);
            of_stage.filter(|vote| vote.choice == choice).count()
        };
        let reaches =
            |count: usize, need: u32| u32::try_from(count).is_ok_and(|count| count >= need);
        let is_vetoed = |stage: &&Stage| reaches(count(stage, Choice::Deny), stage.veto);
        if let Some(stage) = review.stages().find(is_vetoed) {
            return Self::Denied(stage);
        }
        let mut open = Vec::new();
        for path in &review.paths {
            let is_complete = |stage: &&Stage| reaches(count(stage, Choice::Allow), stage.need);
            match path.iter().find(|stage| !is_complete(stage)) {
                Some(stage) => open.push(stage),
                None => return Self::Granted,
            }
        }
        Self::Open(open)
    }
}
