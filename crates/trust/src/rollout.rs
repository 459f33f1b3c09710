//! How a candidate replaces the policy in force, step by step.
//!
//! The policy keys sign the [`Candidate`] with the whole [`Plan`] in the bundle, once. The server then says
//! with [`Pointer`]s which step it is: a pointer moves along the plan or back to step 0, and nothing else.
//! Each machine computes by itself whether it belongs to the part of a step, so a server cannot choose
//! machines.

use serde::{Deserialize, Serialize};
use stockade_types::{Digest, RolloutArm, UnixMillis};

use crate::{
    envelope::{Envelope, EnvelopeError, Statement},
    node::{Bundle, StatementError},
    root::Root,
};

/// Parts into which machines are divided: a step of one percent is a hundred of them.
pub const COHORTS: u64 = 10_000;
/// Steps of one plan.
pub const STEPS_MAX: usize = 8;
/// How long a pointer holds at most, in milliseconds: a machine that hears no more of the server is back
/// under the policy in force after that.
pub const POINTER_LASTS_MAX_MS: u64 = 60 * 60 * 1_000;
/// How far the clock of the server may be ahead of the machine's, in milliseconds.
const SKEW_MAX_MS: u64 = 5 * 60 * 1_000;
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

/// Which step of a rollout it is; the server signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pointer {
    /// The organisation.
    pub org: String,
    /// The channel of the bundle.
    pub channel: String,
    /// The serial of the bundle.
    pub serial: u64,
    /// The rollout.
    pub rollout: String,
    /// The step; 0 is the policy in force alone.
    pub step: u32,
    /// When it was signed, by the clock of the server; a later one replaces an earlier one.
    pub issued: UnixMillis,
    /// From when on it does not hold.
    pub not_after: UnixMillis,
}

impl Statement for Pointer {
    const TYPE: &'static str = "application/vnd.stockade.pointer.1+json";
}

/// Why a pointer is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// It is not signed, or is of another organisation.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// It is for another bundle or rollout than the one here.
    #[error("it is for {found}; this machine has {known}")]
    Bundle {
        /// What it says.
        found: String,
        /// What the machine has.
        known: String,
    },
    /// It leads to a step that the plan does not have.
    #[error("it leads to step {step}; the signed plan has {last}")]
    Step {
        /// Where.
        step: u32,
        /// The last one.
        last: u32,
    },
    /// It leads back to another step than 0, or away from the last one.
    #[error(
        "it leads from step {known} to step {found}; it may go on, or back to 0 before the last one"
    )]
    Back {
        /// Where it leads.
        found: u32,
        /// Where the machine is.
        known: u32,
    },
    /// It was signed before the one that is known.
    #[error("it was signed before the one that this machine has")]
    Older,
    /// It is to hold for too long, or for no time.
    #[error("it is to hold for more than an hour, or for no time")]
    Lasts,
    /// It does not hold any more.
    #[error("it has expired")]
    Expired,
    /// It is of a later time.
    #[error("it was signed more than 5 minutes later than this machine's clock says that it is")]
    Early,
}

impl From<EnvelopeError> for PointerError {
    fn from(error: EnvelopeError) -> Self {
        Self::Statement(error.into())
    }
}

impl Root {
    /// Takes a pointer that comes from the server, for the bundle that is here; `known` is the last one
    /// that was taken for it.
    ///
    /// # Errors
    /// When the server has not signed it, it is for another bundle, does not hold now, or leads anywhere but
    /// along the plan or back to step 0.
    pub fn pointer(
        &self,
        envelope: &Envelope,
        bundle: &Bundle,
        known: Option<&Pointer>,
        now: UnixMillis,
    ) -> Result<Pointer, PointerError> {
        let pointer = self.kept_pointer(envelope, bundle)?;
        if pointer.not_after <= now {
            return Err(PointerError::Expired);
        }
        if pointer.issued.0 > now.0.saturating_add(SKEW_MAX_MS) {
            return Err(PointerError::Early);
        }
        if let Some(known) = known {
            if pointer.issued < known.issued {
                return Err(PointerError::Older);
            }
            let is_over = is_last(bundle, known.step);
            let leads_back = pointer.step < known.step && (pointer.step != 0 || is_over);
            let says_two_things = pointer.issued == known.issued && pointer.step != known.step;
            if leads_back || says_two_things {
                return Err(PointerError::Back {
                    found: pointer.step,
                    known: known.step,
                });
            }
        }
        Ok(pointer)
    }

