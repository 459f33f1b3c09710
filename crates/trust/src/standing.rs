//! How the votes on a review stand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stockade_policy::{Review, Stage};

use crate::people::UserId;

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
