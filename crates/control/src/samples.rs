//! What sessions that are in a rollout come to, gathered from their journals in memory and written together.
//!
//! A server that ends takes up to one interval of it along; a session that goes on says it again, because all
//! numbers are of the whole session.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use stockade_event::{SessionOutcome, Summary};

use crate::state::{SampleRow, SessionKey};

/// Sessions that are remembered, so that each is written once when it begins.
const SESSIONS_MAX: usize = 100_000;

/// What is not written yet.
#[derive(Debug, Default)]
struct Gathered {
    /// Running sessions whose serial is written.
    known: HashSet<SessionKey>,
    running: Vec<(SessionKey, String, u64)>,
    ended: Vec<SessionKey>,
    samples: HashMap<SessionKey, SampleRow>,
}

/// Gathers what sessions come to.
#[derive(Debug, Default)]
pub(crate) struct Samples(Mutex<Gathered>);

/// What is to be written.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) running: Vec<(SessionKey, String, u64)>,
    pub(crate) ended: Vec<SessionKey>,
    pub(crate) samples: Vec<SampleRow>,
}

impl Samples {
    /// Takes in what a session has come to.
    pub(crate) fn add(&self, key: &SessionKey, summary: &Summary) {
        let Some(bundle) = &summary.policy.bundle else {
            return;
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if summary.outcome.is_some() {
            all.known.remove(key);
            all.ended.push(key.clone());
        } else if !all.known.contains(key) {
            if all.known.len() >= SESSIONS_MAX {
                all.known.clear();
            }
            all.known.insert(key.clone());
            let (channel, serial) = (bundle.channel.clone(), bundle.serial);
            all.running.push((key.clone(), channel, serial));
        }
        if let Some(row) = sample(key, summary) {
            all.samples.insert(key.clone(), row);
        }
    }

    /// Takes what is not written yet.
    pub(crate) fn take(&self) -> Taken {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Taken {
            running: std::mem::take(&mut all.running),
            ended: std::mem::take(&mut all.ended),
            samples: all.samples.drain().map(|(_, row)| row).collect(),
        }
    }
}

/// Makes the row of a session that began within a step; `None` for any other one.
fn sample(key: &SessionKey, summary: &Summary) -> Option<SampleRow> {
    let rollout = summary.policy.bundle.as_ref()?.rollout.as_ref()?;
    if rollout.step == 0 {
        return None;
    }
    let began = summary.started_unix_ns.unwrap_or_default();
    let lasts_ms = summary.policy.last_unix_ns.saturating_sub(began) / 1_000_000;
    let has_not_started = matches!(summary.outcome, Some(SessionOutcome::NotStarted { .. }));
    let shadow = &summary.policy.shadow;
    Some(SampleRow {
        rollout: rollout.rollout.clone(),
        step: rollout.step,
        key: key.clone(),
        arm: rollout.arm,
        own: [
            summary.policy.decisions,
            summary.policy.denied,
            summary.asked,
            lasts_ms,
            u64::from(has_not_started),
        ],
        compared: [
            shadow.compared,
            shadow.differed,
            shadow.denied,
            shadow.candidate_denied,
            shadow.asked,
            shadow.candidate_asked,
        ],
    })
}