    /// Takes a pointer that was kept here: it was in time when it came.
    ///
    /// # Errors
    /// When the server has not signed it, or it is not for this bundle and its plan.
    pub fn kept_pointer(
        &self,
        envelope: &Envelope,
        bundle: &Bundle,
    ) -> Result<Pointer, PointerError> {
        let pointer: Pointer = envelope.open(&self.servers)?;
        self.is_ours(&pointer.org)?;
        let known = |rollout: &str| format!("{} {} {rollout}", bundle.channel, bundle.serial);
        let plan = bundle.candidate.as_ref().map(|candidate| &candidate.plan);
        let own = plan.map_or("", |plan| &plan.rollout);
        let is_same = pointer.channel == bundle.channel
            && pointer.serial == bundle.serial
            && pointer.rollout == own;
        let Some(plan) = plan.filter(|_| is_same) else {
            let found = format!("{} {} {}", pointer.channel, pointer.serial, pointer.rollout);
            return Err(PointerError::Bundle {
                found: found.chars().take(200).collect(),
                known: known(own),
            });
        };
        if pointer.step > plan.last() {
            return Err(PointerError::Step {
                step: pointer.step,
                last: plan.last(),
            });
        }
        let lasts = pointer.not_after.0.checked_sub(pointer.issued.0);
        if !lasts.is_some_and(|lasts| (1..=POINTER_LASTS_MAX_MS).contains(&lasts)) {
            return Err(PointerError::Lasts);
        }
        Ok(pointer)
    }
}

/// Tells whether a step is the last one of a bundle's plan: there the candidate is in force for good.
fn is_last(bundle: &Bundle, step: u32) -> bool {
    let candidate = bundle.candidate.as_ref();
    candidate.is_some_and(|candidate| {
        let found = candidate.plan.step(step);
        found.is_some_and(|step| step.kind == StepKind::Enforce)
    })
}

/// What of a bundle is in force on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce<'a> {
    /// The policy of new sessions.
    pub text: &'a str,
    /// The policy that running sessions must not do more than: the candidate only once it is in force
    /// everywhere.
    pub everywhere: &'a str,
    /// The candidate, if sessions compare it.
    pub compared: Option<&'a str>,
    /// The rollout and its step.
    pub rollout: Option<(&'a str, u32)>,
    /// On which side of it the machine is.
    pub arm: RolloutArm,
}

impl Bundle {
    /// Says what is in force on a machine. A pointer that does not hold any more leads back to step 0,
    /// except from the last step.
    pub fn in_force(&self, pointer: Option<&Pointer>, node: &str, now: UnixMillis) -> InForce<'_> {
        let current = InForce {
            text: &self.text,
            everywhere: &self.text,
            compared: None,
            rollout: None,
            arm: RolloutArm::Control,
        };
        let Some(Candidate { text, plan }) = &self.candidate else {
            return current;
        };
        let holds = |pointer: &&Pointer| pointer.not_after > now || is_last(self, pointer.step);
        let step = pointer.filter(holds).map_or(0, |pointer| pointer.step);
        let arm = plan.arm(step, node);
        let begun = InForce {
            rollout: Some((&plan.rollout, step)),
            arm,
            ..current
        };
        match arm {
            RolloutArm::Control => begun,
            RolloutArm::Shadow => InForce {
                compared: Some(text),
                ..begun
            },
            RolloutArm::Canary => InForce { text, ..begun },
            RolloutArm::Enforced => InForce {
                text,
                everywhere: text,
                ..begun
            },
        }
    }
}
