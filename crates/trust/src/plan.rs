//! A policy that is to replace the one in force, and the plan by which it does.

use serde::{Deserialize, Serialize};
use stockade_types::{Digest, RolloutArm};

/// Parts into which machines are divided: a step of one percent is a hundred of them.
pub const COHORTS: u64 = 10_000;
/// Steps of one plan.
pub const STEPS_MAX: usize = 8;
/// How long a step may have to last, in milliseconds.
const STEP_LASTS_MAX_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Characters of the id of a rollout.
const ID_CHARS_MAX: usize = 64;
/// Characters of a salt.
const SALT_CHARS: std::ops::RangeInclusive<usize> = 16..=128;

/// What a step does with the candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// It is compared with the policy in force, and decides nothing.
    Shadow,
    /// It decides in new sessions on a part of the machines.
    Canary,
    /// It decides in new sessions everywhere; only the last step.
    Enforce,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanStep {
    /// What it does.
    pub kind: StepKind,
    /// On how many percent of the machines, 1 to 100.
    pub percent: u8,
    /// How long it lasts at least, in milliseconds.
    pub min_time_ms: u64,
    /// How many decisions the candidate has to be seen in before the next step.
    pub min_decisions: u64,
    /// In how many sessions.
    pub min_sessions: u64,
}

/// How a candidate replaces the policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Names the rollout.
    pub rollout: String,
    /// Drawn for this rollout, so that it is not always the same machines that begin.
    pub salt: String,
    /// The steps; the number of the first one is 1. At step 0 the candidate is not used.
    pub steps: Vec<PlanStep>,
}

/// A policy that is to replace the one in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The policy.
    pub text: String,
    /// How.
    pub plan: Plan,
}

/// Why a plan is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There are too many steps, or none.
    #[error("it has {0} steps; a plan has 1 to {STEPS_MAX}")]
    Steps(usize),
    /// The steps come in another order than shadow, canary, enforce.
    #[error("step {0} is out of order: first shadow, then canary, and enforce once, at the end")]
    Order(usize),
    /// A step is for an impossible part.
    #[error(
        "step {0} has a wrong `percent`: 1 to 100, growing for canaries and below 100, and 100 for enforce"
    )]
    Percent(usize),
    /// A step lasts too long.
    #[error("step {0} lasts more than 30 days")]
    Time(usize),
    /// Its name or salt is none.
    #[error("`rollout` has 1 to 64 letters, digits or `-`, and `salt` 16 to 128")]
    Name,
}

impl Plan {
    /// Checks that the plan makes sense.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), PlanError> {
        let is_plain =
            |text: &str| (text.bytes()).all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let names = (1..=ID_CHARS_MAX).contains(&self.rollout.len())
            && SALT_CHARS.contains(&self.salt.len())
            && is_plain(&self.rollout)
            && is_plain(&self.salt);
        if !names {
            return Err(PlanError::Name);
        }
        if !(1..=STEPS_MAX).contains(&self.steps.len()) {
            return Err(PlanError::Steps(self.steps.len()));
        }
        let mut before: Option<&PlanStep> = None;
        for (index, step) in self.steps.iter().enumerate() {
            let number = index + 1;
            let is_last = number == self.steps.len();
            let follows = match (before.map(|step| step.kind), step.kind) {
                (_, StepKind::Enforce) => is_last,
                (None | Some(StepKind::Shadow), StepKind::Shadow)
                | (None | Some(StepKind::Shadow | StepKind::Canary), StepKind::Canary) => !is_last,
                (Some(StepKind::Canary | StepKind::Enforce), StepKind::Shadow)
                | (Some(StepKind::Enforce), StepKind::Canary) => false,
            };
            if !follows {
                return Err(PlanError::Order(number));
            }
            let below = before
                .filter(|step| step.kind == StepKind::Canary)
                .map_or(0, |step| step.percent);
            let fits = match step.kind {
                StepKind::Shadow => (1..=100).contains(&step.percent),
                StepKind::Canary => (below + 1..100).contains(&step.percent),
                StepKind::Enforce => step.percent == 100,
            };
            if !fits {
                return Err(PlanError::Percent(number));
            }
            if step.min_time_ms > STEP_LASTS_MAX_MS {
                return Err(PlanError::Time(number));
            }
            before = Some(step);
        }
        Ok(())
    }

    /// Returns a step by its number; `None` for step 0 and beyond the last one.
    pub fn step(&self, number: u32) -> Option<&PlanStep> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.steps.get(index)
    }

    /// Returns the number of the last step.
    pub fn last(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    /// Tells on which side of a step a machine is.
    pub fn arm(&self, step: u32, node: &str) -> RolloutArm {
        let Some(step) = self.step(step) else {
            return RolloutArm::Control;
        };
        let is_in =
            cohort(&self.rollout, &self.salt, node) < u64::from(step.percent) * (COHORTS / 100);
        match (step.kind, is_in) {
            (StepKind::Enforce, _) => RolloutArm::Enforced,
            (StepKind::Shadow, true) => RolloutArm::Shadow,
            (StepKind::Canary, true) => RolloutArm::Canary,
            (StepKind::Shadow | StepKind::Canary, false) => RolloutArm::Control,
        }
    }
}

/// Returns the part to which a machine belongs in a rollout, below [`COHORTS`]: the first eight bytes of
/// SHA-256 over its names, with a zero byte between them.
pub fn cohort(rollout: &str, salt: &str, node: &str) -> u64 {
    let text = [rollout, salt, node].join("\0");
    let digest = Digest::of(text.as_bytes());
    let first = digest.as_bytes().first_chunk::<8>();
    first.map_or(0, |bytes| u64::from_be_bytes(*bytes)) % COHORTS
}
